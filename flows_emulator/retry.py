"""When a delivery is tried again, and when no more."""

import math
from dataclasses import dataclass

GONE = 410


@dataclass(frozen=True)
class Backoff:
    """`first` seconds after the first attempt, twice as long each time, `longest` at most, `attempts` in all.

    Up to a quarter is added by `luck` (0 to 1), so that what failed together does not come back together.
    """

    first: float = 1.0
    longest: float = 60.0
    attempts: int = 12

    def wait(self, attempt: int, status: int, retry_after: str = "", luck: float = 0.0) -> float | None:
        """Seconds from the failed attempt of this number (from 1) to the next; None where there is none.

        A receiver that asks for more time gets it (`Retry-After` in seconds, RFC 9110, 10.2.3), up to
        `longest`; one that answers 410 wants no more.
        """
        if attempt >= self.attempts or status == GONE:
            return None
        # A power of more than the attempts that double would only overflow.
        doubled = self.first * 2.0 ** min(attempt - 1, 60)
        asked = float(retry_after) if retry_after.isascii() and retry_after.isdigit() else 0.0
        return min(max(doubled, asked if math.isfinite(asked) else self.longest), self.longest) * (
            1 + luck / 4
        )
