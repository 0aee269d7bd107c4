"""A stand-in for Pub/Sub's Publish and for Google's token endpoint, as strict as documented."""

import http.server
import ipaddress
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from google.pubsub_v1 import PublishRequest, PublishResponse

ACCOUNT = "receive@demo.iam.gserviceaccount.com"
# This goes into main.py, the only module that every entry point imports with every kind of delivery.
ELSEWHERE = """
from flowhook.pubsub import client
client.HOST = "127.0.0.1:{port}"
"""


def elsewhere(source: Path, port: int) -> Path:
    """Have a copied project publish to the stand-in at `port`."""
    main = source / "main.py"
    main.write_text(ELSEWHERE.format(port=port) + main.read_text())
    return source


class Tokens(http.server.ThreadingHTTPServer):
    """An OAuth 2.0 token endpoint: each answer is a new token, valid for `lifetime` seconds."""

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
        """Print nothing."""


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
    """Whether the service would accept the message."""
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
    """A key file like Google's, with the stand-in as its token endpoint."""
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
