"""What a router needs beside handlers, for tests of something else."""

from flowhook.envelope import Envelope


async def forget(event: Envelope, handler: str, reason: str) -> bool:
    """Store nothing of what a handler rejects."""
    return False
