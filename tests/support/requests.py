"""A request's body, where a test has no request."""

from collections.abc import Awaitable, Callable


def reading(body: bytes) -> Callable[[], Awaitable[bytes]]:
    """What reads this body."""

    async def read() -> bytes:
        return body

    return read
