"""Time, as far as waiting needs it; tests bring their own."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

# Seconds. IAM needs "typically 2 minutes, potentially 7": https://cloud.google.com/iam/docs/access-change-propagation
PATIENCE = 480.0
PAUSES = (1.0, 2.0, 4.0, 8.0, 15.0)


@dataclass(frozen=True)
class Clock:
    """The time in seconds since 1970, and a way to let some of it pass."""

    now: Callable[[], float] = time.time
    sleep: Callable[[float], None] = time.sleep

    def pauses(self, patience: float = PATIENCE) -> Iterator[float]:
        """Sleep longer and longer, and give the seconds that have passed; ends after `patience` seconds."""
        started = self.now()
        for number in range(int(patience) + len(PAUSES)):
            passed = self.now() - started
            if passed >= patience:
                return
            self.sleep(min(PAUSES[min(number, len(PAUSES) - 1)], patience - passed))
            yield self.now() - started
