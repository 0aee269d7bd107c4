"""Whether a push delivery comes from our own subscriptions: the OpenID Connect token that Pub/Sub adds.

https://cloud.google.com/pubsub/docs/authenticate-push-subscriptions. Cloud Run checks it by itself where the
function is private; this module is for where it can't.
"""

import json
import logging
import re
import time
from asyncio import Future
from collections.abc import Callable, Mapping
from typing import Any

from google.auth import jwt
from google.auth.exceptions import GoogleAuthError
from google.auth.transport import Response
from google.auth.transport.requests import Request

from flowhook.background import Background
from flowhook.errors import AuthenticationFailed, PublishFailed

log = logging.getLogger(__name__)

# Google's signing keys as certificates, by key id; Cache-Control says how long they are valid (a few hours).
CERTIFICATES = "https://www.googleapis.com/oauth2/v1/certs"
ISSUERS = ("https://accounts.google.com", "accounts.google.com")
# The most bytes of a token: Google's have about a thousand, and a token is parsed before it is verified.
MAX_TOKEN = 16 * 1024
# Seconds that clocks may differ.
SKEW = 10
# Seconds that a download may take.
TIMEOUT = 5
# Seconds that a push waits for a download, whatever hangs without a timeout, such as a name server.
PATIENCE = 8
# Seconds until the next download, and until the next one after a failure: tokens with an invented key id must
# not make us download more often.
PAUSE = 60
SHORT_PAUSE = 1
MAX_AGE = re.compile(r"max-age=(\d{1,8})")


class Keys:
    """Google's certificates, downloaded when one is missing or they have expired."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._certificates: Mapping[str, str] = {}
        self._expire_at = self._next_at = 0.0
        self._downloads = Background("Downloading Google's keys", _download, PATIENCE)

    async def find(self, key_id: str) -> Mapping[str, str]:
        """Valid certificates, with that of `key_id` if there is one. Raises PublishFailed without any."""
        if self._has(key_id):
            return self._certificates
        if self._clock() >= self._next_at:
            self._next_at = self._clock() + SHORT_PAUSE
            self._downloads.start(self._take)
        await self._downloads.wait()
        if self._clock() >= self._expire_at:
            problem = PublishFailed("The keys that tokens are signed with can't be had now.")
            problem.unproven = True
            raise problem
        return self._certificates

    def _has(self, key_id: str) -> bool:
        return key_id in self._certificates and self._clock() < self._expire_at

    def _take(self, download: "Future[Response]") -> None:
        try:
            response = download.result()
            certificates = json.loads(response.data) if response.status == 200 else None
        except (GoogleAuthError, ValueError, RecursionError) as error:
            self._put_off(repr(error))
            return
        if not isinstance(certificates, dict):
            self._put_off(f"status {response.status}")
            return
        age = MAX_AGE.search(response.headers.get("cache-control", ""))
        now = self._clock()
        self._certificates = certificates
        self._expire_at, self._next_at = now + max(PAUSE, int(age[1]) if age else 0), now + PAUSE

    def _put_off(self, why: str) -> None:
        log.error("Google's keys can't be downloaded: %s", why)
        self._next_at = self._clock() + SHORT_PAUSE


def _download() -> Response:
    response: Response = Request()(CERTIFICATES, timeout=TIMEOUT)
    return response


class Verifier:
    """Accepts the tokens of one service account for one audience."""

    def __init__(self, audience: str, service_account: str, keys: Keys | None = None) -> None:
        self._audience = audience
        self._service_account = service_account
        self._keys = keys or Keys()

    async def verify(self, headers: Mapping[bytes, bytes]) -> None:
        """Return if the request bears a token of that service account.

        Raises AuthenticationFailed if not, PublishFailed where Google's keys can't be downloaded.
        """
        scheme, _, token = headers.get(b"authorization", b"").partition(b" ")
        if scheme.lower() != b"bearer" or len(token) > MAX_TOKEN:
            raise AuthenticationFailed
        try:
            key_id = str(jwt.decode_header(token).get("kid"))
        except (GoogleAuthError, ValueError, RecursionError):
            raise AuthenticationFailed from None
        claims = self._claims(token, key_id, await self._keys.find(key_id))
        verified = claims.get("email_verified") is True and claims.get("email") == self._service_account
        if claims.get("iss") not in ISSUERS or not verified:
            raise AuthenticationFailed

    def _claims(self, token: bytes, key_id: str, certificates: Mapping[str, str]) -> Mapping[str, Any]:
        """The token's claims. Raises AuthenticationFailed if its signature, audience or time is wrong."""
        if key_id not in certificates:
            raise AuthenticationFailed
        try:
            claims: Mapping[str, Any] = jwt.decode(
                token, certificates, audience=self._audience, clock_skew_in_seconds=SKEW
            )
        except (GoogleAuthError, ValueError, TypeError, RecursionError):
            raise AuthenticationFailed from None
        return claims
