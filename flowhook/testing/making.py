"""Valid events of any type, changed where a test says so."""

import json
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, overload

from pydantic.alias_generators import to_camel

from flowhook import events, samples
from flowhook.event_types import CommentType, EventType
from flowhook.events import CommentEvent, Event
from flowhook.testing import captures


@overload
def make_event(
    event_type: CommentType,
    *,
    properties: Mapping[str, Any] | None = None,
    captured: int | None = None,
    **overrides: Any,
) -> CommentEvent: ...


@overload
def make_event(
    event_type: EventType,
    *,
    properties: Mapping[str, Any] | None = None,
    captured: int | None = None,
    **overrides: Any,
) -> Event: ...


@overload
def make_event(
    event_type: str,
    *,
    properties: Mapping[str, Any] | None = None,
    captured: int | None = None,
    **overrides: Any,
) -> Event: ...


def make_event(
    event_type: str,
    *,
    properties: Mapping[str, Any] | None = None,
    captured: int | None = None,
    **overrides: Any,
) -> Event:
    """A valid event such as the platform sends, changed where the caller says so.

    `properties` are laid over those of the entity as it is (as it last was, where it has been deleted), by
    the platform's names; an update mask names them too, unless `overrides` give one. `overrides` are laid
    over the event, by the platform's names or by Python's; mappings are merged, everything else replaced:
    `make_event("packets.updated", entity_id="p1", data={"updateMask": ["status"]})`. A datetime becomes ISO
    8601. `captured` takes, instead of the sample, the captured event of this type with that number, from 0.

    Raises KeyError for a type that the platform doesn't send, LookupError where fewer are captured,
    NotAnEvent if the result is no event.
    """
    document = _merge(json.loads(_base(event_type, captured)), overrides)
    if properties is not None:
        current = document["data"].get("value") or document["data"].get("oldValue")
        current["properties"] = {**current["properties"], **properties}
        if not {"updateMask", "update_mask"} & {*overrides.get("data", ())}:
            document["data"]["updateMask"] = _with(document["data"]["updateMask"], properties)
    return events.parse(json.dumps(document, default=_encode).encode())


def _base(event_type: str, captured: int | None) -> bytes:
    if captured is None:
        return samples.load(event_type)
    found = captures.captured(event_type)
    if not 0 <= captured < len(found):
        raise LookupError(
            f"{len(found)} events of type {event_type} are captured in {captures.FOLDER}, so there is no "
            f"number {captured}: see `python -m flowhook capture`"
        )
    return found[captured].body


def _with(mask: list[str] | None, names: Iterable[str]) -> list[str] | None:
    return mask and [*dict.fromkeys((*mask, *names))]


def _merge(document: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(document)
    for name, value in overrides.items():
        known = to_camel(name) if to_camel(name) in document else name
        both = isinstance(value, Mapping) and isinstance(merged.get(known), Mapping)
        merged[known] = _merge(merged[known], value) if both else value
    return merged


def _encode(value: object) -> str:
    if isinstance(value, datetime):
        return value.isoformat()
    raise TypeError(f"{type(value).__name__} has no place in an event")
