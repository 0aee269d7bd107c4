"""Finding handlers and running them: all of them, in time, whatever they do."""

import asyncio
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from flowhook import CommentEvent, Event, Reject, on, routing
from flowhook.categories import Pattern
from flowhook.delivery import Outcome
from flowhook.envelope import Envelope
from flowhook.errors import HandlersFailed
from flowhook.routing import Handler, Router
from flowhook.testing import make_event
from tests.support.routing import forget

EVENT = make_event("packets.created")
ENVELOPE = Envelope.of(EVENT)


def handler(function: Callable[[Any], Any], name: str = "") -> Handler:
    return Handler(name or function.__name__, (Pattern("*", "*"),), function)


def router(*handlers: Handler, timeout: float = 5.0) -> Router:
    return Router(handlers, timeout, forget)


def deliver(*functions: Callable[[Any], Any], timeout: float = 5.0) -> Outcome:
    handlers = tuple(handler(function, f"h{number}") for number, function in enumerate(functions))
    return asyncio.run(_deliver(handlers, timeout))


async def _deliver(handlers: tuple[Handler, ...], timeout: float, event: Event = EVENT) -> Outcome:
    return await router(*handlers, timeout=timeout).deliver(Envelope.of(event))


@pytest.fixture
def package(tmp_path: Path) -> Iterator[Callable[..., ModuleType]]:
    """Makes a package of handlers out of sources."""

    def make(**sources: str) -> ModuleType:
        for name, source in sources.items():
            (tmp_path / f"{name}.py").write_text(f"from flowhook import on\n{source}")
        module = ModuleType("made")
        module.__path__ = [str(tmp_path)]
        sys.modules["made"] = module
        return module

    yield make
    for name in [name for name in sys.modules if name.partition(".")[0] == "made"]:
        del sys.modules[name]


def test_on_marks_and_returns_the_function_itself() -> None:
    def function(event: Event) -> None:
        raise AssertionError(event)

    assert on("packets.created", "*.deleted")(on("users.*")(function)) is function
    assert [str(p) for p in getattr(function, routing.MARK)] == ["packets.created", "*.deleted", "users.*"]


def test_handlers_are_found_in_name_order_then_in_order_of_definition(
    package: Callable[..., ModuleType],
) -> None:
    found = routing.discover(
        package(
            b="@on('*')\ndef z(event): ...\n@on('*')\ndef a(event): ...",
            a="@on('*')\nasync def m(event): ...\ndef unmarked(event): ...",
            _private="@on('*')\ndef p(event): ...",
        )
    )
    assert [h.name for h in found] == ["_private.p", "a.m", "b.z", "b.a"]


def test_a_handler_that_is_imported_or_named_twice_is_found_once(package: Callable[..., ModuleType]) -> None:
    found = routing.discover(
        package(a="@on('*')\ndef f(event): ...\nagain = f", b="from made.a import f\nfrom made import a")
    )
    assert [h.name for h in found] == ["a.f"]


def test_every_matching_handler_runs_whatever_another_raises() -> None:
    ran = []

    def fails(event: Event) -> None:
        ran.append("fails")
        raise LookupError("why")

    async def fails_too(event: Event) -> None:
        ran.append("fails too")
        raise OSError("why not")

    def works(event: Event) -> None:
        ran.append("works")

    with pytest.raises(HandlersFailed) as failure:
        deliver(fails, fails_too, works)
    assert sorted(ran) == ["fails", "fails too", "works"]
    assert failure.value.members["failed"] == ["h0", "h1"]
    assert failure.value.noted["handlers"] == ["h2"]
    group = failure.value.__cause__
    assert isinstance(group, ExceptionGroup)
    assert [type(error) for error in group.exceptions] == [LookupError, OSError]


def test_only_the_handlers_that_match_run() -> None:
    ran: list[str] = []
    handlers = tuple(
        Handler(pattern, (Pattern.parse(pattern),), lambda event, p=pattern: ran.append(p))  # type: ignore[misc]
        for pattern in ("packets.created", "packets.*", "*.created", "users.created", "packets.deleted")
    )
    outcome = asyncio.run(_deliver(handlers, 5))
    assert outcome.handlers == ("packets.created", "packets.*", "*.created")
    assert sorted(ran) == sorted(outcome.handlers)


