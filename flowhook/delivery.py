"""What every destination has in common: it takes an event and returns its outcome."""

from collections.abc import Awaitable, Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from flowhook.envelope import Envelope

NOBODY: Mapping[str, str] = MappingProxyType({})


class Outcome(NamedTuple):
    """What became of an event that need not be delivered again; every failure is raised as a `Problem`.

    `handlers` are the handlers that handled it; `rejected` are those that never will, with their reasons;
    `kept` says whether the event is stored in Pub/Sub for them. `message_id` is the id of the published
    message. `duplicate` are the handlers with `once` that had handled the event before, and were not called
    again.
    """

    event: Envelope
    outcome: str
    handlers: tuple[str, ...] | None = None
    rejected: Mapping[str, str] = NOBODY
    kept: bool = False
    message_id: str | None = None
    duplicate: tuple[str, ...] = ()

    def document(self) -> dict[str, Any]:
        """The members of the answer and the log beside the event's; those that don't apply are left out."""
        document: dict[str, Any] = {"outcome": self.outcome}
        if self.message_id is not None:
            document["messageId"] = self.message_id
        if self.handlers is not None:
            document["handlers"] = list(self.handlers)
        if self.rejected:
            document["rejected"] = list(self.rejected)
        if self.duplicate:
            document["duplicate"] = list(self.duplicate)
        return document

    def describe(self) -> str:
        """One line for a person."""
        subject = f"{self.event.type} {self.event.entity_path}"
        if self.rejected:
            reasons = "; ".join(f"{name}: {reason}" for name, reason in self.rejected.items())
            return f"{subject}: rejected for good and {'' if self.kept else 'not '}kept, by {reasons}"
        if self.duplicate and not self.handlers:
            return f"{subject}: a duplicate, handled before by {', '.join(self.duplicate)}, not called again"
        if self.outcome == "handled" and not self.handlers:
            return f'{subject}: accepted, but nobody handles it; to handle it, write @on("{self.event.type}")'
        by = f" by {', '.join(self.handlers)}" if self.handlers else ""
        as_message = f" as message {self.message_id}" if self.message_id else ""
        return f"{subject}: {self.outcome}{by}{as_message}"


Deliver = Callable[[Envelope], Awaitable[Outcome]]
# An event that has been authenticated and validated, and what delivers it.
Accepted = tuple[Envelope, Deliver]


async def ignore(event: Envelope) -> Outcome:
    """Drop an event that nobody wants."""
    return Outcome(event, "ignored")
