"""What a handler declares: which updates, how often, how long, and the variables that it needs."""

import asyncio
import sys
from collections.abc import Awaitable, Callable, Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, get_args

import pytest

from flowhook import CommentEvent, Event, assembly, on, variable
from flowhook.categories import CATEGORIES, OPERATIONS, OTHER, Pattern
from flowhook.delivery import Outcome
from flowhook.discovery import discover
from flowhook.envelope import Envelope
from flowhook.errors import HandlersFailed, MissingVariable, StartError
from flowhook.event_types import CommentPattern, CommentType, EventPattern, EventType
from flowhook.handler import MARK, Declaration, Handler
from flowhook.once import Ledger, Memory
from flowhook.routing import Router
from flowhook.settings import load
from flowhook.testing import make_event
from tests.support.routing import forget

SECRET = {"WEBHOOK_SECRET": "x" * 16}
# As one writes it who isn't checked by any type checker.
mark: Callable[..., Any] = on


@pytest.fixture
def package(tmp_path: Path) -> Iterator[Callable[..., ModuleType]]:
    """Makes a package of handlers out of sources."""

    def make(**sources: str) -> ModuleType:
        for name, source in sources.items():
            path = tmp_path / f"{name}.py"
            path.parent.mkdir(exist_ok=True)
            path.write_text(f"from flowhook import *\n{source}")
        module = ModuleType("declared")
        module.__path__ = [str(tmp_path)]
        sys.modules["declared"] = module
        return module

    yield make
    for name in [name for name in sys.modules if name.partition(".")[0] == "declared"]:
        del sys.modules[name]


def prepare(package: ModuleType, environment: Mapping[str, str], **settings: str) -> None:
    """As the function that runs handlers does at its start."""
    assembly.load(package.__name__, load({**SECRET, **settings}), forget, environment)


def mistake(package: ModuleType, environment: Mapping[str, str], **settings: str) -> list[str]:
    """The lines that stop the start."""
    with pytest.raises(StartError) as stopped:
        prepare(package, environment, **settings)
    return str(stopped.value).splitlines()


