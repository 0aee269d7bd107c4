"""`audit`: what is lost is told, what lag explains is not, and no data is no zero."""

import json

import pytest

from tests.deploy.test_stories_letters import REJECTED, bury, event
from tests.deploy.test_stories_pausing import name_of, send
from tests.support.google_cloud.desk import CHAT, Desk
from tests.support.google_cloud.flows import post
from tests.support.google_cloud.timeline import stamp

METRIC, TYPE = "flowhook-deliveries", "logging.googleapis.com/user/flowhook-deliveries"
SIZES = "pubsub.googleapis.com/topic/message_sizes"
AGES = "pubsub.googleapis.com/subscription/oldest_unacked_message_age"
HOUR = 3600


def wait(desk: Desk, seconds: float = HOUR) -> None:
    desk.plane.time.advance(seconds)


@pytest.fixture
def busy(deployed: Desk) -> Desk:
    """One that has been deployed for some hours, and gets events now and then."""
    wait(deployed, 2 * HOUR)
    for count in (40, 7, 25):
        send(deployed, count)
        wait(deployed, HOUR / 2)
    return deployed


def line(output: str, what: str) -> str:
    (found,) = [text for text in output.splitlines() if what in text.partition(":")[0]]
    return found


def test_where_everything_is_there_it_is_0_and_says_what_it_cannot_know(busy: Desk) -> None:
    ran = busy.run("audit", "--since", "3h")
    assert ran.status == 0, ran.output
    assert ran.changes == []
    assert line(ran.output, "`published`") == "ok     answered `published`: 72; 72 in flowhook-events"
    assert "This can't know what Flows never sent" in ran.output
    assert "WRONG" not in ran.output


def test_one_that_was_answered_and_is_not_there_is_told(busy: Desk) -> None:
    busy.plane.simulation.losing = 3
    send(busy, 10)
    wait(busy)
    ran = busy.run("audit", "--since", "3h")
    assert ran.status == 1
    assert "82; 79 in flowhook-events: at least 3 LOST" in line(ran.output, "`published`")


def rush(desk: Desk, *, losing: int) -> None:
    """Two events a minute for two hours, of which some are lost in the middle."""
    for minute in range(120):
        if minute == 60:
            desk.plane.simulation.losing = losing
        send(desk, 2)
        wait(desk, 30)


def test_where_events_come_all_the_time_a_loss_is_told_if_lag_does_not_explain_it(busy: Desk) -> None:
    rush(busy, losing=10)
    ran = busy.run("audit", "--since", "110m")
    assert ran.status == 1
    found = line(ran.output, "`published`")
    assert "(lag explains a difference of up to 4)" in found
    assert "at least 6 LOST" in found


def test_between_two_quiet_moments_every_single_one_is_told(busy: Desk) -> None:
    """What happens at the edges of the time hides nothing of what happens within it."""
    wait(busy, 600)
    rush(busy, losing=1)
    wait(busy, 600)
    # A minute before the end of what is measured by now.
    send(busy, 50)
    wait(busy, 630)
    ran = busy.run("audit", "--since", "150m")
    assert ran.status == 1
    assert "240; 239 in flowhook-events: at least 1 LOST" in line(ran.output, "`published`")


def test_all_that_is_asked_for_is_looked_at(busy: Desk) -> None:
    """It begins a while before, where nothing happened, rather than a while after."""
    lost_at, busy.plane.simulation.losing = busy.plane.time.now, 1
    for _ in range(2):
        send(busy, 1)
        wait(busy, 600)
    wait(busy, 2 * HOUR)
    ran = busy.run("audit", "--from", stamp(lost_at - 60), "--to", stamp(lost_at + 20 * 60))
    assert ran.status == 1, ran.output
    assert "2; 1 in flowhook-events: at least 1 LOST" in line(ran.output, "`published`")


@pytest.mark.parametrize("late", [1.0, 100.0])
@pytest.mark.parametrize("metrics_late", [60.0, 240.0])
def test_lag_is_no_loss(busy: Desk, late: float, metrics_late: float) -> None:
    busy.plane.faults.logs_late, busy.plane.faults.metrics_late = late, metrics_late
    for _ in range(60):
        send(busy, 1)
    assert busy.run("audit", "--since", "2h").status == 0
    wait(busy, 600)
    assert busy.run("audit", "--since", "2h").status == 0


@pytest.mark.parametrize(
    ("unmeasured", "told"),
    [
        ({TYPE}, "no data, though flowhook-events has"),
        ({SIZES}, "but no data of flowhook-events: try later"),
        ({TYPE, SIZES}, "no data: nothing came, or nothing was measured"),
    ],
)
def test_no_data_is_no_zero(busy: Desk, unmeasured: set[str], told: str) -> None:
    busy.plane.faults.unmeasured = unmeasured
    ran = busy.run("audit", "--since", "3h")
    assert ran.status == 1
    assert told in line(ran.output, "`published`")


def test_a_quiet_night_of_nothing_but_refusals_is_measured(busy: Desk) -> None:
    """The metric has counted something, so that nothing was published is no guess."""
    wait(busy, 6 * HOUR)
    assert post(busy.plane, b"{}", b"a-wrong-secret") == 401
    wait(busy)
    ran = busy.run("audit", "--since", "4h")
    assert ran.status == 0, ran.output
    assert line(ran.output, "`published`").endswith(": 0; 0 in flowhook-events")
    assert line(ran.output, "`unauthentic`").endswith(": 1")


