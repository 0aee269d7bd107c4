"""The commands about letters against the real Pub/Sub emulator, which has nothing but messages."""

import base64
import hashlib
import itertools
import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from flowhook.cli.deploy import ByHttp
from flowhook.cli.pubsub_emulator import Emulator
from flowhook.deploy import commands
from flowhook.deploy.surroundings import Surroundings
from tests.deploy.test_stories_letters import real_event
from tests.support import broker

CHAT = "notify_chat.notify_chat"
NUMBERS = itertools.count()


class Terminal:
    """Types commands about an installation of the emulator, whose name is its own."""

    def __init__(self, emulator: Emulator, folder: Path, name: str) -> None:
        self.emulator = emulator
        self.name = name
        self._folder = folder
        self._told: list[str] = []
        for what in ("dead-letters", "replay"):
            broker.topic(emulator, f"{name}-{what}")

    def run(self, *words: str, bar: Callable[[str], None] | None = None) -> tuple[int, str]:
        self._told.clear()
        where = ["--project", self.emulator.project, "--name", self.name, "--emulator"]
        tell = self._told.append
        around = Surroundings(self._folder, ByHttp(), tell=tell, show=tell, bar=bar)
        return commands.main([*words, *where], around), "\n".join(self._told)

    def publish(self, count: int) -> None:
        digest = hashlib.sha256(self.name.encode()).hexdigest()[:8]
        source = f"{self.name}-{CHAT}-{digest}"
        attributes = {"CloudPubSubDeadLetterSourceSubscription": source, "category": "packets"}
        self.send("dead-letters", attributes, [str(number).encode() for number in range(count)])

    def send(self, topic: str, attributes: Mapping[str, str], bodies: Sequence[bytes]) -> None:
        messages = [{"data": base64.b64encode(b).decode(), "attributes": attributes} for b in bodies]
        self.emulator._send("POST", f"/topics/{self.name}-{topic}:publish", {"messages": messages})


@pytest.fixture
def terminal(emulator: Emulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Terminal:
    monkeypatch.setenv("PUBSUB_EMULATOR_HOST", emulator.host)
    monkeypatch.chdir(tmp_path)
    return Terminal(emulator, tmp_path, f"letters-{next(NUMBERS)}")


def numbers(messages: list[Mapping[str, Any]]) -> list[int]:
    return sorted(int(base64.b64decode(message["data"])) for message in messages)


def test_they_are_listed_sent_again_and_gone(terminal: Terminal) -> None:
    terminal.publish(230)
    for _ in range(2):
        status, told = terminal.run("dead-letters", "list", "--json")
        assert status == 0, told
        assert len(json.loads(told.rpartition("]")[0] + "]")) == 230
    status, told = terminal.run("dead-letters", "redrive", "--yes")
    assert (status, f"230 to {CHAT}" in told) == (0, True), told
    sent = broker.take(terminal.emulator, f"{terminal.name}-replay", 230)
    assert numbers(sent) == list(range(230))
    assert {message["attributes"]["handler"] for message in sent} == {CHAT}
    assert terminal.run("dead-letters", "list")[1] == "0 dead-letters; 0 seen."


def test_without_the_option_nothing_is_asked(terminal: Terminal, tmp_path: Path) -> None:
    told: list[str] = []
    around = Surroundings(tmp_path, ByHttp(), tell=told.append, show=told.append)
    assert commands.main(["dead-letters", "list", "--project", "demo-1"], around) == 1
    assert "--emulator" in told[0]


def interrupt(text: str) -> None:
    """As Ctrl-C does, once the first request has been sent."""
    if "100 of" in text:
        raise KeyboardInterrupt


@pytest.mark.slow
def test_a_replay_that_is_interrupted_goes_on_where_it_was(terminal: Terminal) -> None:
    retained = {"messageRetentionDuration": "86400s"}
    terminal.emulator._send("PUT", f"/topics/{terminal.name}-events", retained)
    attributes = {"category": "packets", "operation": "created"}
    terminal.send("events", attributes, [str(number).encode() for number in range(230)])
    terminal.send("events", {**attributes, "category": "users"}, [b"1000"])
    words = ("replay", CHAT, "--since", "1h", "--type", "packets.*", "--yes")
    status, told = terminal.run(*words, bar=interrupt)
    assert (status, "At least 230 events" in told) == (130, True), told
    status, told = terminal.run(*words)
    assert (status, "goes on" in told) == (0, True), told
    sent = broker.take(terminal.emulator, f"{terminal.name}-replay", 230)
    assert numbers(sent) == list(range(230))
    assert len({message["attributes"]["replay"] for message in sent}) == 1
    assert {message["attributes"]["handler"] for message in sent} == {CHAT}


def test_a_topic_that_keeps_nothing_or_is_not_there_is_told(terminal: Terminal) -> None:
    words = ("replay", CHAT, "--since", "1h", "--yes")
    assert f"there is no topic {terminal.name}-events" in terminal.run(*words)[1]
    terminal.emulator.create_topic(f"{terminal.name}-events")
    status, told = terminal.run(*words)
    assert (status, "the topic keeps nothing" in told) == (1, True)


def test_an_export_is_sent_and_one_that_is_interrupted_goes_on(terminal: Terminal) -> None:
    terminal.send("dead-letters", {"handler": CHAT}, [real_event(number) for number in range(130)])
    assert terminal.run("dead-letters", "export", "--output", "letters.jsonl")[0] == 0
    words = ("replay", CHAT, "--file", "letters.jsonl", "--yes")
    assert terminal.run(*words, bar=interrupt)[0] == 130
    status, told = terminal.run(*words)
    assert (status, "It goes on: 100 have been sent before" in told) == (0, True), told
    sent = broker.take(terminal.emulator, f"{terminal.name}-replay", 130)
    assert Counter(base64.b64decode(one["data"]) for one in sent) == Counter(map(real_event, range(130)))
