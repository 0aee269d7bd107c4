"""The only module that knows the web framework: a request becomes bytes, an outcome or problem an answer."""

import json
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from flowhook import logs
from flowhook.delivery import Outcome
from flowhook.errors import BodyTooLarge, Incomplete, Internal, MethodNotAllowed, Problem

Accept = Callable[[Mapping[bytes, bytes], bytes, bytes], Awaitable[Outcome]]


async def answer(request: Request, accept: Accept, max_body_bytes: int) -> Response:
    """Run `accept(headers, query, body)` and answer by what it returns or raises. Writes one log line.

    The headers' names are in lower case; of a header that comes twice the last one counts.
    """
    started = time.perf_counter()
    headers = dict(request.headers.raw)
    logs.begin(headers)
    try:
        body = await _read(request, headers, max_body_bytes)
        outcome = await accept(headers, request.scope["query_string"], body)
    except Problem as problem:
        return _refuse(request, problem, started)
    except Exception as error:  # noqa: BLE001 - the edge: a defect is answered and logged, not dropped
        defect = Internal("The event was not delivered; the log tells why.")
        defect.__cause__ = error
        return _refuse(request, defect, started)
    return _confirm(request, outcome, started)


async def _read(request: Request, headers: Mapping[bytes, bytes], limit: int) -> bytes:
    """The body, if the method is POST and it has at most `limit` bytes; no more than that is ever held."""
    if request.method != "POST":
        raise MethodNotAllowed("Send events with POST.")
    too_large = BodyTooLarge(f"The body may have {limit} bytes at most.")
    announced = headers.get(b"content-length", b"")
    # More digits than that, Python would refuse to read.
    if announced.isdigit() and (len(announced) > 18 or int(announced) > limit):
        raise too_large
    chunks, size = [], 0
    try:
        async for chunk in request.stream():
            chunks.append(chunk)
            size += len(chunk)
            if size > limit:
                raise too_large
    except ClientDisconnect:
        raise Incomplete("The connection was closed before the body was whole.") from None
    return b"".join(chunks)


def _confirm(request: Request, outcome: Outcome, started: float) -> Response:
    level = logging.WARNING if outcome.rejected else logging.INFO
    logs.write(level, outcome.describe(), **outcome.noted(), **_timing(request, 200, started))
    return _json(200, outcome.document(), "application/json")


def _refuse(request: Request, problem: Problem, started: float) -> Response:
    event = logs.noted("event_id")
    document: dict[str, Any] = {
        "type": f"urn:flowhook:problem:{problem.slug}",
        "title": problem.title,
        "status": problem.status,
        "detail": problem.detail,
        **({"instance": event} if event else {}),
        **problem.members,
    }
    level = logging.ERROR if problem.status >= 500 else logging.WARNING
    subject = f"{logs.noted('event_type')} {logs.noted('entity_path')}: " if event else ""
    logs.write(
        level,
        f"{subject}{problem.title}: {problem.detail}",
        problem.__cause__,
        outcome=problem.slug,
        **problem.noted,
        **_timing(request, problem.status, started),
    )
    return _json(problem.status, document, "application/problem+json", problem.headers)


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
    status: int, document: Mapping[str, Any], media_type: str, headers: Mapping[str, str] | None = None
) -> Response:
    return Response(json.dumps(document) + "\n", status, headers, media_type)
