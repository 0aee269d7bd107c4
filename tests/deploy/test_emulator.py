"""The commands about letters against the real Pub/Sub emulator, which has nothing but messages."""

import base64
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from flowhook.cli.deploy import ByHttp
from flowhook.cli.pubsub_emulator import Emulator
from flowhook.deploy import commands
from flowhook.deploy.surroundings import Surroundings
from tests.support import broker

CHAT = "notify_chat.notify_chat"


class Terminal:
    """Types commands about an installation of the emulator, whose name is its own."""

    def __init__(self, emulator: Emulator, folder: Path, name: str) -> None:
        self.emulator = emulator
        self.name = name
        self._folder = folder
        self._told: list[str] = []
        for what in ("dead-letters", "replay"):
            broker.topic(emulator, f"{name}-{what}")

    def run(self, *words: str) -> tuple[int, str]:
        self._told.clear()
        where = ["--project", self.emulator.project, "--name", self.name, "--emulator"]
        around = Surroundings(self._folder, ByHttp(), tell=self._told.append, show=self._told.append)
        return commands.main([*words, *where], around), "\n".join(self._told)

    def publish(self, count: int) -> None:
        digest = hashlib.sha256(self.name.encode()).hexdigest()[:8]
        source = f"{self.name}-{CHAT}-{digest}"
        attributes = {"CloudPubSubDeadLetterSourceSubscription": source, "category": "packets"}
        messages = [
            {"data": base64.b64encode(str(number).encode()).decode(), "attributes": attributes}
            for number in range(count)
        ]
        self.emulator._send("POST", f"/topics/{self.name}-dead-letters:publish", {"messages": messages})


@pytest.fixture
def terminal(emulator: Emulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Terminal:
    monkeypatch.setenv("PUBSUB_EMULATOR_HOST", emulator.host)
    monkeypatch.chdir(tmp_path)
    return Terminal(emulator, tmp_path, f"letters-{tmp_path.name[-2:].strip('_').rjust(2, 'x')}")


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
