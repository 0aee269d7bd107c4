"""Whether a request proves that its sender knows an accepted secret.

The platform's guide says that the secret authenticates requests, but not how it is sent. So a scheme can be
pinned, and `auto` tries every scheme on every header until one succeeds.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice

from flowhook.errors import AuthenticationFailed
from flowhook.schemes import MAX_TRIED, SCHEMES, Candidate, Headers, Scheme
from flowhook.secret import Secrets

log = logging.getLogger(__name__)

# A body of this many bytes or more is hashed in a thread, so that other requests go on meanwhile. Hashing a
# smaller one takes less than a millisecond.
LARGE = 256 * 1024
# Threads of our own: the loop's are shared with handlers, which may occupy them all.
_hashing = ThreadPoolExecutor(max_workers=2, thread_name_prefix="hashing")


class Authenticator:
    """Checks requests against the accepted secrets, by the one pinned scheme or, without one, by any."""

    def __init__(self, scheme: Scheme | None, secrets: Secrets) -> None:
        self._scheme = scheme
        self._secrets = secrets
        self._found: Scheme | None = None

    async def authenticate(
        self, headers: Headers, query: bytes, read: Callable[[], Awaitable[bytes]]
    ) -> bytes:
        """The body of an authentic request, which `read` returns.

        Raises AuthenticationFailed, or NoSecret where no secret can be trusted at present. Where the pinned
        scheme needs no body, or its signature is missing or malformed, it raises before the body is read.
        """
        if self._scheme is None:
            body = await read()
            await self._check(Candidate(headers, body, query))
            return body
        if not self._scheme.needs_body:
            await self._check(Candidate(headers, b"", query))
            return await read()
        await self._secrets.accepted()
        if not self._scheme.might_verify(headers):
            raise _failure(headers)
        body = await read()
        await self._check(Candidate(headers, body, query))
        return body

    async def _check(self, request: Candidate) -> None:
        known = self._secrets.trusted()
        if known is None:
            known = await self._secrets.renewed()
        if await self._is_authentic(request, known):
            return
        newer = await self._secrets.renewed()
        if newer == known or not await self._is_authentic(request, newer):
            raise _failure(request.headers)

    async def _is_authentic(self, request: Candidate, secrets: tuple[bytes, ...]) -> bool:
        if len(request.body) < LARGE:
            return self._proves(request, secrets)
        return await asyncio.get_running_loop().run_in_executor(_hashing, self._proves, request, secrets)

    def _proves(self, request: Candidate, secrets: tuple[bytes, ...]) -> bool:
        # The scheme that succeeded last time is tried first: a sender seldom changes it.
        if self._found:
            for secret in secrets:
                if self._found.verify(request, secret):
                    return True
        for scheme in [self._scheme] if self._scheme else _every_scheme(request):
            if any(scheme.verify(request, secret) for secret in secrets):
                self._remember(scheme)
                return True
        return False

    def _remember(self, scheme: Scheme) -> None:
        if self._scheme is None and self._found is None:
            log.info(
                "Requests are authentic by %s. WEBHOOK_AUTH=%s would accept that way alone.", scheme, scheme
            )
        self._found = scheme


def _failure(headers: Headers) -> AuthenticationFailed:
    return AuthenticationFailed(sorted(name.decode("latin-1") for name in islice(headers, MAX_TRIED)))


def _every_scheme(request: Candidate) -> Iterator[Scheme]:
    """What `auto` tries: the schemes with headers of their own, then each header with every other scheme."""
    tried = [scheme for scheme in SCHEMES.values() if scheme.in_auto]
    yield from (scheme() for scheme in tried if not scheme.named)
    for name in islice(request.headers, MAX_TRIED):
        yield from (scheme(name.decode("latin-1")) for scheme in tried if scheme.named)
