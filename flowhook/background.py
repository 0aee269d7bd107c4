"""Calls that may hang, in threads that nothing else uses."""

import asyncio
import logging
from collections.abc import Callable
from contextvars import Context
from functools import partial
from threading import Thread
from typing import Generic, TypeVar

log = logging.getLogger(__name__)

# Seconds after which a call that hangs is given up, so that another one may start, and how many may be given
# up at a time. It is half of the minute for which secrets are trusted: a file that can be read again is read
# before they expire.
GIVEN_UP_AFTER = 30.0
MAX_GIVEN_UP = 4

T = TypeVar("T")


class Background(Generic[T]):
    """Runs `call` in a thread of its own, one call at a time. `name` says in the log what it does.

    Handlers share the loop's own threads, and may fill them with calls that never end. A call that takes
    longer than `patience` seconds is logged once, and from then on nobody waits for it. After half a minute
    it is given up: another call may start, and the result of the old one is ignored. The threads are daemons,
    so a call that hangs does not keep the process from ending.
    """

    def __init__(self, name: str, call: Callable[[], T], patience: float) -> None:
        self._name = name
        self._call = call
        self._patience = patience
        self._result: asyncio.Future[T] | None = None
        self._started = 0.0
        self._given_up: set[asyncio.Future[T]] = set()

    def start(self, take: Callable[[asyncio.Future[T]], None]) -> None:
        """Start a call unless one is under way; `take` gets its result before any waiter resumes."""
        loop = asyncio.get_running_loop()
        if self._is_busy(loop.time()):
            return
        result: asyncio.Future[T] = loop.create_future()
        # In an empty context: the notes for the log concern only the delivery that happens to start the call.
        result.add_done_callback(partial(self._finish, take), context=Context())
        try:
            Thread(target=self._run, args=(loop, result), name=self._name, daemon=True).start()
        except RuntimeError as error:
            log.error("%s can't begin: %s", self._name, error)
            return
        self._result, self._started = result, loop.time()
        loop.call_later(self._patience, self._report, result, self._started, context=Context())

    async def wait(self) -> asyncio.Future[T] | None:
        """The call that was started last, once it is done; None where it hangs or none was started."""
        result = self._result
        if result is None:
            return None
        left = self._started + self._patience - asyncio.get_running_loop().time()
        if left > 0 and not result.done():
            await asyncio.wait([result], timeout=left)
        return result if result.done() else None

    def _is_busy(self, now: float) -> bool:
        """Whether a call is under way; one that has hung for too long is given up, if not too many are."""
        if self._result is None or self._result.done():
            return False
        if now - self._started < GIVEN_UP_AFTER or len(self._given_up) >= MAX_GIVEN_UP:
            return True
        self._given_up.add(self._result)
        return False

    def _finish(self, take: Callable[[asyncio.Future[T]], None], result: asyncio.Future[T]) -> None:
        if result in self._given_up:
            self._given_up.remove(result)
            # Retrieve the error, so that asyncio doesn't report that nobody did.
            result.exception()
        else:
            take(result)

    def _run(self, loop: asyncio.AbstractEventLoop, result: asyncio.Future[T]) -> None:
        try:
            value = self._call()
        except Exception as error:  # noqa: BLE001 - whoever takes the result decides
            _return_to(loop, result.set_exception, error)
        else:
            _return_to(loop, result.set_result, value)

    def _report(self, result: asyncio.Future[T], started: float) -> None:
        if not result.done():
            log.error("%s has taken more than %g s; nobody waits for it any more", self._name, self._patience)
            result.add_done_callback(partial(self._report_end, started), context=Context())

    def _report_end(self, started: float, _result: asyncio.Future[T]) -> None:
        seconds = asyncio.get_running_loop().time() - started
        log.warning("%s has come back after %.1f s", self._name, seconds)


def _return_to(loop: asyncio.AbstractEventLoop, give: Callable[[T], None], value: T) -> None:
    try:
        loop.call_soon_threadsafe(give, value)
    except RuntimeError:
        # The loop is closed: the process is being stopped, and nobody waits for the result.
        log.debug("A call came back after the end")
