"""Rounds: each contestant is served anew and loaded in its turn, so that all see the same machine."""

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from bench import load
from bench.load import Plan
from bench.serving import CONTESTANTS, Contestant, Server, cpu_of, served, settings
from flowhook.cli.pubsub_emulator import Emulator

# Those whose cost is compared for larger bodies too: size to clients.
LARGE = ("empty-async", "tutorial-tuned", "flowhook-pubsub")
BODIES = {100_000: 16, 1_000_000: 4}
WARM_UP = 1
Sample = dict[str, Any]


@dataclass(frozen=True)
class Effort:
    """How much is measured: rounds, clients at a time, seconds of each run, starts of each contestant."""

    rounds: int
    clients: Sequence[int]
    seconds: int
    starts: int


def run(emulator: Emulator, effort: Effort) -> Iterator[Sample]:
    """A sample for each run of the client."""
    told = settings(emulator)
    for number in range(effort.rounds):
        # Another one goes first each time.
        turn = number % len(CONTESTANTS)
        for contestant in CONTESTANTS[turn:] + CONTESTANTS[:turn]:
            for sample in _loaded(contestant, told, emulator, effort):
                yield {"round": number, **sample}


def _loaded(
    contestant: Contestant, told: Mapping[str, str], emulator: Emulator, effort: Effort
) -> Iterator[Sample]:
    plans = [Plan(clients, effort.seconds) for clients in effort.clients]
    if contestant.name in LARGE:
        plans += [Plan(clients, effort.seconds, size) for size, clients in BODIES.items()]
    with served(contestant, told) as server:
        load.run(server, Plan(8, WARM_UP))
        for plan in plans:
            yield sample(server, emulator, plan)


def sample(server: Server, emulator: Emulator, plan: Plan) -> Sample:
    """One run of the client, with the server's memory after it (MB) and the broker's share of the machine."""
    broker, begun = cpu_of(emulator.process), time.monotonic()
    loaded = load.run(server, plan)
    share = (cpu_of(emulator.process) - broker) / (time.monotonic() - begun) / (os.cpu_count() or 1)
    memory = {"worker": server.worker(), "peak": server.worker("VmHWM"), "all": server.memory()}
    seen = {"contestant": server.contestant.name, "clients": plan.connections, "size": plan.size}
    return {**seen, **asdict(loaded), "memory": memory, "broker": share}
