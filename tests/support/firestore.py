"""The real Firestore emulator, or a skip that says why there is none."""

import asyncio
import os
import shutil
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

import flowhook.firestore
from flowhook.cli.run import HOST, listens
from flowhook.errors import LedgerUnavailable
from flowhook.once import Key
from tests.support.ports import free_port

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
        """Wait until it answers in time: the first answer of Java takes seconds on a busy machine."""
        deadline = time.monotonic() + PATIENCE
        while not listens(self.port) or not asyncio.run(_answers(self.host)):
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


@asynccontextmanager
async def store(project: str = "demo") -> AsyncIterator[flowhook.firestore.Firestore]:
    """A store with a client of its own, as each instance has one."""
    made = flowhook.firestore.Firestore(project, "(default)")
    try:
        yield made
    finally:
        if made._client is not None:
            # It returns an awaitable at run time, whatever its types say.
            closing: Any = made._client.close()
            if closing is not None:
                await closing


async def _answers(host: str) -> bool:
    """Whether it answered each kind of call in time, in a project of no test."""
    key = Key("flowhook.wait", host, "")
    with mock.patch.dict(os.environ, FIRESTORE_EMULATOR_HOST=host):
        async with store("waited-for") as made:
            try:
                await made.claim(key, 60, "one")
                await made.claim(key, 60, "two")
                await made.release(key, "one")
                await made.record(key, 60)
            except LedgerUnavailable:
                return False
    return True


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
