"""Events keep coming while it is deployed: whatever was answered 200 gets to every handler that stays."""

import math
import re
from collections import Counter
from collections.abc import Callable

import pytest

from tests.support.google_cloud.desk import CHAT, HANDLERS, LOG, Desk
from tests.support.google_cloud.flows import Accepted
from tests.support.google_cloud.picture import REGION

WELCOME = "extra.welcome"
# Seconds after which every retry has been made.
SETTLED = 3 * 3600.0


def missed(desk: Desk, handler: str, pattern: str, sent: list[Accepted]) -> set[str]:
    """The events that a handler should have had and hasn't."""
    desk.flows.stop()
    desk.plane.time.advance(SETTLED)
    had = {ran.event for ran in desk.plane.simulation.ran if ran.handler == handler}
    wanted = {e.event for e in sent if pattern in ("*", e.type)}
    assert wanted, "nothing was sent that would show a loss"
    return wanted - had


def under_load(desk: Desk, *commands: str) -> list[Accepted]:
    """Deploy while events keep coming; gives those of before, meanwhile and after."""
    desk.flows.start(desk.accepted[0])
    desk.plane.time.advance(120)
    ran = desk.run(*commands)
    assert ran.status == 0, ran.output
    desk.plane.time.advance(120)
    return desk.flows.accepted


@pytest.fixture
def late(desk: Desk) -> Desk:
    """Deployed where grants, metrics, addresses and traffic take their time."""
    faults = desk.plane.faults
    faults.grants_late, faults.metrics_late, faults.accounts_unknown = 120, 240, 30
    faults.addresses_late, faults.traffic_late = 15, 20
    ran = desk.run("--yes")
    assert ran.status == 0, ran.output
    return desk


Edit = Callable[[Desk], None]
CHANGES: dict[str, Edit] = {
    "nothing": lambda desk: None,
    "a handler more": lambda desk: desk.handlers({**HANDLERS, WELCOME: ("users.*",)}),
    "a handler less": lambda desk: desk.handlers({LOG: ("*",)}),
    "a handler renamed": lambda desk: desk.handlers({LOG: ("*",), "chat.notify": HANDLERS[CHAT]}),
    "another filter": lambda desk: desk.handlers({**HANDLERS, CHAT: ("packets.*",)}),
}


@pytest.mark.parametrize("change", CHANGES)
def test_no_handler_that_stays_misses_an_event(late: Desk, change: str) -> None:
    CHANGES[change](late)
    sent = under_load(late, "--yes", "--prune", "--drain-minutes", "30")
    assert set(late.flows.statuses) == {200}
    assert missed(late, LOG, "*", sent) == set()
    if change in ("nothing", "a handler more", "another filter"):
        assert missed(late, CHAT, "packets.created", sent) == set()


def test_a_handler_that_fails_while_it_is_replaced_loses_nothing_either(late: Desk) -> None:
    """Its backlog is in the old subscription alone when the new one comes."""
    late.plane.simulation.failing.add(CHAT)
    late.flows.start(late.accepted[0])
    late.plane.time.advance(600)
    late.handlers({**HANDLERS, CHAT: ("packets.*",)})
    ran = late.run("--yes", "--drain-minutes", "10")
    assert ran.status == 0, ran.output
    late.plane.simulation.failing.clear()
    late.plane.time.advance(3600)
    again = late.run("--yes", "--drain-minutes", "30")
    assert again.status == 0, again.output
    assert len([name for name in late.plane.pubsub.found if CHAT in name]) == 1
    assert missed(late, CHAT, "packets.created", late.flows.accepted) == set()


