"""Delivery to the real Pub/Sub emulator, from outside: what arrives there, and what is answered."""

import base64
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import functions_framework
import pytest
from cloudevents.http import CloudEvent, from_http
from flask.testing import FlaskClient

from flowhook import envelope, samples
from flowhook.cli.pubsub_emulator import Emulator
from flowhook.pubsub import messages
from tests.support import broker
from tests.support.receiver import ROOT, SECRET, Receiver, project, receiver, until

TRACEPARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
REJECTING = """
from flowhook import Reject, on

@on("packets.created", "packets.updated")
def rejects(event):
    raise Reject("not one of ours")

@on("packets.updated")
def fails(event):
    raise RuntimeError("no luck")
"""


@dataclass(frozen=True)
class Publishing:
    """A receiver that publishes, and where to."""

    receiver: Receiver
    emulator: Emulator
    topic: str
    rejected: str

    def published(self) -> list[dict[str, Any]]:
        return pulled(self.emulator, self.topic)

    def kept(self) -> list[dict[str, Any]]:
        return pulled(self.emulator, self.rejected)


def pulled(emulator: Emulator, subscription: str) -> list[dict[str, Any]]:
    """What waits there, its data decoded."""
    return [
        {**message, "data": base64.b64decode(message.get("data", ""))}
        for message in emulator.pull(subscription)
    ]


@pytest.fixture(scope="module")
def publishing(emulator: Emulator, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Publishing]:
    tmp_path = tmp_path_factory.mktemp("publishing")
    topic, rejected = broker.topic(emulator), broker.topic(emulator)
    settings = broker.settings(emulator, topic, REJECTED_TOPIC=rejected)
    with receiver(tmp_path, project(tmp_path), **settings) as started:
        yield Publishing(started, emulator, topic, rejected)


def test_every_type_arrives_byte_for_byte_with_its_attributes(publishing: Publishing) -> None:
    bodies = {samples.load(name): name for name in samples.TYPES}
    answers = {}
    for body, name in bodies.items():
        response = publishing.receiver.post(body, {b"traceparent": TRACEPARENT.encode()})
        answer = response.json()
        assert (response.status_code, answer["type"], answer["outcome"]) == (200, name, "published")
        answers[answer["messageId"]] = (answer["id"], body)
    arrived = publishing.published()
    assert len(arrived) == len(samples.TYPES)
    for message in arrived:
        event_id, body = answers[message["messageId"]]
        event = envelope.read(body, traceparent=TRACEPARENT)
        assert message["data"] == body
        assert message["attributes"] == messages.of_event(event).attributes
        assert message["attributes"]["ce-id"] == event_id
        assert message["attributes"]["traceparent"] == TRACEPARENT


def test_the_log_names_the_message(publishing: Publishing) -> None:
    answer = publishing.receiver.post(samples.load("users.created")).json()
    line = publishing.receiver.deliveries()[-1]
    assert line["messageId"] == answer["messageId"]
    assert line["message"] == f"users.created users/us-ada: published as message {answer['messageId']}"
    publishing.published()


def cloud_event_client() -> FlaskClient:
    """A function with functions-framework's own signature for events, in the same process."""
    source = ROOT / "tests" / "support" / "cloud_event_function.py"
    app = functions_framework.create_app("take", str(source), "cloudevent")
    client: FlaskClient = app.test_client()
    return client


def test_a_cloud_event_function_reads_the_messages(
    publishing: Publishing, capsys: pytest.CaptureFixture[str]
) -> None:
    """In binary mode an HTTP request is a Pub/Sub message whose attributes are headers."""
    body = samples.load("packet_comments.created")
    publishing.receiver.post(body)
    message = publishing.published()[-1]
    event: CloudEvent = from_http(message["attributes"], message["data"])
    assert event["type"] == "com.synergyshock.flows.packet_comments.created"
    assert event["source"] == "//flows/organizations/org-acme"
    assert event.data == json.loads(body)
    response = cloud_event_client().post("/", data=message["data"], headers=message["attributes"])
    assert response.status_code == 200
    assert capsys.readouterr().out == f"{event['id']} {event['subject']} {event.data['entityId']}\n"


