"""Large bodies wait for the memory that their parse takes; no shape of a body takes more than that."""

import asyncio
import gc
import os
import re
import signal
import threading
import time
import weakref
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowhook import admission, envelope, events, frozen, runtime
from flowhook.admission import HEAVY, ITERATIONS, PAUSE, Admission, Pause, Room
from flowhook.errors import NotAnEvent, NotAPush, NotJson, Overloaded, Problem, Refused
from flowhook.frozen import FrozenList
from flowhook.pubsub import messages, push
from tests.support import shapes

pytestmark = pytest.mark.slow

# Large enough to be seen above what the interpreter takes anyway.
SIZE, SLACK = 400_000, 7_000_000
# `python -m bench.attack` goes through all of them, in full size.
FIELDS = ("data.value.properties.x", "data.updateMask", "entityPath")
EVENTS = [case for case in shapes.events(SIZE) if case[0].rpartition(" as ")[2] in FIELDS]
PUSHES = [case for case in shapes.pushes(SIZE) if " as message.attributes" in case[0]]
OLD = re.compile(
    rb"\\\\|\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(?P<lone>\\u[dD][89a-fA-F][0-9a-fA-F]{2})"
)


def taken_by(work: Callable[[], object]) -> int:
    """The most bytes that the process had more than before, in a process of its own."""
    reading, writing = os.pipe()
    # The fork must not collect what it did not make: the finalizer of a gRPC channel, for one, waits for ever
    # for a thread that only this process has.
    gc.freeze()
    child = os.fork()
    if child:
        gc.unfreeze()
    else:
        # The highest so far becomes what there is now.
        Path("/proc/self/clear_refs").write_text("5")
        before, kept = peak(), None
        try:
            kept = work()
        except Problem as problem:
            kept = problem
        finally:
            # Nothing is written for work that failed in another way than with a problem.
            os.write(writing, str(peak() - before if kept else "").encode())
            # At once: nothing that this process would do at its end is for a fork of it to do.
            os.kill(os.getpid(), signal.SIGKILL)
    os.close(writing)
    with os.fdopen(reading) as told:
        bytes_taken = told.read()
    os.waitpid(child, 0)
    return int(bytes_taken)


def peak() -> int:
    """The most memory that the process ever had."""
    return 1024 * int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0])


def opened(body: bytes, room: Room | None = None) -> object:
    read = envelope.read(body, room=room)
    # Not `open`: in a fork there are none of the threads that it would wait for.
    return messages.of_event(read), read._large_event(room) if room else read._event()


@pytest.mark.parametrize("make", [make for _, make in EVENTS], ids=[name for name, _ in EVENTS])
def test_no_shape_of_an_event_takes_more_memory_than_is_reserved_for_it(make: Callable[[], bytes]) -> None:
    body = make()
    # As where it is heavy: what is not may be made twice, once without objects.
    room = Room(admission.MAX_PER_BYTE * SIZE + HEAVY, lambda _size: None)
    assert taken_by(lambda: opened(body, room)) <= admission.memory_of(body) + SLACK


@pytest.mark.parametrize("make", [make for _, make in PUSHES], ids=[name for name, _ in PUSHES])
def test_no_shape_of_a_push_takes_much_memory(make: Callable[[], bytes]) -> None:
    body = make()
    assert taken_by(lambda: push.read(body)) <= 2 * push.MAX_STRUCTURE


def test_a_million_wrong_items_are_one_error() -> None:
    body = shapes.EVENTS["data.updateMask"].replace(shapes.MARK, b"[" + b"0," * 999_999 + b"0]")
    assert taken_by(lambda: opened(body)) < 80_000_000
    with pytest.raises(NotAnEvent) as refusal:
        envelope.read(body)
    assert len(refusal.value.members["errors"]) == 1


def test_a_push_of_more_attributes_than_there_can_be_is_none() -> None:
    attributes = b"{" + b",".join(b'"%x":1' % i for i in range(300_000)) + b"}"
    body = shapes.PUSHES["message.attributes"].replace(shapes.MARK, attributes)
    assert taken_by(lambda: push.read(body)) < 20_000_000
    with pytest.raises(NotAPush, match="the body"):
        push.read(body)


