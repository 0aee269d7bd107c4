"""What a router needs beside handlers, where a test is not about it."""

from flowhook.envelope import Envelope


async def forget(event: Envelope, handler: str, reason: str) -> bool:
    """Keep nothing of what a handler rejects."""
    return False
