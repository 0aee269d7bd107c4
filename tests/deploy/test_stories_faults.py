"""A cloud that is slow, eventually consistent and half-done: each way of it with each command."""

import json
from collections.abc import Callable

import pytest

from tests.deploy.test_stories import CONSUME, INVOKER, RECEIVE, grants, pushed
from tests.support.google_cloud import picture
from tests.support.google_cloud.desk import CHAT, HANDLERS, PROJECT, Desk
from tests.support.google_cloud.faults import Faults
from tests.support.google_cloud.iam import AUDITED, STRANGER

Plant = Callable[[Faults], None]


def plant(**values: object) -> Plant:
    def planted(faults: Faults) -> None:
        for name, value in values.items():
            assert hasattr(faults, name)
            setattr(faults, name, value)

    return planted


HALVES = {"flowhook-consume": 1, "flowhook-receive": 1}
MODES: dict[str, Plant] = {
    "grants late": plant(grants_late=180),
    "new accounts unknown": plant(accounts_unknown=90),
    "APIs late": plant(apis_late=60),
    "latest stale": plant(latest_stale=7200),
    "addresses late": plant(addresses_late=60),
    "metrics late": plant(metrics_late=300),
    "traffic late": plant(traffic_late=60),
    "created by halves": lambda faults: faults.half_created.update(HALVES),
    "too many requests": plant(too_many=20),
    "cut off before": plant(cuts="before"),
    "cut off after": plant(cuts="after"),
    "pages of one": plant(page_size=1),
    "somebody else writes too": plant(concurrent_writer=True),
    "a region away": plant(unreachable={"us-central1"}),
    "redeployments check invokers": plant(redeployment_checks_invokers=True),
    "the build's first failures": lambda faults: faults.not_yet.extend(
        ["source-bucket-denied", "repository-unreadable", "image-unreadable"]
    ),
}  # fmt: skip


@pytest.mark.parametrize("mode", MODES)
def test_a_first_deployment_gets_there(desk: Desk, mode: str) -> None:
    MODES[mode](desk.plane.faults)
    ran = desk.run("--yes")
    assert ran.status == 0, ran.output
    found = picture.grants(desk.plane)
    wanted = grants(pushed(desk))
    assert {k: {g for g in found[k] if g[1] != STRANGER} for k in found} == wanted
    assert desk.plane.secrets.found.keys() == {"flowhook-secret"}
    assert len(desk.plane.secrets.found["flowhook-secret"].versions) == 1


@pytest.mark.parametrize("mode", MODES)
def test_every_command_gets_there(deployed: Desk, mode: str) -> None:
    MODES[mode](deployed.plane.faults)
    deployed.handlers({**HANDLERS, "extra.welcome": ("users.*",)})
    for words in (
        ["--yes"],
        ["status"],
        ["rotate-secret"],
        ["rotate-secret", "--finish"],
        ["--yes", "--delivery", "inline", "--prune"],
        ["delete", "--all", "--yes"],
    ):
        ran = deployed.run(*words)
        assert ran.status == 0, f"{words}: {ran.output[-2000:]}"
    assert deployed.plane.functions.found == {}


@pytest.mark.parametrize("but", ["cut off before", "cut off after"])
def test_all_of_it_at_once(desk: Desk, but: str) -> None:
    for mode, planted in MODES.items():
        if mode not in (but, "created by halves"):
            planted(desk.plane.faults)
    ran = desk.run("--yes")
    assert ran.status == 0, ran.output


# --- what somebody else has --------------------------------------------------------------------------------


def test_nothing_of_others_is_lost(desk: Desk) -> None:
    """Conditions, audit configuration, and what they write while we do."""
    project = f"projects/{PROJECT}"
    condition = {"title": "until June", "expression": 'request.time < timestamp("2026-06-01T00:00:00Z")'}
    desk.plane.iam.plant(project, "roles/viewer", "user:her@example.com", condition=condition)
    desk.plane.iam.policies[project]["auditConfigs"] = AUDITED
    desk.plane.faults.concurrent_writer = True
    assert desk.run("--yes").status == 0
    for words in ([], ["delete", "--yes"]):
        if words:
            assert desk.run(*words).status == 0
        policy = desk.plane.iam.policies[project]
        assert policy["auditConfigs"] == AUDITED
        conditional = [b for b in policy["bindings"] if b.get("condition")]
        assert conditional == [
            {"role": "roles/viewer", "members": ["user:her@example.com"], "condition": condition}
        ]
    for resource in desk.plane.iam.foreign & set(desk.plane.iam.policies):
        policy = desk.plane.iam.policies[resource]
        assert STRANGER in json.dumps(policy) or policy["auditConfigs"] == AUDITED


