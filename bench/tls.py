"""flowhook with credentials and TLS, against the strict stand-in of the tests.

The stand-in is a gRPC server in Python, slower than the emulator, so there is no rate and no p99 to compare:
only what an event costs flowhook, and what a start does.
"""

import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from bench import cold, load
from bench.cold import Start
from bench.load import Plan
from bench.serving import SECRET, Contestant, served
from tests.support.google import Service, Tokens, certificate_of, elsewhere, service_account
from tests.support.proxy import background_loop
from tests.support.receiver import project

CLIENTS = 64


class StandIn(NamedTuple):
    """A service that listens, a project that publishes to it, and the settings for that."""

    service: Service
    source: Path
    settings: Mapping[str, str]


def run(google: StandIn, seconds: int) -> dict[str, Any]:
    """`cpu` and `size`: seconds of an event, events of a publish call."""
    with served(_receive(google).contestant, google.settings) as server:
        load.run(server, Plan(8, 1))
        calls, events = len(google.service.metadata), len(google.service.published)
        loaded = load.run(server, Plan(CLIENTS, seconds))
        size = (len(google.service.published) - events) / (len(google.service.metadata) - calls)
    return {"cpu": loaded.cpu, "accepted": loaded.accepted, "size": size}


def starts(google: StandIn) -> list[Start]:
    """Each entry point as it is deployed: what is rejected is published too."""
    told = {**google.settings, "REJECTED_TOPIC": "flows-rejected"}
    return [
        _receive(google),
        cold.inline("inline, a handler, TLS and tokens", google.source, told),
        cold.consume("consume, a handler, TLS and tokens", google.source, told),
    ]


def _receive(google: StandIn) -> Start:
    pubsub = {"DELIVERY": "pubsub"}
    return Start(
        Contestant("flowhook-pubsub, TLS and tokens", google.source, "receive", pubsub), google.settings
    )


@contextmanager
def stand_in() -> Iterator[StandIn]:
    """Google's part: the service, and the endpoint that issues its tokens."""
    with tempfile.TemporaryDirectory() as name, Tokens() as tokens, background_loop() as (_, do):
        folder, service = Path(name), Service(tokens)
        thread = threading.Thread(target=tokens.serve_forever, daemon=True)
        thread.start()
        server = do(service.serve(*certificate_of(folder)))
        settings = {
            "WEBHOOK_SECRET": SECRET,
            "GOOGLE_CLOUD_PROJECT": "demo",
            "GOOGLE_APPLICATION_CREDENTIALS": str(service_account(folder, tokens)),
            "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH": str(folder / "ca.pem"),
        }
        source = elsewhere(project(folder, handler=cold.HANDLER), service.port)
        try:
            yield StandIn(service, source / "main.py", settings)
        finally:
            do(server.stop(0))
            tokens.shutdown()
            thread.join()
