"""What every destination has in common: it takes an event and tells what became of it."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from flowhook.events import Event


@dataclass(frozen=True)
class Outcome:
    """An event that is where it should be; anything else is raised as a `Problem`.

    `handlers` are those that handled it, `rejected` those that will never be able to, with their reasons.
    """

    event: Event
    outcome: str
    handlers: tuple[str, ...] | None = None
    rejected: Mapping[str, str] = field(default_factory=dict)

    def document(self) -> dict[str, Any]:
        """The answer's body; members that say nothing are left out."""
        document: dict[str, Any] = {
            "id": self.event.id,
            "type": self.event.type,
            "outcome": self.outcome,
        }
        if self.handlers is not None:
            document["handlers"] = list(self.handlers)
        if self.rejected:
            document["rejected"] = list(self.rejected)
        return document

    def noted(self) -> dict[str, Any]:
        """What the log says of it beside the event's own fields."""
        noted = self.document()
        return {name: noted[name] for name in ("outcome", "handlers", "rejected") if name in noted}

    def describe(self) -> str:
        """One line for a person."""
        subject = f"{self.event.type} {self.event.entity_path}"
        if self.rejected:
            reasons = "; ".join(f"{name}: {reason}" for name, reason in self.rejected.items())
            return f"{subject}: rejected for good and not kept, by {reasons}"
        if self.outcome == "handled" and not self.handlers:
            return f'{subject}: accepted, but nobody handles it; to handle it, write @on("{self.event.type}")'
        by = f" by {', '.join(self.handlers)}" if self.handlers else ""
        return f"{subject}: {self.outcome}{by}"


Deliver = Callable[[Event], Awaitable[Outcome]]
