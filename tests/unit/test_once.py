"""The ledger: what a handler with `once` has handled is not handled again, and nothing is ever skipped."""

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from flowhook import Event, Reject, calling, once
from flowhook.categories import Pattern
from flowhook.delivery import Outcome
from flowhook.envelope import Envelope
from flowhook.errors import HandlersFailed, InProgress, LedgerUnavailable, PublishFailed, UnknownHandler
from flowhook.handler import Handler
from flowhook.once import Answer, Busy, Claimed, Done, Key, Ledger, Memory
from flowhook.routing import Router
from flowhook.testing import make_event
from tests.support.clock import Clock
from tests.support.routing import forget

EVENT = Envelope.of(make_event("packets.updated"))
OTHER = Envelope.of(make_event("packets.updated", entity_id="another"))
KEY = Key("crm.tell", EVENT.id, "")


class Unreachable(Memory):
    """A store that fails, or stalls, in what is named."""

    def __init__(self, broken: str, stalls: bool = False) -> None:
        super().__init__()
        self.broken = broken
        self._stalls = stalls

    async def _fail(self, name: str) -> None:
        if name == self.broken:
            if self._stalls:
                await asyncio.Event().wait()
            raise LedgerUnavailable("gone")

    async def claim(self, key: Key, lease: float, token: str) -> Answer:
        await self._fail("claim")
        return await super().claim(key, lease, token)

    async def record(self, key: Key, expiry: float) -> None:
        await self._fail("record")
        await super().record(key, expiry)

    async def release(self, key: Key, token: str) -> None:
        await self._fail("release")
        await super().release(key, token)


def handler(function: Callable[[Any], Any], name: str = "crm.tell", *, once: bool = True) -> Handler:
    return Handler(name, (Pattern("*", "*"),), function, once=once)


def router(*handlers: Handler, store: once.Store | None = None, timeout: float = 5.0) -> Router:
    return Router(handlers, timeout, forget, Ledger(store or Memory()))


def run(scenario: Callable[[], Awaitable[Any]]) -> Any:
    async def awaited() -> Any:
        return await scenario()

    return asyncio.run(awaited())


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(once, "WAIT", 0.3)
    monkeypatch.setattr(once, "LOOK", 0.02)
    monkeypatch.setattr(once, "PATIENCE", 0.3)


def test_a_duplicate_is_acknowledged_without_a_call() -> None:
    ran: list[Event] = []
    made = router(handler(ran.append))

    async def scenario() -> list[Outcome]:
        return [await made.deliver(event) for event in (EVENT, EVENT, OTHER)]

    first, second, third = run(scenario)
    assert (first.handlers, first.duplicate) == (("crm.tell",), ())
    assert (second.handlers, second.duplicate) == ((), ("crm.tell",))
    assert second.document()["duplicate"] == ["crm.tell"]
    assert "a duplicate, handled before by crm.tell" in second.describe()
    assert third.handlers == ("crm.tell",)
    assert [event.entity_id for event in ran] == ["pk-7f3a", "another"]


def test_what_is_rejected_is_not_called_again() -> None:
    ran: list[object] = []

    def rejects(event: Event) -> None:
        ran.append(event)
        raise Reject("never")

    made = router(handler(rejects))

    async def scenario() -> list[Outcome]:
        return [await made.deliver(EVENT), await made.deliver(EVENT)]

    first, second = run(scenario)
    assert first.rejected == {"crm.tell": "never"}
    assert second.duplicate == ("crm.tell",)
    assert len(ran) == 1


def test_what_failed_is_called_again_at_once() -> None:
    ran: list[object] = []

    def fails_first(event: Event) -> None:
        ran.append(event)
        if len(ran) == 1:
            raise OSError("the CRM is down")

    made = router(handler(fails_first))

    async def scenario() -> Outcome:
        with pytest.raises(HandlersFailed):
            await made.deliver(EVENT)
        return await made.deliver(EVENT)

    assert run(scenario).handlers == ("crm.tell",)


def test_a_rejection_that_can_not_be_kept_is_called_again() -> None:
    ran: list[object] = []

    def rejects(event: Event) -> None:
        ran.append(event)
        raise Reject("never")

    async def broken(event: Envelope, name: str, reason: str) -> bool:
        raise PublishFailed("There is no topic.")

    made = Router((handler(rejects),), 5, broken, Ledger(Memory()))

    async def scenario() -> None:
        for _ in range(2):
            with pytest.raises(PublishFailed):
                await made.deliver(EVENT)

    run(scenario)
    assert len(ran) == 2


