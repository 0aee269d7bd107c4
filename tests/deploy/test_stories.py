"""From nothing to everything and back, against a control plane that is in a good hour."""

import json
from pathlib import Path

import pytest

from tests.support.google_cloud import picture
from tests.support.google_cloud.desk import CHAT, HANDLERS, LOG, PROJECT, Desk
from tests.support.google_cloud.iam import AGENT, Grant
from tests.support.google_cloud.picture import REGION
from tests.support.google_cloud.simulated import TABLE

RECORDED = Path(__file__).parent / "installed_by_the_script.json"
PUBLISHER, SUBSCRIBER = "roles/pubsub.publisher", "roles/pubsub.subscriber"
INVOKER, AGENT_MEMBER = "roles/run.invoker", f"serviceAccount:{AGENT}"
KEPT = {"flowhook-rejected", "flowhook-dead-letters"}
# The subscription of what operators send again; it belongs to no handler.
REPLAY = "replay"
TOPICS = {*KEPT, "flowhook-events", "flowhook-replay"}
RECEIVE, CONSUME = f"{REGION}/flowhook-receive", f"{REGION}/flowhook-consume"


def account(role: str) -> str:
    return f"flowhook-{role}@{PROJECT}.iam.gserviceaccount.com"


def pushed(desk: Desk) -> set[str]:
    return {name for name, s in desk.plane.pubsub.found.items() if s.endpoint}


def handlers_of(names: set[str]) -> set[str]:
    """Which handlers subscriptions belong to, without the hash."""
    return {name.removeprefix("flowhook-").partition("-")[0] for name in names}


def grants(subscriptions: set[str]) -> dict[str, set[Grant]]:
    """Who may do what, nothing left out and nothing more."""
    receive, consume, push, build = (
        f"serviceAccount:{account(role)}" for role in ("receive", "consume", "push", "build")
    )
    return {
        f"projects/{PROJECT}": {
            (role, build) for role in ("roles/logging.logWriter", "roles/storage.objectViewer")
        },
        f"repositories/{REGION}/flowhook": {("roles/artifactregistry.writer", build)},
        "secrets/flowhook-secret": {("roles/secretmanager.secretAccessor", receive)},
        "topics/flowhook-events": {(PUBLISHER, receive)},
        "topics/flowhook-rejected": {(PUBLISHER, receive), (PUBLISHER, consume)},
        "topics/flowhook-dead-letters": {(PUBLISHER, AGENT_MEMBER)},
        f"accounts/{account('push')}": {("roles/iam.serviceAccountTokenCreator", AGENT_MEMBER)},
        f"services/{RECEIVE}": {(INVOKER, "allUsers")},
        f"services/{CONSUME}": {(INVOKER, push)},
        **{f"subscriptions/{name}": {(SUBSCRIBER, AGENT_MEMBER)} for name in subscriptions},
    }


# --- first and second --------------------------------------------------------------------------------------


def test_a_dry_run_changes_nothing(desk: Desk) -> None:
    ran = desk.run("--dry-run")
    assert (ran.status, ran.changes) == (0, [])
    assert "This was a dry run" in ran.output


def test_a_plan_can_be_read_by_a_program(desk: Desk) -> None:
    ran = desk.run("--dry-run", "--json")
    assert ran.status == 0
    document = json.loads(ran.output)
    assert set(document["deploy"]) == {"flowhook-consume", "flowhook-receive"}


def test_a_first_deployment_grants_exactly_this(deployed: Desk) -> None:
    assert handlers_of(pushed(deployed)) == {REPLAY, LOG, CHAT, "flowhook.doctor"}
    assert picture.grants(deployed.plane) == grants(pushed(deployed))
    assert set(deployed.plane.iam.accounts) == {account(r) for r in ("receive", "consume", "push", "build")}
    assert set(deployed.plane.pubsub.topics) == TOPICS


