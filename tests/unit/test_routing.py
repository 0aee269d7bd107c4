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

from flowhook import CommentEvent, Event, Reject, calling, on, settings
from flowhook.categories import Pattern
from flowhook.delivery import Outcome
from flowhook.destinations import router_provider
from flowhook.discovery import discover
from flowhook.envelope import Envelope
from flowhook.errors import HandlersFailed, HandlerStuck, StartError
from flowhook.handler import MARK, Handler
from flowhook.routing import Router
from flowhook.testing import make_event
from tests.support.receiver import until
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
    assert [str(p) for p in getattr(function, MARK).patterns] == ["packets.created", "*.deleted", "users.*"]


def test_handlers_are_found_in_name_order_then_in_order_of_definition(
    package: Callable[..., ModuleType],
) -> None:
    found = discover(
        package(
            b="@on('*')\ndef z(event): ...\n@on('*')\ndef a(event): ...",
            a="@on('*')\nasync def m(event): ...\ndef unmarked(event): ...",
            _private="@on('*')\ndef p(event): ...",
        )
    )
    assert [h.name for h in found] == ["_private.p", "a.m", "b.z", "b.a"]


def test_a_handler_that_is_imported_or_named_twice_is_found_once(package: Callable[..., ModuleType]) -> None:
    found = discover(
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
    monkeypatch.setattr(calling, "MAX_THREADS", 2)
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


def test_calls_that_outlive_their_time_are_bounded_and_their_handler_is_named(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(calling, "MAX_STUCK", 10)
    release = threading.Event()
    before = set(threading.enumerate())

    def hangs(event: Event) -> None:
        release.wait(30)

    async def scenario() -> tuple[int, list[HandlersFailed], Outcome]:
        made = Router((handler(hangs), handler(lambda event: None, "works")), 0.5, forget)
        failures = await asyncio.gather(
            *(made.behind("/hangs")(ENVELOPE) for _ in range(10)), return_exceptions=True
        )
        for _ in range(50):
            with pytest.raises(HandlersFailed) as failure:
                await made.deliver(ENVELOPE)
            failures.append(failure.value)
            assert failure.value.noted["handlers"] == ["works"]
        threads = len(set(threading.enumerate()) - before)
        release.set()
        await asyncio.to_thread(until, lambda: not made._caller._threads._stuck.total())
        return threads, [f for f in failures if isinstance(f, HandlersFailed)], await made.deliver(ENVELOPE)

    threads, failures, after = asyncio.run(scenario())
    # Those that hang, and one for what works.
    assert threads <= 11
    assert [failure.members["failed"] for failure in failures] == [["hangs"]] * 60
    group = failures[-1].__cause__
    assert isinstance(group, ExceptionGroup)
    assert isinstance(group.exceptions[0], HandlerStuck)
    assert [r.getMessage() for r in caplog.records if "isn't called" in r.getMessage()] == [
        "hangs isn't called for the time being: 10 calls of it, 10 of all handlers, run on after their time. "
        "Give what it calls a timeout"
    ]
    assert after.handlers == ("hangs", "works")


def test_stuck_calls_of_many_handlers_are_bounded_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calling, "MAX_STUCK", 2)
    monkeypatch.setattr(calling, "MAX_THREADS", 3)
    release = threading.Event()
    before = set(threading.enumerate())

    async def scenario() -> int:
        stuck = tuple(handler(lambda event: release.wait(30) and None, f"h{n}") for n in range(8))
        made = router(*stuck, timeout=0.05)
        for _ in range(4):
            for one in stuck:
                with pytest.raises(HandlersFailed):
                    await made.behind(f"/{one.name}")(ENVELOPE)
        threads = len(set(threading.enumerate()) - before)
        release.set()
        return threads

    assert asyncio.run(scenario()) == 3


def test_a_call_that_is_given_up_before_a_thread_is_free_never_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calling, "MAX_THREADS", 1)
    release = threading.Event()
    ran = []

    def waits(event: Event) -> None:
        release.wait(30)

    def late(event: Event) -> None:
        ran.append(event)

    async def scenario() -> None:
        made = router(handler(waits), handler(late), timeout=0.1)
        with pytest.raises(HandlersFailed) as failure:
            await made.deliver(ENVELOPE)
        assert failure.value.members["failed"] == ["waits", "late"]
        release.set()

    asyncio.run(scenario())
    assert ran == []


