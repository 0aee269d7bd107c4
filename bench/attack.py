"""What large and hostile bodies do to an instance: `python -m bench.attack`, a table of shapes.

Each shape is sent many times at once, with the secret, while another process sends a small event every 50 ms
over one open connection. Its wait is to be held against the longest parse in that server, for while a body is
parsed, nobody else is served. What the server's loop worked in a wait is told too, for the machine may have
more to do. Needs neither wrk nor the Pub/Sub emulator. `--project` serves another copy of flowhook, to
compare with.
"""

import argparse
import gc
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import httpx2

from bench.probing import Probe, probing
from flowhook import events, samples
from flowhook.cli.run import free_port
from flowhook.errors import Problem
from flowhook.pubsub import push
from tests.support import shapes
from tests.support.receiver import ROOT, SECRET, Receiver, end, start, until

# They also write down how long each parse keeps the loop, unless the copy that is served has no turns yet.
HANDLERS = """
import asyncio
import sys
import threading
import time
from contextlib import contextmanager, suppress

from flowhook import on

def timed(turn):
    @contextmanager
    def run(*arguments):
        with turn(*arguments):
            began = time.monotonic()
            try:
                yield
            finally:
                if threading.current_thread() is threading.main_thread():
                    print("{parsed}", time.monotonic() - began, file=sys.stderr, flush=True)
    return run

with suppress(ImportError, AttributeError):
    from flowhook import admission

    admission.Pause.after = timed(admission.Pause.after)

def thread(event):
    time.sleep({seconds})

async def task(event):
    await asyncio.sleep({seconds})

for number in range(5):
    for function in (thread, task):
        name = f"{{function.__name__}}_{{number}}"
        code = type(function)(function.__code__, globals(), name)
        globals()[name] = on("users.*", "packet_comments.*", "other.*")(code)
"""
PARSED = "parsed in"
# No handler takes it, so that its time shows how long the instance was busy with other bodies.
SMALL = samples.load("projects.created")
HEADERS = {"authorization": f"Bearer {SECRET.decode()}", "content-type": "application/json"}
MIB = 1024 * 1024
# Seconds after which a sender gives up.
PATIENCE = 60


@dataclass
class Seen:
    """The result of an attack.

    `alone` are the seconds of CPU that one parse takes while nothing else happens, `parsed` the seconds that
    each took.
    """

    alone: float
    parsed: list[float] = field(default_factory=list)
    probe: Probe = field(default_factory=Probe)
    statuses: Counter[int | str] = field(default_factory=Counter)
    seconds: float = 0.0
    peak: float = 0.0
    cpu: float = 0.0

    def __str__(self) -> str:
        answers = " ".join(f"{count} of {status}" for status, count in sorted(self.statuses.items(), key=str))
        bad = f", {self.probe.refused} refused, {self.probe.broken} broken" if self._is_bad else ""
        waited = (
            f"{_longest(self.probe.worked)} | {_longest(self.probe.waited)} of {len(self.probe.waited)}{bad}"
        )
        return (
            f"{self.peak:6.0f} MB | {self.cpu:6.1f} s CPU | {1000 * self.alone:5.0f} ms | "
            f"{_longest(self.parsed)} | {waited} | "
            f"{self.seconds:5.1f} s | {answers}"
        )

    @property
    def _is_bad(self) -> bool:
        return bool(self.probe.refused or self.probe.broken)


def main() -> None:
    """Attack, and print a line for each shape."""
    parsed = _arguments()
    small, of_size, largest, parse = SENDS[parsed.target]
    named = [(name, make) for name, make in of_size(largest * MIB) if parsed.only in name]
    print(
        "peak memory | CPU | one parse alone | longest parse | most work in a wait | longest wait | in all | "
        "answers | shape"
    )
    for name, make in islice(named, 0, None, parsed.every):
        # Each shape gets a new instance, so that it isn't measured with what the one before left in memory.
        with _served(parsed.project, parsed.target, parsed.handlers) as running:
            body = make()
            seen = Seen(_alone(body, parse))
            _attack(running, body, small, parsed.times, seen)
            print(f"{seen} | {name}", flush=True)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.attack", description=__doc__)
    parser.add_argument("--project", type=Path, default=ROOT, help="where main.py is (default: here)")
    parser.add_argument("--target", choices=list(SENDS), default="receive")
    parser.add_argument("--times", type=int, default=40, help="how many at once (default: %(default)s)")
    parser.add_argument("--only", default="", metavar="TEXT", help="shapes with this in their name")
    parser.add_argument("--every", type=int, default=1, metavar="N", help="only each Nth of them")
    parser.add_argument(
        "--handlers", type=float, default=0.2, metavar="SECONDS", help="each of 10 takes so long"
    )
    return parser.parse_args()


