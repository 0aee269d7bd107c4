"""Limits log lines that anybody can cause: the first few are written, the rest are counted."""

import asyncio
import math
import time
from collections import Counter
from collections.abc import Callable, Mapping

from flowhook import runtime

# In each period of this many seconds, this many lines are written.
SECONDS = 10.0
LINES = 10

Report = Callable[[Mapping[str, int]], None]


class Quota:
    """Admits `LINES` lines in `SECONDS`, and counts the others by kind; `report` gets the counts of a period.

    It is called when the next line or request comes, or as the process ends. There is no timer, because a
    serverless instance has no CPU between requests.
    """

    def __init__(self, report: Report, clock: Callable[[], float] = time.monotonic) -> None:
        self._report = report
        self._clock = clock
        self._ends_at = -math.inf
        self._lines_left = 0
        self._beyond: Counter[str] = Counter()
        self._awaits_the_end = self._stopping = False

    def admits(self, kind: str) -> bool:
        """Whether a line of this kind may be written; otherwise it is counted."""
        self.settle()
        now = self._clock()
        if now >= self._ends_at:
            self._ends_at, self._lines_left = now + SECONDS, LINES
        if self._lines_left > 0:
            self._lines_left -= 1
            return True
        self._count(kind)
        return False

    def settle(self) -> None:
        """Report the lines that were counted, if there are any and their period is over."""
        if self._beyond and self._clock() >= self._ends_at:
            self._report_now()

    def _count(self, kind: str) -> None:
        if self._stopping and not self._beyond:
            # There may be no next request, so report at the end of this iteration of the loop.
            asyncio.get_running_loop().call_soon(self._report_now)
        self._beyond[kind] += 1
        if not self._awaits_the_end:
            self._awaits_the_end = runtime.at_the_end(self._stop)

    def _stop(self) -> None:
        self._stopping = True
        self._report_now()

    def _report_now(self) -> None:
        beyond, self._beyond = self._beyond, Counter()
        if beyond:
            self._report(beyond)