def test_of_a_hundred_duplicates_at_once_one_runs_and_the_others_wait_for_it() -> None:
    ran: list[object] = []

    async def slow(event: Event) -> None:
        ran.append(event)
        await asyncio.sleep(0.1)

    made = router(handler(slow))

    async def scenario() -> list[Outcome]:
        return await asyncio.gather(*(made.deliver(EVENT) for _ in range(100)))

    outcomes = run(scenario)
    assert len(ran) == 1
    assert sum(outcome.handlers == ("crm.tell",) for outcome in outcomes) == 1
    assert sum(outcome.duplicate == ("crm.tell",) for outcome in outcomes) == 99


def test_a_duplicate_that_waits_too_long_must_come_again() -> None:
    release = threading.Event()
    made = router(handler(lambda event: release.wait(30) and None))

    async def scenario() -> Outcome:
        first = asyncio.create_task(made.deliver(EVENT))
        await asyncio.sleep(0.05)
        with pytest.raises(InProgress) as busy:
            await made.deliver(EVENT)
        assert (busy.value.status, busy.value.headers["Retry-After"]) == (503, "10")
        release.set()
        return await first

    assert run(scenario).handlers == ("crm.tell",)


def test_a_thread_that_outlives_its_time_keeps_its_lease(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(once, "LEASE_MARGIN", 0.6)
    monkeypatch.setattr(once, "WAIT", 0.1)
    release = threading.Event()
    made = router(handler(lambda event: release.wait(30) and None), timeout=0.1)

    async def scenario() -> Outcome:
        with pytest.raises(HandlersFailed):
            await made.deliver(EVENT)
        with pytest.raises(InProgress):
            await made.deliver(EVENT)
        release.set()
        monkeypatch.setattr(once, "WAIT", 5)
        return await made.deliver(EVENT)

    started = time.monotonic()
    assert run(scenario).handlers == ("crm.tell",)
    # Not before the lease of the first call had ended.
    assert time.monotonic() - started > 0.7


def test_a_coroutine_that_outlives_its_time_is_ended_and_called_again_at_once() -> None:
    ran: list[object] = []

    async def hangs_first(event: Event) -> None:
        ran.append(event)
        if len(ran) == 1:
            await asyncio.Event().wait()

    made = router(handler(hangs_first), timeout=0.1)

    async def scenario() -> Outcome:
        with pytest.raises(HandlersFailed):
            await made.deliver(EVENT)
        return await made.deliver(EVENT)

    assert run(scenario).handlers == ("crm.tell",)


def test_a_handler_that_blocked_the_loop_has_acted_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calling, "HELD_UP", 0.1)

    async def blocks(event: Event) -> None:
        time.sleep(0.3)  # noqa: ASYNC251 - the mistake that this is about

    made = router(handler(blocks), timeout=0.1)

    async def scenario() -> Outcome:
        with pytest.raises(HandlersFailed):
            await made.deliver(EVENT)
        return await made.deliver(EVENT)

    assert run(scenario).duplicate == ("crm.tell",)


@pytest.mark.parametrize("stalls", [False, True])
def test_without_the_ledger_nothing_runs_and_nothing_is_skipped(stalls: bool) -> None:
    ran: list[object] = []
    store = Unreachable("claim", stalls)
    made = router(handler(ran.append), store=store)

    async def scenario() -> Outcome:
        with pytest.raises(LedgerUnavailable) as gone:
            await made.deliver(EVENT)
        assert gone.value.status == 503
        assert ran == []
        store.broken = ""
        return await made.deliver(EVENT)

    assert run(scenario).handlers == ("crm.tell",)


@pytest.mark.parametrize("stalls", [False, True])
def test_what_can_not_be_recorded_is_handled_and_told(stalls: bool, caplog: pytest.LogCaptureFixture) -> None:
    made = router(handler(lambda event: None), store=Unreachable("record", stalls))
    assert run(lambda: made.deliver(EVENT)).handlers == ("crm.tell",)
    assert f"crm.tell has handled event {EVENT.id}, and that can't be recorded" in caplog.text


