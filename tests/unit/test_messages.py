"""An event as a message: the body to the byte, and attributes that Pub/Sub takes and CloudEvents define."""

import hashlib
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import pytest
from cloudevents.http import CloudEvent, from_http
from hypothesis import given
from hypothesis import strategies as st

from flowhook import envelope, events, samples, trace
from flowhook.envelope import Envelope
from flowhook.errors import NotAnEvent, NotAPush, NotJson, Refused, UnsupportedMediaType
from flowhook.pubsub import messages
from flowhook.testing import make_event

TRACEPARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
NOW = datetime(2026, 3, 2, 9, 15, tzinfo=UTC)
BODY = b"\xff no event"


def of(**overrides: Any) -> messages.Message:
    """The message of an event that differs from a sample."""
    return messages.of_event(Envelope.of(make_event("packets.updated", **overrides)))


def problem(attributes: Mapping[str, str]) -> dict[str, Any]:
    """What is told of a rejection; as long as Pub/Sub allows."""
    assert len(attributes["problem"].encode()) <= 1024
    told: dict[str, Any] = json.loads(attributes["problem"])
    return told


@pytest.mark.parametrize("event_type", samples.TYPES)
def test_every_type_has_its_attributes_and_its_body(event_type: str) -> None:
    body = samples.load(event_type)
    document = json.loads(body)
    category, operation = event_type.split(".")
    message = messages.of_event(Envelope.of(events.parse(body)))
    assert message.data == body
    assert message.attributes == {
        "ce-specversion": "1.0",
        "ce-id": hashlib.sha256(body).hexdigest(),
        "ce-source": f"//flows/organizations/{document['organizationId']}",
        "ce-type": f"com.synergyshock.flows.{category}.{operation}",
        "ce-subject": document["entityPath"],
        "ce-time": document["eventTimestamp"],
        "content-type": "application/json",
        "category": category,
        "operation": operation,
        "organization_id": document["organizationId"],
        "entity_key": document["entityKey"],
    }


def read_as_cloud_event(message: messages.Message) -> CloudEvent:
    """By CloudEvents' own library, the attributes as the headers of its binary mode."""
    return from_http(dict(message.attributes), message.data, data_unmarshaller=lambda data: data)


@pytest.mark.parametrize("event_type", samples.TYPES)
def test_every_type_is_a_cloud_event(event_type: str) -> None:
    event = events.parse(samples.load(event_type))
    read = read_as_cloud_event(messages.of_event(Envelope.of(event)))
    assert read.get_data() == event.body
    assert datetime.fromisoformat(read["time"]) == event.event_timestamp
    assert {name: value for name, value in read.get_attributes().items() if name != "time"} == {
        "specversion": "1.0",
        "id": event.id,
        "type": f"com.synergyshock.flows.{event_type}",
        "source": f"//flows/organizations/{event.organization_id}",
        "subject": event.entity_path,
        "datacontenttype": "application/json",
    }


def test_an_event_without_what_is_optional_is_a_cloud_event() -> None:
    long = "x" * 1025
    message = of(
        entity_path=long, organization_id=long, entity_key="", event_timestamp="2026-03-02T09:00+01:00:30"
    )
    read = read_as_cloud_event(message)
    # The library makes up a time where there is none.
    assert "ce-time" not in message.attributes
    assert set(read.get_attributes()) - {"time"} == {"specversion", "id", "type", "source", "datacontenttype"}
    assert read["source"] == "//flows"
    assert read.get_data() == message.data


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        ("x" * 1024, True),
        ("x" * 1025, False),
        ("é" * 512, True),
        ("é" * 512 + "x", False),
        ("😀" * 256, True),
        ("😀" * 257, False),
        ("x" * 100_000, False),
        ("", False),
        (" ", True),
    ],
    ids=[
        "1024",
        "1025",
        "two-byte 1024",
        "two-byte 1025",
        "four-byte 1024",
        "four-byte 1028",
        "100000",
        "empty",
        "blank",
    ],
)
@pytest.mark.parametrize(
    ("field", "attribute"),
    [("entity_path", "ce-subject"), ("organization_id", "organization_id"), ("entity_key", "entity_key")],
)
def test_a_value_that_pubsub_would_refuse_is_left_out_and_never_the_event(
    field: str, attribute: str, value: str, kept: bool
) -> None:
    usual = of()
    overrides: dict[str, Any] = {field: value}
    event = make_event("packets.updated", **overrides)
    message = messages.of_event(Envelope.of(event))
    assert message.data == event.body
    assert message.attributes.get(attribute) == (value if kept else None)
    assert set(message.attributes) | {attribute} == set(usual.attributes)
    assert all(0 < len(value.encode()) <= 1024 for value in message.attributes.values())


