"""The emulator over HTTP: a JSON API, changes as server-sent events, and the page."""

import json
import re
from base64 import b64decode
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from contextlib import asynccontextmanager
from dataclasses import asdict
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, Field, ValidationError
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from flowhook import samples
from flowhook.categories import CATEGORIES, OPERATIONS, TABLE, Pattern
from flowhook.samples.overlay import Overlay
from flowhook.schemes import SCHEMES
from flows_emulator.faults import FAULTS
from flows_emulator.flows import Flows, NotSent, SecretNeeded, Stream, Unknown
from flows_emulator.guard import Guard
from flows_emulator.integration import PROVIDER, Integration, Model, Settings
from flows_emulator.store import Selection

MAX_BYTES = 32 * 1024 * 1024
PAGE = 200
# The page loads nothing from other sites, contains nothing inline, and can't be framed.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}

M = TypeVar("M", bound=BaseModel)
Answer = Callable[[Request], Awaitable[Response]]


class Wish(Model):
    """What to send: an event of `type` that happens now, or `body` as it is, perhaps in base64.

    `properties`, `became` and `fields` change the event, as `flowhook.samples.overlay` describes.
    """

    type: str | None = None
    body: str | None = None
    base64: bool = False
    manner: str = ""
    properties: dict[str, Any] = {}
    became: dict[str, tuple[Any, Any]] = {}
    fields: dict[str, Any] = {}

    def overlay(self) -> Overlay:
        """The changes to the event."""
        return Overlay(self.properties, self.became, self.fields)


class AllWish(Model):
    """How one event of every ticked type is sent."""

    manner: str = ""


class StreamWish(Model):
    """A stream of generated events; without a count it runs until it is stopped."""

    count: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    rate: Annotated[float, Field(gt=0, le=1_000, allow_inf_nan=False)] = 1.0
    types: tuple[str, ...] = ()


class ApiProblem(Exception):  # noqa: N818 - as RFC 9457 calls it
    """An error to answer with; `errors` has JSON pointers, as the receiver's answers have."""

    def __init__(self, status: int, detail: str, errors: Collection[dict[str, str]] = ()) -> None:
        super().__init__(detail)
        self.status, self.detail, self.errors = status, detail, list(errors)


