"""`python -m flowhook pubsub`, run as a person runs it."""

import signal
import subprocess
import sys
from pathlib import Path

from tests.support import broker
from tests.support.command_line import flowhook
from tests.support.ports import free_port
from tests.support.receiver import PATIENCE, environment, project, until


def test_pubsub_wires_everything_together_and_stops_all_of_it(tmp_path: Path) -> None:
    with broker.started():
        pass  # skipped, if there is no emulator
    port = free_port()
    output = tmp_path / "output"
    with output.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "flowhook", "pubsub", "--port", str(port)],
            cwd=project(tmp_path, mine="from flowhook import on\n@on('*')\ndef f(event): ..."),
            env=environment(WEBHOOK_SECRET=""),
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
        )
    try:
        until(lambda: "--data-binary" in output.read_text() or process.poll() is not None)
        sent = flowhook("send", "--all", "--url", f"http://127.0.0.1:{port}", WEBHOOK_SECRET="")
        assert sent.returncode == 0
        until(lambda: output.read_text().count(": handled by mine.f") == 24)
        assert output.read_text().count(": published as message ") == 24
        assert output.read_text().count("This emulator applies no filters") == 1
        family = descendants(process.pid)
        assert len(family) >= 3
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE) == 130
    finally:
        process.kill()
        process.wait()
    until(lambda: not family & set(parents()))


def descendants(pid: int) -> set[int]:
    """The processes that a process has started, and those that these have."""
    children = {child for child, parent in parents().items() if parent == pid}
    return children.union(*map(descendants, children))


def parents() -> dict[int, int]:
    """Every process that runs, and who started it."""
    listed = subprocess.run(["ps", "-axo", "pid=,ppid="], capture_output=True, text=True, check=True)
    rows = (line.split() for line in listed.stdout.splitlines())
    return {int(pid): int(parent) for pid, parent in rows}
