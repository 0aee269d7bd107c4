"""Converts times between seconds since 1970, the options of commands, and Google's timestamps."""

import re
from datetime import UTC, datetime

from flowhook.deploy.errors import DeployError

AGO = re.compile(r"(\d{1,6})([smhd])")
SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def given(text: str, option: str, now: float) -> float:
    """Return an option's time in seconds since 1970. Raises DeployError, which names the option.

    `text` is an ISO 8601 time, in UTC unless it has an offset, or a duration before `now`, such as `2h`.
    """
    if ago := AGO.fullmatch(text):
        return now - int(ago[1]) * SECONDS[ago[2]]
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise DeployError(f"{option} {text}: it must be 30m, 2h, 3d or 2026-05-01T08:00Z") from None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def stamped(stamp: str) -> float:
    """Return the seconds since 1970 of a timestamp of Google's APIs; 0 where it is empty.

    Google writes up to nine digits after the point, more than `datetime` reads.
    """
    if not stamp:
        return 0.0
    whole, _, fraction = stamp.rstrip("Z").partition(".")
    base = datetime.fromisoformat(whole.partition("+")[0]).replace(tzinfo=UTC).timestamp()
    return base + (float(f"0.{fraction.partition('+')[0]}") if fraction else 0.0)


def stamp(seconds: float) -> str:
    """Return a time, in seconds since 1970, as a timestamp for Google's APIs, to the second."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def shown(seconds: float) -> str:
    """Return a time, in seconds since 1970, as text for people: to the second, in UTC."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%SZ")
