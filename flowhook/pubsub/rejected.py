"""Stores authentic bodies that nobody can handle in a topic of their own, before they are answered."""

from flowhook.envelope import Envelope
from flowhook.errors import Refused
from flowhook.pubsub import messages
from flowhook.pubsub.messages import Message
from flowhook.pubsub.publisher import Publish


class Rejects:
    """Publishes to `topic` what is rejected; without a topic it stores nothing, and the log says so."""

    def __init__(self, publish: Publish, topic: str) -> None:
        self._publish = publish
        self._topic = topic

    async def keep_refused(self, body: bytes, problem: Refused) -> None:
        """Store a body that is no event, and note in `problem` whether it is stored. Raises PublishFailed."""
        message_id = await self._keep(messages.of_refused(body, problem))
        problem.kept = message_id is not None
        problem.remark = (
            f"Kept in {self._topic} as message {message_id}." if message_id else "It is not kept."
        )
        problem.noted = {**problem.noted, **({"messageId": message_id} if message_id else {})}

    async def keep_event(self, event: Envelope, handler: str, reason: str) -> bool:
        """Store an event that `handler` rejected; False without a topic. Raises PublishFailed."""
        return await self._keep(messages.of_rejected(event, handler, reason)) is not None

    async def _keep(self, message: Message) -> str | None:
        return await self._publish(self._topic, message) if self._topic else None
