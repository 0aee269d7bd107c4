"""Starts the emulator and `receive` and connects them, for the tests of a project."""

import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from flowhook.cli.errors import CommandError
from flowhook.cli.pubsub_emulator import wait_until
from flowhook.cli.run import DEVELOPMENT_SECRET, HOST, command, environment, free_port, listens
from flows_emulator.client import Emulator

# Seconds. A test should not have to wait a whole second for the first retry.
FIRST_RETRY = "0.05"


@contextmanager
def flows(folder: Path) -> Iterator[Emulator]:
    """An emulator that sends every event to `receive` of the project here; `folder` gets logs and data.

    Raises CommandError, with the output, if one of them doesn't start.
    """
    port = free_port()
    settings = environment({"DELIVERY": "inline"})
    with (
        emulator(folder / "flows.sqlite3") as started,
        _started(command("receive", port), port, folder, settings),
    ):
        started.connect(f"http://{HOST}:{port}", DEVELOPMENT_SECRET)
        yield started


@contextmanager
def emulator(data: Path, *options: str) -> Iterator[Emulator]:
    """An emulator alone, without its page unless `options` say otherwise, in a process of its own."""
    port = free_port()
    start = [sys.executable, "-m", "flowhook", "emulate", "--port", str(port), "--data", str(data)]
    start += ["--first-retry", FIRST_RETRY, *(options or ("--headless",))]
    with _started(start, port, data.parent, None):
        client = Emulator(f"http://{HOST}:{port}")
        try:
            yield client
        finally:
            client.close()


@contextmanager
def _started(
    start: Sequence[str], port: int, folder: Path, settings: Mapping[str, str] | None
) -> Iterator[subprocess.Popen[bytes]]:
    log = folder / f"{port}.log"
    with log.open("wb") as output:
        process = subprocess.Popen(  # noqa: S603 - it is this Python
            start,
            env=settings,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        try:
            wait_until(lambda: listens(port), process, "it")
        except CommandError as error:
            raise CommandError(f"{error}: {' '.join(start)}\n{log.read_text()}") from None
        yield process
    finally:
        process.terminate()
        process.wait()
