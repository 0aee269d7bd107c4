"""How a story may be delivered: duplicates, other orders, crashes, calls at once, failing dependencies."""

from collections.abc import Iterator, Sequence
from itertools import permutations
from random import Random
from typing import NamedTuple

# The most places in a handler's code that are tried, with a crash or another call at each.
MOST_PLACES = 40
# The most orders of a story's events that are tried; of more than these, a random choice.
SHUFFLES = 8


class Step(NamedTuple):
    """One delivery of the event with this index.

    `how` is `plain`; `crash`, where the process dies before the place `at`, or before the call is recorded if
    that is None; `late`, where the call returns after its timeout; `beside`, where the call stops before the
    place `at` while `other` is handled; or the name of one of the test's faults.
    """

    event: int
    how: str = "plain"
    at: int | None = None
    other: int = 0


class Places(NamedTuple):
    """How many places a call has: `lines` of the handler, and `switches`, where another call may run."""

    lines: int
    switches: int


class Kinds(NamedTuple):
    """What is tried: whether calls are interrupted (`crash`, `late`), and the names of the faults."""

    interruptions: bool
    faults: Sequence[str]


Plan = tuple[Step, ...]


def plain(count: int) -> Plan:
    """Every event once and in order."""
    return tuple(Step(index) for index in range(count))


def plans(count: int, places: Sequence[Places], kinds: Kinds, random: Random) -> Iterator[Plan]:
    """Ways to deliver `count` events, the simplest first. `places` are those of the call for each event.

    Stories of three events and more are only delivered in other orders and twice: one or two events are
    enough to show what a crash or a concurrent call does.
    """
    yield from _orders(count, random)
    yield from _duplicates(count)
    if count > 2:
        return
    for index in range(count):
        yield from _around(count, index, _disturbed(index, places[index].lines, kinds))
    for index in range(count):
        for other in range(count):
            yield from _besides(count, index, other, places[index].switches)


def _orders(count: int, random: Random) -> Iterator[Plan]:
    """Every event once, in another order."""
    orders = [order for order in permutations(range(count)) if list(order) != sorted(order)]
    for order in orders if len(orders) <= SHUFFLES else random.sample(orders, SHUFFLES):
        yield tuple(map(Step, order))


def _duplicates(count: int) -> Iterator[Plan]:
    """One event twice: again at once, or as an old state after a newer one."""
    for index in range(count):
        for place in range(index + 1, count + 1):
            steps = [*plain(count)]
            steps.insert(place, Step(index))
            yield tuple(steps)


def _disturbed(index: int, lines: int, kinds: Kinds) -> Iterator[Step]:
    for fault in kinds.faults:
        yield Step(index, fault)
    if kinds.interruptions:
        yield Step(index, "late")
        yield Step(index, "crash")
        # The last place first: by then the call has most likely had an effect.
        for at in reversed(range(min(lines, MOST_PLACES))):
            yield Step(index, "crash", at)


def _around(count: int, index: int, disturbed: Iterator[Step]) -> Iterator[Plan]:
    """The plans with one of these steps in place of the plain delivery."""
    for step in disturbed:
        yield tuple(step if other == index else Step(other) for other in range(count))


def _besides(count: int, index: int, other: int, switches: int) -> Iterator[Plan]:
    """Two calls at once: of two events, or of one that was delivered twice."""
    rest = tuple(Step(event) for event in range(count) if event not in (index, other))
    for at in range(min(switches, MOST_PLACES)):
        yield (Step(index, "beside", at, other), *rest)
