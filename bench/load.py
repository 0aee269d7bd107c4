"""Load from outside: wrk (https://github.com/wg/wrk), a compiled client, never Python."""

import json
import resource
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.serving import ROOT, SECRET, Server
from flowhook import samples
from flowhook.cli.errors import CommandError

SCRIPT = ROOT / "bench" / "load.lua"
# A client that is busy for this share of the time is the limit of what it measures.
BUSY = 0.9


@dataclass(frozen=True)
class Plan:
    """Events of about `size` bytes, over so many connections with one under way on each.

    `seconds` are whole ones: wrk knows no others. `rate` is how many events a second, 0 for as many as are
    answered. With `share`, that rate is this share of what was reached before, and the events arrive at it in
    an open loop (`bench.arrivals`). `record` is a folder for the ids of the events that are answered 2xx.
    """

    connections: int
    seconds: int
    size: int = 1000
    rate: float = 0.0
    share: float = 0.0
    record: Path | None = None


@dataclass(frozen=True)
class Load:
    """One run of the client. Times in seconds; `cpu` is the server's for each accepted event.

    `client` is how much of a core the client used, `refused` counts the answers that are no 2xx or 3xx,
    `broken` the connections that failed and the requests that were not answered in time.
    """

    requests: int
    seconds: float
    accepted: int
    refused: int
    broken: int
    p50: float
    p99: float
    p999: float
    rate: float
    cpu: float
    client: float


def find() -> str:
    """The path of wrk. Raises CommandError if it is not installed."""
    found = shutil.which("wrk")
    if not found:
        raise CommandError("the load comes from wrk, which is not installed: apt-get install wrk")
    return found


def body(size: int) -> bytes:
    """An event of about `size` bytes in which @ID@ stands for the entity's id."""
    event = json.loads(samples.load("packets.updated"))
    event["entityId"] = "@ID@"
    event["entityPath"] = event["data"]["value"]["key"] = "pipelinesPackets/pk-1"
    rest = size - len(json.dumps(event))
    properties = event["data"]["value"]["properties"]
    # Add fields of a record, as an event of that size would have them, not one long text.
    properties |= {f"field{n}": f"the value of the field {n}" for n in range(max(0, rest) // 45)}
    return json.dumps(event).encode()


@contextmanager
def sending(url: str, plan: Plan) -> Iterator[subprocess.Popen[bytes]]:
    """The running client, whose output the caller reads."""
    with tempfile.NamedTemporaryFile() as file:
        Path(file.name).write_bytes(body(plan.size))
        threads = plan.connections if plan.record else 1
        size = [f"--threads={threads}", f"--connections={plan.connections}", f"--duration={plan.seconds}s"]
        headers = [f"--header=Authorization: Bearer {SECRET}", "--header=Content-Type: application/json"]
        told = [file.name, f"{plan.rate / threads:g}", *([str(plan.record)] if plan.record else [])]
        command = [find(), *size, *headers, "--timeout=30s", f"--script={SCRIPT}", url, "--", *told]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as client:  # noqa: S603 - found above
            try:
                yield client
            finally:
                client.kill()


def result(client: subprocess.Popen[bytes]) -> dict[str, Any]:
    """What the client's script has counted, once it is done. Raises CommandError where it failed."""
    output, _ = client.communicate()
    if client.returncode:
        raise CommandError(f"wrk failed:\n{output.decode()}")
    counted: dict[str, Any] = json.loads(output.splitlines()[-1])
    return counted


def run(server: Server, plan: Plan) -> Load:
    """Send what is planned, and measure it."""
    before, client, begun = server.cpu(), _children(), time.monotonic()
    with sending(server.url, plan) as started:
        found = result(started)
    elapsed = time.monotonic() - begun
    accepted, seconds = found["requests"] - found["refused"], found["microseconds"] / 1e6
    return Load(
        found["requests"],
        seconds,
        accepted,
        found["refused"],
        found["broken"] + found["timeouts"],
        found["p50"] / 1e6,
        found["p99"] / 1e6,
        found["p999"] / 1e6,
        rate=accepted / seconds,
        cpu=(server.cpu() - before) / accepted if accepted else 0.0,
        client=(_children() - client) / elapsed,
    )


def _children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
