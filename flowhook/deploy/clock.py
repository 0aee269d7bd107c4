"""The time, and how to wait; tests use a clock of their own, which doesn't sleep."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

# The longest wait for a change to take effect, in seconds. A change of a policy takes "typically 2 minutes,
# potentially 7": https://cloud.google.com/iam/docs/access-change-propagation
PATIENCE = 480.0
# Seconds to sleep between attempts; the last one is repeated.
PAUSES = (1.0, 2.0, 4.0, 8.0, 15.0)


@dataclass(frozen=True)
class Clock:
    """`now` returns the time in seconds since 1970; `sleep` waits for a number of seconds."""

    now: Callable[[], float] = time.time
    sleep: Callable[[float], None] = time.sleep

    def pauses(self, patience: float = PATIENCE) -> Iterator[float]:
        """Sleep before each item, longer each time, and yield the seconds since the first was asked for.

        The iterator ends once `patience` seconds have passed.
        """
        started = self.now()
        for number in range(int(patience) + len(PAUSES)):
            passed = self.now() - started
            if passed >= patience:
                return
            self.sleep(min(PAUSES[min(number, len(PAUSES) - 1)], patience - passed))
            yield self.now() - started
