"""What every destination has in common: it takes an event and tells what became of it."""

from collections.abc import Awaitable, Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from flowhook.envelope import Envelope

NOBODY: Mapping[str, str] = MappingProxyType({})


class Outcome(NamedTuple):
    """An event that is where it should be; anything else is raised as a `Problem`.

    `handlers` are those that handled it, `rejected` those that will never be able to, with their reasons;
    `kept` tells whether Pub/Sub has the event for them. `message_id` is what Pub/Sub calls it. `duplicate`
    are handlers with `once` that have handled the event before, and were not called again.
    """

    event: Envelope
    outcome: str
    handlers: tuple[str, ...] | None = None
    rejected: Mapping[str, str] = NOBODY
    kept: bool = False
    message_id: str | None = None
    duplicate: tuple[str, ...] = ()

    def document(self) -> dict[str, Any]:
        """What the answer and the log say of it beside the event; members that say nothing are left out."""
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
    """What becomes of an event that nobody wants."""
    return Outcome(event, "ignored")
