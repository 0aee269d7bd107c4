"""What is captured is sent as any event is: by `send`, and by the emulator."""

from pathlib import Path

import pytest

from flowhook import samples
from flowhook.testing import captured
from flows_emulator import local
from tests.support.command_line import flowhook
from tests.support.receiver import SECRET, Receiver, project

# Each test starts processes.
pytestmark = pytest.mark.slow


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A project in which a sample of each of two types is captured."""
    export = tmp_path / "export"
    export.mkdir()
    for event_type in ("packets.updated", "users.created"):
        (export / f"{event_type}.json").write_bytes(samples.load(event_type))
    here = project(tmp_path)
    done = flowhook("capture", "--export", str(export), cwd=here)
    assert done.returncode == 0, done.stderr
    return here


def test_captured_events_are_sent(folder: Path, running: Receiver) -> None:
    to = ("--url", running.url)
    done = flowhook("send", "--captured", *to, cwd=folder, WEBHOOK_SECRET=SECRET.decode())
    assert "2 of 2 accepted" in done.stdout
    done = flowhook("send", "--captured", "users.*", *to, cwd=folder, WEBHOOK_SECRET=SECRET.decode())
    assert "1 of 1 accepted" in done.stdout
    done = flowhook("send", "--captured", "projects.*", *to, cwd=folder, WEBHOOK_SECRET=SECRET.decode())
    assert done.returncode == 1
    assert "nothing of projects.* is captured" in done.stderr


def test_the_emulator_sends_what_is_captured_and_its_deliveries_are_captured(
    folder: Path, running: Receiver
) -> None:
    with local.emulator(folder / "flows.sqlite3") as emulator:
        emulator.connect(running.url, SECRET.decode())
        done = flowhook("emulate", "send", "--captured", "--at", emulator.url, cwd=folder)
        assert done.returncode == 0, done.stderr
        again = flowhook("capture", "--emulator", emulator.url, "--name", "again", cwd=folder)
        assert again.returncode == 0, again.stderr
    found = captured(folder=folder / "tests" / "captured")
    assert sorted(event.type for event in found) == sorted(["packets.updated", "users.created"] * 2)