def test_a_topic_for_each_category(emulator: Emulator, tmp_path: Path) -> None:
    for category in ("packets", "users"):
        broker.topic(emulator, f"split-{category}")
    with receiver(tmp_path, project(tmp_path), **broker.settings(emulator, "split-{category}")) as started:
        for name in ("packets.created", "users.deleted", "packets.deleted"):
            assert started.post(samples.load(name)).status_code == 200
        missing = started.post(samples.load("projects.created"))
    assert [m["attributes"]["operation"] for m in pulled(emulator, "split-packets")] == ["created", "deleted"]
    assert [m["attributes"]["operation"] for m in pulled(emulator, "split-users")] == ["deleted"]
    assert missing.status_code == 503


def test_a_missing_topic_is_told_with_what_mends_it(emulator: Emulator, tmp_path: Path) -> None:
    with receiver(tmp_path, project(tmp_path), **broker.settings(emulator, "forgotten")) as started:
        response = started.post(samples.load("users.created"))
        problem = response.json()
        assert (response.status_code, response.headers["retry-after"]) == (503, "5")
        assert problem["type"] == "urn:flowhook:problem:undelivered"
        assert "instance" in problem
        assert "forgotten" not in response.text
        line = started.deliveries()[-1]
        assert (line["severity"], line["topic"]) == ("ERROR", "forgotten")
        assert "gcloud pubsub topics create forgotten --project=demo" in line["message"]
        broker.topic(emulator, "forgotten")
        assert started.post(samples.load("users.created")).status_code == 200
    assert len(pulled(emulator, "forgotten")) == 1


REFUSED = [
    (b"{", {}, 400, "not-json"),
    (b"", {}, 400, "not-json"),
    (b"\xff\x00", {}, 400, "not-json"),
    (b"[]", {}, 422, "not-an-event"),
    (b'{"operationType": 7, "\\ud83d": 1}', {}, 422, "not-an-event"),
    (samples.load("users.created"), {b"content-type": b"text/plain"}, 415, "unsupported-media-type"),
]


@pytest.mark.parametrize(("body", "headers", "status", "slug"), REFUSED)
def test_an_authentic_body_that_is_no_event_is_kept_and_then_refused(
    publishing: Publishing, body: bytes, headers: dict[bytes, bytes], status: int, slug: str
) -> None:
    response = publishing.receiver.post(body, headers)
    assert response.status_code == status
    (kept,) = publishing.kept()
    assert kept["data"] == body
    attributes = kept["attributes"]
    assert (attributes["reason"], attributes["status"]) == (slug, str(status))
    assert attributes["received_at"].endswith("Z")
    assert json.loads(attributes["problem"]) == response.json()
    line = publishing.receiver.deliveries()[-1]
    assert f"Kept in {publishing.rejected} as message {kept['messageId']}." in line["message"]
    assert publishing.published() == []


def test_a_body_that_is_not_authentic_is_kept_nowhere(publishing: Publishing) -> None:
    assert publishing.receiver.post(b"{", secret=b"wrong").status_code == 401
    assert publishing.kept() == publishing.published() == []


def test_a_body_that_cannot_be_kept_is_not_settled(emulator: Emulator, tmp_path: Path) -> None:
    settings = broker.settings(emulator, broker.topic(emulator), REJECTED_TOPIC="nowhere")
    with receiver(tmp_path, project(tmp_path), **settings) as started:
        assert started.post(b"{").status_code == 503
        line = started.deliveries()[-1]
        assert "gcloud pubsub topics create nowhere" in line["message"]


def test_without_a_topic_for_it_the_log_says_that_a_body_is_not_kept(running: Receiver) -> None:
    assert running.post(b"{").status_code == 400
    assert running.deliveries()[-1]["message"].endswith("It is not kept.")


