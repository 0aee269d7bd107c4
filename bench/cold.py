"""Cold starts: from the start of the process to the first 2xx, the first publish included."""

import base64
import http.client
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, NamedTuple

from bench import load
from bench.rounds import Sample
from bench.serving import CONTESTANTS, SECRET, Contestant, Server
from flowhook.cli.errors import CommandError
from flowhook.cli.run import HOST
from tests.support.receiver import project

EVENT = load.body(1000)
HEADERS = {"Authorization": f"Bearer {SECRET}", "Content-Type": "application/json"}
PUSH = json.dumps({"message": {"data": base64.b64encode(EVENT).decode(), "messageId": "1"}}).encode()
HANDLER = """
from flowhook import Event, on

@on("*")
def take(event: Event) -> None:
    pass
"""
SLOW = "import time; time.sleep(2)\n" + HANDLER
# import time: self [us] | cumulative | imported package
IMPORT = re.compile(rb"import time: +(\d+) \| +\d+ \| +(\S+)")
# `-X importtime` reports `import` statements, but handlers are imported by a function call.
TIME_HANDLERS = """
import importlib, pkgutil, time
import handlers, main

names = sorted(module.name for module in pkgutil.iter_modules(handlers.__path__))
begun = time.perf_counter()
for name in names:
    importlib.import_module(f"handlers.{name}")
print(time.perf_counter() - begun)
"""


class Start(NamedTuple):
    """What is started, with which settings, and the first request, which it must answer with 2xx."""

    contestant: Contestant
    told: Mapping[str, str]
    path: str = "/"
    body: bytes = EVENT

    @property
    def runs_handlers(self) -> bool:
        """Whether it is flowhook, and runs handlers."""
        return self.contestant.target == "consume" or self.contestant.settings.get("DELIVERY") == "inline"


class Imports(NamedTuple):
    """Seconds that the modules of each top-level package took by themselves, and that handlers took."""

    packages: dict[str, float]
    handlers: float


def contestants(told: Mapping[str, str]) -> list[Start]:
    """A start of each contestant, without TLS."""
    return [Start(contestant, told) for contestant in CONTESTANTS]


def entry_points(told: Mapping[str, str], folder: Path) -> list[Start]:
    """Starts of inline delivery and of `consume`, which show what handlers add."""
    none, one = project(folder / "none") / "main.py", project(folder / "one", handler=HANDLER) / "main.py"
    return [
        inline("inline, no handler", none, told),
        inline("inline, a handler", one, told),
        consume("consume, a handler", one, told),
    ]


def slow_handlers(told: Mapping[str, str], folder: Path) -> list[Start]:
    """Each entry point with a handler whose import takes 2 s, to see which ones wait for it."""
    source = project(folder / "slow", handler=SLOW) / "main.py"
    return [
        Start(Contestant("receive, a handler of 2 s", source, "receive", {"DELIVERY": "pubsub"}), told),
        inline("inline, a handler of 2 s", source, told),
        consume("consume, a handler of 2 s", source, told),
    ]


def inline(name: str, source: Path, told: Mapping[str, str]) -> Start:
    """`receive` that runs handlers."""
    return Start(Contestant(name, source, "receive", {"DELIVERY": "inline"}, publishes=False), told)


def consume(name: str, source: Path, told: Mapping[str, str]) -> Start:
    """`consume`, to which its handler's subscription pushes."""
    contestant = Contestant(name, source, "consume", {"DELIVERY": "pubsub"}, publishes=False)
    return Start(contestant, told, "/handler.take", PUSH)


def run(starts: Sequence[Start], rounds: int) -> Iterator[Sample]:
    """A sample for each start, interleaved. A round before them, without samples, writes the .pyc files."""
    for number in range(-1, rounds):
        for one in starts:
            sample = {"round": number, "contestant": one.contestant.name, "seconds": start(one)}
            if number >= 0:
                yield sample


def start(one: Start, errors: IO[bytes] | None = None) -> float:
    """Seconds of one start."""
    begun = time.monotonic()
    server = Server(one.contestant, one.told, errors)
    try:
        while not _accepts(server, one):
            time.sleep(0.001)
        return time.monotonic() - begun
    finally:
        server.end()


def imports(one: Start) -> Imports:
    """What a start spends on imports, as `-X importtime` reports it, and what handlers take of it.

    The report makes each import slower, so compare the figures with each other, not with a start's time.
    """
    with tempfile.TemporaryFile() as file:
        start(one._replace(told={**one.told, "PYTHONPROFILEIMPORTTIME": "1"}), file)
        file.seek(0)
        return Imports(packages(file.read()), handlers(one) if one.runs_handlers else 0.0)


def packages(text: bytes) -> dict[str, float]:
    """What `-X importtime` has written, by top-level package, the longest first."""
    found: Counter[str] = Counter()
    for match in IMPORT.finditer(text):
        found[match[2].decode().partition(".")[0]] += int(match[1])
    return {name: microseconds / 1e6 for name, microseconds in found.most_common()}


def handlers(one: Start) -> float:
    """Seconds to import the handlers and all that they import first, flowhook's models among it."""
    # With these settings `main` imports neither handlers nor models.
    told = {"PATH": os.environ["PATH"], **one.told, **one.contestant.settings, "DELIVERY": "pubsub"}
    command = [sys.executable, "-c", TIME_HANDLERS]
    folder = one.contestant.source.parent
    done = subprocess.run(command, cwd=folder, env=told, stdout=subprocess.PIPE, check=True)  # noqa: S603
    return float(done.stdout)


def _accepts(server: Server, one: Start) -> bool:
    """Whether it listens. Raises CommandError where it has ended, or refuses an event."""
    connection = http.client.HTTPConnection(HOST, server.port, timeout=30)
    try:
        connection.request("POST", one.path, one.body, HEADERS)
        status = connection.getresponse().status
    except ConnectionRefusedError:
        if server.process.poll() is not None:
            raise CommandError(f"{server.contestant.name} did not start") from None
        return False
    finally:
        connection.close()
    if status >= 300:
        raise CommandError(f"{server.contestant.name} answered its first event {status}")
    return True
