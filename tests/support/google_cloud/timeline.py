"""The fake's own time, in which minutes cost nothing, and what is due to happen in it."""

import heapq
import itertools
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime

# Any moment will do: what counts is how much later something is.
BEGINNING = datetime(2026, 3, 2, 9, 0, tzinfo=UTC).timestamp()


class Timeline:
    """Seconds since 1970. Whatever is due happens in order while somebody lets time pass, and only then."""

    def __init__(self, now: float = BEGINNING) -> None:
        self.now = now
        self.lock = threading.RLock()
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = itertools.count()
        self._passing = False

    def after(self, seconds: float, action: Callable[[], None]) -> None:
        """Have something happen later."""
        heapq.heappush(self._due, (self.now + max(0.0, seconds), next(self._numbers), action))

    def every(self, seconds: float, action: Callable[[], None]) -> None:
        """Have something happen again and again."""

        def happen() -> None:
            action()
            self.after(seconds, happen)

        self.after(seconds, happen)

    def advance(self, seconds: float) -> None:
        """Let time pass. What happens meanwhile can't let time pass itself."""
        with self.lock:
            if self._passing:
                return
            self._passing = True
            try:
                self._run_until(self.now + seconds)
            finally:
                self._passing = False

    def _run_until(self, end: float) -> None:
        while self._due and self._due[0][0] <= end:
            at, _, action = heapq.heappop(self._due)
            self.now = max(self.now, at)
            action()
        self.now = max(self.now, end)

    def follow(self, stopped: threading.Event, pace: float) -> None:
        """Let time pass `pace` times as fast as outside, for what is in other processes, until stopped."""
        before = time.monotonic()
        while not stopped.wait(0.02):
            now = time.monotonic()
            self.advance((now - before) * pace)
            before = now


def stamp(seconds: float) -> str:
    """A time as Google's documents have it."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def seconds_of(text: str) -> float:
    """The time of a stamp."""
    return datetime.fromisoformat(text).timestamp()


def duration(text: str) -> float:
    """The seconds of a duration, which ends with an s."""
    return float(text.removesuffix("s"))
