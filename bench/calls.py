"""Calls an entry point in waves, in one process without HTTP; `bench.instructions` runs it under callgrind.

calls.py nothing|receive WAVES BODY
"""

import asyncio
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, cast

from starlette.requests import Request
from starlette.responses import Response

CLIENTS = 64
Function = Callable[[Request], Awaitable[Response]]
kind, waves, body = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]).read_bytes()
HEADERS = [
    (b"host", b"localhost"),
    (b"authorization", b"Bearer " + b"x" * 32),
    (b"content-type", b"application/json"),
    (b"content-length", str(len(body)).encode()),
]
SCOPE = {"type": "http", "method": "POST", "path": "/", "query_string": b"", "headers": HEADERS}


async def read_and_answer(request: Request) -> Response:
    """The least that every function does."""
    await request.body()
    return Response(b"{}", 200, None, "application/json")


async def body_at_once() -> dict[str, Any]:
    """ASGI's message with the whole body."""
    return {"type": "http.request", "body": body, "more_body": False}


async def run(function: Function) -> None:
    """Call it in waves, and check that it accepts."""
    for _ in range(waves):
        answers = await asyncio.gather(
            *(function(Request(dict(SCOPE), body_at_once)) for _ in range(CLIENTS))
        )
        assert all(answer.status_code == 200 for answer in answers)  # noqa: S101 - else nothing is measured


if kind == "receive":
    import main

    asyncio.run(run(cast(Function, main.receive)))
else:
    asyncio.run(run(read_and_answer))
