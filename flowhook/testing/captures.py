"""Captured events: what `python -m flowhook capture` has written, as events for tests."""

from collections.abc import Iterator
from pathlib import Path

from flowhook import events
from flowhook.categories import Pattern
from flowhook.errors import Refused
from flowhook.events import Event

FOLDER = Path("tests", "captured")


def captured(pattern: str = "*", *, folder: Path = FOLDER) -> list[Event]:
    """The captured events that a pattern selects, in the order of the files; none where nothing is captured.

    Each line of a file in the folder is one event. Raises ValueError for a line that is no event, naming it.
    """
    wanted = Pattern.parse(pattern)
    return [event for event in _all(folder) if wanted.matches(event.type)]


def bodies(folder: Path = FOLDER) -> Iterator[tuple[str, bytes]]:
    """Each captured event as it is sent, with its place: file and line."""
    for path in sorted(folder.glob("*.jsonl")):
        for number, line in enumerate(path.read_bytes().splitlines(), 1):
            if line.strip():
                yield f"{path.name}:{number}", line


def _all(folder: Path) -> Iterator[Event]:
    for place, body in bodies(folder):
        try:
            yield events.parse(body)
        except Refused as problem:
            raise ValueError(f"{place} is no event: capture it again") from problem
