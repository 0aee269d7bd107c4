"""The credentials for Google Cloud: finds them, and renews their token before it expires.

Of this package, only this module and `push_auth` know google-auth, whose import takes a tenth of a second of
a start.
"""

import logging
from asyncio import Future
from functools import partial

import google.auth
from google.auth.credentials import Credentials, TokenState
from google.auth.exceptions import DefaultCredentialsError, GoogleAuthError, TransportError
from google.auth.transport.requests import Request

from flowhook.background import Background
from flowhook.errors import PublishFailed
from flowhook.pubsub.publisher import UnavailableError

log = logging.getLogger(__name__)

SCOPE = "https://www.googleapis.com/auth/pubsub"
# Seconds for one attempt at getting a token; google-auth makes a few.
TIMEOUT = 5
# Seconds that calls wait for a token: no longer than DELIVERY_TIMEOUT's default, which ends them anyway.
PATIENCE = 8
REMEDY = "gcloud auth application-default login"


class Tokens:
    """The token of some credentials, renewed in time."""

    def __init__(self, credentials: Credentials) -> None:
        self._credentials = credentials
        self._renewals = Background("Renewing the token for Pub/Sub", self._renew, PATIENCE)

    @property
    def account(self) -> str:
        """The service account; a placeholder where the credentials don't name it."""
        return getattr(self._credentials, "service_account_email", "SERVICE_ACCOUNT")

    def apply(self, headers: dict[str, str]) -> None:
        """Add the token to the headers of a call."""
        self._credentials.apply(headers)

    def drop(self) -> None:
        """Don't use this token again: it was not accepted."""
        self._credentials.token = None

    async def ready(self) -> None:
        """Ensure a token: one that expires soon is renewed in the background, a missing one is waited for.

        It is renewed in a thread, because google-auth blocks. Raises UnavailableError where a token may come
        later, PublishFailed where the credentials are refused.
        """
        state = self._credentials.token_state
        if state is TokenState.FRESH:
            return
        self._renewals.start(_log_failure)
        if state is TokenState.INVALID:
            await self._renewed()

    async def _renewed(self) -> None:
        renewal = await self._renewals.wait()
        if renewal is None:
            raise UnavailableError("there is no token yet")
        try:
            renewal.result()
        except GoogleAuthError as error:
            raise _refreshing_failed(error) from None

    def _renew(self) -> None:
        self._credentials.refresh(partial(Request(), timeout=TIMEOUT))


class Finder:
    """Looks for the credentials of the account that this process runs as."""

    def __init__(self) -> None:
        self._searches = Background("Looking for credentials", _credentials, PATIENCE)

    async def find(self) -> Tokens:
        """The account's tokens. Raises PublishFailed without credentials, UnavailableError while it looks."""
        self._searches.start(_ignore)
        search = await self._searches.wait()
        if search is None:
            raise UnavailableError("there are no credentials yet")
        return Tokens(search.result())


def _ignore(search: Future[Credentials]) -> None:
    """Retrieve the error, which whoever waits gets too: asyncio must not report that nobody did."""
    search.exception()


def _credentials() -> Credentials:
    try:
        credentials, _ = google.auth.default(scopes=[SCOPE])
    except DefaultCredentialsError as error:
        raise _no_token("There are no credentials.", error) from None
    return credentials


def _refreshing_failed(error: GoogleAuthError) -> Exception:
    """A failure of the network may pass; the endpoint's refusal of the credentials won't."""
    passing = error.retryable or any(isinstance(e, TransportError) for e in (error, error.__cause__))
    return UnavailableError(str(error)) if passing else _no_token("The credentials are not accepted.", error)


def _no_token(detail: str, error: GoogleAuthError) -> PublishFailed:
    return PublishFailed(detail, f"{error}. To mend it: {REMEDY}")


def _log_failure(renewal: Future[None]) -> None:
    if error := renewal.exception():
        log.warning("The token for Pub/Sub can't be renewed: %s", error)
