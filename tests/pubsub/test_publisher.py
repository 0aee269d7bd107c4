"""Group commit by itself: against a strict service of the test's own, and the real emulator."""

import asyncio
import gc
import weakref
from collections.abc import Awaitable, Callable, Sequence
from typing import NoReturn

import pytest

from flowhook.cli.pubsub_emulator import Emulator
from flowhook.errors import PublishFailed
from flowhook.pubsub import publisher
from flowhook.pubsub.client import PubSub
from flowhook.pubsub.messages import MAX_MESSAGE, Message
from flowhook.pubsub.publisher import MAX_IN_FLIGHT, InvalidError, Publisher, UnavailableError
from tests.support import broker

BAD = b"bad"


class Tracked(dict[str, str]):
    """A dictionary that can be referred to weakly, to tell whether anything still holds it."""


class StrictService:
    """Publishes into a list, within the service's limits; each call waits for its turn where there is one."""

    def __init__(self) -> None:
        self.calls: list[list[bytes]] = []
        self.published: list[bytes] = []
        self.in_flight = self.most_in_flight = 0
        self.called = asyncio.Event()
        self.connected = asyncio.Event()
        self.connected.set()
        self.answering = asyncio.Event()
        self.answering.set()
        self.failures: list[Exception] = []

    def encode(self, message: Message) -> bytes:
        if not message.data:
            raise InvalidError("it is empty")
        return message.data

    async def ready(self) -> None:
        await self.connected.wait()

    async def call(self, topic: str, group: Sequence[bytes], timeout: float) -> Sequence[str]:
        assert 0 < len(group) <= 1000
        assert sum(map(len, group)) < MAX_MESSAGE
        self.calls.append(list(group))
        self.called.set()
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            async with asyncio.timeout(timeout):
                await self.answering.wait()
        except TimeoutError:
            raise UnavailableError("DEADLINE_EXCEEDED") from None
        finally:
            self.in_flight -= 1
        if self.failures:
            raise self.failures.pop(0)
        if any(BAD in data for data in group):
            raise InvalidError("one of them is bad")
        self.published += group
        return [f"{topic}-{data.decode()}" for data in group]


def message(data: bytes | int) -> Message:
    return Message(str(data).encode() if isinstance(data, int) else data, {})


async def all_of(*tasks: Awaitable[str]) -> list[str | BaseException]:
    return await asyncio.gather(*tasks, return_exceptions=True)


def run(scenario: Callable[[StrictService, Publisher], Awaitable[None]], timeout: float = 5.0) -> None:
    async def main() -> None:
        service = StrictService()
        await scenario(service, Publisher(service, timeout))
        # A sender may still pause after a failure; then it finds nothing to send, and ends.
        if senders := asyncio.all_tasks() - {asyncio.current_task()}:
            _, going_on = await asyncio.wait(senders, timeout=2)
            assert not going_on, "a sender goes on though nothing waits"

    asyncio.run(main())


def test_a_lone_message_goes_at_once() -> None:
    async def scenario(service: StrictService, made: Publisher) -> None:
        assert await made.publish("t", message(1)) == "t-1"
        assert await made.publish("u", message(2)) == "u-2"
        assert service.calls == [[b"1"], [b"2"]]

    run(scenario)


def test_what_arrives_while_calls_are_under_way_goes_together() -> None:
    async def scenario(service: StrictService, made: Publisher) -> None:
        service.answering.clear()
        tasks = []
        for number in range(100):
            tasks.append(asyncio.create_task(made.publish("t", message(number))))
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        assert [len(call) for call in service.calls] == [1] * MAX_IN_FLIGHT
        service.answering.set()
        assert await all_of(*tasks) == [f"t-{number}" for number in range(100)]
        assert [len(call) for call in service.calls] == [1] * MAX_IN_FLIGHT + [100 - MAX_IN_FLIGHT]
        assert service.most_in_flight == MAX_IN_FLIGHT

    run(scenario)


def test_what_arrives_at_once_is_one_call() -> None:
    async def scenario(service: StrictService, made: Publisher) -> None:
        await all_of(*(made.publish("t", message(number)) for number in range(50)))
        assert [len(call) for call in service.calls] == [50]

    run(scenario)