class Api:
    """The routes. `GET /api` shows the first line of each method's docstring."""

    def __init__(self, flows: Flows) -> None:
        self._flows = flows
        self.routes: tuple[tuple[str, str, Answer], ...] = (
            ("GET", "/api", self.describe),
            ("GET", "/api/state", self.state),
            ("GET", "/api/changes", self.changes),
            ("POST", "/api/preview", self.preview),
            ("POST", "/api/integrations", self.add),
            ("PUT", "/api/integrations/{integration}", self.change),
            ("DELETE", "/api/integrations/{integration}", self.remove),
            ("GET", "/api/integrations/{integration}/raw", self.raw),
            ("GET", "/api/events/{type}", self.propose),
            ("GET", "/api/deliveries", self.deliveries),
            ("POST", "/api/deliveries", self.send),
            ("POST", "/api/deliveries/all", self.send_all),
            ("DELETE", "/api/deliveries", self.clear),
            ("GET", "/api/deliveries/{delivery}", self.delivery),
            ("GET", "/api/deliveries/{delivery}/body", self.body),
            ("POST", "/api/deliveries/{delivery}/again", self.again),
            ("PUT", "/api/streams/{name}", self.stream),
            ("DELETE", "/api/streams/{name}", self.stop_stream),
        )

    async def describe(self, _: Request) -> Response:
        """The list of what can be asked for."""
        told = [
            {"method": method, "path": path, "does": (answer.__doc__ or "").partition("\n")[0]}
            for method, path, answer in self.routes
        ]
        return _json(told)

    async def state(self, _: Request) -> Response:
        """Integrations, the newest deliveries, counts, streams, and what can be chosen."""
        store = self._flows.store
        return _json(
            {
                "provider": PROVIDER,
                "categories": CATEGORIES,
                "labels": {category.name: category.label for category in TABLE},
                "operations": OPERATIONS,
                "auth": [scheme.spelling() for scheme in SCHEMES.values()],
                "authSummaries": {scheme.spelling(): scheme.summary for scheme in SCHEMES.values()},
                "manners": [asdict(fault) for fault in FAULTS.values()],
                "integrations": [integration.document() for integration in store.integrations()],
                "deliveries": store.summaries(PAGE),
                "counts": store.counts(),
                "latest": store.latest(),
                "streams": self._streams(),
            }
        )

    async def changes(self, _: Request) -> Response:
        """What changes, as server-sent events: objects of topics, e.g. "delivery 7", and their state."""
        return StreamingResponse(
            self._events(), media_type="text/event-stream", headers={"X-Accel-Buffering": "no"}
        )

    async def preview(self, request: Request) -> Response:
        """The Form RAW Response of settings that are not saved; `id` is the integration's, if it has one."""
        told = await _object(request)
        known = self._find(str(told.pop("id", "")))
        settings = _read(Settings, told)
        shown = known.changed(settings) if known else Integration.new(settings).named("not-saved-yet")
        return _json(shown.raw_response())

    async def add(self, request: Request) -> Response:
        """Add an integration: url, secret, auth, status, events."""
        return _json(self._flows.add(_read(Settings, await _object(request))).document(), 201)

    async def change(self, request: Request) -> Response:
        """Save an integration again; it keeps its secret, unless that would go elsewhere or more openly."""
        known = self._integration(request)
        settings = _read(Settings, await _object(request))
        try:
            return _json(self._flows.change(known, settings).document())
        except SecretNeeded as reason:
            detail = str(reason)
        raise ApiProblem(422, f"secret: {detail}", [{"pointer": "/secret", "detail": detail}])

    async def remove(self, request: Request) -> Response:
        """Remove an integration, softly: saved again, it is back."""
        return _json(self._flows.remove(self._integration(request)).document())

    async def raw(self, request: Request) -> Response:
        """The Form RAW Response of an integration."""
        return _json(self._integration(request).raw_response())

    async def propose(self, request: Request) -> Response:
        """An event of a type, that could happen now and has not."""
        return _json(self._flows.propose(_type(request.path_params["type"])))

    async def deliveries(self, request: Request) -> Response:
        """The newest deliveries: limit (1000 at most), before (an id); state, type, entity, status select.

        `type` is an event type or a pattern of them, `entity` a part of the path, `status` that of the last
        answer: 401, a class such as 4xx, or none. `total` counts all that are selected.
        """
        limit = _number(request, "limit") or PAGE
        before, selection = _number(request, "before"), _selection(request)
        store = self._flows.store
        found = store.summaries(min(limit, 1_000), before, selection)
        return _json({"deliveries": found, "total": store.total(selection), "counts": store.counts()})

    async def send(self, request: Request) -> Response:
        """Send: type (an event that happens now) or body (as it is, a string), manner. Answers the ids.

        An event takes properties, became ({"status": ["open", "won"]}) and fields as well.
        """
        wish = _read(Wish, await _object(request))
        _require_fault(wish.manner)
        if (wish.type is None) == (wish.body is None):
            raise ApiProblem(422, "Either type or body must be given.")
        if wish.overlay() and (wish.type is None or wish.manner == "stale"):
            raise ApiProblem(422, "properties, became and fields go with type, not with the manner stale.")
        if wish.body is not None:
            return _sent(self._flows.send(_bytes(wish.body, encoded=wish.base64), wish.manner))
        try:
            return _sent(self._flows.happen(_type(wish.type or ""), wish.manner, wish.overlay()))
        except ValueError as mistake:
            raise ApiProblem(422, f"{mistake}.") from None

    async def send_all(self, request: Request) -> Response:
        """Send one event of every type that is ticked: manner. Answers the ids."""
        wish = _read(AllWish, await _object(request))
        _require_fault(wish.manner)
        return _sent(self._flows.happen_all(wish.manner))

    async def clear(self, _: Request) -> Response:
        """Forget the deliveries that are finished."""
        self._flows.clear()
        return _json({"counts": self._flows.store.counts()})

    async def delivery(self, request: Request) -> Response:
        """A delivery with all its attempts, and its body as text."""
        identifier = _delivery(request)
        summary, body = self._flows.store.summary(identifier), self._flows.store.body(identifier)
        if summary is None or body is None:
            raise Unknown(f"There is no delivery {identifier}: it was never made, or is forgotten")
        text = body.decode("utf-8", "replace")
        return _json({**summary, "body": text, "attempted": self._flows.store.attempts(identifier)})

    async def body(self, request: Request) -> Response:
        """The body of a delivery, to the byte."""
        identifier = _delivery(request)
        found = self._flows.store.body(identifier)
        if found is None:
            raise Unknown(f"There is no delivery {identifier}: it was never made, or is forgotten")
        return Response(found, media_type="text/plain; charset=utf-8")

    async def again(self, request: Request) -> Response:
        """Send the body of a delivery again. Answers the ids."""
        return _sent(self._flows.again(_delivery(request)))

    async def stream(self, request: Request) -> Response:
        """Let events happen by themselves: count, rate (events a second), types."""
        wish = _read(StreamWish, await _object(request))
        types = tuple(map(_type, wish.types))
        stream = self._flows.stream(request.path_params["name"][:40], Stream(wish.count, wish.rate, types))
        return _json(asdict(stream) if stream else None)

    async def stop_stream(self, request: Request) -> Response:
        """Stop that."""
        stream = self._flows.stream(request.path_params["name"], None)
        return _json(asdict(stream) if stream else None)

    def _streams(self) -> dict[str, Any]:
        return {name: asdict(stream) for name, stream in self._flows.streams().items()}

    def _integration(self, request: Request) -> Integration:
        identifier = request.path_params["integration"]
        found = self._find(identifier)
        if found is None:
            raise Unknown(f"There is no integration {identifier[:40]!r}")
        return found

    def _find(self, identifier: str) -> Integration | None:
        # All ids are ASCII, and SQLite refuses a lone surrogate.
        return self._flows.store.integration(identifier) if identifier.isascii() else None

    async def _events(self) -> AsyncIterator[str]:
        async for changes in self._flows.feed.watch():
            if changes:
                told = {**changes, "counts": self._flows.store.counts()}
                yield f"data: {json.dumps(told)}\n\n"
            else:
                yield ": still here\n\n"


