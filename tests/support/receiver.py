"""The receiver as it is deployed: the real functions framework, in a process of its own, on loopback."""

import atexit
import functools
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx2

from flowhook import schemes
from flowhook.cli.run import listens
from flowhook.schemes import Proof, Scheme
from tests.support.ports import free_port

ROOT = Path(__file__).parents[2]
SUPPORT = Path(__file__).parent
SECRET = b"a-secret-of-32-characters-at-least"
COMMAND = Path(sys.executable).with_name("functions-framework")
PATIENCE = 30.0
# Every scheme that sends its proof in headers.
FORMS = (
    "bearer",
    "basic",
    "header:x-a",
    "standard-webhooks",
    "hmac-sha256:x-a",
    "hmac-sha1:x-a",
    "hmac-sha512:x-a",
)


def pinned(text: str) -> Scheme:
    """The scheme of a value of WEBHOOK_AUTH that is not `auto`."""
    scheme = schemes.parse(text)
    assert scheme is not None
    return scheme


class Receiver:
    """A running receiver. `lines()` are what it has logged so far."""

    def __init__(self, process: subprocess.Popen[bytes], port: int, output: Path) -> None:
        self.process = process
        self.port = port
        self.url = f"http://127.0.0.1:{port}"
        self._output = output
        self.client = httpx2.Client(base_url=self.url, timeout=PATIENCE)

    def post(
        self,
        body: bytes,
        headers: Mapping[bytes, bytes] | None = None,
        *,
        form: str = "bearer",
        secret: bytes | None = SECRET,
    ) -> httpx2.Response:
        """Send a body, signed unless the secret is None; `headers` override those of the signature."""
        proof = Proof() if secret is None else pinned(form).sign(secret, body)
        merged = {b"content-type": b"application/json", **proof.headers, **(headers or {})}
        return self.client.post(f"/?{proof.query.decode()}", content=body, headers=merged)

    def output(self) -> str:
        """Everything on standard output and error."""
        return self._output.read_text()

    def lines(self) -> list[dict[str, Any]]:
        """The log, a dictionary a line."""
        return [json.loads(line) for line in self.output().splitlines() if line.startswith("{")]

    def deliveries(self) -> list[dict[str, Any]]:
        """Only the lines of deliveries, complete for all deliveries that were answered."""
        # The receiver logs once per turn of its loop, after the answers: wait for an answer of a later turn.
        with suppress(httpx2.TransportError):
            if self.process.poll() is None:
                self.client.get("/robots.txt")
        return [line for line in self.lines() if line["logger"] == "flowhook"]

    def stop(self) -> int:
        """Ask it to stop as Cloud Run does, and return its exit status."""
        self.client.close()
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(PATIENCE)
        finally:
            end(self.process)


def environment(**settings: str) -> dict[str, str]:
    """The environment of a started process: the settings, and of this process's own only PATH."""
    defaults = {"PATH": os.environ["PATH"], "WEBHOOK_SECRET": SECRET.decode(), "PYTHONWARNINGS": "error"}
    merged = {**defaults, **_measuring(), **settings}
    return {name: value for name, value in merged.items() if value}


def _measuring() -> dict[str, str]:
    """Variables with which a started process measures coverage, if this one does."""
    found = {name: value for name, value in os.environ.items() if name.startswith("COVERAGE_")}
    return {**found, "PYTHONPATH": str(Path(__file__).with_name("measuring"))} if found else {}


def start(
    source: Path, port: int, output: Path, settings: Mapping[str, str], target: str = "receive"
) -> subprocess.Popen[bytes]:
    """Start the framework on `source`/main.py."""
    command = [str(COMMAND), f"--target={target}", f"--source={source / 'main.py'}"]
    with output.open("wb") as out:
        return subprocess.Popen(
            [*command, "--host=127.0.0.1", f"--port={port}"],
            env=environment(**settings),
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def end(process: subprocess.Popen[bytes]) -> None:
    """Kill the process with its workers; it may have ended already."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


@contextmanager
def receiver(
    tmp_path: Path, source: Path | None = None, *, target: str = "receive", **settings: str
) -> Iterator[Receiver]:
    """A receiver that listens (or, with its target, a consumer); stopped at the end.

    Without a source it serves `usual_project`.
    """
    source = source or usual_project()
    port = free_port()
    output = tmp_path / f"output-{port}"
    running = Receiver(start(source, port, output, settings, target), port, output)
    try:
        _wait_until_it_listens(running)
        yield running
    finally:
        running.stop()


def project(tmp_path: Path, **handlers: str) -> Path:
    """A copy of the project with other handlers: name of the module to its source."""
    source = tmp_path / "project"
    (source / "handlers").mkdir(parents=True)
    shutil.copy(ROOT / "main.py", source)
    for package in ("flowhook", "flows_emulator"):
        (source / package).symlink_to(ROOT / package)
    (source / "handlers" / "__init__.py").touch()
    for name, text in handlers.items():
        (source / "handlers" / f"{name}.py").write_text(text)
    return source


@functools.cache
def usual_project() -> Path:
    """The project with the handlers of the tests; those in `handlers/` are the user's."""
    folder = Path(tempfile.mkdtemp(prefix="flowhook-project-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    names = ("handlers/recorder.py", "my_handler.py")
    sources = {Path(name).stem: (SUPPORT / name).read_text() for name in names}
    return project(folder, **sources)


def until(condition: Callable[[], bool], patience: float = PATIENCE) -> None:
    """Wait for a condition to hold. Raises AssertionError if it never does."""
    deadline = time.monotonic() + patience
    while not condition():
        assert time.monotonic() < deadline, "it did not come true"
        time.sleep(0.02)


def _wait_until_it_listens(running: Receiver) -> None:
    def ready() -> bool:
        assert running.process.poll() is None, f"the receiver did not start:\n{running.output()}"
        return listens(running.port)

    until(ready)
