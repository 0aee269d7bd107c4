"""A handler gets the events of a time again, and nobody else does."""

from collections import Counter
from contextlib import suppress

import pytest

from tests.deploy.test_stories_letters import REPLAY, ran_for
from tests.deploy.test_stories_pausing import name_of
from tests.support.google_cloud.desk import CHAT, LOG, Desk
from tests.support.google_cloud.exchange import Killed
from tests.support.google_cloud.flows import body, post


def send(desk: Desk, numbers: range, collection: str = "pipelinesPackets") -> None:
    for number in numbers:
        event = body(number, collection, "created", desk.plane.time.now)
        assert post(desk.plane, event, desk.accepted[0]) == 200
    desk.plane.time.advance(60)


def litter(desk: Desk) -> list[str]:
    return [name for name in desk.plane.pubsub.found if "replaying" in name]


def test_what_is_meant_is_sent_once_more_to_the_handler_alone(deployed: Desk) -> None:
    send(deployed, range(3))
    deployed.plane.time.advance(3600)
    send(deployed, range(10, 160))
    send(deployed, range(200, 210), "users")
    ran = deployed.run("replay", CHAT, "--since", "30m", "--yes")
    assert ran.status == 0, ran.output
    assert "At least 150 events, from " in ran.output
    deployed.plane.time.advance(60)
    assert Counter(ran_for(deployed)[CHAT].values()) == {1: 3, 2: 150}
    assert set(ran_for(deployed)[LOG].values()) == {1}
    assert litter(deployed) == []


def test_live_subscriptions_are_never_sought(deployed: Desk) -> None:
    send(deployed, range(3))
    ran = deployed.run("replay", CHAT, "--since", "1h", "--yes")
    (sought,) = (request.path for request in ran.requests if request.path.endswith(":seek"))
    assert "flowhook-replaying-" in sought


def test_a_replay_has_an_id_of_its_own(deployed: Desk) -> None:
    send(deployed, range(2))
    deployed.plane.pubsub.put("spy", {"name": "p/s/spy", "topic": f"projects/p/topics/{REPLAY}"})
    for _ in range(2):
        assert deployed.run("replay", CHAT, "--since", "1h", "--yes").status == 0
        deployed.plane.time.advance(5)
    ids = [message.attributes["replay"] for message in deployed.plane.pubsub.waiting("spy")]
    assert sorted(Counter(ids).values()) == [2, 2]
    assert {message.attributes["handler"] for message in deployed.plane.pubsub.waiting("spy")} == {CHAT}


@pytest.mark.parametrize(
    ("words", "count"),
    [
        (["--since", "1h", "--type", "users.*"], 2),
        (["--since", "1h", "--type", "packets.*"], 3),
        (["--from", "2h", "--to", "1h"], 0),
    ],
)
def test_types_and_times_leave_what_is_meant(deployed: Desk, words: list[str], count: int) -> None:
    send(deployed, range(3))
    send(deployed, range(10, 12), "users")
    ran = deployed.run("replay", LOG, *words, "--dry-run")
    assert ran.status == 0, ran.output
    assert (f"At least {count} events" in ran.output) == bool(count)
    assert "Nothing has been sent." in ran.output
    assert litter(deployed) == []


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["mine.nobody", "--since", "1h"], "no handler mine.nobody is deployed"),
        ([CHAT], "since when?"),
        ([CHAT, "--since", "30d"], "the topic has events since "),
        ([CHAT, "--from", "1h", "--to", "2h"], "that is no time in the past"),
    ],
)
def test_what_cannot_be_sent_again_is_told_before_anything_is_done(
    deployed: Desk, words: list[str], told: str
) -> None:
    ran = deployed.run("replay", *words, "--yes")
    assert (ran.status, ran.changes) == (1, [])
    assert told in ran.output


def test_a_paused_handler_gets_nothing(deployed: Desk) -> None:
    assert deployed.run("pause", CHAT).status == 0
    ran = deployed.run("replay", CHAT, "--since", "1h", "--yes")
    assert (ran.status, ran.changes) == (1, [])
    assert name_of(deployed, CHAT)


@pytest.mark.parametrize("moment", ["before", "after"])
def test_killed_over_and_over_each_is_sent_and_the_rest_is_cleared_away(deployed: Desk, moment: str) -> None:
    send(deployed, range(250))
    for number in range(14):
        deployed.killed(number, moment, "replay", CHAT, "--since", "2h", "--yes")  # type: ignore[arg-type]
        deployed.plane.time.advance(70)
    assert deployed.run("replay", CHAT, "--since", "2h", "--yes").status == 0
    deployed.plane.time.advance(70)
    assert len(ran_for(deployed)[CHAT]) == 250
    assert min(ran_for(deployed)[CHAT].values()) >= 2
    assert set(ran_for(deployed)[LOG].values()) == {1}
    assert litter(deployed) == []


