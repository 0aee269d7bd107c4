"""A copy of the project and the real gcloud, which knows no other network than the fake."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from flowhook.cli.pubsub_emulator import Emulator
from tests.gcloud import proxy
from tests.gcloud.control_plane import ControlPlane, running
from tests.gcloud.functions import Installed
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


@dataclass(frozen=True)
class Ran:
    """What a command has done."""

    status: int
    output: str


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
        process = self.start(*arguments)
        try:
            output, _ = process.communicate(stdin, timeout=170)
        except BaseException:
            os.killpg(process.pid, 9)
            raise
        return Ran(process.returncode, output)

    def edit(self, change: Callable[[str], str]) -> None:
        """Change the script, as a mutant of it."""
        script = self.folder / "deploy.sh"
        script.write_text(change(script.read_text()))


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
    """A workshop with a control plane of its own, in which there is nothing yet."""
    with (
        running(project, emulator, folder, installed) as plane,
        proxy.listening(folder, plane.answer) as server,
    ):
        yield Workshop(folder, plane, server.port)


def commands(output: str) -> list[str]:
    """The commands that deploy.sh has shown."""
    return re.findall(r"^\+ (.*)$", output, re.MULTILINE)
