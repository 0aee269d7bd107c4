"""Pub/Sub goes away under load. Nothing that was answered 200 is lost, and everything is answered in time."""

import asyncio
import base64
import hashlib
import json
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import httpx2
import pytest

from flowhook import samples
from flowhook.cli.pubsub_emulator import Emulator
from tests.support import broker
from tests.support.proxy import Proxy, proxy
from tests.support.receiver import SECRET, Receiver, project, receiver, until
from tests.support.tally import Answer, Tally

CLIENTS = 64
TOPIC = "outage"
TIMEOUT = 2.0
SAMPLE = json.loads(samples.load("packets.updated"))
# What Pub/Sub may take to be reached again after its return: "within seconds".
SOON = 5.0


class Load:
    """Clients that send one event after the other, each event another one, until they are told to stop."""

    def __init__(self, url: str) -> None:
        self.tally = Tally()
        self._url = url
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()))

    def __enter__(self) -> "Load":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join()

    def wait_for(self, status: int, count: int = CLIENTS, since: float = 0.0) -> None:
        """Until so many events that were sent after `since` have been answered so."""

        def enough() -> bool:
            answers = list(self.tally.answers)
            return sum(a.status == status and a.at - a.seconds > since for a in answers) >= count

        until(enough)

    async def _run(self) -> None:
        # A connection each: the server closes idle ones after 5 s, and a stopped one does it as it wakes up.
        limits = httpx2.Limits(max_connections=CLIENTS, max_keepalive_connections=0)
        async with httpx2.AsyncClient(limits=limits, timeout=60) as client:
            await asyncio.gather(*(self._send_all(client, number) for number in range(CLIENTS)))

    async def _send_all(self, client: httpx2.AsyncClient, number: int) -> None:
        turn = 0
        while not self._stopping.is_set():
            turn += 1
            body = json.dumps({**SAMPLE, "entityId": f"{number}-{turn}"}).encode()
            started = time.monotonic()
            try:
                response = await client.post(
                    self._url, content=body, headers={"authorization": f"Bearer {SECRET.decode()}"}
                )
                status = response.status_code
            except httpx2.ConnectError:
                return
            except httpx2.TransportError:
                status = 0
            now = time.monotonic()
            self.tally.answers.append(Answer(hashlib.sha256(body).hexdigest(), status, now - started, now))


def take_all(emulator: Emulator, found: Counter[str]) -> int:
    """Add the ids of all the messages that wait; how many there were."""
    taken = 0
    while messages := emulator.pull(TOPIC):
        found.update(hashlib.sha256(base64.b64decode(message["data"])).hexdigest() for message in messages)
        taken += len(messages)
    return taken


def settle(emulator: Emulator, load: Load) -> None:
    """Take messages until everything answered 200 is there, or it is plain that it never will be."""
    last = time.monotonic()
    while load.tally.lost and time.monotonic() - last < 10:
        if take_all(emulator, load.tally.found):
            last = time.monotonic()
    # What is under way to a broker that was stopped may arrive after all of that.
    while time.monotonic() - last < 1:
        if take_all(emulator, load.tally.found):
            last = time.monotonic()


@pytest.fixture
def emulator() -> Iterator[Emulator]:
    """One that a test may kill."""
    with broker.started() as started:
        broker.topic(started, TOPIC)
        yield started


@pytest.fixture
def serve(tmp_path: Path) -> Callable[[str], "Serving"]:
    return lambda host: Serving(tmp_path, host)


class Serving:
    """A receiver that publishes to a broker at `host`, under load for as long as the context lasts."""

    def __init__(self, tmp_path: Path, host: str) -> None:
        self._tmp_path = tmp_path
        self._host = host

    @contextmanager
    def under_load(self) -> Iterator[tuple[Receiver, Load]]:
        settings = {
            "DELIVERY": "pubsub",
            "GOOGLE_CLOUD_PROJECT": "demo",
            "PUBSUB_TOPIC": TOPIC,
            "PUBSUB_EMULATOR_HOST": self._host,
            "DELIVERY_TIMEOUT": str(TIMEOUT),
        }
        with receiver(self._tmp_path, project(self._tmp_path), **settings) as started:
            with Load(started.url) as load:
                load.wait_for(200, 10 * CLIENTS)
                yield started, load
            assert "Traceback" not in started.output()


