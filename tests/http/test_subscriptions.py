"""Which subscriptions the handlers need: through a filter comes what the handler wants, and nothing else."""

import json
import re
from collections import deque
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowhook import samples
from flowhook.categories import CATEGORIES, OPERATIONS, OTHER, Pattern
from flowhook.envelope import Envelope
from flowhook.handler import Handler
from flowhook.pubsub import messages, subscriptions
from flowhook.pubsub.subscriptions import Subscription
from flowhook.routing import Router
from flowhook.testing import make_event
from tests.support.command_line import flowhook
from tests.support.receiver import project
from tests.support.routing import forget

# Each test starts processes.
pytestmark = pytest.mark.slow

ALL = (*CATEGORIES, OTHER)
UNKNOWN: dict[str, Any] = {
    "entity_path": "things/1",
    "collection_path": "things",
    "entity_key": "flows/things",
}
EVENTS = [
    *map(make_event, samples.TYPES),
    *(make_event(f"packets.{operation}", **UNKNOWN) for operation in OPERATIONS),
]
# Event type to the attributes of its message.
ATTRIBUTES = {event.type: messages.of_event(Envelope.of(event)).attributes for event in EVENTS}

PATTERNS = st.lists(
    st.builds(Pattern, st.sampled_from(("*", *ALL)), st.sampled_from(("*", *OPERATIONS))),
    min_size=1,
    max_size=8,
).map(tuple)
NAME = re.compile(r"(?!goog)[A-Za-z][A-Za-z0-9\-._~+%]{2,254}")
# Long and short ones, of few letters so that many begin alike.
NAMES = st.builds(
    lambda letter, count, rest: f"m.{letter * count}{rest}",
    st.sampled_from("aé名𐌰"),
    st.sampled_from([1, 2, 20, 300]),
    st.text(st.characters(categories=["Lu", "Ll", "Lo"]), max_size=3),
)

TOKEN = re.compile(
    r'\s*(?:(?P<word>[()]|(?:AND|OR|NOT)\b)|attributes\.(?P<key>[A-Za-z_]\w*)\s*=\s*"(?P<value>[^"\\]*)")',
    re.ASCII,
)


class FilterError(Exception):
    """Pub/Sub would not create a subscription with this filter."""


def selects(text: str, attributes: Mapping[str, str]) -> bool:
    """Whether a filter lets a message through: Pub/Sub's language as far as it is needed, and as strict.

    https://cloud.google.com/pubsub/docs/subscription-message-filter
    """
    tokens: deque[str | bool] = deque()
    at = 0
    while at < len(text):
        found = TOKEN.match(text, at)
        if not found:
            raise FilterError(f"{text!r} can't be read from {at}")
        tokens.append(found["word"] or attributes.get(found["key"]) == found["value"])
        at = found.end()
    selected = expression(tokens)
    if tokens:
        raise FilterError(f"{tokens} are left of {text!r}")
    return selected


def expression(tokens: deque[str | bool]) -> bool:
    """Terms between operators of one kind: the service refuses AND beside OR without parentheses."""
    terms = [term(tokens)]
    operators: set[str | bool] = set()
    while tokens and tokens[0] in ("AND", "OR"):
        operators.add(tokens.popleft())
        terms.append(term(tokens))
    if len(operators) > 1:
        raise FilterError("AND and OR need parentheses")
    return any(terms) if operators == {"OR"} else all(terms)


def term(tokens: deque[str | bool]) -> bool:
    token = tokens.popleft() if tokens else ""
    if isinstance(token, bool):
        return token
    if token == "NOT":
        return not term(tokens)
    if token != "(":
        raise FilterError(f"{token!r} is no term")
    inner = expression(tokens)
    if not tokens or tokens.popleft() != ")":
        raise FilterError("a parenthesis is open")
    return inner


def handler(patterns: tuple[Pattern, ...] = (Pattern("*", "*"),), name: str = "m.f") -> Handler:
    return Handler(name, patterns, print)


def parsed(*patterns: str) -> tuple[Pattern, ...]:
    return tuple(map(Pattern.parse, patterns))


def wanted(patterns: tuple[Pattern, ...]) -> set[str]:
    return {event.type for event in EVENTS if handler(patterns).wants(event.type)}


def let_through(subscription: Subscription) -> set[str]:
    """The types that come out of a subscription, if all go in."""
    return {
        event_type
        for event_type, attributes in ATTRIBUTES.items()
        if not subscription.filter or selects(subscription.filter, attributes)
    }


