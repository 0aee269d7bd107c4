"""The results as text."""

import os
import platform
import statistics
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from bench import load, price
from bench.rounds import ROUND_TRIP, Sample
from bench.serving import CONTESTANTS
from bench.targets import (
    AGAIN,
    FLOOR,
    OURS,
    RECORDED,
    SIZE,
    Case,
    NotMeasuredError,
    Results,
    case_of,
    control,
    median,
    reached,
    starts,
)

PACKAGES = (
    "functions-framework",
    "gunicorn",
    "uvicorn",
    "uvloop",
    "httptools",
    "grpcio",
    "google-cloud-pubsub",
)
MAIN_PACKAGES = 6


def machine() -> dict[str, str]:
    """What it was measured on, and with which versions."""
    cpu = next(
        (line.partition(":")[2].strip() for line in _read("/proc/cpuinfo") if line.startswith("model name")),
        "?",
    )
    gigabytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    wrk = subprocess.run([load.find(), "--version"], capture_output=True, text=True, check=False)  # noqa: S603
    return {
        "machine": f"{os.cpu_count()} cores of {cpu}, {gigabytes:.0f} GB",
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "wrk": wrk.stdout.split()[1],
        **{name: metadata.version(name) for name in PACKAGES},
    }


def lines(results: Results) -> Iterator[str]:
    """The whole report; of a run that was interrupted, what it has measured."""
    yield ", ".join(f"{name} {value}" for name, value in results["machine"].items())
    for title, rows in _sections(results):
        found = list(rows)
        if len(found) > 1:
            yield from _section(title, found)
    if results.get("load"):
        yield from _limits(results["load"])


def _sections(results: Results) -> Iterator[tuple[str, Iterator[Sequence[str]]]]:
    """Title and rows, the first of which is the heading."""
    samples = results.get("load", [])
    yield f"Load, medians of {results['rounds']} round(s)", _loads(samples)
    yield f"Publishing over a round trip of {ROUND_TRIP * 1e3:.0f} ms", _far(samples)
    yield "Open loop: events arrive at a share of the rate reached at 64 clients", _open(samples)
    yield "Cold start, ms to the first 2xx, and what is imported (shares)", _starts(results)
    yield "Instructions of an event", _instructions(results.get("instructions", {}))
    yield "The broker killed under load", _outages(results.get("outage", []))
    yield "With credentials and TLS, against a stand-in in Python", _secure(results.get("tls"))
    yield "At 80 % of the rate reached, minute by minute", _growth(results.get("growth", []))
    yield f"US dollars a million events: {price.ASSUMPTIONS}", _prices(samples)
    yield f"Targets of {OURS}, bodies of 1 KB", _targets(results)
    yield f"Noise: {AGAIN} ÷ {OURS}, which are the same", _control(results)


def _section(title: str, rows: Sequence[Sequence[str]]) -> Iterator[str]:
    yield f"\n{title}"
    columns = [_aligned(column) for column in zip(*rows, strict=True)]
    yield from ("  ".join(cells).rstrip() for cells in zip(*columns, strict=True))


def _aligned(column: Sequence[str]) -> list[str]:
    """Numbers and their heading to the right, texts to the left."""
    width = max(map(len, column))
    numbers = any(cell[:1].isdigit() for cell in column)
    return [cell.rjust(width) if numbers else cell.ljust(width) for cell in column]


def _cases(samples: Sequence[Sample]) -> list[Case]:
    """What was measured, contestant by contestant."""
    order = [contestant.name for contestant in CONTESTANTS]
    found = dict.fromkeys(map(case_of, samples))
    return sorted(found, key=lambda case: (order.index(case.contestant), case.size, case.clients, case.share))


def _times(samples: Sequence[Sample], case: Case) -> tuple[str, ...]:
    p50, p99, cpu = (median(samples, case, key) for key in ("p50", "p99", "cpu"))
    return f"{p50 * 1e3:.1f}", f"{p99 * 1e3:.1f}", f"{cpu * 1e6:.0f}"


def _loads(samples: Sequence[Sample]) -> Iterator[Sequence[str]]:
    head = ("contestant", "bytes", "clients", "events/s", "p50 ms", "p99 ms", "CPU µs")
    yield *head, "worker MB", "all MB", "client"
    for case in _cases(samples):
        if case.delay or case.share:
            continue
        rate, client = (median(samples, case, key) for key in ("rate", "client"))
        of_it = [sample["memory"] for sample in samples if case_of(sample) == case]
        held = (f"{statistics.median(m[kind] for m in of_it):.0f}" for kind in ("worker", "all"))
        seen = case.contestant, str(case.size), str(case.clients), f"{rate:.0f}"
        yield *seen, *_times(samples, case), *held, f"{client:.2f}"


def _far(samples: Sequence[Sample]) -> Iterator[Sequence[str]]:
    yield "contestant", "clients", "events/s", "p50 ms", "p99 ms", "CPU µs", "proxy"
    for case in _cases(samples):
        if case.delay:
            rate, here = (median(samples, case, key) for key in ("rate", "here"))
            seen = case.contestant, str(case.clients), f"{rate:.0f}"
            yield *seen, *_times(samples, case), f"{here:.2f}"


