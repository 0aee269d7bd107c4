"""What a deployment knows of what it deploys: the only module here that imports others of flowhook."""

import secrets
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from flowhook import envelope, messages, probe, subscriptions
from flowhook.categories import Pattern
from flowhook.routing import Handler
from flowhook.secret import SHORT
from flowhook.settings import VARIABLES

# The handler and the entity key of the doctor's event.
DOCTOR, DOCTOR_KEY = probe.HANDLER, probe.KEY
SHORTEST_SECRET = SHORT
LONGEST_NAME = subscriptions.MAX_NAME
EVERYTHING = (Pattern("*", "*"),)


class Setting(NamedTuple):
    """One of flowhook's settings: what reads it raises ValueError that says what is wrong."""

    variable: str
    default: str
    read: Callable[[str], Any]


class Push(NamedTuple):
    """What pushing to a handler takes: a subscription's name, the path of its push, its filter."""

    name: str
    path: str
    filter: str


SETTINGS = tuple(Setting(*row) for row in VARIABLES.values())
DELIVERY_TIMEOUT = next(setting for setting in SETTINGS if setting.variable == "DELIVERY_TIMEOUT")


def push_to(handler: str, patterns: Sequence[str], prefix: str) -> Push:
    """What a handler needs; without patterns, as if it took everything."""
    parsed = tuple(map(Pattern.parse, patterns)) or EVERYTHING
    (needed,) = subscriptions.needed([Handler(handler, parsed, _nothing)], "any-topic", prefix)
    return Push(needed.name, needed.path, needed.filter)


def doctors_event() -> tuple[bytes, Mapping[str, str]]:
    """An event of the doctor's that nobody else sends, with the attributes that its message has."""
    event = envelope.read(probe.body(secrets.token_hex(8)))
    return event.body, messages.of_event(event).attributes


def _nothing(_event: object) -> None:
    """Stands for a handler's function, which a deployment never calls."""
