"""Where authentic bodies go that nobody can handle: into a topic of their own, before they are answered."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from flowhook import messages
from flowhook.errors import Refused
from flowhook.events import Event
from flowhook.messages import Message
from flowhook.publisher import Publish


class Rejects:
    """Publishes to `topic` what is rejected; without a topic it keeps nothing, and the log says so."""

    def __init__(self, publish: Publish, topic: str) -> None:
        self._publish = publish
        self._topic = topic

    @asynccontextmanager
    async def keeping(self, body: bytes) -> AsyncIterator[None]:
        """Keep `body` if what is done in here raises Refused, which then goes on.

        Raises Undelivered instead where it can't be kept: it must not be answered as if it were settled.
        """
        try:
            yield
        except Refused as problem:
            message_id = await self._keep(messages.of_refused(body, problem))
            problem.kept = message_id is not None
            problem.remark = (
                f"Kept in {self._topic} as message {message_id}." if message_id else "It is not kept."
            )
            problem.noted = {**problem.noted, **({"messageId": message_id} if message_id else {})}
            raise

    async def keep_event(self, event: Event, handler: str, reason: str) -> bool:
        """Keep an event that `handler` rejected. Raises Undelivered where that fails."""
        return await self._keep(messages.of_rejected(event, handler, reason)) is not None

    async def _keep(self, message: Message) -> str | None:
        return await self._publish(self._topic, message) if self._topic else None
