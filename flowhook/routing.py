"""From an event to the handlers that want it, and what became of them."""

import asyncio
import importlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial

from flowhook import canary
from flowhook.calling import Call, Caller
from flowhook.categories import Pattern
from flowhook.delivery import Deliver, Outcome, ignore
from flowhook.discovery import discover
from flowhook.envelope import Envelope
from flowhook.errors import HandlersFailed, PublishFailed, Reject, UnknownHandler, caused_by
from flowhook.events import Event
from flowhook.handler import Handler

# Keeps an event for the handler that rejected it, with its reason; tells whether it is kept now.
KeepEvent = Callable[[Envelope, str, str], Awaitable[bool]]


@dataclass(frozen=True)
class Result:
    """What became of one handler: None is success; `kept` tells of a Reject whether the event is kept."""

    error: Exception | None
    kept: bool = False


def _hand_back(_event: Event) -> None:
    raise Reject("the doctor's event: nothing acts on it")


# Takes the doctor's event, and no other. What it rejects is kept where the doctor finds it.
BUILT_IN = Handler(canary.HANDLER, (Pattern("*", "*"),), _hand_back)


def load(package: str, timeout: float, keep: KeepEvent) -> "Router":
    """The router of the handlers in the modules of `package`. Raises StartError for a broken one."""
    return Router(discover(importlib.import_module(package)), timeout, keep)


class Router:
    """Runs handlers: every one that wants the event, all at once, each for `timeout` seconds at most.

    What a handler rejects is kept by `keep` within the same time.
    """

    def __init__(self, handlers: tuple[Handler, ...], timeout: float, keep: KeepEvent) -> None:
        self._handlers = handlers
        self._timeout = timeout
        self._keep = keep
        self._caller = Caller()

    async def deliver(self, event: Envelope) -> Outcome:
        """Deliver to every handler that wants the event.

        Raises HandlersFailed once all have ended or run out of time, or PublishFailed where all that failed
        is keeping what was rejected.
        """
        return _outcome(event, await self._run(self._wanting(event), event))

    def behind(self, path: str) -> Deliver:
        """Deliver to the one that `path`, `/MODULE.FUNCTION`, names; to all behind `/`.

        Raises UnknownHandler.
        """
        if path == "/":
            return self.deliver
        every = (*self._handlers, BUILT_IN)
        named = next((handler for handler in every if f"/{handler.name}" == path), None)
        if named is None:
            raise UnknownHandler("No handler has the name in the path.")
        return partial(self._deliver_to, named)

    async def _deliver_to(self, handler: Handler, event: Envelope) -> Outcome:
        if handler not in self._wanting(event):
            return await ignore(event)
        return _outcome(event, await self._run([handler], event))

    def _wanting(self, event: Envelope) -> list[Handler]:
        candidates = (BUILT_IN,) if canary.is_canary(event) else self._handlers
        return [handler for handler in candidates if handler.wants(event.type)]

    async def _run(self, handlers: list[Handler], envelope: Envelope) -> dict[str, Result]:
        """Run all, then tell what became of each. What outlives its time is cancelled, and not waited for."""
        if not handlers:
            return {}
        event = envelope.open()
        calls = [self._caller.begin(handler, self._timeout) for handler in handlers]
        tasks = {asyncio.create_task(self._handle(call, event)): call for call in calls}
        running = set(tasks)
        while running:
            _, running = await asyncio.wait(running, timeout=min(tasks[task].left for task in running))
            late = {task for task in running if tasks[task].left <= 0}
            for task in late:
                task.cancel()
            running -= late
        return {call.handler.name: _result(task, call) for task, call in tasks.items()}

    async def _handle(self, call: Call, event: Event) -> Result:
        try:
            await call.run(event)
        except Reject as rejection:
            return await self._reject(call.handler, event, rejection)
        except Exception as error:  # noqa: BLE001 - whatever a handler raises, the others run
            return Result(error)
        except asyncio.CancelledError:
            raise
        except BaseException as error:  # noqa: BLE001 - sys.exit() must not take the other deliveries along
            return Result(caused_by(error, RuntimeError(f"the handler raised {type(error).__name__}")))
        return Result(None)

    async def _reject(self, handler: Handler, event: Event, rejection: Reject) -> Result:
        try:
            return Result(rejection, kept=await self._keep(Envelope.of(event), handler.name, str(rejection)))
        except PublishFailed as problem:
            return Result(problem)


def _result(task: asyncio.Task[Result], call: Call) -> Result:
    if not task.done():
        return Result(call.late())
    return Result(RuntimeError("the handler cancelled itself")) if task.cancelled() else task.result()


def _outcome(event: Envelope, results: dict[str, Result]) -> Outcome:
    # Compare with None: an exception may be falsy.
    handled = tuple(name for name, result in results.items() if result.error is None)
    rejected = {name: str(r.error) for name, r in results.items() if isinstance(r.error, Reject)}
    failed = {name: r.error for name, r in results.items() if r.error is not None and name not in rejected}
    unkept = [error for error in failed.values() if isinstance(error, PublishFailed)]
    if unkept and len(unkept) == len(failed):
        try:
            raise unkept[0]
        finally:
            # Its traceback holds this frame.
            del results, failed, unkept
    if failed:
        errors = ExceptionGroup("handlers failed", list(failed.values()))
        raise HandlersFailed(tuple(failed), handled, tuple(rejected)) from errors
    kept = bool(rejected) and all(results[name].kept for name in rejected)
    return Outcome(event, "handled", handled, rejected, kept)
