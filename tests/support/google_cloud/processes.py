"""Instances that really run: an archive is unpacked, built and served on loopback, with the Pub/Sub emulator.

What the functions publish goes to the emulator, which pushes it here; from here on it is in the fake's
Pub/Sub, which knows what the emulator doesn't.
"""

import base64
import hashlib
import http.server
import io
import json
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2

from flowhook.cli.pubsub_emulator import Emulator
from flowhook.cli.run import listens
from tests.support import receiver
from tests.support.google_cloud.exchange import Refusal, Reply
from tests.support.google_cloud.functions import Image
from tests.support.google_cloud.pubsub import PubSub
from tests.support.google_cloud.run import Call, Instance
from tests.support.ports import free_port

PUBLISHED_TO = ("PUBSUB_TOPIC", "REJECTED_TOPIC")


class Installed:
    """The requirements of an archive, installed once for all that have the same."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()

    def python(self, source: Path) -> Path:
        """A Python that has what the requirements there name, those of the handlers too, and nothing else."""
        listed = [path.read_bytes() for path in sorted(source.rglob("requirements.txt"))]
        environment = self._folder / hashlib.sha256(b"\0".join(listed)).hexdigest()[:16]
        python = environment / "bin" / "python"
        with self._lock:
            if not (environment / "done").exists():
                self._install(environment, python, source)
        return python

    @staticmethod
    def _install(environment: Path, python: Path, source: Path) -> None:
        subprocess.run([sys.executable, "-m", "venv", environment], check=True)
        install = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        listed = str(source / "requirements.txt")
        subprocess.run([*install, "-r", listed], check=True, stderr=subprocess.DEVNULL)
        (environment / "done").touch()


class Processes:
    """Builds images and starts them, as Google's buildpack and Cloud Run do."""

    def __init__(self, pubsub: PubSub, folder: Path, installed: Installed, emulator: Emulator) -> None:
        self._pubsub = pubsub
        self._folder = folder
        self._installed = installed
        self._emulator = emulator
        self._count = 0
        self._bridged: set[str] = set()
        self.gateway = ""

    def start(
        self, image: Image, account: str, environment: Mapping[str, str], files: Mapping[str, bytes]
    ) -> Instance:
        """Start an instance. Raises Refusal where the build fails, or where the container does not start."""
        self._count += 1
        source = self._folder / f"source-{self._count}"
        with zipfile.ZipFile(io.BytesIO(image.archive)) as unzipped:
            unzipped.extractall(source)
        python = self._installed.python(source)
        _compile(python, source, dict(image.built_with))
        for variable in PUBLISHED_TO:
            if topic := environment.get(variable):
                self._bridge(topic)
        given = {"PUBSUB_EMULATOR_HOST": self._emulator.host, **self._with_files(environment, files)}
        return _Process(python, source, image.target, given)

    def _with_files(self, environment: Mapping[str, str], files: Mapping[str, bytes]) -> dict[str, str]:
        """The environment, with the paths of mounted files where they are here."""
        here = {}
        for number, (path, payload) in enumerate(files.items()):
            here[path] = str(self._folder / f"mounted-{self._count}-{number}")
            Path(here[path]).write_bytes(payload)
        return {name: here.get(value, value) for name, value in environment.items()}

    def _bridge(self, topic: str) -> None:
        """Have what is published to the emulator's topic be published to the fake's."""
        if topic in self._bridged:
            return
        self._bridged.add(topic)
        base = f"http://{self._emulator.host}/v1/projects/{self._pubsub.project}"
        full = f"projects/{self._pubsub.project}/topics/{topic}"
        push = {"pushEndpoint": f"{self.gateway}/{topic}"}
        with httpx2.Client(timeout=30) as client:
            client.put(f"{base}/topics/{topic}", json={})
            made = client.put(f"{base}/subscriptions/{topic}", json={"topic": full, "pushConfig": push})
            made.raise_for_status()

    def publish(self, topic: str, body: bytes) -> None:
        """What the emulator has pushed. What the fake has no topic for is dropped, like Pub/Sub does."""
        message = json.loads(body)["message"]
        data, attributes = base64.b64decode(message.get("data", "")), message.get("attributes", {})
        if topic in self._pubsub.topics:
            self._pubsub.publish(topic, data, attributes)

    def clear(self) -> None:
        """Take everything out of the emulator again."""
        base = f"http://{self._emulator.host}/v1/projects/{self._pubsub.project}"
        with httpx2.Client(timeout=30) as client:
            for topic in self._bridged:
                client.delete(f"{base}/subscriptions/{topic}")
                client.delete(f"{base}/topics/{topic}")


class _Process:
    """functions-framework, serving one function."""

    def __init__(self, python: Path, source: Path, target: str, environment: Mapping[str, str]) -> None:
        self._port = free_port()
        self._client = httpx2.Client(timeout=90)
        output = source.with_suffix(".log")
        command = [str(python), "-m", "functions_framework", f"--source={source / 'main.py'}"]
        with output.open("wb") as out:
            self._process = subprocess.Popen(
                [*command, "--host=127.0.0.1", f"--target={target}", f"--port={self._port}"],
                env={"PATH": "/usr/bin:/bin", "FUNCTION_TARGET": target, **environment},
                cwd=source,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            receiver.until(lambda: self._process.poll() is not None or listens(self._port))
        except AssertionError:
            receiver.end(self._process)
        if self._process.poll() is not None:
            raise Refusal(400, f"The container failed to start: {output.read_text()[-500:]}")

    def call(self, call: Call) -> Reply:
        dropped = ("host", "connection", "accept-encoding", "content-length")
        kept = {name: value for name, value in call.headers.items() if name not in dropped}
        url = f"http://127.0.0.1:{self._port}{call.path}"
        response = self._client.request(call.method, url, content=call.body, headers=kept)
        answered = {k: v for k, v in response.headers.items() if k in ("content-type", "retry-after")}
        return Reply(response.status_code, response.content, answered)

    def stop(self) -> None:
        receiver.end(self._process)
        self._client.close()


def _compile(python: Path, source: Path, environment: Mapping[str, str]) -> None:
    """As Google's buildpack python/functions_framework does it."""
    command = [str(python), "-m", "compileall", "-f", "-q", "."]
    done = subprocess.run(
        command, cwd=source, env=dict(environment), capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise Refusal(400, f"Build failed: {done.stdout}")


class _Gateway(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, processes: Processes, lock: Any) -> None:
        super().__init__(("127.0.0.1", 0), _Pushed)
        self.processes = processes
        self.lock = lock


class _Pushed(http.server.BaseHTTPRequestHandler):
    server: _Gateway

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        with self.server.lock:
            self.server.processes.publish(self.path[1:], body)
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def bridged(processes: Processes, lock: Any) -> Iterator[None]:
    """Take what the emulator pushes, until the end."""
    with _Gateway(processes, lock) as gateway:
        processes.gateway = f"http://127.0.0.1:{gateway.server_address[1]}"
        thread = threading.Thread(target=gateway.serve_forever, daemon=True)
        thread.start()
        try:
            yield
        finally:
            processes.clear()
            gateway.shutdown()
            thread.join()