def test_what_is_declared_is_data_on_the_function() -> None:
    @on("packets.updated", changed=["status", "title"], once=True, attempts=20, timeout=15)
    def function(event: Event) -> None:
        raise AssertionError(event)

    assert getattr(function, MARK) == Declaration(
        (Pattern("packets", "updated"),), ("status", "title"), True, 20, 15
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"changed": ""}, "not the name of a property"),
        ({"changed": [1]}, "not the name of a property"),
        ({"changed": "properties.status"}, "not the name of a property"),
        ({"attempts": 4}, "from 5 to 100"),
        ({"attempts": 101}, "from 5 to 100"),
        ({"attempts": True}, "from 5 to 100"),
        ({"attempts": 20.5}, "from 5 to 100"),
        ({"timeout": 0}, "seconds above 0, at most 579"),
        ({"timeout": 580}, "seconds above 0, at most 579"),
        ({"timeout": "8"}, "seconds above 0, at most 579"),
        ({"timeout": True}, "seconds above 0, at most 579"),
        ({"timeout": float("nan")}, "seconds above 0, at most 579"),
    ],
)
def test_an_option_that_can_not_be_meant_is_a_mistake(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        mark("packets.updated", **options)


@pytest.mark.parametrize("pattern", ["packets.created", "*.deleted"])
def test_changed_without_updates_is_a_mistake(pattern: str) -> None:
    with pytest.raises(ValueError, match="restricts updates"):
        mark(pattern, changed="status")
    mark(pattern, "users.*", changed="status")


def test_two_marks_with_options_are_a_mistake() -> None:
    def function(event: Event) -> None:
        raise AssertionError(event)

    with pytest.raises(TypeError, match="one @on alone"):
        mark("packets.created")(mark("packets.updated", once=True)(function))


@pytest.mark.parametrize(
    ("event", "taken"),
    [
        (make_event("packets.updated", properties={"status": "won"}), True),
        (make_event("packets.updated", properties={"size": 3}, data={"updateMask": ["size"]}), False),
        (make_event("packets.created"), True),
        (make_event("packets.deleted"), True),
    ],
)
def test_changed_restricts_updates_alone(event: Event, taken: bool) -> None:
    waiting = Handler("m.f", (Pattern("*", "*"),), print, changed=("status", "nothing"))
    assert waiting.takes(event) is taken
    assert Handler("m.f", (Pattern("*", "*"),), print).takes(event)


def test_the_types_are_those_that_there_are() -> None:
    types = {f"{category}.{operation}" for category in CATEGORIES for operation in OPERATIONS}
    assert set(get_args(EventType)) == types
    assert set(get_args(CommentType)) == {name for name in types if name.startswith("packet_comments.")}
    patterns = {
        "*",
        *(f"*.{operation}" for operation in OPERATIONS),
        *(f"{category}.{half}" for category in (*CATEGORIES, OTHER) for half in ("*", *OPERATIONS)),
    }
    assert set(get_args(EventPattern)) == patterns
    comments = {name for name in patterns if name.startswith("packet_comments.")}
    assert set(get_args(CommentPattern)) == comments


def test_a_type_checker_knows_which_event_comes() -> None:
    """The checks of types are the test: an ignored error that isn't one is an error."""

    @on("packet_comments.created", "packet_comments.*")
    def takes_comments(event: CommentEvent) -> None:
        assert event.properties.content

    @on("packet_comments.created")
    def takes_any(event: Event) -> None:
        assert event

    @on("packets.updated", "*")
    async def takes_packets(event: Event) -> None:
        assert event

    def takes_too_little(event: CommentEvent) -> None:
        assert event

    on("packets.updated")(takes_too_little)  # type: ignore[type-var]
    name: str = "packets.updated"
    on(name)(takes_too_little)
    comment: CommentEvent = make_event("packet_comments.deleted")
    other: CommentEvent = make_event("packets.deleted")  # type: ignore[assignment]
    assert (comment.type, other.type) == ("packet_comments.deleted", "packets.deleted")


def test_a_variable_is_read_when_it_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CRM_TOKEN", raising=False)
    needed, off, usual = (
        variable("CRM_TOKEN", secret=True),
        variable("CRM_TOKEN", default=None),
        variable("CRM_TOKEN", default=8, cast=int),
    )
    with pytest.raises(MissingVariable, match="CRM_TOKEN is not set"):
        needed.value  # noqa: B018
    assert (off.value, usual.value) == (None, 8)
    monkeypatch.setenv("CRM_TOKEN", " 12\n")
    assert (needed.value, off.value, usual.value) == ("12", "12", 12)
    monkeypatch.setenv("CRM_TOKEN", "  ")
    assert (off.value, usual.value) == (None, 8)
    assert "12" not in repr(needed)


def test_a_value_that_can_not_be_cast_is_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CRM_PORT", "secret-word")
    port = variable("CRM_PORT", cast=int)
    with pytest.raises(ValueError, match="CRM_PORT can't be read as int: ValueError") as wrong:
        port.value  # noqa: B018
    assert "secret-word" not in str(wrong.value)
    assert wrong.value.__suppress_context__


NEEDS = """
TOKEN = variable("CRM_TOKEN", secret=True)
PORT = variable("CRM_PORT", cast=int, default=443)

@on("*")
def tell(event): ...

@on("users.*")
def ask(event): ...
"""


def test_all_that_is_missing_is_told_at_once_with_handler_and_variable(
    package: Callable[..., ModuleType],
) -> None:
    made = package(crm=NEEDS, chat="URL = variable('CHAT_URL')\n@on('*')\ndef post(event): ...", quiet="")
    # Finding them needs no values, running them does.
    assert [handler.name for handler in discover(made)] == ["chat.post", "crm.tell", "crm.ask"]
    assert mistake(made, {"CRM_PORT": "do-not-show"}) == [
        "chat.post: CHAT_URL is not set",
        "crm.tell: CRM_TOKEN is not set",
        "crm.tell: CRM_PORT can't be read as int: ValueError",
        "crm.ask: CRM_TOKEN is not set",
        "crm.ask: CRM_PORT can't be read as int: ValueError",
    ]
    prepare(made, {"CRM_TOKEN": "t", "CHAT_URL": "u"})


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("WEBHOOK_SECRET", "is a setting of flowhook"),
        ("LEDGER", "is a setting of flowhook"),
        ("DELIVERY_TIMEOUT", "is a setting of flowhook"),
        ("REGION", "is a setting of flowhook"),
        ("PORT", "belongs to the platform"),
        ("K_SERVICE", "belongs to the platform"),
        ("X_GOOGLE_ANYTHING", "belongs to the platform"),
        ("CRM-TOKEN", "can't be the name"),
        ("", "can't be the name"),
    ],
)
def test_names_of_others_are_refused(package: Callable[..., ModuleType], name: str, message: str) -> None:
    made = package(crm=f"T = variable({name!r}, default='x')\n@on('*')\ndef f(event): ...")
    (line,) = mistake(made, {name: "value"})
    assert line.startswith("crm.f: ")
    assert message in line


def test_a_variable_of_a_module_without_handlers_is_needed_by_all(package: Callable[..., ModuleType]) -> None:
    made = package(
        _shared="T = variable('SHARED')",
        a="@on('*')\ndef f(event): ...",
        b="from declared._shared import T\n@on('*')\ndef g(event): ...",
    )
    assert mistake(made, {}) == ["a.f: SHARED is not set", "b.g: SHARED is not set"]


