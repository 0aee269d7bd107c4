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
from bench.rounds import Sample
from bench.serving import CONTESTANTS
from bench.targets import OURS, SIZE, Results, median, memory, reached

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
    """All of it, to be printed."""
    yield ", ".join(f"{name} {value}" for name, value in results["machine"].items())
    yield from _section(f"Load, medians of {results['rounds']} round(s)", _loads(results["load"]))
    yield from _section("Cold start, ms to the first 2xx, and what is imported (shares)", _starts(results))
    yield from _section("The broker killed under load", _outages(results))
    yield from _section("With credentials and TLS, against a stand-in in Python", _secure(results["tls"]))
    if results["growth"]:
        yield from _section("At 80 % of the rate reached, minute by minute", _growth(results["growth"]))
    cpu = median(results["load"], OURS, "cpu", 64)
    yield from _section(f"US dollars a million events: {price.ASSUMPTIONS}", _prices(cpu))
    yield from _section(f"Targets of {OURS}, bodies of 1 KB", _targets(results))
    yield from _limits(results["load"])


def _section(title: str, rows: Iterator[Sequence[str]]) -> Iterator[str]:
    yield f"\n{title}"
    columns = [_aligned(column) for column in zip(*rows, strict=True)]
    yield from ("  ".join(cells).rstrip() for cells in zip(*columns, strict=True))


def _aligned(column: Sequence[str]) -> list[str]:
    """Numbers and their heading to the right, texts to the left."""
    width = max(map(len, column))
    numbers = any(cell[:1].isdigit() for cell in column)
    return [cell.rjust(width) if numbers else cell.ljust(width) for cell in column]


def _loads(samples: Sequence[Sample]) -> Iterator[Sequence[str]]:
    yield (
        "contestant",
        "bytes",
        "clients",
        "events/s",
        "p50 ms",
        "p99 ms",
        "CPU µs",
        "worker MB",
        "all MB",
        "client",
    )
    groups = {(s["contestant"], s["size"], s["clients"]): None for s in samples if s["round"] == 0}
    order = [contestant.name for contestant in CONTESTANTS]
    for name, size, clients in sorted(groups, key=lambda group: (order.index(group[0]), *group[1:])):
        rate, p50, p99, cpu, client = (
            median(samples, name, key, clients, size) for key in ("rate", "p50", "p99", "cpu", "client")
        )
        of_it = [
            s["memory"]
            for s in samples
            if (s["contestant"], s["size"], s["clients"]) == (name, size, clients)
        ]
        held = (statistics.median(m[kind] for m in of_it) for kind in ("worker", "all"))
        times = (f"{p50 * 1e3:.1f}", f"{p99 * 1e3:.1f}", f"{cpu * 1e6:.0f}")
        yield (
            name,
            str(size),
            str(clients),
            f"{rate:.0f}",
            *times,
            *(f"{m:.0f}" for m in held),
            f"{client:.2f}",
        )


def _starts(results: Results) -> Iterator[Sequence[str]]:
    yield "contestant", "median", "least", "most", "imported"
    for name, starts in results["cold"].items():
        imported = list(results["imports"][name].items())[:MAIN_PACKAGES]
        packages = ", ".join(f"{package} {seconds * 1e3:.0f}" for package, seconds in imported)
        times = (f"{value * 1e3:.0f}" for value in (statistics.median(starts), min(starts), max(starts)))
        yield name, *times, packages


def _outages(results: Results) -> Iterator[Sequence[str]]:
    yield "contestant", "answered 2xx", "after its return", "found", "lost", "refused", "broken"
    for books in results["outage"]:
        counts = ("accepted", "after", "found", "lost", "refused", "broken")
        yield books["contestant"], *(str(books[count]) for count in counts)


def _secure(seen: Mapping[str, Any]) -> Iterator[Sequence[str]]:
    yield "contestant", "CPU µs", "events a call", "cold start ms"
    start = statistics.median(seen["cold"]) * 1e3
    yield OURS, f"{seen['cpu'] * 1e6:.0f}", f"{seen['size']:.1f}", f"{start:.0f}"


def _growth(samples: Sequence[Sample]) -> Iterator[Sequence[str]]:
    yield "minute", "offered/s", "events/s", "CPU µs", "worker MB", "p99 ms", "refused or broken"
    for s in samples:
        rates = (f"{s['offered']:.0f}", f"{s['rate']:.0f}", f"{s['cpu'] * 1e6:.0f}")
        failed = str(s["refused"] + s["broken"])
        yield f"{s['minute']:g}", *rates, f"{s['memory']['worker']:.1f}", f"{s['p99'] * 1e3:.1f}", failed


def _prices(cpu: float) -> Iterator[Sequence[str]]:
    for name, dollars in price.lines(cpu):
        yield name, f"{dollars:.3f}"


def _targets(results: Results) -> Iterator[Sequence[str]]:
    yield "figure", "target", "reached", ""
    for target, value in reached(results):
        yield target.figure, str(target), f"{value:.2f}", "met" if target.met(value) else "not met"
    yield "(all processes, shared pages once, MB)", "", f"{memory(results['load'], OURS, 'all'):.2f}", ""


def _limits(samples: Sequence[Sample]) -> Iterator[str]:
    """What held the figures back other than the contestants."""
    busy = {
        f"{s['contestant']} at {s['clients']} clients, {s['size']} bytes"
        for s in samples
        if s["client"] >= load.BUSY
    }
    yield "\nThe client was the limit of: " + (", ".join(sorted(busy)) or "nothing")
    failed = {f"{s['contestant']} at {s['clients']}" for s in samples if s["refused"] + s["broken"]}
    yield "Requests were refused or broken in: " + (", ".join(sorted(failed)) or "none")
    broker = max(s["broker"] for s in samples if s["contestant"] == OURS and s["size"] == SIZE)
    yield f"The broker used up to {broker:.0%} of the machine beside {OURS}; its CPU is not counted."


def _read(path: str) -> list[str]:
    return Path(path).read_text().splitlines()
