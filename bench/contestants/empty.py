"""A function that does nothing: what the framework and its server cost by themselves."""

import flask
import functions_framework
import functions_framework.aio
from starlette.requests import Request
from starlette.responses import Response


@functions_framework.http
def empty_sync(_request: flask.Request) -> tuple[str, int]:
    """On Flask and threads, the framework's default."""
    return "", 204


@functions_framework.aio.http
async def empty_async(_request: Request) -> Response:
    """On Starlette and a loop: the floor."""
    return Response(status_code=204)
