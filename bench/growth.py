"""Growth: whether events cost more, wait longer or hold more memory the more have been served."""

from collections.abc import Iterator

from bench import load, rounds
from bench.load import Plan
from bench.rounds import Sample
from bench.serving import OURS, served, settings
from flowhook.cli.pubsub_emulator import Emulator

SHARE = 0.8
CLIENTS = 64
# Seconds.
INTERVAL = 30


def run(emulator: Emulator, minutes: float) -> Iterator[Sample]:
    """A sample for each interval at 80 % of the rate that was reached before; `minute` is when it ended."""
    with served(OURS, settings(emulator)) as server:
        load.run(server, Plan(CLIENTS, INTERVAL // 6))
        rate = SHARE * load.run(server, Plan(CLIENTS, INTERVAL // 3)).rate
        for number in range(max(1, round(minutes * 60 / INTERVAL))):
            sample = rounds.sample(server, emulator, Plan(CLIENTS, INTERVAL, rate=rate))
            yield {"minute": (number + 1) * INTERVAL / 60, **sample}
