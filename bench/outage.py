"""Events lost when the broker is killed under load: answered 2xx, and not in Pub/Sub."""

import base64
import json
import os
import signal
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from bench import load
from bench.load import Plan
from bench.serving import TOPIC, Contestant, Server, served, settings
from flowhook.cli.pubsub_emulator import Emulator, wait_until
from flowhook.cli.run import free_port
from tests.support.proxy import Proxy, proxy

CLIENTS = 32
SECONDS = 15
# Seconds without a message after which none is assumed to be under way.
QUIET = 1.0
CONTESTANTS = ("per-request-client", "tutorial-tuned", "flowhook-pubsub")


@dataclass(frozen=True)
class Books:
    """What was answered 2xx and how much of it after the broker's return, what was found, what was lost."""

    contestant: str
    accepted: int
    after: int
    found: int
    lost: int
    refused: int
    broken: int


def run(contestant: Contestant) -> Books:
    """Load the contestant, kill the broker, start it again, and compare."""
    with (
        Emulator(free_port()) as emulator,
        proxy(emulator.host) as between,
        tempfile.TemporaryDirectory() as folder,
    ):
        _create(emulator)
        record = Path(folder)
        # The timeout is about as long as the broker's restart, so that flowhook may have to refuse events.
        told = {**settings(emulator), "PUBSUB_EMULATOR_HOST": between.address, "DELIVERY_TIMEOUT": "2"}
        plan = Plan(CLIENTS, SECONDS, record=record)
        with served(contestant, told) as server, load.sending(server.url, plan) as client:
            wait_until(lambda: len(_accepted(record)) >= 10 * CLIENTS, client, "the load")
            found = _kill(emulator, between, server)
            before = len(_accepted(record))
            counted = load.result(client)
            found |= _drain(emulator)
        accepted = _accepted(record)
    return Books(
        contestant.name,
        len(accepted),
        len(accepted) - before,
        len(found),
        len(accepted - found),
        counted["refused"],
        counted["broken"] + counted["timeouts"],
    )


def _kill(emulator: Emulator, between: Proxy, server: Server) -> set[str]:
    """Kill the broker and start it again, empty; return the ids of the events that it had."""
    # Its messages are lost with it, so they are pulled first; the receiver is stopped meanwhile, because the
    # result is exact only while nobody publishes. When it continues, its calls under way are cut.
    os.killpg(server.process.pid, signal.SIGSTOP)
    found = _drain(emulator)
    emulator.kill()
    os.killpg(server.process.pid, signal.SIGCONT)
    # Refuse connections until there is a subscription: a topic without one accepts messages and drops them.
    between.cut(refuse=True)
    emulator.start()
    _create(emulator)
    between.release()
    return found


def _create(emulator: Emulator) -> None:
    emulator.create_topic(TOPIC)
    emulator.subscribe(TOPIC, TOPIC)


def _drain(emulator: Emulator) -> set[str]:
    """Pull messages until none has come for a while; return the ids in them."""
    found: set[str] = set()
    last = time.monotonic()
    while time.monotonic() - last < QUIET:
        if messages := emulator.pull(TOPIC):
            found |= {json.loads(base64.b64decode(message["data"]))["entityId"] for message in messages}
            last = time.monotonic()
    return found


def _accepted(record: Path) -> set[str]:
    """The ids that the client has recorded; the last line of a file may be incomplete and is left out."""
    return {line for file in record.iterdir() for line in file.read_text().split("\n")[:-1]}