def test_calls_stay_within_the_limits() -> None:
    """`StrictService.call` refuses more than 1000 messages or 10 MB."""

    async def scenario(service: StrictService, made: Publisher) -> None:
        answers = await all_of(*(made.publish("t", message(number)) for number in range(2500)))
        assert not any(isinstance(answer, BaseException) for answer in answers)
        big = await all_of(*(made.publish("t", message(b"x" * 3_000_000)) for number in range(10)))
        assert not any(isinstance(answer, BaseException) for answer in big)
        assert len(service.published) == 2510

    run(scenario)


@pytest.mark.parametrize("data", [b"", b"x" * MAX_MESSAGE])
def test_what_no_call_can_hold_is_refused_before_it(data: bytes) -> None:
    async def scenario(service: StrictService, made: Publisher) -> None:
        with pytest.raises(PublishFailed):
            await made.publish("t", message(data))
        assert service.calls == []

    run(scenario)


@pytest.mark.parametrize("bad", [{0}, {499}, {7, 8, 300}, set(range(0, 500, 5))])
def test_a_message_that_the_service_refuses_fails_alone(bad: set[int]) -> None:
    async def scenario(service: StrictService, made: Publisher) -> None:
        bodies = [BAD + str(n).encode() if n in bad else str(n).encode() for n in range(500)]
        answers = await all_of(*(made.publish("t", message(body)) for body in bodies))
        assert {n for n, answer in enumerate(answers) if isinstance(answer, PublishFailed)} == bad
        assert sorted(service.published) == sorted(body for body in bodies if BAD not in body)

    run(scenario)


def test_one_poison_message_among_500_at_the_real_broker(emulator: Emulator) -> None:
    """The emulator refuses a message without data and attributes, and the whole call with it."""
    topic = broker.topic(emulator)

    async def scenario() -> list[str | BaseException]:
        made = Publisher(PubSub(emulator.project, emulator.host), 8)
        poisoned = [Message(b"" if n == 250 else b"%d" % n, {}) for n in range(500)]
        return await all_of(*(made.publish(topic, one) for one in poisoned))

    answers = asyncio.run(scenario())
    assert [n for n, answer in enumerate(answers) if isinstance(answer, BaseException)] == [250]
    assert isinstance(answers[250], PublishFailed)
    found = broker.take(emulator, topic, 499)
    assert sorted(one["messageId"] for one in found) == sorted(a for a in answers if isinstance(a, str))


def test_what_fails_for_a_while_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(service: StrictService, made: Publisher) -> None:
        service.failures = [UnavailableError("once"), UnavailableError("twice")]
        answers = await all_of(*(made.publish("t", message(number)) for number in range(10)))
        assert answers == [f"t-{number}" for number in range(10)]
        assert len(service.calls) == 3
        assert service.published == [b"%d" % number for number in range(10)]

    run(scenario)


def test_without_a_connection_it_gives_up_in_time_and_what_it_gave_up_is_never_sent() -> None:
    async def scenario(service: StrictService, made: Publisher) -> None:
        service.connected.clear()
        loop = asyncio.get_running_loop()
        started = loop.time()
        answers = await all_of(*(made.publish("t", message(number)) for number in range(100)))
        assert loop.time() - started < 1
        assert all(isinstance(answer, PublishFailed) for answer in answers)
        assert "there was no connection, or no turn" in str(getattr(answers[0], "remark", ""))
        service.connected.set()
        assert await made.publish("t", message(b"later")) == "t-later"
        assert service.published == [b"later"]

    run(scenario, timeout=0.1)


def test_what_was_given_up_does_not_pile_up() -> None:
    async def scenario(service: StrictService, made: Publisher) -> None:
        service.connected.clear()
        for _ in range(5):
            await all_of(*(made.publish("t", message(number)) for number in range(100)))
        waiting = asyncio.create_task(made.publish("t", message(b"last")))
        await asyncio.sleep(0)
        assert len(made._topics["t"]._queue) == 1
        service.connected.set()
        assert await waiting == "t-last"

    run(scenario, timeout=0.05)


