"""Credentials, TLS and permissions, which the emulator has none of: against a strict stand-in.

The receiver, google-auth and gRPC are the real ones; the stand-in has a certificate and a token endpoint of
its own, and refuses what the service's documentation says that it refuses.
"""

import http.server
import ipaddress
import json
import re
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from google.pubsub_v1 import PublishRequest, PublishResponse

from flowhook import samples
from tests.proxy import background_loop
from tests.receiver import Receiver, project, receiver, until

ACCOUNT = "receive@demo.iam.gserviceaccount.com"
EVENT = samples.load("users.created")
# A module of handlers is imported at the start, so it can tell flowhook where the stand-in is.
ELSEWHERE = """
from flowhook import pubsub
pubsub.HOST = "127.0.0.1:{port}"
"""


class Tokens(http.server.ThreadingHTTPServer):
    """An OAuth 2.0 token endpoint: a new token each time, valid for as long as it is told."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), TokenRequest)
        self.given: list[str] = []
        self.lifetime = 3600
        self.status = 200
        self.url = f"http://127.0.0.1:{self.server_address[1]}/token"


class TokenRequest(http.server.BaseHTTPRequestHandler):
    server: Tokens

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        token = f"token-{len(self.server.given)}"
        document: dict[str, Any] = {"error": "invalid_grant" if self.server.status < 500 else "unavailable"}
        if self.server.status == 200:
            self.server.given.append(token)
            document = {"access_token": token, "expires_in": self.server.lifetime, "token_type": "Bearer"}
        body = json.dumps(document).encode()
        self.send_response(self.server.status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


class Service:
    """Pub/Sub's Publish over TLS, as strict as https://cloud.google.com/pubsub/quotas says."""

    def __init__(self, tokens: Tokens) -> None:
        self._tokens = tokens
        self.published: list[Any] = []
        self.metadata: list[dict[str, str]] = []
        self.permitted = True
        self.port = 0

    async def serve(self, key: bytes, certificate: bytes) -> grpc.aio.Server:
        server = grpc.aio.server()
        handler = grpc.unary_unary_rpc_method_handler(
            self._publish,
            request_deserializer=PublishRequest.pb().FromString,
            response_serializer=PublishResponse.pb().SerializeToString,
        )
        methods = grpc.method_handlers_generic_handler("google.pubsub.v1.Publisher", {"Publish": handler})
        server.add_generic_rpc_handlers((methods,))
        self.port = server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([(key, certificate)]))
        await server.start()
        return server

    async def _publish(self, request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
        metadata = {str(name): str(value) for name, value in context.invocation_metadata() or ()}
        self.metadata.append(metadata)
        if metadata.get("authorization") not in [f"Bearer {token}" for token in self._tokens.given]:
            await context.abort(grpc.StatusCode.UNAUTHENTICATED, "Request had invalid credentials.")
        if metadata.get("x-goog-request-params") != "topic=projects%2Fdemo%2Ftopics%2Fflows-events":
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "The routing header is missing.")
        if not self.permitted:
            await context.abort(grpc.StatusCode.PERMISSION_DENIED, "User not authorized.")
        if request.topic != "projects/demo/topics/flows-events":
            await context.abort(grpc.StatusCode.NOT_FOUND, "Resource not found.")
        if not all(map(allowed, request.messages)) or not 0 < len(request.messages) <= 1000:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "A message is not allowed.")
        self.published += request.messages
        return PublishResponse.pb()(message_ids=[str(len(self.published)) for _ in request.messages])


def allowed(message: Any) -> bool:
    """Whether the service would take it."""
    attributes = message.attributes.items()
    short = all(0 < len(k.encode()) <= 256 and len(v.encode()) <= 1024 for k, v in attributes)
    return bool(message.data or attributes) and len(attributes) <= 100 and short