def test_a_grant_with_a_condition_is_no_grant(desk: Desk) -> None:
    """A binding of the same role and member that holds for a while only doesn't count."""
    assert desk.run("--yes").status == 0
    member = f"serviceAccount:flowhook-build@{PROJECT}.iam.gserviceaccount.com"
    project = f"projects/{PROJECT}"
    policy = desk.plane.iam.policies[project]
    for binding in policy["bindings"]:
        if binding["role"] == "roles/logging.logWriter":
            binding["members"].remove(member)
    policy["bindings"] = [b for b in policy["bindings"] if b["members"]]
    condition = {"title": "never", "expression": "false"}
    desk.plane.iam.plant(project, "roles/logging.logWriter", member, condition=condition)
    assert desk.run("--yes").status == 0
    assert ("roles/logging.logWriter", member) in desk.plane.iam.grants(project)


def test_traces_of_deleted_accounts_are_mended(deployed: Desk) -> None:
    """Accounts are deleted by hand, and made anew by the next deployment."""
    for email in list(deployed.plane.iam.accounts):
        deployed.plane.iam.delete(email)
    ran = deployed.run("--yes")
    assert ran.status == 0, ran.output
    assert "deleted:" not in json.dumps([*deployed.plane.iam.policies.values()])
    assert picture.grants(deployed.plane) == grants(pushed(deployed))


# --- organizations -----------------------------------------------------------------------------------------


def test_an_organization_that_forbids_everybody_is_told_what_to_do(desk: Desk) -> None:
    desk.plane.faults.domains_restricted = True
    ran = desk.run("--yes")
    assert ran.status == 1
    assert "constraints/iam.allowedPolicyMemberDomains" in ran.output
    assert "--public no-check" in ran.output


def test_with_no_check_it_works_there(desk: Desk) -> None:
    desk.plane.faults.domains_restricted = True
    for _ in range(2):
        ran = desk.run("--yes", "--public", "no-check")
        assert ran.status == 0, ran.output
        services = {name: s.document for name, s in desk.plane.run.found.items()}
        assert services[RECEIVE]["invokerIamDisabled"]
        assert not services[CONSUME].get("invokerIamDisabled")
    assert ("roles/run.invoker", "allUsers") not in desk.plane.iam.grants(f"services/{RECEIVE}")


def test_what_already_matches_is_not_written(deployed: Desk) -> None:
    """An identity that may not set policies can deploy."""
    deployed.plane.faults.refused[":setIamPolicy"] = 403
    ran = deployed.run("--yes")
    assert ran.status == 0, ran.output


def test_data_lies_where_the_organization_wants_it(desk: Desk) -> None:
    desk.plane.faults.locations = {"europe-west1"}
    ran = desk.run("--yes")
    assert ran.status == 0, ran.output
    replication = desk.plane.secrets.found["flowhook-secret"].document["replication"]
    assert replication == {"userManaged": {"replicas": [{"location": "europe-west1"}]}}


# --- what stays, and is told -------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["topics", "subscriptions", "secrets", "functions", "alertPolicies"])
def test_what_cannot_be_read_is_not_taken_for_missing(deployed: Desk, kind: str) -> None:
    before = picture.taken(deployed.plane)
    deployed.plane.faults.refused[f"/{kind}"] = 403
    for words in (["--yes"], ["delete", "--all", "--yes"], ["status"]):
        ran = deployed.run(*words)
        assert (ran.status, ran.changes) == (1, []), words
    assert picture.taken(deployed.plane) == before


def test_a_build_that_fails_is_told_with_its_log(deployed: Desk) -> None:
    deployed.plane.faults.builds_fail = True
    before = pushed(deployed)
    ran = deployed.run("--yes")
    assert ran.status == 1
    assert "https://console.cloud.google.com/cloud-build/builds/1" in ran.output
    assert pushed(deployed) == before
    deployed.plane.faults.builds_fail = False
    assert deployed.run("--yes").status == 0


def test_a_receiver_that_does_not_answer_as_it_should_is_told(deployed: Desk) -> None:
    deployed.plane.faults.answers_fail = True
    ran = deployed.run("status")
    assert ran.status == 1
    assert "logs?project=" in ran.output


def test_a_pinned_split_of_traffic_is_ended(deployed: Desk) -> None:
    """A deployment that leaves it would serve nothing of what it has built."""
    for name in (RECEIVE, CONSUME):
        service = deployed.plane.run.found[name]
        (revision,) = service.serving
        pinned = {"type": "TRAFFIC_TARGET_ALLOCATION_TYPE_REVISION", "revision": revision, "percent": 100}
        service.document["traffic"] = [pinned]
    ran = deployed.run("--yes")
    assert ran.status == 0, ran.output
    deployed.plane.time.advance(60)
    for name in (RECEIVE, CONSUME):
        service = deployed.plane.run.found[name]
        assert service.serving == (service.document["latestReadyRevision"].rpartition("/")[2],)


