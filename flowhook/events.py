r"""The platform's events as frozen pydantic models: a body in, an event out.

The models are as tolerant as an event allows, for a refused event is a lost one. The fields of the envelope
must be there and of their type; inside `value` and `oldValue` a field may be missing or null; unknown fields
are kept at every level (`model_extra`), and `event.body` is what arrived, byte for byte.

What is JSON (RFC 8259) and what is made of it:

- UTF-8 alone; a byte order mark is skipped, as section 8.1 allows.
- `NaN`, `Infinity` and every other deviation from the grammar: refused.
- Integers of up to 4,300 digits are exact; longer ones are refused (section 6 allows limits).
- A float beyond IEEE 754's range (`1e999`) becomes infinity, as it does in JavaScript.
- Nesting deeper than the parser's limit, about 200 levels: refused (section 9 allows limits).
- A lone surrogate (`"\ud83d"`, half an emoji, as JavaScript makes when it cuts a string) becomes U+FFFD:
  the grammar allows it (section 8.2), UTF-8 can't encode it, and it is no reason to lose an event.
- Of duplicate keys the last one counts, as in JavaScript and in Python's own `json`.
"""

import codecs
import hashlib
import re
from collections.abc import Collection, Mapping
from contextlib import suppress
from datetime import datetime
from functools import cached_property
from typing import Annotated, Any, Literal, NamedTuple, TypeVar

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    PlainValidator,
    PrivateAttr,
    ValidationError,
)
from pydantic.alias_generators import to_camel
from pydantic_core import CoreSchema, PydanticCustomError, PydanticKnownError, core_schema, from_json

from flowhook.categories import classify, model_name
from flowhook.errors import NotAnEvent, NotJson
from flowhook.frozen import NO_NAMES, FrozenDict, freeze
from flowhook.timestamps import read_timestamp

T = TypeVar("T")

# The two halves of a surrogate pair, and either of them without the other.
HIGH, LOW = rb"\\u[dD][89abAB][0-9a-fA-F]{2}", rb"\\u[dD][c-fC-F][0-9a-fA-F]{2}"
LONE_SURROGATE = re.compile(rb"%b(?!%b)|(?<!%b)%b" % (HIGH, LOW, HIGH, LOW))

# The most paths of an update mask that are looked up, which takes 10 ms: there may be millions.
MAX_MASK = 10_000

Timestamp = Annotated[datetime, BeforeValidator(read_timestamp)]
Names = Annotated[tuple[str, ...], Field(fail_fast=True)]


class Change(NamedTuple):
    """What a field held before and after; None where it was not there."""

    old: Any
    new: Any


class Model(BaseModel):
    """Frozen, with the platform's camelCase names outside and Python's inside; unknown fields are kept."""

    model_config = ConfigDict(frozen=True, extra="allow", alias_generator=to_camel, hide_input_in_errors=True)


def _read_properties(value: object) -> dict[str, Any]:
    if value is None:
        return NO_NAMES
    if not isinstance(value, dict):
        raise PydanticKnownError("dict_type")
    return value


# The handlers of an event share it; a plain validator returns the dictionary, frozen or not, without a copy.
Properties = Annotated[dict[str, Any], PlainValidator(_read_properties)]


class State(Model):
    """An entity at one moment: `data.value` or `data.oldValue`."""

    key: str | None = None
    properties: Properties = NO_NAMES
    create_time: Timestamp | None = None
    update_time: Timestamp | None = None


class Data(Model):
    """What happened to the entity. Each part may be null or absent."""

    value: State | None = None
    old_value: State | None = None
    update_mask: Names | None = None


