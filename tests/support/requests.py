"""Bodies of requests, for tests that have no request."""

from collections.abc import Awaitable, Callable


def reading(body: bytes) -> Callable[[], Awaitable[bytes]]:
    """A function that reads this body."""

    async def read() -> bytes:
        return body

    return read
