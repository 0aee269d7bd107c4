"""What is uploaded: the folder as `.gcloudignore` allows it, with what the handlers require of packages."""

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from flowhook.deploy.errors import DeployError

IGNORE = ".gcloudignore"
PINNED, WANTED = "requirements.txt", "handlers/requirements.txt"


@contextmanager
def staged(folder: Path) -> Iterator[Path]:
    """The folder to upload: this one, or where the handlers require packages a copy that names them too.

    Google's build installs the one requirements.txt at the top. Raises DeployError for a conflict.
    """
    whole = requirements(folder)
    if whole == (folder / PINNED).read_text():
        yield folder
        return
    with TemporaryDirectory() as temporary:
        copy = Path(temporary)
        for name in _allowed(folder):
            _copy(folder / name, copy / name)
        (copy / PINNED).write_text(whole)
        yield copy


def requirements(folder: Path) -> str:
    """The lines of both files. Raises DeployError, with both lines, where one excludes the other."""
    pinned = (folder / PINNED).read_text()
    wanted = folder / WANTED
    if not wanted.is_file():
        return pinned
    ours = _named(pinned)
    added = [line for line in wanted.read_text().splitlines() if not _is_met(line, ours)]
    if f"-r {WANTED}" in pinned.splitlines():
        return pinned
    return pinned + "".join(f"{line}\n" for line in added)


def requires(folder: Path, package: str) -> bool:
    """Whether a package is among what is installed where this is deployed."""
    files = [path for path in (folder / PINNED, folder / WANTED) if path.is_file()]
    return any(package in _named(path.read_text()) for path in files)


def _is_met(line: str, ours: Mapping[str, str]) -> bool:
    """Whether what flowhook pins is what a line asks for. Raises DeployError where it can't be."""
    requirement = _parsed(line)
    pin = ours.get(canonicalize_name(requirement.name)) if requirement else None
    if requirement is None or pin is None:
        return False
    (version,) = (specifier.version for specifier in Requirement(pin).specifier)
    if not requirement.specifier.contains(version, prereleases=True):
        raise DeployError(f"{WANTED}: {line.strip()}\nconflicts with {PINNED}: {pin}")
    return not requirement.extras


def _named(text: str) -> dict[str, str]:
    parsed = ((line, _parsed(line)) for line in text.splitlines())
    return {canonicalize_name(found.name): line for line, found in parsed if found}


def _parsed(line: str) -> Requirement | None:
    """The requirement of a line; None for a comment, an option of pip or an address."""
    try:
        return Requirement(line.partition(" #")[0].strip())
    except InvalidRequirement:
        return None


def _allowed(folder: Path) -> list[str]:
    """What `.gcloudignore` lets through at the top; it does the rest itself, in the copy."""
    lines = (folder / IGNORE).read_text().splitlines()
    return [IGNORE, *(line.removeprefix("!/").strip("/") for line in lines if line.startswith("!/"))]


def _copy(source: Path, target: Path) -> None:
    if source.is_dir():
        shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
    elif source.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, target)
