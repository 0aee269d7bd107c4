"""Checks that `handlers/requirements.txt` doesn't contradict what flowhook itself pins."""

from collections.abc import Iterator
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

OURS = Path("requirements.txt")
THEIRS = Path("handlers/requirements.txt")


def conflicts() -> Iterator[str]:
    """A line for each requirement of handlers that the pins of flowhook rule out; it shows both."""
    pins = {canonicalize_name(pin.name): (pin, where) for pin, where in _requirements(OURS)}
    for wanted, where in _requirements(THEIRS):
        pin, pinned = pins.get(canonicalize_name(wanted.name), (None, ""))
        for exact in pin.specifier if pin else ():
            if not wanted.specifier.contains(exact.version, prereleases=True):
                yield f"{where} contradicts {pinned}, which flowhook is tested with: change the first"


def _requirements(path: Path) -> Iterator[tuple[Requirement, str]]:
    """Each requirement of a file, and where it is written. Options of pip and URLs are left out."""
    lines = path.read_text().splitlines() if path.exists() else []
    for number, line in enumerate(lines, start=1):
        text = line.split(" #")[0].strip()
        try:
            yield Requirement(text), f"{path}, line {number}: {text}"
        except InvalidRequirement:
            continue
