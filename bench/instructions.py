"""How many instructions an event costs: the figure that does not vary with what else the machine does.

  python -m bench.instructions                  this checkout: an event that EVENTS drops, and a published one
  python -m bench.instructions --source DIR     another one, to compare with

`receive` is called in one process without HTTP, 64 times at once, under valgrind's callgrind: the difference
between eight waves and two, less what the same calls of a function cost that reads the body and answers.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from flowhook import samples
from flowhook.cli.errors import CommandError
from flowhook.cli.pubsub_emulator import Emulator
from flowhook.cli.run import free_port

ROOT = Path(__file__).parent.parent
CALLS = Path(__file__).with_name("calls.py")
CLIENTS = 64
FEW, MANY = 2, 8
TOPIC = "flows-events"


def find() -> str:
    """The path of valgrind. Raises CommandError if it is not installed."""
    found = shutil.which("valgrind")
    if not found:
        raise CommandError(
            "instructions are counted by valgrind, which is not installed: apt-get install valgrind"
        )
    return found


def count(source: Path, kind: str, waves: int, settings: Mapping[str, str], folder: Path) -> int:
    """The instructions of so many waves, including the start of the process."""
    body = folder / "event.json"
    valgrind = [find(), "--tool=callgrind", f"--callgrind-out-file={folder / f'out-{waves}'}"]
    done = subprocess.run(  # noqa: S603 - it is this Python
        [*valgrind, sys.executable, str(CALLS), kind, str(waves), str(body)],
        cwd=source,
        env={
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(source),
            "PYTHONHASHSEED": "0",
            "WEBHOOK_SECRET": "x" * 32,
            "WEBHOOK_AUTH": "bearer",
            # Under valgrind everything takes fifty times as long, and no publish may be given up meanwhile.
            "DELIVERY_TIMEOUT": "600",
            **settings,
        },
        capture_output=True,
        text=True,
        check=False,
    )
    found = re.search(r"Collected : (\d+)", done.stderr)
    if done.returncode or not found:
        raise CommandError(f"instructions could not be counted:\n{done.stderr[-2000:]}")
    return int(found[1])


def each(source: Path, kind: str, settings: Mapping[str, str], folder: Path) -> float:
    """The instructions of one call."""
    # Other processes don't change a count, so two of them may run at a time.
    with ThreadPoolExecutor(2) as pool:
        many, few = pool.map(lambda waves: count(source, kind, waves, settings, folder), (MANY, FEW))
    return (many - few) / ((MANY - FEW) * CLIENTS)


def measure(emulator: Emulator, source: Path = ROOT) -> dict[str, float]:
    """The instructions of an event by what becomes of it: dropped, published."""
    emulator.create_topic(TOPIC)
    _compile(source)
    published = {
        "DELIVERY": "pubsub",
        "GOOGLE_CLOUD_PROJECT": emulator.project,
        "PUBSUB_EMULATOR_HOST": emulator.host,
    }
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "event.json").write_bytes(samples.load("packets.updated"))
        nothing = each(source, "nothing", {}, folder)
        return {
            "dropped": each(source, "receive", {"EVENTS": "other.created"}, folder) - nothing,
            "published": each(source, "receive", published, folder) - nothing,
        }


def _compile(source: Path) -> None:
    """Write the .pyc files, so that the first start that is counted doesn't have to compile."""
    command = [sys.executable, "-m", "compileall", "-q", "main.py", "flowhook", "handlers"]
    subprocess.run(command, cwd=source, check=True)  # noqa: S603 - it is this Python


def main() -> int:
    """Measure, and print a line for each way."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--source", type=Path, default=ROOT, help="the checkout; default: this one")
    source = parser.parse_args().source.resolve()
    try:
        find()
        with Emulator(free_port()) as emulator:
            for way, cost in measure(emulator, source).items():
                print(f"{way:<10} {cost:>9,.0f} instructions an event")
    except CommandError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
