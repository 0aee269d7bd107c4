"""The ledger in Firestore, against the real emulator: claimed by one, whatever happens in between."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from flowhook import once
from flowhook.errors import LedgerUnavailable
from flowhook.firestore import Firestore
from flowhook.once import Answer, Busy, Claimed, Done, Key, Ledger
from tests.support import firestore as emulated
from tests.support.firestore import store
from tests.support.receiver import ROOT, until


@pytest.fixture(scope="module")
def emulator() -> Iterator[emulated.Firestore]:
    with emulated.started() as started:
        yield started


@pytest.fixture
def key(request: pytest.FixtureRequest) -> Key:
    return Key("crm.tell", request.node.name, "")


@pytest.fixture(autouse=True)
def host(monkeypatch: pytest.MonkeyPatch, emulator: emulated.Firestore) -> None:
    monkeypatch.setenv("FIRESTORE_EMULATOR_HOST", emulator.host)


def run(scenario: Callable[[Firestore], Awaitable[Any]]) -> Any:
    async def within() -> Any:
        async with store() as made:
            return await scenario(made)

    return asyncio.run(within())


def test_a_claim_goes_through_its_states(key: Key) -> None:
    async def scenario(made: Firestore) -> None:
        assert await made.claim(key, 60, "one") == Claimed("one")
        # Its answer may have been lost.
        assert await made.claim(key, 60, "one") == Claimed("one")
        assert await made.claim(key, 60, "two") == Busy()
        await made.release(key, "two")
        assert await made.claim(key, 60, "two") == Busy()
        await made.release(key, "one")
        await made.release(key, "one")
        assert await made.claim(key, 60, "two") == Claimed("two")
        await made.record(key, 60)
        await made.release(key, "two")
        assert await made.claim(key, 60, "three") == Done()
        assert await made.claim(key._replace(replay="r"), 60, "three") == Claimed("three")

    run(scenario)


def test_what_has_run_out_is_claimed_again_by_one(key: Key) -> None:
    async def claims_once_it_has_run_out(made: Firestore) -> int:
        while True:
            answers = await asyncio.gather(*(made.claim(key, 60, f"again-{n}") for n in range(20)))
            if claimed := sum(isinstance(answer, Claimed) for answer in answers):
                return claimed
            await asyncio.sleep(0.1)

    async def scenario(made: Firestore) -> None:
        # Long enough that a busy machine makes the second claim within them.
        assert await made.claim(key, 3, "one") == Claimed("one")
        assert await made.claim(key, 3, "two") == Busy()
        assert await claims_once_it_has_run_out(made) == 1
        # The late first one has acted as well; so it has been handled.
        await made.record(key, 3)
        assert await made.claim(key, 60, "three") == Done()
        assert await claims_once_it_has_run_out(made) == 1

    run(scenario)


def test_of_a_hundred_at_once_one_claims_it(key: Key) -> None:
    async def scenario(made: Firestore) -> list[Answer]:
        async with store() as other:
            claims = ((made, other)[n % 2].claim(key, 60, f"t{n}") for n in range(100))
            return await asyncio.gather(*claims)

    answers = run(scenario)
    assert sum(isinstance(answer, Claimed) for answer in answers) == 1
    assert sum(isinstance(answer, Busy) for answer in answers) == 99


def test_a_hundred_duplicates_run_once(key: Key) -> None:
    ran = []

    async def scenario(made: Firestore) -> None:
        ledger = Ledger(made)

        async def deliver() -> None:
            claim = await ledger.claim(key, 5)
            if claim is not None:
                ran.append(key)
                await asyncio.sleep(0.05)
                await ledger.record(key)

        await asyncio.gather(*(deliver() for _ in range(100)))

    run(scenario)
    assert ran == [key]


# Claims, tells so, acts, tells so, and waits to be killed at either place.
KILLED = """
import asyncio, sys
from flowhook.firestore import Firestore
from flowhook.once import Key

async def main():
    store, key = Firestore("demo", "(default)"), Key(*sys.argv[1:4])
    await store.claim(key, 2, "killed")
    print("claimed", flush=True)
    if sys.argv[4] == "after":
        await store.record(key, 60)
        print("recorded", flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""


@pytest.mark.parametrize(("when", "word"), [("before", "claimed"), ("after", "recorded")])
def test_who_is_killed_between_the_steps_leaves_no_more_than_a_lease(
    key: Key, when: str, word: str, tmp_path: Path
) -> None:
    output = tmp_path / "output"
    with output.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-c", KILLED, key.handler, key.event, "r", when],
            cwd=ROOT,
            env=dict(os.environ),
            stdout=out,
        )
    try:
        until(lambda: word in output.read_text())
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    killed = key._replace(replay="r")

    async def scenario(made: Firestore) -> None:
        if when == "after":
            assert await made.claim(killed, 60, "next") == Done()
            return
        assert await made.claim(killed, 60, "next") == Busy()
        started = time.monotonic()
        assert isinstance(await Ledger(made).claim(killed, 5), Claimed)
        assert time.monotonic() - started < 5

    run(scenario)


def test_a_store_that_stalls_is_out_of_reach_and_nothing_is_skipped(
    key: Key, emulator: emulated.Firestore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(once, "PATIENCE", 1.0)

    async def scenario(made: Firestore) -> None:
        ledger = Ledger(made)
        emulator.stall()
        try:
            started = time.monotonic()
            with pytest.raises(LedgerUnavailable):
                await ledger.claim(key, 5)
            assert time.monotonic() - started < 2.5
        finally:
            emulator.go_on()
        monkeypatch.setattr(once, "PATIENCE", 10.0)
        # The claim whose answer was not waited for may have been made: it ends with its lease.
        answer = await made.claim(key, 60, "next")
        assert isinstance(answer, (Claimed, Busy))

    run(scenario)


def test_a_store_that_is_gone_is_out_of_reach(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FIRESTORE_EMULATOR_HOST", "127.0.0.1:1")

    async def scenario(made: Firestore) -> None:
        for act in (
            made.claim(Key("a", "b", "c"), 5, "t"),
            made.record(Key("a", "b", "c"), 5),
            made.release(Key("a", "b", "c"), "t"),
        ):
            with pytest.raises(LedgerUnavailable):
                await act

    run(scenario)
