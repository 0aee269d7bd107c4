"""Lines that anybody can cause: how many are written, and that each of the rest is counted."""

import asyncio
import os
import signal
from collections.abc import Iterator, Mapping
from types import FrameType

import pytest

from flowhook.quota import LINES, SECONDS, Quota
from tests.support.clock import Clock

Counts = list[Mapping[str, int]]


@pytest.fixture
def stopped() -> Iterator[list[int]]:
    """The signals that reach the handler of a server; nothing of it is left for other tests."""
    received: list[int] = []

    def handle(number: int, _frame: FrameType | None) -> None:
        received.append(number)

    before = {number: signal.signal(number, handle) for number in (signal.SIGTERM, signal.SIGINT)}
    yield received
    for number, handler in before.items():
        signal.signal(number, handler)


def test_so_many_are_written_and_the_rest_is_told_with_what_comes_next(clock: Clock) -> None:
    told: Counts = []
    quota = Quota(told.append, clock)
    assert [quota.admits("a") for _ in range(LINES + 3)] == [True] * LINES + [False] * 3
    assert not quota.admits("b")
    clock.now += SECONDS - 0.001
    quota.settle()
    assert told == []
    clock.now += 0.001
    quota.settle()
    quota.settle()
    assert told == [{"a": 3, "b": 1}]
    assert quota.admits("a")


def test_a_refusal_tells_it_too_before_its_own_line(clock: Clock) -> None:
    told: Counts = []
    quota = Quota(told.append, clock)
    for _ in range(LINES + 5):
        quota.admits("a")
    clock.now += 5 * SECONDS
    assert quota.admits("a")
    assert told == [{"a": 5}]


def test_where_nothing_is_left_out_nothing_is_told(clock: Clock) -> None:
    quota = Quota(lambda _counts: pytest.fail("it told"), clock)
    for _ in range(100):
        assert quota.admits("a")
        clock.now += SECONDS / LINES
        quota.settle()


def test_a_signal_to_stop_has_it_told_and_reaches_the_server(clock: Clock, stopped: list[int]) -> None:
    told: Counts = []

    async def scenario() -> None:
        tells = asyncio.Event()

        def tell(counts: Mapping[str, int]) -> None:
            told.append(counts)
            tells.set()

        quota = Quota(tell, clock)
        for _ in range(LINES + 5):
            quota.admits("a")
        os.kill(os.getpid(), signal.SIGTERM)
        await tells.wait()
        assert told == [{"a": 5}]
        # What is still under way is counted as well, once for all of a turn of the loop.
        assert [quota.admits("b") for _ in range(7)] == [False] * 7
        await asyncio.sleep(0)

    asyncio.run(scenario())
    assert told == [{"a": 5}, {"b": 7}]
    assert stopped == [signal.SIGTERM]


def test_without_a_loop_it_counts_all_the_same(clock: Clock) -> None:
    told: Counts = []
    quota = Quota(told.append, clock)
    for _ in range(LINES + 5):
        quota.admits("a")
    clock.now += SECONDS
    quota.settle()
    assert told == [{"a": 5}]
