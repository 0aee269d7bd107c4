"""When a failed delivery is retried, and when it is given up."""

import math
from dataclasses import dataclass

GONE = 410


@dataclass(frozen=True)
class Backoff:
    """Exponential backoff: `first` seconds, doubled each time, `longest` at most; `attempts` in all.

    `luck` (0 to 1) adds up to a quarter, so that deliveries that failed together are not retried together.
    """

    first: float = 1.0
    longest: float = 60.0
    attempts: int = 12

    def wait(self, attempt: int, status: int, retry_after: str = "", luck: float = 0.0) -> float | None:
        """Seconds from this failed attempt (counted from 1) to the next one; None if there is none.

        A receiver that asks for more time gets it (`Retry-After` in seconds, RFC 9110, 10.2.3), up to
        `longest`; an answer of 410 (Gone) ends the delivery.
        """
        if attempt >= self.attempts or status == GONE:
            return None
        # The exponent is limited because a float overflows at 2.0 ** 1024.
        doubled = self.first * 2.0 ** min(attempt - 1, 60)
        asked = float(retry_after) if retry_after.isascii() and retry_after.isdigit() else 0.0
        return min(max(doubled, asked if math.isfinite(asked) else self.longest), self.longest) * (
            1 + luck / 4
        )
