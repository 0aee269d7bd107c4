"""The only module that knows the web framework: a request becomes bytes, an outcome or problem an answer."""

import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, NamedTuple

from pydantic_core import to_json
from starlette.requests import Request
from starlette.responses import Response

from flowhook import logs, trace
from flowhook.delivery import Outcome
from flowhook.errors import BodyTooLarge, Incomplete, Internal, MethodNotAllowed, Problem, Refused, caused_by
from flowhook.quota import Quota

log = logging.getLogger(__name__)


class Received(NamedTuple):
    """A request without its framework.

    Header names are in lower case; of one that comes twice the last one counts.
    """

    path: str
    query: bytes
    headers: Mapping[bytes, bytes]
    body: bytes

    @property
    def traceparent(self) -> str | None:
        """The trace that it belongs to (W3C Trace Context)."""
        return trace.parent(self.headers)


Accept = Callable[[Received], Awaitable[Outcome]]


async def answer(request: Request, accept: Accept, max_body_bytes: int) -> Response:
    """Run `accept` and answer the platform by what it returns or raises.

    Writes one log line, unless it is one of too many answers before authentication.
    """
    started = time.perf_counter()
    outcome = await _take(request, accept, max_body_bytes)
    try:
        if isinstance(outcome, Problem):
            return _refuse(request, outcome, outcome.status, started)
        return _json(_confirm(request, outcome, 200, started))
    finally:
        # A problem's traceback holds this frame.
        del outcome


async def acknowledge(request: Request, accept: Accept, max_body_bytes: int) -> Response:
    """Run `accept` and answer Pub/Sub: 204 for what must not come again. Writes one log line.

    That is what has been handled, and what is refused and kept: it would come back for ever. What is not
    kept anywhere else comes back until the subscription gives it up, to its dead letters if it has any.
    """
    started = time.perf_counter()
    outcome = await _take(request, accept, max_body_bytes)
    try:
        if isinstance(outcome, Refused) and outcome.kept:
            _refuse(request, outcome, 204, started)
        elif isinstance(outcome, Problem):
            return _refuse(request, outcome, outcome.status, started)
        else:
            _confirm(request, outcome, 204, started)
        return Response(status_code=204)
    finally:
        # As in `answer`.
        del outcome


async def _take(request: Request, accept: Accept, max_body_bytes: int) -> Outcome | Problem:
    # Bytes as they came: Starlette's own mapping decodes and copies them.
    headers = dict(request.scope["headers"])
    logs.begin(headers)
    _unproven.settle()
    try:
        body = await _read(request, headers, max_body_bytes)
        return await accept(Received(request.scope["path"], request.scope["query_string"], headers, body))
    except Problem as problem:
        return problem
    except Exception as error:  # noqa: BLE001 - the edge: a defect is answered and logged, not dropped
        return caused_by(error, Internal("The event was not delivered; the log tells why."))


async def _read(request: Request, headers: Mapping[bytes, bytes], limit: int) -> bytes:
    """The body, if the method is POST and it has at most `limit` bytes; no more than that is ever held."""
    if request.method != "POST":
        raise MethodNotAllowed("Send events with POST.")
    announced = headers.get(b"content-length", b"")
    # More digits than that, Python would refuse to read.
    if announced.isdigit() and (len(announced) > 18 or int(announced) > limit):
        raise _too_large(limit)
    chunks, size, more = [], 0, True
    while more:
        # ASGI's own messages: Starlette's iterator over them costs more than all the checks.
        message = await request.receive()
        if message["type"] == "http.disconnect":
            raise Incomplete("The connection was closed before the body was whole.")
        chunks.append(message.get("body", b""))
        size += len(chunks[-1])
        if size > limit:
            raise _too_large(limit)
        more = message.get("more_body", False)
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)


def _too_large(limit: int) -> BodyTooLarge:
    return BodyTooLarge(f"The body may have {limit} bytes at most.")


def _confirm(request: Request, outcome: Outcome, status: int, started: float) -> Mapping[str, Any]:
    level = logging.WARNING if outcome.rejected else logging.INFO
    document = outcome.document()
    noted = {**document, **_timing(request, status, started)}
    # They are noted already, under other names.
    del noted["id"], noted["type"]
    logs.write(level, outcome.describe(), **noted)
    return document


def _refuse(request: Request, problem: Problem, status: int, started: float) -> Response:
    if not problem.unproven or _unproven.admits(problem.slug):
        _log_refusal(request, problem, status, started)
    document = problem.document(logs.noted("event_id"))
    return _json(document, status, "application/problem+json", problem.headers)


def _log_refusal(request: Request, problem: Problem, status: int, started: float) -> None:
    level = logging.ERROR if status >= 500 else logging.WARNING
    subject = f"{logs.noted('event_type')} {logs.noted('entity_path')}: " if logs.noted("event_id") else ""
    logs.write(
        level,
        f"{subject}{problem.title}: {problem.detail} {problem.remark}".rstrip(),
        problem.__cause__,
        outcome=problem.slug,
        **problem.noted,
        **_timing(request, status, started),
    )


def _log_the_rest(counts: Mapping[str, int]) -> None:
    which = ", ".join(f"{count} {slug}" for slug, count in counts.items())
    message = f"{sum(counts.values())} more requests were refused before they were authentic: {which}"
    logs.write_apart(log, message, left_out=dict(counts))


# One for the process, as the log is.
_unproven = Quota(_log_the_rest)


def _timing(request: Request, status: int, started: float) -> dict[str, Any]:
    seconds = time.perf_counter() - started
    return {
        "status": status,
        "milliseconds": round(seconds * 1000, 1),
        "httpRequest": {
            "requestMethod": request.method,
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
