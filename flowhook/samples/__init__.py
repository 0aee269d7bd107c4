"""A sample of every event type that the platform's guide describes.

Each is a file, `CATEGORY.OPERATION.json`. The command line sends them, the tests and the README use them.
"""

from collections.abc import Iterable
from pathlib import Path

from flowhook.categories import TYPES, Pattern

__all__ = ["TYPES", "load", "path", "selected"]


def path(event_type: str) -> Path:
    """The file of a sample. Raises KeyError for a type that the platform doesn't send."""
    if event_type not in TYPES:
        raise KeyError(event_type)
    return Path(__file__).with_name(f"{event_type}.json")


def load(event_type: str) -> bytes:
    """The body of a sample. Raises KeyError for a type that the platform doesn't send."""
    return path(event_type).read_bytes()


def selected(patterns: Iterable[str]) -> list[str]:
    """The event types that at least one pattern selects, in their order. Raises ValueError, saying why."""
    parsed = [Pattern.parse(text) for text in patterns]
    return [name for name in TYPES if any(pattern.matches(name) for pattern in parsed)]
