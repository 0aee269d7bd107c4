"""Exports of dead letters and of rejected bodies: a line of JSON each, which only their owner can read.

They are written and read here alone. What is read may have been cut off, edited or made by somebody else.
"""

import base64
import hashlib
import json
import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from flowhook.deploy import moments
from flowhook.deploy.errors import DeployError
from flowhook.deploy.messages import Pulled

# Bytes; of a message, of an attribute's name and value: https://cloud.google.com/pubsub/quotas#resource_limits
LARGEST, LONGEST_NAME, LONGEST_VALUE = 10_000_000, 256, 1024
# Fewer than Pub/Sub's hundred: who sends a letter again adds some.
MOST_ATTRIBUTES = 80
# Bytes: the largest message in base64, beside as many attributes as it may have.
LONGEST_LINE = 16_000_000


# --- writing ---


@contextmanager
def created(path: Path) -> Iterator[IO[bytes]]:
    """A new file that only its owner can read. Raises DeployError where there is one already."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        raise DeployError(f"--output {path}: {error.strerror}") from None
    with os.fdopen(descriptor, "wb") as file:
        yield file


def write(file: IO[bytes], chosen: Sequence[Pulled]) -> int:
    """A line each, on the disk before this returns; gives how many."""
    for message in chosen:
        document = {
            "messageId": message.id,
            "publishTime": message.published,
            "attributes": dict(message.attributes),
            "data": base64.b64encode(message.data).decode(),
        }
        file.write(json.dumps(document).encode() + b"\n")
    file.flush()
    os.fsync(file.fileno())
    return len(chosen)


# --- reading ---


@dataclass
class Export:
    """An export that is open. `digest` is that of what has been read of it."""

    path: Path
    file: IO[bytes]
    _hash: Any = field(default_factory=hashlib.sha256)

    def __post_init__(self) -> None:
        self._stamp = self._stamped()

    @property
    def digest(self) -> str:
        """Tells this content from any other."""
        return str(self._hash.hexdigest())

    def letters(self) -> Iterator[Pulled]:
        """Each from the first on, one at a time. Raises DeployError that names the line which is none."""
        self.file.seek(0)
        self._hash = hashlib.sha256()
        number = 0
        while line := self._line(number + 1):
            number += 1
            self._hash.update(line)
            try:
                yield _letter(line)
            except _NoLetter as mistake:
                raise DeployError(f"{self.path}: line {number} {mistake}") from None

    def check_unchanged(self) -> None:
        """Raise DeployError where somebody has written to the file since it was opened."""
        if self._stamped() != self._stamp:
            raise DeployError(f"{self.path} is being changed by somebody else")

    def _stamped(self) -> tuple[int, int]:
        found = os.fstat(self.file.fileno())
        return found.st_size, found.st_mtime_ns

    def _line(self, number: int) -> bytes:
        try:
            line = self.file.readline(LONGEST_LINE + 1)
        except OSError as error:
            raise DeployError(f"{self.path}: line {number} can't be read: {error.strerror}") from None
        if len(line) > LONGEST_LINE:
            raise DeployError(f"{self.path}: line {number} is longer than any letter: is this an export?")
        return line


@contextmanager
def opened(path: Path) -> Iterator[Export]:
    """An export to read. Raises DeployError where there is none, or no file."""
    try:
        # Without waiting: a pipe that nobody writes to would keep us here for ever.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except OSError as error:
        raise DeployError(f"--file {path}: {error.strerror}") from None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise DeployError(f"--file {path}: it is no file that can be read twice")
    with os.fdopen(descriptor, "rb") as file:
        yield Export(path, file)


class _NoLetter(Exception):  # noqa: N818 - it becomes a DeployError, which knows the line
    """Says what is wrong with a line."""


def _letter(line: bytes) -> Pulled:
    try:
        document = json.loads(line)
    except (ValueError, RecursionError):
        if not line.endswith(b"\n"):
            raise _NoLetter(
                "is cut off, as when an export ends early: remove that line, or export again"
            ) from None
        raise _NoLetter("is not JSON") from None
    if not isinstance(document, dict):
        raise _NoLetter("is no letter of an export")
    return Pulled("", _data(document), _attributes(document), _published(document), _id(document))


def _id(document: dict[str, Any]) -> str:
    found = document.get("messageId")
    if not isinstance(found, str) or not 0 < _size(found) <= LONGEST_NAME:
        raise _NoLetter("has no messageId")
    return found


def _published(document: dict[str, Any]) -> str:
    found = document.get("publishTime")
    try:
        moments.stamped(found if isinstance(found, str) and found else "never")
    except (ValueError, OverflowError):
        raise _NoLetter("has no publishTime") from None
    return str(found)


def _attributes(document: dict[str, Any]) -> dict[str, str]:
    """Those that Pub/Sub would take: it refuses a whole request for one that it doesn't."""
    found = document.get("attributes", {})
    if not isinstance(found, dict) or not all(isinstance(value, str) for value in found.values()):
        raise _NoLetter("has attributes that are no texts")
    sizes = [(_size(name), _size(value)) for name, value in found.items()]
    if any(not 0 < name <= LONGEST_NAME or value > LONGEST_VALUE for name, value in sizes):
        raise _NoLetter("has an attribute that is too long")
    if len(found) > MOST_ATTRIBUTES or any(name.lower().startswith("goog") for name in found):
        raise _NoLetter("has attributes that Pub/Sub refuses")
    return found


def _size(text: str) -> int:
    try:
        return len(text.encode())
    except UnicodeEncodeError:
        # Half a pair of surrogates, which JSON can write and no message can hold.
        raise _NoLetter("has a text that is none") from None


def _data(document: dict[str, Any]) -> bytes:
    found = document.get("data")
    try:
        data = base64.b64decode(found if isinstance(found, str) else "-", validate=True)
    except ValueError:
        raise _NoLetter("has no data in base64") from None
    if len(data) > LARGEST:
        raise _NoLetter("has more data than a message may have")
    return data