@contextmanager
def _served(project: Path, target: str, seconds: float) -> Iterator[Receiver]:
    with tempfile.TemporaryDirectory() as name:
        source = Path(name)
        shutil.copy(project / "main.py", source)
        (source / "flowhook").symlink_to((project / "flowhook").resolve())
        (source / "handlers").mkdir()
        (source / "handlers" / "__init__.py").touch()
        (source / "handlers" / "slow.py").write_text(HANDLERS.format(seconds=seconds, parsed=PARSED))
        port, output = free_port(), source / "output"
        process = start(source, port, output, {"PYTHONPATH": str(source)}, target)
        running = Receiver(process, port, output)
        try:
            until(lambda: _answers(running))
            yield running
        finally:
            running.client.close()
            end(process)


def _answers(running: Receiver) -> bool:
    try:
        return running.client.get("/").status_code == 405
    except httpx2.TransportError:
        return False


def _longest(seconds: list[float]) -> str:
    return f"{1000 * max(seconds, default=0.0):5.0f} ms"


def _parse_event(body: bytes) -> None:
    events.made(events.read_json(body), body)


def _parse_push(body: bytes) -> None:
    _parse_event(push.read(body).message.data)


SENDS = {
    "receive": (SMALL, shapes.events, 8, _parse_event),
    "consume": (shapes.carrying(SMALL), shapes.pushes, 16, _parse_push),
}


def _alone(body: bytes, parse: Callable[[bytes], None]) -> float:
    """The seconds of CPU that a parse takes, the least of three; without the collector, as in the server."""
    gc.disable()
    try:
        return min(_timed(body, parse) for _ in range(3))
    finally:
        gc.enable()


def _timed(body: bytes, parse: Callable[[bytes], None]) -> float:
    began = time.process_time()
    with suppress(Problem):
        parse(body)
    return time.process_time() - began


def _attack(running: Receiver, body: bytes, small: bytes, times: int, seen: Seen) -> None:
    worker = _processes(running)[-1]
    with probing(running.port, worker, small, HEADERS) as seen.probe, ThreadPoolExecutor(times) as pool:
        began, used = time.monotonic(), _cpu(running)
        sent = [pool.submit(_post, running.url, body) for _ in range(times)]
        seen.statuses.update(future.result() for future in sent)
        seen.seconds = time.monotonic() - began
        seen.cpu = _cpu(running) - used
    seen.parsed = [
        float(line.split()[-1]) for line in running.output().splitlines() if line.startswith(PARSED)
    ]
    seen.peak = max(_status(pid, "VmHWM") for pid in _processes(running)) / 1024


def _post(url: str, body: bytes) -> int | str:
    try:
        return httpx2.post(url, content=body, headers=HEADERS, timeout=PATIENCE).status_code
    except httpx2.TransportError as error:
        return type(error).__name__


def _processes(running: Receiver) -> list[int]:
    """The server's master and its worker."""
    pid = running.process.pid
    return [pid, *map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())]


def _status(pid: int, name: str) -> int:
    return int(Path(f"/proc/{pid}/status").read_text().partition(f"{name}:")[2].split()[0])


def _cpu(running: Receiver) -> float:
    """Seconds of user and system time so far."""

    def fields(pid: int) -> list[str]:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()

    return sum(int(n) for pid in _processes(running) for n in fields(pid)[11:13]) / 100


if __name__ == "__main__":
    main()
