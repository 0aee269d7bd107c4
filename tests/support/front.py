"""A front end as a function in the cloud has one: it answers 503 if no instance answers.

The Pub/Sub emulator needs it: after a push to an address where nobody listens, or to a process that dies
before it answers, the emulator doesn't push again for minutes.
"""

import http.client
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

TIMEOUT = 30.0


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256
    to: int


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        self.send_response(self._forward(body))
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _forward(self, body: bytes) -> int:
        connection = http.client.HTTPConnection("127.0.0.1", self.server.to, timeout=TIMEOUT)
        try:
            connection.request("POST", self.path, body, {"content-type": "application/json"})
            return connection.getresponse().status
        except (OSError, http.client.HTTPException):
            return 503
        finally:
            connection.close()

    def log_message(self, *_: Any) -> None:
        """Print nothing on standard error."""


@contextmanager
def front(port: int) -> Iterator[str]:
    """The URL of a front end that forwards to the function on `port`."""
    server = _Server(("127.0.0.1", 0), _Handler)
    server.to = port
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
