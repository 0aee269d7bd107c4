"""What somebody meets who tries the commands for the first time."""

import json
import re
from pathlib import Path

import pytest

from flowhook import samples
from flows_emulator import local
from flows_emulator.client import Emulator, EmulatorError
from tests.support.command_line import flowhook
from tests.support.ports import free_port
from tests.support.receiver import SECRET, Receiver

# Each test starts processes.
pytestmark = pytest.mark.slow


def test_samples_are_sent_as_they_are_changed(running: Receiver) -> None:
    changes = ["--became", "status=open:won", "--event", "entityPath=pipelinesPackets/pk-of-its-own"]
    done = flowhook("send", "packets.updated", *changes, "--url", running.url)
    assert done.returncode == 0, done.stderr
    assert running.deliveries()[-1]["entity_path"] == "pipelinesPackets/pk-of-its-own"
    wrong = flowhook("send", "packets.created", "--became", "status=open:won", "--url", running.url)
    assert "packets.created: only an update becomes something" in wrong.stderr


def test_a_file_is_sent_as_it_is_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "event.json"
    path.write_bytes(samples.load("users.created"))
    for command in (["send"], ["emulate", "send"]):
        done = flowhook(*command, "--file", str(path), "--set", "a=b")
        assert done.returncode == 1
        assert "--set, --became and --event" in done.stderr


def test_the_fixture_lets_an_event_happen_as_it_is_told(flows: Emulator) -> None:
    [delivery] = flows.send("packets.created", properties={"status": "won", "tags": ["a"]})
    properties = json.loads(delivery.body)["data"]["value"]["properties"]
    assert (properties["status"], properties["tags"]) == ("won", ["a"])
    [update] = flows.send(
        "packets.updated", became={"status": ("open", "won")}, fields={"organizationId": "o"}
    )
    event = json.loads(update.body)
    assert event["organizationId"] == "o"
    assert event["data"]["updateMask"] == ["status"]
    assert event["data"]["oldValue"]["properties"]["status"] == "open"
    assert event["data"]["value"]["properties"]["status"] == "won"
    assert update.status == 200
    with pytest.raises(EmulatorError, match="only an update"):
        flows.send("packets.created", became={"status": ("open", "won")})
    with pytest.raises(EmulatorError, match="go with type"):
        flows.send("packets.updated", manner="stale", properties={"status": "won"})
    sent = flowhook(
        "emulate", "send", "packets.updated", "--became", "status=open:lost", FLOWS_EMULATOR=flows.url
    )
    assert sent.returncode == 0, sent.stderr
    newest = flows.delivery(flows.deliveries(1)[0]["id"])
    assert json.loads(newest.body)["data"]["value"]["properties"]["status"] == "lost"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["emulate", "stream", "--rate", "0"], "argument --rate: '0' is not a number above 0"),
        (["emulate", "stream", "--count", "-3"], "argument --count: '-3' is not a number above 0"),
        (["send", "--all", "--rate", "fast"], "argument --rate: 'fast' is not a number above 0"),
    ],
)
def test_a_wrong_number_is_called_what_it_is(arguments: list[str], words: str) -> None:
    done = flowhook(*arguments)
    assert done.returncode == 2
    assert words in done.stderr


@pytest.mark.parametrize("address", ["not-a-url", "http://", "http://[::1", "127.0.0.1:8080"])
@pytest.mark.parametrize(
    "command", [["send", "--all", "--url"], ["doctor", "--url"], ["emulate", "connect"]], ids=lambda c: c[0]
)
def test_an_address_is_looked_at_before_a_secret_is_asked_for(command: list[str], address: str) -> None:
    done = flowhook(*command, address, WEBHOOK_SECRET="")
    assert done.returncode == 1
    assert f"{address} is not a URL" in done.stderr
    assert "secret" not in done.stderr


def test_the_doctor_offers_flows_no_address_of_this_machine(running: Receiver) -> None:
    done = flowhook("doctor", "--url", running.url)
    assert done.returncode == 0, done.stdout
    assert "which Flows can't reach" in done.stdout
    assert "The URL for Flows" not in done.stdout


def test_an_event_is_no_form_raw_response(tmp_path: Path) -> None:
    path = tmp_path / "event.json"
    path.write_bytes(samples.load("packets.updated"))
    done = flowhook("check", str(path))
    assert done.returncode == 1
    assert "is an event, not the settings of an integration; copy the whole Form RAW Response" in done.stderr


def test_raw_is_that_of_the_newest_that_sends(tmp_path: Path) -> None:
    first, second, third = (f"http://127.0.0.1:{free_port()}" for _ in range(3))
    with local.emulator(tmp_path / "data") as emulator:

        def shown() -> str:
            raw = json.loads(flowhook("emulate", "raw", FLOWS_EMULATOR=emulator.url).stdout)
            url: str = raw["configuration"]["url"]
            return url

        for url in (first, second):
            emulator.connect(url, SECRET.decode())
        emulator.connect(third, SECRET.decode(), paused=True)
        assert shown() == second
        emulator.disconnect(second)
        assert shown() == first
        emulator.disconnect(first)
        assert shown() == third
        emulator.disconnect(third)
        assert shown() == third


def test_without_a_command_the_first_three_are_shown() -> None:
    done = flowhook()
    assert done.returncode == 0
    assert re.findall(r"python -m flowhook (\w+)", done.stdout)[:3] == ["run", "send", "emulate"]
    assert "--help" in done.stdout
