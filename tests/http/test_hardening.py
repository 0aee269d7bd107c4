"""What an attack found, and what must not be possible again: from outside, with the real server."""

import json
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from flowhook import runtime, samples
from flowhook.quota import LINES, SECONDS
from tests.support.receiver import SECRET, Receiver, project, receiver, until

EVENT = samples.load("users.updated")
NEW_SECRET = b"the-new-secret-of-32-characters-"

# More than the loop has threads of its own (32 at most, https://docs.python.org/3/library/concurrent.futures.html).
STUCK = 60
STUCK_HANDLER = """
import asyncio, threading
from flowhook import on

@on("*")
async def get_stuck(event):
    await asyncio.to_thread(threading.Event().wait)
"""


TELLING_HANDLER = """
import sys
from flowhook import on

@on("*")
def tell(event):
    print("interval", round(sys.getswitchinterval(), 6), flush=True)
"""


def test_handlers_that_are_stuck_lock_nobody_out(tmp_path: Path) -> None:
    """They fill the threads that are the loop's, which reading the secret file must not need."""
    path = tmp_path / "secrets"
    path.write_bytes(SECRET)
    settings = {"WEBHOOK_SECRET": "", "WEBHOOK_SECRET_FILE": str(path), "DELIVERY_TIMEOUT": "0.1"}
    with (
        receiver(tmp_path, project(tmp_path, stuck=STUCK_HANDLER), **settings) as started,
        ThreadPoolExecutor(20) as pool,
    ):
        statuses = {answer.status_code for answer in pool.map(started.post, [EVENT] * STUCK)}
        assert statuses == {500}
        path.write_bytes(NEW_SECRET)
        until(lambda: started.post(EVENT, secret=NEW_SECRET).status_code == 500)
        began = time.monotonic()
        assert started.post(EVENT, secret=b"wrong").status_code == 401
        assert time.monotonic() - began < 2


def test_where_a_handler_computes_the_loop_gets_its_turn_soon(tmp_path: Path) -> None:
    """The interval is set at the start; the worker that answers is a fork of the process that started."""
    with receiver(tmp_path, project(tmp_path, telling=TELLING_HANDLER)) as started:
        assert started.post(EVENT).status_code == 200
        until(lambda: f"interval {runtime.SWITCH_INTERVAL}\n" in started.output())


@pytest.mark.parametrize("spoilt", ["gone", "empty", "void"])
def test_a_secret_file_that_is_spoilt_refuses_nobody_at_first(tmp_path: Path, spoilt: str) -> None:
    path = tmp_path / "secrets"
    path.write_bytes(SECRET)
    with receiver(tmp_path, WEBHOOK_SECRET="", WEBHOOK_SECRET_FILE=str(path)) as started:
        if spoilt == "gone":
            path.unlink()
        else:
            path.write_bytes(b"" if spoilt == "empty" else b"whsec_AAAA")

        def is_noticed() -> bool:
            assert started.post(EVENT, secret=b"wrong").status_code == 401
            return "the last good secrets are trusted" in started.output()

        until(is_noticed)
        assert started.post(EVENT).status_code == 200


def test_a_minute_later_the_answer_is_503_whatever_is_sent_until_the_file_is_back(tmp_path: Path) -> None:
    """A module of handlers is imported at the start, so it can make the minute shorter."""
    path = tmp_path / "secrets"
    path.write_bytes(SECRET)
    source = project(tmp_path, clock="from flowhook.secret import SecretFile\nSecretFile.TRUSTED_FOR = 1.5\n")
    with receiver(tmp_path, source, WEBHOOK_SECRET="", WEBHOOK_SECRET_FILE=str(path)) as started:
        path.unlink()
        until(lambda: started.post(EVENT).status_code == 503)
        for body, secret in ((EVENT, SECRET), (EVENT, b"wrong"), (b"{", None)):
            answer = started.post(body, {b"content-type": b"text/plain"}, secret=secret)
            assert answer.status_code == 503
            assert answer.json()["type"] == "urn:flowhook:problem:no-secret"
            assert int(answer.headers["retry-after"]) > 0
        path.write_bytes(SECRET)
        until(lambda: started.post(EVENT).status_code == 200)