def certificate_of(folder: Path) -> tuple[bytes, bytes]:
    """A key and a certificate for 127.0.0.1 that nobody but the test trusts."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    address = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=5))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(address, critical=False)
        .sign(key, hashes.SHA256())
        .public_bytes(serialization.Encoding.PEM)
    )
    (folder / "ca.pem").write_bytes(certificate)
    return pem(key), certificate


def pem(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def service_account(folder: Path, tokens: Tokens) -> Path:
    """A key file such as Google gives out, its tokens from the stand-in."""
    document = {
        "type": "service_account",
        "project_id": "demo",
        "private_key_id": "1",
        "private_key": pem(rsa.generate_private_key(65537, 2048)).decode(),
        "client_email": ACCOUNT,
        "token_uri": tokens.url,
    }
    path = folder / "key.json"
    path.write_text(json.dumps(document))
    return path


@pytest.fixture
def tokens() -> Iterator[Tokens]:
    with Tokens() as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def service(tmp_path: Path, tokens: Tokens) -> Iterator[Service]:
    made = Service(tokens)
    with background_loop() as (_, run):
        server = run(made.serve(*certificate_of(tmp_path)))
        yield made
        run(server.stop(0))


@contextmanager
def publishing(tmp_path: Path, service: Service, key: Path, **settings: str) -> Iterator[Receiver]:
    source = project(tmp_path, elsewhere=ELSEWHERE.format(port=service.port))
    settings = {
        "DELIVERY": "pubsub",
        "GOOGLE_CLOUD_PROJECT": "demo",
        "GOOGLE_APPLICATION_CREDENTIALS": str(key),
        "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH": str(tmp_path / "ca.pem"),
        "DELIVERY_TIMEOUT": "3",
        **settings,
    }
    with receiver(tmp_path, source, **settings) as started:
        yield started


def test_it_publishes_with_a_token_that_it_asks_for_once(
    tmp_path: Path, tokens: Tokens, service: Service
) -> None:
    key = service_account(tmp_path, tokens)
    with publishing(tmp_path, service, key) as started, ThreadPoolExecutor(8) as pool:
        statuses = [answer.status_code for answer in pool.map(started.post, [EVENT] * 100)]
    assert statuses == [200] * 100
    assert len(service.published) == 100
    assert tokens.given == ["token-0"]
    assert {message.data for message in service.published} == {EVENT}
    assert re.search(r"gl-python/3\S+ grpc/1\S+", service.metadata[0]["x-goog-api-client"])


class Metadata(http.server.ThreadingHTTPServer):
    """The metadata server of Cloud Run: who we are, and tokens.

    https://cloud.google.com/run/docs/container-contract#metadata-server
    """

    def __init__(self, tokens: Tokens) -> None:
        super().__init__(("127.0.0.1", 0), MetadataRequest)
        self.tokens = tokens
        self.address = f"127.0.0.1:{self.server_address[1]}"


class MetadataRequest(http.server.BaseHTTPRequestHandler):
    server: Metadata

    def do_GET(self) -> None:
        tokens = self.server.tokens
        document: object = {"email": ACCOUNT, "aliases": ["default"], "scopes": []}
        if "token" in self.path:
            tokens.given.append(f"token-{len(tokens.given)}")
            document = {"access_token": tokens.given[-1], "expires_in": tokens.lifetime}
        elif "service-accounts" not in self.path:
            document = "demo"
        body = json.dumps(document).encode() if isinstance(document, dict) else str(document).encode()
        self.send_response(tokens.status)
        self.send_header("metadata-flavor", "Google")
        self.send_header("content-type", "application/json" if isinstance(document, dict) else "text/plain")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def on_cloud_run(tmp_path: Path, service: Service, tokens: Tokens) -> Iterator[Receiver]:
    with Metadata(tokens) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        where = dict.fromkeys(("GCE_METADATA_HOST", "GCE_METADATA_IP", "GCE_METADATA_ROOT"), server.address)
        none = {"GOOGLE_APPLICATION_CREDENTIALS": "", "CLOUDSDK_CONFIG": str(tmp_path)}
        with publishing(tmp_path, service, tmp_path / "none", **where, **none) as started:
            yield started
        server.shutdown()
        thread.join()


def test_on_cloud_run_a_missing_permission_is_told_with_the_account(
    tmp_path: Path, tokens: Tokens, service: Service
) -> None:
    with on_cloud_run(tmp_path, service, tokens) as started:
        assert started.post(EVENT).status_code == 200
        service.permitted = False
        assert started.post(EVENT).status_code == 503
        assert f"--member=serviceAccount:{ACCOUNT}" in started.deliveries()[-1]["message"]


def test_a_token_that_ends_soon_is_used_while_a_new_one_cannot_be_had(
    tmp_path: Path, tokens: Tokens, service: Service
) -> None:
    """google-auth calls it stale in its last minutes; nobody waits for the next one then."""
    tokens.lifetime = 100
    with on_cloud_run(tmp_path, service, tokens) as started:
        assert started.post(EVENT).status_code == 200
        tokens.status = 503
        answers = [started.post(EVENT) for _ in range(20)]
        assert {answer.status_code for answer in answers} == {200}
        assert max(answer.elapsed.total_seconds() for answer in answers) < 1
        tokens.status, tokens.lifetime = 200, 3600
        until(
            lambda: started.post(EVENT).status_code == 200 and len(service.metadata) > 21 and fresh(service)
        )


def fresh(service: Service) -> bool:
    """Whether the last call was made with a newer token than the first."""
    return service.metadata[-1]["authorization"] != service.metadata[0]["authorization"]


def test_a_token_that_has_expired_is_replaced(tmp_path: Path, tokens: Tokens, service: Service) -> None:
    tokens.lifetime = 0
    with publishing(tmp_path, service, service_account(tmp_path, tokens)) as started:
        assert started.post(EVENT).status_code == 200
        tokens.lifetime = 3600
        assert started.post(EVENT).status_code == 200
        assert started.post(EVENT).status_code == 200
    assert service.metadata[-1]["authorization"] == "Bearer token-1"
    assert len(tokens.given) == 2


@pytest.mark.parametrize("status", [500, 503])
def test_an_endpoint_that_gives_no_token_is_asked_again(
    tmp_path: Path, tokens: Tokens, service: Service, status: int
) -> None:
    tokens.status = status
    with publishing(tmp_path, service, service_account(tmp_path, tokens)) as started:
        assert started.post(EVENT).status_code == 503
        assert service.published == []
        tokens.status = 200
        assert started.post(EVENT).status_code == 200


def test_an_endpoint_that_cannot_be_reached_is_asked_until_the_time_is_up(
    tmp_path: Path, tokens: Tokens, service: Service
) -> None:
    key = service_account(tmp_path, tokens)
    key.write_text(key.read_text().replace(tokens.url, "http://127.0.0.1:1/token"))
    with publishing(tmp_path, service, key) as started:
        response = started.post(EVENT)
        message = started.deliveries()[-1]["message"]
    assert response.status_code == 503
    assert response.elapsed.total_seconds() > 2.5
    assert "It had 3 s" in message
    assert "login" not in message


def test_a_token_that_the_service_refuses_is_replaced(
    tmp_path: Path, tokens: Tokens, service: Service
) -> None:
    with publishing(tmp_path, service, service_account(tmp_path, tokens)) as started:
        assert started.post(EVENT).status_code == 200
        tokens.given[0] = "withdrawn"
        assert started.post(EVENT).status_code == 503
        assert started.post(EVENT).status_code == 200


def test_credentials_that_are_refused_are_told(tmp_path: Path, tokens: Tokens, service: Service) -> None:
    tokens.status = 400
    with publishing(tmp_path, service, service_account(tmp_path, tokens)) as started:
        assert started.post(EVENT).status_code == 503
        line = started.deliveries()[-1]
    assert "invalid_grant" in line["message"]
    assert "gcloud auth application-default login" in line["message"]
    assert "PRIVATE KEY" not in started.output()


def test_a_missing_permission_is_told_with_what_mends_it(
    tmp_path: Path, tokens: Tokens, service: Service
) -> None:
    service.permitted = False
    with publishing(tmp_path, service, service_account(tmp_path, tokens)) as started:
        response = started.post(EVENT)
        assert response.status_code == 503
        assert ACCOUNT not in response.text
        message = started.deliveries()[-1]["message"]
        service.permitted = True
        assert started.post(EVENT).status_code == 200
    assert "gcloud pubsub topics add-iam-policy-binding flows-events --project=demo" in message
    assert f"--member=serviceAccount:{ACCOUNT} --role=roles/pubsub.publisher" in message


def test_a_server_with_another_certificate_is_not_believed(
    tmp_path: Path, tokens: Tokens, service: Service
) -> None:
    key = service_account(tmp_path, tokens)
    settings = {"GRPC_DEFAULT_SSL_ROOTS_FILE_PATH": "", "DELIVERY_TIMEOUT": "1"}
    with publishing(tmp_path, service, key, **settings) as started:
        assert started.post(EVENT).status_code == 503
    assert service.metadata == []


def test_the_longest_values_pass_the_services_limits(
    tmp_path: Path, tokens: Tokens, service: Service
) -> None:
    document = json.loads(EVENT)
    long = [("entityPath", "users/" + "ü" * 2000), ("organizationId", "o" * 1000), ("entityKey", "k" * 1024)]
    bodies = [json.dumps({**document, name: value}).encode() for name, value in long]
    with publishing(tmp_path, service, service_account(tmp_path, tokens)) as started:
        assert [started.post(body).status_code for body in bodies] == [200] * 3
    assert [message.data for message in service.published] == bodies
