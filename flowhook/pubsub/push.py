"""A push delivery of Pub/Sub: a message, and which attempt at delivering it this is.

https://cloud.google.com/pubsub/docs/push#receive_push
"""

import base64
import binascii
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, NamedTuple

from pydantic_core import PydanticCustomError, SchemaValidator, ValidationError
from pydantic_core import core_schema as cs

from flowhook import admission, envelope, trace
from flowhook.admission import Admission
from flowhook.envelope import Envelope
from flowhook.errors import NotAPush, Refused

# A message of 10 MB in base64, and the fields beside it.
MAX_BYTES = 16 * 1024 * 1024
# Bytes that the parts of a push may take once they are parsed. Pub/Sub allows 100 attributes, and the longest
# ones, full of commas, take 13 MB.
MAX_STRUCTURE = 32_000_000


class Message(NamedTuple):
    """What was published."""

    data: bytes = b""
    attributes: Mapping[str, str] | None = None


class Push(NamedTuple):
    """A message on its way to a subscriber. Pub/Sub counts attempts only where dead letters are set up."""

    message: Message
    delivery_attempt: int | None = None


Keep = Callable[[bytes, Refused], Awaitable[None]]


async def event(body: bytes, parses: Admission, keep: Keep) -> Envelope:
    """The event in a push delivery. `keep` stores the data that is no event, or the body that is no push.

    `parses` grants turns to large bodies, and the memory for parsing a large event. Raises NotAPush, NotJson,
    NotAnEvent or Overloaded, or what `keep` raises.
    """
    try:
        message, delivery_attempt = await _read(body, parses)
    except NotAPush as problem:
        await keep(body, problem)
        raise
    # While the event waits for memory, the push would take more than the event does.
    del body
    attributes = message.attributes or {}
    try:
        read_event = await envelope.admit(
            message.data,
            parses,
            delivery_attempt=delivery_attempt or 1,
            traceparent=trace.parent({b"traceparent": attributes.get("traceparent", "").encode()}),
        )
    except Refused as problem:
        await keep(message.data, problem)
        raise
    if "replay" in attributes or "handler" in attributes:
        return read_event.replayed(attributes.get("handler", ""), attributes.get("replay", ""))
    return read_event


async def _read(body: bytes, parses: Admission) -> Push:
    if len(body) <= admission.SMALL:
        return read(body)
    async with parses.turn():
        return read(body)


def read(body: bytes) -> Push:
    """The push delivery in `body`. Raises NotAPush."""
    if len(body) > admission.SMALL and admission.structure_of(body) > MAX_STRUCTURE:
        raise _not_a_push("the body")
    try:
        found = VALIDATOR.validate_json(body)
    except ValidationError as error:
        # Only the first two levels are named: what is below them was written by the message's sender.
        errors = error.errors(include_url=False, include_context=False, include_input=False)
        parts = dict.fromkeys(".".join(map(str, found["loc"][:2])) or "the body" for found in errors)
        raise _not_a_push(*parts) from None
    message = found["message"]
    return Push(Message(message.get("data") or b"", message.get("attributes")), found.get("deliveryAttempt"))


def _decode(data: bytes) -> bytes:
    try:
        return base64.b64decode(data, validate=True)
    except binascii.Error:
        raise PydanticCustomError("base64", "Input should be base64") from None


def _not_a_push(*parts: str) -> NotAPush:
    return NotAPush(f"These parts are missing or wrong: {', '.join(parts)}.")


def _optional(schema: cs.CoreSchema) -> cs.TypedDictField:
    return cs.typed_dict_field(cs.nullable_schema(schema), required=False)


def _record(fields: dict[str, cs.TypedDictField]) -> cs.CoreSchema:
    return cs.typed_dict_schema(fields, extra_behavior="ignore")


# The base64 text is read as bytes: a str would be a copy of up to four bytes per character.
_MESSAGE: dict[str, Any] = {
    "data": _optional(cs.no_info_after_validator_function(_decode, cs.bytes_schema())),
    "attributes": _optional(cs.dict_schema(cs.str_schema(), cs.str_schema(), fail_fast=True)),
}
VALIDATOR = SchemaValidator(
    _record(
        {
            "message": cs.typed_dict_field(_record(_MESSAGE)),
            "deliveryAttempt": _optional(cs.int_schema(ge=1)),
        }
    )
)