def test_what_a_removed_handler_has_not_done_goes_to_the_dead_letters(late: Desk) -> None:
    late.plane.simulation.failing.add(CHAT)
    late.flows.start(late.accepted[0])
    late.plane.time.advance(300)
    late.handlers({LOG: ("*",)})
    ran = late.run("--yes", "--prune", "--drain-minutes", "5")
    assert ran.status == 0, ran.output
    letters = [
        m for m in late.plane.pubsub.waiting("flowhook-dead-letters") if m.attributes.get("handler") == CHAT
    ]
    buried = {m.attributes["ce-id"] for m in letters}
    gone = max(m.published for m in letters)
    before = {e.event for e in late.flows.accepted if e.type == "packets.created" and e.at < gone}
    assert before <= buried
    assert late.plane.simulation.refusals[CHAT] == 0


def test_it_is_told_how_many_events_were_delivered_by_the_old_and_the_new_subscription(late: Desk) -> None:
    late.handlers({**HANDLERS, CHAT: ("packets.*",)})
    late.flows.start(late.accepted[0])
    ran = late.run("--yes", "--drain-minutes", "30")
    assert ran.status == 0, ran.output
    found = re.search(rf"Both flowhook-{CHAT}\S+ and its successor delivered (\d+) events", ran.output)
    assert found, ran.output
    calls = Counter(r.event for r in late.plane.simulation.ran if r.handler == CHAT)
    twice = sum(count > 1 for count in calls.values())
    assert 0 < int(found[1]) <= twice


def test_where_nothing_is_measured_nothing_counts_as_worked_off(late: Desk) -> None:
    late.plane.simulation.failing.add(CHAT)
    late.plane.faults.metrics_late = math.inf
    late.flows.start(late.accepted[0])
    late.plane.time.advance(600)
    late.handlers({**HANDLERS, CHAT: ("packets.*",)})
    ran = late.run("--yes", "--drain-minutes", "5")
    assert ran.status == 0, ran.output
    assert len([name for name in late.plane.pubsub.found if CHAT in name]) == 2
    late.plane.simulation.failing.clear()
    assert missed(late, CHAT, "packets.created", late.flows.accepted) == set()


def test_a_removed_handler_works_off_what_it_has(late: Desk) -> None:
    late.handlers({LOG: ("*",)})
    under_load(late, "--yes", "--prune", "--drain-minutes", "30")
    assert late.plane.simulation.refusals[CHAT] == 0


def test_a_first_push_waits_until_it_may(desk: Desk) -> None:
    """A handler that is tried five times would bury its first events while the grants spread."""
    desk.plane.faults.grants_late = 300
    desk.handlers(HANDLERS, notify_chat__notify_chat={"attempts": 5}, log_events__log_event={"attempts": 5})
    desk.plane.time.every(5, lambda: _publish_if_possible(desk))
    ran = desk.run("--yes")
    assert ran.status == 0, ran.output
    desk.plane.time.advance(600)
    assert desk.plane.pubsub.waiting("flowhook-dead-letters") == []
    assert [r for r in desk.plane.simulation.ran if r.handler == LOG]


def _publish_if_possible(desk: Desk) -> None:
    """Somebody else publishes from the moment on at which there is a topic."""
    if "flowhook-events" in desk.plane.pubsub.topics:
        attributes = {"category": "users", "operation": "created", "ce-id": "x", "entity_key": "flows/users"}
        desk.plane.pubsub.publish("flowhook-events", b"{}", attributes)


def test_inline_and_back_loses_nothing(late: Desk) -> None:
    sent = under_load(late, "--yes", "--delivery", "inline", "--prune", "--drain-minutes", "30")
    sent = under_load(late, "--yes")
    assert missed(late, LOG, "*", sent) == set()
    assert missed(late, CHAT, "packets.created", sent) == set()


# --- rotation ----------------------------------------------------------------------------------------------


def test_a_rotation_never_refuses_what_is_signed_with_what_was_printed_last(late: Desk) -> None:
    late.plane.faults.latest_stale = 7200
    (old,) = late.accepted
    late.flows.start(old)
    late.plane.time.advance(60)
    begun = late.run("rotate-secret")
    assert begun.status == 0, begun.output
    assert late.flows.secret.decode() == late.shown != old.decode()
    late.plane.time.advance(600)
    finished = late.run("rotate-secret", "--finish")
    assert finished.status == 0, finished.output
    late.plane.time.advance(600)
    assert late.flows.statuses.keys() == {200}
    assert late.accepted == [late.flows.secret]


