"""Say in plain words what a Form RAW Response means, of the emulator's or pasted from the platform.

  check raw.json
  emulate raw | python -m flowhook check -

It tells whether the integration is removed, its status and provider, and, where the response shows which
events are ticked, what the handlers wait for and the integration doesn't send. Run it where main.py is;
elsewhere the handlers are left out. Exit status 1 where something keeps events from coming.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path

from rich.text import Text

from flowhook.categories import Pattern
from flowhook.cli import handlers
from flowhook.cli.errors import CommandError
from flowhook.cli.output import console, plain
from flows_emulator.reading import NotARawResponse, findings, read

MAX_BYTES = 4 * 1024 * 1024


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("file", help="the response, a file of JSON; - is standard input")


def run(arguments: argparse.Namespace) -> int:
    """Print a sentence a line."""
    try:
        raw = read(_text(arguments.file))
    except NotARawResponse as mistake:
        raise CommandError(f"{arguments.file} is {mistake}; copy the whole Form RAW Response") from None
    found = list(findings(raw, _wanted()))
    out = console()
    for finding in found:
        mark = ("✗ ", "red") if finding.wrong else ("· ", "")
        out.print(Text.assemble(mark, plain(finding.text)), soft_wrap=True)
    return 1 if any(finding.wrong for finding in found) else 0


def _text(name: str) -> str:
    try:
        with nullcontext(sys.stdin.buffer) if name == "-" else Path(name).open("rb") as file:
            body = file.read(MAX_BYTES + 1)
        text = body.decode()
    except OSError as error:
        raise CommandError(f"{name} can't be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise CommandError(f"{name} is not text in UTF-8") from None
    if len(body) > MAX_BYTES:
        raise CommandError(f"{name} is too large for a Form RAW Response")
    return text


def _wanted() -> Mapping[str, Sequence[Pattern]]:
    """The patterns of each handler here; none where there is no project."""
    if not Path("main.py").exists():
        return {}
    return {handler.name: handler.patterns for handler in handlers.load()}
