"""A copy of the project and the real gcloud, which knows no other network than the fake."""

import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from flowhook.cli.pubsub_emulator import Emulator
from tests.support.google_cloud import proxy
from tests.support.google_cloud.control_plane import ControlPlane
from tests.support.google_cloud.exchange import Request
from tests.support.google_cloud.processes import Installed, Processes, bridged
from tests.support.google_cloud.timeline import Timeline
from tests.support.receiver import ROOT

COPIED = (
    "main.py",
    "requirements.txt",
    "deploy.sh",
    ".gcloudignore",
    "flowhook",
    "flows_emulator",
    "handlers",
    "README.md",
)
# How many seconds of the fake's go by in one of everybody's.
PACE = 10.0
# What was run, for the end of the tests.
ROWS: list[str] = []


@dataclass(frozen=True)
class Ran:
    """What a command has done."""

    status: int
    output: str
    requests: tuple[Request, ...] = ()
    seconds: float = 0.0

    @property
    def changes(self) -> list[str]:
        return [str(request) for request in self.requests if request.changes]


class Workshop:
    """Where deploy.sh is started."""

    def __init__(self, folder: Path, plane: ControlPlane, port: int) -> None:
        self.folder = folder / "project"
        self.plane = plane
        self._environment = _environment(plane.project, folder, port)
        copy_project(self.folder)

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Start deploy.sh without a terminal."""
        return subprocess.Popen(
            ["./deploy.sh", *arguments],
            cwd=self.folder,
            env=self._environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def deploy(self, *arguments: str, stdin: str = "") -> Ran:
        """Run deploy.sh to its end."""
        before, started = len(self.plane.log), time.monotonic()
        process = self.start(*arguments)
        try:
            output, _ = process.communicate(stdin, timeout=170)
        except BaseException:
            os.killpg(process.pid, 9)
            process.wait()
            raise
        requests, seconds = tuple(self.plane.log[before:]), time.monotonic() - started
        ran = Ran(process.returncode, output, requests, seconds)
        told = f"{len(requests):4} requests, {len(ran.changes):3} of them changes, exit {ran.status}"
        ROWS.append(f"{' '.join(arguments):26} {seconds:5.1f} s {told}")
        return ran


def copy_project(folder: Path) -> None:
    """What a clone has, and something that must never be uploaded."""
    folder.mkdir()
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, folder)
    (folder / ".env").write_text("A_SECRET=of-mine")
    (folder / "notes.txt").write_text("private")
    (folder / ".git").mkdir()
    (folder / ".git" / "config").touch()
    (folder / "handlers" / "__pycache__").mkdir()
    (folder / "handlers" / "__pycache__" / "old.cpython-311.pyc").touch()


def _environment(project: str, folder: Path, port: int) -> dict[str, str]:
    trusted = str(folder / "ca.pem")
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "PYTHON": sys.executable,
        "CLOUDSDK_CONFIG": str(folder / "config"),
        "CLOUDSDK_CORE_PROJECT": project,
        "CLOUDSDK_AUTH_ACCESS_TOKEN": "fake",
        "CLOUDSDK_PROXY_TYPE": "http",
        "CLOUDSDK_PROXY_ADDRESS": "127.0.0.1",
        "CLOUDSDK_PROXY_PORT": str(port),
        "CLOUDSDK_CORE_CUSTOM_CA_CERTS_FILE": trusted,
        "CLOUDSDK_CORE_DISABLE_PROMPTS": "1",
        "CLOUDSDK_CORE_DISABLE_USAGE_REPORTING": "true",
        "CLOUDSDK_COMPONENT_MANAGER_DISABLE_UPDATE_CHECK": "1",
        "HTTPS_PROXY": f"http://127.0.0.1:{port}",
        "SSL_CERT_FILE": trusted,
    }


@contextmanager
def opened(project: str, folder: Path, emulator: Emulator, installed: Installed) -> Iterator[Workshop]:
    """A workshop with a control plane of its own, in which there is nothing yet, and real processes."""
    made: list[Processes] = []

    def runtime(plane: ControlPlane) -> Processes:
        made.append(Processes(plane.pubsub, folder, installed, emulator))
        return made[0]

    plane = ControlPlane(project, Timeline(time.time()), runtime)
    plane.functions.build_takes, plane.run.revision_takes = 5, 3
    with ExitStack() as stack:
        stack.callback(plane.run.stop)
        stack.enter_context(bridged(made[0], plane.time.lock))
        stack.enter_context(_time_passing(plane.time))
        server = stack.enter_context(proxy.listening(folder, plane.answer))
        yield Workshop(folder, plane, server.port)


@contextmanager
def _time_passing(timeline: Timeline) -> Iterator[None]:
    stopped = threading.Event()
    thread = threading.Thread(target=timeline.follow, args=(stopped, PACE), daemon=True)
    thread.start()
    try:
        yield
    finally:
        stopped.set()
        thread.join()
