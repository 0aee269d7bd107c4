"""Calls that may hang: in threads of their own, one at a time, waited for and logged once."""

import asyncio
import logging
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import pytest

from flowhook.background import Background
from tests.support.receiver import ROOT

PATIENCE = 0.2


class Hanging:
    """A call that hangs until it is released; counts how often it is made."""

    def __init__(self) -> None:
        self.released = threading.Event()
        self.calls = 0

    def __call__(self) -> str:
        self.calls += 1
        self.released.wait(20)
        return "done"


@pytest.fixture
def hanging() -> Iterator[Hanging]:
    call = Hanging()
    yield call
    call.released.set()


def take(result: asyncio.Future[str]) -> None:
    result.exception()


def test_threads_that_others_have_filled_do_not_keep_it_waiting(hanging: Hanging) -> None:
    async def scenario() -> str:
        loop = asyncio.get_running_loop()
        for _ in range(100):
            loop.run_in_executor(None, hanging)
        background = Background("A call", lambda: "answer", 10)
        background.start(take)
        result = await background.wait()
        assert result is not None
        hanging.released.set()
        return result.result()

    began = time.monotonic()
    assert asyncio.run(scenario()) == "answer"
    assert time.monotonic() - began < 5


def test_a_call_that_hangs_is_made_waited_for_and_logged_once(
    hanging: Hanging, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> float:
        background = Background("A call", hanging, PATIENCE)
        loop = asyncio.get_running_loop()
        began = loop.time()
        for _ in range(50):
            background.start(take)
            assert not any(await asyncio.gather(background.wait(), background.wait()))
        waited = loop.time() - began
        hanging.released.set()
        assert background._result is not None
        assert await background._result == "done"
        return waited

    assert PATIENCE <= asyncio.run(scenario()) < 10 * PATIENCE
    assert hanging.calls == 1
    assert [record.levelno for record in caplog.records] == [logging.ERROR, logging.WARNING]
    assert "A call has taken more than 0.2 s" in caplog.text
    assert "A call has come back" in caplog.text


def test_what_it_raises_reaches_whoever_waits_and_it_can_be_made_again() -> None:
    def fail() -> str:
        raise OSError("gone")

    async def scenario() -> None:
        background = Background("A call", fail, PATIENCE)
        assert await background.wait() is None
        for _ in range(2):
            background.start(take)
            result = await background.wait()
            assert result is not None
            with pytest.raises(OSError, match="gone"):
                result.result()

    asyncio.run(scenario())


def test_without_a_thread_to_be_had_nobody_waits_and_the_log_says_so(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    async def scenario() -> None:
        background = Background("A call", lambda: "answer", 10)
        with monkeypatch.context() as patched:
            patched.setattr(threading.Thread, "start", refuse)
            background.start(take)
        assert await background.wait() is None
        background.start(take)
        assert await background.wait() is not None

    asyncio.run(scenario())
    assert "A call can't begin: can't start new thread" in caplog.text


def test_a_call_that_hangs_does_not_keep_the_process_from_ending() -> None:
    script = (
        "import asyncio, time; from flowhook.background import Background\n"
        "async def main():\n"
        "    background = Background('A call', lambda: time.sleep(600), 0.1)\n"
        "    background.start(lambda result: None)\n"
        "    assert await background.wait() is None\n"
        "asyncio.run(main())\n"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, timeout=30, check=False)
    assert done.returncode == 0