def test_a_log_level_that_leaves_answers_out_is_told(desk: Desk) -> None:
    desk.environment("LOG_LEVEL=WARNING\n")
    assert desk.run("--yes").status == 0
    wait(desk)
    send(desk, 30)
    assert post(desk.plane, b"{}", b"a-wrong-secret") == 401
    wait(desk)
    ran = desk.run("audit")
    assert ran.status == 1
    assert "30 more than answered" in line(ran.output, "`published`")


def test_a_few_more_than_answered_are_no_loss(busy: Desk) -> None:
    for number in range(5):
        busy.plane.pubsub.publish("flowhook-events", event(number), {"category": "packets", "operation": "x"})
    wait(busy)
    ran = busy.run("audit", "--since", "3h")
    assert ran.status == 0, ran.output
    assert "; 5 more, as after lost answers or a deployment" in line(ran.output, "`published`")


def test_a_first_deployment_by_itself_has_lost_nothing(deployed: Desk) -> None:
    wait(deployed)
    ran = deployed.run("audit")
    assert ran.status == 0, ran.output
    assert "Answers are counted since" in ran.output


def test_what_is_too_new_or_not_there_is_told(desk: Desk) -> None:
    assert desk.run("--yes").status == 0
    assert "it must be 10 minutes to 42 days" in desk.run("audit").output
    wait(desk)
    assert desk.run("audit", "--since", "60d").status == 0
    assert desk.run("audit", "--since", "yesterday").status == 1
    assert desk.run("audit", "--since", "1h", "--to", "2h").status == 1
    del desk.plane.logs.metrics[METRIC]
    assert f"there is no metric {METRIC} yet: ./deploy.sh" in desk.run("audit").output


def test_inline_delivery_publishes_nothing(desk: Desk) -> None:
    assert desk.run("--yes", "--delivery", "inline").status == 0
    ran = desk.run("audit")
    assert ran.status == 1
    assert "there is no topic flowhook-events: nothing is published here" in ran.output


# --- what is kept, and what waits --------------------------------------------------------------------------


def test_bodies_that_are_no_events_and_dead_letters_are_counted_and_no_loss(busy: Desk) -> None:
    assert [post(busy.plane, b"no json", busy.accepted[0]) for _ in range(3)] == [400] * 3
    bury(busy, CHAT, event(1), event(2))
    wait(busy)
    ran = busy.run("audit", "--since", "3h")
    assert ran.status == 0, ran.output
    assert line(ran.output, "no events").startswith(
        "ok     bodies that are no events: 3; 3 in flowhook-rejected"
    )
    assert "about 2 wait: ./deploy.sh dead-letters list" in line(ran.output, "dead letters")


def test_a_body_that_was_refused_and_is_not_kept_is_told(busy: Desk) -> None:
    busy.plane.simulation.losing = 1
    assert post(busy.plane, b"no json", busy.accepted[0]) == 400
    assert post(busy.plane, b"no json", busy.accepted[0]) == 400
    wait(busy)
    ran = busy.run("audit", "--since", "3h")
    assert ran.status == 1
    assert "2; 1 in flowhook-rejected: at least 1 LOST" in line(ran.output, "no events")
    busy.plane.pubsub.published[REJECTED].clear()
    assert "no data of flowhook-rejected" in line(busy.run("audit", "--since", "3h").output, "no events")


def test_what_waited_until_it_was_dropped_is_told(busy: Desk) -> None:
    assert busy.run("pause", CHAT).status == 0
    send(busy, 2)
    wait(busy, 2 * 24 * HOUR)
    ran = busy.run("audit", "--since", "3d")
    assert ran.status == 0, ran.output
    assert line(ran.output, f"-{CHAT}-").endswith("48 hours at most, of 7 days")
    wait(busy, 5 * 24 * HOUR)
    ran = busy.run("audit", "--since", "3d")
    assert ran.status == 1
    assert "7 days; after 7 days events are dropped: some are LOST" in line(ran.output, name_of(busy, CHAT))


def test_a_subscription_without_data_is_told(busy: Desk) -> None:
    busy.plane.faults.unmeasured = {AGES}
    ran = busy.run("audit", "--since", "3h")
    assert ran.status == 1
    assert "no data: whether any was dropped can't be said" in line(ran.output, name_of(busy, CHAT))


def test_a_program_can_read_it(busy: Desk) -> None:
    document = json.loads(busy.run("audit", "--since", "3h", "--json").output)
    assert document["ok"] is True
    assert {"what": "answered `published`", "ok": True, "seen": "72; 72 in flowhook-events"} in document[
        "findings"
    ]
    assert document["from"] < document["to"]
    assert len(document["unknowable"]) == 3


@pytest.mark.parametrize("command", ["audit", "tail"])
def test_nothing_is_said_of_the_real_one_while_an_emulator_is_named(
    deployed: Desk, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PUBSUB_EMULATOR_HOST", "127.0.0.1:8085")
    ran = deployed.run(command)
    assert (ran.status, ran.requests) == (1, ())
    assert "PUBSUB_EMULATOR_HOST" in ran.output
