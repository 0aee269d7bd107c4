"""The Service that is Google Cloud Pub/Sub.

A bare gRPC stub: the library's clients retry for ten minutes, but we have seconds, and they delay messages to
batch them. https://cloud.google.com/pubsub/docs/reference/rpc
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from platform import python_version
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import quote

import grpc
import grpc.aio

from flowhook.errors import PublishFailed
from flowhook.pubsub import protobuf
from flowhook.pubsub.messages import Message
from flowhook.pubsub.publisher import InvalidError, UnavailableError

if TYPE_CHECKING:
    from flowhook.pubsub.credentials import Tokens

    FindTokens = Callable[[], Awaitable[Tokens]]

HOST = "pubsub.googleapis.com"
METHOD = "/google.pubsub.v1.Publisher/Publish"
USER_AGENT = f"gl-python/{python_version()} grpc/{grpc.__version__}"

# Milliseconds. A lost connection is noticed and made again well within DELIVERY_TIMEOUT.
CHANNEL_OPTIONS = (
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 500),
    # In spite of its name: how long it may take to connect, TLS included.
    ("grpc.min_reconnect_backoff_ms", 3000),
    # Google's front ends refuse pings that come more often.
    ("grpc.keepalive_time_ms", 30_000),
    # On Linux also TCP_USER_TIMEOUT: sending on a connection that died while it was idle fails soon.
    ("grpc.keepalive_timeout_ms", 2000),
    ("grpc.http2.ping_timeout_ms", 2000),
    # The publisher repeats calls itself, within its deadline.
    ("grpc.enable_retries", 0),
)

# https://cloud.google.com/pubsub/docs/reference/error-codes: errors that may pass.
TRANSIENT = {
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


PERMANENT = {
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

    Without `find_tokens` they are those of the emulator at `host` (`HOST:PORT`), where there is no TLS.
    """

    def __init__(self, project: str, host: str = "", find_tokens: "FindTokens | None" = None) -> None:
        self._project = project
        self._host = host or HOST
        self._find_tokens = find_tokens
        self._tokens: Tokens | None = None
        self._finding = asyncio.Lock()
        self._channel: grpc.aio.Channel | None = None
        self._stub: Any = None

    def encode(self, message: Message) -> bytes:
        """The message in protobuf."""
        try:
            return protobuf.encode(message.data, message.attributes)
        except (TypeError, ValueError) as error:
            raise InvalidError("an attribute is not text") from error

    async def ready(self) -> None:
        """Return once there are a connection, however long that takes, and a token."""
        if self._channel is None:
            self._connect()
        if self._find_tokens and self._tokens is None:
            async with self._finding:
                self._tokens = self._tokens or await self._find_tokens()
        if self._tokens:
            await self._tokens.ready()
        assert self._channel is not None  # noqa: S101 - `_connect` has made it
        await self._channel.channel_ready()

    async def call(self, topic: str, group: Sequence[bytes], timeout: float) -> Sequence[str]:
        """Publish in one call."""
        path = f"projects/{self._project}/topics/{topic}"
        request = protobuf.to_topic(path, group)
        metadata = self._metadata(path)
        try:
            response = await self._stub(request, timeout=timeout, metadata=metadata, wait_for_ready=False)
        except grpc.aio.AioRpcError as error:
            raise self._translated(error, topic) from None
        return protobuf.message_ids(response)

    def _connect(self) -> None:
        """Begin to connect; that goes on while credentials are looked for. The first event waits for both."""
        if self._find_tokens:
            channel = grpc.aio.secure_channel(self._host, grpc.ssl_channel_credentials(), CHANNEL_OPTIONS)
        else:
            channel = grpc.aio.insecure_channel(self._host, CHANNEL_OPTIONS)
        channel.get_state(try_to_connect=True)
        self._stub = channel.unary_unary(METHOD)
        self._channel = channel

    def _metadata(self, path: str) -> tuple[tuple[str, str], ...]:
        headers = {
            "x-goog-request-params": f"topic={quote(path, safe='')}",
            "x-goog-api-client": USER_AGENT,
        }
        if self._tokens:
            self._tokens.apply(headers)
        return tuple(headers.items())

    def _translated(self, error: grpc.aio.AioRpcError, topic: str) -> Exception:
        code = error.code()
        said = f"{code.name}: {error.details()}"
        if code in TRANSIENT:
            return UnavailableError(said)
        if code is grpc.StatusCode.INVALID_ARGUMENT:
            return InvalidError(said)
        if code is grpc.StatusCode.UNAUTHENTICATED and self._tokens:
            self._tokens.drop()
        cause = PERMANENT.get(code, OTHERWISE)
        account = self._tokens.account if self._tokens else "SERVICE_ACCOUNT"
        remedy = cause.remedy.format(topic=topic, project=self._project, account=account)
        return PublishFailed(cause.detail, f"Topic {topic}, {said}. To mend it: {remedy}", topic=topic)