def test_a_dispatcher_that_is_cancelled_is_replaced() -> None:
    async def scenario(service: StrictService, made: Publisher) -> None:
        service.connected.clear()
        for _ in range(2 * MAX_IN_FLIGHT):
            stuck = asyncio.create_task(made.publish("t", message(b"stuck")))
            await asyncio.sleep(0.001)
            dispatcher = made._topics["t"]._dispatcher
            assert dispatcher
            dispatcher.cancel()
            stuck.cancel()
            await asyncio.wait([dispatcher, stuck])
        service.connected.set()
        assert await made.publish("t", message(1)) == "t-1"

    run(scenario)


def test_a_service_that_never_answers_is_given_up_in_time() -> None:
    async def scenario(service: StrictService, made: Publisher) -> None:
        service.answering.clear()
        answers = await all_of(*(made.publish("t", message(number)) for number in range(100)))
        assert all(isinstance(answer, PublishFailed) for answer in answers)
        assert service.published == []
        service.answering.set()
        assert await made.publish("t", message(b"later")) == "t-later"

    run(scenario, timeout=0.1)


def test_the_wait_in_the_queue_counts() -> None:
    """A message that came late has its own deadline, and one that came early does not wait for it."""

    async def scenario(service: StrictService, made: Publisher) -> None:
        service.connected.clear()
        loop = asyncio.get_running_loop()

        async def end_of(number: int) -> float:
            with pytest.raises(PublishFailed):
                await made.publish("t", message(number))
            return loop.time()

        first = asyncio.create_task(end_of(1))
        await asyncio.sleep(0.1)
        between = loop.time()
        second = asyncio.create_task(end_of(2))
        assert await first < between + 0.2 <= await second
        service.connected.set()
        assert await made.publish("t", message(b"later")) == "t-later"

    run(scenario, timeout=0.2)


def test_a_caller_that_goes_away_takes_its_message_along() -> None:
    async def scenario(service: StrictService, made: Publisher) -> None:
        service.connected.clear()
        gone = asyncio.create_task(made.publish("t", message(b"gone")))
        stays = asyncio.create_task(made.publish("t", message(b"stays")))
        await asyncio.sleep(0)
        gone.cancel()
        service.connected.set()
        assert await stays == "t-stays"
        assert service.published == [b"stays"]

    run(scenario)


def test_what_is_wrong_with_a_topic_fails_all_that_wait_for_it_at_once() -> None:
    async def scenario(service: StrictService, made: Publisher) -> None:
        service.answering.clear()
        service.failures = [PublishFailed("The topic does not exist.")] * MAX_IN_FLIGHT
        tasks = [asyncio.create_task(made.publish("t", message(0)))]
        await service.called.wait()
        tasks += [asyncio.create_task(made.publish("t", message(n))) for n in range(1, 3)]
        await asyncio.sleep(0)
        service.answering.set()
        answers = await all_of(*tasks)
        assert all(isinstance(answer, PublishFailed) for answer in answers)
        service.failures.clear()
        assert await made.publish("t", message(b"mended")) == "t-mended"

    run(scenario, timeout=60)


@pytest.mark.parametrize("defect", [KeyError("a defect"), ZeroDivisionError()])
def test_a_defect_reaches_who_waits_and_is_over(defect: Exception) -> None:
    async def scenario(service: StrictService, made: Publisher) -> None:
        service.failures = [defect]
        with pytest.raises(type(defect)):
            await made.publish("t", message(1))
        assert await made.publish("t", message(2)) == "t-2"

    run(scenario, timeout=60)


def test_a_defect_in_encoding_fails_its_message_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(service: StrictService, made: Publisher) -> None:
        encode = service.encode

        def broken(what: Message) -> bytes:
            if what.data == BAD:
                raise ZeroDivisionError
            return encode(what)

        monkeypatch.setattr(service, "encode", broken)
        answers = await all_of(*(made.publish("t", message(data)) for data in (b"1", BAD, b"2")))
        assert isinstance(answers[1], ZeroDivisionError)
        assert [answers[0], answers[2]] == ["t-1", "t-2"]

    run(scenario)


def unanswered(service: StrictService) -> None:
    service.answering.clear()


