"""What a command finds around it: the folder, the terminal, gcloud, the login, the time.

Tests bring their own.
"""

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
    """One line about something that was looked at: `seen` is ok, or what is wrong."""

    what: str
    ok: bool
    seen: str


@dataclass(frozen=True)
class Visit:
    """What the doctor needs to know for a visit; `patience` is how many seconds "not yet" may take."""

    api: Api
    place: Place
    url: str
    auth: str
    secret: bytes
    pubsub: bool
    patience: float


class Doctor(Protocol):
    """Who visits a receiver: flowhook's command line has one."""

    def examine(self, visit: Visit) -> list[Row]:
        """Send, look, and tell what was seen."""

    def report(self, rows: Sequence[Row], url: str) -> None:
        """Show it to a person."""


def tell(text: str) -> None:
    """To whoever watches; what a program reads goes to standard output."""
    # In one piece, for others write at the same time.
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


def show(text: str) -> None:
    """To standard output."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def ask(question: str) -> bool | None:
    """Whether a person says yes; None where nobody is there to ask."""
    if not sys.stdin.isatty():
        return None
    return input(f"{question} [y/N] ").strip().lower().startswith("y")


def on_a_terminal() -> bool:
    """Whether standard output is read by a person."""
    return sys.stdout.isatty()


@dataclass(frozen=True)
class Surroundings:
    """All of it, as it is outside of tests."""

    folder: Path
    doctor: Doctor
    login: Callable[[], requests.Session] = rest.login
    emulator: Callable[[], requests.Session] = rest.emulator
    gcloud: Gcloud = functions.gcloud
    clock: Clock = field(default_factory=Clock)
    # What the handlers in a folder declare, and whether the source there would start with some settings.
    declared: Callable[[Path], tuple[Declared, ...]] = ask_handlers
    check_source: Callable[[Path, Mapping[str, str]], None] = check_source
    check_tests: Callable[[Path], None] = check_tests
    tell: Callable[[str], None] = tell
    show: Callable[[str], None] = show
    ask: Callable[[str], bool | None] = ask
    on_a_terminal: Callable[[], bool] = on_a_terminal
    # Rewrites one line of a terminal, and ends it with an empty text; None where nobody watches one.
    bar: Callable[[str], None] | None = None
