"""Delivers a story to a handler as the deployed function would, with the disturbances of a plan."""

import asyncio
import inspect
import threading
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import AbstractContextManager
from types import CodeType
from typing import Any

from flowhook.errors import Reject
from flowhook.events import Event
from flowhook.handler import Handler
from flowhook.once import Busy, Claimed, Key
from flowhook.once import Memory as Ledger
from flowhook.testing.deliveries import Places, Plan, Step
from flowhook.testing.memory import Memory
from flowhook.testing.tracing import Died, Paced, Tracer

Faults = Mapping[str, Callable[[], AbstractContextManager[Any]]]

# How often an event is delivered before it counts as one that is never handled.
ATTEMPTS = 5
LEASE = 60.0
# Seconds after which a call that runs beside another is assumed to wait for a lock that the other one holds,
# and after which it is assumed never to end.
BLOCKED = 0.1
HANGS = 10.0


class Hangs(Exception):  # noqa: N818 - it says what it does
    """A call doesn't end."""


class Late(Exception):  # noqa: N818 - it says when it is
    """A call has returned after its timeout, when nobody waited for it any more."""


class Deliveries:
    """Plays one plan after the other; `account` describes in words how the last one was delivered."""

    def __init__(
        self, handler: Handler, memory: Memory, faults: Faults, own: Callable[[CodeType], bool]
    ) -> None:
        self._handler = handler
        self._memory = memory
        self._faults = faults
        self._own = own
        self._runner = asyncio.Runner()
        self._async = inspect.iscoroutinefunction(handler.function)
        self.calls = 0
        self._begin(())

    def close(self) -> None:
        """End the loop."""
        self._runner.close()

    def play(self, events: Sequence[Event], plan: Plan) -> None:
        """Deliver as the plan says, then deliver again what failed. Raises Hangs."""
        self._begin(events)
        for step in plan:
            self._deliver(step)
        for _ in range(ATTEMPTS):
            failed = dict(self.failed)
            self.failed.clear()
            unseen = [index for index in range(len(events)) if index not in self._seen]
            for index in (*failed, *unseen):
                self._deliver(Step(index))

    def places(self, events: Sequence[Event]) -> list[Places]:
        """Deliver once and in order, and count the places of each call."""
        self._begin(events)
        return [self._count(index) for index in range(len(events))]

    def _begin(self, events: Sequence[Event]) -> None:
        self._now = 0.0
        self._ledger = Ledger(lambda: self._now)
        self._claims: dict[int, str] = {}
        self._seen: set[int] = set()
        self._events = events
        self.account: list[str] = []
        # What has to be delivered again, and why.
        self.failed: dict[int, BaseException | None] = {}

    def _count(self, index: int) -> Places:
        self.account.append(f"event {index + 1}")
        tracer = Tracer(self._own)
        waits = 0

        def call(event: Event) -> None:
            nonlocal waits
            result = self._handler.function(event)
            if result is not None:
                paced = Paced(result)
                self._runner.run(_wait(paced))
                waits = paced.waits

        self._attempt(index, lambda event: tracer.run(lambda: call(event)))
        return Places(tracer.lines, waits if self._async else tracer.lines)

    def _deliver(self, step: Step) -> None:
        event = f"event {step.event + 1}" + (" again" if step.event in self._seen else "")
        match step.how:
            case "plain":
                self._told(event, step, self._call)
            case "late":
                self._told(f"{event}, done when nobody waits for it any more", step, self._call_late)
            case "crash" if step.at is None:
                self._told(f"{event}, and the process dies before that is recorded", step, self._call_and_die)
            case "crash":
                self._told(event, step, lambda given: self._die_within(given, step))
            case "beside" if self._async:
                self._told(event, step, lambda given: self._wait_beside(given, step))
            case "beside":
                self._told(event, step, lambda given: self._call_beside(given, step))
            case fault:
                with self._faults[fault]():
                    self._told(f"{event}, while {fault}", step, self._call)

    def _told(self, words: str, step: Step, call: Callable[[Event], None]) -> None:
        self.account.append(words)
        self._attempt(step.event, call)

    # One delivery

    def _attempt(self, index: int, call: Callable[[Event], None]) -> None:
        if not self._admit(index):
            return
        try:
            call(self._events[index])
        except Hangs:
            raise
        except (Exception, SystemExit, Died) as error:  # noqa: BLE001 - whatever a handler raises is a failure
            self._end(index, error)
        else:
            self._end(index, None)

    def _admit(self, index: int) -> bool:
        """Whether to call the handler for the event; for a handler with `once` the event is claimed then."""
        self._seen.add(index)
        event = self._events[index]
        if not self._handler.takes(event):
            return False
        if not self._handler.once:
            self.calls += 1
            return True
        token = f"{len(self._claims)}"
        answer = _at_once(self._ledger.claim(self._key(event), LEASE, token))
        if isinstance(answer, Claimed):
            self._claims[index] = token
            self.calls += 1
            return True
        busy = isinstance(answer, Busy)
        if busy:
            self.failed[index] = None
        self.account[-1] += " (which is under way: later again)" if busy else " (not called: it is recorded)"
        return False

    def _end(self, index: int, error: BaseException | None) -> None:
        """Record the result of a call, as `once` does, and whether the event is to be delivered again."""
        key = self._key(self._events[index])
        if isinstance(error, Died):
            self._memory.forget()
            # A claim lasts until its lease ends; the event is delivered again after that.
            self._now += LEASE + 1
        if error is None or isinstance(error, Reject):
            _at_once(self._ledger.record(key, LEASE * 1000))
            return
        self.failed[index] = error
        if not isinstance(error, (Died, Late)):
            self.account[-1] += f" (fails: {type(error).__name__})"
            if index in self._claims:
                _at_once(self._ledger.release(key, self._claims[index]))

    def _key(self, event: Event) -> Key:
        return Key(self._handler.name, event.id, "")

    # The calls

    def _call(self, event: Event) -> None:
        result = self._handler.function(event)
        if result is not None:
            self._runner.run(_wait(result))

    def _call_late(self, event: Event) -> None:
        self._call(event)
        self._now += LEASE + 1
        raise Late

    def _call_and_die(self, event: Event) -> None:
        self._call(event)
        raise Died

    def _die_within(self, event: Event, step: Step) -> None:
        def die(where: str) -> None:
            self.account[-1] += f", and the process dies before {where}"
            raise Died

        Tracer(self._own, step.at, die).run(lambda: self._call(event))

    def _call_beside(self, event: Event, step: Step) -> None:
        """Call a function, and while it stops at a place, call it in another thread for another event."""
        beside = threading.Thread(target=lambda: self._attempt(step.other, self._call_in_thread), daemon=True)

        def meanwhile(where: str) -> None:
            if self._memory.locked:
                # Another call would wait for that lock until this one goes on.
                return
            again = " again" if step.other in self._seen else ""
            self.account[-1] += (
                f" and event {step.other + 1}{again}, handled while the first is before {where}"
            )
            beside.start()
            beside.join(BLOCKED)

        Tracer(self._own, step.at, meanwhile).run(lambda: self._call(event))
        if beside.ident is None:
            # This time the call ended before it reached the place.
            self.failed.setdefault(step.other, None)
            return
        beside.join(HANGS)
        if beside.is_alive():
            raise Hangs(f"two calls at once wait for each other: {self.account[-1]}")

    def _call_in_thread(self, event: Event) -> None:
        # Not by the runner: its loop belongs to another thread.
        result = self._handler.function(event)
        if result is not None:
            asyncio.run(_wait(result))

    def _wait_beside(self, event: Event, step: Step) -> None:
        """Call a coroutine function, and while it waits, call it on the same loop for another event."""
        beside: list[asyncio.Task[None]] = []

        async def meanwhile() -> None:
            again = " again" if step.other in self._seen else ""
            self.account[-1] += f" and event {step.other + 1}{again}, handled where the first waits"
            beside.append(asyncio.create_task(self._attempt_on_loop(step.other)))
            await asyncio.wait(beside, timeout=BLOCKED)

        async def both() -> None:
            result: Any = self._handler.function(event)
            await Paced(result, step.at, meanwhile)
            if not beside:
                self.failed.setdefault(step.other, None)
            elif not (await asyncio.wait(beside, timeout=HANGS))[0]:
                raise Hangs(f"two calls at once wait for each other: {self.account[-1]}")

        self._runner.run(both())

    async def _attempt_on_loop(self, index: int) -> None:
        if not self._admit(index):
            return
        try:
            result = self._handler.function(self._events[index])
            if result is not None:
                await result
        except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever a handler raises is a failure
            self._end(index, error)
        else:
            self._end(index, None)


async def _wait(result: Awaitable[Any]) -> None:
    await result


def _at_once(answer: Coroutine[Any, Any, Any]) -> Any:
    """The answer of the ledger in memory, whose coroutines never wait."""
    try:
        answer.send(None)
    except StopIteration as end:
        return end.value
    raise AssertionError("the ledger in memory waits for nothing")
