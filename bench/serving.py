"""The contestants, each a process as in production: the functions framework's command line, one worker."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO

from flowhook.cli.pubsub_emulator import Emulator, wait_until
from flowhook.cli.run import HOST, free_port, listens

ROOT = Path(__file__).parent.parent
TICKS = os.sysconf("SC_CLK_TCK")
# The secret with which events are sent to all contestants, in a header.
SECRET = "a-secret-of-32-characters-at-least"  # noqa: S105
TOPIC = "bench"


@dataclass(frozen=True)
class Contestant:
    """A receiver to measure: its file and function, and the variables that are its own."""

    name: str
    source: Path
    target: str
    settings: Mapping[str, str] = field(default_factory=dict)
    publishes: bool = True


HERE = ROOT / "bench" / "contestants"
MAIN = ROOT / "main.py"
OURS = Contestant("flowhook-pubsub", MAIN, "receive", {"DELIVERY": "pubsub"})
# The same under another name (an A/A control): in every figure, the difference of the two is noise.
CONTROL = replace(OURS, name="flowhook-again")
CONTESTANTS = (
    Contestant("empty-sync", HERE / "empty.py", "empty_sync", publishes=False),
    Contestant("empty-async", HERE / "empty.py", "empty_async", publishes=False),
    Contestant("per-request-client", HERE / "per_request_client.py", "receive"),
    Contestant("tutorial", HERE / "tutorial.py", "receive"),
    Contestant("tutorial-tuned", HERE / "tutorial.py", "receive", {"THREADS": "64", "BATCH_LATENCY": "0"}),
    Contestant("flowhook-inline", MAIN, "receive", {"DELIVERY": "inline"}, publishes=False),
    OURS,
    CONTROL,
)


class Server:
    """A contestant that runs, on a port of its own on loopback."""

    def __init__(
        self, contestant: Contestant, settings: Mapping[str, str], errors: IO[bytes] | None = None
    ) -> None:
        """Start it; it may not listen yet. Its standard error goes to `errors`, else to this process's."""
        self.contestant = contestant
        self.port = free_port()
        self.url = f"http://{HOST}:{self.port}"
        framework = [sys.executable, "-m", "functions_framework", f"--target={contestant.target}"]
        self.process = subprocess.Popen(  # noqa: S603 - it is this Python
            [*framework, f"--source={contestant.source}", f"--host={HOST}", f"--port={self.port}"],
            # Python imports from there first, and so takes the handlers beside the source.
            cwd=contestant.source.parent,
            env={"PATH": os.environ["PATH"], **settings, **contestant.settings},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=errors,
            start_new_session=True,
        )

    def wait(self) -> None:
        """Return once it listens. Raises CommandError where it doesn't."""
        wait_until(lambda: listens(self.port), self.process, self.contestant.name)

    def end(self) -> None:
        """End it at once, its workers too."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def cpu(self) -> float:
        """Seconds of CPU so far, user and system, of all its processes."""
        return cpu_of(self.process)

    def memory(self) -> float:
        """Megabytes that it holds; pages that its processes share are counted once (PSS)."""
        files = (Path(f"/proc/{pid}/smaps_rollup") for pid in _session(self.process))
        return sum(_kilobytes(file, "Pss") for file in files) / 1000

    def worker(self, kind: str = "VmRSS") -> float:
        """Megabytes of the worker, which answers the requests; `VmHWM` is the most that it has held."""
        workers = [pid for pid in _session(self.process) if pid != self.process.pid]
        return max(_kilobytes(Path(f"/proc/{pid}/status"), kind) for pid in workers) / 1000


def settings(emulator: Emulator) -> dict[str, str]:
    """The settings that all contestants get."""
    return {
        "WEBHOOK_SECRET": SECRET,
        "GOOGLE_CLOUD_PROJECT": emulator.project,
        "PUBSUB_EMULATOR_HOST": emulator.host,
        "PUBSUB_TOPIC": TOPIC,
    }


@contextmanager
def served(contestant: Contestant, told: Mapping[str, str]) -> Iterator[Server]:
    """A contestant that listens; it is killed at the end."""
    server = Server(contestant, told)
    try:
        server.wait()
        yield server
    finally:
        server.end()


def cpu_of(leader: subprocess.Popen[bytes]) -> float:
    """Seconds of CPU so far, user and system, of all the processes of a session."""
    return sum(_ticks(pid) for pid in _session(leader)) / TICKS


def _session(leader: subprocess.Popen[bytes]) -> list[int]:
    """The ids of a session's processes: a server's master and workers, a script and what it started."""

    def belongs(pid: int) -> bool:
        try:
            return os.getsid(pid) == leader.pid
        except ProcessLookupError:
            return False

    return [pid for pid in (int(path.name) for path in Path("/proc").glob("[0-9]*")) if belongs(pid)]


def _ticks(pid: int) -> int:
    # Fields 14 and 15 of proc(5), counted after the command's name, which may contain anything.
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def _kilobytes(path: Path, name: str) -> int:
    return next(int(line.split()[1]) for line in path.read_text().splitlines() if line.startswith(f"{name}:"))
