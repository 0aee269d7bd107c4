"""An incident from its beginning to its end: no event is lost, and every table is true.

A handler fails for one type of events; it is paused, mended and resumed; what it had given up on is sent
again by a command that is killed at random points, over and over; and a handler with `once` has an hour
replayed. INCIDENT_EVENTS=10000 makes it a large one; the line at the end tells what happened.
"""

import os
import random
import re
import time
from contextlib import suppress
from dataclasses import dataclass, field

import pytest

from tests.deploy.test_stories_letters import REPLAY, ran_for, rows, waiting
from tests.support import tally
from tests.support.google_cloud import picture
from tests.support.google_cloud.desk import CHAT, LOG, Desk, Ran
from tests.support.google_cloud.exchange import Killed
from tests.support.google_cloud.flows import body, post
from tests.support.google_cloud.simulated import identity
from tests.support.google_cloud.timeline import stamp

EVENTS = int(os.environ.get("INCIDENT_EVENTS", "300"))
BOOK = "billing.book"
HANDLERS = {LOG: ("*",), CHAT: ("packets.*", "users.*"), BOOK: ("packets.*",)}
BROKEN = ("pipelinesPackets", "updated")
OTHERS = (("pipelinesPackets", "created"), ("users", "updated"), ("pipelines", "created"))
# In hundredths: what comes before the pause, and how many events are of the type that can't be handled.
BEFORE, SHARE = 85, 80
# Seconds: a hundred attempts, and what a killed command had in its hands comes back.
GIVEN_UP, BACK = 17 * 3600, 70
KILLS = 12
# Of a large incident a run gets no further than so many changes, or it would be killed too seldom.
SOONEST = 16


@dataclass
class Sent:
    """The ids of the events that were accepted, by type."""

    by_type: dict[tuple[str, str], list[str]] = field(default_factory=dict)

    def of(self, *types: tuple[str, str]) -> set[str]:
        return {event for one in types for event in self.by_type.get(one, ())}

    @property
    def packets(self) -> set[str]:
        return self.of(BROKEN, OTHERS[0])

    @property
    def chats(self) -> set[str]:
        return self.of(BROKEN, *OTHERS[:2])

    @property
    def all(self) -> set[str]:
        return self.of(*self.by_type)


class Story:
    """A deployment with three handlers, and chance."""

    def __init__(self, desk: Desk, seed: int) -> None:
        self.desk = desk
        self.chance = random.Random(seed)
        self.kills = 0
        desk.handlers(HANDLERS, billing__book={"once": True})
        desk.environment("LEDGER=memory\n")
        assert self.run("--yes").status == 0
        topic = f"projects/p/topics/{REPLAY}"
        # With a time after which it goes it is none of what is compared.
        spy = {"name": "p/s/spy", "topic": topic, "expirationPolicy": {"ttl": "86400s"}}
        desk.plane.pubsub.put("spy", spy)
        desk.plane.simulation.ran.clear()

    def run(self, *words: str) -> Ran:
        ran = self.desk.run(*words)
        assert ran.status == 0, ran.output
        return ran

    def passes(self, seconds: float) -> None:
        self.desk.plane.time.advance(seconds)

    def send(self, numbers: range) -> Sent:
        sent = Sent()
        for number in numbers:
            kind = BROKEN if self.chance.randrange(100) < SHARE else self.chance.choice(OTHERS)
            event = body(number, *kind, self.desk.plane.time.now)
            assert post(self.desk.plane, event, self.desk.accepted[0]) == 200
            sent.by_type.setdefault(kind, []).append(identity(event))
        return sent

    def published(self) -> int:
        """How many messages have ever been published for a replay or a redrive."""
        return waiting(self.desk, "spy")

    def killed(self, changes: int, *words: str) -> str:
        """Run a command, and kill it at one of so many changes; gives what it said."""
        at = self.chance.randrange(min(changes, SOONEST))
        self.desk.plane.kill_at(at, self.chance.choice(("before", "after")))
        with suppress(Killed):
            self.desk.run(*words)
        self.kills += self.desk.plane.revive()
        return "\n".join(self.desk._told)