def test_a_claim_that_can_not_be_released_ends_with_its_lease(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(once, "LEASE_MARGIN", 0.1)
    ran: list[object] = []

    def fails_first(event: Event) -> None:
        ran.append(event)
        if len(ran) == 1:
            raise OSError

    made = router(handler(fails_first), store=Unreachable("release"), timeout=0.1)

    async def scenario() -> Outcome:
        with pytest.raises(HandlersFailed):
            await made.deliver(EVENT)
        return await made.deliver(EVENT)

    assert run(scenario).handlers == ("crm.tell",)
    assert "it ends with its lease" in caplog.text


def test_what_fails_for_good_is_named_although_another_is_to_come_again() -> None:
    def fails(event: Event) -> None:
        raise OSError

    made = router(handler(print), handler(fails, "m.fails", once=False), store=Unreachable("claim"))
    with pytest.raises(HandlersFailed) as failure:
        run(lambda: made.deliver(EVENT))
    assert failure.value.members["failed"] == ["crm.tell", "m.fails"]


def test_handlers_without_once_are_called_for_every_delivery() -> None:
    ran: list[object] = []
    made = router(handler(ran.append, once=False), store=Unreachable("claim"))

    async def scenario() -> None:
        for _ in range(3):
            assert (await made.deliver(EVENT)).handlers == ("crm.tell",)

    run(scenario)
    assert len(ran) == 3


def test_a_replay_runs_once_more_and_reaches_its_handler_alone() -> None:
    ran: list[str] = []
    made = router(
        handler(lambda event: ran.append("a"), "m.a"), handler(lambda event: ran.append("b"), "m.b")
    )
    replayed = EVENT._replace(handler="m.a", replay="incident-7")

    async def scenario() -> Outcome:
        await made.deliver(EVENT)
        for _ in range(2):
            outcome = await made.behind("/replay")(replayed)
        await made.behind("/replay")(replayed._replace(replay="incident-8"))
        for missing in ("m.nobody", ""):
            with pytest.raises(UnknownHandler):
                await made.behind("/replay")(replayed._replace(handler=missing))
        return outcome

    assert run(scenario).duplicate == ("m.a",)
    assert sorted(ran) == ["a", "a", "a", "b"]


def test_the_attribute_handler_means_nothing_on_any_other_path() -> None:
    made = router(handler(lambda event: None, "m.a"), handler(lambda event: None, "m.b"))
    outcome = run(lambda: made.deliver(EVENT._replace(handler="m.a", replay="x")))
    assert outcome.handlers == ("m.a", "m.b")


def test_the_attribute_replay_runs_nothing_again_on_any_other_path() -> None:
    ran: list[object] = []
    made = router(handler(ran.append, "m.a"))

    async def scenario() -> None:
        for event in (EVENT, EVENT._replace(replay="x"), EVENT._replace(handler="m.a", replay="y")):
            await made.behind("/m.a")(event)
            await made.deliver(event)

    run(scenario)
    assert len(ran) == 1


def test_the_memory_claims_records_releases_and_forgets(clock: Clock) -> None:
    memory = Memory(clock)

    async def scenario() -> None:
        assert await memory.claim(KEY, 10, "one") == Claimed("one")
        assert await memory.claim(KEY, 10, "two") == Busy()
        await memory.release(KEY, "two")
        assert await memory.claim(KEY, 10, "two") == Busy()
        await memory.release(KEY, "one")
        assert await memory.claim(KEY, 10, "two") == Claimed("two")
        clock.now += 11
        assert await memory.claim(KEY, 10, "three") == Claimed("three")
        await memory.release(KEY, "two")
        assert await memory.claim(KEY, 10, "four") == Busy()
        await memory.record(KEY, 100)
        assert await memory.claim(KEY, 10, "four") == Done()
        await memory.release(KEY, "three")
        assert await memory.claim(KEY, 10, "four") == Done()
        clock.now += 101
        assert await memory.claim(KEY, 10, "four") == Claimed("four")
        assert await memory.claim(KEY._replace(replay="r"), 10, "five") == Claimed("five")

    asyncio.run(scenario())


def test_the_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(once, "MAX_REMEMBERED", 10)
    memory = Memory()

    async def scenario() -> None:
        for number in range(50):
            await memory.record(KEY._replace(event=str(number)), 100)
        assert await memory.claim(KEY._replace(event="49"), 1, "t") == Done()
        assert await memory.claim(KEY._replace(event="0"), 1, "t") == Claimed("t")

    asyncio.run(scenario())
    assert len(memory._entries) == 10


def test_keys_have_names_of_their_own() -> None:
    keys = [KEY, KEY._replace(handler="crm.tell2"), KEY._replace(replay="1"), KEY._replace(event="e")]
    assert len({key.digest for key in keys}) == 4
