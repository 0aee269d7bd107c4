"""What a delivery leaves behind, however it ends: nothing that only the garbage collector could find.

The collector runs seldom; what waits for it in a cycle holds its body until then.
"""

import asyncio
import gc
import io
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from starlette.requests import Request
from starlette.responses import Response

from flowhook import edge, envelope, logs, samples
from flowhook.admission import MAX_PARSED, SMALL, Admission
from flowhook.categories import Pattern
from flowhook.delivery import Accepted
from flowhook.envelope import Envelope
from flowhook.errors import PublishFailed, Reject
from flowhook.events import Event
from flowhook.handler import Function, Handler
from flowhook.routing import KeepEvent, Router

pytestmark = pytest.mark.usefixtures("logging_of_its_own")

BODY = samples.load("users.created")
LARGE = BODY.rstrip()[:-1] + b', "padding": "' + b"x" * SMALL + b'"}'
DELIVERIES = 20
Respond = Callable[[Request, edge.Accept, int], Coroutine[Any, Any, Response]]


async def handled(_event: Event) -> None:
    return


def handled_in_a_thread(_event: Event) -> None:
    return


async def failed(_event: Event) -> None:
    raise ValueError


def failed_in_a_thread(_event: Event) -> None:
    raise ValueError


def exited(_event: Event) -> None:
    raise SystemExit


async def rejected(_event: Event) -> None:
    raise Reject("it is of no use")


async def outlived(_event: Event) -> None:
    await asyncio.Event().wait()


async def broken(_event: Envelope, _handler: str, _reason: str) -> bool:
    raise PublishFailed("There is no topic.", "")


async def working(_event: Envelope, _handler: str, _reason: str) -> bool:
    return True


def request(body: bytes) -> Request:
    async def receive() -> dict[str, object]:
        return {"type": "http.request", "body": body, "more_body": False}

    scope = {"type": "http", "method": "POST", "path": "/", "query_string": b"", "headers": []}
    return Request(scope, receive)


def left_by(accept: edge.Accept, body: bytes, status: int, respond: Respond = edge.answer) -> int:
    """How many objects the collector finds after `DELIVERIES`, each answered with `status`."""

    async def deliver(times: int) -> None:
        for _ in range(times):
            answer = await asyncio.create_task(respond(request(body), accept, 1_000_000))
            assert answer.status_code == status
        # What the last one has scheduled comes before this.
        await asyncio.sleep(0)

    async def measured() -> int:
        # What is made only once, as threads are.
        await deliver(3)
        gc.collect()
        gc.disable()
        try:
            await deliver(DELIVERIES)
            return gc.collect()
        finally:
            gc.enable()

    logs.configure("INFO", "", io.StringIO())
    return asyncio.run(measured())


def by_handlers(function: Function, keep: KeepEvent = working) -> edge.Accept:
    router = Router((Handler("m.f", (Pattern("*", "*"),), function),), 0.05, keep)

    async def accept(got: edge.Received) -> Accepted:
        return envelope.read(await got.read()), router.deliver

    return accept


async def defect(_got: edge.Received) -> Accepted:
    raise ZeroDivisionError


@pytest.mark.parametrize(
    ("accept", "body", "status"),
    [
        (by_handlers(handled), BODY, 200),
        (by_handlers(handled_in_a_thread), BODY, 200),
        (by_handlers(failed), BODY, 500),
        (by_handlers(failed_in_a_thread), BODY, 500),
        (by_handlers(exited), BODY, 500),
        (by_handlers(outlived), BODY, 500),
        (by_handlers(rejected), BODY, 200),
        (by_handlers(rejected, broken), BODY, 503),
        (by_handlers(handled), b"{", 400),
        (by_handlers(handled), b"{}", 422),
        (defect, BODY, 500),
    ],
)
def test_a_delivery_leaves_nothing_to_the_collector(accept: edge.Accept, body: bytes, status: int) -> None:
    assert left_by(accept, body, status) == 0


@pytest.mark.parametrize(
    ("accept", "body", "status"),
    [(by_handlers(handled), BODY, 204), (by_handlers(failed), BODY, 500), (by_handlers(handled), b"{", 400)],
)
def test_a_push_leaves_nothing_either(accept: edge.Accept, body: bytes, status: int) -> None:
    assert left_by(accept, body, status, edge.acknowledge) == 0


@pytest.mark.parametrize(("body", "status"), [(LARGE, 200), (LARGE[:-1], 400)])
def test_a_large_body_leaves_nothing_either(body: bytes, status: int) -> None:
    router = Router((Handler("m.f", (Pattern("*", "*"),), handled),), 1, working)

    async def accept(got: edge.Received) -> Accepted:
        parses = Admission(MAX_PARSED, 1)
        return await envelope.admit(await got.read(), parses), router.deliver

    assert left_by(accept, body, status) == 0
