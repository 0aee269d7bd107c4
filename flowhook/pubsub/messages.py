"""The messages for Pub/Sub: the body as data, byte for byte, and attributes to read and to filter by.

An event's attributes are CloudEvents 1.0 in binary mode, as in the draft of its Pub/Sub binding.
"""

import hashlib
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, NamedTuple
from urllib.parse import quote

from flowhook.envelope import Envelope
from flowhook.errors import Problem
from flowhook.timestamps import rfc3339

# https://cloud.google.com/pubsub/quotas: in bytes. A longer value fails the whole request.
MAX_ATTRIBUTE = 1024
# Any text of this many characters fits: UTF-8 takes four bytes for one at most.
SHORT = MAX_ATTRIBUTE // 4
MAX_MESSAGE = 10_000_000
# The rest is for the longest attributes, with room to spare.
MAX_BODY = MAX_MESSAGE - 50_000

TYPE_PREFIX = "com.synergyshock.flows."
# What RFC 3986 allows in a path without escaping.
PATH = "/-._~!$&'()*+,;=:@"


class Message(NamedTuple):
    """What is published to a topic."""

    data: bytes
    attributes: Mapping[str, str]


def of_event(event: Envelope) -> Message:
    """The message of an event. An optional value that Pub/Sub would refuse is left out."""
    # An id of megabytes must not stay in the cache.
    share = _shared if len(event.organization_id) <= SHORT else _shared.__wrapped__
    shared = share(event.organization_id, event.category, event.operation_type)
    attributes = {**shared, "ce-id": event.id}
    for name, value in (
        ("ce-subject", event.entity_path),
        ("ce-time", event.time),
        ("entity_key", event.entity_key),
        ("traceparent", event.traceparent),
    ):
        if value and (len(value) <= SHORT or _fits(value)):
            attributes[name] = value  # noqa: PERF403 - no second dictionary
    return Message(event.body, attributes)


def of_refused(body: bytes, problem: Problem, now: datetime | None = None) -> Message:
    """The message of a body that is no event, for `REJECTED_TOPIC`."""
    attributes = {
        "id": hashlib.sha256(body).hexdigest(),
        **_reason(problem.slug, problem.status, problem.document(), now),
    }
    return Message(body, _allowed(attributes))


def of_rejected(event: Envelope, handler: str, reason: str, now: datetime | None = None) -> Message:
    """The message of an event that a handler rejected: what `of_event` has, and the reason."""
    document = {"type": "urn:flowhook:problem:rejected", "title": "A handler rejected it", "detail": reason}
    attributes = {"handler": handler, **_reason("rejected", 200, document, now)}
    return Message(event.body, {**of_event(event).attributes, **_allowed(attributes)})


def _reason(reason: str, status: int, problem: Mapping[str, Any], now: datetime | None) -> dict[str, str]:
    return {
        "reason": reason,
        "status": str(status),
        "received_at": rfc3339(now or datetime.now(UTC)),
        "problem": _fitting(problem),
    }


def _fitting(problem: Mapping[str, Any]) -> str:
    """The problem as JSON, with fewer errors or a shorter detail where it is too long for an attribute."""
    few = {**problem, "errors": problem["errors"][:3]} if "errors" in problem else problem
    none = {name: value for name, value in problem.items() if name != "errors"}
    short = {**none, "detail": problem["detail"][:100] + "…"}
    written = (json.dumps(document, ensure_ascii=False) for document in (problem, few, none, short))
    # A lone surrogate can't be encoded as UTF-8: a handler may have cut an emoji in half.
    mended = (text.encode(errors="replace").decode() for text in written)
    return next((text for text in mended if _fits(text)), "")


@lru_cache(maxsize=1000)
def _shared(organization_id: str, category: str, operation: str) -> Mapping[str, str]:
    """The attributes that many events have in common."""
    attributes = {
        "ce-specversion": "1.0",
        "ce-source": _source(organization_id),
        "ce-type": f"{TYPE_PREFIX}{category}.{operation}",
        "content-type": "application/json",
        "category": category,
        "operation": operation,
        "organization_id": organization_id,
    }
    return _allowed(attributes)


def _source(organization_id: str) -> str:
    """A URI reference, which CloudEvents require; without the organization where its id is too long."""
    # Checked before quoting, which never makes an id shorter and takes a hundred times its memory.
    if len(organization_id) > MAX_ATTRIBUTE:
        return "//flows"
    source = f"//flows/organizations/{quote(organization_id, safe=PATH)}"
    return source if _fits(source) else "//flows"


def _allowed(attributes: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in attributes.items() if value and _fits(value)}


def _fits(value: str) -> bool:
    """Whether Pub/Sub accepts it: not too long, and valid UTF-8, which a lone surrogate is not."""
    if value.isascii() or len(value) > MAX_ATTRIBUTE:
        return len(value) <= MAX_ATTRIBUTE
    try:
        return len(value.encode()) <= MAX_ATTRIBUTE
    except UnicodeEncodeError:
        return False
