"""What an attack found, and what must not be possible again: from outside, with the real server."""

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from flowhook import samples
from tests.support.receiver import SECRET, project, receiver, until

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