def test_a_deployment_between_the_halves_of_a_rotation_refuses_nothing(late: Desk) -> None:
    (old,) = late.accepted
    late.flows.start(old)
    for words in (["rotate-secret"], ["--yes"], ["rotate-secret", "--finish"], ["--yes"]):
        ran = late.run(*words)
        assert ran.status == 0, ran.output
        late.plane.time.advance(120)
    assert late.flows.statuses.keys() == {200}


def test_a_broken_handler_stops_no_rotation(deployed: Desk) -> None:
    (deployed.folder / "handlers.json").write_text("not even JSON")
    ran = deployed.run("rotate-secret")
    assert ran.status == 0, ran.output
    assert len(deployed.accepted) == 2
    assert not [change for change in ran.changes if "/functions/" in change]


def test_the_old_secret_is_refused_after_the_rotation(deployed: Desk) -> None:
    (old,) = deployed.accepted
    assert deployed.run("rotate-secret").status == 0
    assert deployed.run("rotate-secret", "--finish").status == 0
    deployed.plane.time.advance(60)
    deployed.flows.start(old)
    deployed.plane.time.advance(10)
    assert deployed.flows.statuses.keys() == {401}
    states = [v.state for v in deployed.plane.secrets.found["flowhook-secret"].versions]
    assert states[-1] == "ENABLED"
    assert states[0] == "DISABLED"


def test_after_a_rotation_all_is_well(deployed: Desk) -> None:
    """A function may go on naming the version that it was made with: what is mounted its service says."""
    for words in (["rotate-secret"], ["rotate-secret", "--finish"], ["--yes"]):
        for command in (words, ["status"]):
            ran = deployed.run(*command)
            assert ran.status == 0, f"{command} after {words}: {ran.output}"


def test_a_second_rotation_before_the_first_has_ended_is_refused(deployed: Desk) -> None:
    assert deployed.run("rotate-secret").status == 0
    again = deployed.run("rotate-secret")
    assert again.status == 1
    assert "--finish" in again.output
    assert again.changes == []


# --- rollback ----------------------------------------------------------------------------------------------


def test_a_rollback_loses_nothing_and_pauses_what_the_old_revision_lacks(late: Desk) -> None:
    late.handlers({**HANDLERS, WELCOME: ("users.updated",)})
    under_load(late, "--yes")
    since = late.plane.time.now
    back = late.run("rollback", "--yes")
    assert back.status == 0, back.output
    (extra,) = (s for name, s in late.plane.pubsub.found.items() if WELCOME in name)
    assert extra.endpoint == ""
    late.plane.time.advance(600)
    assert late.plane.simulation.refusals[WELCOME] == 0
    again = late.run("--yes")
    assert again.status == 0, again.output
    traffic = late.plane.run.found[f"{REGION}/flowhook-receive"].document["traffic"]
    assert traffic == [{"type": "TRAFFIC_TARGET_ALLOCATION_TYPE_LATEST", "percent": 100}]
    late.plane.time.advance(60)
    assert missed(late, LOG, "*", late.flows.accepted) == set()
    assert missed(late, WELCOME, "users.updated", late.flows.between(since, late.plane.time.now)) == set()
    assert late.flows.statuses.keys() == {200}


def test_a_rollback_to_what_does_not_know_the_secret_is_refused(deployed: Desk) -> None:
    finish = ["rotate-secret", "--finish"]
    for words in (["--yes"], ["--yes"], ["rotate-secret"], finish):
        ran = deployed.run(*words)
        assert ran.status == 0, f"{words}: {ran.output}"
    refused = deployed.run("rollback", "--yes")
    assert (refused.status, refused.changes) == (1, [])
    assert "does not know the current secret" in refused.output
    deployed.plane.time.advance(60)
    deployed.flows.start(deployed.accepted[0])
    deployed.plane.time.advance(10)
    assert deployed.flows.statuses.keys() == {200}


