"""What Pub/Sub pushes: an event with what was told beside it, or a refusal that is kept."""

import asyncio
import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowhook import samples
from flowhook.admission import SMALL, Admission
from flowhook.envelope import Envelope
from flowhook.errors import NotAnEvent, NotAPush, NotJson, Refused
from flowhook.pubsub import push
from tests.support.strategies import JSON

EVENT = samples.load("packets.updated")
TRACEPARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
# As Pub/Sub documents it, with both spellings of some names.
DOCUMENTED: dict[str, Any] = {
    "deliveryAttempt": 5,
    "message": {
        "attributes": {"traceparent": TRACEPARENT, "key": "value"},
        "data": base64.b64encode(EVENT).decode(),
        "messageId": "2070443601311540",
        "message_id": "2070443601311540",
        "orderingKey": "key",
        "publishTime": "2026-02-26T19:13:55.749Z",
        "publish_time": "2026-02-26T19:13:55.749Z",
    },
    "subscription": "projects/myproject/subscriptions/mysubscription",
}


def parses() -> Admission:
    return Admission(100_000_000, 5)


class Keeping:
    """Keeps in a list what is refused."""

    def __init__(self) -> None:
        self.kept: list[bytes] = []

    async def __call__(self, body: bytes, _problem: Refused) -> None:
        self.kept.append(body)


def taken(body: bytes) -> Envelope:
    """The event in a push of which nothing is kept."""
    keeping = Keeping()
    event = asyncio.run(push.event(body, parses(), keeping))
    assert keeping.kept == []
    return event


def changed(**fields: object) -> bytes:
    return json.dumps({**DOCUMENTED, **fields}).encode()


def message(**fields: object) -> bytes:
    return changed(message={**DOCUMENTED["message"], **fields})


def carrying(data: bytes) -> bytes:
    return message(data=base64.b64encode(data).decode())


def test_the_event_arrives_with_its_attempt_and_its_trace() -> None:
    event = taken(changed())
    assert (event.type, event.body) == ("packets.updated", EVENT)
    assert (event.delivery_attempt, event.traceparent) == (5, TRACEPARENT)


@pytest.mark.parametrize("event_type", samples.TYPES)
def test_every_type_arrives_to_the_byte(event_type: str) -> None:
    body = b"\n " + samples.load(event_type) + b"\t"
    event = taken(carrying(body))
    assert (event.type, event.body) == (event_type, body)


def test_what_is_not_told_has_a_default() -> None:
    event = taken(json.dumps({"message": {"data": base64.b64encode(EVENT).decode()}}).encode())
    assert (event.delivery_attempt, event.traceparent) == (1, None)


@pytest.mark.parametrize("traceparent", ["", "rubbish", TRACEPARENT.upper(), f"{TRACEPARENT}-é", "\n"])
def test_a_malformed_traceparent_counts_as_none(traceparent: str) -> None:
    assert taken(message(attributes={"traceparent": traceparent})).traceparent is None


def test_fields_that_pubsub_may_add_are_tolerated() -> None:
    new = {"x": [None, {"y": 1}]}
    assert taken(json.dumps({**DOCUMENTED, "new": new}).encode()).body == EVENT
    assert taken(message(new=new)).body == EVENT


@pytest.mark.parametrize(
    "body",
    [
        message(attributes=None),
        changed(deliveryAttempt=None),
        changed(subscription=7),
        message(messageId=7),
    ],
)
def test_an_event_is_not_lost_for_what_nobody_needs(body: bytes) -> None:
    assert taken(body).body == EVENT


def test_what_is_read_is_what_was_pushed() -> None:
    read = push.read(changed())
    assert read.message.data == EVENT
    assert read.message.attributes == DOCUMENTED["message"]["attributes"]
    assert read.delivery_attempt == DOCUMENTED["deliveryAttempt"]


MALFORMED = {
    "nothing": b"",
    "no JSON": b"secret-word",
    "half": changed()[:-1],
    "more": changed() + b"]",
    "NUL": b"\0",
    "not UTF-8": changed().replace(b"mysubscription", b"\xff"),
    "half an emoji": changed().replace(b"mysubscription", b"\\ud83d"),
    "too deep": b"[" * 100_000,
    "list": b'["secret-word"]',
    "null": b"null",
    "string": b'"secret-word"',
    "number": b"1",
    "no message": b'{"subscription": "secret-word"}',
    "message is null": changed(message=None),
    "message is a list": changed(message=["secret-word"]),
    "message is a string": changed(message="secret-word"),
    "data is a number": message(data=7),
    "data is a list": message(data=["secret-word"]),
    "data is an object": message(data={"secret-word": 1}),
    "data is no base64": message(data="{secret-word}"),
    "data is not padded": message(data="eA"),
    "data is one digit": message(data="e"),
    "data has a line break": message(data=base64.encodebytes(EVENT).decode()),
    "data ends in a space": message(data="e30= "),
    "data is URL-safe": message(data=base64.urlsafe_b64encode(b"\xff\xfe\xfb\xef").decode()),
    "data is not ASCII": message(data="é30="),
    "attributes are a list": message(attributes=[["secret-word", "x"]]),
    "an attribute is a number": message(attributes={"a": 1}),
    "an attribute is null": message(attributes={"a": None}),
    "an attribute is a list": message(attributes={"a": ["secret-word"]}),
    "attempt 0": changed(deliveryAttempt=0),
    "attempt -1": changed(deliveryAttempt=-1),
    "attempt 1.5": changed(deliveryAttempt=1.5),
    "attempt is a word": changed(deliveryAttempt="secret-word"),
    "attempt is a list": changed(deliveryAttempt=[1]),
}


