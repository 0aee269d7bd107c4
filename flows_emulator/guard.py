"""Refuses what another site's page could make a browser send here."""

from collections.abc import Collection, Mapping
from ipaddress import ip_address
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

SAFE = ("GET", "HEAD")


class Guard:
    """ASGI middleware that refuses foreign hosts, foreign origins and forms, and adds `headers` to answers.

    `names` are this machine's host names beside `localhost`. Every IP address is accepted as a host, because
    DNS rebinding needs a name.
    """

    def __init__(self, app: ASGIApp, names: Collection[str], headers: Mapping[str, str]) -> None:
        self._app = app
        self._names = {"localhost", *names}
        self._headers = headers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Forward a request to the application, or refuse it."""
        refusal = self._refusal(scope["method"], Headers(scope=scope)) if scope["type"] == "http" else None
        if refusal is None:
            await self._app(scope, receive, self._adding_headers(send))
            return
        status, detail = refusal
        await JSONResponse({"status": status, "detail": detail}, status)(scope, receive, send)

    def _adding_headers(self, send: Send) -> Send:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(self._headers)
            await send(message)

        return send_with_headers

    def _refusal(self, method: str, headers: Headers) -> tuple[int, str] | None:
        host = headers.get("host", "")
        if not self._is_ours(host):
            return 421, "This name is not this machine's; use localhost, its address or --allow-host."
        if headers.get("origin", f"http://{host}") != f"http://{host}":
            return 403, "Only this page may ask for that."
        if headers.get("sec-fetch-site", "none") not in ("none", "same-origin") and not _opens_a_page(
            headers
        ):
            return 403, "Only this page may ask for that."
        media_type = headers.get("content-type", "").partition(";")[0].strip().lower()
        if method not in SAFE and media_type != "application/json":
            return 415, "Send JSON: Content-Type: application/json."
        return None

    def _is_ours(self, host: str) -> bool:
        try:
            name = urlsplit(f"http://{host}").hostname or ""
        except ValueError:
            return False
        return name in self._names or _is_address(name)


def _opens_a_page(headers: Headers) -> bool:
    """Whether a link on another site opens the page, which is allowed: that site can't read the page."""
    return headers.get("sec-fetch-mode") == "navigate" and headers.get("sec-fetch-dest") == "document"


def _is_address(name: str) -> bool:
    try:
        ip_address(name)
    except ValueError:
        return False
    return True
