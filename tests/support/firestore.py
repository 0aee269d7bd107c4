"""The real Firestore emulator, or a skip that says why there is none."""

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from flowhook.cli.run import HOST, free_port, listens

PATIENCE = 60.0


class Firestore:
    """An emulator that can be stalled and ended; its data is lost when it ends."""

    def __init__(self, script: Path) -> None:
        self.port = free_port()
        self.host = f"{HOST}:{self.port}"
        # It gets a process group of its own, because the script starts Java, which must end as well.
        self._process = subprocess.Popen(
            [str(script), "start", f"--host={HOST}", f"--port={self.port}"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def wait(self) -> None:
        deadline = time.monotonic() + PATIENCE
        while not listens(self.port):
            assert self._process.poll() is None, "the Firestore emulator ended"
            assert time.monotonic() < deadline, "the Firestore emulator did not start"
            time.sleep(0.05)

    def stall(self) -> None:
        """Leave every connection open, and answer none."""
        os.killpg(self._process.pid, signal.SIGSTOP)

    def go_on(self) -> None:
        os.killpg(self._process.pid, signal.SIGCONT)

    def end(self) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()


def find() -> Path | None:
    """The emulator's start script, if it and Java are installed."""
    gcloud = shutil.which("gcloud")
    if not gcloud or not shutil.which("java"):
        return None
    folder = Path(gcloud).resolve().parent.parent / "platform" / "cloud-firestore-emulator"
    script = folder / "cloud_firestore_emulator"
    return script if script.exists() else None


@contextmanager
def started() -> Iterator[Firestore]:
    """An emulator; without one installed the test is skipped, with REQUIRE_EMULATOR=1 it fails."""
    script = find()
    if script is None:
        missing = "the Firestore emulator is missing: gcloud components install cloud-firestore-emulator"
        assert os.environ.get("REQUIRE_EMULATOR") != "1", missing
        pytest.skip(missing)
    emulator = Firestore(script)
    try:
        emulator.wait()
        yield emulator
    finally:
        emulator.end()
