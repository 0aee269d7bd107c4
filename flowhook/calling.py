"""Calls handlers: `async def` on the loop, `def` in a thread, each with its own timeout.

Neither a thread nor a coroutine that blocks can be stopped. So calls that still run in threads after their
timeout are counted, and a handler with too many of them isn't called until some have ended. The time between
two `await`s of a coroutine is measured: a handler that blocks the loop is named in the log, and the timeouts
of the others are extended by the time that it took from them.
"""

import asyncio
import inspect
import logging
import threading
from collections import Counter
from collections.abc import Awaitable, Coroutine, Generator
from time import monotonic
from typing import Any, cast

from anyio import CapacityLimiter, to_thread

from flowhook.errors import HandlerStuck
from flowhook.events import Event
from flowhook.handler import Function, Handler

log = logging.getLogger(__name__)

# How many handlers that are written with `def` run at once; a thread is made when it is needed.
MAX_THREADS = 256
# How many calls of one handler may still run in threads after their timeout. Each holds a thread and its
# event.
MAX_STUCK = 40
# A handler that runs for this many seconds between two `await`s is reported for blocking the loop.
HELD_UP = 0.5


class Caller:
    """Calls handlers. A process has one, because all calls share its threads and the loop."""

    def __init__(self) -> None:
        self._threads = Threads()
        # The sum of the seconds for which handlers have blocked the loop.
        self._held = 0.0

    def begin(self, handler: Handler, timeout: float) -> "Call":
        """A call of `handler`, whose timeout begins now."""
        return Call(self, handler, timeout)

    async def _run(self, call: "Call", event: Event) -> None:
        function = call.handler.function
        if inspect.iscoroutinefunction(function):
            result: Awaitable[None] | None = function(event)
        else:
            result = await self._threads.call(call.handler.name, function, event)
        if inspect.iscoroutine(result):
            await _Timed(result, call)
        elif inspect.isawaitable(result):
            await result

    def _add(self, seconds: float) -> None:
        self._held += seconds


class Call:
    """One call of a handler and its timeout, in which the time that others blocked the loop doesn't count."""

    def __init__(self, caller: Caller, handler: Handler, timeout: float) -> None:
        self.handler = handler
        self.timeout = timeout
        self._caller = caller
        self._started = monotonic()
        self._held_before = caller._held  # noqa: SLF001 - its other half
        self._held = 0.0

    @property
    def left(self) -> float:
        """The seconds until its timeout."""
        held_by_others = self._caller._held - self._held_before - self._held  # noqa: SLF001 - its other half
        return self.timeout - (monotonic() - self._started - held_by_others)

    @property
    def in_thread(self) -> bool:
        """Whether it runs in a thread, where nothing can stop it."""
        return not inspect.iscoroutinefunction(self.handler.function)

    @property
    def overran(self) -> bool:
        """Whether it blocked the loop beyond its timeout, so that nobody could cancel it in time."""
        return bool(self._held) and self.left < 0

    async def run(self, event: Event) -> None:
        """Call the handler. Raises what it raises."""
        await self._caller._run(self, event)  # noqa: SLF001 - its other half

    def late(self) -> TimeoutError:
        """The error of a call that isn't done by its timeout."""
        return TimeoutError(f"the handler was not done after {self.timeout:g} s")

    def stepped(self, seconds: float) -> None:
        """Record that the handler ran for so long without an `await`; log it where that is too long."""
        if seconds >= HELD_UP:
            self._held += seconds
            self._caller._add(seconds)  # noqa: SLF001 - its other half
            log.warning(
                "%s held up everything else for %.1f s: a handler that waits without `await` must be written "
                "with `def`, not with `async def`",
                self.handler.name,
                seconds,
            )


class _Timed:
    """A coroutine of which each step, from one `await` to the next, is timed."""

    def __init__(self, coroutine: Coroutine[Any, Any, None], call: Call) -> None:
        self._coroutine = coroutine
        self._call = call

    def __await__(self) -> Generator[Any, Any, None]:
        # This object has the methods of a generator that `await` calls.
        return cast(Generator[Any, Any, None], self)

    def __iter__(self) -> "_Timed":
        return self

    def __next__(self) -> Any:
        return self.send(None)

    def send(self, value: Any) -> Any:
        started = monotonic()
        try:
            return self._coroutine.send(value)
        finally:
            self._call.stepped(monotonic() - started)

    def throw(self, *error: Any) -> Any:
        started = monotonic()
        try:
            return self._coroutine.throw(*error)
        finally:
            # The error's traceback refers to this frame: without this, they would form a cycle.
            del error
            self._call.stepped(monotonic() - started)

    def close(self) -> None:
        self._coroutine.close()


class Threads:
    """Runs functions in threads, MAX_THREADS at once, and counts those that run on after their timeout."""

    def __init__(self) -> None:
        self._limiter = CapacityLimiter(MAX_THREADS)
        self._lock = threading.Lock()
        self._stuck: Counter[str] = Counter()
        self._refused: set[str] = set()

    async def call(self, name: str, function: Function, event: Event) -> Awaitable[None] | None:
        """What `function` returns. If the wait is cancelled, it runs on and is stuck until it ends.

        Raises HandlerStuck, without calling it, where too many calls are stuck.
        """
        self._admit(name)
        attempt = _Attempt(self, name)
        try:
            # An error that the thread's future raised would form a cycle with it, so it is returned.
            result, error = await to_thread.run_sync(
                attempt.run, function, event, abandon_on_cancel=True, limiter=self._limiter
            )
        except asyncio.CancelledError:
            attempt.abandon()
            raise
        if error is not None:
            try:
                raise error
            finally:
                del error
        return result

    def _admit(self, name: str) -> None:
        stuck = self._stuck[name]
        if stuck < MAX_STUCK and self._stuck.total() < MAX_THREADS:
            self._refused.discard(name)
            return
        if name not in self._refused:
            self._refused.add(name)
            log.error(
                "%s isn't called for the time being: %d calls of it, %d of all handlers, run on after their "
                "time. Give what it calls a timeout",
                name,
                stuck,
                self._stuck.total(),
            )
        raise HandlerStuck("too many calls of handlers run on after their time")


class _Attempt:
    """A function in a thread; whoever waits for it may be cancelled before it begins or ends."""

    def __init__(self, threads: Threads, name: str) -> None:
        self._threads = threads
        self._name = name
        self._running = self._abandoned = False

    def run(self, function: Function, event: Event) -> tuple[Awaitable[None] | None, BaseException | None]:
        with self._threads._lock:  # noqa: SLF001 - its other half
            self._running = not self._abandoned
        if not self._running:
            return None, None
        try:
            return function(event), None
        except BaseException as error:  # noqa: BLE001 - raised again on the loop
            return None, error
        finally:
            with self._threads._lock:  # noqa: SLF001 - its other half
                self._running = False
                if self._abandoned:
                    self._threads._stuck[self._name] -= 1  # noqa: SLF001 - its other half

    def abandon(self) -> None:
        with self._threads._lock:  # noqa: SLF001 - its other half
            self._abandoned = True
            if self._running:
                self._threads._stuck[self._name] += 1  # noqa: SLF001 - its other half