def unconnected(service: StrictService) -> None:
    service.connected.clear()


def failing(service: StrictService) -> None:
    service.failures = [PublishFailed("The topic does not exist.", "", topic="t")]


def published(_service: StrictService) -> None:
    return


@pytest.mark.parametrize("make", [published, unanswered, unconnected, failing])
def test_nothing_is_left_for_the_garbage_collector(make: Callable[[StrictService], None]) -> None:
    """It runs seldom; until then a cycle would hold the bodies of what has failed."""

    async def scenario(service: StrictService, made: Publisher) -> None:
        make(service)
        attributes = [Tracked(), Tracked(), Tracked()]
        gone = asyncio.Semaphore(0)
        watched = [weakref.ref(one, lambda _: gone.release()) for one in attributes]
        data = (b"1", BAD, b"")
        await all_of(*(made.publish("t", Message(*one)) for one in zip(data, attributes, strict=True)))
        attributes.clear()
        service.connected.set()
        service.answering.set()
        # What is done in time is watched until its time is up, unless something comes after it.
        async with asyncio.timeout(2):
            for _ in watched:
                await gone.acquire()

    gc.disable()
    try:
        run(scenario, timeout=0.2)
    finally:
        gc.enable()


def test_an_answer_with_too_few_ids_is_a_defect(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(service: StrictService, made: Publisher) -> None:
        async def short(topic: str, group: Sequence[bytes], timeout: float) -> Sequence[str]:
            return []

        monkeypatch.setattr(service, "call", short)
        with pytest.raises(ValueError, match="zip"):
            await made.publish("t", message(1))

    run(scenario, timeout=60)


def test_a_connection_that_cannot_be_made_fails_who_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(service: StrictService, made: Publisher) -> None:
        async def refuse() -> None:
            raise PublishFailed("There are no credentials.")

        with monkeypatch.context() as patch:
            patch.setattr(service, "ready", refuse)
            answers = await all_of(*(made.publish("t", message(number)) for number in range(3)))
            assert all(isinstance(answer, PublishFailed) for answer in answers)
        assert await made.publish("t", message(b"later")) == "t-later"

    run(scenario, timeout=60)


def test_it_connects_while_it_looks_for_credentials() -> None:
    async def first_event() -> None:
        connected = asyncio.Event()

        def accept(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            connected.set()
            writer.close()

        async with await asyncio.start_server(accept, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]

            async def find() -> NoReturn:
                await asyncio.wait_for(connected.wait(), 10)
                raise PublishFailed("There are no credentials.", "")

            service = PubSub("demo", f"127.0.0.1:{port}", find)
            with pytest.raises(PublishFailed, match="There are no credentials"):
                await service.ready()
            assert service._channel is not None
            await service._channel.close()

    asyncio.run(first_event())


def test_an_attribute_that_is_not_utf_8_is_refused_before_the_call() -> None:
    with pytest.raises(InvalidError):
        PubSub("demo", "127.0.0.1:1").encode(Message(b"x", {"a": "\ud83d"}))


def test_topics_do_not_wait_for_one_another() -> None:
    async def scenario(service: StrictService, made: Publisher) -> None:
        service.answering.clear()
        stuck = [asyncio.create_task(made.publish("t", message(n))) for n in range(20)]
        await service.called.wait()
        service.called.clear()
        other = asyncio.create_task(made.publish("u", message(1)))
        await service.called.wait()
        service.answering.set()
        assert await other == "u-1"
        await all_of(*stuck)

    run(scenario)


def test_the_pause_between_attempts_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []
    sleep = asyncio.sleep

    async def record(seconds: float) -> None:
        if seconds:
            pauses.append(seconds)
        await sleep(0)

    async def scenario(service: StrictService, made: Publisher) -> None:
        service.failures = [UnavailableError("down")] * 8
        with monkeypatch.context() as patch:
            patch.setattr(asyncio, "sleep", record)
            assert await made.publish("t", message(1)) == "t-1"

    run(scenario)
    assert pauses[:4] == [0.05, 0.1, 0.2, 0.4]
    assert max(pauses) == publisher.LONGEST_PAUSE
