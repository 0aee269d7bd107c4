"""The ledger of `once=True`: which handler has handled which event.

Before a handler runs, (handler, event, replay) is claimed for as long as the handler may take: the lease.
When the handler has returned, or rejected the event, that is recorded; when it has failed, the claim is
released. So a handler runs at least once, and never again once that is recorded. Before that it may run
twice: where the process dies after the handler has acted, or a thread outlives its lease.
"""

import asyncio
import hashlib
import logging
import secrets
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from time import monotonic
from typing import NamedTuple, Protocol, TypeVar

from flowhook.errors import InProgress, LedgerUnavailable, StartError

T = TypeVar("T")

log = logging.getLogger(__name__)

# Seconds that a lease lasts beyond the handler's own time: for the ledger itself, and for clocks that differ.
LEASE_MARGIN = 30.0
# Seconds for which the ledger remembers that an event has been handled.
EXPIRY = 7 * 24 * 3600.0
# Seconds that the store may take to answer a call.
PATIENCE = 3.0
# Seconds that a duplicate waits for the call that is under way, before it is refused and delivered again.
WAIT = 10.0
# Seconds between two attempts to claim what another call has claimed.
LOOK = 0.25
# The package that the store for many instances needs, in the version that is tested.
FIRESTORE = "google-cloud-firestore==2.34.0"
# How many events the memory remembers, at about 300 bytes each.
MAX_REMEMBERED = 100_000


class Key(NamedTuple):
    """What is handled once. `replay` is the id of an operator's replay, which runs it once more, or empty."""

    handler: str
    event: str
    replay: str

    @property
    def digest(self) -> str:
        """The key as a name that every store accepts."""
        return hashlib.sha256("\n".join(self).encode()).hexdigest()


@dataclass(frozen=True)
class Claimed:
    """The claim is ours until its lease ends; `token` distinguishes it from all others."""

    token: str


@dataclass(frozen=True)
class Busy:
    """Another call has the claim. It may have died, in which case the claim ends with its lease."""


@dataclass(frozen=True)
class Done:
    """The event has been handled."""


Answer = Claimed | Busy | Done


class Store(Protocol):
    """Where claims are stored. Each method raises LedgerUnavailable where the store is out of reach."""

    async def claim(self, key: Key, lease: float, token: str) -> Answer:
        """Claim `key` for `lease` seconds, unless it is claimed or recorded."""

    async def record(self, key: Key, expiry: float) -> None:
        """Remember for `expiry` seconds that it has been handled, whoever has a claim."""

    async def release(self, key: Key, token: str) -> None:
        """End the claim with this token; one with another token stays."""


class Ledger:
    """Claims events for handlers in a store, which must answer each call in `PATIENCE` seconds."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def claim(self, key: Key, timeout: float) -> Claimed | None:
        """A claim for a handler that may take `timeout` seconds; None where it has handled the event already.

        Where a call for the same event is under way, this waits for it, up to `WAIT` seconds: an event that
        was delivered again at once would use up an attempt. Raises InProgress after that, and
        LedgerUnavailable.
        """
        deadline = monotonic() + WAIT
        token = secrets.token_hex(8)
        while True:
            answer = await _within(self._store.claim(key, timeout + LEASE_MARGIN, token))
            if isinstance(answer, Claimed):
                return answer
            if isinstance(answer, Done):
                return None
            if monotonic() > deadline:
                raise InProgress(f"{key.handler} is handling this event already, or has been interrupted.")
            await asyncio.sleep(LOOK)

    async def record(self, key: Key) -> None:
        """Remember that it has been handled. A failure is only logged, because the handler has run."""
        await self._attempt(
            lambda: self._store.record(key, EXPIRY),
            "%s has handled event %s, and that can't be recorded (%s): delivered again, it is handled again",
            key,
        )

    async def release(self, key: Key, claim: Claimed) -> None:
        """End a claim, so that the next delivery runs at once. Where that fails, it ends with its lease."""
        await self._attempt(
            lambda: self._store.release(key, claim.token),
            "The claim of %s for event %s can't be released (%s): it ends with its lease",
            key,
        )

    async def _attempt(self, act: Callable[[], Awaitable[None]], failure: str, key: Key) -> None:
        try:
            await _within(act())
        except LedgerUnavailable as error:
            log.error(failure, key.handler, key.event, error.detail)


async def _within(answer: Awaitable[T]) -> T:
    try:
        async with asyncio.timeout(PATIENCE):
            return await answer
    except TimeoutError as error:
        raise LedgerUnavailable(f"The ledger did not answer within {PATIENCE:g} s.") from error


def store(setting: str, project: str) -> "Store":
    """The store that LEDGER names. Raises StartError where a project or a package is missing."""
    name, _, database = setting.partition(":")
    if name == "memory":
        return Memory()
    if not project:
        raise StartError(
            "GOOGLE_CLOUD_PROJECT is not set: LEDGER=firestore needs to know whose database it is"
        )
    try:
        # Imported only where it is wanted: it takes a third of a second, and needs a package of its own.
        from flowhook.firestore import Firestore  # noqa: PLC0415
    except ModuleNotFoundError:
        raise StartError(
            f"LEDGER=firestore needs a package that isn't installed: add the line {FIRESTORE} to "
            "handlers/requirements.txt"
        ) from None
    return Firestore(project, database or "(default)")


class Memory:
    """The claims of this process alone: another instance, and the next start, know nothing of them."""

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        # By key: the token of a claim, or "" for a record; and when that expires. The oldest come first.
        self._entries: OrderedDict[Key, tuple[str, float]] = OrderedDict()

    async def claim(self, key: Key, lease: float, token: str) -> Answer:
        """As a store does."""
        held, until = self._entries.get(key, ("", 0.0))
        if until > self._clock():
            return Busy() if held else Done()
        self._put(key, token, lease)
        return Claimed(token)

    async def record(self, key: Key, expiry: float) -> None:
        """As a store does."""
        self._put(key, "", expiry)

    async def release(self, key: Key, token: str) -> None:
        """As a store does."""
        if self._entries.get(key, ("", 0.0))[0] == token:
            del self._entries[key]

    def _put(self, key: Key, token: str, seconds: float) -> None:
        self._entries[key] = (token, self._clock() + seconds)
        self._entries.move_to_end(key)
        while len(self._entries) > MAX_REMEMBERED:
            self._entries.popitem(last=False)
