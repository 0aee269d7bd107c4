"""What people do between two deployments: by hand, in the handlers, and in the env file."""

import pytest

from tests.deploy.test_stories import CONSUME, RECEIVE, grants, handlers_of, pushed
from tests.deploy.test_stories_loss import missed
from tests.support.google_cloud import picture
from tests.support.google_cloud.desk import CHAT, HANDLERS, LOG, PROJECT, Desk


def by_hand(desk: Desk, kind: str, name: str) -> None:
    """Delete something as the console does."""
    if kind == "topics":
        del desk.plane.pubsub.topics[name]
        for subscription in desk.plane.pubsub.found.values():
            if subscription.document["topic"].endswith(f"/{name}"):
                subscription.document["topic"] = "_deleted-topic_"
        desk.plane.iam.forget(f"topics/{name}")
    elif kind == "functions":
        del desk.plane.functions.found[name]
        desk.plane.run.remove(name)
    else:
        (full,) = (found for found in desk.plane.pubsub.found if name in found)
        del desk.plane.pubsub.found[full]
        desk.plane.iam.forget(f"subscriptions/{full}")


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("functions", RECEIVE),
        ("functions", CONSUME),
        ("subscriptions", CHAT),
        ("subscriptions", "flowhook-dead-letters"),
    ],
)
def test_what_was_deleted_by_hand_is_made_again(deployed: Desk, kind: str, name: str) -> None:
    before = picture.taken(deployed.plane)
    by_hand(deployed, kind, name)
    told = deployed.run("status")
    assert told.status == 1, told.output
    ran = deployed.run("--yes")
    assert ran.status == 0, ran.output
    assert picture.taken(deployed.plane) == before


@pytest.mark.parametrize("topic", ["flowhook-events", "flowhook-dead-letters", "flowhook-rejected"])
def test_a_topic_deleted_by_hand_is_told_before_anything_is_changed(deployed: Desk, topic: str) -> None:
    """What waits in its subscriptions may be wanted, and they can't get another topic."""
    before = picture.taken(deployed.plane)
    by_hand(deployed, "topics", topic)
    ran = deployed.run("--yes")
    assert (ran.status, ran.changes) == (1, [])
    command = next(line for line in ran.output.splitlines() if line.startswith("gcloud pubsub subscriptions"))
    for name in command.removeprefix("gcloud pubsub subscriptions delete ").split()[:-1]:
        del deployed.plane.pubsub.found[name]
        deployed.plane.iam.forget(f"subscriptions/{name}")
    again = deployed.run("--yes")
    assert again.status == 0, again.output
    assert picture.taken(deployed.plane) == before


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("ackDeadlineSeconds", 600),
        ("expirationPolicy", {"ttl": "2678400s"}),
        ("pushConfig", {"pushEndpoint": "https://somewhere.example/else"}),
        ("deadLetterPolicy", None),
        ("retryPolicy", None),
        ("labels", {"flowhook": "flowhook", "team": "theirs"}),
    ],
)
def test_what_was_changed_by_hand_is_changed_back_but_for_labels_of_others(
    deployed: Desk, field: str, value: object
) -> None:
    before = picture.taken(deployed.plane)["subscriptions"]
    (name,) = (name for name in pushed(deployed) if CHAT in name)
    document = deployed.plane.pubsub.found[name].document
    if value is None:
        del document[field]
    else:
        document[field] = value
    ran = deployed.run("--yes")
    assert ran.status == 0, ran.output
    after = picture.taken(deployed.plane)["subscriptions"]
    if field == "labels":
        assert after[name]["labels"] == value
    else:
        assert after == before


def test_a_filter_that_changes_twice_and_back_loses_nothing(deployed: Desk) -> None:
    """While the handler fails, so that no subscription is worked off before the next one comes."""
    deployed.plane.simulation.failing.add(CHAT)
    deployed.flows.start(deployed.accepted[0])
    for patterns in (("packets.*",), ("packets.created", "users.*"), HANDLERS[CHAT]):
        deployed.plane.time.advance(300)
        deployed.handlers({**HANDLERS, CHAT: patterns})
        ran = deployed.run("--yes", "--drain-minutes", "2")
        assert ran.status == 0, ran.output
    deployed.plane.simulation.failing.clear()
    deployed.plane.time.advance(3600)
    ran = deployed.run("--yes", "--drain-minutes", "30")
    assert ran.status == 0, ran.output
    assert len([name for name in deployed.plane.pubsub.found if CHAT in name]) == 1
    assert missed(deployed, CHAT, "packets.created", deployed.flows.accepted) == set()


def test_a_handler_that_comes_back_gets_what_waited_for_it(deployed: Desk) -> None:
    deployed.flows.start(deployed.accepted[0])
    deployed.handlers({LOG: ("*",)})
    assert deployed.run("--yes").status == 0
    deployed.plane.time.advance(3600)
    assert deployed.plane.simulation.refusals[CHAT] == 0
    deployed.handlers(HANDLERS)
    assert deployed.run("--yes").status == 0
    assert missed(deployed, CHAT, "packets.created", deployed.flows.accepted) == set()


