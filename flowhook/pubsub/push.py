"""What Pub/Sub pushes: the envelope around a message.

https://cloud.google.com/pubsub/docs/push#receive_push
"""

import base64
import binascii
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic_core import PydanticCustomError

from flowhook import envelope, trace
from flowhook.envelope import Envelope
from flowhook.errors import NotAPush

# A message of 10 MB in base64, and the envelope.
MAX_BYTES = 16 * 1024 * 1024


def _decode(data: object) -> bytes:
    if data is None:
        return b""
    try:
        return base64.b64decode(data, validate=True)  # type: ignore[arg-type]
    except (binascii.Error, TypeError, ValueError):
        raise PydanticCustomError("base64", "Input should be base64") from None


class Pushed(BaseModel):
    """The message."""

    model_config = ConfigDict(frozen=True)

    data: Annotated[bytes, BeforeValidator(_decode)] = b""
    attributes: dict[str, str] | None = None


class Push(BaseModel):
    """A message on its way to a subscriber. Pub/Sub counts attempts only where dead letters are set up."""

    model_config = ConfigDict(frozen=True)

    message: Pushed
    delivery_attempt: Annotated[int, Field(ge=1)] | None = Field(None, alias="deliveryAttempt")


Keeping = Callable[[bytes], AbstractAsyncContextManager[None]]


async def event(body: bytes, keeping: Keeping) -> Envelope:
    """The event in a push delivery. What is none is kept: the message, or the body that holds no message.

    Raises NotAPush, NotJson or NotAnEvent.
    """
    async with keeping(body):
        push = read(body)
    message = push.message
    attributes = message.attributes or {}
    async with keeping(message.data):
        read_event = envelope.read(
            message.data,
            delivery_attempt=push.delivery_attempt or 1,
            traceparent=trace.parent({b"traceparent": attributes.get("traceparent", "").encode()}),
        )
    return read_event._replace(handler=attributes.get("handler", ""), replay=attributes.get("replay", ""))


def read(body: bytes) -> Push:
    """The push delivery in `body`. Raises NotAPush."""
    try:
        return Push.model_validate_json(body)
    except ValidationError as error:
        # Two levels are ours to name; below them is what the message's sender wrote.
        parts = dict.fromkeys(".".join(map(str, found["loc"][:2])) or "the body" for found in error.errors())
        raise NotAPush(f"These parts are missing or wrong: {', '.join(parts)}.") from None
