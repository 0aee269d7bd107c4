"""What a deployment knows of what it deploys: the only module here that imports others of flowhook."""

import secrets
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from flowhook import canary, envelope, logs
from flowhook.categories import Pattern
from flowhook.deploy.errors import DeployError
from flowhook.errors import NotAnEvent, NotJson, Refused, UnsupportedMediaType
from flowhook.handler import Handler
from flowhook.pubsub import messages, subscriptions
from flowhook.secret import SHORT
from flowhook.settings import DECLARED, Setting

# The handler and the entity key of the doctor's event.
DOCTOR, DOCTOR_KEY = canary.HANDLER, canary.KEY
SHORTEST_SECRET = SHORT
# What `receive` answers to bodies that it stores in the topic for them.
REFUSED = frozenset(problem.slug for problem in (UnsupportedMediaType, NotJson, NotAnEvent))
LONGEST_NAME = subscriptions.MAX_NAME
EVERYTHING = (Pattern("*", "*"),)


class Push(NamedTuple):
    """What pushing to a handler takes: a subscription's name, the path of its push, its filter."""

    name: str
    path: str
    filter: str


# Each has what reads it, which raises ValueError that says what is wrong.
SETTINGS: tuple[Setting, ...] = tuple(DECLARED.values())
DELIVERY_TIMEOUT: Setting = DECLARED["delivery_timeout"]


def push_to(handler: str, patterns: Sequence[str], prefix: str) -> Push:
    """What a handler needs; without patterns, as if it took everything."""
    parsed = tuple(map(Pattern.parse, patterns)) or EVERYTHING
    (needed,) = subscriptions.needed([Handler(handler, parsed, _nothing)], "any-topic", prefix)
    return Push(needed.name, needed.path, needed.filter)


def doctors_event() -> tuple[bytes, Mapping[str, str]]:
    """An event of the doctor's that nobody else sends, with the attributes that its message has."""
    event = envelope.read(canary.body(secrets.token_hex(8)))
    return event.body, messages.of_event(event).attributes


def attributes_of(body: bytes) -> Mapping[str, str] | None:
    """The attributes of an event's message; None where the body is no event."""
    try:
        return messages.of_event(envelope.read(body)).attributes
    except Refused:
        return None


def matching(pattern: str) -> Callable[[str], bool]:
    """Whether a type of events is one of a pattern. Raises DeployError where it is none."""
    try:
        return Pattern.parse(pattern).matches
    except ValueError as mistake:
        raise DeployError(f"--type {pattern}: {mistake}") from None


def terminal_line(created: float, level: str, message: str, noted: Mapping[str, Any]) -> str:
    """The line of a delivery as a terminal shows it; nothing in it acts on the terminal."""
    return logs.terminal_line(created, level, message, noted)


def _nothing(_event: object) -> None:
    """Stands for a handler's function, which a deployment never calls."""
