"""What is to be reached, and what was."""

import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bench.rounds import Sample

OURS = "flowhook-pubsub"
SIZE = 1000
Results = Mapping[str, Any]


@dataclass(frozen=True)
class Target:
    """A figure, how it is had from the results, and the least or the most that it may be."""

    figure: str
    of: Callable[[Results], float]
    least: float | None = None
    most: float | None = None

    def met(self, value: float) -> bool:
        """Whether a figure is within it."""
        return (self.least is None or value >= self.least) and (self.most is None or value <= self.most)

    def __str__(self) -> str:
        return f"at least {self.least:g}" if self.least is not None else f"at most {self.most:g}"


def median(samples: Sequence[Sample], contestant: str, key: str, clients: int, size: int = SIZE) -> float:
    """Over the rounds. Raises KeyError where it was not measured."""
    values = _by_round(samples, contestant, key, clients, size).values()
    if not values:
        raise KeyError(f"{contestant} at {clients} clients")
    return statistics.median(values)


def ratio(key: str, other: str, clients: int = 64) -> Callable[[Results], float]:
    """The median of the rounds' ratios, ours ÷ the other's: what slows a whole round slows both."""

    def of(results: Results) -> float:
        ours = _by_round(results["load"], OURS, key, clients, SIZE)
        others = _by_round(results["load"], other, key, clients, SIZE)
        return statistics.median(ours[number] / others[number] for number in ours)

    return of


def _by_round(
    samples: Sequence[Sample], contestant: str, key: str, clients: int, size: int
) -> dict[int, float]:
    wanted = (contestant, clients, size)
    return {s["round"]: s[key] for s in samples if (s["contestant"], s["clients"], s["size"]) == wanted}


def _cold(results: Results) -> float:
    starts = results["cold"]
    return float(statistics.median(starts[OURS]) / statistics.median(starts["empty-async"]))


def memory(samples: Sequence[Sample], contestant: str, kind: str = "worker") -> float:
    """Megabytes after the last load of 1 KB bodies, the median over the rounds."""
    of_it = [s for s in samples if s["contestant"] == contestant and s["size"] == SIZE]
    last = max(s["clients"] for s in of_it)
    return float(statistics.median(s["memory"][kind] for s in of_it if s["clients"] == last))


def _lost(results: Results) -> float:
    return float(next(books["lost"] for books in results["outage"] if books["contestant"] == OURS))


TARGETS = (
    Target("requests/s at 64 clients ÷ empty-sync", ratio("rate", "empty-sync"), least=3.5),
    Target("… ÷ tutorial-tuned", ratio("rate", "tutorial-tuned"), least=5),
    Target("… ÷ tutorial", ratio("rate", "tutorial"), least=10),
    Target("… ÷ per-request-client", ratio("rate", "per-request-client"), least=15),
    Target("CPU per event at 64 clients ÷ empty-async", ratio("cpu", "empty-async"), most=1.8),
    Target("p99 at 64 clients ÷ empty-async", ratio("p99", "empty-async"), most=2),
    Target("p50 of a lone client ÷ tutorial", ratio("p50", "tutorial", 1), most=0.1),
    Target("cold start ÷ empty-async", _cold, most=2.2),
    Target("memory after load, MB", lambda results: memory(results["load"], OURS), most=82),
    Target("events lost, broker killed under load", _lost, most=0),
)


def reached(results: Results) -> Iterator[tuple[Target, float]]:
    """Each target and what was reached."""
    for target in TARGETS:
        yield target, target.of(results)
