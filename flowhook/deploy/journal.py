"""What of an export has been sent to a handler: noted in a file beside it, before and after each request.

So a replay that has died goes on where it was, and says how many it may have sent without having noted it.
"""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from io import FileIO
from pathlib import Path
from typing import Any

from flowhook.deploy.errors import DeployError


@dataclass(frozen=True)
class Sending:
    """One replay of an export: its id, which content of the file, and from when to when letters are meant.

    `sent` of those that are meant, in their order, have been published; up to `begun` may have been.
    """

    id: str
    digest: str
    since: float
    until: float
    sent: int = 0
    begun: int = 0
    done: bool = False


class Journal:
    """The file, held by this process alone; `last` is the replay that stood in it, the last of several."""

    def __init__(self, path: Path, file: FileIO) -> None:
        self.path = path
        self._file = file
        self.last: Sending | None = _read(path, file)

    def begin(self, sending: Sending) -> None:
        """Note that another replay begins. Raises DeployError, as do the others."""
        self._note(asdict(sending))

    def sending(self, count: int) -> None:
        """Note that so many of all that are meant are being published."""
        self._note({"begun": count})

    def sent(self, count: int) -> None:
        """Note that so many have been."""
        self._note({"sent": count})

    def end(self) -> None:
        """Note that nothing is left to send."""
        self._note({"done": True})

    def _note(self, document: dict[str, Any]) -> None:
        try:
            self._file.write(json.dumps(document).encode() + b"\n")
            os.fsync(self._file.fileno())
        except OSError as error:
            raise DeployError(f"{self.path}: what is sent can't be noted: {error.strerror}") from None


@contextmanager
def opened(path: Path) -> Iterator[Journal]:
    """The journal at a path, which goes again if nothing comes to stand in it.

    Raises DeployError where another process has it, or where it can't be written.
    """
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
    except OSError as error:
        raise DeployError(f"{path}: what is sent can't be noted: {error.strerror}") from None
    with os.fdopen(descriptor, "r+b", buffering=0) as file:
        try:
            _lock(descriptor)
        except BlockingIOError:
            raise DeployError(f"{path}: another replay of this file is under way") from None
        try:
            yield Journal(path, file)
        finally:
            if not os.fstat(descriptor).st_size:
                path.unlink(missing_ok=True)


def _lock(descriptor: int) -> None:
    """Hold a file until its descriptor is closed. Raises BlockingIOError where another process holds it."""
    import fcntl  # noqa: PLC0415 - not every system has it, and commands that run there import this module

    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _read(path: Path, file: FileIO) -> Sending | None:
    """The replay that was begun last. A line that was cut off while it was written counts for nothing."""
    found: Sending | None = None
    content = file.read()
    whole = content[: content.rfind(b"\n") + 1]
    try:
        for line in whole.splitlines():
            found = _after(found, json.loads(line))
    except (ValueError, TypeError, RecursionError):
        raise DeployError(
            f"{path}: no replay has noted this; without this file, all of the export is sent"
        ) from None
    if whole != content:
        file.truncate(len(whole))
    return found


def _after(found: Sending | None, document: Any) -> Sending:
    """The same after one more line. Raises TypeError for a line that this module doesn't write."""
    changed = Sending(**document) if found is None or "id" in document else replace(found, **document)
    counts = (changed.sent, changed.begun)
    if not (isinstance(changed.id, str) and all(isinstance(count, int) for count in counts)):
        raise TypeError(document)
    return changed
