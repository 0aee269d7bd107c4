"""`python -m bench`: flowhook beside what others do, on this machine, with the Pub/Sub emulator."""

import argparse
import json
import sys
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

from bench import cold, growth, load, outage, picture, report, rounds, tls
from bench.rounds import Effort
from bench.serving import CONTESTANTS, TOPIC, settings
from flowhook.cli import pubsub_emulator
from flowhook.cli.errors import CommandError
from flowhook.cli.pubsub_emulator import Emulator
from flowhook.cli.run import free_port

FULL = Effort(rounds=5, clients=(1, 8, 64, 256), seconds=4, starts=9)
# 64 and one client are what the targets are about.
QUICK = Effort(rounds=1, clients=(1, 64), seconds=2, starts=3)
T = TypeVar("T")


def main() -> int:
    """Measure, print, write the files."""
    parsed = _arguments()
    results: dict[str, Any] = {}
    try:
        load.find(), pubsub_emulator.find()
        _measure(parsed, results)
    except CommandError as error:
        print(f"\nbench: {error}", file=sys.stderr)
        return 1
    finally:
        # What a run has found until it was stopped, too.
        if results:
            parsed.out.write_text(json.dumps(results, indent=1))
    parsed.picture.write_text(picture.draw(results))
    print(*report.lines(results), sep="\n")
    print(f"\nAll runs: {parsed.out}; the picture: {parsed.picture}")
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one round, in about two minutes")
    parser.add_argument("--rounds", type=int, help=f"default: {FULL.rounds}; quick: {QUICK.rounds}")
    parser.add_argument("--soak", type=float, default=0, metavar="MINUTES", help="and so long at 80 %% load")
    parser.add_argument("--out", type=Path, default=Path("bench/last.json"), help="default: %(default)s")
    parser.add_argument("--picture", type=Path, default=Path("bench/last.svg"), help="default: %(default)s")
    return parser.parse_args()


def _measure(parsed: argparse.Namespace, results: dict[str, Any]) -> None:
    """Fill the results in, one measurement after the other."""
    effort = QUICK if parsed.quick else FULL
    effort = Effort(parsed.rounds or effort.rounds, effort.clients, effort.seconds, effort.starts)
    results |= {"machine": report.machine(), "rounds": effort.rounds}
    with Emulator(free_port()) as broker:
        # Without a subscription the emulator keeps nothing of what it is given.
        broker.create_topic(TOPIC)
        told = settings(broker)
        results["load"] = _shown("load", rounds.run(broker, effort))
        results["growth"] = _shown("growth", growth.run(broker, parsed.soak)) if parsed.soak else []
        _say("cold starts")
        results["cold"] = cold.run(told, effort.starts)
        results["imports"] = {one.name: cold.imports(one, told) for one in CONTESTANTS}
    _say("TLS")
    results["tls"] = tls.run(effort.seconds, effort.starts)
    broken = (outage.run(one) for one in CONTESTANTS if one.name in outage.CONTESTANTS)
    results["outage"] = [asdict(books) for books in _shown("outage", broken)]


def _shown(what: str, found: Iterable[T]) -> list[T]:
    """All of them, told one by one: it takes a while."""
    kept: list[T] = []
    for one in found:
        kept.append(one)
        _say(f"{what} {len(kept)}")
    return kept


def _say(text: str) -> None:
    print(f"\r{text:20}", end="", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
