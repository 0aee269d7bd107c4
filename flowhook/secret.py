"""Which secrets are accepted at this moment: fixed ones, or those of a file that is read again."""

import asyncio
import codecs
import logging
import time
from collections.abc import Callable
from pathlib import Path

log = logging.getLogger(__name__)

SHORT = 16


class Secrets:
    """Secrets that stay as they are as long as the process lives."""

    def __init__(self, *secrets: bytes) -> None:
        self._accepted = tuple(secrets)

    async def accepted(self) -> tuple[bytes, ...]:
        """The secrets to believe now; empty where there is none to believe."""
        return self._accepted

    async def renewed(self) -> tuple[bytes, ...]:
        """The same after a look for newer ones: for a request that none of `accepted()` fits."""
        return self._accepted

    @property
    def empty(self) -> bool:
        """Whether there is none."""
        return not self._accepted

    @property
    def short(self) -> bool:
        """Whether one is shorter than `SHORT` characters, and so can be guessed."""
        return any(len(secret) < SHORT for secret in self._accepted)


class SecretFile(Secrets):
    """The secrets of a file, one a line, read again in a thread, never by the request that uses them.

    A mounted Secret Manager volume gives the newest version at every read and tells of no change, so
    the content itself is compared. What was read is believed for `BELIEVED_FOR` seconds: an instance
    that slept longer reads before it answers, and a file that can't be read is soon believed no more.
    """

    REREAD_AFTER = 10.0
    BELIEVED_FOR = 60.0
    # A request with a wrong secret must not be able to make us read more often than this.
    PAUSE = 1.0
    # A read that hangs must not hold a request for ever.
    PATIENCE = 2.0

    def __init__(self, path: Path, clock: Callable[[], float] = time.monotonic) -> None:
        """Read `path` once. Raises OSError where that fails."""
        super().__init__(*read_secrets(path))
        self._path = path
        self._clock = clock
        self._tried_at = self._read_at = clock()
        self._reading: asyncio.Task[None] | None = None

    async def accepted(self) -> tuple[bytes, ...]:
        """What was read last; starts a read where that is a while ago, waits for it where it is too long."""
        if self._clock() - self._tried_at > self.REREAD_AFTER:
            self._start_reading()
        if self._clock() - self._read_at > self.BELIEVED_FOR:
            return await self.renewed()
        return self._accepted

    async def renewed(self) -> tuple[bytes, ...]:
        """What a read brings that is under way or starts now, at most one in `PAUSE` seconds."""
        if self._clock() - self._tried_at > self.PAUSE:
            self._start_reading()
        if self._reading:
            await asyncio.wait([self._reading], timeout=self.PATIENCE)
        return self._accepted if self._clock() - self._read_at <= self.BELIEVED_FOR else ()

    def _start_reading(self) -> None:
        if self._reading is None or self._reading.done():
            self._tried_at = self._clock()
            self._reading = asyncio.create_task(self._read())

    async def _read(self) -> None:
        try:
            found = await asyncio.to_thread(read_secrets, self._path)
        except OSError as error:
            found = ()
            log.error("The secret file can't be read, nothing is accepted: %s", error.strerror)
        if found != self._accepted:
            log.warning("The secret file has changed: %d secrets are accepted now", len(found))
        self._accepted = found
        self._read_at = self._clock()


def read_secrets(path: Path) -> tuple[bytes, ...]:
    """The secrets in a file, one a line, white space around them and empty lines left out. Raises OSError."""
    lines = path.read_bytes().removeprefix(codecs.BOM_UTF8).splitlines()
    return tuple(line.strip() for line in lines if line.strip())
