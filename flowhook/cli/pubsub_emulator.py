"""The Pub/Sub emulator of the Google Cloud CLI, as a process on loopback. Its data is lost when it ends.

It ignores filters, sends no tokens and knows few of the service's limits.
https://cloud.google.com/pubsub/docs/emulator
"""

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

import httpx2

from flowhook.cli.errors import CommandError
from flowhook.cli.run import HOST

# Seconds that a process may take to start, including Java's.
PATIENCE = 60.0
PULLED_AT_ONCE = 1_000


def find() -> Path:
    """The emulator's start script. Raises CommandError where it or Java is not installed."""
    gcloud = shutil.which("gcloud")
    if not gcloud:
        raise CommandError("gcloud is not installed: see https://cloud.google.com/sdk/docs/install")
    root = Path(gcloud).resolve().parent.parent
    script = root / "platform" / "pubsub-emulator" / "bin" / "cloud-pubsub-emulator"
    if not script.exists():
        raise CommandError("the Pub/Sub emulator is missing: gcloud components install pubsub-emulator")
    if not shutil.which("java"):
        raise CommandError("the Pub/Sub emulator needs Java, and there is none on the PATH")
    return script


def wait_until(ready: Callable[[], bool], process: subprocess.Popen[bytes], name: str) -> None:
    """Return once the process is ready. Raises CommandError where it ends or takes too long."""
    deadline = time.monotonic() + PATIENCE
    while not ready():
        if process.poll() is not None or time.monotonic() > deadline:
            raise CommandError(f"{name} did not start")
        time.sleep(0.05)


class Emulator:
    """A running emulator with the project `demo`. Call `end`, or use it as a context manager."""

    project = "demo"

    def __init__(self, port: int, output: IO[bytes] | int = subprocess.DEVNULL) -> None:
        """Start it. Raises CommandError where it does not listen in time."""
        self.host = f"{HOST}:{port}"
        self._output = output
        self._client = httpx2.Client(
            base_url=f"http://{self.host}/v1/projects/{self.project}", timeout=PATIENCE
        )
        self.start()

    def start(self) -> None:
        """Start it, empty, on its port."""
        port = self.host.rpartition(":")[2]
        self.process = subprocess.Popen(  # noqa: S603 - the path was found above
            [str(find()), f"--host={HOST}", f"--port={port}"],
            env={name: value for name, value in os.environ.items() if name != "JAVA_TOOL_OPTIONS"},
            stdin=subprocess.DEVNULL,
            stdout=self._output,
            stderr=self._output,
            start_new_session=True,
        )
        try:
            wait_until(self._answers, self.process, f"the Pub/Sub emulator on {self.host}")
        except BaseException:
            # After Ctrl-C too: Java must not outlive this process.
            self.end()
            raise

    def __enter__(self) -> "Emulator":
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def end(self) -> None:
        """End it for good."""
        self.kill()
        self._client.close()

    def kill(self) -> None:
        """Kill it; its data is lost, and it may be started again."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def create_topic(self, topic: str) -> None:
        """Create a topic."""
        self._send("PUT", f"/topics/{topic}", {})

    def delete_topic(self, topic: str) -> None:
        """Delete a topic."""
        self._send("DELETE", f"/topics/{topic}")

    def subscribe(self, name: str, topic: str, **settings: Any) -> None:
        """Create a subscription, with the fields of the REST resource as `settings`."""
        path = f"projects/{self.project}/topics/{topic}"
        self._send("PUT", f"/subscriptions/{name}", {"topic": path, "ackDeadlineSeconds": 60, **settings})

    def pull(self, name: str) -> list[Mapping[str, Any]]:
        """Pull and acknowledge the messages of a subscription; empty if there is none."""
        body = {"maxMessages": PULLED_AT_ONCE, "returnImmediately": True}
        received = self._send("POST", f"/subscriptions/{name}:pull", body).get("receivedMessages", [])
        if received:
            self._acknowledge(name, [message["ackId"] for message in received])
        return [message["message"] for message in received]

    def _acknowledge(self, name: str, ids: Sequence[str]) -> None:
        self._send("POST", f"/subscriptions/{name}:acknowledge", {"ackIds": ids})

    def _answers(self) -> bool:
        try:
            return self._client.get(f"http://{self.host}/").status_code == 200
        except httpx2.HTTPError:
            return False

    def _send(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        response = self._client.request(method, path, json=body)
        if response.is_error:
            raise CommandError(f"the Pub/Sub emulator refused {method} {path}: {response.text}")
        document: dict[str, Any] = response.json()
        return document
