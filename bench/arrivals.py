"""An open loop: events arrive at a constant rate, whatever has become of those before them.

A closed loop sends nothing while it waits, so a receiver that hangs is asked less: what would have arrived
meanwhile is missing from its times. Here each time counts from the moment at which its event was due, also
where every connection was busy then. `python -m bench.arrivals` is the client; the bench starts it as a
process of its own, so that the server is not measured together with what measures it.
"""

import argparse
import asyncio
import contextlib
import itertools
import json
import selectors
import statistics
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator
from typing import Any, cast
from urllib.parse import urlsplit

from httptools import HttpResponseParser

from bench import load
from bench.load import Load, Plan
from bench.serving import ROOT, SECRET, Server
from flowhook.cli.errors import CommandError

# Seconds to wait for the last answers.
PATIENCE = 10.0


class Connection(asyncio.Protocol):
    """A connection with at most one request under way, which was due at `due`."""

    def __init__(self, arrivals: "Arrivals") -> None:
        self._arrivals = arrivals
        self._parser = HttpResponseParser(self)
        self.due: float | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Store the transport that requests are written to."""
        self._transport = cast(asyncio.Transport, transport)

    def send(self, due: float, request: bytes) -> None:
        """Send a request."""
        self.due = due
        self._transport.write(request)

    def close(self) -> None:
        """Close it."""
        self._transport.close()

    def data_received(self, data: bytes) -> None:
        """Parse the next part of the answer."""
        self._parser.feed_data(data)

    def on_message_complete(self) -> None:
        """Report the answer; the parser calls this once it is complete."""
        self._arrivals.answered(self, self._parser.get_status_code())

    def connection_lost(self, _error: Exception | None) -> None:
        """Report that the connection is closed."""
        self._arrivals.lost(self)


class Arrivals:
    """Events that arrive at a constant rate, and what became of them. Times in seconds."""

    def __init__(self, url: str, requests: Iterator[bytes], connections: int) -> None:
        self._host, self._port = str(urlsplit(url).hostname), urlsplit(url).port or 80
        self._requests = requests
        self._connections = connections
        self._open = 0
        self._openings: set[asyncio.Task[None]] = set()
        # The one that was used last is used next, because the server closes those that are idle for seconds.
        self._idle: list[Connection] = []
        self._due: deque[float] = deque()
        # How many events have no result yet.
        self._left = 0
        self._finished = asyncio.Event()
        self.times: list[float] = []
        self.lateness: list[float] = []
        self.refused = self.broken = 0

    async def run(self, rate: float, seconds: float) -> None:
        """Send what is due, each at its moment, and wait for the answers."""
        self._left = count = round(rate * seconds)
        begun = time.monotonic()
        for number in range(count):
            due = begun + number / rate
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            self.lateness.append(time.monotonic() - due)
            self._due.append(due)
            self._send()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._finished.wait(), PATIENCE)
        self.broken += self._left

    def close(self) -> None:
        """Close the idle connections."""
        for connection in self._idle:
            connection.close()

    def answered(self, connection: Connection, status: int) -> None:
        """Record how long an answer took, and send on its connection what is due."""
        assert connection.due is not None  # noqa: S101 - a server answers what it was asked
        self.times.append(time.monotonic() - connection.due)
        self.refused += status >= 300
        self._count_down()
        connection.due = None
        self._idle.append(connection)
        self._send()

    def lost(self, connection: Connection) -> None:
        """Count the request that was under way on a connection that is closed."""
        self._open -= 1
        if connection.due is None:
            self._idle.remove(connection)
        else:
            self._break()
        self._send()

    def _break(self) -> None:
        self.broken += 1
        self._count_down()

    def _count_down(self) -> None:
        self._left -= 1
        if not self._left:
            self._finished.set()

    def _send(self) -> None:
        while self._due and self._idle:
            self._idle.pop().send(self._due.popleft(), next(self._requests))
        if len(self._due) > len(self._openings) and self._open + len(self._openings) < self._connections:
            opening = asyncio.get_running_loop().create_task(self._connect())
            self._openings.add(opening)

    async def _connect(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            _, connection = await loop.create_connection(lambda: Connection(self), self._host, self._port)
        except OSError:
            # Another connection may already have sent the request for which this one was opened.
            if self._due:
                self._due.popleft()
                self._break()
            return
        finally:
            self._openings.discard(cast("asyncio.Task[None]", asyncio.current_task()))
        self._open += 1
        self._idle.append(connection)
        self._send()


def run(server: Server, plan: Plan) -> tuple[Load, float]:
    """The load of a plan's open loop, and the 99th percentile of the client's own lateness in seconds."""
    before = server.cpu()
    measured = _client(server.url, plan)
    accepted = measured["requests"] - measured["refused"]
    loaded = Load(
        measured["requests"],
        measured["seconds"],
        accepted,
        measured["refused"],
        measured["broken"],
        measured["p50"],
        measured["p99"],
        measured["p999"],
        rate=accepted / measured["seconds"],
        cpu=(server.cpu() - before) / accepted if accepted else 0.0,
        client=measured["client"],
    )
    return loaded, measured["late"]


def _client(url: str, plan: Plan) -> dict[str, Any]:
    options = [f"--rate={plan.rate}", f"--seconds={plan.seconds}", f"--connections={plan.connections}"]
    command = [sys.executable, "-m", "bench.arrivals", url, f"--size={plan.size}", *options]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, check=False)  # noqa: S603 - this Python
    if done.returncode:
        raise CommandError("the client of the open loop failed")
    measured: dict[str, Any] = json.loads(done.stdout)
    return measured


def requests(size: int) -> Iterator[bytes]:
    """Requests whose events each have an id of their own."""
    before, _, behind = load.body(size).partition(b"@ID@")
    for number in itertools.count(1):
        body = before + str(number).encode() + behind
        yield (
            b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            b"Authorization: Bearer %b\r\nContent-Length: %d\r\n\r\n%b" % (SECRET.encode(), len(body), body)
        )


def _measured(arrivals: Arrivals, rate: float, seconds: float) -> dict[str, float]:
    """Run the arrivals on an event loop that wakes up on time."""
    # epoll and uvloop wait in whole milliseconds, in which several events are due; select in microseconds.
    with asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(selectors.SelectSelector())) as runner:
        begun, cpu = time.monotonic(), time.process_time()
        runner.run(arrivals.run(rate, seconds))
        elapsed, used = time.monotonic() - begun, time.process_time() - cpu
    if len(arrivals.times) < 2:
        raise CommandError("nothing was answered")
    shares = statistics.quantiles(arrivals.times, n=1000, method="inclusive")
    return {
        "requests": len(arrivals.times),
        "seconds": elapsed,
        "refused": arrivals.refused,
        "broken": arrivals.broken,
        "p50": shares[499],
        "p99": shares[989],
        "p999": shares[998],
        "late": statistics.quantiles(arrivals.lateness, n=100, method="inclusive")[98],
        "client": used / elapsed,
    }


def main() -> int:
    """Send, and print what was measured as JSON."""
    parser = argparse.ArgumentParser(prog="python -m bench.arrivals", description=__doc__)
    parser.add_argument("url")
    parser.add_argument("--rate", type=float, default=1000, help="events a second; default: %(default)g")
    parser.add_argument("--seconds", type=float, default=3, help="default: %(default)g")
    parser.add_argument("--size", type=int, default=1000, help="bytes of an event; default: %(default)s")
    parser.add_argument("--connections", type=int, default=64, help="at most; default: %(default)s")
    parsed = parser.parse_args()
    arrivals = Arrivals(parsed.url, requests(parsed.size), parsed.connections)
    with contextlib.suppress(KeyboardInterrupt):
        print(json.dumps(_measured(arrivals, parsed.rate, parsed.seconds)))
        return 0
    return 130


if __name__ == "__main__":
    sys.exit(main())