def test_a_rejection_is_final_and_no_failure() -> None:
    def rejects(event: Event) -> None:
        raise Reject("not ours")

    outcome = deliver(rejects, lambda event: None)
    assert outcome.handlers == ("h1",)
    assert outcome.rejected == {"h0": "not ours"}


@pytest.mark.parametrize("how", ["def", "async", "deaf"])
def test_a_handler_that_outlives_its_time_is_a_failed_one(how: str) -> None:
    release = threading.Event()

    def slow(event: Event) -> None:
        release.wait(30)

    async def slow_async(event: Event) -> None:
        await asyncio.sleep(30)

    async def deaf(event: Event) -> None:
        while not release.is_set():
            try:
                await asyncio.sleep(0.2)
            except asyncio.CancelledError:
                continue

    chosen = {"def": slow, "async": slow_async, "deaf": deaf}[how]

    async def scenario() -> float:
        started = time.monotonic()
        with pytest.raises(HandlersFailed) as failure:
            await router(handler(chosen), handler(lambda event: None, "quick"), timeout=0.2).deliver(ENVELOPE)
        assert failure.value.members["failed"] == [chosen.__name__]
        assert isinstance(failure.value.__cause__, ExceptionGroup)
        assert isinstance(failure.value.__cause__.exceptions[0], TimeoutError)
        assert failure.value.noted["handlers"] == ["quick"]
        release.set()
        return time.monotonic() - started

    assert asyncio.run(scenario()) < 5


def test_slow_handlers_in_threads_block_nobody() -> None:
    """More of them than a default pool has threads, all waiting for the last one to have started."""
    together = threading.Barrier(100)

    async def scenario() -> list[Outcome]:
        wait = router(handler(lambda event: together.wait(20) and None), timeout=25).deliver
        return await asyncio.gather(*(wait(ENVELOPE) for _ in range(100)))

    assert len(asyncio.run(scenario())) == 100


def test_abandoned_threads_leave_room_for_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(routing, "MAX_THREADS", 2)
    release = threading.Event()

    async def scenario() -> Outcome:
        stuck = router(handler(lambda event: release.wait(30) and None), timeout=0.05).deliver
        for _ in range(4):
            with pytest.raises(HandlersFailed):
                await stuck(ENVELOPE)
        try:
            return await router(handler(lambda event: None, "works")).deliver(ENVELOPE)
        finally:
            release.set()

    assert asyncio.run(scenario()).handlers == ("works",)


@pytest.mark.parametrize(
    "error", [SystemExit(3), KeyboardInterrupt(), GeneratorExit(), asyncio.CancelledError(), RecursionError()]
)
def test_nothing_that_a_handler_raises_stops_the_server(error: BaseException) -> None:
    def raises(event: Event) -> None:
        raise error

    async def raises_async(event: Event) -> None:
        raise error

    with pytest.raises(HandlersFailed) as failure:
        deliver(raises, raises_async, lambda event: None)
    assert failure.value.members["failed"] == ["h0", "h1"]


def test_an_exception_that_is_false_is_a_failure() -> None:
    class EmptyError(Exception):
        def __len__(self) -> int:
            return 0

    async def raises(event: Event) -> None:
        raise EmptyError

    with pytest.raises(HandlersFailed):
        deliver(raises)


def test_a_decorated_handler_that_returns_a_coroutine_is_awaited() -> None:
    ran = []

    async def real(event: Event) -> None:
        ran.append(event)

    def wrapper(event: Event) -> Awaitable[None]:
        return real(event)

    assert deliver(wrapper).handlers == ("h0",)
    assert ran == [EVENT]


def test_a_comment_handler_gets_a_comment() -> None:
    seen: list[CommentEvent] = []
    asyncio.run(_deliver((handler(seen.append, "h"),), 5, make_event("packet_comments.created")))
    assert seen[0].properties.content == "The contract is signed."


@pytest.mark.parametrize("patterns", [(), (print,), ("packets.created", 1)])
def test_on_without_patterns_is_a_mistake(patterns: tuple[Any, ...]) -> None:
    with pytest.raises(TypeError, match="@on needs the events"):
        on(*patterns)
