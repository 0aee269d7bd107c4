"""Counts what each run sent, what was answered and what is in Pub/Sub, and makes a table of all runs."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

HEADER = ("run", "sent", "200", "503", "no answer", "found", "twice", "lost", "ghosts", "slowest 503", "back")
ROWS: list[tuple[str, ...]] = []
# Results of other runs, a line for each.
NOTES: list[str] = []


@dataclass(frozen=True)
class Answer:
    """The answer to one event; status 0 if the connection ended without one."""

    id: str
    status: int
    seconds: float
    at: float


@dataclass
class Tally:
    """A run. `found` are the ids of the events in Pub/Sub, one for each message."""

    answers: list[Answer] = field(default_factory=list)
    found: Counter[str] = field(default_factory=Counter)

    def with_status(self, *statuses: int) -> set[str]:
        return {answer.id for answer in self.answers if answer.status in statuses}

    @property
    def lost(self) -> set[str]:
        """Answered 200, and not in Pub/Sub."""
        return self.with_status(200) - set(self.found)

    @property
    def ghosts(self) -> set[str]:
        """Answered 503, and in Pub/Sub all the same."""
        return self.with_status(503) & set(self.found)

    def slowest(self, status: int, since: float = 0.0) -> float:
        """Seconds to the latest answer, counted from `since` for what had been sent before."""
        answers = [answer for answer in self.answers if answer.status == status]
        return max((a.at - max(a.at - a.seconds, since) for a in answers), default=0.0)

    def first_after(self, moment: float, status: int = 200) -> float:
        """Seconds from `moment` to the first answer with this status to what was sent after it."""
        return min(a.at for a in self.answers if a.status == status and a.at - a.seconds > moment) - moment

    def enter(self, run: str, back_after: float | None = None, since: float = 0.0) -> None:
        """Add this run to the table that is printed at the end."""
        twice = sum(count > 1 for count in self.found.values())
        counts = (
            len(self.answers),
            len(self.with_status(200)),
            len(self.with_status(503)),
            len(self.with_status(0)),
            len(self.found),
            twice,
            len(self.lost),
            len(self.ghosts),
        )
        back = "" if back_after is None else f"{back_after:.2f} s"
        ROWS.append((run, *map(str, counts), f"{self.slowest(503, since):.2f} s", back))


def table() -> Iterator[str]:
    """The rows as lines of equal columns."""
    rows = [HEADER, *ROWS]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