def test_another_region_leaves_the_old_functions_until_told(deployed: Desk) -> None:
    moved = deployed.run("--yes", "--region", "us-central1")
    assert "in other regions" in moved.output
    assert len(deployed.plane.functions.found) == 4
    removed = deployed.run("--yes", "--region", "us-central1", "--prune")
    assert removed.status == 0, removed.output
    assert set(deployed.plane.functions.found) == {
        f"us-central1/flowhook-{t}" for t in ("receive", "consume")
    }


def test_a_projects_number_is_as_good_as_its_id(desk: Desk) -> None:
    ran = desk.run("--yes", "--project", "123456789012")
    assert ran.status == 0, ran.output
    assert picture.grants(desk.plane) == grants(pushed(desk))


def test_a_subscription_that_is_paused_stays_paused(deployed: Desk) -> None:
    (name,) = (name for name in pushed(deployed) if CHAT in name)
    document = deployed.plane.pubsub.found[name].document
    document["labels"]["flowhook-paused"] = "1770000000"
    document["pushConfig"] = {}
    ran = deployed.run("--yes")
    assert ran.status == 0, ran.output
    assert deployed.plane.pubsub.found[name].endpoint == ""
    (alert,) = (a for n, a in picture.taken(deployed.plane)["alerts"].items() if "waiting" in n)
    assert CHAT not in json.dumps(alert)


def test_an_address_for_alerts_makes_a_channel_and_another_one_changes_them(deployed: Desk) -> None:
    for address in ("her@example.com", "him@example.com"):
        deployed.environment(f"NOTIFICATION_EMAIL={address}\n")
        assert deployed.run("--yes").status == 0
        (channel,) = deployed.plane.monitoring.channels.values()
        assert channel["labels"]["email_address"] == address
        for alert in deployed.plane.monitoring.alerts.values():
            assert alert["notificationChannels"] == [channel["name"]]


# --- one at a time -----------------------------------------------------------------------------------------


def test_a_second_deployment_at_the_same_time_stops_and_says_who_is_at_work(deployed: Desk) -> None:
    assert deployed.killed(3, "after", "--yes")
    second = deployed.run("--yes")
    assert second.status == 1
    assert "another deployment is under way: by " in second.output
    assert "--break-lock" in second.output
    assert deployed.run("--yes", "--break-lock").status == 0
    assert deployed.run("--yes").status == 0


def test_a_few_things_are_asked_for_at_once_and_never_many(deployed: Desk) -> None:
    assert 0 < deployed.plane.most_at_once <= 8


def test_gcloud_never_runs_beside_itself_and_builds_only(deployed: Desk) -> None:
    """The stand-in fails where two run at once."""
    built = [call[2] for call in deployed.gcloud.calls if call[:2] == ("functions", "deploy")]
    assert built == ["flowhook-consume", "flowhook-receive"]
    assert not [word for call in deployed.gcloud.calls for word in call if "unauthenticated" in word]


def test_consume_is_invoked_by_pushes_alone(deployed: Desk) -> None:
    assert deployed.plane.run.found[CONSUME].document["ingress"] == "INGRESS_TRAFFIC_INTERNAL_ONLY"
    ((role, member),) = deployed.plane.iam.grants(f"services/{CONSUME}")
    assert role == INVOKER
    assert member == f"serviceAccount:flowhook-push@{PROJECT}.iam.gserviceaccount.com"


def test_the_project_pays_for_every_request_but_those_before_it_can(desk: Desk) -> None:
    """A login's shared quota project works only sometimes; at the very beginning there is no other."""
    ran = desk.run("--yes")
    assert ran.status == 0
    open_to_all = ("serviceusage", "cloudresourcemanager", "cloudbilling", "storage")
    built = ("cloudfunctions.googleapis.com/v2/projects", "uploads")
    for request in ran.requests:
        payer = request.headers.get("x-goog-user-project")
        by_gcloud = not request.headers and any(part in str(request) for part in built)
        assert payer == PROJECT or request.host.startswith(open_to_all) or by_gcloud, str(request)


def test_the_agent_of_pubsub_is_made_sure_of_each_time(deployed: Desk) -> None:
    ran = deployed.run("--yes")
    assert [change for change in ran.changes if "generateServiceIdentity" in change]


def test_what_cannot_be_reached_now_is_not_taken_for_missing(deployed: Desk) -> None:
    deployed.plane.faults.unreachable = {"europe-west1"}
    for words in (["--yes"], ["delete", "--all", "--yes"]):
        ran = deployed.run(*words)
        assert (ran.status, ran.changes) == (1, []), words