@pytest.mark.parametrize(
    ("organization_id", "source"),
    [
        ("org-acme", "//flows/organizations/org-acme"),
        ("a b%c?d#e", "//flows/organizations/a%20b%25c%3Fd%23e"),
        ("größe/名", "//flows/organizations/gr%C3%B6%C3%9Fe/%E5%90%8D"),
        ('<"\\^`{|}>\n\x00', "//flows/organizations/%3C%22%5C%5E%60%7B%7C%7D%3E%0A%00"),
        ("-._~!$&'()*+,;=:@", "//flows/organizations/-._~!$&'()*+,;=:@"),
        ("x" * 1002, f"//flows/organizations/{'x' * 1002}"),
        ("x" * 1003, "//flows"),
        ("é" * 168, "//flows"),
        ("", "//flows/organizations/"),
    ],
)
def test_the_source_is_a_uri_whatever_the_organization_is_called(organization_id: str, source: str) -> None:
    assert of(organization_id=organization_id).attributes["ce-source"] == source


def test_an_organization_id_of_megabytes_is_not_remembered() -> None:
    before = messages._shared.cache_info().currsize
    assert "organization_id" not in of(organization_id="x" * 1_000_000).attributes
    assert messages._shared.cache_info().currsize == before


@pytest.mark.parametrize(
    ("timestamp", "time"),
    [
        ("2026-03-02T10:42:30.250Z", "2026-03-02T10:42:30.250Z"),
        ("2026-03-02T10:42:30Z", "2026-03-02T10:42:30.000Z"),
        ("2026-03-02T10:42:30.250+00:00", "2026-03-02T10:42:30.250Z"),
        ("2026-03-02T10:42:30", "2026-03-02T10:42:30.000Z"),
        ("2026-03-02", "2026-03-02T00:00:00.000Z"),
        ("2026-03-02T10:42:30.250+01:00", "2026-03-02T10:42:30.250+01:00"),
        ("2026-03-02T10:42:30-03:30", "2026-03-02T10:42:30.000-03:30"),
        ("20260302T104230+0100", "2026-03-02T10:42:30.000+01:00"),
        ("2026-03-02T10:42:30.123456Z", "2026-03-02T10:42:30.123456Z"),
        ("2026-03-02T10:42:30.000001+23:59", "2026-03-02T10:42:30.000001+23:59"),
        ("0001-01-01T00:00:00Z", "0001-01-01T00:00:00.000Z"),
        ("0001-01-01T00:00:00+01:00", "0001-01-01T00:00:00.000+01:00"),
        ("9999-12-31T23:59:59.999999-12:00", "9999-12-31T23:59:59.999999-12:00"),
        ("2026-03-02T10:42:30+01:00:30", None),
        ("2026-03-02T10:42:30-01:00:00.500000", None),
    ],
)
def test_the_time_is_that_of_the_event_as_rfc_3339_has_it(timestamp: str, time: str | None) -> None:
    message = of(event_timestamp=timestamp)
    assert message.attributes.get("ce-time") == time
    assert json.loads(message.data)["eventTimestamp"] == timestamp


@pytest.mark.parametrize(
    ("header", "passed_on"),
    [
        (TRACEPARENT.encode(), TRACEPARENT),
        (b"01-" + TRACEPARENT[3:].encode() + b"-more", "01-" + TRACEPARENT[3:] + "-more"),
        (b"", None),
        (b"rubbish", None),
        (TRACEPARENT.upper().encode(), None),
        (TRACEPARENT.encode()[:-1], None),
        (TRACEPARENT.encode() + b"0", None),
        (b" " + TRACEPARENT.encode(), None),
        (TRACEPARENT.encode() + b"-\xff", None),
        (TRACEPARENT.encode() + b"-" + b"x" * 1000, None),
    ],
)
def test_a_traceparent_is_passed_on_where_it_is_one(header: bytes, passed_on: str | None) -> None:
    parent = trace.parent({b"traceparent": header})
    message = messages.of_event(envelope.read(samples.load("packets.updated"), traceparent=parent))
    assert message.attributes.get("traceparent") == passed_on


@pytest.mark.parametrize(
    "header",
    [
        f"ff{TRACEPARENT[2:]}",
        f"00-{'0' * 32}-00f067aa0ba902b7-01",
        f"00-4bf92f3577b34da6a3ce929d0e0e4736-{'0' * 16}-01",
        f"{TRACEPARENT}-more",
    ],
    ids=["version ff", "no trace", "no span", "version 00 with more"],
)
def test_a_traceparent_of_the_right_shape_that_w3c_forbids_is_ignored(header: str) -> None:
    assert trace.parent({b"traceparent": header.encode()}) is None


