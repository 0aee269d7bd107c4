"""Prepares the folder that is uploaded, and merges the requirements of flowhook and of the handlers."""

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from flowhook.deploy.errors import DeployError

IGNORE = ".gcloudignore"
# What flowhook requires, and what the handlers require.
PINNED, WANTED = "requirements.txt", "handlers/requirements.txt"


@contextmanager
def staged(folder: Path) -> Iterator[Path]:
    """Give the folder to upload to a `with` block: `folder` itself, or a temporary copy.

    Google's build installs only the requirements.txt at the top, so the copy's has the handlers' requirements
    added. Raises DeployError where the two files conflict.
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
    """Return the merged text of both files of requirements.

    Raises DeployError, with both lines, where a requirement of the handlers excludes flowhook's pinned one.
    """
    pinned = (folder / PINNED).read_text()
    wanted = folder / WANTED
    if not wanted.is_file():
        return pinned
    pins = _by_package(pinned)
    added = [line for line in wanted.read_text().splitlines() if not _is_met(line, pins)]
    if f"-r {WANTED}" in pinned.splitlines():
        return pinned
    return pinned + "".join(f"{line}\n" for line in added)


def requires(folder: Path, package: str) -> bool:
    """Return whether one of the two files of requirements names a package."""
    files = [path for path in (folder / PINNED, folder / WANTED) if path.is_file()]
    return any(package in _by_package(path.read_text()) for path in files)


def _is_met(line: str, pins: Mapping[str, str]) -> bool:
    """Return whether flowhook's pin of a package satisfies a line. Raises DeployError where it conflicts."""
    requirement = _parsed(line)
    pin = pins.get(canonicalize_name(requirement.name)) if requirement else None
    if requirement is None or pin is None:
        return False
    (version,) = (specifier.version for specifier in Requirement(pin).specifier)
    if not requirement.specifier.contains(version, prereleases=True):
        raise DeployError(f"{WANTED}: {line.strip()}\nconflicts with {PINNED}: {pin}")
    return not requirement.extras


def _by_package(text: str) -> dict[str, str]:
    """Return the lines of a file of requirements that name a package, by the package's canonical name."""
    parsed = ((line, _parsed(line)) for line in text.splitlines())
    return {canonicalize_name(found.name): line for line, found in parsed if found}


def _parsed(line: str) -> Requirement | None:
    """Return the requirement in a line; None for a comment, an option of pip or a URL."""
    try:
        return Requirement(line.partition(" #")[0].strip())
    except InvalidRequirement:
        return None


def _allowed(folder: Path) -> list[str]:
    """Return what to copy: the files and folders at the top that `.gcloudignore` allows, and that file.

    gcloud applies the file's other rules when it uploads the copy.
    """
    lines = (folder / IGNORE).read_text().splitlines()
    return [IGNORE, *(line.removeprefix("!/").strip("/") for line in lines if line.startswith("!/"))]


def _copy(source: Path, target: Path) -> None:
    if source.is_dir():
        shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
    elif source.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, target)