@pytest.mark.parametrize("seed", range(4 if EVENTS < 1000 else 1))
def test_each_event_reaches_its_handler_and_no_other_gets_one_again(desk: Desk, seed: int) -> None:
    started, story = time.monotonic(), Story(desk, seed)
    plane = desk.plane
    plane.simulation.failing_for.add((CHAT, "packets.updated"))
    early = story.send(range(EVENTS * BEFORE // 100))
    story.passes(GIVEN_UP)
    given_up = early.of(BROKEN)
    assert waiting(desk) == len(given_up) > 100

    late, began = paused_mended_and_resumed(story)
    everything = {LOG: early.all | late.all, BOOK: early.packets | late.packets}
    assert_once(desk, {**everything, CHAT: early.chats - given_up | late.chats})

    twice = redriven_over_and_over(story, len(given_up))
    assert_once(desk, everything)
    chat = ran_for(desk)[CHAT]
    assert set(chat) == early.chats | late.chats
    assert {event for event, times in chat.items() if times > 1} <= given_up
    assert sum(chat.values()) == len(chat) + twice

    redriven, before = story.kills, story.published()
    replayed(story, began, len(late.packets))
    assert_once(desk, {LOG: everything[LOG], BOOK: early.packets - late.packets})
    assert {ran_for(desk)[BOOK][event] for event in late.packets} == {2}
    assert ran_for(desk)[CHAT] == chat
    tally.NOTES.append(
        f"an incident of {EVENTS} events, {time.monotonic() - started:.0f} s: {len(given_up)} dead letters, "
        f"redriven with {redriven} kills, {twice} of them sent twice, 0 lost; {len(late.chats)} waited while "
        f"paused; a replay of {len(late.packets)} to a handler with once, {story.kills - redriven} kills, "
        f"{story.published() - before} sent, {plane.simulation.duplicates} of them not run again"
    )


def assert_once(desk: Desk, expected: dict[str, set[str]]) -> None:
    """Each of these handlers has run for each of these events, and for each once."""
    for handler, events in expected.items():
        counts = ran_for(desk)[handler]
        assert events <= set(counts)
        assert {counts[event] for event in events} == {1}


def paused_mended_and_resumed(story: Story) -> tuple[Sent, float]:
    """What is sent meanwhile waits, and is handled afterwards; gives it, and when it was sent."""
    desk, plane = story.desk, story.desk.plane
    before = picture.taken(plane)
    story.run("pause", CHAT)
    story.passes(3600)
    began = plane.time.now
    late = story.send(range(EVENTS * BEFORE // 100, EVENTS))
    story.passes(600)
    assert f"; about {len(late.chats)} wait, the oldest until " in story.run("status").output
    assert not late.chats & set(ran_for(desk)[CHAT])
    plane.simulation.failing_for.clear()
    assert f"handler {CHAT}: paused since" in story.run("--yes").output
    story.run("resume", CHAT)
    after = picture.taken(plane)
    assert after["subscriptions"] == before["subscriptions"]
    assert after["alerts"] == before["alerts"]
    story.passes(600)
    return late, began


def redriven_over_and_over(story: Story, count: int) -> int:
    """Kill it until nothing is left; gives how many letters were sent twice."""
    desk = story.desk
    listed = story.run("dead-letters", "list")
    assert len(rows(listed)) == count
    assert f"{count} dead-letters; {count} seen of about {count}." in listed.output
    start = story.published()
    while waiting(desk):
        before, left = story.published(), waiting(desk)
        told = story.killed(requests(left) + 1, "dead-letters", "redrive", "--yes")
        check_table(told, left, story.published() - before)
        # Sometimes the next one comes at once, and finds what the last had in its hands gone.
        story.passes(story.chance.choice((0, BACK)))
        if story.kills > KILLS + count // 50:
            story.passes(BACK)
            before = story.published()
            ran = story.run("dead-letters", "redrive", "--yes")
            assert f"Sent again: {story.published() - before} to {CHAT}." in ran.output
    # What is measured is minutes late.
    story.passes(300)
    assert "0 dead-letters; 0 seen of about 0." in story.run("dead-letters", "list").output
    twice = story.published() - start - count
    assert 0 <= twice <= 100 * story.kills
    return twice


def check_table(told: str, left: int, published: int) -> None:
    """What a command said, killed or not, is so: of what waited, and of what was published."""
    seen = [
        int(number) for number in re.findall(r"^(\d+) of .*; \d+ seen of about \d+\.$", told, re.MULTILINE)
    ]
    assert all(number <= left for number in seen)
    sent = [int(number) for number in re.findall(r"^(\d+) of \d+ sent$", told, re.MULTILINE)]
    # What is not told yet is one request's worth at most.
    assert 0 <= published - max(sent, default=0) <= 100
    if whole := re.search(r"^Sent again: (\d+) to", told, re.MULTILINE):
        assert int(whole[1]) == published


def requests(count: int) -> int:
    """How many it takes to publish and to acknowledge so many; some others come before and after them."""
    return 2 * (count // 100 + 1)


def replayed(story: Story, began: float, count: int) -> None:
    """An hour, for the handler with `once`, killed over and over under one id."""
    words = ("replay", BOOK, "--from", stamp(began - 1), "--to", stamp(began + 3600), "--yes")
    assert f"At least {count} events" in story.run(*words[:-1], "--dry-run").output
    before = len(story.desk.plane.pubsub.waiting("spy"))
    for _ in range(KILLS):
        told = story.killed(requests(count) + 7, *words)
        if "sent to" in told or "all of it has been sent" in told:
            break
    else:
        story.run(*words)
    story.passes(BACK)
    sent = story.desk.plane.pubsub.waiting("spy")[before:]
    assert len({message.attributes["replay"] for message in sent}) == 1
    assert {message.attributes["handler"] for message in sent} == {BOOK}
