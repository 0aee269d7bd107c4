"""Credentials, TLS and permissions, which the emulator has none of: against a strict stand-in.

The receiver, google-auth and gRPC are the real ones; the stand-in has a certificate and a token endpoint of
its own, and refuses what the service's documentation says that it refuses.
"""

import http.server
import json
import re
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from flowhook import samples
from tests.support.google import (
    ACCOUNT,
    Service,
    Tokens,
    certificate_of,
    elsewhere,
    service_account,
)
from tests.support.proxy import background_loop
from tests.support.receiver import Receiver, project, receiver, until

EVENT = samples.load("users.created")


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
    source = elsewhere(project(tmp_path), service.port)
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
