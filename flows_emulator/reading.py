"""Reads a Form RAW Response, the emulator's or one pasted from the platform, which documents little of it.

The guide names `softRemoved`, `status` and `integrationProvider` with its path and segments. Everything else
is searched for at any depth: the ticked events may be a list (`{"packets": ["created"]}`), boxes
(`{"packetComments": {"created": true}}`) or names (`"packets.created"`), under any spelling of the eight
groups.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from flowhook import samples
from flowhook.categories import CATEGORIES, OPERATIONS, TABLE, Pattern

MAX_DEPTH = 40
# Fields that every event has, and no integration.
EVENT = {"eventTimestamp", "operationType", "entityPath"}
_SPELLINGS = {
    **{category: category for category in CATEGORIES},
    **{category.removesuffix("s"): category for category in CATEGORIES if category != "entities"},
    "entity": "entities",
    **{row.collection.lower(): row.name for row in TABLE if row.parent is None},
    "pipelinespacketscomments": "packet_comments",
    "comments": "packet_comments",
}
_KNOWN = {re.sub(r"[^a-z]", "", spelling): category for spelling, category in _SPELLINGS.items()}


class NotARawResponse(ValueError):  # noqa: N818 - it says what the text is
    """The text is no Form RAW Response; the message says what it is, or where it stops being JSON."""


@dataclass(frozen=True)
class Finding:
    """One sentence for the user; `wrong` if it names a reason why events don't arrive."""

    text: str
    wrong: bool = False


@dataclass(frozen=True)
class Raw:
    """What a Form RAW Response contains; None where it contains nothing about it."""

    soft_removed: bool | None
    status: str | None
    provider: str | None
    url: str | None
    ticked: frozenset[str] | None


def read(text: str) -> Raw:
    """Parse the text. Raises NotARawResponse."""
    try:
        document = json.loads(text.removeprefix("\ufeff"))
    except json.JSONDecodeError as error:
        raise NotARawResponse(f"not JSON: {error.msg} in line {error.lineno}, column {error.colno}") from None
    except RecursionError:
        raise NotARawResponse("not JSON that anybody would show: it is nested too deeply") from None
    if not isinstance(document, dict):
        raise NotARawResponse("JSON, but not an object")
    if document.keys() >= EVENT:
        raise NotARawResponse("an event, not the settings of an integration")
    return Raw(
        soft_removed=_first(document, "softRemoved", bool),
        status=_first(document, "status", str),
        provider=_provider(document),
        url=_first(document, "url", str) or _first(document, "webhookUrl", str),
        ticked=_ticked(document),
    )


def findings(raw: Raw, wanted: Mapping[str, Sequence[Pattern]]) -> Iterator[Finding]:
    """Explain the response in sentences; `wanted` are the patterns of each handler."""
    yield from _about_removal(raw.soft_removed)
    yield from _about_status(raw.status)
    yield from _about_provider(raw.provider)
    if raw.url:
        yield Finding(f"Events are sent to {raw.url}.")
    if raw.ticked is None:
        yield Finding(
            "It does not tell which events are ticked: compare the boxes with `python -m flowhook handlers`."
        )
        return
    yield from _about_events(raw.ticked, wanted)


def _about_removal(removed: bool | None) -> Iterator[Finding]:
    match removed:
        case None:
            yield Finding("It does not tell whether the integration is removed (softRemoved).")
        case True:
            yield Finding(
                "Removed: it is still there (softRemoved), and sends nothing. Add it again.", wrong=True
            )
        case False:
            yield Finding("Not removed.")


def _about_status(status: str | None) -> Iterator[Finding]:
    if status is None:
        yield Finding("It has no status: was it saved?", wrong=True)
    elif status.lower() in ("active", "enabled", "on", "published"):
        yield Finding(f"Status {status}: it sends the events that are ticked.")
    elif status.lower() in ("paused", "inactive", "disabled", "off", "draft", "archived", "removed"):
        yield Finding(f"Status {status}: it sends nothing as long as that is so.", wrong=True)
    else:
        yield Finding(f"Status {status}: what that means, the platform's guide does not say.")


def _about_provider(provider: str | None) -> Iterator[Finding]:
    if provider is None:
        yield Finding("It names no integration provider: choose “Flows API webhook” and save.", wrong=True)
    elif "webhook" in provider.lower():
        yield Finding(f"Provider {provider}: a webhook.")
    else:
        yield Finding(
            f"Provider {provider}: is that “Flows API webhook”? Only that one calls a URL.", wrong=True
        )