def test_inline_an_event_that_a_handler_rejects_is_kept(emulator: Emulator, tmp_path: Path) -> None:
    """It is answered 200, or 500 where another handler failed: then it comes again, and is kept again."""
    rejected = broker.topic(emulator)
    settings = broker.settings(emulator, "unused", REJECTED_TOPIC=rejected, DELIVERY="inline")
    body = samples.load("packets.created")
    with receiver(tmp_path, project(tmp_path, rejecting=REJECTING), **settings) as started:
        response = started.post(body)
        assert response.json()["rejected"] == ["rejecting.rejects"]
        assert "rejected for good and kept" in started.deliveries()[-1]["message"]
        (kept,) = pulled(emulator, rejected)
        assert started.post(samples.load("packets.updated")).status_code == 500
        assert len(pulled(emulator, rejected)) == 1
        emulator.delete_topic(rejected)
        assert started.post(body).status_code == 503
        failed = started.post(samples.load("packets.updated"))
        assert (failed.status_code, failed.json()["failed"]) == (
            500,
            ["rejecting.rejects", "rejecting.fails"],
        )
    assert kept["data"] == body
    attributes = kept["attributes"]
    assert (attributes["reason"], attributes["handler"]) == ("rejected", "rejecting.rejects")
    assert json.loads(attributes["problem"])["detail"] == "not one of ours"
    assert attributes["ce-type"] == "com.synergyshock.flows.packets.created"


def test_what_is_ignored_is_not_published(emulator: Emulator, tmp_path: Path) -> None:
    topic = broker.topic(emulator)
    settings = broker.settings(emulator, topic, EVENTS="users.*")
    with receiver(tmp_path, project(tmp_path), **settings) as started:
        assert started.post(samples.load("packets.created")).json()["outcome"] == "ignored"
        assert started.post(samples.load("users.created")).json()["outcome"] == "published"
    assert len(pulled(emulator, topic)) == 1


def test_a_body_of_eight_mebibytes_arrives(publishing: Publishing) -> None:
    document = json.loads(samples.load("packets.created"))
    document["padding"] = "x" * (8 * 1024 * 1024 - len(json.dumps(document)) - 20)
    body = json.dumps(document).encode()
    assert publishing.receiver.post(body).json()["outcome"] == "published"
    assert publishing.published()[0]["data"] == body


@pytest.mark.parametrize("field", ["entityPath", "organizationId", "entityKey"])
def test_a_value_too_long_for_an_attribute_is_left_out_and_the_event_arrives(
    publishing: Publishing, field: str
) -> None:
    document = {**json.loads(samples.load("users.created")), field: "users/" + "ü" * 600}
    body = json.dumps(document).encode()
    assert publishing.receiver.post(body).status_code == 200
    (message,) = publishing.published()
    assert message["data"] == body
    assert max(len(value.encode()) for value in message["attributes"].values()) <= 1024


def test_an_unreachable_broker_is_answered_in_time(tmp_path: Path) -> None:
    settings = {
        "DELIVERY": "pubsub",
        "GOOGLE_CLOUD_PROJECT": "demo",
        "PUBSUB_EMULATOR_HOST": "127.0.0.1:1",
        "DELIVERY_TIMEOUT": "0.5",
    }
    with receiver(tmp_path, project(tmp_path), **settings) as started:
        response = started.post(samples.load("users.created"))
        assert response.status_code == 503
        assert response.elapsed.total_seconds() < 1.5
        line = started.deliveries()[-1]
    assert "It had 0.5 s (DELIVERY_TIMEOUT)" in line["message"]
    assert SECRET.decode() not in started.output()


def test_without_credentials_it_says_so(tmp_path: Path) -> None:
    settings = {"DELIVERY": "pubsub", "GOOGLE_CLOUD_PROJECT": "demo", "HOME": str(tmp_path)}
    settings |= {"GOOGLE_APPLICATION_CREDENTIALS": str(tmp_path / "none.json")}
    with receiver(tmp_path, project(tmp_path), **settings) as started:
        assert started.post(samples.load("users.created")).status_code == 503
        assert "gcloud auth application-default login" in started.deliveries()[-1]["message"]
        assert "none.json" in started.deliveries()[-1]["message"]


def test_at_the_end_nothing_is_left_to_say(publishing: Publishing) -> None:
    until(lambda: bool(publishing.receiver.deliveries()))
    assert "Traceback" not in publishing.receiver.output()
