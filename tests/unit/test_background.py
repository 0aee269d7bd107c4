"""Calls that may hang: in threads of their own, one at a time, waited for and logged once."""

import asyncio
import logging
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import pytest

from flowhook import background
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
        calls = Background("A call", lambda: "answer", 10)
        calls.start(take)
        result = await calls.wait()
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
        calls = Background("A call", hanging, PATIENCE)
        loop = asyncio.get_running_loop()
        began = loop.time()
        for _ in range(50):
            calls.start(take)
            assert not any(await asyncio.gather(calls.wait(), calls.wait()))
        waited = loop.time() - began
        hanging.released.set()
        assert calls._result is not None
        assert await calls._result == "done"
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
        calls = Background("A call", fail, PATIENCE)
        assert await calls.wait() is None
        for _ in range(2):
            calls.start(take)
            result = await calls.wait()
            assert result is not None
            with pytest.raises(OSError, match="gone"):
                result.result()

    asyncio.run(scenario())


def test_a_call_that_hangs_for_long_is_given_up_and_what_it_brings_counts_no_more(
    hanging: Hanging, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(background, "GIVEN_UP_AFTER", PATIENCE)
    taken: list[str] = []

    def call() -> str:
        return hanging() if hanging.calls == 0 else "newer"

    async def scenario() -> None:
        calls = Background("A call", call, PATIENCE)
        calls.start(lambda result: taken.append(result.result()))
        assert await calls.wait() is None
        older = calls._result
        assert older is not None
        calls.start(lambda result: taken.append(result.result()))
        newer = await calls.wait()
        assert newer is not None
        assert newer.result() == "newer"
        hanging.released.set()
        assert await older == "done"
        assert calls._given_up == set()

    asyncio.run(scenario())
    assert taken == ["newer"]


def test_calls_that_all_hang_are_given_up_so_many_times(
    hanging: Hanging, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(background, "GIVEN_UP_AFTER", 0.0)

    async def scenario() -> None:
        calls = Background("A call", hanging, 0.01)
        for _ in range(20):
            calls.start(take)
            assert await calls.wait() is None

    asyncio.run(scenario())
    assert hanging.calls == 1 + background.MAX_GIVEN_UP


def test_without_a_thread_to_be_had_nobody_waits_and_the_log_says_so(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    async def scenario() -> None:
        calls = Background("A call", lambda: "answer", 10)
        with monkeypatch.context() as patched:
            patched.setattr(threading.Thread, "start", refuse)
            calls.start(take)
        assert await calls.wait() is None
        calls.start(take)
        assert await calls.wait() is not None

    asyncio.run(scenario())
    assert "A call can't begin: can't start new thread" in caplog.text


def test_a_call_that_hangs_does_not_keep_the_process_from_ending() -> None:
    script = (
        "import asyncio, time; from flowhook.background import Background\n"
        "async def main():\n"
        "    calls = Background('A call', lambda: time.sleep(600), 0.1)\n"
        "    calls.start(lambda result: None)\n"
        "    assert await calls.wait() is None\n"
        "asyncio.run(main())\n"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, timeout=30, check=False)
    assert done.returncode == 0
