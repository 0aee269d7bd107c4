"""flowhook with credentials and TLS, against the strict stand-in of the tests.

The stand-in is a gRPC server in Python, slower than the emulator, so there is no rate and no p99 to compare:
only what an event costs flowhook, and what a start does.
"""

import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench import cold, load
from bench.load import Plan
from bench.serving import SECRET, Contestant, served
from tests.support.google import ELSEWHERE, Service, Tokens, certificate_of, service_account
from tests.support.proxy import background_loop
from tests.support.receiver import project

CLIENTS = 64


def run(seconds: int, starts: int) -> dict[str, Any]:
    """`cpu` and `size`: seconds of an event, events of a publish call; `cold`: seconds of each start."""
    with _stand_in() as (contestant, service):
        cold.start(contestant, {})
        begun = [cold.start(contestant, {}) for _ in range(starts)]
        with served(contestant, {}) as server:
            load.run(server, Plan(8, 1))
            calls, events = len(service.metadata), len(service.published)
            loaded = load.run(server, Plan(CLIENTS, seconds))
            size = (len(service.published) - events) / (len(service.metadata) - calls)
    return {"cpu": loaded.cpu, "accepted": loaded.accepted, "size": size, "cold": begun}


@contextmanager
def _stand_in() -> Iterator[tuple[Contestant, Service]]:
    """A service that listens, and a receiver that is told to publish there."""
    with tempfile.TemporaryDirectory() as name, Tokens() as tokens, background_loop() as (_, do):
        folder, service = Path(name), Service(tokens)
        thread = threading.Thread(target=tokens.serve_forever, daemon=True)
        thread.start()
        server = do(service.serve(*certificate_of(folder)))
        settings = {
            "WEBHOOK_SECRET": SECRET,
            "DELIVERY": "pubsub",
            "GOOGLE_CLOUD_PROJECT": "demo",
            "GOOGLE_APPLICATION_CREDENTIALS": str(service_account(folder, tokens)),
            "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH": str(folder / "ca.pem"),
        }
        source = project(folder, elsewhere=ELSEWHERE.format(port=service.port))
        try:
            yield Contestant("flowhook-pubsub over TLS", source / "main.py", "receive", settings), service
        finally:
            do(server.stop(0))
            tokens.shutdown()
            thread.join()
