"""ISO 8601 as the platform writes it, in and out."""

from datetime import UTC, datetime

from pydantic_core import PydanticCustomError


def read_timestamp(value: object) -> datetime:
    """An ISO 8601 string as an aware datetime; without an offset it is UTC, as the platform's are."""
    if not isinstance(value, str):
        raise PydanticCustomError("timestamp_type", "Input should be an ISO 8601 string")
    try:
        moment = datetime.fromisoformat(value)
    except ValueError:
        raise PydanticCustomError("timestamp", "Input should be an ISO 8601 timestamp") from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def rfc3339(moment: datetime) -> str:
    """The moment as the platform writes it; empty for an offset that RFC 3339 can't express."""
    offset = moment.utcoffset()
    if offset is None or offset.total_seconds() % 60:
        return ""
    precision = "microseconds" if moment.microsecond % 1000 else "milliseconds"
    return moment.isoformat(timespec=precision).replace("+00:00", "Z")
