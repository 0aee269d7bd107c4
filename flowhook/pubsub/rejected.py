"""Where authentic bodies go that nobody can handle: into a topic of their own, before they are answered."""

from types import TracebackType

from flowhook.envelope import Envelope
from flowhook.errors import Refused
from flowhook.pubsub import messages
from flowhook.pubsub.messages import Message
from flowhook.pubsub.publisher import Publish


class Rejects:
    """Publishes to `topic` what is rejected; without a topic it keeps nothing, and the log says so."""

    def __init__(self, publish: Publish, topic: str) -> None:
        self._publish = publish
        self._topic = topic

    def keeping(self, body: bytes) -> "_Keeping":
        """A context that keeps `body` if what is done in it raises Refused, which then goes on.

        Raises PublishFailed instead where it can't be kept: it must not be answered as if it were settled.
        """
        return _Keeping(self, body)

    async def keep_refused(self, body: bytes, problem: Refused) -> None:
        """Keep a body that is no event, and tell the problem so. Raises PublishFailed where that fails."""
        message_id = await self._keep(messages.of_refused(body, problem))
        problem.kept = message_id is not None
        problem.remark = (
            f"Kept in {self._topic} as message {message_id}." if message_id else "It is not kept."
        )
        problem.noted = {**problem.noted, **({"messageId": message_id} if message_id else {})}

    async def keep_event(self, event: Envelope, handler: str, reason: str) -> bool:
        """Keep an event that `handler` rejected. Raises PublishFailed where that fails."""
        return await self._keep(messages.of_rejected(event, handler, reason)) is not None

    async def _keep(self, message: Message) -> str | None:
        return await self._publish(self._topic, message) if self._topic else None


class _Keeping:
    """By hand, for every delivery passes through it: contextlib's would cost it more than its validation."""

    __slots__ = ("_body", "_rejects")

    def __init__(self, rejects: Rejects, body: bytes) -> None:
        self._rejects = rejects
        self._body = body

    async def __aenter__(self) -> None:
        return

    async def __aexit__(
        self, _type: type[BaseException] | None, error: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        if isinstance(error, Refused):
            await self._rejects.keep_refused(self._body, error)