@pytest.mark.parametrize(
    ("text", "selected"),
    [
        ('attributes.a = "1"', True),
        ('attributes.a="1"', True),
        ('attributes.a = "2"', False),
        ('attributes.c = ""', False),
        ('NOT attributes.a = "1"', False),
        ('attributes.a = "1" AND attributes.b = "1"', False),
        ('attributes.a = "1" OR attributes.b = "1"', True),
        ('(attributes.a = "2" AND attributes.b = "1") OR attributes.b = "2"', True),
        ('attributes.a = "2" AND (attributes.b = "1" OR attributes.b = "2")', False),
        ('NOT (attributes.a = "2" OR attributes.b = "1")', True),
    ],
)
def test_the_filter_language_selects_by_attributes(text: str, selected: bool) -> None:
    assert selects(text, {"a": "1", "b": "2"}) is selected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "attributes.a",
        "attributes.a = 1",
        "attributes.a = '1'",
        'a = "1"',
        'attributes.a-b = "1"',
        'attributes.a = "1" and attributes.b = "2"',
        'attributes.a = "1" attributes.b = "2"',
        'attributes.a = "1" OR',
        '(attributes.a = "1"',
        'attributes.a = "1")',
        'attributes.a = "1" AND attributes.b = "2" OR attributes.b = "1"',
        '(attributes.a = "1" OR attributes.b = "2" AND attributes.b = "1")',
    ],
)
def test_the_filter_language_is_refused_where_pubsub_refuses_it(text: str) -> None:
    with pytest.raises(FilterError):
        selects(text, {"a": "1", "b": "2"})


def test_every_type_there_can_be_is_tried() -> None:
    assert set(ATTRIBUTES) == {f"{category}.{operation}" for category in ALL for operation in OPERATIONS}


@given(patterns=PATTERNS)
def test_a_filter_lets_through_what_the_handler_wants(patterns: tuple[Pattern, ...]) -> None:
    (subscription,) = subscriptions.needed([handler(patterns)], "flows", "flowhook")
    assert subscription.topic == "flows"
    if subscription.filter:
        assert let_through(subscription) == wanted(patterns)
        assert len(subscription.filter.encode()) <= 256
    elif wanted(patterns) != set(ATTRIBUTES):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(subscriptions, "MAX_FILTER", 10_000)
            (unlimited,) = subscriptions.needed([handler(patterns)], "flows", "flowhook")
        assert let_through(unlimited) == wanted(patterns)
        assert len(unlimited.filter.encode()) > 256


@pytest.mark.parametrize(
    "patterns",
    [
        *((f"{category}.{operation}",) for category in ALL for operation in ("*", *OPERATIONS)),
        ("*.created",),
        ("*.created", "*.deleted"),
        ("*.deleted", "packets.*"),
        ("packets.created", "packets.updated", "users.*"),
        ("packet_comments.created", "pipeline_labels.updated"),
    ],
    ids=",".join,
)
def test_what_handlers_usually_want_has_a_filter(patterns: tuple[str, ...]) -> None:
    (subscription,) = subscriptions.needed([handler(parsed(*patterns))], "flows", "flowhook")
    assert subscription.filter
    assert let_through(subscription) == wanted(parsed(*patterns))


@pytest.mark.parametrize(
    "patterns",
    [("*",), ("packets.created", "*"), tuple(f"*.{o}" for o in OPERATIONS), tuple(f"{c}.*" for c in ALL)],
    ids=",".join,
)
def test_a_handler_of_everything_needs_no_filter(patterns: tuple[str, ...]) -> None:
    (subscription,) = subscriptions.needed([handler(parsed(*patterns))], "flows", "flowhook")
    assert subscription.filter == ""


@given(patterns=PATTERNS)
def test_a_topic_for_each_category_lets_through_what_the_handler_wants(patterns: tuple[Pattern, ...]) -> None:
    found = subscriptions.needed([handler(patterns)], "flows-{category}", "flowhook")
    covered = {event_type.partition(".")[0] for event_type in wanted(patterns)}
    assert sorted(subscription.topic for subscription in found) == sorted(f"flows-{c}" for c in covered)
    came = {
        event_type
        for subscription in found
        for event_type in let_through(subscription)
        if subscription.topic == f"flows-{event_type.partition('.')[0]}"
    }
    assert came == wanted(patterns)
    assert {subscription.handler for subscription in found} == {"m.f"}


