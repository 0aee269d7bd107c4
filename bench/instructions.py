"""How many instructions an event costs: the figure that does not vary with what else the machine does.

  python -m bench.instructions                  this checkout: an event that EVENTS drops, and a published one
  python -m bench.instructions --source DIR     another one, to compare with

`receive` is called in one process without HTTP, 64 times at once, under valgrind's callgrind: the difference
between eight waves and two, less what the same calls of a function cost that reads the body and answers.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from flowhook import samples
from flowhook.cli.pubsub_emulator import Emulator
from flowhook.cli.run import free_port

ROOT = Path(__file__).parent.parent
CALLS = Path(__file__).with_name("calls.py")
CLIENTS = 64
FEW, MANY = 2, 8
TOPIC = "flows-events"


def count(source: Path, kind: str, waves: int, settings: dict[str, str], folder: Path) -> int:
    """The instructions of so many waves, the start of the process included."""
    body = folder / "event.json"
    body.write_bytes(samples.load("packets.updated"))
    valgrind = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={folder / 'out'}"]
    done = subprocess.run(  # noqa: S603 - it is this Python
        [*valgrind, sys.executable, str(CALLS), kind, str(waves), str(body)],
        cwd=source,
        env={
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(source),
            "PYTHONHASHSEED": "0",
            "WEBHOOK_SECRET": "x" * 32,
            "WEBHOOK_AUTH": "bearer",
            **settings,
        },
        capture_output=True,
        text=True,
        check=True,
    )
    found = re.search(r"Collected : (\d+)", done.stderr)
    assert found  # noqa: S101 - callgrind ends with it
    return int(found[1])


def each(source: Path, kind: str, settings: dict[str, str], folder: Path) -> float:
    """The instructions of one call."""
    many, few = (count(source, kind, waves, settings, folder) for waves in (MANY, FEW))
    return (many - few) / ((MANY - FEW) * CLIENTS)


def main() -> None:
    """Measure, and print a line for each way."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--source", type=Path, default=ROOT, help="the checkout; default: this one")
    source = parser.parse_args().source.resolve()
    with tempfile.TemporaryDirectory() as name, Emulator(free_port()) as emulator:
        emulator.create_topic(TOPIC)
        folder = Path(name)
        published = {
            "DELIVERY": "pubsub",
            "GOOGLE_CLOUD_PROJECT": emulator.project,
            "PUBSUB_EMULATOR_HOST": emulator.host,
        }
        nothing = each(source, "nothing", {}, folder)
        for way, settings in (("dropped", {"EVENTS": "other.created"}), ("published", published)):
            cost = each(source, "receive", settings, folder) - nothing
            print(f"{way:<10} {cost:>9,.0f} instructions an event")


if __name__ == "__main__":
    main()