def _about_events(ticked: frozenset[str], wanted: Mapping[str, Sequence[Pattern]]) -> Iterator[Finding]:
    if not ticked:
        yield Finding("No event is ticked, so none is sent.", wrong=True)
    else:
        yield Finding(f"{len(ticked)} of {len(samples.TYPES)} events are ticked: {_names(ticked)}.")
    for handler, patterns in wanted.items():
        waits = {name for name in samples.TYPES if any(pattern.matches(name) for pattern in patterns)}
        missing = waits - ticked
        # A handler that takes everything needs no particular event.
        if missing and Pattern("*", "*") not in patterns:
            yield Finding(f"{handler} waits for {_names(missing)}, not ticked.", wrong=True)
    unhandled = {n for n in ticked if not any(p.matches(n) for patterns in wanted.values() for p in patterns)}
    if wanted and unhandled:
        yield Finding(f"Ticked, and no handler takes it: {_names(unhandled)}.")


def _names(types: frozenset[str] | set[str]) -> str:
    """The types as text, a complete group as a pattern: `packets.*, users.created`."""
    if types >= set(samples.TYPES):
        return "*"
    told: list[str] = []
    for category in CATEGORIES:
        there = [operation for operation in OPERATIONS if f"{category}.{operation}" in types]
        whole = len(there) == len(OPERATIONS)
        told += [f"{category}.*"] if whole else [f"{category}.{operation}" for operation in there]
    return ", ".join(told)


def _provider(document: Mapping[str, Any]) -> str | None:
    provider = next((value for name, value in _walk(document) if name == "integrationProvider"), None)
    if isinstance(provider, dict):
        path, segments = provider.get("path"), provider.get("segments")
        if isinstance(path, str) and path:
            return path
        if isinstance(segments, list) and segments:
            return "/".join(map(str, segments))
    return provider if isinstance(provider, str) and provider else None


def _ticked(document: Mapping[str, Any]) -> frozenset[str] | None:
    """The ticked types; None where no group of events is found at all."""
    found: set[str] = set()
    told = False
    for name, value in _walk(document):
        if (category := _category(name)) and (operations := _operations(value)) is not None:
            told = True
            found |= {f"{category}.{operation}" for operation in operations}
        names = [item for item in value if item in samples.TYPES] if _is_list_of_names(value) else []
        told = told or bool(names)
        found |= set(names)
        if name in samples.TYPES and isinstance(value, bool):
            told = True
            found |= {name} if value else set()
    return frozenset(found) if told else None


def _is_list_of_names(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def _category(name: str) -> str | None:
    """`packetComments`, `packet_comments_events`, `Packet comments events`: all packet_comments."""
    letters = re.sub(r"[^a-z]", "", name.lower())
    return _KNOWN.get(letters) or _KNOWN.get(letters.removesuffix("events").removesuffix("event"))


def _operations(value: object) -> set[str] | None:
    """The ticked operations of a group; None where the value is no group of boxes."""
    if isinstance(value, dict):
        told = {_operation(name): ticked for name, ticked in value.items()}
        boxes = {name: ticked for name, ticked in told.items() if name and isinstance(ticked, bool)}
        return {name for name, ticked in boxes.items() if ticked and name} if boxes else None
    if isinstance(value, list):
        told_names = {_operation(item) for item in value if isinstance(item, str)}
        return {name for name in told_names if name} if told_names - {None} or not value else None
    return None


def _operation(name: str) -> str | None:
    word = name.lower().removeprefix("on")
    return next((operation for operation in OPERATIONS if word in (operation, operation[:-1])), None)


def _first(document: Mapping[str, Any], name: str, kind: type) -> Any:
    """The value nearest to the top that has this name and is of this kind; None if there is none."""
    found = (value for told, value in _walk(document) if told == name and isinstance(value, kind))
    return next(found, None)


def _walk(document: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield the members of all objects, the outer ones first, down to MAX_DEPTH."""
    level: list[Any] = [document]
    for _ in range(MAX_DEPTH):
        below: list[Any] = []
        for value in level:
            if isinstance(value, dict):
                yield from value.items()
                below += value.values()
            elif isinstance(value, list):
                below += value
        level = below