def application(flows: Flows, *, page: bool, names: Collection[str] = ()) -> Starlette:
    """The emulator's ASGI application, which starts and stops `flows`."""

    @asynccontextmanager
    async def living(_: Starlette) -> AsyncIterator[None]:
        flows.start()
        try:
            yield
        finally:
            await flows.stop()

    routes: list[Route | Mount] = [
        Route(path, answer, methods=[method]) for method, path, answer in Api(flows).routes
    ]
    if page:
        routes.append(Mount("/", StaticFiles(packages=[("flows_emulator", "page")], html=True)))
    return Starlette(
        routes=routes,
        middleware=[Middleware(Guard, names=names, headers=HEADERS)],
        exception_handlers=dict.fromkeys((ApiProblem, NotSent, Unknown, HTTPException), _refuse),
        lifespan=living,
    )


async def _refuse(_: Request, error: Exception) -> Response:
    errors: list[dict[str, str]] = []
    match error:
        case ApiProblem():
            status, detail, errors = error.status, error.detail, error.errors
        case NotSent():
            status, detail = 409, f"Nothing was sent: {error}."
        case HTTPException():
            status, detail = error.status_code, f"{error.detail}."
        case _:
            status, detail = 404, f"{error}."
    return _json({"status": status, "detail": detail, "errors": errors}, status)


async def _object(request: Request) -> dict[str, Any]:
    """The request's body, a JSON object. Raises ApiProblem."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BYTES:
            raise ApiProblem(413, f"The body may have {MAX_BYTES} bytes at most.")
    try:
        document = json.loads(body or b"{}")
    except (ValueError, RecursionError):
        raise ApiProblem(400, "The body is not JSON.") from None
    if not isinstance(document, dict):
        raise ApiProblem(422, "The body must be an object.")
    return document


def _read(model: type[M], document: dict[str, Any]) -> M:
    try:
        return model.model_validate(document)
    except ValidationError as error:
        errors = [
            {"pointer": "".join(f"/{part}" for part in found["loc"]), "detail": _words(found["msg"])}
            for found in error.errors(include_url=False, include_context=False, include_input=False)
        ]
    first = errors[0]
    raise ApiProblem(422, f"{first['pointer'].lstrip('/')}: {first['detail']}", errors)


def _words(message: str) -> str:
    return message.removeprefix("Value error, ")


def _bytes(text: str, *, encoded: bool) -> bytes:
    try:
        return b64decode(text, validate=True) if encoded else text.encode("utf-8", "surrogatepass")
    except ValueError:
        raise ApiProblem(422, "body: it must be base64, as base64 says.") from None


def _type(name: str) -> str:
    if name not in samples.TYPES:
        raise ApiProblem(422, f"{name[:60]!r} is no event type, such as packets.updated.")
    return name


def _require_fault(manner: str) -> None:
    if manner not in FAULTS:
        raise ApiProblem(422, f"manner: it must be one of {', '.join(filter(None, FAULTS))}")


def _selection(request: Request) -> Selection:
    """The filter that the query describes. Raises ApiProblem."""
    asked = request.query_params
    try:
        pattern = str(Pattern.parse(asked["type"])) if asked.get("type") else ""
    except ValueError as mistake:
        raise ApiProblem(422, f"type: {mistake}.") from None
    return Selection(asked.get("state", ""), pattern, asked.get("entity", ""), _statuses(asked.get("status")))


def _statuses(text: str | None) -> tuple[int, int] | None:
    """The lowest and the highest status that `401`, `4xx` or `none` means."""
    if not text:
        return None
    if text == "none":
        return 0, 0
    if not re.fullmatch(r"[1-5](xx|[0-9]{2})", text):
        raise ApiProblem(422, "status: it must be a status such as 401, a class such as 4xx, or none.")
    return int(text.replace("xx", "00")), int(text.replace("xx", "99"))


def _number(request: Request, name: str) -> int | None:
    text = request.query_params.get(name, "")
    if text and not _is_number(text):
        raise ApiProblem(422, f"{name} must be a number.")
    return int(text) if text else None


def _delivery(request: Request) -> int:
    """The id in the path. Raises Unknown for what can't be one."""
    text: str = request.path_params["delivery"]
    if not _is_number(text):
        raise Unknown(f"There is no delivery {text[:40]!r}: deliveries have numbers")
    return int(text)


def _is_number(text: str) -> bool:
    """Whether the text is a number that fits into SQLite's 64 bits."""
    return text.isascii() and text.isdigit() and len(text) < 19


def _sent(identifiers: list[int]) -> Response:
    return _json({"deliveries": identifiers}, 202)


def _json(document: object, status: int = 200) -> Response:
    return JSONResponse(document, status)