# --- the order ---------------------------------------------------------------------------------------------


def test_a_new_handler_that_is_tried_five_times_buries_nothing_while_it_is_built(late: Desk) -> None:
    """The old `consume` doesn't know it, and builds take longer than five attempts."""
    late.plane.functions.build_takes = 400
    late.handlers({**HANDLERS, WELCOME: ("users.*",)}, extra__welcome={"attempts": 5})
    since = late.plane.time.now
    under_load(late, "--yes")
    assert late.plane.pubsub.waiting("flowhook-dead-letters") == []
    assert late.plane.simulation.refusals[WELCOME] == 0
    sent = [e for e in late.flows.accepted if e.at > since + 150]
    assert missed(late, WELCOME, "users.updated", sent) == set()


def test_a_removed_handler_is_worked_off_before_consume_forgets_it(late: Desk) -> None:
    """Its backlog is still being worked off when the deployment begins."""
    late.plane.simulation.failing.add(CHAT)
    late.flows.start(late.accepted[0])
    late.plane.time.advance(200)
    late.flows.stop()
    late.plane.simulation.failing.clear()
    late.handlers({LOG: ("*",)})
    ran = late.run("--yes", "--prune", "--drain-minutes", "30")
    assert ran.status == 0, ran.output
    assert late.plane.pubsub.waiting("flowhook-dead-letters") == []
    assert missed(late, CHAT, "packets.created", late.flows.accepted) == set()


def test_consume_is_deployed_before_receive_and_pushed_to_after_that(late: Desk) -> None:
    late.handlers({**HANDLERS, WELCOME: ("users.*",)})
    ran = late.run("--yes")
    order = [str(request) for request in ran.requests if request.changes]
    consume = position(order, "PATCH", "functions/flowhook-consume")
    pushing = position(order, "PATCH", "subscriptions/flowhook-extra.welcome")
    receive = position(order, "PATCH", "functions/flowhook-receive")
    assert consume < pushing < receive


def test_what_is_superseded_goes_last(late: Desk) -> None:
    late.handlers({**HANDLERS, CHAT: ("packets.*",)})
    ran = late.run("--yes", "--drain-minutes", "30")
    order = [str(request) for request in ran.requests if request.changes]
    receive = position(order, "PATCH", "functions/flowhook-receive")
    assert receive < position(order, "DELETE", "subscriptions/flowhook-notify_chat")


def position(order: list[str], verb: str, part: str) -> int:
    """Where a change is among all."""
    return next(i for i, told in enumerate(order) if told.startswith(verb) and part in told)


def test_the_secret_is_printed_when_it_is_accepted_and_not_before(late: Desk) -> None:
    """The sender changes over in the moment in which it is printed."""
    late.plane.faults.traffic_late = 120
    late.flows.start(late.accepted[0])
    assert late.run("rotate-secret").status == 0
    late.plane.time.advance(300)
    assert late.flows.statuses.keys() == {200}


def test_a_rollback_goes_to_consume_first(late: Desk) -> None:
    assert late.run("--yes").status == 0
    ran = late.run("rollback", "--yes")
    assert ran.status == 0, ran.output
    order = [str(request) for request in ran.requests if request.changes]
    consume = position(order, "PATCH", "services/flowhook-consume")
    assert consume < position(order, "PATCH", "services/flowhook-receive")


def test_after_a_rotation_has_begun_the_revision_before_it_can_still_start(deployed: Desk) -> None:
    assert deployed.run("rotate-secret").status == 0
    states = [v.state for v in deployed.plane.secrets.found["flowhook-secret"].versions]
    assert set(states) == {"ENABLED"}
