"""List the handlers and the events that each of them takes.

Run it where main.py is. Fails if a handler can't be imported.
"""

import argparse
import importlib
import inspect
import json
from typing import Any

from rich.table import Table

from flowhook import discovery, samples
from flowhook.cli.errors import CommandError
from flowhook.cli.output import console
from flowhook.errors import StartError
from flowhook.handler import Handler


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--json", action="store_true", help="for programs: a list with all that they declare")


def run(arguments: argparse.Namespace) -> int:
    """Print the table, and what nobody handles below it."""
    found = load()
    if arguments.json:
        print(json.dumps([document(handler) for handler in found], indent=2))
        return 0
    table = Table("HANDLER", "EVENTS", "RUNS", box=None, pad_edge=False)
    for handler in found:
        runs = "on the loop" if inspect.iscoroutinefunction(handler.function) else "in a thread"
        table.add_row(handler.name, ", ".join(map(str, handler.patterns)), runs)
    out = console()
    out.print(table)
    alone = [t for t in samples.TYPES if not any(p.matches(t) for h in found for p in h.patterns)]
    if alone:
        out.print(f"\nNobody handles {', '.join(alone)}.")
    return 0


def document(handler: Handler) -> dict[str, Any]:
    """What a handler declares, for programs."""
    return {"name": handler.name, "patterns": [*map(str, handler.patterns)]}


def load() -> tuple[Handler, ...]:
    """The handlers of the project in this folder. Raises CommandError if there is none or one is broken."""
    try:
        return discovery.discover(importlib.import_module("handlers"))
    except ModuleNotFoundError:
        raise CommandError("there is no handlers/ here: change to the folder of flowhook") from None
    except StartError as error:
        raise CommandError(str(error)) from None