def test_a_first_deployment_subscribes_exactly_this(deployed: Desk) -> None:
    found = deployed.plane.pubsub.found
    assert set(found) == KEPT | pushed(deployed)
    uri = deployed.plane.run.found[CONSUME].document["uri"]
    for name in KEPT:
        document = found[name].document
        assert (document["expirationPolicy"], document["messageRetentionDuration"]) == ({}, "2678400s")
        assert document.get("filter", "") == ""
    for name in pushed(deployed):
        document, (handler,) = found[name].document, handlers_of({name})
        token = {"serviceAccountEmail": account("push"), "audience": uri}
        assert document["pushConfig"] == {"pushEndpoint": f"{uri}/{handler}", "oidcToken": token}
        letters = f"projects/{PROJECT}/topics/flowhook-dead-letters"
        assert document["deadLetterPolicy"] == {"deadLetterTopic": letters, "maxDeliveryAttempts": 100}
        assert (document["ackDeadlineSeconds"], document["expirationPolicy"]) == (29, {})
        assert document["labels"]["flowhook"] == "flowhook"
    (chat,) = (s.document for name, s in found.items() if CHAT in name)
    assert chat["filter"] == '(attributes.category = "packets" AND attributes.operation = "created")'
    assert chat["retryPolicy"] == {"minimumBackoff": "10s", "maximumBackoff": "600s"}


def test_topics_retain_and_rejected_and_dead_letters_are_kept_for_a_month(deployed: Desk) -> None:
    events = deployed.plane.pubsub.topics["flowhook-events"].document
    assert events["messageRetentionDuration"] == "604800s"
    assert "flowhook-events" not in deployed.plane.pubsub.found


def test_a_first_deployment_configures_the_functions_like_this(desk: Desk) -> None:
    desk.environment("MAX_INSTANCES=3\nLOG_LEVEL=DEBUG\nGREETING=hello, twice=2\n")
    assert desk.run("--yes").status == 0
    found = desk.plane.functions.found
    assert set(found) == {RECEIVE, CONSUME}
    for target, ingress in (("receive", "ALLOW_ALL"), ("consume", "ALLOW_INTERNAL_ONLY")):
        function = found[f"{REGION}/flowhook-{target}"]
        config, build = function["serviceConfig"], function["buildConfig"]
        variables = config["environmentVariables"]
        assert variables["LOG_LEVEL"] == "DEBUG"
        assert (variables.get("GREETING") == "hello, twice=2") == (target == "consume")
        assert config["serviceAccountEmail"] == account(target)
        assert (config["availableMemory"], config["availableCpu"], config["timeoutSeconds"]) == (
            "1Gi",
            "1",
            60,
        )
        assert (config["maxInstanceRequestConcurrency"], config["maxInstanceCount"]) == (40, 3)
        assert (config["ingressSettings"], build["runtime"]) == (ingress, "python313")
        assert build["dockerRepository"].endswith("/repositories/flowhook")
        assert build["serviceAccount"].endswith(account("build"))
    (volume,) = found[RECEIVE]["serviceConfig"]["secretVolumes"]
    assert (volume["secret"], volume["versions"]) == ("flowhook-secret", [{"version": "1", "path": "secret"}])
    assert not found[CONSUME]["serviceConfig"]["secretVolumes"]


def test_the_secret_is_strong_and_shown_once(deployed: Desk) -> None:
    (secret,) = deployed.accepted
    assert len(secret) == 43
    assert deployed.shown == secret.decode()
    again = deployed.run("--yes")
    assert secret.decode() not in again.output


def test_without_a_terminal_the_secret_goes_into_a_file_of_its_owner(desk: Desk) -> None:
    desk.terminal = False
    ran = desk.run("--yes")
    (secret,) = desk.accepted
    assert ran.status == 0
    assert secret.decode() not in ran.output
    (written,) = (p for p in desk.folder.iterdir() if p.is_file() and secret in p.read_bytes())
    assert written.stat().st_mode & 0o777 == 0o600


