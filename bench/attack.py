"""What large and hostile bodies do to an instance: `python -m bench.attack`, a table of shapes.

Each shape is sent many times at once, signed, while a small event is sent again and again. Needs neither wrk
nor the Pub/Sub emulator. `--project` serves another copy of flowhook, to compare with.
"""

import argparse
import shutil
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import httpx2

from flowhook import samples
from flowhook.cli.run import free_port
from tests.support import shapes
from tests.support.receiver import ROOT, SECRET, Receiver, end, start, until

HANDLERS = """
import asyncio
import time

from flowhook import on

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
# No handler takes it, so that its time shows how long the instance was busy with other bodies.
SMALL = samples.load("projects.created")
HEADERS = {"authorization": f"Bearer {SECRET.decode()}", "content-type": "application/json"}
SENDS = {"receive": (SMALL, shapes.events, 8), "consume": (shapes.carrying(SMALL), shapes.pushes, 16)}
MIB = 1024 * 1024
# Seconds after which a sender gives up.
PATIENCE = 60


@dataclass
class Seen:
    """The result of an attack; `waited` are the seconds that each small event took."""

    statuses: Counter[int | str] = field(default_factory=Counter)
    seconds: float = 0.0
    peak: float = 0.0
    cpu: float = 0.0
    waited: list[float] = field(default_factory=list)

    def __str__(self) -> str:
        answers = " ".join(f"{count} of {status}" for status, count in sorted(self.statuses.items(), key=str))
        waited = f"{max(self.waited):5.2f}" if self.waited else "  -  "
        return f"{self.peak:6.0f} MB | {self.cpu:6.1f} s CPU | {waited} s | {self.seconds:5.1f} s | {answers}"


def main() -> None:
    """Attack, and print a line for each shape."""
    parsed = _arguments()
    small, of_size, largest = SENDS[parsed.target]
    named = [(name, make) for name, make in of_size(largest * MIB) if parsed.only in name]
    print("peak memory | CPU | longest wait of a small event | in all | answers | shape")
    for name, make in islice(named, 0, None, parsed.every):
        # Each shape gets a new instance, so that it isn't measured with what the one before left in memory.
        with _served(parsed.project, parsed.target, parsed.handlers) as running:
            print(f"{_attack(running, make(), small, parsed.times)} | {name}", flush=True)


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
        (source / "handlers" / "slow.py").write_text(HANDLERS.format(seconds=seconds))
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


def _attack(running: Receiver, body: bytes, small: bytes, times: int) -> Seen:
    seen, over = Seen(), threading.Event()
    began, used = time.monotonic(), _cpu(running)
    with ThreadPoolExecutor(times + 1) as pool:
        watching = pool.submit(_watch, running.url, small, seen.waited, over)
        sent = [pool.submit(_post, running.url, body) for _ in range(times)]
        seen.statuses.update(future.result() for future in sent)
        over.set()
        watching.result()
    seen.seconds = time.monotonic() - began
    seen.cpu = _cpu(running) - used
    seen.peak = max(_status(pid, "VmHWM") for pid in _processes(running)) / 1024
    return seen


def _watch(url: str, small: bytes, waited: list[float], over: threading.Event) -> None:
    while not over.wait(0.02):
        began = time.monotonic()
        _post(url, small)
        waited.append(time.monotonic() - began)


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
