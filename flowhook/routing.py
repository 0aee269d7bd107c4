"""Delivers an event to the handlers that want it, and returns what became of it."""

import asyncio
import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial

from flowhook import canary
from flowhook.calling import Call, Caller
from flowhook.categories import Pattern
from flowhook.delivery import Deliver, Outcome, ignore
from flowhook.envelope import Envelope
from flowhook.errors import HandlersFailed, Problem, PublishFailed, Reject, UnknownHandler, caused_by
from flowhook.events import Event
from flowhook.handler import Handler
from flowhook.once import Key, Ledger

# The path of messages that an operator replays. No handler has this path: there is a dot in theirs.
REPLAY = "/replay"
# Seconds that a cancelled coroutine has to end. After that its claim isn't released: it ends with its lease.
GRACE = 0.1
# Stores an event that a handler rejected, with the handler's name and reason; returns whether it is stored.
KeepEvent = Callable[[Envelope, str, str], Awaitable[bool]]


@dataclass(frozen=True)
class Result:
    """The result of one handler. No error is success, or a `duplicate` of what it has handled before.

    `kept`: the event that it rejected is stored. `returned`: the function has returned, in time or not.
    `runs_on`: it may still be running, and nothing waits for it.
    """

    error: Exception | None
    kept: bool = False
    duplicate: bool = False
    returned: bool = False
    runs_on: bool = False

    @property
    def final(self) -> bool:
        """Whether the handler need not be called again."""
        return self.returned or isinstance(self.error, Reject)


def _hand_back(_event: Event) -> None:
    raise Reject("the doctor's event: nothing acts on it")


# The handler of the doctor's event alone, which it rejects, so that it is stored where the doctor looks.
BUILT_IN = Handler(canary.HANDLER, (Pattern("*", "*"),), _hand_back)