def test_a_second_deployment_changes_nothing_but_the_revisions(deployed: Desk) -> None:
    before = picture.taken(deployed.plane)
    again = deployed.run("--yes")
    assert again.status == 0, again.output
    assert picture.taken(deployed.plane) == before
    allowed = (
        "/functions/",
        "/uploads/",
        "deployment-lock",
        "/secrets",
        "generateServiceIdentity",
        "-doctor-",
    )
    assert not [change for change in again.changes if not any(part in change for part in allowed)]


def test_a_status_of_what_is_well_is_0_and_changes_nothing(deployed: Desk) -> None:
    ran = deployed.run("status")
    assert ran.status == 0, ran.output
    assert [change for change in ran.changes if "-doctor-" not in change] == []


# --- handlers come and go ----------------------------------------------------------------------------------


def test_a_new_handler_gets_its_subscription(deployed: Desk) -> None:
    deployed.handlers({**HANDLERS, "extra.welcome": ("users.*",)})
    ran = deployed.run("--yes")
    assert ran.status == 0, ran.output
    assert handlers_of(pushed(deployed)) == {REPLAY, LOG, CHAT, "extra.welcome", "flowhook.doctor"}
    assert picture.grants(deployed.plane) == grants(pushed(deployed))


def test_a_handler_that_is_gone_is_kept_until_somebody_says_so(deployed: Desk) -> None:
    deployed.handlers({LOG: ("*",)})
    kept = deployed.run("--yes")
    assert kept.status == 0, kept.output
    assert any(CHAT in name for name in deployed.plane.pubsub.found)
    assert CHAT not in handlers_of(pushed(deployed))
    removed = deployed.run("--yes", "--prune")
    assert removed.status == 0, removed.output
    assert not any(CHAT in name for name in deployed.plane.pubsub.found)
    assert picture.grants(deployed.plane) == grants(pushed(deployed))


def test_a_filter_that_changes_makes_another_subscription_and_removes_the_old(deployed: Desk) -> None:
    before = {name for name in pushed(deployed) if CHAT in name}
    deployed.handlers({**HANDLERS, CHAT: ("users.*",)})
    ran = deployed.run("--yes", "--drain-minutes", "30")
    assert ran.status == 0, ran.output
    after = {name for name in pushed(deployed) if CHAT in name}
    assert len(after) == 1
    assert not after & before
    assert not before & set(deployed.plane.pubsub.found)


# --- inline and back ---------------------------------------------------------------------------------------


def test_inline_delivery_takes_less(desk: Desk) -> None:
    ran = desk.run("--yes", "--delivery", "inline")
    assert ran.status == 0, ran.output
    assert set(desk.plane.functions.found) == {RECEIVE}
    assert set(desk.plane.pubsub.found) == set(desk.plane.pubsub.topics) == {"flowhook-rejected"}
    everything = grants(set())
    same = ("secrets/flowhook-secret", f"services/{RECEIVE}", f"projects/{PROJECT}")
    assert {key: picture.grants(desk.plane)[key] for key in same} == {key: everything[key] for key in same}


def test_from_pubsub_to_inline_and_back(deployed: Desk) -> None:
    before = pushed(deployed)
    inline = deployed.run("--yes", "--delivery", "inline", "--prune")
    assert inline.status == 0, inline.output
    assert set(deployed.plane.functions.found) == {RECEIVE}
    assert pushed(deployed) == set()
    back = deployed.run("--yes")
    assert back.status == 0, back.output
    assert pushed(deployed) == before
    assert picture.grants(deployed.plane) == grants(before)


# --- away --------------------------------------------------------------------------------------------------


def test_delete_keeps_the_secret_and_the_dead_letters(deployed: Desk) -> None:
    ran = deployed.run("delete", "--yes")
    assert ran.status == 0, ran.output
    found = picture.taken(deployed.plane)
    assert (found["functions"], found["accounts"], found["alerts"]) == ({}, set(), {})
    assert set(found["subscriptions"]) == set(found["topics"]) == {"flowhook-dead-letters"}
    assert set(found["secrets"]) == {"flowhook-secret"}
    assert found["grants"] == {"topics/flowhook-dead-letters": {(PUBLISHER, AGENT_MEMBER)}}


