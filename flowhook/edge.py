"""The only module that knows the web framework: it reads requests as bytes and answers with outcomes."""

import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from pydantic_core import to_json
from starlette.requests import Request
from starlette.responses import Response

from flowhook import logs, trace
from flowhook.admission import SMALL, Admission, Room
from flowhook.delivery import Accepted, Outcome
from flowhook.envelope import Envelope
from flowhook.errors import (
    BodyTooLarge,
    Incomplete,
    Internal,
    MethodNotAllowed,
    Overloaded,
    Problem,
    Refused,
    caused_by,
)
from flowhook.quota import Quota

log = logging.getLogger(__name__)


class Received:
    """A request, independent of the framework; its body is still to be read.

    Header names are in lower case; where a header comes twice, the last one counts.
    """

    __slots__ = ("_bodies", "_limit", "_request", "_room", "headers", "path", "query")

    def __init__(
        self, request: Request, headers: Mapping[bytes, bytes], limit: int, bodies: Admission | None
    ) -> None:
        self.path: str = request.scope["path"]
        self.query: bytes = request.scope["query_string"]
        self.headers = headers
        self._request = request
        self._limit = limit
        self._bodies = bodies
        # The memory granted for a large body, until nothing refers to this object any more.
        self._room: Room | None = None

    @property
    def traceparent(self) -> str | None:
        """The trace that it belongs to (W3C Trace Context)."""
        return trace.parent(self.headers)

    async def read(self) -> bytes:
        """Read the body, once. Raises BodyTooLarge, Incomplete, or Overloaded without room for it."""
        limit = self._limit
        announced = self.headers.get(b"content-length", b"")
        # Python refuses to convert thousands of digits, so their number is checked first.
        if announced.isdigit() and (len(announced) > 18 or int(announced) > limit):
            raise _too_large(limit)
        body, more = await _next_chunk(self._request, limit, limit)
        if not more:
            return body
        # Not a list of chunks: a chunk of one byte would take about forty.
        gathered = bytearray(body)
        while more:
            chunk, more = await _next_chunk(self._request, limit - len(gathered), limit)
            gathered += chunk
            if self._bodies and self._room is None and len(gathered) > SMALL:
                self._room = await _room(self._bodies, int(announced) if announced.isdigit() else limit)
        return bytes(gathered)


Accept = Callable[[Received], Awaitable[Accepted]]


async def answer(
    request: Request, accept: Accept, max_body_bytes: int, bodies: Admission | None = None
) -> Response:
    """Deliver what `accept` accepts, and answer the platform.

    Writes one log line, unless too many requests are refused before authentication. `bodies` grants the
    memory for large bodies; without it, what they take together is not limited.
    """
    started = time.perf_counter()
    # No local variable may refer to a problem: its traceback refers to this frame, which would be a cycle.
    return _answer(request, started, *await _deliver(request, accept, max_body_bytes, bodies))


async def acknowledge(
    request: Request, accept: Accept, max_body_bytes: int, bodies: Admission | None = None
) -> Response:
    """Deliver what `accept` accepts, and answer Pub/Sub. Logs and limits as `answer` does.

    204 acknowledges what has been handled, and what is refused and kept: delivering that again would change
    nothing. Anything else is delivered again until the subscription gives it up, and forwards it to its
    dead-letter topic if it has one.
    """
    started = time.perf_counter()
    return _acknowledge(request, started, *await _deliver(request, accept, max_body_bytes, bodies))


async def _deliver(
    request: Request, accept: Accept, limit: int, bodies: Admission | None
) -> tuple[Envelope | None, Outcome | Problem]:
    """The outcome or problem of the request, and its event if there is one."""
    # The raw bytes: Starlette's own mapping would decode and copy them.
    headers = dict(request.scope["headers"])
    logs.begin(headers)
    _unproven.settle()
    event = None
    try:
        if request.scope["method"] != "POST":
            raise MethodNotAllowed("Send events with POST.")
        event, deliver = await accept(Received(request, headers, limit, bodies))
        logs.note_event(event.id, event.type, event.entity_path)
        return event, await deliver(event)
    except Problem as problem:
        return event, problem
    except Exception as error:  # noqa: BLE001 - the edge: a defect is answered and logged, not dropped
        return event, caused_by(error, Internal("The event was not delivered; the log tells why."))