def send_raw(started: Receiver, data: bytes) -> bytes:
    """The beginning of what comes back for these bytes, on a connection of their own."""
    with socket.create_connection(("127.0.0.1", started.port), 10) as connection:
        connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)
        return connection.recv(1000)


def unproven(started: Receiver, number: int) -> str:
    """One of the answers before authentication, each in its turn; its slug."""
    match number % 4:
        case 0:
            started.post(EVENT, secret=None)
            return "unauthentic"
        case 1:
            started.client.get("/")
            return "method-not-allowed"
        case 2:
            started.post(b" " * 2_000, secret=None)
            return "body-too-large"
    with socket.create_connection(("127.0.0.1", started.port), 10) as connection:
        connection.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nabc")
        connection.shutdown(socket.SHUT_WR)
        # It closes once it has seen that no more is coming.
        assert connection.recv(1) == b""
    return "incomplete-body"


@pytest.mark.parametrize("count", [LINES, 300])
def test_a_flood_of_unproven_requests_has_few_lines_and_none_is_forgotten(tmp_path: Path, count: int) -> None:
    began = time.monotonic()
    with receiver(tmp_path, MAX_BODY_BYTES="1999") as started:
        with ThreadPoolExecutor(8) as pool:
            sent = list(pool.map(unproven, [started] * count, range(count)))
        assert started.post(EVENT).status_code == 200
        windows = 1 + (time.monotonic() - began) // SECONDS
    lines = [line for line in started.lines() if line["severity"] != "INFO"]
    told = [line["outcome"] for line in lines if "outcome" in line]
    assert min(LINES, count) <= len(told) <= LINES * windows
    for line in lines:
        for slug, number in line.get("left_out", {}).items():
            told += [slug] * number
    assert sorted(told) == sorted(sent)
    assert len([line for line in lines if "left_out" in line]) <= (windows if count > LINES else 0)


def test_what_is_left_out_is_told_with_the_next_request(tmp_path: Path) -> None:
    """The module of handlers makes the ten seconds shorter."""
    source = project(tmp_path, short="from flowhook import quota\nquota.SECONDS = 0.5\n")
    with receiver(tmp_path, source) as started:
        for _ in range(10 * LINES):
            started.post(EVENT, secret=None)
        time.sleep(0.5)
        assert started.post(EVENT).status_code == 200
        started.deliveries()
        last = [line for line in started.lines() if "left_out" in line or line.get("status") == 200]
        assert [line["logger"] for line in last[-2:]] == ["flowhook.edge", "flowhook"]
        assert "event_id" not in last[-2]
        assert last[-2]["message"].endswith(
            f"before they were authentic: {last[-2]['left_out']['unauthentic']} unauthentic"
        )


def test_authentic_deliveries_have_a_line_each(tmp_path: Path) -> None:
    with receiver(tmp_path) as started:
        for body in (EVENT, b"{", b"{}") * LINES:
            started.post(body)
        assert len(started.deliveries()) == 3 * LINES


def test_pipelined_garbage_leaves_nothing_but_json_in_the_log_and_not_much(tmp_path: Path) -> None:
    """The connection is closed while the first request is answered: the server trips over that."""
    head = b"POST / HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %b\r\nContent-Length: %d\r\n\r\n"
    request = head % (SECRET, len(EVENT)) + EVENT
    with receiver(tmp_path) as started:
        for _ in range(30):
            send_raw(started, request + request + b"\x00\xff\r\n")
        assert started.post(EVENT).status_code == 200
        until(lambda: "Exception in ASGI application" in started.output())
    lines = [json.loads(line) for line in started.output().splitlines()]
    of_the_server = [line for line in lines if line["logger"] in ("root", "uvicorn.error")]
    assert 0 < len(of_the_server) <= LINES
    assert all("Traceback" in line.get("stack_trace", line["message"]) for line in of_the_server)
    assert len([line for line in lines if line.get("event_id")]) > 30
