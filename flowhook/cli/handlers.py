"""List the handlers and the events that each of them takes.

Run it where main.py is. Fails if a handler can't be imported, or declares what can't be.
"""

import argparse
import importlib
import inspect
import json
import os
from collections.abc import Iterator
from typing import Any

from rich.table import Table

from flowhook import discovery, samples
from flowhook.cli import environment, requirements
from flowhook.cli.errors import CommandError
from flowhook.cli.output import console
from flowhook.errors import StartError
from flowhook.handler import Handler
from flowhook.settings import NAMES
from flowhook.variables import Variable


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--json", action="store_true", help="everything that they declare, for programs")


def run(arguments: argparse.Namespace) -> int:
    """Print the table, and below it the event types that nobody handles."""
    environment.load()
    found = load()
    if arguments.json:
        print(json.dumps([_described(handler) for handler in found], indent=2, default=str))
        return 0
    table = Table("HANDLER", "EVENTS", "RUNS", "", box=None, pad_edge=False)
    for handler in found:
        runs = "on the loop" if inspect.iscoroutinefunction(handler.function) else "in a thread"
        table.add_row(handler.name, ", ".join(map(str, handler.patterns)), runs, "; ".join(_notes(handler)))
    out = console()
    out.print(table)
    alone = [t for t in samples.TYPES if not any(p.matches(t) for h in found for p in h.patterns)]
    if alone:
        out.print(f"\nNobody handles {', '.join(alone)}.")
    return 0


def load() -> tuple[Handler, ...]:
    """The handlers of the project in this folder. Raises CommandError if there is none or one is broken."""
    try:
        found = discovery.discover(importlib.import_module("handlers"))
    except ModuleNotFoundError:
        raise CommandError("there is no handlers/ here: change to the folder of flowhook") from None
    except StartError as error:
        raise CommandError(str(error)) from None
    mistakes = [*_name_mistakes(found), *requirements.conflicts()]
    if mistakes:
        raise CommandError("\n".join(mistakes))
    return found


def _name_mistakes(handlers: tuple[Handler, ...]) -> Iterator[str]:
    for handler in handlers:
        for variable in handler.variables:
            mistake = variable.name_mistake(NAMES)
            if mistake:
                yield f"{handler.name}: {mistake}"


def _notes(handler: Handler) -> Iterator[str]:
    """What it declares beside its events, and whether it is off."""
    missing = handler.missing(os.environ)
    if missing:
        yield f"off without {missing}"
    if handler.changed:
        yield f"updates that changed {' or '.join(handler.changed)}"
    if handler.once:
        yield "once"
    if handler.attempts:
        yield f"{handler.attempts} attempts"
    if handler.timeout:
        yield f"{handler.timeout:g} s"
    needed = [variable.name for variable in handler.variables if variable.required]
    if needed:
        yield f"needs {', '.join(needed)}"


def _described(handler: Handler) -> dict[str, Any]:
    """What it declares; None where it declares nothing."""
    return {
        "name": handler.name,
        "patterns": list(map(str, handler.patterns)),
        "changed": list(handler.changed),
        "once": handler.once,
        "attempts": handler.attempts,
        "timeout": handler.timeout,
        "variables": list(map(_described_variable, handler.variables)),
    }


def _described_variable(variable: Variable[Any]) -> dict[str, Any]:
    default = None if variable.required else variable.default
    return {
        "name": variable.name,
        "secret": variable.secret,
        "required": variable.required,
        "default": default,
    }