def _open(samples: Sequence[Sample]) -> Iterator[Sequence[str]]:
    head = ("contestant", "share", "offered/s", "events/s", "p50 ms", "p99 ms", "CPU µs")
    yield *head, "client", "client late ms"
    for case in _cases(samples):
        if case.share:
            keys = ("offered", "rate", "client", "late")
            offered, rate, client, late = (median(samples, case, key) for key in keys)
            seen = case.contestant, f"{case.share:.0%}", f"{offered:.0f}", f"{rate:.0f}"
            yield *seen, *_times(samples, case), f"{client:.2f}", f"{late * 1e3:.1f}"


def _starts(results: Results) -> Iterator[Sequence[str]]:
    yield "what starts", "median", "least", "most", f"÷ {FLOOR}", "handlers", "imported"
    imports = {name: found for one in results.get("imports", []) for name, found in one.items()}
    floor = list(starts(results, FLOOR).values())
    for name in dict.fromkeys(sample["contestant"] for sample in results.get("cold", [])):
        taken = list(starts(results, name).values())
        middle = statistics.median(taken)
        times = (f"{value * 1e3:.0f}" for value in (middle, min(taken), max(taken)))
        share = f"{middle / statistics.median(floor):.2f}" if floor else ""
        found = imports.get(name, {"packages": {}, "handlers": 0.0})
        packages = [f"{package} {seconds * 1e3:.0f}" for package, seconds in found["packages"].items()]
        handlers = f"{found['handlers'] * 1e3:.0f}"
        yield name, *times, share, handlers, ", ".join(packages[:MAIN_PACKAGES])


def _instructions(found: Mapping[str, float]) -> Iterator[Sequence[str]]:
    yield "what becomes of it", "now", "recorded", "ratio"
    for way, cost in found.items():
        yield way, f"{cost:.0f}", f"{RECORDED[way]:.0f}", f"{cost / RECORDED[way]:.2f}"


def _outages(found: Sequence[Mapping[str, Any]]) -> Iterator[Sequence[str]]:
    yield "contestant", "answered 2xx", "after its return", "found", "lost", "refused", "broken"
    for books in found:
        counts = ("accepted", "after", "found", "lost", "refused", "broken")
        yield books["contestant"], *(str(books[count]) for count in counts)


def _secure(seen: Mapping[str, Any] | None) -> Iterator[Sequence[str]]:
    yield "contestant", "CPU µs", "events a call"
    if seen:
        yield OURS, f"{seen['cpu'] * 1e6:.0f}", f"{seen['size']:.1f}"


def _growth(samples: Sequence[Sample]) -> Iterator[Sequence[str]]:
    yield "minute", "offered/s", "events/s", "CPU µs", "worker MB", "p99 ms", "refused or broken"
    for s in samples:
        rates = (f"{s['offered']:.0f}", f"{s['rate']:.0f}", f"{s['cpu'] * 1e6:.0f}")
        failed = str(s["refused"] + s["broken"])
        yield f"{s['minute']:g}", *rates, f"{s['memory']['worker']:.1f}", f"{s['p99'] * 1e3:.1f}", failed


def _prices(samples: Sequence[Sample]) -> Iterator[Sequence[str]]:
    yield "", "dollars"
    try:
        cpu = median(samples, Case(OURS), "cpu")
    except NotMeasuredError:
        return
    for name, dollars in price.lines(cpu):
        yield name, f"{dollars:.3f}"


def _targets(results: Results) -> Iterator[Sequence[str]]:
    yield "figure", "target", "reached", "", "where the target comes from"
    for target, value in reached(results):
        if value is None:
            yield target.figure, str(target), "", "not measured", target.why
        else:
            met = "met" if target.met(value) else "not met"
            yield target.figure, str(target), f"{value:.2f}", met, target.why


def _control(results: Results) -> Iterator[Sequence[str]]:
    yield "figure", "median", "least", "most"
    for figure, found in control(results):
        if found:
            yield figure, *(f"{value:.2f}" for value in (statistics.median(found), min(found), max(found)))


def _limits(samples: Sequence[Sample]) -> Iterator[str]:
    """What limited the figures other than the contestants."""
    busy = {_named(case_of(s)) for s in samples if s["client"] >= load.BUSY}
    yield "\nThe client was the limit of: " + (", ".join(sorted(busy)) or "nothing")
    late = {_named(case_of(s)) for s in samples if s["share"] and s["late"] >= s["p99"] / 2}
    yield "The client of the open loop was late in: " + (", ".join(sorted(late)) or "nothing")
    proxied = {_named(case_of(s)) for s in samples if s["delay"] and s["here"] >= load.BUSY}
    yield "The proxy was the limit of: " + (", ".join(sorted(proxied)) or "nothing")
    failed = {_named(case_of(s)) for s in samples if s["refused"] + s["broken"]}
    yield "Requests were refused or broken in: " + (", ".join(sorted(failed)) or "none")
    ours = (s["broker"] for s in samples if s["contestant"] == OURS and s["size"] == SIZE)
    most = max(ours, default=0.0)
    yield f"The broker used up to {most:.0%} of the machine beside {OURS}; its CPU is not counted."


def _named(case: Case) -> str:
    """A case in words."""
    distance = f", {case.delay * 1e3:.0f} ms away" if case.delay else ""
    share = f", open loop at {case.share:.0%}" if case.share else ""
    return f"{case.contestant} at {case.clients} clients, {case.size} bytes{distance}{share}"


def _read(path: str) -> list[str]:
    return Path(path).read_text().splitlines()
