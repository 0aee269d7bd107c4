"""Cold starts: from the start of the process to the first 2xx, the first publish included."""

import http.client
import re
import tempfile
import time
from collections import Counter
from collections.abc import Mapping
from typing import IO

from bench import load
from bench.serving import CONTESTANTS, SECRET, Contestant, Server
from flowhook.cli.errors import CommandError
from flowhook.cli.run import HOST

EVENT = load.body(1000)
HEADERS = {"Authorization": f"Bearer {SECRET}", "Content-Type": "application/json"}
# import time: self [us] | cumulative | imported package
IMPORT = re.compile(rb"import time: +(\d+) \| +\d+ \| +(\S+)")


def run(told: Mapping[str, str], starts: int) -> dict[str, list[float]]:
    """Contestant to the seconds of each start, interleaved. One more before them leaves .pyc files."""
    found: dict[str, list[float]] = {contestant.name: [] for contestant in CONTESTANTS}
    for number in range(starts + 1):
        for contestant in CONTESTANTS:
            took = start(contestant, told)
            if number:
                found[contestant.name].append(took)
    return found


def start(contestant: Contestant, told: Mapping[str, str], errors: IO[bytes] | None = None) -> float:
    """Seconds of one start."""
    begun = time.monotonic()
    server = Server(contestant, told, errors)
    try:
        while not _accepts(server):
            time.sleep(0.001)
        return time.monotonic() - begun
    finally:
        server.end()


def imports(contestant: Contestant, told: Mapping[str, str]) -> dict[str, float]:
    """Top-level package to the seconds that its modules took by themselves, as `-X importtime` tells them.

    That makes each import slower, so these are shares rather than parts of the time of a start.
    """
    with tempfile.TemporaryFile() as file:
        start(contestant, {**told, "PYTHONPROFILEIMPORTTIME": "1"}, file)
        file.seek(0)
        total: Counter[str] = Counter()
        for match in IMPORT.finditer(file.read()):
            total[match[2].decode().partition(".")[0]] += int(match[1])
    return {name: microseconds / 1e6 for name, microseconds in total.most_common()}


def _accepts(server: Server) -> bool:
    """Whether it listens. Raises CommandError where it has ended, or refuses an event."""
    connection = http.client.HTTPConnection(HOST, server.port, timeout=30)
    try:
        connection.request("POST", "/", EVENT, HEADERS)
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
