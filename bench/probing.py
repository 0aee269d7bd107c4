"""Sends small events from a process of its own: how long each of them waits while others are under way."""

import http.client
import multiprocessing
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path

# Seconds from one event to the next, and seconds after which one is given up.
PERIOD, PATIENCE = 0.05, 60.0


@dataclass
class Probe:
    """What became of the events; `waited` are the seconds that each took to be answered.

    `worked` are the seconds of CPU that the server's main thread, which runs the loop, used meanwhile. They
    are what the server itself made an event wait, whatever else the machine does.
    """

    waited: list[float] = field(default_factory=list)
    worked: list[float] = field(default_factory=list)
    refused: int = 0
    broken: int = 0


@contextmanager
def probing(port: int, pid: int, body: bytes, headers: Mapping[str, str]) -> Iterator[Probe]:
    """Send `body` every 50 ms over one open connection until the block ends; the result is complete then.

    `pid` is the process that answers. The sender is another process, because a thread
    would share the interpreter with those who send large bodies.
    """
    found = Probe()
    here, there = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(
        target=_run, args=(port, pid, body, headers, there), daemon=True
    )
    process.start()
    try:
        # It is ready once its first event is answered.
        here.recv()
        yield found
        here.send(None)
        found.__dict__.update(here.recv().__dict__)
    finally:
        process.terminate()
        process.join()


def _run(port: int, pid: int, body: bytes, headers: Mapping[str, str], pipe: Connection) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    _send(connection, pid, body, headers, Probe())
    pipe.send(None)
    found, due = Probe(), time.monotonic()
    while not pipe.poll(max(0.0, due - time.monotonic())):
        # What was due while an event waited is left out: it would only have waited less.
        due = max(due + PERIOD, time.monotonic())
        _send(connection, pid, body, headers, found)
    pipe.send(found)


def _send(
    connection: http.client.HTTPConnection, pid: int, body: bytes, headers: Mapping[str, str], found: Probe
) -> None:
    began, used = time.monotonic(), _cpu(pid)
    try:
        connection.request("POST", "/", body, dict(headers))
        answer = connection.getresponse()
        answer.read()
    except (OSError, http.client.HTTPException):
        found.broken += 1
        connection.close()
        return
    found.waited.append(time.monotonic() - began)
    found.worked.append(_cpu(pid) - used)
    found.refused += answer.status >= 300


def _cpu(pid: int) -> float:
    """The seconds that the main thread of a process has run: https://docs.kernel.org/scheduler/sched-stats.html."""
    return int(Path(f"/proc/{pid}/task/{pid}/schedstat").read_text().split()[0]) / 1e9
