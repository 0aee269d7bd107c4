"""A handler that is paused gets nothing and loses nothing, and is afterwards what it was before."""

import json
from typing import get_args

import pytest

from tests.deploy.test_stories import pushed
from tests.support.google_cloud import picture
from tests.support.google_cloud.desk import CHAT, LOG, Desk
from tests.support.google_cloud.faults import Moment
from tests.support.google_cloud.flows import body, post


def name_of(desk: Desk, handler: str) -> str:
    (name,) = (name for name in desk.plane.pubsub.found if f"-{handler}-" in name)
    return name


def waiting_alert(desk: Desk) -> str:
    return next((json.dumps(a) for n, a in picture.taken(desk.plane)["alerts"].items() if "waiting" in n), "")


def send(desk: Desk, count: int) -> None:
    for number in range(count):
        event = body(number, "pipelinesPackets", "created", desk.plane.time.now)
        assert post(desk.plane, event, desk.accepted[0]) == 200
    desk.plane.time.advance(30)


def handled(desk: Desk, handler: str) -> int:
    return sum(ran.handler == handler for ran in desk.plane.simulation.ran)


def test_what_is_paused_waits_and_the_others_run_on(deployed: Desk) -> None:
    assert deployed.run("pause", CHAT).status == 0
    send(deployed, 5)
    assert (handled(deployed, CHAT), handled(deployed, LOG)) == (0, 5)
    assert deployed.run("resume", CHAT).status == 0
    deployed.plane.time.advance(30)
    assert (handled(deployed, CHAT), handled(deployed, LOG)) == (5, 5)


def test_everything_is_afterwards_what_it_was_before(deployed: Desk) -> None:
    before = picture.taken(deployed.plane)
    assert deployed.run("pause", CHAT).status == 0
    assert picture.taken(deployed.plane) != before
    assert deployed.run("resume", CHAT).status == 0
    assert picture.taken(deployed.plane) == before


def test_one_request_says_that_it_is_paused_and_since_when(deployed: Desk) -> None:
    ran = deployed.run("pause", CHAT)
    (change,) = (r for r in ran.requests if r.changes and "/subscriptions/" in r.path)
    assert change.document["updateMask"] == "labels,pushConfig"
    found = deployed.plane.pubsub.found[name_of(deployed, CHAT)].document
    assert abs(int(found["labels"]["flowhook-paused"]) - deployed.plane.time.now) < 60
    assert found["labels"]["flowhook"] == "flowhook"


def test_paused_twice_is_paused_since_the_first_time(deployed: Desk) -> None:
    assert deployed.run("pause", CHAT).status == 0
    before = picture.taken(deployed.plane)
    deployed.plane.time.advance(600)
    assert deployed.run("pause", CHAT).status == 0
    assert picture.taken(deployed.plane) == before


def test_a_deployment_leaves_it_paused_and_says_so(deployed: Desk) -> None:
    assert deployed.run("pause", CHAT).status == 0
    ran = deployed.run("--yes")
    assert ran.status == 0, ran.output
    assert f"handler {CHAT}: paused since" in ran.output
    assert name_of(deployed, CHAT) not in pushed(deployed)


def test_the_status_says_how_many_wait_and_when_the_oldest_is_dropped(deployed: Desk) -> None:
    assert deployed.run("pause", CHAT).status == 0
    assert "not measured yet" in deployed.run("status").output or deployed.plane.pubsub.samples
    send(deployed, 7)
    deployed.plane.time.advance(300)
    ran = deployed.run("status")
    assert ran.status == 0, ran.output
    (line,) = (line for line in ran.output.splitlines() if line.startswith(f"handler {CHAT}"))
    assert "; about 7 wait, the oldest until " in line


def test_its_alert_keeps_quiet_and_comes_back(deployed: Desk) -> None:
    assert deployed.run("pause", CHAT).status == 0
    assert CHAT not in waiting_alert(deployed)
    assert LOG in waiting_alert(deployed)
    assert deployed.run("pause", LOG).status == 0
    assert LOG not in waiting_alert(deployed)
    assert deployed.run("resume", LOG).status == 0
    assert LOG in waiting_alert(deployed)


@pytest.mark.parametrize("command", ["pause", "resume"])
def test_a_handler_that_is_not_there_is_told_with_those_that_are(deployed: Desk, command: str) -> None:
    ran = deployed.run(command, "mine.nobody")
    assert ran.status == 1
    assert f"these have one: {LOG}, {CHAT}" in ran.output
    assert deployed.run(command).status == 1
    assert deployed.run(command, "flowhook.doctor").status == 1


def test_a_handler_that_consume_does_not_have_gets_nothing(deployed: Desk) -> None:
    assert deployed.run("pause", CHAT).status == 0
    deployed.handlers({LOG: ("*",)})
    assert deployed.run("--yes").status == 0
    ran = deployed.run("resume", CHAT)
    assert ran.status == 1
    assert f"has no handler {CHAT}" in ran.output


@pytest.mark.parametrize("command", ["pause", "resume"])
@pytest.mark.parametrize("moment", get_args(Moment))
def test_a_process_that_is_killed_leaves_nothing_half_done(
    deployed: Desk, command: str, moment: Moment
) -> None:
    if command == "resume":
        assert deployed.run("pause", CHAT).status == 0
    number = 1
    while deployed.killed(number, moment, command, CHAT, "--break-lock"):
        document = deployed.plane.pubsub.found[name_of(deployed, CHAT)].document
        assert ("flowhook-paused" in document["labels"]) == (not document["pushConfig"])
        number += 1
    # Then it has ended.
    assert (name_of(deployed, CHAT) in pushed(deployed)) == (command == "resume")
    assert number > 2


def test_nothing_is_done_to_the_real_one_while_an_emulator_is_named(
    deployed: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PUBSUB_EMULATOR_HOST", "127.0.0.1:8085")
    ran = deployed.run("pause", CHAT)
    assert (ran.status, ran.requests) == (1, ())
    assert "PUBSUB_EMULATOR_HOST" in ran.output
