"""The Service that is Google Cloud Pub/Sub. With `flowhook.oidc` all that knows Google Cloud.

The library's messages on a bare gRPC stub: its clients retry for ten minutes where we have seconds, and
batch after a delay where we don't wait. https://cloud.google.com/pubsub/docs/reference/rpc
"""

import asyncio
import logging
from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple
from urllib.parse import quote

import google.auth
import grpc
import grpc.aio
from google.api_core.gapic_v1.client_info import ClientInfo
from google.auth.credentials import Credentials, TokenState
from google.auth.exceptions import DefaultCredentialsError, GoogleAuthError, TransportError
from google.auth.transport.requests import Request
from google.pubsub_v1 import PublishRequest, PublishResponse, PubsubMessage, gapic_version

from flowhook.errors import Undelivered
from flowhook.messages import Message
from flowhook.publisher import InvalidError, UnavailableError

log = logging.getLogger(__name__)

HOST = "pubsub.googleapis.com"
METHOD = "/google.pubsub.v1.Publisher/Publish"
SCOPE = "https://www.googleapis.com/auth/pubsub"
# Seconds for one attempt at getting a token; google-auth makes a few.
TOKEN_TIMEOUT = 5
USER_AGENT = ClientInfo(gapic_version=gapic_version.__version__).to_user_agent()

# Milliseconds. A lost connection is noticed and made again well within DELIVERY_TIMEOUT.
CHANNEL_OPTIONS = (
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 500),
    # In spite of its name, how long a connection may take to come about, TLS included.
    ("grpc.min_reconnect_backoff_ms", 3000),
    # Google's front ends punish pings that come more often.
    ("grpc.keepalive_time_ms", 30_000),
    # On Linux also TCP_USER_TIMEOUT: a connection that died while it was idle is noticed by what is sent.
    ("grpc.keepalive_timeout_ms", 2000),
    ("grpc.http2.ping_timeout_ms", 2000),
    # The publisher repeats calls itself, within its deadline.
    ("grpc.enable_retries", 0),
)

# https://cloud.google.com/pubsub/docs/reference/error-codes: what may pass.
PASSING = {
    grpc.StatusCode.ABORTED,
    grpc.StatusCode.CANCELLED,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.INTERNAL,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.UNKNOWN,
}


class Cause(NamedTuple):
    """Why a topic can't be published to, for the caller; and what mends it, for the log."""

    detail: str
    remedy: str


LASTING = {
    grpc.StatusCode.NOT_FOUND: Cause(
        "The topic does not exist.", "gcloud pubsub topics create {topic} --project={project}"
    ),
    grpc.StatusCode.PERMISSION_DENIED: Cause(
        "Pub/Sub does not permit it.",
        "gcloud pubsub topics add-iam-policy-binding {topic} --project={project} "
        "--member=serviceAccount:{account} --role=roles/pubsub.publisher",
    ),
    grpc.StatusCode.UNAUTHENTICATED: Cause(
        "Pub/Sub does not accept the credentials.", "gcloud auth application-default login"
    ),
}
OTHERWISE = Cause("Pub/Sub does not take it.", "gcloud pubsub topics describe {topic} --project={project}")


class PubSub:
    """Topics of one project, on one connection that is made on first use.

    With `emulator` (`HOST:PORT`) they are those of the Pub/Sub emulator, without TLS and credentials.
    """

    def __init__(self, project: str, emulator: str = "") -> None:
        self._project = project
        self._emulator = emulator
        self._connecting = asyncio.Lock()
        self._channel: grpc.aio.Channel | None = None
        self._credentials: Credentials | None = None
        self._renewing: asyncio.Future[None] | None = None

    def encode(self, message: Message) -> tuple[Any, int]:
        """The message in protobuf, and its bytes."""
        try:
            encoded = PubsubMessage.pb()(data=message.data, attributes=message.attributes)
        except (TypeError, ValueError) as error:
            raise InvalidError("an attribute is not text") from error
        return encoded, encoded.ByteSize()

    async def ready(self) -> None:
        """Return once there are a connection, however long that takes, and a token."""
        if self._channel is None:
            async with self._connecting:
                await self._connect()
        assert self._channel is not None  # noqa: S101 - `_connect` returns with one
        await self._channel.channel_ready()
        if self._credentials:
            await self._renew(self._credentials)

    async def call(self, topic: str, group: Sequence[Any], timeout: float) -> Sequence[str]:
        """Publish in one call."""
        path = f"projects/{self._project}/topics/{topic}"
        request = PublishRequest.pb()(topic=path, messages=group)
        metadata = self._metadata(path)
        try:
            response = await self._stub(request, timeout=timeout, metadata=metadata, wait_for_ready=False)
        except grpc.aio.AioRpcError as error:
            raise self._translated(error, topic) from None
        return tuple(response.message_ids)

    async def _connect(self) -> None:
        if self._channel is not None:
            return
        if self._emulator:
            channel = grpc.aio.insecure_channel(self._emulator, CHANNEL_OPTIONS)
        else:
            self._credentials = await asyncio.to_thread(_credentials)
            channel = grpc.aio.secure_channel(HOST, grpc.ssl_channel_credentials(), CHANNEL_OPTIONS)
        self._stub = channel.unary_unary(
            METHOD,
            request_serializer=PublishRequest.pb().SerializeToString,
            response_deserializer=PublishResponse.pb().FromString,
        )
        self._channel = channel

    def _metadata(self, path: str) -> tuple[tuple[str, str], ...]:
        headers = {
            "x-goog-request-params": f"topic={quote(path, safe='')}",
            "x-goog-api-client": USER_AGENT,
        }
        if self._credentials:
            self._credentials.apply(headers)
        return tuple(headers.items())

    async def _renew(self, credentials: Credentials) -> None:
        """See to a token: one that ends soon is replaced in the background, without one everybody waits.

        In a thread, for google-auth waits for the network; in one at a time, however often it hangs.
        """
        state = credentials.token_state
        if state is TokenState.FRESH:
            return
        if self._renewing is None or self._renewing.done():
            request = partial(Request(), timeout=TOKEN_TIMEOUT)
            self._renewing = asyncio.ensure_future(asyncio.to_thread(credentials.refresh, request))
            self._renewing.add_done_callback(_log_failure)
        if state is TokenState.INVALID:
            try:
                await asyncio.shield(self._renewing)
            except GoogleAuthError as error:
                raise _refreshing_failed(error) from None

    def _translated(self, error: grpc.aio.AioRpcError, topic: str) -> Exception:
        code = error.code()
        said = f"{code.name}: {error.details()}"
        if code in PASSING:
            return UnavailableError(said)
        if code is grpc.StatusCode.INVALID_ARGUMENT:
            return InvalidError(said)
        if code is grpc.StatusCode.UNAUTHENTICATED and self._credentials:
            self._credentials.token = None
        cause = LASTING.get(code, OTHERWISE)
        account = getattr(self._credentials, "service_account_email", "SERVICE_ACCOUNT")
        remedy = cause.remedy.format(topic=topic, project=self._project, account=account)
        return Undelivered(cause.detail, f"Topic {topic}, {said}. To mend it: {remedy}", topic=topic)


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


def _no_token(detail: str, error: GoogleAuthError) -> Undelivered:
    return Undelivered(detail, f"{error}. To mend it: {LASTING[grpc.StatusCode.UNAUTHENTICATED].remedy}")


def _log_failure(renewing: asyncio.Future[None]) -> None:
    if not renewing.cancelled() and (error := renewing.exception()):
        log.warning("The token for Pub/Sub can't be renewed: %s", error)
