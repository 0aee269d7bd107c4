"""Arguments that several commands share."""

import argparse
from collections.abc import Callable
from typing import Any
from urllib.parse import SplitResult, urlsplit

from flowhook.cli.errors import CommandError

LOOPBACK = ("127.0.0.1", "localhost", "::1")


def positive(kind: Callable[[str], Any]) -> Callable[[str], Any]:
    """The `type` of an option that takes a number above 0, of this kind (int or float)."""

    def read(text: str) -> Any:
        try:
            value = kind(text)
        except ValueError:
            value = 0
        if not 0 < value < float("inf"):
            raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0")
        return value

    return read


def require_url(text: str) -> SplitResult:
    """The parts of a receiver's URL. Raises CommandError if it is none."""
    try:
        parts = urlsplit(text)
        usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise CommandError(f"{text} is not a URL: it begins with http:// or https://")
    return parts
