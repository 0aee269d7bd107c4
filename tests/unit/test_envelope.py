"""What is read on the outside of an event agrees with the event, whatever it is."""

import asyncio
import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from flowhook import envelope, events, samples
from flowhook.envelope import Envelope
from flowhook.errors import NotAnEvent, NotJson, Problem

SAMPLES = {name: samples.load(name) for name in samples.TYPES}
EVENT = json.loads(SAMPLES["packets.updated"])
TIMES = ("eventTimestamp", "createTime", "updateTime")
VALUES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.lists(st.text(max_size=3) | st.integers(), max_size=3)
    | st.dictionaries(st.text(max_size=8), st.integers(), max_size=2)
)


def judged(body: bytes, how: Any) -> object:
    """What becomes of a body: its envelope, or what it is refused with."""
    try:
        return how(body)
    except (NotJson, NotAnEvent) as problem:
        return type(problem), problem.document()


def by_the_full_model(body: bytes) -> Envelope:
    return Envelope.of(events.parse(body))


def agree(body: bytes) -> None:
    assert judged(body, envelope.read) == judged(body, by_the_full_model)


def fast(body: bytes) -> bool:
    return envelope._validated(body) is not None


@pytest.mark.parametrize("name", SAMPLES)
def test_every_sample_is_read_the_short_way_and_agrees(name: str) -> None:
    assert fast(SAMPLES[name])
    agree(SAMPLES[name])
    assert asyncio.run(envelope.read(SAMPLES[name]).open()) == events.parse(SAMPLES[name])


def test_what_is_opened_was_delivered_as_the_envelope_was() -> None:
    read = envelope.read(SAMPLES["packets.created"], delivery_attempt=3, traceparent="00-1-2-03")
    opened = asyncio.run(read.open())
    assert (opened.delivery_attempt, opened.traceparent) == (3, "00-1-2-03")
    assert Envelope.of(opened) == read


def places(document: dict[str, Any]) -> list[dict[str, Any]]:
    """Every object of an event that has fields of its own."""
    states = [state for state in (document["data"].get("value"), document["data"].get("oldValue")) if state]
    return [document, document["data"], *states, *(state["properties"] for state in states)]


@given(name=st.sampled_from(samples.TYPES), place=st.integers(0, 5), value=VALUES, data=st.data())
def test_the_two_agree_on_every_field(name: str, place: int, value: object, data: st.DataObject) -> None:
    document = json.loads(SAMPLES[name])
    found = places(document)[place % len(places(document))]
    found[data.draw(st.sampled_from(sorted(found)))] = value
    agree(json.dumps(document).encode())


@given(name=st.sampled_from(samples.TYPES), place=st.integers(0, 5), data=st.data())
def test_the_two_agree_on_what_is_missing(name: str, place: int, data: st.DataObject) -> None:
    document = json.loads(SAMPLES[name])
    found = places(document)[place % len(places(document))]
    del found[data.draw(st.sampled_from(sorted(found)))]
    agree(json.dumps(document).encode())


DIGITS = st.integers(0, 99).map("{:02}".format)
NEAR_TIMESTAMPS = st.builds(
    "{}-{}-{}{}{}:{}:{}{}{}".format,
    st.integers(0, 10_000).map("{:04}".format),
    st.sampled_from(("01", "02", "04", "11", "12")) | DIGITS,
    st.sampled_from(("01", "28", "29", "30", "31")) | DIGITS,
    st.sampled_from(("T", "t", " ", "")),
    st.sampled_from(("00", "23", "24")) | DIGITS,
    st.sampled_from(("00", "59", "60")) | DIGITS,
    st.sampled_from(("00", "59", "60")) | DIGITS,
    st.sampled_from(("", ".", ".1", ",250", ".250", ".123456", ".123456789", ".1234567890", ".٢٥٠")),
    st.sampled_from(("Z", "z", "", "+00:00", "-00:00", "+05:30", "\n", "Z\n")),
)


@given(
    text=NEAR_TIMESTAMPS | st.datetimes().map(lambda moment: f"{moment.isoformat()}Z"),
    name=st.sampled_from(TIMES),
)
@example(text="2024-02-29T00:00:00.000Z", name="eventTimestamp")
@example(text="2026-02-29T00:00:00.000Z", name="createTime")
@example(text="20260302T091500.1234567Z", name="eventTimestamp")
def test_the_two_agree_on_every_timestamp(text: str, name: str) -> None:
    document = json.loads(SAMPLES["packets.updated"])
    (document if name == "eventTimestamp" else document["data"]["value"])[name] = text
    agree(json.dumps(document).encode())


@given(
    body=st.sampled_from(list(SAMPLES.values())),
    at=st.integers(0, 1200),
    piece=st.binary(max_size=5),
    cut=st.integers(0, 5),
)
def test_the_two_agree_on_damaged_bodies(body: bytes, at: int, piece: bytes, cut: int) -> None:
    agree(body[:at] + piece + body[at + cut :])


@pytest.mark.parametrize(
    "text",
    [
        *("NaN", "-Infinity", "1e999", "-0", "9" * 4300, "9" * 4301, '"\\ud83d"', '"\\ud83d\\ude00"'),
        *(
            "[" * 150 + "]" * 150,
            "[" * 300 + "]" * 300,
            '"NaN"',
            '{"a": 1, "a": 2}',
            '"\\u0000"',
            "'x'",
            "[1,]",
        ),
    ],
)
@pytest.mark.parametrize("field", ["unknown", "properties"])
def test_the_two_agree_on_what_is_json(text: str, field: str) -> None:
    document = (
        {**EVENT, "unknown": "@"} if field == "unknown" else {**EVENT, "data": {"value": {field: {"x": "@"}}}}
    )
    agree(json.dumps(document).replace('"@"', text).encode())


@pytest.mark.parametrize("twice", ['"updated"', "7", "null"])
@pytest.mark.parametrize("first", [True, False])
def test_of_duplicate_fields_both_take_the_last(twice: str, first: bool) -> None:
    body = json.dumps(EVENT)
    doubled = (
        f'{{"operationType": {twice}, {body[1:]}' if first else f'{body[:-1]}, "operationType": {twice}}}'
    )
    agree(doubled.encode())


def test_a_byte_order_mark_is_skipped_and_kept() -> None:
    marked = b"\xef\xbb\xbf" + SAMPLES["users.created"]
    agree(marked)
    assert envelope.read(marked).body == marked


def test_a_refusal_quotes_nothing() -> None:
    with pytest.raises(Problem) as refusal:
        envelope.read(json.dumps({**EVENT, "entityId": ["very private"]}).encode())
    assert "private" not in json.dumps(refusal.value.document())
