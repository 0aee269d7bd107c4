"""What a command needs from its environment: the folder, the terminal, gcloud, the credentials, the clock.

Tests replace each of them.
"""

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, Protocol

import requests

from flowhook.deploy import functions, rest
from flowhook.deploy.clock import Clock
from flowhook.deploy.declared import Declared, check_source, check_tests
from flowhook.deploy.declared import ask as ask_handlers
from flowhook.deploy.functions import Gcloud
from flowhook.deploy.resources import Place
from flowhook.deploy.rest import Api


class Row(NamedTuple):
    """The result of one check: `what` was checked, whether it is `ok`, and what was seen, in words."""

    what: str
    ok: bool
    seen: str


@dataclass(frozen=True)
class Visit:
    """What the `doctor` command needs to examine a receiver.

    Where a check fails, a change that was just made may not have taken effect yet: `patience` is for how many
    seconds the check is repeated.
    """

    api: Api
    place: Place
    url: str
    auth: str
    secret: bytes
    pubsub: bool
    patience: float


class Doctor(Protocol):
    """Examines a receiver; the command line implements it with its `doctor` command."""

    def examine(self, visit: Visit) -> list[Row]:
        """Send events to the receiver, and return a row for each check."""

    def report(self, rows: Sequence[Row], url: str) -> None:
        """Print the rows about the receiver at `url`."""


def tell(text: str) -> None:
    """Print a line about the progress to standard error, as standard output may be read by a program."""
    # Write the text and its line break together: other threads print at the same time.
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


def show(text: str) -> None:
    """Print a line to standard output. Raises BrokenPipeError where nobody reads it any more."""
    try:
        sys.stdout.write(f"{text}\n")
        sys.stdout.flush()
    except BrokenPipeError:
        # What is left in the buffer would be written once more at the end of the process.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise


def ask(question: str) -> bool | None:
    """Ask a question, and return whether the answer is yes; None where standard input is no terminal."""
    if not sys.stdin.isatty():
        return None
    return input(f"{question} [y/N] ").strip().lower().startswith("y")


def on_a_terminal() -> bool:
    """Return whether standard output is a terminal."""
    return sys.stdout.isatty()


@dataclass(frozen=True)
class Surroundings:
    """The environment of a command; the defaults are the real ones."""

    folder: Path
    doctor: Doctor
    login: Callable[[], requests.Session] = rest.login
    emulator: Callable[[], requests.Session] = rest.emulator
    gcloud: Gcloud = functions.gcloud
    clock: Clock = field(default_factory=Clock)
    # The next three read the handlers in a folder, check that its source starts, and run the handlers' tests.
    declared: Callable[[Path], tuple[Declared, ...]] = ask_handlers
    check_source: Callable[[Path, Mapping[str, str]], None] = check_source
    check_tests: Callable[[Path], None] = check_tests
    tell: Callable[[str], None] = tell
    show: Callable[[str], None] = show
    ask: Callable[[str], bool | None] = ask
    on_a_terminal: Callable[[], bool] = on_a_terminal
    # Rewrites one line of a terminal, and ends it with an empty text; None where nobody watches one.
    bar: Callable[[str], None] | None = None