def test_one_that_died_before_it_was_sought_is_sought(deployed: Desk) -> None:
    send(deployed, range(5))
    assert deployed.killed(1, "before", "replay", CHAT, "--since", "2h", "--yes")
    assert len(litter(deployed)) == 1
    ran = deployed.run("replay", CHAT, "--since", "2h", "--yes")
    assert "goes on" in ran.output
    assert "At least 5 events" in ran.output


def test_after_a_no_nothing_is_left_behind(deployed: Desk) -> None:
    send(deployed, range(5))
    deployed.answers = [False]
    ran = deployed.run("replay", CHAT, "--since", "2h")
    assert ran.status == 1
    assert litter(deployed) == []


def test_one_that_failed_goes_on_with_what_is_left(deployed: Desk) -> None:
    send(deployed, range(150))
    topic = f"POST pubsub.googleapis.com/v1/projects/flows-demo-1/topics/{REPLAY}"
    deployed.plane.faults.refused[topic] = 403
    ran = deployed.run("replay", CHAT, "--since", "2h", "--yes")
    assert ran.status == 1
    assert "goes on where it stopped" in ran.output
    del deployed.plane.faults.refused[topic]
    assert deployed.run("replay", CHAT, "--since", "2h", "--yes").status == 0
    deployed.plane.time.advance(60)
    assert set(ran_for(deployed)[CHAT].values()) == {2}


@pytest.mark.parametrize("end", ["dry run", "no", "nobody"])
def test_what_was_interrupted_is_not_given_up_by_a_look_or_a_no(deployed: Desk, end: str) -> None:
    send(deployed, range(150))
    words = ("replay", CHAT, "--since", "2h")
    interrupt(deployed, *words)
    deployed.answers = [False] if end == "no" else []
    ran = deployed.run(*words, *(["--dry-run"] if end == "dry run" else []))
    assert "At least 50 events" in ran.output
    assert len(litter(deployed)) == 1
    assert f"50 sent to {CHAT}" in deployed.run(*words, "--yes").output
    deployed.plane.time.advance(60)
    assert set(ran_for(deployed)[CHAT].values()) == {2}


def interrupt(desk: Desk, *words: str) -> None:
    """Kill it at its second request to publish, before that has an effect."""
    desk.bar = lambda text: desk.plane.kill_at(0, "before") if "100 of" in text else None
    with suppress(Killed):
        desk.run(*words, "--yes")
    assert desk.plane.revive()
    desk.bar = None


def test_what_a_killed_run_had_in_its_hands_is_sent_by_the_next(deployed: Desk) -> None:
    """It dies with all of it pulled, and the next run comes at once."""
    send(deployed, range(150))
    interrupt(deployed, "replay", CHAT, "--since", "2h")
    ran = deployed.run("replay", CHAT, "--since", "2h", "--yes")
    assert "At least 50 events" in ran.output
    deployed.plane.time.advance(60)
    assert set(ran_for(deployed)[CHAT].values()) == {2}
    assert litter(deployed) == []


def test_what_was_counted_and_comes_late_is_waited_for(deployed: Desk) -> None:
    """What is pulled by somebody else between counting and sending comes back with its deadline."""
    send(deployed, range(150))
    deployed.bar = lambda text: snatch(deployed) if "100 of" in text else None
    ran = deployed.run("replay", CHAT, "--since", "2h", "--yes")
    assert f"150 sent to {CHAT}" in ran.output
    assert litter(deployed) == []


def snatch(desk: Desk, seconds: float = 60) -> None:
    """Have what waits for the replay hidden for a while."""
    (name,) = litter(desk)
    for waiting in desk.plane.pubsub.found[name].waiting.values():
        waiting.due, waiting.ack_id = desk.plane.time.now + seconds, "somebody-else"


def test_what_was_counted_and_is_not_seen_again_is_told_and_stays(deployed: Desk) -> None:
    send(deployed, range(150))
    deployed.bar = lambda text: snatch(deployed, 600) if "100 of" in text else None
    ran = deployed.run("replay", CHAT, "--since", "2h", "--yes")
    assert f"100 sent to {CHAT}" in ran.output
    assert "it goes on where it stopped" in ran.output
    deployed.bar = None
    deployed.plane.time.advance(600)
    assert f"50 sent to {CHAT}" in deployed.run("replay", CHAT, "--since", "2h", "--yes").output
    assert litter(deployed) == []
