"""What a handler is: a function, and what its author declares about it with `@on`.

This module neither finds nor runs handlers, so importing it costs next to nothing; `discovery` and `routing`
do that.
"""

from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar, overload

from flowhook.categories import CATEGORIES, OTHER, Pattern

if TYPE_CHECKING:
    from flowhook.event_types import CommentPattern, EventPattern
    from flowhook.events import CommentEvent, Event
    from flowhook.variables import Variable

MARK = "__flowhook_handler__"
# What Pub/Sub allows: https://cloud.google.com/pubsub/docs/handling-failures#set_the_maximum_delivery_attempts
ATTEMPTS = range(5, 101)
# Seconds that an answer needs beside the handler's timeout: for the ledger (`once`), and some to spare.
MARGIN = 21
# Pub/Sub waits 600 seconds for an answer at most; the sender's request to `receive` has 60.
MAX_TIMEOUT = 600 - MARGIN
MAX_INLINE_TIMEOUT = 60 - MARGIN

Result = Awaitable[None] | None
Function = Callable[[Any], Result]
F = TypeVar("F", bound=Callable[[Any], Any])
OfEvents = TypeVar("OfEvents", bound="Callable[[Event], Result]")
OfComments = TypeVar("OfComments", bound="Callable[[CommentEvent], Result]")


@dataclass(frozen=True)
class Declaration:
    """What `@on` says: which events, and how they are delivered to the function."""

    patterns: tuple[Pattern, ...]
    changed: tuple[str, ...] = ()
    once: bool = False
    attempts: int | None = None
    timeout: float | None = None

    @property
    def plain(self) -> bool:
        """Whether it declares nothing but patterns."""
        return self == Declaration(self.patterns)


@dataclass(frozen=True)
class Handler:
    """A function that wants events, named `module.function`, with what is declared about it.

    `patterns` select events; of their updates, `changed` selects those of one of these properties. With
    `once` it is not called again for an event that it has handled. `attempts` is how often Pub/Sub delivers
    an event before it is a dead letter, `timeout` the seconds that a call may take; None where nothing is
    declared.
    """

    name: str
    patterns: tuple[Pattern, ...]
    function: Function
    changed: tuple[str, ...] = ()
    once: bool = False
    attempts: int | None = None
    timeout: float | None = None
    variables: "tuple[Variable[Any], ...]" = ()

    def wants(self, event_type: str) -> bool:
        """Whether one of the patterns selects this type."""
        return any(pattern.matches(event_type) for pattern in self.patterns)

    def takes(self, event: "Event") -> bool:
        """Whether an event that it wants is one that `changed` selects."""
        if not self.changed or event.operation_type != "updated":
            return True
        return any(map(event.changed, self.changed))

    def missing(self, environment: Mapping[str, str]) -> str:
        """The variable without which it is off; empty where it is on."""
        return next((v.name for v in self.variables if v.optional and not v.is_set(environment)), "")


@overload
def on(
    *patterns: "CommentPattern",
    changed: str | Iterable[str] = (),
    once: bool = False,
    attempts: int | None = None,
    timeout: float | None = None,
) -> Callable[[OfComments], OfComments]: ...


@overload
def on(
    *patterns: "EventPattern",
    changed: str | Iterable[str] = (),
    once: bool = False,
    attempts: int | None = None,
    timeout: float | None = None,
) -> Callable[[OfEvents], OfEvents]: ...


@overload
def on(
    *patterns: str,
    changed: str | Iterable[str] = (),
    once: bool = False,
    attempts: int | None = None,
    timeout: float | None = None,
) -> Callable[[F], F]: ...


def on(
    *patterns: str,
    changed: str | Iterable[str] = (),
    once: bool = False,
    attempts: int | None = None,
    timeout: float | None = None,
) -> Callable[[F], F]:
    """Mark a function as the handler of the events that a pattern selects; the function stays as it is.

    `changed`: of updates, only those of this property, or of one of these. `once`: it isn't called again for
    an event that it has handled; until that is recorded, it is called at least once. `attempts`: how often
    Pub/Sub delivers an event before it is a dead letter, 5 to 100. `timeout`: the seconds that it may take,
    instead of DELIVERY_TIMEOUT.

    Raises TypeError or ValueError for arguments that make no sense.
    """
    if not patterns or not all(isinstance(pattern, str) for pattern in patterns):
        raise TypeError('@on needs the events to handle, e.g. @on("packets.updated")')
    parsed = tuple(map(Pattern.parse, patterns))
    declared = Declaration(
        parsed, _properties(changed, parsed), bool(once), _attempts(attempts), _timeout(timeout)
    )

    def mark(function: F) -> F:
        setattr(function, MARK, _joined(declared, getattr(function, MARK, None)))
        return function

    return mark


def _joined(outer: Declaration, inner: Declaration | None) -> Declaration:
    """The declaration of a function that is marked twice: its patterns are added up."""
    if inner is None:
        return outer
    if not (outer.plain and inner.plain):
        raise TypeError("a handler with options has one @on alone, with all of its patterns")
    return Declaration((*outer.patterns, *inner.patterns))


def _properties(changed: str | Iterable[str], patterns: Iterable[Pattern]) -> tuple[str, ...]:
    names = (changed,) if isinstance(changed, str) else tuple(changed)
    for name in names:
        if not isinstance(name, str) or not name or name.startswith("properties."):
            raise ValueError(f'changed={name!r} is not the name of a property, such as changed="status"')
    updates = [f"{category}.updated" for category in (*CATEGORIES, OTHER)]
    if names and not any(pattern.matches(update) for pattern in patterns for update in updates):
        raise ValueError("changed= restricts updates, and none of the patterns selects any")
    return names


def _attempts(attempts: int | None) -> int | None:
    if attempts is not None and (isinstance(attempts, bool) or attempts not in ATTEMPTS):
        raise ValueError(f"attempts={attempts!r}: Pub/Sub takes a whole number from 5 to 100")
    return attempts


def _timeout(timeout: float | None) -> float | None:
    if timeout is None:
        return None
    if isinstance(timeout, bool) or not isinstance(timeout, (int, float)) or not 0 < timeout <= MAX_TIMEOUT:
        raise ValueError(
            f"timeout={timeout!r} must be a number of seconds above 0, at most {MAX_TIMEOUT}: Pub/Sub waits "
            f"600 for an answer, and {MARGIN} are needed beside the handler"
        )
    return timeout
