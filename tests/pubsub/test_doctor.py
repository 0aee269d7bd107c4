"""The doctor and its event: authentic and valid, and no business of anybody's handlers."""

import asyncio
import base64
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from flowhook import canary, envelope
from flowhook.categories import Pattern
from flowhook.cli import main
from flowhook.cli.pubsub_emulator import Emulator
from flowhook.delivery import Outcome
from flowhook.envelope import Envelope
from flowhook.events import Event
from flowhook.handler import Handler
from flowhook.routing import Router
from flowhook.testing import make_event
from tests.support import broker
from tests.support.ports import free_port
from tests.support.receiver import SECRET, Receiver, project, receiver

EVENT = canary.body("a-nonce")
LOUD = """from flowhook import on

@on("*")
def act(event):
    raise AssertionError(event)
"""


@pytest.fixture
def secret_file(tmp_path: Path) -> Path:
    path = tmp_path / "secret"
    path.write_bytes(SECRET + b"\nthe-one-before\n")
    return path


async def run_behind(made: Router, path: str, event: Envelope) -> Outcome:
    return await made.behind(path)(event)


def router(act: Callable[[Event], None]) -> Router:
    async def keep(event: Envelope, handler: str, reason: str) -> bool:
        return True

    return Router((Handler("mine.act", (Pattern("*", "*"),), act),), 5.0, keep)


def test_the_event_is_one_and_is_told_from_every_other() -> None:
    event = envelope.read(EVENT)
    assert event.type == "other.created"
    assert canary.is_canary(event)
    assert not canary.is_canary(Envelope.of(make_event("packets.created")))
    assert canary.body("a") != canary.body("b")


@pytest.mark.parametrize("path", ["/", "/mine.act", f"/{canary.HANDLER}"])
def test_no_handler_gets_the_doctors_event(path: str) -> None:
    seen: list[Event] = []
    outcome = asyncio.run(run_behind(router(seen.append), path, envelope.read(EVENT)))
    assert seen == []
    rejected = {} if path == "/mine.act" else {canary.HANDLER: "the doctor's event: nothing acts on it"}
    assert (outcome.outcome, outcome.rejected) == ("ignored" if path == "/mine.act" else "handled", rejected)


def test_the_built_in_handler_gets_no_other_event() -> None:
    seen: list[Event] = []
    made = router(seen.append)
    event = Envelope.of(make_event("packets.created"))
    assert asyncio.run(run_behind(made, f"/{canary.HANDLER}", event)).outcome == "ignored"
    assert asyncio.run(made.deliver(event)).handlers == ("mine.act",)
    assert seen == [asyncio.run(event.open())]


def test_events_that_are_not_wanted_do_not_hide_the_doctors(tmp_path: Path) -> None:
    with receiver(tmp_path, project(tmp_path, mine=LOUD), EVENTS="packets.*") as started:
        assert started.post(EVENT).json()["rejected"] == [canary.HANDLER]


def test_consume_keeps_the_doctors_event_for_the_doctor(emulator: Emulator, tmp_path: Path) -> None:
    rejected = broker.topic(emulator)
    settings = broker.settings(emulator, "unused", REJECTED_TOPIC=rejected)
    pushed = json.dumps({"message": {"data": base64.b64encode(EVENT).decode(), "messageId": "1"}}).encode()
    with receiver(tmp_path, project(tmp_path, mine=LOUD), target="consume", **settings) as consumer:
        for path in ("/mine.act", f"/{canary.HANDLER}"):
            assert consumer.client.post(path, content=pushed).status_code == 204
    (message,) = emulator.pull(rejected)
    assert base64.b64decode(message["data"]) == EVENT
    assert message["attributes"]["handler"] == canary.HANDLER


def test_a_receiver_that_works_is_told_to_work(
    running: Receiver, secret_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["doctor", "--url", running.url, "--secret-file", str(secret_file)]) == 0
    told = capsys.readouterr().out
    assert told.count(" ok ") == 4
    assert running.url in told
    assert SECRET.decode() not in told


def test_a_secret_that_is_not_accepted_is_told(
    running: Receiver, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong = tmp_path / "wrong"
    wrong.write_text("not-the-secret-of-this-receiver")
    assert main(["doctor", "--url", running.url, "--secret-file", str(wrong)]) == 1
    told = capsys.readouterr().out
    # The event is refused, and so is the malformed body, for the wrong reason.
    assert "2 of 4 are not as they should be" in told


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (["--url", "receive.example"], "begins with http://"),
        (["--url", "{nobody}"], "nothing answers at"),
        (["--url", "{nobody}", "--project", "p"], "--project goes with --topic"),
        (["--url", "{nobody}", "--topic", "t"], "--project goes with --topic"),
        (["--url", "{nobody}", "--auth", "auto"], "not to sign"),
    ],
)
def test_a_mistake_is_told(
    more: list[str], told: str, secret_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    nobody = f"http://127.0.0.1:{free_port()}"
    arguments = [argument.format(nobody=nobody) for argument in more]
    assert main(["doctor", "--secret-file", str(secret_file), *arguments]) == 1
    assert told in capsys.readouterr().err


def test_without_a_login_the_doctor_cannot_look_into_pubsub(
    secret_file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setenv("HOME", "/nowhere")
    # Where there is no machine of Google's, nobody is asked for its credentials.
    monkeypatch.setenv("NO_GCE_CHECK", "true")
    arguments = ["doctor", "--url", "http://127.0.0.1:1", "--secret-file", str(secret_file)]
    assert main([*arguments, "--project", "p", "--topic", "t"]) == 1
    assert "gcloud is not installed" in capsys.readouterr().err
