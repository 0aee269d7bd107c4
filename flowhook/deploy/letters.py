"""What a dead letter, or a rejected body, says of itself beside its body: by its attributes alone."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from flowhook.deploy import moments, plan
from flowhook.deploy.messages import Pulled
from flowhook.deploy.resources import Place

# What Pub/Sub adds to a dead letter: https://cloud.google.com/pubsub/docs/handling-failures
SOURCE = "CloudPubSubDeadLetterSource"
# What says why a body was rejected; with it gone, the rest is the event's.
REASONS = ("reason", "status", "received_at", "problem", "id")
# Who sent it again: the id of the letter that it was.
REDRIVE_OF = "redrive-of"
LONGEST = 60


@dataclass(frozen=True)
class Letter:
    """One of them, without its body; empty is what it doesn't say."""

    id: str
    at: float
    handler: str
    type: str
    entity: str
    attempts: str
    reason: str
    size: int


def read(place: Place, message: Pulled) -> Letter:
    """What a message says."""
    attributes = message.attributes
    category, operation = attributes.get("category", ""), attributes.get("operation", "")
    attempts = attributes.get(f"{SOURCE}DeliveryCount", "")
    return Letter(
        message.id,
        moments.stamped(message.published),
        handler_of(place, attributes),
        f"{category}.{operation}" if category and operation else "",
        attributes.get("ce-subject", ""),
        attempts,
        attributes.get("reason", "") or ("failed" if attempts else "left-over"),
        len(message.data),
    )


def handler_of(place: Place, attributes: Mapping[str, str]) -> str:
    """Whose it is: of the subscription that it comes from, else the one that it names, as a replay does."""
    source = plan.handler_of(place, attributes.get(f"{SOURCE}Subscription", ""))
    return source or attributes.get("handler", "")


def without_reasons(attributes: Mapping[str, str]) -> dict[str, str]:
    """The attributes of the event that it was."""
    return {n: v for n, v in attributes.items() if not n.startswith(SOURCE) and n not in REASONS}


@dataclass(frozen=True)
class Selection:
    """Which of them are meant; what is empty selects nothing away."""

    id: str = ""
    handler: str = ""
    reason: str = ""
    entity: str = ""
    since: float = 0.0
    until: float = float("inf")
    is_of_type: Callable[[str], bool] = lambda _type: True

    def takes(self, letter: Letter) -> bool:
        """Whether it is one of them."""
        return (
            self.id in ("", letter.id)
            and self.handler in ("", letter.handler)
            and self.reason in ("", letter.reason)
            and self.entity in ("", letter.entity)
            and self.since <= letter.at <= self.until
            and self.is_of_type(letter.type)
        )


def row(letter: Letter) -> tuple[str, ...]:
    """A line of a table."""
    cells = (letter.handler, letter.type, letter.entity, letter.attempts, letter.reason)
    return letter.id, moments.shown(letter.at), *(printable(cell)[:LONGEST] or "-" for cell in cells)


HEADER = ("ID", "WHEN", "HANDLER", "TYPE", "ENTITY", "ATTEMPTS", "REASON")


def table(rows: list[tuple[str, ...]]) -> str:
    """For people: columns as wide as what is in them."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip()
        for cells in rows
    )


def printable(text: str, but: str = "") -> str:
    """A text that whoever sent it can't move a terminal's cursor with."""
    return "".join(c if c.isprintable() or c in but else "\N{REPLACEMENT CHARACTER}" for c in text)
