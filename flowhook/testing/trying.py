"""Trials: a handler is run over stories as at-least-once delivery may deliver them, before it is deployed.

The world afterwards is compared with the one after the same story, delivered once and in order. Stories and
plans are tried from the shortest on, and one that fails is shortened further, so that the counterexample is
as short as possible.
"""

import inspect
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from random import Random
from types import CodeType
from typing import Any

from flowhook.events import Event
from flowhook.handler import MARK, Declaration, Function, Handler
from flowhook.testing.calls import Deliveries, Faults, Hangs
from flowhook.testing.deliveries import Kinds, Plan, plain, plans
from flowhook.testing.effects import Difference, differences, show
from flowhook.testing.memory import CONTAINERS, Kept, Memory, copied
from flowhook.testing.stories import Story, made_up, told

LONGEST = 3
# By what was done to the story; the first that was, counts.
ADVICE = {
    "beside": "Calls run at once: keep what a call knows in local variables, and let one statement of the "
    "store both look and write.",
    "crash": "A process may die at any line: note nothing as done before it is, and let what is done twice "
    "be the same, by an idempotency key such as event.id.",
    "late": "A call may end when nobody waits for it any more, and is made again: event.id is the same.",
    "again": "Events are delivered at least once: @on(…, once=True) skips what is recorded as handled, or "
    "have what you call take event.id as an idempotency key.",
    "order": "Events come in any order: compare event.event_timestamp (or updateTime) with what you have, "
    "for each entity by itself.",
}
INTERRUPTED = (
    "Not tried: a crash between the handler's effect and its record, and a call that outlives its time. "
    "once=True promises at least once until it is recorded; trials(…, crash=True) shows what that does."
)


class TrialError(Exception):
    """The trial itself can't be run; the message says why and what to do."""


@dataclass(frozen=True)
class Trial:
    """What was tried; all of it had the outcome of the plain story."""

    handler: str
    stories: int
    plans: int
    calls: int
    seed: int
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        passed = (
            f"{self.handler}: {self.stories} stories, delivered in {self.plans} ways, {self.calls} calls; "
            f"each ended as it does once and in order (seed {self.seed})"
        )
        return "\n".join([passed, *self.notes])


class Counterexample(AssertionError):  # noqa: N818 - it is what was looked for
    """A story, delivered in a way that ends differently than once and in order; `str` describes it all."""

    def __init__(self, handler: Handler, story: Story, failure: "_Failure", seed: int) -> None:
        self.handler = handler.name
        self.events = story.events
        self.account = failure.account
        self.differences = failure.differences
        self.seed = seed
        self._plan = failure.plan
        super().__init__("\n".join(self._lines()))

    def _lines(self) -> Iterator[str]:
        yield f"{self.handler} ends differently than once and in order (seed {self.seed})."
        yield "What happened:"
        yield from (f"  event {n}: {_describe(event)}" for n, event in enumerate(self.events, 1))
        yield "What was delivered:"
        yield from (f"  {words}" for words in self.account)
        yield "What is different:"
        yield from (f"  {difference.words}" for difference in self.differences)
        yield from (ADVICE[how] for how in _disturbance(self._plan))


