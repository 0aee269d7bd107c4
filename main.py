"""flowhook receives the webhooks of Flows: every delivery is authenticated, validated and handed on."""

import os
import sys

import functions_framework.aio
from starlette.requests import Request
from starlette.responses import Response

import handlers
from flowhook import admission, auth, edge, envelope, errors, logs, routing, runtime, settings
from flowhook.delivery import Outcome
from flowhook.pubsub import factory, publisher, push, rejected

try:
    SETTINGS = settings.load(os.environ)
    logs.configure(SETTINGS.log_level, SETTINGS.project)
    authenticate = auth.Authenticator(SETTINGS.auth, SETTINGS.secrets).authenticate
    verify, publish = factory.verifier(SETTINGS), factory.publisher(SETTINGS)
    bodies, parses = admission.queues(SETTINGS.delivery_timeout)
    rejects = rejected.Rejects(publish, SETTINGS.rejected_topic)
    now = os.environ.get("FUNCTION_TARGET") == "consume"
    router = routing.provider(handlers, SETTINGS.delivery_timeout, rejects.keep_event, now=now)
    deliver = (
        router().deliver if SETTINGS.delivery == "inline" else publisher.to_topic(publish, SETTINGS.topic)
    )
except errors.StartError as mistake:
    sys.exit(f"flowhook can't start.\n{mistake}")
settings.warn(SETTINGS)
runtime.settle()


async def accept(got: edge.Received) -> Outcome:
    """One delivery of the platform, step by step. A step that can't be taken raises what is answered."""
    await authenticate(got.headers, got.query, got.body)
    async with rejects.keeping(got.body):
        envelope.require_json(got.headers)
        event = envelope.read(got.body, traceparent=got.traceparent, room=await parses.room_for(got.body))
    logs.note(event_id=event.id, event_type=event.type, entity_path=event.entity_path)
    return await routing.select(event, SETTINGS.wants, deliver)


async def process_push(got: edge.Received) -> Outcome:
    """One delivery of Pub/Sub, to the handlers behind its path."""
    await verify(got.headers)
    deliver_here = router().behind(got.path)
    event = await push.event(got.body, rejects.keeping, parses)
    logs.note(event_id=event.id, event_type=event.type, entity_path=event.entity_path)
    return await deliver_here(event)


@functions_framework.aio.http
async def receive(request: Request) -> Response:
    """The public entry point. A 2xx means that the event is where it should be."""
    return await edge.answer(request, accept, SETTINGS.max_body_bytes, bodies)


@functions_framework.aio.http
async def consume(request: Request) -> Response:
    """The private entry point, for Pub/Sub. A 2xx means that the message must not come again."""
    return await edge.acknowledge(request, process_push, push.MAX_BYTES, bodies)
