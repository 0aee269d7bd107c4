"""The version, where a person or a receiver sees it."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer

from flowhook.version import VERSION
from tests.support.command_line import flowhook
from tests.support.receiver import SECRET


@contextmanager
def agents(seen: list[str | None]) -> Iterator[str]:
    """A server that accepts everything and notes who asks; its URL."""

    class Noting(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            seen.append(self.headers["user-agent"])
            self.send_response(204)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the parent's name for it
            return

    with HTTPServer(("127.0.0.1", 0), Noting) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def test_the_command_line_prints_it() -> None:
    done = flowhook("--version")
    assert (done.returncode, done.stdout) == (0, f"flowhook {VERSION}\n")


def test_send_tells_it_to_the_receiver() -> None:
    seen: list[str | None] = []
    with agents(seen) as url:
        done = flowhook("send", "packets.updated", "--url", url, WEBHOOK_SECRET=SECRET.decode())
    assert done.returncode == 0, done.stdout
    assert seen == [f"flowhook/{VERSION}"]