def trials(  # noqa: PLR0913 - a test names what it needs
    handler: Function,
    observe: Callable[[], Any],
    *,
    events: Sequence[Event] = (),
    faults: Faults | None = None,
    reset: Callable[[], object] | None = None,
    ordered: bool = False,
    crash: bool | None = None,
    stories: int = 20,
    seed: int = 0,
) -> Trial:
    """Run a handler over stories, delivered in many ways; raises Counterexample where one ends differently.

    `observe` returns what the handler has done to the world, such as the posts that a fake received: a list
    (its order counts only if `ordered`), a dictionary, a set, a number. `events` are what the stories are
    made of, captured ones for example; without any they are made up of the samples, with the values that the
    handler's code names. `faults` are what the test can do to a dependency: each has a name that describes it
    (`"the CRM fails"`) and a function that returns a context manager. `reset` puts the world back before each
    run; a list, dictionary or set that `observe` returns is put back without it. `crash`: whether calls are
    interrupted and run again, by default where the handler has no `once`, which doesn't promise anything for
    that. `stories` is how many there are of each length, from one event to three.

    Raises TrialError where that is impossible: nothing to observe, or a handler that fails in a plain story.
    """
    declared = _declared(handler)
    interrupted = not declared.once if crash is None else crash
    world = _World(observe, reset, Memory(handler, observe))
    deliveries = Deliveries(declared, world.memory, faults or {}, _own(handler, observe))
    kinds = Kinds(interrupted, tuple(faults or ()))
    search = _Search(_Setting(declared, world, deliveries, kinds, ordered, seed))
    try:
        return search.run(events, stories)
    finally:
        deliveries.close()
        world.restore()


class _World:
    """What is observed, and how it is put back."""

    def __init__(
        self, observe: Callable[[], Any], reset: Callable[[], object] | None, memory: Memory
    ) -> None:
        self._observe = observe
        self._reset = reset
        self.memory = memory
        found = observe()
        self._kept = Kept(found) if isinstance(found, CONTAINERS) else None
        self._initial = copied(found)

    def restore(self) -> None:
        """Put everything back. Raises TrialError where that fails."""
        self.memory.restore()
        if self._reset:
            self._reset()
        elif self._kept:
            self._kept.restore()
        if not self._reset and self._observe() != self._initial:
            raise TrialError("what is observed can't be put back before the next run: give reset=…")

    def observed(self) -> Any:
        """A copy of what is observed now."""
        return copied(self._observe())


@dataclass(frozen=True)
class _Failure:
    """A plan that ends differently, and how."""

    plan: Plan
    account: tuple[str, ...]
    differences: tuple[Difference, ...]


@dataclass(frozen=True)
class _Setting:
    """What a search works with."""

    handler: Handler
    world: _World
    deliveries: Deliveries
    kinds: Kinds
    ordered: bool
    seed: int