@pytest.mark.parametrize(
    ("refusal", "reason", "status"),
    [
        (NotJson("why"), "not-json", "400"),
        (UnsupportedMediaType("why"), "unsupported-media-type", "415"),
        (NotAnEvent([{"pointer": "/data", "detail": "Field required"}]), "not-an-event", "422"),
        (NotAPush("why"), "not-a-push", "400"),
    ],
)
def test_a_refused_body_is_kept_to_the_byte_with_what_was_answered(
    refusal: Refused, reason: str, status: str
) -> None:
    message = messages.of_refused(BODY, refusal, NOW)
    assert message.data == BODY
    told = problem(message.attributes)
    assert message.attributes == {
        "id": hashlib.sha256(BODY).hexdigest(),
        "reason": reason,
        "status": status,
        "received_at": "2026-03-02T09:15:00.000Z",
        "problem": message.attributes["problem"],
    }
    assert told == refusal.document()


def test_when_a_body_was_refused_is_told() -> None:
    before = datetime.now(UTC).replace(microsecond=0)
    received_at = messages.of_refused(BODY, NotJson("why")).attributes["received_at"]
    assert before <= datetime.fromisoformat(received_at) <= datetime.now(UTC)


def test_an_event_that_a_handler_rejects_is_kept_as_it_was_published_with_the_reason() -> None:
    event = events.parse(samples.load("users.deleted"), traceparent=TRACEPARENT)
    published = messages.of_event(Envelope.of(event))
    message = messages.of_rejected(Envelope.of(event), "crm.sync", "not one of ours", NOW)
    assert message.data == event.body
    assert problem(message.attributes)["detail"] == "not one of ours"
    assert message.attributes == {
        **published.attributes,
        "handler": "crm.sync",
        "reason": "rejected",
        "status": "200",
        "received_at": "2026-03-02T09:15:00.000Z",
        "problem": message.attributes["problem"],
    }


@pytest.mark.parametrize("handler", ["m." + "x" * 1023, "m." + "é" * 600])
def test_a_handler_whose_name_is_too_long_does_not_lose_the_event(handler: str) -> None:
    event = make_event("users.created")
    message = messages.of_rejected(Envelope.of(event), handler, "why")
    assert message.data == event.body
    assert "handler" not in message.attributes
    assert problem(message.attributes)["detail"] == "why"


@pytest.mark.parametrize(
    ("errors", "told"),
    [
        ([{"pointer": f"/{n}", "detail": "Field required"} for n in range(10)], 10),
        ([{"pointer": f"/data/{n}", "detail": "Field required"} for n in range(500)], 3),
        ([{"pointer": "/" + "é" * 1000, "detail": "Field required"}] * 3, None),
    ],
    ids=["ten", "hundreds", "long"],
)
def test_as_many_errors_are_told_as_fit(errors: list[dict[str, str]], told: int | None) -> None:
    refusal = NotAnEvent(errors)
    found = problem(messages.of_refused(BODY, refusal).attributes)
    assert found.get("errors") == (None if told is None else errors[:told])
    assert found["detail"] == refusal.detail
    assert found["status"] == 422


REASONS = {
    "long": "x" * 5_000,
    "of two bytes each": "é" * 5_000,
    "of four bytes each": "😀" * 5_000,
    "escaped in JSON": "\x01" * 5_000,
    "quotes": '"\\' * 5_000,
}


@pytest.mark.parametrize("reason", REASONS.values(), ids=REASONS)
def test_a_reason_that_is_too_long_is_told_in_part(reason: str) -> None:
    rejected = messages.of_rejected(Envelope.of(make_event("users.created")), "m.f", reason)
    refused = messages.of_refused(BODY, NotJson(reason))
    for message in (rejected, refused):
        assert problem(message.attributes)["detail"] == reason[:100] + "…"


@given(reason=st.text() | st.builds(str.__mul__, st.text(), st.integers(0, 500)))
def test_whatever_the_reason_is_some_of_it_is_told(reason: str) -> None:
    rejected = messages.of_rejected(Envelope.of(make_event("users.created")), "m.f", reason)
    refused = messages.of_refused(BODY, NotJson(reason))
    for message in (rejected, refused):
        assert problem(message.attributes)["detail"] in (reason, reason[:100] + "…")


HALF_AN_EMOJI = "not one of ours \ud83d"


def test_a_reason_that_is_no_text_does_not_lose_the_event() -> None:
    event = make_event("users.created")
    message = messages.of_rejected(Envelope.of(event), "m.\ud83d", HALF_AN_EMOJI)
    assert message.data == event.body
    assert message.attributes["reason"] == "rejected"
    assert all(value.encode() for value in message.attributes.values())


def test_a_reason_that_is_no_text_is_told_all_the_same() -> None:
    message = messages.of_rejected(Envelope.of(make_event("users.created")), "m.f", HALF_AN_EMOJI)
    assert problem(message.attributes)["detail"] == "not one of ours ?"
