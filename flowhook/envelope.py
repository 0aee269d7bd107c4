"""The outer fields of an event: enough to validate, route and publish it without making the event itself.

Pydantic's Rust core validates the body as JSON but makes Python objects of a few fields only; an event with
100 KB of properties costs a fifth of what `events.parse` does. Whatever the core accepts, `events.parse`
accepts too; whatever it doesn't accept, `events.parse` decides. So the two never disagree, which is tested.
`events.parse` also decides what is heavy to parse, because the core's own tree takes memory that is not
returned to the system.

Judging freezes nothing, because only handlers need an event that can't be changed. What they are given is
frozen in a thread where it is large, so that the loop goes on meanwhile.
"""

import asyncio
import hashlib
import re
import sys
import weakref
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from functools import partial
from types import ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from pydantic_core import SchemaValidator, ValidationError
from pydantic_core import core_schema as cs

from flowhook import runtime
from flowhook.admission import SMALL, Admission, Room, memory_of
from flowhook.background import Background
from flowhook.categories import OPERATIONS, classify
from flowhook.errors import UnsupportedMediaType
from flowhook.timestamps import read_timestamp, rfc3339

if TYPE_CHECKING:
    from flowhook.events import Event

JSON_TYPES = re.compile(r"(application|text)/json|[\w.+-]+/[\w.+-]+\+json")
# The platform's form of ISO 8601, for days that every year has. `events.parse` reads any other.
DATE = (
    "(?:[1-9][0-9]{3})-(?:(?:0[13578]|1[02])-(?:0[1-9]|[12][0-9]|3[01])"
    "|(?:0[469]|11)-(?:0[1-9]|[12][0-9]|30)|02-(?:0[1-9]|1[0-9]|2[0-8]))"
)
TIME = r"(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](?:\.[0-9]{1,9})?Z"
# The length of `2026-03-02T10:42:30.250Z`: the platform's form, which CloudEvents allows as it is.
USUAL_LENGTH = 24
# A body of up to this many bytes is parsed in a few milliseconds, which no other body needs to wait for.
BRIEF = 256 * 1024


class Envelope(NamedTuple):
    """The outer fields of an event, named as in `Event`.

    `time` is the event's timestamp in the form of RFC 3339; empty where that can't express its offset.
    """

    body: bytes
    id: str
    type: str
    category: str
    operation_type: str
    entity_path: str
    entity_key: str
    organization_id: str
    time: str
    delivery_attempt: int
    traceparent: str | None
    room: Room | None = None
    # For a message that an operator replays: the one handler that it is for, and the id of the replay.
    handler: str = ""
    replay: str = ""

    @classmethod
    def of(cls, event: "Event") -> Self:
        """The envelope of an event."""
        return cls(
            event.body,
            event.id,
            event.type,
            event.category,
            event.operation_type,
            event.entity_path,
            event.entity_key,
            event.organization_id,
            rfc3339(event.event_timestamp),
            event.delivery_attempt,
            event.traceparent,
        )

    async def open(self) -> "Event":
        """The event, which can't be changed. One that memory was granted for is made in a thread."""
        if self.room is None:
            return self._event()
        make = partial(self._large_event, self.room)
        run = asyncio.get_running_loop().run_in_executor
        if self.room.heavy:
            return await run(_freezing, make)
        # It is parsed again, and meanwhile the loop stands still, as while any other body is parsed.
        async with self.room.alone() if len(self.body) > BRIEF else nullcontext():
            return await run(_opening, make)

    def _event(self) -> "Event":
        event: Event = _models().parse(
            self.body, delivery_attempt=self.delivery_attempt, traceparent=self.traceparent
        )
        return event

    def _large_event(self, room: Room) -> "Event":
        with runtime.unwatched() if room.heavy else nullcontext():
            event = self._event()
        # The finalizer holds the room while the event exists, even in the thread of a handler that hangs.
        weakref.finalize(event, Room.leave, room).atexit = False
        return event

    def replayed(self, handler: str, replay: str) -> "Envelope":
        """The envelope of an event that an operator replays to a handler."""
        return self._replace(handler=handler, replay=replay)


class Parsed(Envelope):
    """An envelope whose body had to be parsed to validate it; it isn't parsed again."""

    document: object

    def replayed(self, handler: str, replay: str) -> "Envelope":
        """The same as for any envelope; the document stays with it."""
        replayed = self._replace(handler=handler, replay=replay)
        replayed.document = self.document
        return replayed

    def _event(self) -> "Event":
        models = _models()
        event: Event = models.made(
            models.freeze(self.document),
            self.body,
            delivery_attempt=self.delivery_attempt,
            traceparent=self.traceparent,
        )
        return event


# Large events are made one at a time, and not in the loop's threads, which handlers may occupy. One of 100 KB
# need not wait until one of megabytes is frozen.
_opening = ThreadPoolExecutor(max_workers=1, thread_name_prefix="opening")
_freezing = ThreadPoolExecutor(max_workers=1, thread_name_prefix="freezing")


def require_json(headers: Mapping[bytes, bytes]) -> None:
    """Raise UnsupportedMediaType unless the content type is JSON or absent."""
    content_type = headers.get(b"content-type", b"")
    if content_type == b"application/json":
        return
    media_type = content_type.partition(b";")[0].strip().lower()
    if media_type and not JSON_TYPES.fullmatch(media_type.decode("latin-1")):
        raise UnsupportedMediaType("The content type must be application/json.")


