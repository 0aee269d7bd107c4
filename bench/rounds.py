"""Rounds: each contestant is served anew and loaded in its turn, so that all see the same machine."""

import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from bench import arrivals, load
from bench.load import Plan
from bench.serving import CONTESTANTS, Contestant, Server, cpu_of, served, settings
from flowhook.cli.pubsub_emulator import Emulator
from tests.support.proxy import proxy

# Those whose cost is compared for larger bodies too: size to clients.
LARGE = ("empty-async", "tutorial-tuned", "flowhook-pubsub")
BODIES = {100_000: 16, 1_000_000: 4}
# Those that publish over a distance too: the seconds of a round trip, and the clients.
FAR = ("tutorial-tuned", "flowhook-pubsub")
ROUND_TRIP = 0.02
FAR_CLIENTS = (1, 64)
# Those to which events also arrive in an open loop, at shares of the rate that they have just reached with so
# many clients.
OPEN = ("empty-async", "flowhook-pubsub")
SHARES = (0.3, 0.6, 0.9)
CLIENTS = 64
WARM_UP = 1
Sample = dict[str, Any]


@dataclass(frozen=True)
class Effort:
    """How much is measured: rounds, clients at a time to the seconds of the run, starts of each contestant.

    `seconds` are those of each other run.
    """

    rounds: int
    clients: Mapping[int, int]
    seconds: int
    starts: int


def run(emulator: Emulator, effort: Effort) -> Iterator[Sample]:
    """A sample for each run of the client."""
    with proxy(emulator.host) as between:
        between.delay = ROUND_TRIP
        near = settings(emulator)
        far = {**near, "PUBSUB_EMULATOR_HOST": between.address}
        for number in range(effort.rounds):
            # In each round another contestant goes first.
            turn = number % len(CONTESTANTS)
            for contestant in CONTESTANTS[turn:] + CONTESTANTS[:turn]:
                for sample in _loaded(contestant, near, emulator, effort):
                    yield {"round": number, "delay": 0.0, **sample}
                if contestant.name in FAR:
                    for sample in _loaded_from_afar(contestant, far, emulator, effort):
                        yield {"round": number, "delay": ROUND_TRIP, **sample}


def _loaded(
    contestant: Contestant, told: Mapping[str, str], emulator: Emulator, effort: Effort
) -> Iterator[Sample]:
    plans = [Plan(clients, seconds) for clients, seconds in effort.clients.items()]
    if contestant.name in LARGE:
        plans += [Plan(clients, effort.seconds, size) for size, clients in BODIES.items()]
    with served(contestant, told) as server:
        load.run(server, Plan(8, WARM_UP))
        reached = 0.0
        for plan in plans:
            taken = sample(server, emulator, plan)
            if (plan.connections, plan.size) == (CLIENTS, Plan.size):
                reached = taken["rate"]
            yield taken
        if contestant.name in OPEN:
            for share in SHARES:
                yield sample(
                    server, emulator, Plan(CLIENTS, effort.seconds, rate=share * reached, share=share)
                )


def _loaded_from_afar(
    contestant: Contestant, told: Mapping[str, str], emulator: Emulator, effort: Effort
) -> Iterator[Sample]:
    with served(contestant, told) as server:
        load.run(server, Plan(8, WARM_UP))
        for clients in FAR_CLIENTS:
            yield sample(server, emulator, Plan(clients, effort.seconds))


def sample(server: Server, emulator: Emulator, plan: Plan) -> Sample:
    """One run of the client, with the server's memory after it (MB).

    `broker` is the broker's share of the machine; `here` that of a core which this process used, where the
    proxy is; `late` the seconds by which the client of an open loop sent too late, in 99 of 100 cases.
    """
    broker, here, begun = cpu_of(emulator.process), time.process_time(), time.monotonic()
    loaded, late = arrivals.run(server, plan) if plan.share else (load.run(server, plan), 0.0)
    elapsed = time.monotonic() - begun
    used = {
        "broker": (cpu_of(emulator.process) - broker) / elapsed / (os.cpu_count() or 1),
        "here": (time.process_time() - here) / elapsed,
    }
    memory = {"worker": server.worker(), "peak": server.worker("VmHWM"), "all": server.memory()}
    seen = {"contestant": server.contestant.name, "clients": plan.connections, "size": plan.size}
    offered = {"share": plan.share, "offered": plan.rate, "late": late}
    return {**seen, **offered, **asdict(loaded), **used, "memory": memory}
