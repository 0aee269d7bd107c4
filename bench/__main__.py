"""`python -m bench`: flowhook beside what others do, on this machine, with the Pub/Sub emulator.

Ctrl-C ends it early: what was measured until then is printed and written.
"""

import argparse
import json
import signal
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bench import cold, growth, instructions, load, outage, picture, report, rounds, tls
from bench.rounds import Effort
from bench.serving import CONTESTANTS, TOPIC, settings
from flowhook.cli import pubsub_emulator
from flowhook.cli.errors import CommandError
from flowhook.cli.pubsub_emulator import Emulator
from flowhook.cli.run import free_port

FULL = Effort(rounds=5, clients={1: 2, 64: 3, 256: 2}, seconds=2, starts=5)
# The targets need the figures at one client and at 64.
QUICK = Effort(rounds=1, clients={1: 1, 64: 2}, seconds=1, starts=1)
# One start is enough to show a handler that takes 2 s.
SLOW_STARTS = 1
INTERRUPTED = 130


def main() -> int:
    """Measure, print, write the files."""
    parsed = _arguments()
    results: dict[str, Any] = {}
    # After SIGTERM the table is printed, too.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    status = _run(parsed, results)
    if results:
        parsed.out.write_text(json.dumps(results, indent=1))
        print(*report.lines(results), sep="\n")
        print(f"\nAll runs: {parsed.out}", "" if status else f"the picture: {parsed.picture}")
    return status


def _run(parsed: argparse.Namespace, results: dict[str, Any]) -> int:
    """Measure, and return the exit status."""
    try:
        load.find(), pubsub_emulator.find(), parsed.quick or instructions.find()
        _measure(parsed, results)
        parsed.picture.write_text(picture.draw(results))
    except CommandError as error:
        print(f"\nbench: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nbench: interrupted; this is what was measured", file=sys.stderr)
        return INTERRUPTED
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument(
        "--quick", action="store_true", help="one round, no instructions, in about three minutes"
    )
    parser.add_argument("--rounds", type=int, help=f"default: {FULL.rounds}; quick: {QUICK.rounds}")
    parser.add_argument("--soak", type=float, default=0, metavar="MINUTES", help="and so long at 80 %% load")
    parser.add_argument("--out", type=Path, default=Path("bench/last.json"), help="default: %(default)s")
    parser.add_argument("--picture", type=Path, default=Path("bench/last.svg"), help="default: %(default)s")
    return parser.parse_args()


def _measure(parsed: argparse.Namespace, results: dict[str, Any]) -> None:
    """Fill in the results, one measurement after the other."""
    effort = QUICK if parsed.quick else FULL
    effort = Effort(parsed.rounds or effort.rounds, effort.clients, effort.seconds, effort.starts)
    results |= {"machine": report.machine(), "rounds": effort.rounds}
    with Emulator(free_port()) as broker:
        # Without a subscription the emulator stores no messages.
        broker.create_topic(TOPIC)
        if not parsed.quick:
            _say("instructions")
            results["instructions"] = instructions.measure(broker)
        _collect(results, "load", rounds.run(broker, effort))
        if parsed.soak:
            _collect(results, "growth", growth.run(broker, parsed.soak))
        _starts(broker, effort, results)
    broken = (asdict(outage.run(one)) for one in CONTESTANTS if one.name in outage.CONTESTANTS)
    _collect(results, "outage", broken)


def _starts(broker: Emulator, effort: Effort, results: dict[str, Any]) -> None:
    """Measure all cold starts, and an event's cost with credentials and TLS."""
    told = settings(broker)
    with tls.stand_in() as google, tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _say("TLS")
        results["tls"] = tls.run(google, effort.seconds)
        starts = [*cold.contestants(told), *cold.entry_points(told, folder), *tls.starts(google)]
        slow = cold.slow_handlers(told, folder)
        _collect(results, "cold", cold.run(starts, effort.starts))
        _collect(results, "cold", cold.run(slow, SLOW_STARTS))
        imported = ({one.contestant.name: cold.imports(one)._asdict()} for one in [*starts, *slow])
        _collect(results, "imports", imported)


def _collect(results: dict[str, Any], what: str, found: Iterable[Any]) -> None:
    """Add them to the results one by one, because the run may be interrupted, and print the progress."""
    kept = results.setdefault(what, [])
    for one in found:
        kept.append(one)
        _say(f"{what} {len(kept)}")


def _say(text: str) -> None:
    print(f"\r{text:20}", end="", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
