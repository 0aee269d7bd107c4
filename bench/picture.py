"""The results as one picture, SVG written as text; readable on light and on dark."""

import math
from collections.abc import Iterator

from bench.rounds import BODIES, LARGE
from bench.serving import CONTESTANTS
from bench.targets import AGAIN, OURS, SIZE, Case, Results, median

WIDTH, HEIGHT = 440, 230
LEFT, TOP = 130, 40
STYLE = """
text { font: 12px system-ui, sans-serif; fill: #1f2328 } .title { font-weight: 600 } .note { fill: #59636e }
.bar { fill: #8c959f } .ours { fill: #0969da } .line { fill: none; stroke-width: 2; stroke: #8c959f }
.line.ours { stroke: #0969da; fill: none } .axis { stroke: #d1d9e0 }
@media (prefers-color-scheme: dark) {
 text { fill: #f0f6fc } .note { fill: #9198a1 } .bar { fill: #656c76 } .ours { fill: #4493f8 }
 .line { stroke: #9198a1 } .line.ours { stroke: #4493f8 } .axis { stroke: #3d444d } }
"""
Series = dict[str, list[tuple[float, float]]]


def draw(results: Results) -> str:
    """Throughput, p99, CPU by size, and what happened over time."""
    samples = results["load"]
    names = [contestant.name for contestant in CONTESTANTS if contestant.name != AGAIN]
    rates = {name: median(samples, Case(name), "rate") for name in names}
    waits = {name: median(samples, Case(name), "p99") * 1e3 for name in names}
    panels = [
        _bars("events/s, 64 clients, 1 KB (more is better)", rates),
        _bars("p99 in ms, 64 clients, 1 KB (less is better)", waits),
        _lines("CPU µs per event by body size (both axes logarithmic)", _by_size(results), logarithmic=True),
        _lines("over the minutes at 80 % load", _over_time(results)),
    ]
    moved = (
        f'<g transform="translate({n % 2 * WIDTH} {n // 2 * HEIGHT})">{"".join(panel)}</g>'
        for n, panel in enumerate(panels)
    )
    box = f'viewBox="0 0 {2 * WIDTH} {2 * HEIGHT}" width="{2 * WIDTH}" height="{2 * HEIGHT}"'
    body = "\n".join(moved)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" {box} role="img">\n<style>{STYLE}</style>\n{body}\n</svg>\n'
    )


def _by_size(results: Results) -> Series:
    clients = {SIZE: 64, **BODIES}
    return {
        name: [
            (size, median(results["load"], Case(name, n, size), "cpu") * 1e6) for size, n in clients.items()
        ]
        for name in LARGE
    }


def _over_time(results: Results) -> Series:
    growth = results.get("growth")
    if not growth:
        return {}
    return {
        "worker, MB": [(s["minute"], s["memory"]["worker"]) for s in growth],
        "p99, ms": [(s["minute"], s["p99"] * 1e3) for s in growth],
        "CPU, µs": [(s["minute"], s["cpu"] * 1e6) for s in growth],
    }


def _bars(title: str, values: dict[str, float]) -> Iterator[str]:
    yield _text(10, 22, title, "title")
    most, room = max(values.values()), WIDTH - LEFT - 70
    for row, (name, value) in enumerate(values.items()):
        y, length = TOP + row * 25, room * value / most
        yield _text(LEFT - 8, y + 13, name, end=True)
        yield f'<rect x="{LEFT}" y="{y}" width="{length:.1f}" height="17" class="bar{_ours(name)}"/>'
        yield _text(LEFT + length + 6, y + 13, f"{value:,.0f}" if value >= 100 else f"{value:.1f}")


def _lines(title: str, series: Series, *, logarithmic: bool = False) -> Iterator[str]:
    """Each line with its name at its end, and its first and last value."""
    yield _text(10, 22, title, "title")
    points = [point for line in series.values() for point in line]
    if not points:
        yield _text(10, 50, "not measured in this run (--soak)", "note")
        return
    scale = math.log10 if logarithmic else float
    xs, ys = [scale(x) for x, _ in points], [scale(y) for _, y in points]
    low, high = (min(ys), max(ys)) if logarithmic else (0.0, max(ys))
    left, right, bottom = 50, WIDTH - 165, HEIGHT - 40

    def place(x: float, y: float) -> tuple[float, float]:
        across = (scale(x) - min(xs)) / ((max(xs) - min(xs)) or 1)
        up = (scale(y) - low) / ((high - low) or 1)
        return left + across * (right - left), bottom - up * (bottom - TOP)

    yield f'<line x1="{left}" y1="{bottom}" x2="{right}" y2="{bottom}" class="axis"/>'
    unit = "B" if logarithmic else "min"
    for x in dict.fromkeys((min(x for x, _ in points), max(x for x, _ in points))):
        yield _text(place(x, points[0][1])[0], bottom + 18, f"{x:,.9g} {unit}", "note")
    placed = {name: [place(*point) for point in line] for name, line in series.items()}
    firsts = _apart({name: line[0][1] for name, line in placed.items()})
    lasts = _apart({name: line[-1][1] for name, line in placed.items()})
    for name, line in placed.items():
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in line)
        yield f'<polyline points="{path}" class="line{_ours(name)}"/>'
        yield _text(left - 6, firsts[name] + 4, f"{series[name][0][1]:,.0f}", "note", end=True)
        yield _text(right + 6, lasts[name] + 4, f"{name} {series[name][-1][1]:,.0f}")


def _apart(heights: dict[str, float]) -> dict[str, float]:
    """Heights for texts, moved apart where they would overlap."""
    moved: dict[str, float] = {}
    lowest = math.inf
    for name, y in sorted(heights.items(), key=lambda item: -item[1]):
        moved[name] = lowest = min(y, lowest - 14)
    return moved


def _ours(name: str) -> str:
    return " ours" if name in (OURS, "worker, MB") else ""


def _text(x: float, y: float, text: str, kind: str = "", *, end: bool = False) -> str:
    anchor = ' text-anchor="end"' if end else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" class="{kind}"{anchor}>{text}</text>'
