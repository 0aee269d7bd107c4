"""flowhook receives the webhooks of Flows: every delivery is authenticated, validated and handed on."""

import os
import sys
from collections.abc import Mapping

import functions_framework.aio
from starlette.requests import Request
from starlette.responses import Response

import handlers
from flowhook import auth, edge, events, logs, routing, settings
from flowhook.delivery import Outcome
from flowhook.errors import StartError

try:
    SETTINGS = settings.load(os.environ)
    HANDLERS = routing.discover(handlers)
except StartError as mistake:
    sys.exit(f"flowhook can't start.\n{mistake}")

logs.configure(SETTINGS.log_level, SETTINGS.project)
settings.warn(SETTINGS)
authenticate = auth.Authenticator(SETTINGS.auth, SETTINGS.secrets).authenticate
deliver = routing.inline(HANDLERS, SETTINGS.delivery_timeout)


async def accept(headers: Mapping[bytes, bytes], query: bytes, body: bytes) -> Outcome:
    """One delivery, step by step. A step that can't be taken raises the problem that is answered."""
    await authenticate(headers, query, body)
    events.require_json(headers)
    event = events.parse(body)
    logs.note(event_id=event.id, event_type=event.type, entity_path=event.entity_path)
    if not SETTINGS.wants(event.type):
        return Outcome(event, "ignored")
    return await deliver(event)


@functions_framework.aio.http
async def receive(request: Request) -> Response:
    """The public entry point. A 2xx means that the event is where it should be."""
    return await edge.answer(request, accept, SETTINGS.max_body_bytes)