def test_a_push_of_the_longest_attributes_is_one() -> None:
    attributes = ",".join(f'"{i}":"{"," * messages.MAX_ATTRIBUTE}"' for i in range(100)).encode()
    read = push.read(shapes.PUSHES["message.attributes"].replace(shapes.MARK, b"{" + attributes + b"}"))
    assert len(read.message.attributes or {}) == 100


@given(
    st.lists(
        st.sampled_from([rb"\\", rb"\ud83d", rb"\uDE00", rb"\n", rb"\u00e9", b"\\", b"u", b"d83d", b"x"])
    )
)
def test_surrogates_are_mended_as_they_were_one_by_one(pieces: list[bytes]) -> None:
    text = b"".join(pieces)
    assert events.mend(text) == OLD.sub(lambda found: rb"\ufffd" if found["lone"] else found[0], text)


@pytest.mark.parametrize("piece", [rb"\\", rb"\ud83d", rb"a\ud83d", rb"\\\ud83d"])
def test_mending_takes_little_memory(piece: bytes) -> None:
    text = piece * (4_000_000 // len(piece))
    assert taken_by(lambda: events.mend(text)) < admission.SURROGATES * len(text)


def test_a_small_body_never_waits() -> None:
    async def ask() -> None:
        full = Admission(100, 0.01)
        held = await full.room(100)
        with pytest.raises(NotJson):
            await envelope.admit(b" " * admission.SMALL, full)
        with pytest.raises(Overloaded):
            await envelope.admit(b" " * (admission.SMALL + 1), full)
        assert held.size == 100

    asyncio.run(ask())


def test_rooms_are_granted_in_the_order_of_asking_and_never_more_than_there_is() -> None:
    async def ask() -> list[int]:
        queue, order, taken = Admission(100, 5), [], 0

        async def work(size: int) -> None:
            nonlocal taken
            room = await queue.room(size)
            taken += room.size
            assert taken <= 100
            order.append(size)
            await asyncio.sleep(0)
            taken -= room.size

        await asyncio.gather(*(work(size) for size in (60, 70, 1, 200, 30, 2)))
        return order

    assert asyncio.run(ask()) == [60, 70, 1, 200, 30, 2]


def test_who_waits_too_long_is_answered_503_and_holds_up_nobody() -> None:
    async def ask() -> None:
        queue = Admission(100, 0.05)
        held = await queue.room(50)
        large = asyncio.create_task(queue.room(80))
        # So that it is the other one whose time is over first.
        await asyncio.sleep(0.03)
        small = asyncio.create_task(queue.room(20))
        with pytest.raises(Overloaded) as refusal:
            await large
        assert (refusal.value.status, refusal.value.headers["Retry-After"]) == (503, "5")
        assert (await small).size == 20
        assert held.size == 50

    asyncio.run(ask())


def test_what_a_sender_has_given_up_takes_no_room() -> None:
    async def ask() -> None:
        queue = Admission(100, 5)
        held = await queue.room(100)
        waiting = asyncio.create_task(queue.room(100))
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.wait([waiting])
        del held
        assert (await queue.room(100)).size == 100

    asyncio.run(ask())


def test_nothing_else_is_parsed_right_after_a_parse() -> None:
    async def ask() -> float:
        loop, queue = asyncio.get_running_loop(), Admission(100, 5)
        held = await queue.room(100)
        waiting = asyncio.create_task(queue.room(100))
        await asyncio.sleep(0)
        freed = loop.time()
        del held
        await waiting
        return loop.time() - freed

    assert asyncio.run(ask()) >= PAUSE * 0.9


@pytest.mark.parametrize(("takes", "pause"), [(0.01, 0.01), (5 * PAUSE, PAUSE)])
def test_after_each_turn_the_loop_is_for_others(takes: float, pause: float) -> None:
    """For as long as the turn took, up to `PAUSE`, though there is memory for all."""

    async def ask() -> list[tuple[float, float]]:
        queue, turns = Admission(100, 5), []

        async def work(size: int) -> None:
            async with queue.turn((lambda: size) if size else None) as room:
                assert (room.size if room else 0) == size
                began = time.monotonic()
                # It blocks the loop, as a parse does.
                time.sleep(takes)  # noqa: ASYNC251
                turns.append((began, time.monotonic()))

        await asyncio.gather(*map(work, (10, 0, 20)))
        return turns

    turns = asyncio.run(ask())
    between = [after[0] - before[1] for before, after in pairwise(turns)]
    # The loop's clock counts milliseconds.
    assert len(between) == 2
    assert all(seconds >= pause - 0.002 for seconds in between)


def test_bodies_are_weighed_with_turns_of_the_loop_in_between() -> None:
    """Weighing 8 MiB keeps the loop for up to 30 ms, and many bodies may be complete at once."""

    async def ask() -> list[int]:
        queue, iterations, weighed = Admission(100, 5), 0, []

        async def count() -> None:
            nonlocal iterations
            while True:
                iterations += 1
                await asyncio.sleep(0)

        def weigh() -> int:
            # It blocks the loop, as weighing does.
            time.sleep(2 * admission.SLACK)
            weighed.append(iterations)
            return 10

        async def work() -> None:
            async with queue.turn(weigh):
                pass

        counting = asyncio.create_task(count())
        await asyncio.gather(*(work() for _ in range(3)))
        counting.cancel()
        return weighed

    assert all(after - before >= ITERATIONS for before, after in pairwise(asyncio.run(ask())))


@pytest.mark.parametrize(("apart", "owed"), [(0.0, [False, False, False, True]), (1.0, [False] * 4)])
def test_short_blocks_follow_each_other_until_they_owe_a_pause(
    monkeypatch: pytest.MonkeyPatch, apart: float, owed: list[bool]
) -> None:
    now, pause, seen = 1000.0, Pause(), []
    monkeypatch.setattr(time, "monotonic", lambda: now)
    for _ in owed:
        now += apart
        with pause.after():
            now += 0.3 * admission.SLACK
        seen.append(pause.owed)
    assert seen == owed
    assert pause.left == pytest.approx(1.2 * admission.SLACK if owed[-1] else 0.0)


def test_who_waits_too_long_for_a_turn_is_answered_503() -> None:
    async def ask() -> None:
        queue = Admission(100, 0.05)
        async with queue.turn():
            with pytest.raises(Overloaded):
                async with queue.turn(lambda: 10):
                    pytest.fail("there is one turn at a time")
        async with queue.turn(lambda: 100) as room:
            assert room is not None

    asyncio.run(ask())


def test_large_bodies_take_turns_whatever_becomes_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    bodies = [
        shapes.EVENTS["a new field"].replace(shapes.MARK, b'"' + b"a" * admission.SMALL + b'"'),
        b" " * 2 * admission.SMALL,
        b"[" + b"0," * admission.SMALL + b"0]",
    ]

    async def ask() -> int:
        queue, begun = Admission(admission.MAX_PARSED, 5), 0
        turn = queue.turn

        def counted(weigh: Callable[[], int] | None = None) -> AbstractAsyncContextManager[Room | None]:
            nonlocal begun
            begun += 1
            return turn(weigh)

        monkeypatch.setattr(queue, "turn", counted)
        pushed = [push.event(shapes.carrying(body), queue, keep) for body in bodies]
        await asyncio.gather(*(envelope.admit(b, queue) for b in bodies), *pushed, return_exceptions=True)
        return begun

    async def keep(_body: bytes, _problem: Refused) -> None:
        return

    # A push is read in a turn, and its event in another.
    assert asyncio.run(ask()) == 3 * len(bodies)


def test_a_thread_that_hangs_holds_the_room_of_its_event() -> None:
    release = threading.Event()

    async def ask() -> None:
        queue = Admission(HEAVY, 0.05)
        body = next(make() for name, make in shapes.events(100_000) if name.endswith("as a new field"))
        room = await queue.room(admission.memory_of(body))
        event = await envelope.read(body, room=room).open()
        hanging = threading.Thread(target=lambda event: release.wait(30), args=[event])
        hanging.start()
        del room, event
        with pytest.raises(Overloaded):
            await queue.room(HEAVY)
        release.set()
        await asyncio.to_thread(hanging.join)
        # It forgets its arguments when it ends.
        assert (await queue.room(HEAVY)).size == HEAVY

    asyncio.run(ask())


def test_a_heavy_body_is_parsed_once_and_agrees() -> None:
    body = shapes.EVENTS["a new field"].replace(shapes.MARK, b"[" + b"[]," * 1000 + b"[]]")
    room = Room(HEAVY + 1, lambda size: None)
    read = envelope.read(body, room=room)
    assert read == envelope.read(body, room=room)
    assert read._replace(room=None) == envelope.read(body)
    event = asyncio.run(read.open())
    assert event == asyncio.run(envelope.read(body).open())
    assert event.model_extra is not None
    assert all(type(part) is FrozenList for part in (event.model_extra["new"], *event.model_extra["new"]))


def test_to_judge_a_heavy_body_nothing_is_frozen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Freezing takes up to four times as long as the parse, and blocks everything as it does."""
    seen: list[object] = []
    monkeypatch.setattr(events, "freeze", seen.append)
    body = shapes.EVENTS["a new field"].replace(shapes.MARK, b"[" + b"[]," * 1000 + b"[]]")
    assert envelope.read(body, room=Room(HEAVY + 1, lambda size: None)).type == "users.updated"
    assert seen == []


@pytest.mark.parametrize("size", [HEAVY, HEAVY + 1])
def test_a_large_event_is_frozen_apart_from_the_loop(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    threads = []

    def freeze(document: object) -> object:
        threads.append(threading.current_thread())
        return frozen.freeze(document)

    monkeypatch.setattr(events, "freeze", freeze)
    body = shapes.EVENTS["a new field"].replace(shapes.MARK, b"[" + b"[]," * 1000 + b"[]]")
    asyncio.run(envelope.read(body, room=Room(size, lambda _size: None)).open())
    assert len(threads) == 1
    assert threads[0] is not threading.main_thread()
    assert gc.isenabled()


def test_the_collector_stays_disabled_until_the_last_who_needs_that_is_done() -> None:
    with runtime.unwatched():
        with runtime.unwatched():
            assert not gc.isenabled()
        assert not gc.isenabled()
    assert gc.isenabled()
    gc.unfreeze()


def test_what_is_heavy_is_nothing_for_the_collector_until_it_is_gone() -> None:
    async def ask() -> tuple[int, int]:
        gc.collect()
        queue = Admission(2 * HEAVY, 1)
        room = await queue.room(HEAVY + 1)
        with runtime.unwatched():
            cycle: list[object] = [weakref.ref(room)]
            cycle.append(cycle)
        frozen = gc.get_freeze_count()
        kept = weakref.ref(gone := threading.Event())
        cycle.append(gone)
        del cycle, gone
        gc.collect()
        assert kept() is not None
        del room
        await asyncio.sleep(PAUSE)
        assert kept() is None
        return frozen, gc.get_freeze_count()

    threshold = gc.get_threshold()
    try:
        assert all(count > 0 for count in asyncio.run(ask()))
        assert gc.isenabled()
    finally:
        gc.unfreeze()
        gc.set_threshold(*threshold)


def test_what_is_parsed_in_a_thread_takes_turns_with_what_is_parsed_on_the_loop(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A parse in a thread keeps the loop from running as one on the loop does."""
    times: list[tuple[float, float]] = []
    read_json = events.read_json
    body = shapes.EVENTS["a new field"].replace(shapes.MARK, b'"' + b"a" * envelope.BRIEF + b'"')

    def block() -> None:
        began = time.monotonic()
        time.sleep(2 * PAUSE)
        times.append((began, time.monotonic()))

    def slow(body: bytes) -> object:
        assert threading.current_thread() is not threading.main_thread()
        block()
        return read_json(body)

    async def ask() -> None:
        queue = Admission(admission.MAX_PARSED, 5)
        admitted = [await envelope.admit(body, queue) for _ in range(2)]

        async def work() -> None:
            async with queue.turn():
                block()

        await asyncio.gather(admitted[0].open(), work(), admitted[1].open(), work())

    monkeypatch.setattr(events, "read_json", slow)
    asyncio.run(ask())
    assert len(times) == 4
    # The loop's clock counts milliseconds.
    assert all(after[0] - before[1] >= PAUSE - 0.002 for before, after in pairwise(sorted(times)))


def test_a_turn_that_was_the_last_of_a_loop_leaves_the_next_loop_its_own() -> None:
    """As where each request of a test has a loop of its own."""
    queue = Admission(100, 0.05)

    async def work() -> None:
        async with queue.turn():
            # It blocks the loop, as a parse does.
            time.sleep(PAUSE)  # noqa: ASYNC251

    for _ in range(2):
        asyncio.run(work())
