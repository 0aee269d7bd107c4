"""The trace that a request belongs to: read from its headers, for the log and for what is published."""

import re
from collections.abc import Mapping
from typing import Any

# Version ff and ids of zeros are forbidden; only versions above 00 may have more parts.
TRACEPARENT = re.compile(
    rb"(?:00(?=.{53}\Z)|(?!00|ff)[0-9a-f]{2})-(?!0+-)([0-9a-f]{32})-(?!0+-)([0-9a-f]{16})-([0-9a-f]{2})(?:-.*)?"
)
CLOUD_TRACE = re.compile(rb"([0-9a-f]{32})(?:/(\d{1,20}))?(?:;o=(\d))?")


def parent(headers: Mapping[bytes, bytes]) -> str | None:
    """The header `traceparent` (W3C Trace Context) where it is valid; None otherwise."""
    value = headers.get(b"traceparent")
    if value is None:
        return None
    return value.decode() if value.isascii() and TRACEPARENT.fullmatch(value) else None


def fields(headers: Mapping[bytes, bytes]) -> dict[str, Any]:
    """Cloud Logging's fields from `traceparent`, else from Google's older header."""
    if b"traceparent" not in headers and b"x-cloud-trace-context" not in headers:
        return {}
    if found := TRACEPARENT.fullmatch(headers.get(b"traceparent", b"")):
        trace, span, sampled = found[1], found[2].decode(), int(found[3], 16) & 1 == 1
    elif found := CLOUD_TRACE.fullmatch(headers.get(b"x-cloud-trace-context", b"")):
        trace, span, sampled = found[1], f"{int(found[2] or 0):016x}", found[3] == b"1"
    else:
        return {}
    return {
        "logging.googleapis.com/trace": trace.decode(),
        "logging.googleapis.com/spanId": span,
        "logging.googleapis.com/trace_sampled": sampled,
    }