@given(names=st.lists(NAMES, min_size=1, max_size=6, unique=True), topic=st.sampled_from(["t", "{category}"]))
def test_every_subscription_has_a_name_of_its_own_that_pubsub_takes(names: list[str], topic: str) -> None:
    found = subscriptions.needed([handler(name=name) for name in names], topic, "flowhook")
    assert len({subscription.name for subscription in found}) == len(found)
    assert len(found) == len(names) * (1 if topic == "t" else len(ALL))
    assert all(NAME.fullmatch(subscription.name) for subscription in found)


def test_names_that_differ_only_at_the_end_stay_apart_however_long() -> None:
    names = [f"m.{letter * count}{end}" for letter in "aé" for count in (230, 260) for end in ("x", "y")]
    found = subscriptions.needed([handler(name=name) for name in names], "{category}", "flowhook")
    assert len({subscription.name for subscription in found}) == len(names) * len(ALL)
    assert max(len(subscription.name) for subscription in found) == 255


def test_a_short_name_is_readable_and_stays_the_same() -> None:
    found = subscriptions.needed([handler(name="crm.sync")], "flows-{category}", "flowhook")
    assert [subscription.name for subscription in found] == [f"flowhook-crm.sync-{c}" for c in ALL]


@given(name=NAMES)
def test_a_path_leads_back_to_its_handler(name: str) -> None:
    (subscription,) = subscriptions.needed([handler(name=name)], "flows", "flowhook")
    assert re.fullmatch(r"/([\w.~-]|%[0-9A-F]{2})+", subscription.path, re.ASCII)
    assert unquote(subscription.path) == f"/{name}"
    Router((handler(name=name),), 5, forget).behind(unquote(subscription.path))


def test_a_path_is_percent_encoded() -> None:
    (subscription,) = subscriptions.needed([handler(name="crm.grüße")], "flows", "flowhook")
    assert subscription.path == "/crm.gr%C3%BC%C3%9Fe"


HANDLERS = """
from flowhook import on

@on("packets.updated", attempts=7, timeout=20.5)
def first(event): ...

@on("*")
async def zweite_prüfung(event): ...
"""


def test_the_command_prints_what_to_create_as_json(tmp_path: Path) -> None:
    done = flowhook("subscriptions", cwd=project(tmp_path, mine=HANDLERS), WEBHOOK_SECRET="")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [
        {
            "name": "flowhook-mine.first",
            "topic": "flows-events",
            "handler": "mine.first",
            "path": "/mine.first",
            "filter": '(attributes.category = "packets" AND attributes.operation = "updated")',
            "attempts": 7,
            "timeout": 20.5,
        },
        {
            "name": "flowhook-mine.zweite_pr%C3%BCfung",
            "topic": "flows-events",
            "handler": "mine.zweite_prüfung",
            "path": "/mine.zweite_pr%C3%BCfung",
            "filter": "",
            "attempts": 100,
            "timeout": None,
        },
    ]


@pytest.mark.parametrize(
    ("arguments", "settings", "topic", "prefix"),
    [
        (["--topic", "mine", "--prefix", "team"], {"PUBSUB_TOPIC": "not-this"}, "mine", "team"),
        ([], {"PUBSUB_TOPIC": "flows-{category}"}, "flows-{category}", "flowhook"),
    ],
)
def test_the_command_takes_topic_and_prefix(
    tmp_path: Path, arguments: list[str], settings: dict[str, str], topic: str, prefix: str
) -> None:
    source = project(tmp_path, mine="from flowhook import on\n@on('*.created', 'users.*')\ndef f(event): ...")
    done = flowhook("subscriptions", *arguments, cwd=source, **settings)
    assert done.returncode == 0, done.stderr
    patterns = parsed("*.created", "users.*")
    expected = subscriptions.needed([handler(patterns, "mine.f")], topic, prefix)
    assert json.loads(done.stdout) == [asdict(subscription) for subscription in expected]


def test_the_command_fails_for_a_broken_handler(tmp_path: Path) -> None:
    done = flowhook("subscriptions", cwd=project(tmp_path, mine="undefined"))
    assert done.returncode == 1
    assert done.stdout == ""
    assert "handlers/mine.py can't be imported: NameError" in done.stderr