def test_a_variable_below_a_module_is_that_modules(
    package: Callable[..., ModuleType], tmp_path: Path
) -> None:
    made = package(a="@on('*')\ndef f(event): ...")
    (tmp_path / "crm").mkdir()
    (tmp_path / "crm" / "__init__.py").write_text(
        "from flowhook import on\nfrom declared.crm import client\n@on('*')\ndef tell(event): ..."
    )
    (tmp_path / "crm" / "client.py").write_text("from flowhook import variable\nT = variable('CRM_TOKEN')")
    assert mistake(made, {}) == ["crm.tell: CRM_TOKEN is not set"]


def test_a_timeout_longer_than_the_senders_request_is_a_mistake_inline_alone(
    package: Callable[..., ModuleType],
) -> None:
    made = package(slow="@on('*', timeout=40)\ndef f(event): ...")
    (line,) = mistake(made, {})
    assert line.startswith("slow.f: timeout=40 is more than the sender's request has")
    prepare(made, {}, DELIVERY="pubsub", GOOGLE_CLOUD_PROJECT="demo")


@pytest.mark.parametrize(
    ("environment", "warned"),
    [({}, True), ({"LEDGER": "memory"}, False), ({"LEDGER": "memory", "K_SERVICE": "consume"}, True)],
)
def test_a_memory_that_others_do_not_share_is_warned_of(
    package: Callable[..., ModuleType],
    caplog: pytest.LogCaptureFixture,
    environment: dict[str, str],
    warned: bool,
) -> None:
    prepare(package(crm="@on('*', once=True)\ndef f(event): ..."), environment)
    assert ("crm.f: once=True holds within one instance" in caplog.text) is warned


def test_without_once_nothing_is_warned_of(
    package: Callable[..., ModuleType], caplog: pytest.LogCaptureFixture
) -> None:
    prepare(package(crm="@on('*')\ndef f(event): ..."), {})
    assert caplog.text == ""


def test_the_line_to_add_is_told_where_the_ledgers_package_is_missing(
    package: Callable[..., ModuleType], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = package(crm="@on('*', once=True)\ndef f(event): ...")
    assert mistake(made, {}, LEDGER="firestore")[0].startswith("GOOGLE_CLOUD_PROJECT is not set")
    for name in [
        name for name in sys.modules if name.startswith(("google.cloud.firestore", "flowhook.firestore"))
    ]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "google.cloud.firestore", None)
    (line,) = mistake(made, {}, LEDGER="firestore", GOOGLE_CLOUD_PROJECT="demo")
    assert "add the line google-cloud-firestore==2.34.0 to handlers/requirements.txt" in line


@pytest.mark.parametrize("value", ["memory", "firestore", "firestore:flowhook", "firestore:(default)"])
def test_a_ledger_is_one_of_these(value: str) -> None:
    assert load({**SECRET, "LEDGER": value}).ledger == value


@pytest.mark.parametrize("value", ["redis", "firestore:", "firestore:ab", "firestore:A", "memory:x"])
def test_any_other_ledger_is_a_mistake(value: str) -> None:
    with pytest.raises(StartError, match="LEDGER"):
        load({**SECRET, "LEDGER": value})


RESIZED = Envelope.of(
    make_event("packets.updated", properties={"size": 3}, data={"updateMask": ["size"]}, entity_id="resized")
)
WON = Envelope.of(make_event("packets.updated", properties={"status": "won"}))


@pytest.mark.parametrize("path", ["/", "/m.waits"])
def test_an_update_that_changed_nothing_of_it_calls_no_handler(path: str) -> None:
    called: list[str] = []
    waits = Handler(
        "m.waits",
        (Pattern("packets", "*"),),
        lambda event: called.append(event.entity_id),
        changed=("status", "title"),
        once=True,
    )
    memory = Memory()
    router = Router((waits,), 5, forget, Ledger(memory))

    async def scenario() -> list[Outcome]:
        return [await router.behind(path)(event) for event in (RESIZED, WON)]

    ignored, handled = asyncio.run(scenario())
    assert (ignored.outcome, ignored.handlers or ()) == ("handled" if path == "/" else "ignored", ())
    assert handled.handlers == ("m.waits",)
    assert called == ["pk-7f3a"]
    # What isn't for it isn't recorded either.
    assert len(memory._entries) == 1


def test_each_handler_has_its_own_time() -> None:
    async def sleeps(event: Event) -> None:
        await asyncio.sleep(0.5)

    def made(name: str, timeout: float | None) -> Handler:
        return Handler(name, (Pattern("*", "*"),), sleeps, timeout=timeout)

    router = Router((made("m.long", 5), made("m.short", 0.1), made("m.usual", None)), 0.1, forget)
    with pytest.raises(HandlersFailed) as failure:
        asyncio.run(as_coroutine(router.deliver(WON)))
    assert failure.value.members["failed"] == ["m.short", "m.usual"]
    assert failure.value.noted["handlers"] == ["m.long"]


async def as_coroutine(awaitable: Awaitable[Outcome]) -> Outcome:
    return await awaitable
