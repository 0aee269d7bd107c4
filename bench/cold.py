"""Cold starts: from the start of the process to the first 2xx, the first publish included."""

import base64
import http.client
import json
import re
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
IMPORT = re.compile(rb"import time: +(\d+) \| +(\d+) \| +(\S+)")
HANDLERS = re.compile(r"handlers\.[^.]+")


class Start(NamedTuple):
    """What is started, with which settings, and the first request that it is to answer 2xx."""

    contestant: Contestant
    told: Mapping[str, str]
    path: str = "/"
    body: bytes = EVENT


class Imports(NamedTuple):
    """Seconds that the modules of each top-level package took by themselves, and that handlers took."""

    packages: dict[str, float]
    handlers: float


def contestants(told: Mapping[str, str]) -> list[Start]:
    """All of them, without TLS."""
    return [Start(contestant, told) for contestant in CONTESTANTS]


def entry_points(told: Mapping[str, str], folder: Path) -> list[Start]:
    """Inline delivery and `consume`, so that the handlers' part shows."""
    none, one = project(folder / "none") / "main.py", project(folder / "one", handler=HANDLER) / "main.py"
    return [
        inline("inline, no handler", none, told),
        inline("inline, a handler", one, told),
        consume("consume, a handler", one, told),
    ]


def slow_handlers(told: Mapping[str, str], folder: Path) -> list[Start]:
    """Each entry point with a handler whose import takes 2 s, to see who waits for it."""
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
    """A sample for each start, interleaved. One round more before them leaves .pyc files."""
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
    """What a start spends on imports, as `-X importtime` tells it.

    That makes each import slower, so these are shares rather than parts of the time of a start.
    """
    with tempfile.TemporaryFile() as file:
        start(one._replace(told={**one.told, "PYTHONPROFILEIMPORTTIME": "1"}), file)
        file.seek(0)
        return parse(file.read())


def parse(text: bytes) -> Imports:
    """What `-X importtime` has written. The time of handlers is with all that they import first."""
    packages: Counter[str] = Counter()
    handlers = 0
    for match in IMPORT.finditer(text):
        name = match[3].decode()
        packages[name.partition(".")[0]] += int(match[1])
        if HANDLERS.fullmatch(name):
            handlers += int(match[2])
    found = {name: microseconds / 1e6 for name, microseconds in packages.most_common()}
    return Imports(found, handlers / 1e6)


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