class Router:
    """Runs every handler that wants an event, all at once, each with its own timeout.

    That is what the handler declares, or `timeout` seconds. `keep` stores what it rejects within the same
    time. `ledger` is required where a handler has `once`.
    """

    def __init__(
        self, handlers: tuple[Handler, ...], timeout: float, keep: KeepEvent, ledger: Ledger | None = None
    ) -> None:
        self._handlers = handlers
        self._timeout = timeout
        self._keep = keep
        self._ledger = ledger
        self._caller = Caller()

    async def deliver(self, event: Envelope) -> Outcome:
        """Deliver to every handler that wants the event.

        Raises HandlersFailed once all have ended or timed out. Where every failure is a Problem, such as a
        ledger that is out of reach, raises the first of them instead.
        """
        return _outcome(event, await self._run(self._wanting(event), event))

    def behind(self, path: str) -> Deliver:
        """What delivers to the handler that `path` (`/MODULE.FUNCTION`) names; for `/`, to all of them.

        For `/replay` it is the handler that the message names. Raises UnknownHandler.
        """
        if path == "/":
            return self.deliver
        if path == REPLAY:
            return self._replay
        return partial(self._deliver_to, self._named(path.removeprefix("/")))

    async def _replay(self, event: Envelope) -> Outcome:
        return await self._deliver_to(self._named(event.handler), event, event.replay)

    def _named(self, name: str) -> Handler:
        for handler in (*self._handlers, BUILT_IN):
            if handler.name == name:
                return handler
        raise UnknownHandler("No handler has this name.")

    async def _deliver_to(self, handler: Handler, event: Envelope, replay: str = "") -> Outcome:
        if handler not in self._wanting(event):
            return await ignore(event)
        results = await self._run([handler], event, replay)
        return _outcome(event, results) if results else await ignore(event)

    def _wanting(self, event: Envelope) -> list[Handler]:
        candidates = (BUILT_IN,) if canary.is_canary(event) else self._handlers
        return [h for h in candidates if h.wants(event.type) and not h.missing(os.environ)]

    async def _run(self, handlers: list[Handler], envelope: Envelope, replay: str = "") -> dict[str, Result]:
        """Run those that take the event, and return the result of each; `replay` is for the ledger."""
        if not handlers:
            return {}
        event = await envelope.open()
        chosen = await _chosen(handlers, event)
        run = partial(self._run_one, event=event, replay=replay)
        if len(chosen) == 1:
            # The usual case behind a subscription. One handler needs no tasks to run beside each other.
            return {chosen[0].name: await run(chosen[0])}
        results = await asyncio.gather(*map(run, chosen))
        return {handler.name: result for handler, result in zip(chosen, results, strict=True)}

    async def _run_one(self, handler: Handler, event: Event, replay: str) -> Result:
        if not handler.once or self._ledger is None:
            return await self._call(handler, event)
        key = Key(handler.name, event.id, replay)
        return await self._call_once(self._ledger, key, handler, event)

    async def _call_once(self, ledger: Ledger, key: Key, handler: Handler, event: Event) -> Result:
        """Call it unless it has handled the event; record that it has, or release the claim."""
        try:
            claim = await ledger.claim(key, self._time(handler))
        except Problem as problem:
            return Result(problem)
        if claim is None:
            return Result(None, duplicate=True)
        result = await self._call(handler, event)
        if result.final:
            await ledger.record(key)
        elif not result.runs_on:
            await ledger.release(key, claim)
        return result

    async def _call(self, handler: Handler, event: Event) -> Result:
        """Call it. A call that isn't done by its timeout is cancelled, and not waited for."""
        call = self._caller.begin(handler, self._time(handler))
        task = asyncio.create_task(self._attempt(call, event))
        while not task.done() and call.left > 0:
            await asyncio.wait((task,), timeout=call.left)
        if not task.done():
            task.cancel()
            return Result(call.late(), runs_on=call.in_thread or not await _ends(task, handler))
        return Result(RuntimeError("the handler cancelled itself")) if task.cancelled() else task.result()

    def _time(self, handler: Handler) -> float:
        return self._timeout if handler.timeout is None else handler.timeout

    async def _attempt(self, call: Call, event: Event) -> Result:
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
        return Result(call.late() if call.overran else None, returned=True)

    async def _reject(self, handler: Handler, event: Event, rejection: Reject) -> Result:
        try:
            return Result(rejection, kept=await self._keep(Envelope.of(event), handler.name, str(rejection)))
        except PublishFailed as problem:
            return Result(problem)


async def _chosen(handlers: list[Handler], event: Event) -> list[Handler]:
    """Those that take the event. Others get a turn after each look at its properties, which may be large."""
    chosen = []
    for handler in handlers:
        if handler.takes(event):
            chosen.append(handler)
        if handler.changed:
            await asyncio.sleep(0)
    return chosen


async def _ends(task: asyncio.Task[Result], handler: Handler) -> bool:
    """Whether a cancelled coroutine ends within GRACE; False without `once`, where nobody needs to know."""
    if not handler.once:
        return False
    await asyncio.wait((task,), timeout=GRACE)
    return task.done()


def _outcome(event: Envelope, results: dict[str, Result]) -> Outcome:
    # Compare with None: an exception may be falsy.
    handled = tuple(name for name, r in results.items() if r.error is None and not r.duplicate)
    duplicate = tuple(name for name, r in results.items() if r.duplicate)
    rejected = {name: str(r.error) for name, r in results.items() if isinstance(r.error, Reject)}
    failed = {name: r.error for name, r in results.items() if r.error is not None and name not in rejected}
    passing = [error for error in failed.values() if isinstance(error, Problem)]
    if passing and len(passing) == len(failed):
        try:
            raise passing[0]
        finally:
            # The error's traceback refers to this frame: without this, they would form a cycle.
            del results, failed, passing
    if failed:
        errors = ExceptionGroup("handlers failed", list(failed.values()))
        raise HandlersFailed(tuple(failed), handled, tuple(rejected)) from errors
    kept = bool(rejected) and all(results[name].kept for name in rejected)
    return Outcome(event, "handled", handled, rejected, kept, duplicate=duplicate)