class _Search:
    """Looks for a counterexample."""

    def __init__(self, setting: _Setting) -> None:
        self._handler = setting.handler
        self._world = setting.world
        self._deliveries = setting.deliveries
        self._kinds = setting.kinds
        self._ordered = setting.ordered
        self._seed = setting.seed
        self._random = Random(setting.seed)
        self._plans = 0
        self._acted = False
        self._reordered = 0

    def run(self, events: Sequence[Event], stories: int) -> Trial:
        """Try them all. Raises Counterexample, TrialError."""
        tried = 0
        for length in range(1, LONGEST + 1):
            for _ in range(stories):
                story = self._story(events, length)
                failure = self._failure(story)
                if failure:
                    raise self._shortest(story, failure)
                tried += 1
        if not self._acted:
            raise TrialError(
                f"{self._handler.name} did nothing that is observed in {tried} stories, so nothing is "
                "proven: give events that it acts on, events=[make_event(…), …]"
            )
        name, calls = self._handler.name, self._deliveries.calls
        return Trial(name, tried, self._plans, calls, self._seed, tuple(self._notes()))

    def _notes(self) -> Iterator[str]:
        if not self._kinds.interruptions:
            yield INTERRUPTED
        if self._reordered:
            yield (
                f"In {self._reordered} ways the effects came in another order, which doesn't count unless "
                "trials(…, ordered=True)."
            )

    def _story(self, events: Sequence[Event], length: int) -> Story:
        wanted = [event for event in events if self._handler.wants(event.type)]
        if events and not wanted:
            raise TrialError(f"{self._handler.name} wants none of the events that are given")
        try:
            if wanted:
                return told(wanted, length, self._random)
            return made_up(self._handler, length, self._random)
        except ValueError as mistake:
            raise TrialError(f"{self._handler.name}: {mistake}") from None

    def _failure(self, story: Story) -> _Failure | None:
        """The first plan for a story that ends differently."""
        events = story.events
        expected = self._expected(events)
        for plan in plans(len(events), self._places, self._kinds, self._random):
            failure = self._played(events, plan, expected)
            if failure:
                return failure
        return None

    def _expected(self, events: Sequence[Event]) -> Any:
        """What is observed after the plain story. Raises TrialError where that fails."""
        self._world.restore()
        before = self._world.observed()
        self._places = self._deliveries.places(events)
        for index, error in self._deliveries.failed.items():
            raise TrialError(
                f"{self._handler.name} fails with event {index + 1} of a plain story, "
                f"{_describe(events[index])}: {type(error).__name__}: {error}"
            ) from error
        expected = self._world.observed()
        self._require_the_same_again(events, expected)
        self._acted = self._acted or bool(differences(before, expected, ordered=True))
        return expected

    def _require_the_same_again(self, events: Sequence[Event], expected: Any) -> None:
        self._world.restore()
        self._deliveries.play(events, plain(len(events)))
        if self._world.observed() != expected:
            raise TrialError(
                f"{self._handler.name} does not do the same in the same story: leave the time and what is "
                "random out of what is observed, and have reset=… put back what it remembers"
            )

    def _played(self, events: Sequence[Event], plan: Plan, expected: Any) -> _Failure | None:
        self._world.restore()
        self._plans += 1
        try:
            self._deliveries.play(events, plan)
        except Hangs as hangs:
            found = [Difference("hangs", str(hangs))]
        else:
            found = [*self._never_handled(), *self._differences(expected)]
        return _Failure(plan, tuple(self._deliveries.account), tuple(found)) if found else None

    def _differences(self, expected: Any) -> list[Difference]:
        actual = self._world.observed()
        found = differences(expected, actual, ordered=self._ordered)
        self._reordered += not found and bool(differences(expected, actual, ordered=True))
        return found

    def _never_handled(self) -> Iterator[Difference]:
        for index, error in self._deliveries.failed.items():
            yield Difference("never", f"event {index + 1} fails each time: {type(error).__name__}: {error}")

    def _shortest(self, story: Story, failure: _Failure) -> Counterexample:
        """The counterexample with the fewest moves, found by leaving out one after another."""
        for shorter in story.shorter():
            still = self._failure(shorter)
            if still:
                return self._shortest(shorter, still)
        self._world.restore()
        return Counterexample(self._handler, story, failure, self._seed)


def _disturbance(plan: Plan) -> Iterator[str]:
    """What was done to the story, as the advice names it; nothing where a fault of the test's was."""
    hows = {step.how for step in plan}
    indices = [step.event for step in plan]
    if hows != {"plain"}:
        yield from (how for how in ("beside", "crash", "late") if how in hows)
    else:
        yield "again" if len({*indices}) < len(indices) else "order"


def _declared(function: Function) -> Handler:
    declared: Declaration | None = getattr(function, MARK, None)
    if declared is None:
        raise TrialError(f"{function!r} is no handler: mark it with @on(…)")
    module = function.__module__.rpartition(".")[2]
    name = f"{module}.{getattr(function, '__name__', type(function).__name__)}"
    return replace(Handler(name, declared.patterns, function), changed=declared.changed, once=declared.once)


def _own(function: Function, observe: Callable[[], Any]) -> Callable[[CodeType], bool]:
    """Whether code is the handler's: in its module, or if that is the test's too, in the function."""
    code: CodeType | None = getattr(inspect.unwrap(function), "__code__", None)
    if code is None:
        return lambda _: False
    path, name = code.co_filename, code.co_qualname
    if path != getattr(getattr(observe, "__code__", None), "co_filename", None):
        return lambda other: other.co_filename == path
    return lambda other: other.co_filename == path and other.co_qualname.startswith(name)


def _describe(event: Event) -> str:
    changes = [
        f"{name} {show(change.old)} → {show(change.new)}"
        for name, change in event.changes().items()
        if event.operation_type == "updated"
    ]
    return " ".join([event.type, event.entity_path, ", ".join(changes)]).strip()