async def admit(
    body: bytes, parses: Admission, *, delivery_attempt: int = 1, traceparent: str | None = None
) -> Envelope:
    """As `read`, once there is room to parse the body. Raises what `read` raises, and Overloaded."""
    if len(body) <= SMALL:
        return await _judged(body, delivery_attempt, traceparent, None)
    async with parses.turn(partial(memory_of, body)) as room:
        return await _judged(body, delivery_attempt, traceparent, room)


async def _judged(body: bytes, delivery_attempt: int, traceparent: str | None, room: Room | None) -> Envelope:
    fields = _validated(body, room)
    if fields is not None:
        return _from_fields(fields, body, delivery_attempt, traceparent, room)
    await _load_models()
    return _parsed(body, delivery_attempt, traceparent, room)


def read(
    body: bytes, *, delivery_attempt: int = 1, traceparent: str | None = None, room: Room | None = None
) -> Envelope:
    """The envelope of the event in `body`. Raises NotJson or NotAnEvent, neither of which quotes the body.

    `room` is the memory that was granted for parsing the body; without it the body must be a small one.
    """
    fields = _validated(body, room)
    if fields is not None:
        return _from_fields(fields, body, delivery_attempt, traceparent, room)
    return _parsed(body, delivery_attempt, traceparent, room)


def _from_fields(
    fields: Mapping[str, Any],
    body: bytes,
    delivery_attempt: int,
    traceparent: str | None,
    room: Room | None,
) -> Envelope:
    entity_path, entity_key = fields["entityPath"], fields["entityKey"]
    operation, time = fields["operationType"], fields["eventTimestamp"]
    category = classify(entity_path, fields["collectionPath"], entity_key)
    return Envelope(
        body,
        hashlib.sha256(body).hexdigest(),
        f"{category}.{operation}",
        category,
        operation,
        entity_path,
        entity_key,
        fields["organizationId"],
        time if len(time) == USUAL_LENGTH else rfc3339(read_timestamp(time)),
        delivery_attempt,
        traceparent,
        room,
    )


def _parsed(body: bytes, delivery_attempt: int, traceparent: str | None, room: Room | None) -> Envelope:
    models, heavy = _models(), room is not None and room.heavy
    with runtime.unwatched() if heavy else nullcontext():
        document = models.read_json(body)
        event = models.made(document, body, delivery_attempt=delivery_attempt, traceparent=traceparent)
    envelope = Parsed.of(event)._replace(room=room)
    envelope.document = document
    return envelope


def _models() -> ModuleType:
    """The event models: importing them takes a fifth of a second, which no start should have to wait for."""
    from flowhook import events  # noqa: PLC0415 - see above

    return events


async def _load_models() -> None:
    """Import the models, the first time in a thread, so that the loop isn't blocked."""
    module = sys.modules.get("flowhook.events")
    # An import blocks, on the loop too, while another thread imports the same module.
    if module is None or getattr(module.__spec__, "_initializing", False):
        _importing.start(lambda _: None)
        await _importing.wait()


# One for the process, as modules are. Its patience is far longer than an import takes.
_importing = Background("Importing the event models", _models, 30.0)


def _validated(body: bytes, room: Room | None = None) -> Mapping[str, Any] | None:
    """The fields of the event in `body`; None where `events.parse` has to decide."""
    if room and room.heavy:
        return None
    # The validator accepts these numbers, JSON doesn't. They may also be in a text, which is rare enough.
    # A search for one byte is so much faster that it is worth the while to look for that first.
    if (b"N" in body and b"NaN" in body) or (b"I" in body and b"Infinity" in body):
        return None
    try:
        fields: Mapping[str, Any] = VALIDATOR.validate_json(body)
    except ValidationError:
        return None
    return fields


def _record(required: dict[str, cs.CoreSchema], optional: dict[str, cs.CoreSchema]) -> cs.CoreSchema:
    """An object with these fields; any others are ignored, and an optional one may be null."""
    fields = {name: cs.typed_dict_field(schema) for name, schema in required.items()}
    fields |= {
        name: cs.typed_dict_field(cs.nullable_schema(schema), required=False)
        for name, schema in optional.items()
    }
    return cs.typed_dict_schema(fields, extra_behavior="ignore")


_TEXT = cs.str_schema()
_TIMESTAMP = cs.str_schema(pattern=f"^{DATE}T{TIME}$")
_STATE = _record(
    {},
    {"key": _TEXT, "properties": _record({}, {}), "createTime": _TIMESTAMP, "updateTime": _TIMESTAMP},
)
VALIDATOR = SchemaValidator(
    _record(
        {
            "eventTimestamp": _TIMESTAMP,
            "operationType": cs.literal_schema(list(OPERATIONS)),
            **dict.fromkeys(
                ("entityPath", "entityId", "entityKey", "collectionPath", "organizationId"), _TEXT
            ),
            "data": _record(
                {}, {"value": _STATE, "oldValue": _STATE, "updateMask": cs.list_schema(_TEXT, fail_fast=True)}
            ),
        },
        {},
    )
)