def test_delete_again_succeeds_and_changes_nothing(deployed: Desk) -> None:
    assert deployed.run("delete", "--yes").status == 0
    again = deployed.run("delete", "--yes")
    assert (again.status, again.changes) == (0, [])


def test_delete_all_leaves_nothing(deployed: Desk) -> None:
    ran = deployed.run("delete", "--all", "--yes")
    assert ran.status == 0, ran.output
    found = picture.taken(deployed.plane)
    assert not any(found[kind] for kind in ("topics", "subscriptions", "secrets", "grants", "repositories"))
    for policy in deployed.plane.iam.policies.values():
        assert "deleted:" not in json.dumps(policy)


def test_delete_leaves_a_neighbour_whose_name_begins_alike(deployed: Desk) -> None:
    other = deployed.run("--yes", "--name", "flowhook-two")
    assert other.status == 0, other.output
    before = {k: v for k, v in picture.taken(deployed.plane)["subscriptions"].items() if "flowhook-two" in k}
    assert deployed.run("delete", "--all", "--yes").status == 0
    found = picture.taken(deployed.plane)
    assert found["subscriptions"] == before
    assert set(found["functions"]) == {f"{REGION}/flowhook-two-receive", f"{REGION}/flowhook-two-consume"}
    assert deployed.run("status", "--name", "flowhook-two").status == 0


def test_delete_takes_functions_that_failed_too(desk: Desk) -> None:
    desk.plane.faults.half_created["flowhook-consume"] = 1000
    assert desk.run("--yes").status == 1
    assert desk.plane.functions.found[CONSUME]["state"] == "FAILED"
    ran = desk.run("delete", "--all", "--yes")
    assert ran.status == 0, ran.output
    assert desk.plane.functions.found == {}


def test_after_delete_a_deployment_works_again(deployed: Desk) -> None:
    before = picture.grants(deployed.plane)
    assert deployed.run("delete", "--yes").status == 0
    again = deployed.run("--yes")
    assert again.status == 0, again.output
    assert picture.grants(deployed.plane) == before


# --- adopted -----------------------------------------------------------------------------------------------


def test_what_the_script_of_before_had_installed_is_adopted(desk: Desk) -> None:
    picture.restore(desk.plane, RECORDED, (desk.folder / TABLE).read_bytes())
    desk.plane.time.advance(60)
    ran = desk.run("--yes", "--drain-minutes", "30")
    assert ran.status == 0, ran.output
    assert [payload for _, payload in picture.taken(desk.plane)["secrets"]["flowhook-secret"]] == [
        b"the-secret-that-the-script-had-made"
    ]
    assert handlers_of(pushed(desk)) == {REPLAY, LOG, CHAT, "flowhook.doctor"}
    assert "flowhook-events" not in desk.plane.pubsub.found
    extra = {f"projects/{PROJECT}": {("roles/artifactregistry.writer", f"serviceAccount:{account('build')}")}}
    found = picture.grants(desk.plane)
    assert {k: found[k] - extra.get(k, set()) for k in found} == grants(pushed(desk))
    before = picture.taken(desk.plane)
    assert desk.run("--yes").status == 0
    assert picture.taken(desk.plane) == before


# --- what must not be --------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["status", "--yes"])
@pytest.mark.parametrize("planted", ["allUsers", "unchecked"])
def test_a_consume_that_anybody_may_call_is_no_good(deployed: Desk, command: str, planted: str) -> None:
    if planted == "allUsers":
        deployed.plane.iam.plant(f"services/{CONSUME}", INVOKER, "allUsers")
    else:
        deployed.plane.run.found[CONSUME].document["invokerIamDisabled"] = True
    ran = deployed.run(command)
    assert ran.status == 1, ran.output
