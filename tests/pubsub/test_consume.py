"""The consumer behind real push subscriptions, and by itself, by what it answers."""

import base64
import json
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest

from flowhook import samples
from flowhook.cli.pubsub_emulator import Emulator
from tests.support import broker
from tests.support.receiver import Receiver, project, receiver, until

# Each writes what it got into the log, where a test reads it. `fails` succeeds at its fourth attempt.
HANDLERS = """
import logging
from collections import Counter
from flowhook import Reject, on

log = logging.getLogger("seen")
attempts = Counter()

def tell(name, event):
    log.info("%s %s %s %s", name, event.type, event.id, event.delivery_attempt)

@on("*")
def works(event):
    tell("works", event)

@on("packets.created")
async def fails(event):
    tell("fails", event)
    attempts[event.id] += 1
    if attempts[event.id] < 4:
        raise RuntimeError("not yet")

@on("packets.created")
def rejects(event):
    tell("rejects", event)
    raise Reject("not one of ours")
"""
# Everything that a handler can ask an event.
TELLING = """
import json, logging
from flowhook import on

@on("*")
def works(event):
    told = [type(event).__name__, event.type, event.id, event.model_dump_json(by_alias=True)]
    told += [event.body.decode(), event.traceparent, event.delivery_attempt, dict(event.properties)]
    logging.getLogger("seen").info("works %s", hash_of(told + [str(event.changes())]))

def hash_of(told):
    import hashlib
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()
"""
TRACE = {b"traceparent": b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"}
EVENT = samples.load("packets.created")


def envelope(data: bytes, **fields: Any) -> dict[str, Any]:
    message = {"data": base64.b64encode(data).decode(), "attributes": {}, "messageId": "1"}
    return {"message": message, "subscription": "projects/demo/subscriptions/s", **fields}


def push(consumer: Receiver, path: str, body: object) -> httpx2.Response:
    """Deliver as Pub/Sub does."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return consumer.client.post(path, content=content, headers={"content-type": "application/json"})


def seen(consumer: Receiver, *names: str) -> list[str]:
    """What the handlers of these names told, one line a call."""
    told = [line["message"] for line in consumer.lines() if line["logger"] == "seen"]
    return [line for line in told if not names or line.split()[0] in names]


@pytest.fixture(scope="module")
def rejected(emulator: Emulator) -> str:
    return broker.topic(emulator)


@pytest.fixture(scope="module")
def consumer(
    emulator: Emulator, rejected: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Receiver]:
    tmp_path = tmp_path_factory.mktemp("consumer")
    source = project(tmp_path, mine=HANDLERS)
    # It needs no secret, and should not be able to read it.
    settings = broker.settings(emulator, "unused", REJECTED_TOPIC=rejected, WEBHOOK_SECRET="")
    with receiver(tmp_path, source, target="consume", **settings) as started:
        yield started


def test_a_push_is_answered_by_what_must_happen_next(consumer: Receiver) -> None:
    pushed = envelope(EVENT)
    assert push(consumer, "/mine.works", pushed).status_code == 204
    assert push(consumer, "/mine.fails", pushed).status_code == 500
    assert push(consumer, "/mine.rejects", pushed).status_code == 204
    other = envelope(samples.load("users.created"))
    assert push(consumer, "/mine.fails", other).status_code == 204
    assert push(consumer, "/", other).status_code == 204
    assert len(seen(consumer, "fails")) == 1
    response = push(consumer, "/mine.nobody", pushed)
    assert (response.status_code, response.json()["type"]) == (404, "urn:flowhook:problem:unknown-handler")
    assert consumer.client.get("/mine.works").status_code == 405
    outcomes = [line["outcome"] for line in consumer.deliveries()]
    assert outcomes == ["handled", "handler-failed", "handled", "ignored", "handled", *outcomes[5:]]


def test_a_204_has_no_body(consumer: Receiver) -> None:
    response = push(consumer, "/mine.works", envelope(EVENT))
    assert response.content == b""
    assert "content-type" not in response.headers


def test_the_attempt_is_told_to_the_handler(consumer: Receiver) -> None:
    push(consumer, "/mine.works", envelope(samples.load("users.updated"), deliveryAttempt=3))
    assert seen(consumer, "works")[-1].endswith(" 3")


@pytest.mark.parametrize(
    ("body", "kept"),
    [
        (b"", b""),
        (b"{", b"{"),
        (b'{"message": {"data": "not base64"}}', b'{"message": {"data": "not base64"}}'),
        (EVENT, EVENT),
        (envelope(b"no event"), b"no event"),
        (envelope(b'{"a": 1}'), b'{"a": 1}'),
    ],
)
def test_what_will_never_be_an_event_is_kept_and_does_not_come_again(
    consumer: Receiver, emulator: Emulator, rejected: str, body: object, kept: bytes
) -> None:
    emulator.pull(rejected)
    response = push(consumer, "/mine.works", body)
    assert (response.status_code, response.content) == (204, b"")
    (message,) = emulator.pull(rejected)
    assert base64.b64decode(message.get("data", "")) == kept
    line = consumer.deliveries()[-1]
    assert line["outcome"] == message["attributes"]["reason"]
    assert (line["severity"], line["status"]) == ("WARNING", 204)


def test_what_cannot_be_kept_comes_again(emulator: Emulator, tmp_path: Path) -> None:
    settings = broker.settings(emulator, "unused", REJECTED_TOPIC="nowhere")
    source = project(tmp_path, mine=HANDLERS)
    with receiver(tmp_path, source, target="consume", **settings) as consumer:
        assert push(consumer, "/mine.works", b"{").status_code == 503
        assert push(consumer, "/mine.rejects", envelope(EVENT)).status_code == 503


def test_without_a_topic_to_keep_it_in_it_is_not_acknowledged(tmp_path: Path) -> None:
    """A subscription that does not wrap events must not eat them; dead letters may take them."""
    with receiver(tmp_path, project(tmp_path, mine=HANDLERS), target="consume") as consumer:
        assert push(consumer, "/mine.works", EVENT).status_code == 400
        assert push(consumer, "/mine.works", envelope(b"{}")).status_code == 422
        assert "It is not kept." in consumer.deliveries()[-1]["message"]


def test_a_message_as_large_as_pubsub_takes_gets_through(consumer: Receiver) -> None:
    document = {**json.loads(samples.load("packets.deleted")), "padding": "x" * 9_900_000}
    assert push(consumer, "/mine.works", envelope(json.dumps(document).encode())).status_code == 204


def test_the_secret_is_no_use_to_the_consumer(tmp_path: Path) -> None:
    """It starts without one, and `receive` in the same settings accepts nothing."""
    with receiver(tmp_path, project(tmp_path), target="consume", WEBHOOK_SECRET="") as consumer:
        assert push(consumer, "/", envelope(EVENT)).status_code == 204


@dataclass(frozen=True)
class Wired:
    """`receive`, the emulator and `consume`, with a push subscription for each handler."""

    receive: Receiver
    consume: Receiver
    rejected: str


@contextmanager
def wired(emulator: Emulator, tmp_path: Path, source: str, *names: str) -> Iterator[Wired]:
    topic, rejected = broker.topic(emulator), broker.topic(emulator)
    settings = broker.settings(emulator, topic, REJECTED_TOPIC=rejected)
    folder = project(tmp_path, mine=source)
    with (
        receiver(tmp_path, folder, target="consume", **settings) as consumer,
        receiver(tmp_path, folder, **settings) as received,
    ):
        for name in names:
            emulator.subscribe(
                f"{topic}-{name}",
                topic,
                pushConfig={"pushEndpoint": f"{consumer.url}/mine.{name}"},
                retryPolicy={"minimumBackoff": "0.1s", "maximumBackoff": "0.5s"},
            )
        yield Wired(received, consumer, rejected)


def handled_by(consumer: Receiver, name: str) -> list[dict[str, Any]]:
    return [line for line in consumer.deliveries() if name in line.get("handlers", [])]


def test_a_handler_that_fails_is_called_until_it_succeeds_and_holds_up_no_other(
    emulator: Emulator, tmp_path: Path
) -> None:
    with wired(emulator, tmp_path, HANDLERS, "fails", "rejects", "works") as both:
        assert both.receive.post(EVENT).status_code == 200
        until(lambda: bool(handled_by(both.consume, "mine.fails")))
        # Had the others been delivered again, it would have been by now: three retries have gone by.
        told = [line.split()[0] for line in seen(both.consume)]
        assert Counter(told) == {"works": 1, "fails": 4, "rejects": 1}
        assert "works" in told[:3]
        (kept,) = emulator.pull(both.rejected)
        assert base64.b64decode(kept["data"]) == EVENT
        assert (kept["attributes"]["handler"], kept["attributes"]["reason"]) == ("mine.rejects", "rejected")


def test_both_deliveries_call_the_same_handlers_with_equal_events(emulator: Emulator, tmp_path: Path) -> None:
    inline_folder, pushed_folder = tmp_path / "inline", tmp_path / "pushed"
    inline_folder.mkdir()
    pushed_folder.mkdir()
    with receiver(inline_folder, project(inline_folder, mine=TELLING)) as inline:
        for name in samples.TYPES:
            assert inline.post(samples.load(name), TRACE).json()["handlers"] == ["mine.works"]
        expected = sorted(seen(inline))
    assert len(set(expected)) == 24
    with wired(emulator, pushed_folder, TELLING, "works") as both:
        for name in samples.TYPES:
            assert both.receive.post(samples.load(name), TRACE).status_code == 200
        until(lambda: len(handled_by(both.consume, "mine.works")) == 24)
        assert sorted(seen(both.consume)) == expected


def test_a_replay_is_for_its_handler_alone_and_on_its_path_alone(consumer: Receiver) -> None:
    body = samples.load("entities.created")
    replayed = envelope(body)
    replayed["message"]["attributes"] = {"handler": "mine.works", "replay": "incident-7"}
    before = len(seen(consumer))
    assert push(consumer, "/replay", replayed).status_code == 204
    assert [line.split()[0] for line in seen(consumer)[before:]] == ["works"]
    replayed["message"]["attributes"]["handler"] = "mine.nobody"
    assert push(consumer, "/replay", replayed).status_code == 404
    assert push(consumer, "/replay", envelope(body)).status_code == 404
    assert push(consumer, "/mine.works", replayed).status_code == 204


def test_what_is_sent_again_goes_to_the_handler_that_it_names(consumer: Receiver) -> None:
    event = samples.load("packets.updated")
    before = len(seen(consumer))
    named = envelope(event)
    named["message"]["attributes"] = {"handler": "mine.works", "replay": "1"}
    assert push(consumer, "/replay", named).status_code == 204
    (line,) = seen(consumer)[before:]
    assert line.startswith("works packets.updated")
    named["message"]["attributes"] = {"handler": "mine.nobody"}
    assert push(consumer, "/replay", named).status_code == 404
    # One that names no handler is for none, and not for all.
    assert push(consumer, "/replay", envelope(event)).status_code == 404
    assert len(seen(consumer)) == before + 1