def test_who_blocks_the_loop_fails_and_the_others_have_their_own_time(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def blocks(event: Event) -> None:
        await asyncio.sleep(0)
        time.sleep(1.2)  # noqa: ASYNC251 - the mistake that this is about

    async def waits(event: Event) -> None:
        await asyncio.sleep(0.3)

    def in_a_thread(event: Event) -> None:
        time.sleep(0.3)

    async def never_ends(event: Event) -> None:
        await asyncio.Event().wait()

    with pytest.raises(HandlersFailed) as failure:
        deliver(blocks, waits, in_a_thread, never_ends, timeout=0.6)
    assert failure.value.members["failed"] == ["h0", "h3"]
    assert failure.value.noted["handlers"] == ["h1", "h2"]
    (line,) = [r.getMessage() for r in caplog.records if "held up" in r.getMessage()]
    assert line.startswith("h0 held up everything else for 1.2 s")


def test_who_blocks_the_loop_within_its_time_is_named_and_has_handled_the_event(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def blocks(event: Event) -> None:
        time.sleep(0.6)  # noqa: ASYNC251 - the mistake that this is about

    assert deliver(blocks).handlers == ("h0",)
    assert "h0 held up everything else for 0.6 s" in caplog.text


def test_blocking_while_it_is_cancelled_is_named_too(caplog: pytest.LogCaptureFixture) -> None:
    async def blocks(event: Event) -> None:
        try:
            await asyncio.sleep(30)
        finally:
            time.sleep(0.6)  # noqa: ASYNC251 - the mistake that this is about

    with pytest.raises(HandlersFailed):
        deliver(blocks, timeout=0.05)
    assert "h0 held up everything else" in caplog.text


PUBSUB = {
    "WEBHOOK_SECRET": "x" * 16,
    "DELIVERY": "pubsub",
    "GOOGLE_CLOUD_PROJECT": "demo",
}


def test_the_router_finds_the_handlers_when_it_is_asked_for(package: Callable[..., ModuleType]) -> None:
    package(broken="undefined")
    provide = router_provider("made", settings.load(PUBSUB), forget)
    with pytest.raises(StartError, match="NameError"):
        provide()


@pytest.mark.parametrize("runs_handlers", [{"FUNCTION_TARGET": "consume"}, {"DELIVERY": "inline"}])
def test_who_runs_handlers_has_them_found_at_once(
    package: Callable[..., ModuleType], runs_handlers: dict[str, str]
) -> None:
    package(broken="undefined")
    with pytest.raises(StartError, match="NameError"):
        router_provider("made", settings.load({**PUBSUB, **runs_handlers}), forget)


def test_the_router_is_made_once(package: Callable[..., ModuleType]) -> None:
    package(a="@on('*')\ndef f(event): ...")
    provide = router_provider("made", settings.load(PUBSUB), forget)
    assert provide() is provide()


WRONG = [
    ("@on('*')\ndef f(): ...", "made/a.py, line 2: a.f can't be called with an event alone"),
    ("@on('*')\ndef f(event, crm): ...", "missing a required argument: 'crm'"),
    ("@on('*')\nasync def f(*, event): ...", "a handler takes one argument"),
    (
        "from flowhook import CommentEvent\n@on('packets.updated')\ndef f(event: CommentEvent): ...",
        "made/a.py, line 3: a.f takes CommentEvent, but packets.updated comes as Event",
    ),
    (
        "from flowhook import CommentEvent\n@on('*.deleted')\nasync def f(event: 'CommentEvent'): ...",
        "a.f takes CommentEvent, but packets.deleted comes as Event",
    ),
]


@pytest.mark.parametrize(("source", "message"), WRONG)
def test_a_handler_that_could_never_work_is_told_in_one_line(
    package: Callable[..., ModuleType], source: str, message: str
) -> None:
    with pytest.raises(StartError) as mistake:
        discover(package(a=source))
    assert message in str(mistake.value)
    assert len(str(mistake.value).splitlines()) == 1


FITTING = [
    "@on('*')\ndef f(*arguments): ...",
    "@on('*')\ndef f(event, crm=None): ...",
    "from flowhook import CommentEvent\n@on('packet_comments.*')\ndef f(event: CommentEvent): ...",
    "from flowhook import Event\n@on('packet_comments.*', '*')\ndef f(event: Event): ...",
    "from flowhook import CommentEvent, Event\n@on('*')\ndef f(event: CommentEvent | Event): ...",
    "from typing import *\nfrom flowhook import *\n@on('*')\ndef f(event: Union[Event, CommentEvent]): ...",
    "from typing import *\nfrom flowhook import *\n@on('*')\ndef f(event: Optional[CommentEvent]): ...",
    "@on('*')\ndef f(event: 'Undefined'): ...",
    "@on('*')\ndef f(event: int): ...",
    "from functools import *\ndef g(event, x): ...\nf = on('*')(partial(g, x=1))\nf.__module__ = __name__",
    "class Sync:\n    def __call__(self, event): ...\nf = on('*')(Sync())",
]


@pytest.mark.parametrize("source", FITTING)
def test_what_may_work_is_not_refused(package: Callable[..., ModuleType], source: str) -> None:
    assert [found.name for found in discover(package(a=source))] == ["a.f"]


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("import os\nos.environ['NOT_SET_ANYWHERE']", "made/a.py can't be imported: KeyError"),
        ("\n@on('packet.updated')\ndef f(event): ...", "did you mean packets?"),
        ("import made.b", "ZeroDivisionError"),
        ("def f(:", "SyntaxError"),
        ("x = 1\nimport nowhere_at_all", "ModuleNotFoundError"),
        ("exec('undefined')", "NameError"),
    ],
)
def test_an_import_error_names_the_handlers_own_file_and_line(
    package: Callable[..., ModuleType], source: str, message: str
) -> None:
    made = package(a=source, b="\n\n1 / 0")
    with pytest.raises(StartError) as mistake:
        discover(made)
    line = {"import made.b": "made/b.py, line 4", "def f(:": "made/a.py, line 2"}.get(
        source, f"made/a.py, line {3 if 'f(event)' in source or chr(10) in source else 2}"
    )
    assert message in str(mistake.value)
    assert str(mistake.value).endswith(f"({line})")


