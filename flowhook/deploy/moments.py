"""Times, as operators give them and as Google's APIs have them."""

import re
from datetime import UTC, datetime

from flowhook.deploy.errors import DeployError

AGO = re.compile(r"(\d{1,6})([smhd])")
SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def given(text: str, option: str, now: float) -> float:
    """Seconds since 1970 of `2h` (ago) or of an ISO 8601 time, which is UTC unless it says otherwise.

    Raises DeployError that names the option.
    """
    if ago := AGO.fullmatch(text):
        return now - int(ago[1]) * SECONDS[ago[2]]
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise DeployError(f"{option} {text}: it must be 30m, 2h, 3d or 2026-05-01T08:00Z") from None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def stamped(stamp: str) -> float:
    """Seconds since 1970 of a stamp of Google's, which has up to nine digits after the point; 0 of none."""
    if not stamp:
        return 0.0
    whole, _, fraction = stamp.rstrip("Z").partition(".")
    base = datetime.fromisoformat(whole.partition("+")[0]).replace(tzinfo=UTC).timestamp()
    return base + (float(f"0.{fraction.partition('+')[0]}") if fraction else 0.0)


def stamp(seconds: float) -> str:
    """A time as Google's APIs take it, to the second."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def shown(seconds: float) -> str:
    """A time for people, to the second and in UTC."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%SZ")