def check(run: str, emulator: Emulator, load: Load, begun: float, back: float) -> None:
    """The invariants of every outage, that went from `begun` to `back`."""
    settle(emulator, load)
    tally = load.tally
    recovery = tally.first_after(back)
    tally.enter(run, recovery, begun)
    assert tally.lost == set()
    assert {answer.status for answer in tally.answers} <= {200, 503}
    assert tally.with_status(503)
    assert tally.slowest(503, begun) < TIMEOUT + 1
    assert recovery < SOON
    # What has been sent may arrive when its connection is released, and nobody can call that back: what was
    # under way when it began, and what each client has sent once more. So no outage that holds anything
    # lasts until a client has sent a third event.
    assert len(tally.ghosts) <= 2 * CLIENTS


def test_the_broker_is_killed_and_comes_back(emulator: Emulator, serve: Callable[[str], Serving]) -> None:
    with proxy(emulator.host) as between, serve(between.address).under_load() as (running, load):
        # The emulator takes what it holds with it, so what it has acknowledged is taken out first; that
        # is exact only while nobody publishes. The receiver wakes up with its calls under way and cut.
        os.killpg(running.process.pid, signal.SIGSTOP)
        settle(emulator, load)
        emulator.kill()
        os.killpg(running.process.pid, signal.SIGCONT)
        killed = time.monotonic()
        load.wait_for(503, 2 * CLIENTS, since=killed)
        # What reaches a topic that has no subscription yet would be acknowledged and gone.
        between.cut(refuse=True)
        emulator.start()
        broker.topic(emulator, TOPIC)
        between.release()
        back = time.monotonic()
        load.wait_for(200, 10 * CLIENTS, since=back)
    check("killed", emulator, load, killed, back)


def test_the_broker_stalls_and_goes_on(emulator: Emulator, serve: Callable[[str], Serving]) -> None:
    with serve(emulator.host).under_load() as (_, load):
        emulator.process.send_signal(signal.SIGSTOP)
        stalled = time.monotonic()
        load.wait_for(503, CLIENTS, since=stalled)
        emulator.process.send_signal(signal.SIGCONT)
        back = time.monotonic()
        load.wait_for(200, 10 * CLIENTS, since=back)
    check("stalled", emulator, load, stalled, back)


Outage = Callable[[Proxy], AbstractContextManager[None]]


@contextmanager
def silence(between: Proxy) -> Iterator[None]:
    between.hold()
    yield
    between.release()


@contextmanager
def refusal(between: Proxy) -> Iterator[None]:
    between.cut(refuse=True)
    yield
    between.release()


@pytest.mark.parametrize("outage", [silence, refusal])
def test_the_network_goes_away_and_comes_back(
    emulator: Emulator,
    serve: Callable[[str], Serving],
    outage: Outage,
) -> None:
    with proxy(emulator.host) as between, serve(between.address).under_load() as (_, load):
        begun = time.monotonic()
        with outage(between):
            load.wait_for(503, CLIENTS, since=begun)
        back = time.monotonic()
        load.wait_for(200, 10 * CLIENTS, since=back)
    check(f"network: {outage.__name__}", emulator, load, begun, back)


def test_connections_that_are_cut_again_and_again_cost_nobody_an_error(
    emulator: Emulator, serve: Callable[[str], Serving]
) -> None:
    """Each event is published over the next connection, within its time."""
    with proxy(emulator.host) as between, serve(between.address).under_load() as (_, load):
        for _ in range(10):
            cut = time.monotonic()
            between.cut()
            load.wait_for(200, 2 * CLIENTS, since=cut)
    settle(emulator, load)
    load.tally.enter("cut, 10 times", load.tally.first_after(cut))
    assert load.tally.lost == set()
    assert {answer.status for answer in load.tally.answers} == {200}


def test_a_receiver_that_is_stopped_finishes_what_it_has_taken(
    emulator: Emulator, serve: Callable[[str], Serving]
) -> None:
    with serve(emulator.host).under_load() as (running, load):
        stopped = time.monotonic()
        assert running.stop() == 0
        assert time.monotonic() - stopped < 10
    settle(emulator, load)
    load.tally.enter("SIGTERM")
    assert load.tally.lost == set()
    assert load.tally.with_status(503) == set()
    # Lines are written after the answers: the last ones before it ends.
    logged = [line for line in running.deliveries() if line["status"] == 200]
    assert len(logged) == len(load.tally.with_status(200))