def test_a_marked_function_where_nobody_looks_stops_the_start(
    package: Callable[..., ModuleType], tmp_path: Path
) -> None:
    made = package(a="")
    for name in ("crm", "crm/parts", "crm/.hidden"):
        (tmp_path / name).mkdir()
    (tmp_path / "crm" / "__init__.py").write_text("from flowhook import on\n@on('*')\ndef f(event): ...")
    (tmp_path / "crm" / "broken.py").write_text("def f(:")
    (tmp_path / "crm" / "another.py").write_text("from other import on\n@on('*')\ndef f(event): ...")
    (tmp_path / "crm" / ".hidden" / "x.py").write_text("from flowhook import on\n@on('*')\ndef f(event): ...")
    assert [found.name for found in discover(made)] == ["crm.f"]
    (tmp_path / "crm" / "parts" / "sync.py").write_text(
        "import flowhook\n\n@flowhook.on('*')\nasync def f(event): ..."
    )
    with pytest.raises(StartError) as mistake:
        discover(made)
    assert str(mistake.value).startswith(
        "made/crm/parts/sync.py, line 3: a handler is only found in made/crm"
    )


def test_others_get_a_turn_between_looks_at_what_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Large properties take long to compare, and each handler with `changed` compares its own."""
    turns, seen = 0, []

    def takes(_handler: Handler, _event: Event) -> bool:
        seen.append(turns)
        return False

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async def run() -> None:
        counting = asyncio.create_task(count())
        choosy = Handler("m.f", (Pattern("*", "*"),), print, changed=("status",))
        await _deliver((choosy,) * 3, 1.0)
        counting.cancel()

    monkeypatch.setattr(Handler, "takes", takes)
    asyncio.run(run())
    assert seen == sorted(set(seen))
    assert len(seen) == 3
