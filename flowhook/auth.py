"""Whether a request proves that its sender knows an accepted secret.

The platform's guide says that the secret authenticates requests, and not how it travels. So a pinned scheme
names one way, and `auto` tries them all on every header until one has succeeded.
"""

import logging
from collections.abc import Iterator
from itertools import islice

from flowhook.errors import AuthenticationFailed
from flowhook.schemes import MAX_TRIED, SCHEMES, Candidate, Headers, Scheme
from flowhook.secret import Secrets

log = logging.getLogger(__name__)


class Authenticator:
    """Checks requests against the accepted secrets, by the one pinned scheme or, without one, by any."""

    def __init__(self, scheme: Scheme | None, secrets: Secrets) -> None:
        self._scheme = scheme
        self._secrets = secrets
        self._found: Scheme | None = None

    async def authenticate(self, headers: Headers, query: bytes, body: bytes) -> None:
        """Return if the request is authentic. Raises AuthenticationFailed with the headers tried."""
        request = Candidate(headers, body, query)
        known = await self._secrets.accepted()
        if self._proven(request, known):
            return
        newer = await self._secrets.renewed()
        if newer == known or not self._proven(request, newer):
            raise AuthenticationFailed(sorted(name.decode("latin-1") for name in headers))

    def _proven(self, request: Candidate, secrets: tuple[bytes, ...]) -> bool:
        # The one that fitted last time first: a sender doesn't change its ways.
        if self._found and _proves(self._found, request, secrets):
            return True
        for scheme in [self._scheme] if self._scheme else _every_scheme(request):
            if _proves(scheme, request, secrets):
                self._remember(scheme)
                return True
        return False

    def _remember(self, scheme: Scheme) -> None:
        if self._scheme is None and self._found is None:
            log.info(
                "Requests are authentic by %s. WEBHOOK_AUTH=%s would accept that way alone.", scheme, scheme
            )
        self._found = scheme


def _every_scheme(request: Candidate) -> Iterator[Scheme]:
    """What `auto` tries: the schemes with headers of their own, then each header with every other scheme."""
    tried = [scheme for scheme in SCHEMES.values() if scheme.in_auto]
    yield from (scheme() for scheme in tried if not scheme.named)
    for name in islice(request.headers, MAX_TRIED):
        yield from (scheme(name.decode("latin-1")) for scheme in tried if scheme.named)


def _proves(scheme: Scheme, request: Candidate, secrets: tuple[bytes, ...]) -> bool:
    return any(scheme.verify(request, secret) for secret in secrets)
