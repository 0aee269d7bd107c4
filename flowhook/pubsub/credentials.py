"""The tokens that Google Cloud wants to see: found, and renewed before they end.

With `push_auth` all that knows google-auth. Importing it takes a tenth of a second of a start.
"""

import asyncio
import logging
from functools import partial

import google.auth
from google.auth.credentials import Credentials, TokenState
from google.auth.exceptions import DefaultCredentialsError, GoogleAuthError, TransportError
from google.auth.transport.requests import Request

from flowhook.errors import PublishFailed
from flowhook.pubsub.publisher import UnavailableError

log = logging.getLogger(__name__)

SCOPE = "https://www.googleapis.com/auth/pubsub"
# Seconds for one attempt at getting a token; google-auth makes a few.
TIMEOUT = 5
REMEDY = "gcloud auth application-default login"


class Tokens:
    """The token of some credentials, renewed in time."""

    def __init__(self, credentials: Credentials) -> None:
        self._credentials = credentials
        self._renewing: asyncio.Future[None] | None = None

    @property
    def account(self) -> str:
        """The service account, as far as the credentials tell."""
        return getattr(self._credentials, "service_account_email", "SERVICE_ACCOUNT")

    def apply(self, headers: dict[str, str]) -> None:
        """Add the token to the headers of a call."""
        self._credentials.apply(headers)

    def drop(self) -> None:
        """Don't use this token again: it was not accepted."""
        self._credentials.token = None

    async def ready(self) -> None:
        """See to a token: one that ends soon is replaced in the background, without one everybody waits.

        In a thread, for google-auth waits for the network; in one at a time, however often it hangs.
        Raises UnavailableError where one may be had later, PublishFailed where the credentials are refused.
        """
        state = self._credentials.token_state
        if state is TokenState.FRESH:
            return
        if self._renewing is None or self._renewing.done():
            request = partial(Request(), timeout=TIMEOUT)
            self._renewing = asyncio.ensure_future(asyncio.to_thread(self._credentials.refresh, request))
            self._renewing.add_done_callback(_log_failure)
        if state is TokenState.INVALID:
            try:
                await asyncio.shield(self._renewing)
            except GoogleAuthError as error:
                raise _refreshing_failed(error) from None


async def find() -> Tokens:
    """Those of the account that this process runs as. Raises PublishFailed where there are no credentials."""
    return Tokens(await asyncio.to_thread(_credentials))


def _credentials() -> Credentials:
    try:
        credentials, _ = google.auth.default(scopes=[SCOPE])
    except DefaultCredentialsError as error:
        raise _no_token("There are no credentials.", error) from None
    return credentials


def _refreshing_failed(error: GoogleAuthError) -> Exception:
    """What the network did passes, what the endpoint says about the credentials does not."""
    passing = error.retryable or any(isinstance(e, TransportError) for e in (error, error.__cause__))
    return UnavailableError(str(error)) if passing else _no_token("The credentials are not accepted.", error)


def _no_token(detail: str, error: GoogleAuthError) -> PublishFailed:
    return PublishFailed(detail, f"{error}. To mend it: {REMEDY}")


def _log_failure(renewing: asyncio.Future[None]) -> None:
    if not renewing.cancelled() and (error := renewing.exception()):
        log.warning("The token for Pub/Sub can't be renewed: %s", error)