@pytest.mark.parametrize("body", MALFORMED.values(), ids=MALFORMED)
def test_what_is_no_push_is_kept_whole(body: bytes) -> None:
    keeping = Keeping()
    with pytest.raises(NotAPush) as refusal:
        asyncio.run(push.event(body, parses(), keeping))
    assert keeping.kept == [body]
    assert "secret-word" not in refusal.value.detail


@pytest.mark.parametrize(
    ("body", "where"),
    [
        (b"", "the body"),
        (b"[]", "the body"),
        (b"{}", "message"),
        (message(data="%"), "message.data"),
        (message(data="%", attributes=[]), "message.data, message.attributes"),
        (changed(deliveryAttempt=0), "deliveryAttempt"),
    ],
)
def test_a_refusal_says_which_parts_are_wrong(body: bytes, where: str) -> None:
    with pytest.raises(NotAPush) as refusal:
        push.read(body)
    assert refusal.value.detail == f"These parts are missing or wrong: {where}."


@pytest.mark.parametrize("attributes", [{"secret-word": 1}, dict.fromkeys(map(str, range(10_000)), 1)])
def test_a_refusal_neither_quotes_attributes_nor_grows_with_them(attributes: dict[str, int]) -> None:
    with pytest.raises(NotAPush) as refusal:
        push.read(message(attributes=attributes))
    assert "secret-word" not in refusal.value.detail
    assert len(refusal.value.detail) < 1_000


@pytest.mark.parametrize(
    ("data", "refused"),
    [
        (b"", NotJson),
        (b"{", NotJson),
        (b"\xff\xfe", NotJson),
        (b"null", NotAnEvent),
        (b"{}", NotAnEvent),
        (changed(), NotAnEvent),
    ],
    ids=["empty", "no JSON", "not UTF-8", "null", "empty object", "a push in a push"],
)
def test_of_what_is_no_event_the_message_is_kept(data: bytes, refused: type[Refused]) -> None:
    keeping = Keeping()
    with pytest.raises(refused):
        asyncio.run(push.event(carrying(data), parses(), keeping))
    assert keeping.kept == [data]


def test_a_message_that_has_attributes_alone_is_kept_as_empty() -> None:
    keeping = Keeping()
    with pytest.raises(NotJson):
        asyncio.run(push.event(b'{"message": {"attributes": {"a": "b"}}}', parses(), keeping))
    assert keeping.kept == [b""]


def refused_or_taken(body: bytes) -> None:
    """Whatever it is: an event of which nothing is kept, or a refusal that is kept once and can be told."""
    keeping = Keeping()
    try:
        asyncio.run(push.event(body, parses(), keeping))
    except Refused as refusal:
        assert len(keeping.kept) == 1
        json.dumps(refusal.document()).encode()
    else:
        assert keeping.kept == []


@given(body=st.binary(max_size=300) | JSON.map(lambda document: json.dumps(document).encode()))
def test_no_body_makes_anything_but_a_refusal(body: bytes) -> None:
    keeping = Keeping()
    with pytest.raises(Refused):
        asyncio.run(push.event(body, parses(), keeping))
    assert keeping.kept == [body]


@given(
    field=st.sampled_from(
        ["data", "attributes", "messageId", "deliveryAttempt", "subscription", "message", "new"]
    ),
    value=JSON | st.binary(max_size=60).map(lambda data: base64.b64encode(data).decode()),
    inside=st.booleans(),
)
def test_no_field_makes_anything_but_an_event_or_a_refusal(field: str, value: Any, inside: bool) -> None:
    refused_or_taken(message(**{field: value}) if inside else changed(**{field: value}))


@given(at=st.integers(0, 700), piece=st.binary(max_size=6), cut=st.integers(0, 6))
def test_no_damaged_push_makes_anything_but_an_event_or_a_refusal(at: int, piece: bytes, cut: int) -> None:
    body = changed()
    refused_or_taken(body[:at] + piece + body[at + cut :])


@given(
    attributes=st.dictionaries(st.sampled_from(["traceparent"]) | st.text(), st.text(), max_size=4),
    attempt=st.integers(1, 2**31),
)
def test_whatever_text_the_attributes_are_the_event_arrives(attributes: dict[str, str], attempt: int) -> None:
    body = json.dumps(
        {"message": {**DOCUMENTED["message"], "attributes": attributes}, "deliveryAttempt": attempt}
    )
    event = taken(body.encode())
    assert (event.body, event.delivery_attempt) == (EVENT, attempt)


def test_a_push_is_forgotten_while_its_event_waits_for_memory() -> None:
    async def wait() -> None:
        gone, queue = asyncio.Event(), Admission(100, 5)

        class Body(bytes):
            def __del__(self) -> None:
                gone.set()

        held = await queue.room(100)
        padded = EVENT.rstrip()[:-1] + b', "padding": "' + b"x" * SMALL + b'"}'
        waiting = asyncio.create_task(push.event(Body(carrying(padded)), queue, Keeping()))
        await asyncio.wait_for(gone.wait(), 3)
        assert not waiting.done()
        del held
        assert (await waiting).delivery_attempt == 5

    asyncio.run(wait())
