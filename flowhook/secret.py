"""Which secrets are accepted at this moment: fixed ones, or those of a file that is read again."""

import asyncio
import binascii
import codecs
import logging
import time
from base64 import b64decode
from collections.abc import Callable
from pathlib import Path

from flowhook.background import Background
from flowhook.errors import NoSecret
from flowhook.schemes import KEY_PREFIX

log = logging.getLogger(__name__)

SHORT = 16
VOID = "a key of nothing but zero bytes is known to everybody"


class Secrets:
    """Secrets that don't change while the process lives."""

    def __init__(self, *secrets: bytes) -> None:
        self._accepted = tuple(secrets)

    def trusted(self) -> tuple[bytes, ...] | None:
        """The secrets to trust now; None where that is not known without waiting."""
        return self._accepted

    async def accepted(self) -> tuple[bytes, ...]:
        """The secrets to trust now. Raises NoSecret where none can be trusted at present."""
        known = self.trusted()
        return await self.renewed() if known is None else known

    async def renewed(self) -> tuple[bytes, ...]:
        """The secrets after a look for newer ones, for a request that proves none of `accepted()`."""
        return self._accepted

    @property
    def empty(self) -> bool:
        """Whether there are no secrets."""
        return not self._accepted

    @property
    def short(self) -> bool:
        """Whether one of them is shorter than `SHORT` characters, and so can be guessed."""
        return any(len(secret) < SHORT for secret in self._accepted)

    @property
    def void(self) -> bool:
        """Whether one of them is void, see `is_void`."""
        return any(map(is_void, self._accepted))


class SecretFile(Secrets):
    """The secrets of a file, one a line, read again in a thread, never by the request that uses them.

    A mounted Secret Manager volume returns the newest version at every read and announces no change, so the
    contents are compared. What was read is trusted for `TRUSTED_FOR` seconds: an instance that was idle for
    longer reads before it answers, and the last good secrets soon expire where the file can't be read or is
    empty.
    """

    REREAD_AFTER = 10.0
    TRUSTED_FOR = 60.0
    # A request with a wrong secret must not be able to make us read more often than this.
    PAUSE = 1.0
    # No request waits longer for a read, and none at all once the read has taken longer.
    PATIENCE = 2.0

    def __init__(self, path: Path, clock: Callable[[], float] = time.monotonic) -> None:
        """Read `path` once. Raises OSError where that fails."""
        super().__init__(*read_secrets(path))
        self._clock = clock
        self._tried_at = self._read_at = clock()
        self._reads = Background("Reading the secret file", lambda: read_secrets(path), self.PATIENCE)
        self._last_read = self._accepted
        self._trouble = ""

    def trusted(self) -> tuple[bytes, ...] | None:
        """What was read last, unless that is too long ago; starts a new read where one is due."""
        if self._clock() - self._tried_at > self.REREAD_AFTER:
            self._start_reading()
        return self._accepted if self._is_trusted() else None

    async def renewed(self) -> tuple[bytes, ...]:
        """The secrets after a read; at most one starts in `PAUSE` seconds. Raises NoSecret."""
        if self._clock() - self._tried_at > self.PAUSE:
            self._start_reading()
        await self._reads.wait()
        if not self._is_trusted():
            raise NoSecret
        return self._accepted

    def _is_trusted(self) -> bool:
        return self._clock() - self._read_at <= self.TRUSTED_FOR

    def _start_reading(self) -> None:
        started_at = self._clock()

        def take(reading: asyncio.Future[tuple[bytes, ...]]) -> None:
            self._take(reading, started_at)

        self._tried_at = started_at
        self._reads.start(take)

    def _take(self, reading: asyncio.Future[tuple[bytes, ...]], started_at: float) -> None:
        try:
            found = reading.result()
        except OSError as error:
            self._report(f"can't be read ({error.strerror})")
            return
        secrets = tuple(secret for secret in found if not is_void(secret))
        if not secrets:
            self._report("holds no secret")
            return
        if found != self._last_read:
            self._report_change(len(secrets), len(found))
        elif self._trouble:
            log.warning("The secret file is as it was before")
        self._accepted, self._last_read, self._trouble = secrets, found, ""
        # The result of a slow read may be as old as the beginning of the read.
        self._read_at = started_at

    def _report(self, trouble: str) -> None:
        if trouble != self._trouble:
            log.error(
                "The secret file %s: the last good secrets are trusted for %g s after they were read",
                trouble,
                self.TRUSTED_FOR,
            )
        self._trouble = trouble

    def _report_change(self, accepted: int, found: int) -> None:
        log.warning("The secret file has changed: %d secrets are accepted now", accepted)
        if found > accepted:
            log.error("%d lines of the secret file are not accepted: %s", found - accepted, VOID)


def is_void(secret: bytes) -> bool:
    """Whether a secret, as it is or decoded, is a key of nothing but zero bytes: `whsec_AAAA`, `whsec_`.

    HMAC pads a key with zero bytes (RFC 2104, 2), so such a key is the same as an empty one.
    """
    text = secret.removeprefix(KEY_PREFIX)
    try:
        key = b64decode(text, validate=True)
    except binascii.Error:
        key = text
    return not key.strip(b"\0")


def read_secrets(path: Path) -> tuple[bytes, ...]:
    """The secrets in a file, one a line, white space around them and empty lines left out. Raises OSError."""
    lines = path.read_bytes().removeprefix(codecs.BOM_UTF8).splitlines()
    return tuple(line.strip() for line in lines if line.strip())
