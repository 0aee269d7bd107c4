"""The targets, where they come from, and whether they were reached."""

import statistics
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from bench.rounds import Sample
from bench.serving import CONTROL
from bench.serving import OURS as CONTESTANT

OURS, AGAIN = CONTESTANT.name, CONTROL.name
FLOOR = "empty-async"
SIZE = 1000
# Instructions of an event at commit c5d5e8d, counted by `python -m bench.instructions --source`, and the
# share of them that is allowed. All modules were compiled before: in one count, two of them were compiled
# in the longer run only, and a published event seemed to take 385,000.
RECORDED = {"dropped": 251_458.0, "published": 360_247.0}
LEFT = 0.8
Results = Mapping[str, Any]


class NotMeasuredError(Exception):
    """A run has no such figure: it was a quick one, or it was interrupted."""


class Case(NamedTuple):
    """What was measured: a contestant, at how many clients, with bodies of how many bytes.

    `delay` is the round trip to the broker in seconds, `share` that of the capacity in an open loop.
    """

    contestant: str
    clients: int = 64
    size: int = SIZE
    delay: float = 0.0
    share: float = 0.0


@dataclass(frozen=True)
class Target:
    """A figure, how it is computed from the results, the least or the most that it may be, and why."""

    figure: str
    of: Callable[[Results], float]
    why: str
    least: float | None = None
    most: float | None = None

    def met(self, value: float) -> bool:
        """Whether the value is within the limits."""
        return (self.least is None or value >= self.least) and (self.most is None or value <= self.most)

    def __str__(self) -> str:
        return f"at least {self.least:g}" if self.least is not None else f"at most {self.most:g}"


def case_of(sample: Sample) -> Case:
    """The case that a sample is of."""
    return Case(*(sample[name] for name in Case._fields))


def by_round(samples: Sequence[Sample], case: Case, key: str) -> dict[int, float]:
    """A figure in each round."""
    return {sample["round"]: sample[key] for sample in samples if case_of(sample) == case}


def median(samples: Sequence[Sample], case: Case, key: str) -> float:
    """The median over the rounds. Raises NotMeasuredError if the figure was not measured."""
    return _median(by_round(samples, case, key).values())


def ratios(ours: Mapping[int, float], others: Mapping[int, float]) -> list[float]:
    """The ratio in each round, ours ÷ the other's: what slows a whole round slows both."""
    return [ours[number] / others[number] for number in ours if others.get(number)]


def ratio(key: str, other: str, clients: int = 64) -> Callable[[Results], float]:
    """The median of the rounds' ratios."""

    def of(results: Results) -> float:
        samples = results.get("load", [])
        ours, others = (by_round(samples, Case(name, clients), key) for name in (OURS, other))
        return _median(ratios(ours, others))

    return of


def starts(results: Results, name: str) -> dict[int, float]:
    """Seconds of a cold start in each round."""
    return {s["round"]: s["seconds"] for s in results.get("cold", []) if s["contestant"] == name}


def memory(samples: Sequence[Sample], contestant: str, kind: str = "worker") -> float:
    """Megabytes after a load of 1 KB bodies from 64 clients, the median over the rounds."""
    return _median(s["memory"][kind] for s in samples if case_of(s) == Case(contestant))


def _cold(results: Results) -> float:
    return _median(ratios(starts(results, OURS), starts(results, FLOOR)))


def _lost(results: Results) -> float:
    return _median(books["lost"] for books in results.get("outage", []) if books["contestant"] == OURS)


def _instructions(way: str) -> Callable[[Results], float]:
    def of(results: Results) -> float:
        return _median([results["instructions"][way] / RECORDED[way]] if results.get("instructions") else [])

    return of


def _median(values: Iterable[float]) -> float:
    found = list(values)
    if not found:
        raise NotMeasuredError
    return float(statistics.median(found))


BESIDE = "well ahead of published receivers"
BEFORE = "at c5d5e8d, with more layers, it was"
COUNTED = "a fifth less than at c5d5e8d; binding, for a machine's load hardly changes it"
TARGETS = (
    Target("instructions of an event, dropped, ÷ recorded", _instructions("dropped"), COUNTED, most=LEFT),
    Target("instructions of an event, published, ÷ recorded", _instructions("published"), COUNTED, most=LEFT),
    Target("requests/s at 64 clients ÷ empty-sync", ratio("rate", "empty-sync"), f"{BEFORE} 2.3", least=3.0),
    Target("… ÷ tutorial-tuned", ratio("rate", "tutorial-tuned"), BESIDE, least=5),
    Target("… ÷ tutorial", ratio("rate", "tutorial"), BESIDE, least=10),
    Target("… ÷ per-request-client", ratio("rate", "per-request-client"), BESIDE, least=15),
    Target(
        "CPU per event at 64 clients ÷ empty-async",
        ratio("cpu", FLOOR),
        f"{BEFORE} 3.1; one flat function without the guarantees took 1.8",
        most=2.2,
    ),
    Target(
        "p99 at 64 clients ÷ empty-async",
        ratio("p99", FLOOR),
        "as the CPU: what 64 clients wait for is each other's events",
        most=2.3,
    ),
    Target("p50 of a lone client ÷ tutorial", ratio("p50", "tutorial", 1), BESIDE, most=0.1),
    Target(
        "cold start ÷ empty-async",
        _cold,
        f"{BEFORE} 1.66 to 1.96; now it imports gRPC and a validator, neither handlers nor models",
        most=1.35,
    ),
    Target(
        "memory after load at 64 clients, MB",
        lambda results: memory(results.get("load", []), OURS),
        "a prototype without the guarantees held 53",
        most=60,
    ),
    Target("events lost, broker killed under load", _lost, "a 2xx means that Pub/Sub has it", most=0),
)


def reached(results: Results) -> Iterator[tuple[Target, float | None]]:
    """Each target and what was reached, None where that was not measured."""
    for target in TARGETS:
        try:
            yield target, target.of(results)
        except NotMeasuredError:
            yield target, None


def control(results: Results) -> Iterator[tuple[str, list[float]]]:
    """The rounds' ratios of a contestant and itself under another name, which should be 1."""
    samples = results.get("load", [])
    for clients, key in ((64, "rate"), (64, "cpu"), (64, "p50"), (64, "p99"), (1, "p50")):
        ours, again = (by_round(samples, Case(name, clients), key) for name in (OURS, AGAIN))
        yield f"{key} at {clients}", ratios(again, ours)
    yield "cold start", ratios(starts(results, AGAIN), starts(results, OURS))