def test_a_name_with_letters_of_other_alphabets_works(desk: Desk) -> None:
    name = "grüße.größe"
    desk.handlers({**HANDLERS, name: ("users.*",)})
    for words in (["--yes"], ["--yes"], ["status"]):
        ran = desk.run(*words)
        assert ran.status == 0, ran.output
    desk.flows.start(desk.accepted[0])
    desk.plane.time.advance(30)
    assert missed(desk, name, "users.updated", desk.flows.accepted) == set()
    removed = desk.run("delete", "--all", "--yes")
    assert removed.status == 0, removed.output
    assert desk.plane.pubsub.found == {}


def test_without_a_check_it_stays_without_one_whatever_a_redeployment_does(desk: Desk) -> None:
    desk.plane.faults.redeployment_checks_invokers = True
    for _ in range(2):
        ran = desk.run("--yes", "--public", "no-check")
        assert ran.status == 0, ran.output
        assert desk.plane.run.found[RECEIVE].document["invokerIamDisabled"] is True


def test_from_no_check_back_to_a_check(desk: Desk) -> None:
    assert desk.run("--yes", "--public", "no-check").status == 0
    ran = desk.run("--yes")
    assert ran.status == 0, ran.output
    assert not desk.plane.run.found[RECEIVE].document.get("invokerIamDisabled")
    assert picture.grants(desk.plane) == grants(pushed(desk))


# --- variables of handlers ---------------------------------------------------------------------------------


VARIABLES = [{"name": "CRM_URL", "secret": False}, {"name": "CRM_TOKEN", "secret": True}]


@pytest.fixture
def with_variables(desk: Desk) -> Desk:
    desk.handlers(HANDLERS, log_events__log_event={"variables": VARIABLES})
    desk.environment("CRM_URL=https://crm.example\nCRM_TOKEN=the-first-token\n")
    ran = desk.run("--yes")
    assert ran.status == 0, ran.output
    assert "the-first-token" not in ran.output
    return desk


def test_a_secret_variable_is_mounted_by_number_in_consume_alone(with_variables: Desk) -> None:
    functions = with_variables.plane.functions.found
    consume, receive = (functions[name]["serviceConfig"] for name in (CONSUME, RECEIVE))
    (mounted,) = consume["secretEnvironmentVariables"]
    assert (mounted["key"], mounted["version"]) == ("CRM_TOKEN", "1")
    assert not receive["secretEnvironmentVariables"]
    assert consume["environmentVariables"]["CRM_URL"] == "https://crm.example"
    assert "CRM_URL" not in receive["environmentVariables"]
    assert "CRM_TOKEN" not in consume["environmentVariables"]
    reader = f"serviceAccount:flowhook-consume@{PROJECT}.iam.gserviceaccount.com"
    granted = with_variables.plane.iam.grants(f"secrets/{mounted['secret']}")
    assert granted == {("roles/secretmanager.secretAccessor", reader)}
    assert not [call for call in with_variables.gcloud.calls if "the-first-token" in str(call)]


def test_another_value_is_another_version_and_the_same_value_is_none(with_variables: Desk) -> None:
    assert with_variables.run("--yes").status == 0
    secret = "flowhook-variable-CRM_TOKEN"
    assert len(with_variables.plane.secrets.found[secret].versions) == 1
    with_variables.environment("CRM_URL=https://crm.example\nCRM_TOKEN=the-second-token\n")
    ran = with_variables.run("--yes")
    assert ran.status == 0, ran.output
    config = with_variables.plane.functions.found[CONSUME]["serviceConfig"]
    assert [s["version"] for s in config["secretEnvironmentVariables"]] == ["2"]


def test_a_variable_without_a_value_stops_it_before_anything_is_changed(desk: Desk) -> None:
    desk.handlers(HANDLERS, log_events__log_event={"variables": VARIABLES})
    ran = desk.run("--yes")
    assert (ran.status, ran.changes) == (1, [])
    assert "CRM_" in ran.output
    assert LOG in ran.output


def test_variables_go_with_everything_else(with_variables: Desk) -> None:
    ran = with_variables.run("delete", "--all", "--yes")
    assert ran.status == 0, ran.output
    assert with_variables.plane.secrets.found == {}


def test_a_handler_that_is_off_is_no_ones(deployed: Desk) -> None:
    """Of two handlers one is renamed: the old name's subscription is not the new one's."""
    deployed.handlers({LOG: ("*",), "chat.notify": HANDLERS[CHAT]})
    ran = deployed.run("--yes", "--prune")
    assert ran.status == 0, ran.output
    assert handlers_of(pushed(deployed)) == {"replay", LOG, "chat.notify", "flowhook.doctor"}
    assert picture.grants(deployed.plane) == grants(pushed(deployed))