class CommentProperties(FrozenDict):
    """A comment's properties: all of them by the platform's names, the guide's also typed by Python's.

    A typed one is None (`replies`: empty) where it is absent or of another type than the guide says.
    """

    @property
    def content(self) -> str | None:
        """The text of the comment."""
        return _only(str, self.get("content"))

    @property
    def replies(self) -> list[Any]:
        """The comments that answer this one."""
        return _only(list, self.get("replies")) or []

    @property
    def parent_comment_ref(self) -> str | None:
        """The comment that this one answers."""
        return _only(str, self.get("parentCommentRef"))

    @property
    def soft_removed(self) -> bool | None:
        """Whether the comment is hidden, though still there."""
        return _only(bool, self.get("softRemoved"))

    @property
    def created_by(self) -> str | None:
        """The user who wrote it."""
        return _only(str, self.get("createdBy"))

    @property
    def created_at(self) -> datetime | None:
        """When it was written; always aware."""
        try:
            return read_timestamp(self.get("createdAt"))
        except PydanticCustomError:
            return None

    def __deepcopy__(self, memo: dict[int, Any]) -> "CommentProperties":
        return CommentProperties(super().__deepcopy__(memo))

    def __reduce__(self) -> tuple[type, tuple[dict[str, Any]]]:
        return CommentProperties, (dict(self),)

    @classmethod
    def __get_pydantic_core_schema__(cls, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Validated as the properties of any entity."""
        return core_schema.no_info_after_validator_function(cls, handler(Properties))


class CommentState(State):
    """A comment at one moment."""

    properties: CommentProperties = CommentProperties()


class CommentData(Data):
    """What happened to the comment."""

    value: CommentState | None = None
    old_value: CommentState | None = None


class Event(Model):
    """One delivery of the platform, named as its guide names it. Made by `parse` alone.

    Nothing in it can be changed, at any level, because all handlers share the same event.
    """

    event_timestamp: Timestamp
    operation_type: Literal["created", "updated", "deleted"]
    entity_path: str
    entity_id: str
    entity_key: str
    collection_path: str
    organization_id: str
    data: Data

    _body: bytes = PrivateAttr(default=b"")
    _delivery_attempt: int = PrivateAttr(default=1)
    _traceparent: str | None = PrivateAttr(default=None)

    @property
    def delivery_attempt(self) -> int:
        """Which attempt at delivering this is, from 1; always 1 where the sender counts none."""
        return self._delivery_attempt

    @property
    def traceparent(self) -> str | None:
        """The trace that the delivery belongs to (W3C Trace Context), to pass on to whoever you call."""
        return self._traceparent

    @property
    def body(self) -> bytes:
        """The request's body, byte for byte."""
        return self._body

    @cached_property
    def id(self) -> str:
        """SHA-256 of the body, in hex: the platform sends no delivery id, a redelivery has the same one."""
        return hashlib.sha256(self._body).hexdigest()

    @cached_property
    def category(self) -> str:
        """One of `categories.CATEGORIES`, or `other`."""
        return classify(self.entity_path, self.collection_path, self.entity_key)

    @cached_property
    def type(self) -> str:
        """`CATEGORY.OPERATION`, e.g. `packets.updated`."""
        return f"{self.category}.{self.operation_type}"

    @property
    def properties(self) -> Mapping[str, Any]:
        """The entity's properties as they are, or as they last were where it has been deleted."""
        state = self.data.value or self.data.old_value
        return state.properties if state else {}

    def changes(self) -> dict[str, Change]:
        """Each property that changed, with its old and its new value; equal values are no change.

        Where `updateMask` names properties, only those are compared. The guide gives no form for its paths:
        `status`, `properties.status` and a path into the property (`status.name`) all name `status`, and
        `properties` names every one. Where it names none, or there is no mask, every property is compared; so
        it is where there are more than `MAX_MASK` paths.
        """
        old, new = _properties(self.data.old_value), _properties(self.data.value)
        # A dictionary instead of a set, because its keys have an order.
        names = self._masked() or dict.fromkeys((*new, *old))
        pairs = {name: Change(old.get(name), new.get(name)) for name in names}
        return {name: change for name, change in pairs.items() if change.old != change.new}

    def changed(self, name: str) -> bool:
        """Whether this property changed, by the rule of `changes`."""
        # No other property is looked at: there may be hundreds of thousands.
        old, new = _properties(self.data.old_value), _properties(self.data.value)
        if old.get(name) == new.get(name):
            return False
        masked = self._masked()
        return name in masked if masked else True

    def became(self, name: str, value: object) -> bool:
        """Whether this property changed, by the rule of `changes`, and is now `value`."""
        return _properties(self.data.value).get(name) == value and self.changed(name)

    def _masked(self) -> dict[str, None]:
        """The properties that the mask names; empty where every property is to be compared."""
        mask, old = self.data.update_mask or (), _properties(self.data.old_value)
        if len(mask) > MAX_MASK or "properties" in mask:
            return {}
        new = _properties(self.data.value)
        named = (_named(path, new, old) for path in mask)
        return dict.fromkeys(name for name in named if name is not None)

    def __repr__(self) -> str:
        """Short, so that a handler that logs an event does not log what is in it."""
        return f"<{type(self).__name__} {self.type} {self.entity_path!r}>"

    __str__ = __repr__


class CommentEvent(Event):
    """An event of category `packet_comments`: the guide's comment properties are typed."""

    data: CommentData
    entity_comments: Annotated[tuple[Any, ...], BeforeValidator(lambda value: _only(list, value) or ())] = ()

    @property
    def properties(self) -> CommentProperties:
        """The comment as it is, or as it last was where it has been deleted."""
        state = self.data.value or self.data.old_value
        return state.properties if state else CommentProperties()


# By the class names in the rows of `categories.TABLE`.
MODELS: Mapping[str, type[Event]] = {model.__name__: model for model in (Event, CommentEvent)}


def model_of(category: str) -> type[Event]:
    """The class of the events of a category."""
    return MODELS[model_name(category)]


def parse(body: bytes, *, delivery_attempt: int = 1, traceparent: str | None = None) -> Event:
    """The event in `body`, from this delivery. Raises NotJson or NotAnEvent, which never quote the body."""
    return made(freeze(read_json(body)), body, delivery_attempt=delivery_attempt, traceparent=traceparent)


def made(
    document: object, body: bytes, *, delivery_attempt: int = 1, traceparent: str | None = None
) -> Event:
    """The event of a `document` that was read from `body`. Raises NotAnEvent, which never quotes the body.

    Its values are those of `document`, not copies: only a frozen one makes an event that handlers can share.
    One that isn't is enough to judge the body, and freezing takes up to four times as long as reading.
    """
    model = model_of(_category(document))
    try:
        event = model.model_validate(document)
    except ValidationError as error:
        raise NotAnEvent(_pointers(error)) from None
    # Set once, by the only function that makes events.
    event._body, event._delivery_attempt, event._traceparent = body, delivery_attempt, traceparent  # noqa: SLF001
    return event


def read_json(body: bytes) -> object:
    """What the JSON text in `body` says, as the module's notes tell. Raises NotJson."""
    text = body.removeprefix(codecs.BOM_UTF8)
    try:
        return _decode(text)
    except ValueError as error:
        reason = str(error)
    # It is rare, so it is tried only once a body is refused: see the module's note on lone surrogates.
    mended = mend(text)
    if mended != text:
        with suppress(ValueError):
            return _decode(mended)
    raise NotJson(f"The body is not JSON: {reason}.")


def mend(text: bytes) -> bytes:
    """JSON text with U+FFFD in place of each lone surrogate; text with a NUL, which JSON forbids, as is.

    An escaped backslash before a `u` begins no surrogate, so NULs stand for escaped backslashes meanwhile.
    """
    if b"\0" in text:
        return text
    # A replacement, not a function, which would be called for each match: there may be millions.
    unescaped = text.replace(rb"\\", b"\0\0")
    return LONE_SURROGATE.sub(rb"\\ufffd", unescaped).replace(b"\0\0", rb"\\")


def _decode(text: bytes) -> object:
    return from_json(text, allow_inf_nan=False)


def _category(document: object) -> str:
    if not isinstance(document, dict):
        return classify("", "", "")
    entity_path, collection_path, entity_key = (
        _only(str, document.get(name)) or "" for name in ("entityPath", "collectionPath", "entityKey")
    )
    return classify(entity_path, collection_path, entity_key)


def _pointers(error: ValidationError) -> list[dict[str, str]]:
    """Each error as a JSON pointer (RFC 6901) and pydantic's message, which never quotes the input."""
    return [
        {"pointer": "".join(f"/{_escape(part)}" for part in found["loc"]), "detail": found["msg"]}
        for found in error.errors(include_url=False, include_context=False, include_input=False)
    ]


def _escape(part: int | str) -> str:
    return str(part).replace("~", "~0").replace("/", "~1")


def _only(kind: type[T], value: object) -> T | None:
    return value if isinstance(value, kind) else None


def _properties(state: State | None) -> Mapping[str, Any]:
    return state.properties if state else {}


def _named(path: str, new: Collection[str], old: Collection[str]) -> str | None:
    """The property, of those that are or were, that a path names: a path into a property names that one."""
    inner = path.removeprefix("properties.")
    return next((n for n in (path, inner, inner.partition(".")[0]) if n in new or n in old), None)