def _answer(request: Request, started: float, event: Envelope | None, outcome: Outcome | Problem) -> Response:
    if isinstance(outcome, Problem):
        return _refuse(request, event, outcome, outcome.status, started)
    return _json(_confirm(request, outcome, 200, started))


def _acknowledge(
    request: Request, started: float, event: Envelope | None, outcome: Outcome | Problem
) -> Response:
    if not isinstance(outcome, Problem):
        _confirm(request, outcome, 204, started)
    elif isinstance(outcome, Refused) and outcome.kept:
        _refuse(request, event, outcome, 204, started)
    else:
        return _refuse(request, event, outcome, outcome.status, started)
    return Response(status_code=204)


async def _next_chunk(request: Request, left: int, limit: int) -> tuple[bytes, bool]:
    """The next chunk of the body, `left` bytes at most, and whether more follow."""
    # Read from ASGI itself: Starlette's iterator costs more than all the checks.
    message = await request.receive()
    if message["type"] == "http.disconnect":
        raise Incomplete("The connection was closed before the body was whole.")
    chunk: bytes = message.get("body", b"")
    if len(chunk) > left:
        raise _too_large(limit)
    return chunk, message.get("more_body", False)


async def _room(bodies: Admission, size: int) -> Room:
    try:
        return await bodies.room(size)
    except Overloaded as problem:
        # Whoever sends large bodies need not be authentic.
        problem.unproven = True
        raise


def _too_large(limit: int) -> BodyTooLarge:
    return BodyTooLarge(f"The body may have {limit} bytes at most.")


def _confirm(request: Request, outcome: Outcome, status: int, started: float) -> Mapping[str, Any]:
    level = logging.WARNING if outcome.rejected else logging.INFO
    document = outcome.document()
    logs.write(level, outcome.describe(), None, {**document, **_timing(request, status, started)})
    return {"id": outcome.event.id, "type": outcome.event.type, **document}


def _refuse(
    request: Request, event: Envelope | None, problem: Problem, status: int, started: float
) -> Response:
    if not problem.unproven or _unproven.admits(problem.slug):
        _log_refusal(request, event, problem, status, started)
    document = problem.document(event.id if event else None)
    return _json(document, status, "application/problem+json", problem.headers)


def _log_refusal(
    request: Request, event: Envelope | None, problem: Problem, status: int, started: float
) -> None:
    subject = f"{event.type} {event.entity_path}: " if event else ""
    logs.write(
        logging.ERROR if status >= 500 else logging.WARNING,
        f"{subject}{problem.title}: {problem.detail} {problem.remark}".rstrip(),
        problem.__cause__,
        {"outcome": problem.slug, **problem.noted, **_timing(request, status, started)},
    )


def _log_the_rest(counts: Mapping[str, int]) -> None:
    which = ", ".join(f"{count} {slug}" for slug, count in counts.items())
    message = f"{sum(counts.values())} more requests were refused before they were authentic: {which}"
    logs.write_apart(log, message, {"left_out": dict(counts)})


# One for the process, because it has one log.
_unproven = Quota(_log_the_rest)


def _timing(request: Request, status: int, started: float) -> dict[str, Any]:
    seconds = time.perf_counter() - started
    return {
        "status": status,
        "milliseconds": round(seconds * 1000, 1),
        "httpRequest": {
            "requestMethod": request.scope["method"],
            "status": status,
            "latency": f"{seconds:.6f}s",
        },
    }


def _json(
    document: Mapping[str, Any],
    status: int = 200,
    media_type: str = "application/json",
    headers: Mapping[str, str] | None = None,
) -> Response:
    return Response(to_json(document) + b"\n", status, headers, media_type)
