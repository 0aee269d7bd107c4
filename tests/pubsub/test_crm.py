"""The documents' CRM example: one post for each packet that became won, whatever is delivered, fails or dies.

CRM_EVENTS=2000 makes it as large as it was when it was written; the table at the end tells what happened.
"""

import json
import os
import random
import re
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from subprocess import Popen

import httpx2
import pytest

from flowhook import samples
from flowhook.cli.pubsub_emulator import Emulator
from flowhook.cli.run import listens
from tests.support import broker, tally
from tests.support import firestore as emulated
from tests.support.crm import Crm
from tests.support.ports import free_port
from tests.support.pusher import pushing
from tests.support.receiver import ROOT, SECRET, end, pinned, project, start, until

EVENTS = int(os.environ.get("CRM_EVENTS", "150"))
KILLS = 3 if EVENTS < 500 else 8
SENDERS = 16
TOKEN = "token-of-the-crm"
PATIENCE = 120.0
DOCUMENT = ROOT / "docs" / "handlers.md"
# The example's times are those of production; nobody waits for them here.
HASTE = """
from flowhook import once
once.LEASE_MARGIN, once.WAIT = 3.0, 2.0
"""
# Seconds that a call may take from the post to its record, when its process is killed in between.
UNRECORDED = 3.0


