"""flowhook receives the webhooks of Flows: every delivery is authenticated, validated and forwarded."""

import os
import sys

import functions_framework.aio
from starlette.requests import Request
from starlette.responses import Response

from flowhook import admission, auth, edge, envelope, logs, runtime, settings
from flowhook.delivery import Accepted
from flowhook.destinations import DESTINATIONS, choose, router_provider
from flowhook.errors import Refused, StartError
from flowhook.pubsub import factory, push, rejected

try:
    SETTINGS = settings.load(os.environ)
    logs.configure(SETTINGS.log_level, SETTINGS.project)
    authenticate = auth.Authenticator(SETTINGS.auth, SETTINGS.secrets).authenticate
    verify, publish = factory.verifier(SETTINGS), factory.publisher(SETTINGS)
    bodies, parses = admission.queues(SETTINGS.delivery_timeout)
    rejects = rejected.Rejects(publish, SETTINGS.rejected_topic)
    router = router_provider("handlers", SETTINGS, rejects.keep_event)
    deliver = DESTINATIONS[SETTINGS.delivery].make(SETTINGS, publish, router)
except StartError as mistake:
    sys.exit(f"flowhook can't start.\n{mistake}")
settings.warn(SETTINGS)
runtime.begin()


async def accept(got: edge.Received) -> Accepted:
    """One delivery of the platform, step by step. A step that fails raises the problem that is answered."""
    body = await authenticate(got.headers, got.query, got.read)
    try:
        envelope.require_json(got.headers)
        event = await envelope.admit(body, parses, traceparent=got.traceparent)
    except Refused as problem:
        await rejects.keep_refused(body, problem)
        raise
    return event, choose(event, SETTINGS.wants, deliver)


async def process_push(got: edge.Received) -> Accepted:
    """One push of Pub/Sub, for the handlers that its path names."""
    await verify(got.headers)
    deliver_here = router().behind(got.path)
    return await push.event(await got.read(), parses, rejects.keep_refused), deliver_here


@functions_framework.aio.http
async def receive(request: Request) -> Response:
    """The public entry point, for the platform. A 2xx means that the event need not be delivered again."""
    return await edge.answer(request, accept, SETTINGS.max_body_bytes, bodies)


@functions_framework.aio.http
async def consume(request: Request) -> Response:
    """The private entry point, for Pub/Sub. A 2xx means that the message must not be delivered again."""
    return await edge.acknowledge(request, process_push, push.MAX_BYTES, bodies)
