"""An unreliable CRM: it fails, stalls, loses answers and restarts, and it records every post."""

import json
import random
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

# What goes wrong with a post, and in how many percent of them.
FAULTS = {"fails": 8, "stalls": 3, "answer lost": 2}
# Seconds; longer than the client waits for an answer.
STALL = 4.0


@dataclass(frozen=True)
class Post:
    """What was posted, when, and whether the client was answered that it has arrived."""

    packet: str
    at: float
    answered: bool


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 256
    crm: "Crm"


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def do_POST(self) -> None:
        packet = json.loads(self.rfile.read(int(self.headers["content-length"])))["packet"]
        crm = self.server.crm
        if self.headers["authorization"] != f"Bearer {crm.token}":
            self._answer(401)
            return
        fault = crm.fault()
        if fault == "stalls":
            time.sleep(STALL)
        if fault in ("fails", "stalls"):
            self._answer(503)
            return
        crm.posts.append(Post(packet, time.monotonic(), fault != "answer lost"))
        if fault != "answer lost":
            self._answer(201)

    def _answer(self, status: int) -> None:
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Print nothing on standard error."""

    def handle(self) -> None:
        try:
            super().handle()
        except OSError:
            # The client was killed, or did not wait.
            return


@dataclass
class Crm:
    """The CRM. `posts` are those that it has accepted, in their order."""

    token: str
    seed: int = 0
    faults: Mapping[str, int] = field(default_factory=FAULTS.copy)
    posts: list[Post] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)
        self._lock = threading.Lock()
        self._server = self._serve(0)
        self.port = self._server.server_port
        self.url = f"http://127.0.0.1:{self.port}/deals"

    def __enter__(self) -> "Crm":
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def fault(self) -> str:
        """What goes wrong this time; empty where nothing does."""
        with self._lock:
            number = self._random.uniform(0, 100)
        for name, percent in self.faults.items():
            number -= percent
            if number < 0:
                return name
        return ""

    def restart(self, seconds: float) -> None:
        """Refuse every connection for so many seconds."""
        self.stop()
        time.sleep(seconds)
        self._server = self._serve(self.port)

    def stop(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def _serve(self, port: int) -> _Server:
        server = _Server(("127.0.0.1", port), _Handler)
        server.crm = self
        self._thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        self._thread.start()
        return server