def example() -> str:
    """The handler of the document, with times for the impatient."""
    blocks = re.findall(r"```python\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)
    source: str = next(block for block in blocks if "def tell_crm(" in block)
    return source.replace("timeout=15", "timeout=4").replace("TIMEOUT = 10", "TIMEOUT = 2")


@dataclass
class Deliveries:
    """The events, each with the number of times that it is delivered, and which packets became won."""

    bodies: list[bytes] = field(default_factory=list)
    won: set[str] = field(default_factory=set)


def made(seed: int) -> Deliveries:
    """Updates of every kind, in an order that nobody chose."""
    choose = random.Random(seed)
    deliveries = Deliveries()
    for number in range(EVENTS):
        kind = choose.choice(["won", "won", "lost", "title", "was won", "created won"])
        document = json.loads(samples.load("packets.updated"))
        document["entityPath"] = f"pipelinesPackets/p{number}"
        states = document["data"]["oldValue"]["properties"], document["data"]["value"]["properties"]
        before, after = {
            "won": ("open", "won"),
            "lost": ("won", "lost"),
            "title": ("open", "open"),
            "was won": ("won", "won"),
            "created won": ("open", "won"),
        }[kind]
        states[0].update(status=before, title="before")
        states[1].update(status=after, title="after")
        document["data"]["updateMask"] = choose.choice([None, ["properties"], ["title", "properties.status"]])
        if kind == "created won":
            document["operationType"] = "created"
        if kind == "won":
            deliveries.won.add(document["entityPath"])
        deliveries.bodies += [json.dumps(document).encode()] * choose.randint(1, 4)
    choose.shuffle(deliveries.bodies)
    return deliveries


class Served:
    """A function in a process of its own, that is killed and started again."""

    def __init__(self, folder: Path, source: Path, target: str, settings: dict[str, str]) -> None:
        self.port = free_port()
        # When it was killed, and when it served again.
        self.kills: list[tuple[float, float]] = []
        self._folder, self._source, self._target, self._settings = folder, source, target, settings
        self._process: Popen[bytes] | None = None
        self._starts = 0
        self.start()

    def start(self) -> None:
        self._starts += 1
        output = self._folder / f"{self._target}-{self._starts}"
        self._process = start(self._source, self.port, output, self._settings, self._target)
        until(lambda: listens(self.port))

    def kill(self) -> None:
        killed = time.monotonic()
        self.end()
        self.start()
        self.kills.append((killed, time.monotonic()))

    def end(self) -> None:
        assert self._process is not None
        end(self._process)

    def answers(self) -> Counter[str]:
        """How many times each outcome was answered."""
        lines = [
            json.loads(line)
            for path in self._folder.glob(f"{self._target}-*")
            for line in path.read_text().splitlines()
            if line.startswith("{") and '"outcome"' in line
        ]
        return Counter("duplicate" if line.get("duplicate") else line["outcome"] for line in lines)


def send(port: int, body: bytes) -> None:
    """Deliver until it is accepted, as the platform does."""
    proof = pinned("bearer").sign(SECRET, body)
    deadline = time.monotonic() + PATIENCE
    while True:
        with suppress(httpx2.TransportError):
            answer = httpx2.post(f"http://127.0.0.1:{port}", content=body, headers=proof.headers, timeout=20)
            if answer.status_code == 200:
                return
        assert time.monotonic() < deadline, "it was never accepted"
        time.sleep(random.uniform(0.1, 0.5))


@contextmanager
def inline(folder: Path, source: Path, settings: dict[str, str]) -> Iterator[tuple[Served, Served]]:
    receive = Served(folder, source, "receive", settings)
    try:
        yield receive, receive
    finally:
        receive.end()


@contextmanager
def behind(
    folder: Path, source: Path, settings: dict[str, str], emulator: Emulator
) -> Iterator[tuple[Served, Served]]:
    topic = broker.topic(emulator)
    published = {**settings, **broker.settings(emulator, topic)}
    receive, consume = (Served(folder, source, target, published) for target in ("receive", "consume"))
    try:
        emulator.subscribe(f"{topic}-crm", topic)
        with pushing(emulator, f"{topic}-crm", f"http://127.0.0.1:{consume.port}/crm.tell_crm"):
            yield receive, consume
    finally:
        receive.end()
        consume.end()


@pytest.mark.slow
@pytest.mark.parametrize("delivery", ["inline", "pubsub"])
def test_each_packet_that_became_won_is_posted_and_no_other(
    delivery: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    deliveries = made(seed=1)
    source = project(tmp_path, _haste=HASTE, crm=example())
    with Crm(TOKEN) as crm, emulated.started() as firestore:
        settings = {
            "CRM_URL": crm.url,
            "CRM_TOKEN": TOKEN,
            "LEDGER": "firestore",
            "GOOGLE_CLOUD_PROJECT": "demo",
            "FIRESTORE_EMULATOR_HOST": firestore.host,
        }
        serving = (
            inline(tmp_path, source, settings)
            if delivery == "inline"
            else behind(tmp_path, source, settings, request.getfixturevalue("emulator"))
        )
        started = time.monotonic()
        with serving as (receive, runs), ThreadPoolExecutor(SENDERS) as pool:
            sent = [pool.submit(send, receive.port, body) for body in deliveries.bodies]
            for number in range(KILLS):
                share = len(sent) * (number + 1) // (KILLS + 1)
                until(lambda share=share: sum(f.done() for f in sent) >= share, PATIENCE)  # type: ignore[misc]
                (runs if number % 2 else receive).kill()
                if number == 0:
                    crm.restart(1.0)
            for one in sent:
                one.result(PATIENCE)
            try:
                until(lambda: {post.packet for post in crm.posts} >= deliveries.won, PATIENCE)
            except AssertionError:
                missing = deliveries.won - {post.packet for post in crm.posts}
                pytest.fail(
                    f"{sorted(missing)} became won and {len(missing)} were not posted\n{last(tmp_path)}"
                )
            settle(runs)
            seconds = time.monotonic() - started
    judge(delivery, deliveries, crm, runs, seconds)


def last(folder: Path) -> str:
    """The end of each process's output, which says what it did last."""
    outputs = sorted(folder.glob("receive-*")) + sorted(folder.glob("consume-*"))
    return "\n".join(f"--- {path.name}\n{path.read_text()[-4_000:]}" for path in outputs)


def settle(runs: Served) -> None:
    """Wait until nothing has been answered for longer than anything is delivered again."""
    last, since = runs.answers(), time.monotonic()
    while time.monotonic() - since < 8:
        now = runs.answers()
        if now != last:
            last, since = now, time.monotonic()
        time.sleep(0.5)


def judge(delivery: str, deliveries: Deliveries, crm: Crm, runs: Served, seconds: float) -> None:
    counts = Counter(post.packet for post in crm.posts)
    assert set(counts) == deliveries.won
    twice = {packet for packet, count in counts.items() if count > 1}
    allowed = {
        post.packet
        for post in crm.posts
        if not post.answered or any(killed - UNRECORDED < post.at < back for killed, back in runs.kills)
    }
    extra = sum(count - 1 for count in counts.values())
    tally.NOTES.append(
        f"{delivery}: {EVENTS} events, {len(deliveries.bodies)} deliveries, {KILLS} kills, {seconds:.0f} s: "
        f"{len(deliveries.won)} became won, {len(counts)} posted, {extra} posted again, of which the promise "
        f"allows {sum(counts[packet] - 1 for packet in twice & allowed)}; answers {dict(runs.answers())}"
    )
    assert twice <= allowed
