"""Calls that may hang, in threads that nothing else uses."""

import asyncio
import logging
from collections.abc import Callable
from contextvars import Context
from threading import Thread
from typing import Generic, TypeVar

log = logging.getLogger(__name__)

T = TypeVar("T")


class Background(Generic[T]):
    """Runs `call` in a thread of its own, one call at a time. `name` says in the log what it does.

    The loop's own threads are also the handlers', who may fill them with calls that never end. A call that
    takes longer than `patience` seconds is logged once, and from then on nobody waits for it. The thread is
    a daemon, so a call that hangs does not keep the process from ending.
    """

    def __init__(self, name: str, call: Callable[[], T], patience: float) -> None:
        self._name = name
        self._call = call
        self._patience = patience
        self._result: asyncio.Future[T] | None = None
        self._started = 0.0

    def start(self, take: Callable[[asyncio.Future[T]], None]) -> None:
        """Start a call unless one is under way; `take` gets its result before whoever waits goes on."""
        if self._result is not None and not self._result.done():
            return
        loop = asyncio.get_running_loop()
        result: asyncio.Future[T] = loop.create_future()
        # Neither belongs to the delivery that happens to start it, whose notes for the log are not its own.
        result.add_done_callback(take, context=Context())
        try:
            Thread(target=self._run, args=(loop, result), name=self._name, daemon=True).start()
        except RuntimeError as error:
            log.error("%s can't begin: %s", self._name, error)
            return
        self._result, self._started = result, loop.time()
        loop.call_later(self._patience, self._report, result, context=Context())

    async def wait(self) -> asyncio.Future[T] | None:
        """The call that was started last, once it is done; None where it hangs or none was started."""
        result = self._result
        if result is None:
            return None
        left = self._started + self._patience - asyncio.get_running_loop().time()
        if left > 0 and not result.done():
            await asyncio.wait([result], timeout=left)
        return result if result.done() else None

    def _run(self, loop: asyncio.AbstractEventLoop, result: asyncio.Future[T]) -> None:
        try:
            value = self._call()
        except Exception as error:  # noqa: BLE001 - whoever takes the result decides
            _hand_over(loop, result.set_exception, error)
        else:
            _hand_over(loop, result.set_result, value)

    def _report(self, result: asyncio.Future[T]) -> None:
        if not result.done():
            log.error("%s has taken more than %g s; nobody waits for it any more", self._name, self._patience)
            result.add_done_callback(self._report_end, context=Context())

    def _report_end(self, _result: asyncio.Future[T]) -> None:
        seconds = asyncio.get_running_loop().time() - self._started
        log.warning("%s has come back after %.1f s", self._name, seconds)


def _hand_over(loop: asyncio.AbstractEventLoop, give: Callable[[T], None], value: T) -> None:
    try:
        loop.call_soon_threadsafe(give, value)
    except RuntimeError:
        # The loop is closed: the process is being stopped, and nobody waits for the result.
        log.debug("A call came back after the end")
