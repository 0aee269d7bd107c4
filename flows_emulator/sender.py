"""One attempt at a delivery over HTTP, with the requested fault. A failure is returned, not raised."""

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace

import httpx2

from flowhook.schemes import Proof
from flows_emulator.integration import MASK, Integration
from flows_emulator.store import Attempt

# Seconds for an answer; a receiver that takes longer has not accepted.
PATIENCE = 30.0
SLOWNESS = 5.0
PIECES = 25
# Bytes of an answer that are read; the rest is ignored.
MAX_ANSWER = 256 * 1024
AGENT = b"flows-emulator"


class Cut(Exception):  # noqa: N818 - no error: it is what was asked for
    """Ends a connection in the middle of a body."""


@dataclass(frozen=True)
class Request:
    """The HTTP request of an attempt."""

    url: str
    headers: list[tuple[bytes, bytes]]
    body: bytes
    manner: str

    def content(self) -> bytes | AsyncIterator[bytes]:
        """The body, sent slowly or cut if the manner says so."""
        if self.manner == "slow":
            return _slowly(self.body)
        return _half(self.body) if self.manner == "cut" else self.body


class Sender:
    """Sends over persistent connections; call `close` at the end."""

    def __init__(self, patience: float = PATIENCE, longest: float = 2 * PATIENCE) -> None:
        self._longest = longest
        # Ignore the environment's proxies: a receiver on this machine must be reached directly.
        self._client = httpx2.AsyncClient(timeout=patience, trust_env=False)

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def attempt(self, integration: Integration, body: bytes, manner: str) -> Attempt:
        """Send `body` to the integration's address, signed by its scheme."""
        proof, request = _request(integration, body, manner)
        at, started = time.time(), time.perf_counter()
        attempt = Attempt(
            at, 0.0, _masked(request.url, integration, proof), _shown(request.headers, integration, proof)
        )
        try:
            # The client's own timeout starts again with each piece of an answer, so limit the whole as well.
            async with asyncio.timeout(self._longest):
                answered = await self._send(request)
        except Cut:
            answered = {"error": "the connection was cut, as asked"}
        except (httpx2.HTTPError, httpx2.InvalidURL, OSError, ValueError) as error:
            answered = {"error": _reason(error)}
        return replace(attempt, milliseconds=(time.perf_counter() - started) * 1000, **answered)  # type: ignore[arg-type]

    async def _send(self, request: Request) -> dict[str, object]:
        async with self._client.stream(
            "POST", request.url, content=request.content(), headers=request.headers
        ) as response:
            body = b""
            async for chunk in response.aiter_bytes():
                body += chunk
                if len(body) > MAX_ANSWER:
                    break
        return {
            "status": response.status_code,
            "response_headers": [(n.decode("latin-1"), v.decode("latin-1")) for n, v in response.headers.raw],
            "response_body": body[:MAX_ANSWER].decode("utf-8", "replace"),
        }


def _request(integration: Integration, body: bytes, manner: str) -> tuple[Proof, Request]:
    body = body[: len(body) // 2] if manner == "truncated" else body
    secret = b"wrong-" + integration.secret if manner == "wrong-secret" else integration.secret
    proof = integration.settings.scheme.sign(secret, body) if secret else Proof()
    url = integration.settings.url
    if proof.query:
        url += ("&" if "?" in url else "?") + proof.query.decode()
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        (b"user-agent", AGENT),
        *proof.headers.items(),
    ]
    return proof, Request(url, headers, body, manner)


async def _slowly(body: bytes) -> AsyncIterator[bytes]:
    step = max(1, -(-len(body) // PIECES))
    for start in range(0, len(body), step):
        await asyncio.sleep(SLOWNESS / PIECES)
        yield body[start : start + step]


async def _half(body: bytes) -> AsyncIterator[bytes]:
    yield body[: len(body) // 2]
    raise Cut


def _shown(
    headers: list[tuple[bytes, bytes]], integration: Integration, proof: Proof
) -> list[tuple[str, str]]:
    """The headers for display, with a mask for one that contains the secret in whatever encoding."""
    holds = not integration.settings.scheme.needs_body
    return [
        (name.decode("latin-1"), MASK if holds and name in proof.headers else value.decode("latin-1"))
        for name, value in headers
    ]


def _masked(url: str, integration: Integration, proof: Proof) -> str:
    return (
        url.replace(proof.query.decode(), f"{integration.settings.scheme.name}={MASK}")
        if proof.query
        else url
    )


def _reason(error: Exception) -> str:
    match error:
        case httpx2.ConnectTimeout() | httpx2.ConnectError():
            return "nobody answers at that address: is the receiver running?"
        case httpx2.TimeoutException() | TimeoutError():
            return "no answer in time"
        case httpx2.HTTPError():
            return f"the connection broke before an answer came ({type(error).__name__})"
    return f"the request can't be sent ({type(error).__name__})"
