"""`run` serves what is saved, and goes on with the old code while the new one can't be used."""

import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx2
import pytest

from flowhook import samples
from flowhook.cli.run import DEVELOPMENT_SECRET
from tests.support.command_line import flowhook
from tests.support.ports import free_port
from tests.support.receiver import PATIENCE, Receiver, environment, project, until

# Each test starts processes.
pytestmark = pytest.mark.slow

HANDLER = "from flowhook import on\n@on('*')\ndef {name}(event): ...\n"
SIGNED = {"authorization": f"Bearer {DEVELOPMENT_SECRET}", "content-type": "application/json"}


@contextmanager
def served(source: Path, output: Path) -> Iterator[Receiver]:
    """`run` in a project, once it has said how to reach it."""
    port = free_port()
    with output.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "flowhook", "run", "--port", str(port)],
            cwd=source,
            env=environment(WEBHOOK_SECRET=""),
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
        )
    try:
        until(lambda: "--data-binary" in output.read_text() or process.poll() is not None)
        yield Receiver(process, port, output)
    finally:
        process.terminate()
        process.wait(PATIENCE)


def handlers(running: Receiver) -> list[str]:
    """Who takes an event at present."""
    # By a client of its own, for a connection that is kept would end with its server.
    with httpx2.Client(timeout=PATIENCE, trust_env=False) as client:
        answer = client.post(running.url, content=samples.load("users.created"), headers=SIGNED)
    found: list[str] = answer.json()["handlers"]
    return found


def test_what_is_saved_is_served_and_nobody_is_refused(tmp_path: Path) -> None:
    source = project(tmp_path, mine=HANDLER.format(name="old"))
    mine = source / "handlers" / "mine.py"
    seen: list[list[str]] = []
    stop = threading.Event()
    with served(source, tmp_path / "output") as running:

        def knock() -> None:
            while not stop.is_set():
                # A server that stops may close a connection that it has accepted and not read from yet.
                with suppress(httpx2.RemoteProtocolError, httpx2.ReadError, httpx2.WriteError):
                    seen.append(handlers(running))

        knocking = threading.Thread(target=knock)
        knocking.start()
        until(lambda: ["mine.old"] in seen)
        mine.write_text(HANDLER.format(name="broken").replace("(event)", "(event"))
        until(lambda: "can't be used; the old code goes on serving" in running.output())
        assert "SyntaxError" in running.output()
        assert handlers(running) == ["mine.old"]
        mine.write_text(HANDLER.format(name="newer"))
        until(lambda: ["mine.newer"] in seen)
        (source / "handlers" / "other.py").write_text(HANDLER.format(name="beside"))
        until(lambda: ["mine.newer", "other.beside"] in seen)
        stop.set()
        knocking.join(PATIENCE)
        # No connection was refused, for that would have raised in the thread, which fails a test.
        assert {tuple(names) for names in seen} == {
            ("mine.old",),
            ("mine.newer",),
            ("mine.newer", "other.beside"),
        }
        running.process.send_signal(signal.SIGTERM)
        assert running.process.wait(PATIENCE) == 0
    assert handlers_refused(running)


def handlers_refused(running: Receiver) -> bool:
    """Whether nobody listens any more, no server left behind included."""
    try:
        handlers(running)
    except httpx2.ConnectError:
        return True
    return False


def test_the_settings_file_is_watched_and_what_is_only_touched_is_left_alone(tmp_path: Path) -> None:
    source = project(tmp_path, mine=HANDLER.format(name="f"))
    with served(source, tmp_path / "output") as running:
        (source / "handlers" / "mine.py").touch()
        (source / "notes.txt").write_text("nothing that is served")
        (source / ".env").write_text("CHAT_WEBHOOK_URL=\n")
        until(lambda: ".env changed: it is served from now on." in running.output())
        assert handlers(running) == ["mine.f"]
        assert "mine.py changed" not in running.output()


def test_what_never_starts_prints_no_address(tmp_path: Path) -> None:
    source = project(tmp_path, mine=HANDLER.format(name="f"))
    for setting in ({"EVENTS": "packet.*"}, {"LOG_LEVEL": "LOUD"}):
        done = flowhook("run", "--port", str(free_port()), cwd=source, **setting)
        assert done.returncode == 1
        assert next(iter(setting)) in done.stderr
        assert "curl" not in done.stdout
