"""deploy.sh, unmodified, with the real gcloud, against a strict fake of Google's control plane."""

import re
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest

from flowhook.cli.pubsub_emulator import Emulator
from tests.gcloud import functions, story
from tests.gcloud.functions import Installed
from tests.gcloud.iam import AGENT
from tests.gcloud.story import Step
from tests.gcloud.workshop import Workshop, commands, opened
from tests.support.receiver import ROOT

pytestmark = pytest.mark.gcloud

PROJECT, UNLUCKY = "flows-demo-1", "flows-demo-2"
KEPT = {"flowhook-rejected", "flowhook-events", "flowhook-dead-letters"}
PUSHED = {"flowhook-log_events.log_event", "flowhook-notify_chat.notify_chat", "flowhook-flowhook.doctor"}
APIS = ("iam", "secretmanager", "pubsub", "cloudfunctions", "run", "cloudbuild", "artifactregistry")
URL = "https://flowhook-consume-hash-ew.a.run.app"
Stories = Callable[[str], Mapping[str, Step]]


def account(name: str, project: str = PROJECT) -> str:
    return f"flowhook-{name}@{project}.iam.gserviceaccount.com"


def grants(project: str = PROJECT, *, pushed: set[str] = PUSHED) -> dict[str, set[tuple[str, str]]]:
    """Who may do what, nothing left out and nothing more."""
    receive, consume, push, build = (
        f"serviceAccount:{account(name, project)}" for name in ("receive", "consume", "push", "build")
    )
    agent, publisher = f"serviceAccount:{AGENT}", "roles/pubsub.publisher"
    return {
        f"projects/{project}": {(role, build) for role in functions.BUILDS},
        "secrets/flowhook-secret": {("roles/secretmanager.secretAccessor", receive)},
        "topics/flowhook-events": {(publisher, receive)},
        "topics/flowhook-rejected": {(publisher, receive), (publisher, consume)},
        "topics/flowhook-dead-letters": {(publisher, agent)},
        "services/flowhook-receive": {("roles/run.invoker", "allUsers")},
        "services/flowhook-consume": {("roles/run.invoker", push)},
        **{f"subscriptions/{name}": {("roles/pubsub.subscriber", agent)} for name in pushed},
    }


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    return Installed(tmp_path_factory.mktemp("installed"))


@pytest.fixture(scope="session")
def stories(
    emulator: Emulator, installed: Installed, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Stories]:
    """Both at the same time, for gcloud leaves a core idle half of the time."""
    with ExitStack() as opening, ThreadPoolExecutor(2) as pool:
        told: dict[str, Future[Mapping[str, Step]]] = {}
        for project, tell in ((PROJECT, story.a_life), (UNLUCKY, story.misfortunes)):
            folder = tmp_path_factory.mktemp(project)
            workshop = opening.enter_context(opened(project, folder, emulator, installed))
            told[project] = pool.submit(tell, workshop)
        yield lambda project: told[project].result()


@pytest.fixture
def life(stories: Stories) -> Mapping[str, Step]:
    return stories(PROJECT)


@pytest.fixture
def unlucky(stories: Stories) -> Mapping[str, Step]:
    return stories(UNLUCKY)


@pytest.fixture
def workshop(emulator: Emulator, installed: Installed, tmp_path: Path) -> Iterator[Workshop]:
    """One with every API enabled, and else nothing."""
    with opened("flows-demo-3", tmp_path, emulator, installed) as made:
        made.plane.enabled |= {f"{name}.googleapis.com" for name in APIS}
        yield made


# --- a life ------------------------------------------------------------------------------------------------


def test_a_dry_run_changes_nothing_and_shows_every_command(life: Mapping[str, Step]) -> None:
    dry, first = life["dry"], life["first"]
    assert (dry.ran.status, dry.changes) == (0, [])

    def stable(step: Step) -> set[str]:
        told = [re.sub(r"/tmp/\S+/", "", command) for command in commands(step.ran.output)]
        return {command.replace("https://URL-OF-CONSUME", URL) for command in told}

    assert stable(dry) == stable(first)


def test_a_first_deployment_grants_exactly_this(life: Mapping[str, Step]) -> None:
    first = life["first"]
    assert first.ran.status == 0, first.ran.output
    assert first.grants == grants()
    assert first.accounts == {account(name) for name in ("receive", "consume", "push", "build")}
    assert first.topics == KEPT


def test_a_first_deployment_subscribes_exactly_this(life: Mapping[str, Step]) -> None:
    found = life["first"].subscriptions
    assert set(found) == KEPT | PUSHED
    for name in KEPT:
        kept = found[name]
        assert kept["topic"].rpartition("/")[2] == name
        assert (kept["expirationPolicy"], "pushConfig" in kept, kept.get("filter")) == ({}, False, None)
    for name in PUSHED:
        pushed, handler = found[name], name.removeprefix("flowhook-")
        assert pushed["topic"].endswith("/topics/flowhook-events")
        token = {"serviceAccountEmail": account("push"), "audience": URL}
        assert pushed["pushConfig"] == {"pushEndpoint": f"{URL}/{handler}", "oidcToken": token}
        dead = {
            "deadLetterTopic": f"projects/{PROJECT}/topics/flowhook-dead-letters",
            "maxDeliveryAttempts": 100,
        }
        assert pushed["deadLetterPolicy"] == dead
        assert pushed["retryPolicy"] == {"minimumBackoff": "10s", "maximumBackoff": "600s"}
        assert (pushed["ackDeadlineSeconds"], pushed["expirationPolicy"]) == (29, {})
        assert pushed["labels"] == {"flowhook": "flowhook"}
    filters = {name.removeprefix("flowhook-"): found[name].get("filter") for name in PUSHED}
    assert filters == {
        "log_events.log_event": None,
        "notify_chat.notify_chat": '(attributes.category = "packet_comments"'
        ' AND attributes.operation = "created")',
        "flowhook.doctor": 'attributes.entity_key = "flowhook/doctor"',
    }


def test_a_first_deployment_configures_the_functions_like_this(life: Mapping[str, Step]) -> None:
    found = life["first"].functions
    assert set(found) == {"flowhook-receive", "flowhook-consume"}
    common = {
        "DELIVERY": "pubsub",
        "GOOGLE_CLOUD_PROJECT": PROJECT,
        "PUBSUB_TOPIC": "flowhook-events",
        "REJECTED_TOPIC": "flowhook-rejected",
        "LOG_LEVEL": "DEBUG",
        "GREETING": 'it says: "hello", twice=2',
    }
    for target, own in (
        ("receive", {"WEBHOOK_SECRET_FILE": "/secrets/webhook/secret"}),
        ("consume", {}),
    ):
        function = found[f"flowhook-{target}"]
        config, build = function["serviceConfig"], function["buildConfig"]
        assert config["environmentVariables"] == {**common, **own}
        assert config["serviceAccountEmail"] == account(target)
        assert (config["availableMemory"], config["availableCpu"], config["timeoutSeconds"]) == (
            "1Gi",
            "1",
            60,
        )
        assert (config["maxInstanceRequestConcurrency"], config["maxInstanceCount"]) == (40, 3)
        assert config.get("minInstanceCount", 0) == 0
        assert config["ingressSettings"] == "ALLOW_ALL"
        assert (build["entryPoint"], build["runtime"]) == (target, "python313")
        assert build["serviceAccount"].endswith(account("build"))
        assert build["environmentVariables"] == {"SOURCE_DATE_EPOCH": "315532800"}
        assert function["labels"]["flowhook"] == "flowhook"
    (volume,) = found["flowhook-receive"]["serviceConfig"]["secretVolumes"]
    assert (volume["secret"], volume["mountPath"]) == ("flowhook-secret", "/secrets/webhook")
    assert volume["versions"] == [{"version": "latest", "path": "secret"}]
    assert "secretVolumes" not in found["flowhook-consume"]["serviceConfig"]


def test_what_the_function_needs_is_uploaded_and_nothing_else(life: Mapping[str, Step]) -> None:
    packages = [ROOT / "flowhook", ROOT / "flowhook" / "pubsub"]
    modules = {str(path.relative_to(ROOT)) for package in packages for path in package.glob("*.py")}
    needed = {"main.py", "requirements.txt"} | modules - {"flowhook/__main__.py"}
    handlers = {"handlers/__init__.py", "handlers/log_events.py", "handlers/notify_chat.py"}
    for archive in life["second"].archives.values():
        names = functions.names(archive)
        assert {name for name in names if not name.startswith("handlers/")} == needed
        assert names >= handlers
        assert not [name for name in names if "pycache" in name]
    for archive in life["added"].archives.values():
        assert "handlers/extra.py" in functions.names(archive)


def test_the_end_of_a_deployment_proves_it(life: Mapping[str, Step]) -> None:
    output = life["first"].ran.output
    for check in (
        "a signed event is accepted",
        "a wrong secret is refused",
        "no secret is refused",
        "a malformed body is refused",
        "the event is in its topic",
        "the malformed body is kept",
        "a handler ran in consume, and could keep what it rejected",
        "roles/run.invoker on flowhook-consume",
        "subscription flowhook-dead-letters",
    ):
        assert re.search(rf"^{re.escape(check)}.* ok ", output, re.MULTILINE), check
    assert "https://flowhook-receive-hash-ew.a.run.app" in output
    assert "Webhook settings" in output


def test_the_secret_is_strong_shown_once_and_in_no_command(life: Mapping[str, Step]) -> None:
    ((state, payload),) = life["first"].versions["flowhook-secret"]
    secret = payload.decode()
    assert state == "ENABLED"
    assert re.fullmatch(r"[\w-]{43}", secret)
    assert life["first"].ran.output.count(secret) == 1
    assert not [command for command in commands(life["first"].ran.output) if secret in command]
    assert secret not in life["second"].ran.output


def test_a_second_deployment_changes_nothing_but_the_revisions(life: Mapping[str, Step]) -> None:
    first, second = life["first"], life["second"]
    assert second.ran.status == 0, second.ran.output
    assert second.grants == first.grants
    assert second.subscriptions == first.subscriptions
    assert second.versions == first.versions
    assert second.functions == first.functions
    assert {re.sub(r"^gcloud (\w+ \w+).*", r"\1", c) for c in commands(second.ran.output)} == {
        "functions deploy"
    }
    mine = [change for change in second.changes if "-doctor-" not in change]
    assert not [
        change
        for change in mine
        if "functions" not in change
        and "uploads" not in change
        and "-run" not in change
        and "run.googleapis" not in change
    ]


def test_alerts_are_made_where_monitoring_is_enabled(life: Mapping[str, Step]) -> None:
    assert life["second"].alerts == {"flowhook: dead letters", "flowhook: errors"}


def test_the_doctor_leaves_no_subscription_behind(life: Mapping[str, Step]) -> None:
    for name in ("first", "second", "added", "removed", "status"):
        assert not [subscription for subscription in life[name].subscriptions if "-doctor-" in subscription]


def test_a_new_handler_gets_its_subscription(life: Mapping[str, Step]) -> None:
    added = life["added"]
    assert added.ran.status == 0, added.ran.output
    new = "flowhook-extra.welcome"
    assert set(added.subscriptions) == KEPT | PUSHED | {new}
    assert added.subscriptions[new]["filter"] == 'attributes.category = "users"'
    assert added.grants == grants(pushed=PUSHED | {new})


def test_a_subscription_without_a_handler_is_removed_only_when_somebody_says_so(
    life: Mapping[str, Step],
) -> None:
    kept, removed = life["kept"], life["removed"]
    assert kept.ran.status == 0
    assert "belong to no handler any more: flowhook-extra.welcome" in kept.ran.output
    assert not [command for command in commands(kept.ran.output) if "delete" in command]
    assert removed.ran.status == 0, removed.ran.output
    assert set(removed.subscriptions) == KEPT | PUSHED
    assert removed.grants == grants()
    changes = removed.changes
    gone = next(i for i, change in enumerate(changes) if "DELETE" in change and "extra.welcome" in change)
    assert gone < next(i for i, change in enumerate(changes) if "uploads" in change)


def test_a_rotation_accepts_both_secrets_until_it_is_finished(life: Mapping[str, Step]) -> None:
    ((_, old),) = life["removed"].versions["flowhook-secret"]
    rotated = life["rotated"]
    assert rotated.ran.status == 0, rotated.ran.output
    new, *kept = rotated.versions["flowhook-secret"][-1][1].split(b"\n")
    assert kept == [old]
    assert new != old
    assert new.decode() in rotated.ran.output
    assert not [change for change in rotated.changes if "functions" in change]
    assert life["again"].ran.status == 1
    assert "--finish" in life["again"].ran.output
    assert life["again"].changes == []
    states = life["finished"].versions["flowhook-secret"]
    assert [state for state, _ in states] == ["DISABLED", "DISABLED", "ENABLED"]
    assert states[-1][1] == new


def test_status_proves_it_with_the_new_secret_and_without_a_deployment(life: Mapping[str, Step]) -> None:
    status = life["status"]
    assert status.ran.status == 0, status.ran.output
    assert "All is well" in status.ran.output
    assert [change for change in status.changes if "-doctor-" not in change] == []


def test_delete_keeps_the_secret_and_the_dead_letters(life: Mapping[str, Step]) -> None:
    deleted = life["deleted"]
    assert deleted.ran.status == 0, deleted.ran.output
    assert (deleted.functions, deleted.accounts, deleted.alerts) == ({}, set(), set())
    assert set(deleted.subscriptions) == deleted.topics == {"flowhook-dead-letters"}
    assert set(deleted.versions) == {"flowhook-secret"}
    publisher = ("roles/pubsub.publisher", f"serviceAccount:{AGENT}")
    assert deleted.grants == {"topics/flowhook-dead-letters": {publisher}}


def test_delete_again_succeeds_and_changes_nothing(life: Mapping[str, Step]) -> None:
    again = life["deleted again"]
    assert (again.ran.status, again.changes) == (0, [])


def test_delete_all_leaves_nothing(life: Mapping[str, Step]) -> None:
    gone = life["all"]
    assert gone.ran.status == 0, gone.ran.output
    assert (gone.topics, gone.subscriptions, gone.versions, gone.grants) == (set(), {}, {}, {})


def test_inline_delivery_takes_less(life: Mapping[str, Step]) -> None:
    inline = life["inline"]
    assert inline.ran.status == 0, inline.ran.output
    everything = grants()
    receive = f"serviceAccount:{account('receive')}"
    same = ("secrets/flowhook-secret", "services/flowhook-receive", f"projects/{PROJECT}")
    rejected = {"topics/flowhook-rejected": {("roles/pubsub.publisher", receive)}}
    assert inline.grants == {**{name: everything[name] for name in same}, **rejected}
    assert set(inline.functions) == {"flowhook-receive"}
    assert set(inline.subscriptions) == {"flowhook-rejected"}
    assert (
        inline.functions["flowhook-receive"]["serviceConfig"]["environmentVariables"]["DELIVERY"] == "inline"
    )
    assert inline.versions == {"flowhook-secret": [("ENABLED", b"a-secret-from-Flows")]}
    assert "a-secret-from-Flows" not in inline.ran.output
    assert re.search(r"^a handler ran in receive, and could keep.* ok ", inline.ran.output, re.MULTILINE)


# --- misfortunes -------------------------------------------------------------------------------------------


def test_an_account_that_is_not_known_yet_is_tried_again(unlucky: Mapping[str, Step]) -> None:
    output = unlucky["interrupted"].ran.output
    assert f"{account('build', UNLUCKY)} does not exist" in output
    assert "Not known everywhere yet" in output


def test_an_interruption_is_told(unlucky: Mapping[str, Step]) -> None:
    interrupted = unlucky["interrupted"]
    assert interrupted.ran.status == 130
    assert "Run it again" in interrupted.ran.output
    assert interrupted.functions == {}


def test_a_build_that_fails_is_told_with_its_log(unlucky: Mapping[str, Step]) -> None:
    build = unlucky["build"]
    assert build.ran.status == 1
    assert "https://console.cloud.google.com/cloud-build/builds/1" in build.ran.output
    assert not [name for name in build.subscriptions if name in PUSHED]


def test_a_policy_against_everybody_is_told_with_what_to_do(unlucky: Mapping[str, Step]) -> None:
    policy = unlucky["policy"]
    assert policy.ran.status == 1
    assert "constraints/iam.allowedPolicyMemberDomains" in policy.ran.output
    assert "All is well" not in policy.ran.output


def test_a_receiver_that_does_not_answer_as_it_should_is_told(unlucky: Mapping[str, Step]) -> None:
    smoke = unlucky["smoke"]
    assert smoke.ran.status == 1
    assert re.search(r"^a signed event is accepted .*FAILED .*503", smoke.ran.output, re.MULTILINE)
    assert "logs?project=" in smoke.ran.output


def test_after_all_that_it_completes(unlucky: Mapping[str, Step]) -> None:
    well = unlucky["well"]
    assert well.ran.status == 0, well.ran.output
    assert well.grants == grants(UNLUCKY)
    assert set(well.subscriptions) == KEPT | PUSHED
    assert len(well.versions["flowhook-secret"]) == 1


# --- checks before any change ------------------------------------------------------------------------------


def break_permission(workshop: Workshop) -> None:
    workshop.plane.faults["GET pubsub.googleapis.com/v1/projects/flows-demo-3/topics"] = 403


def break_billing(workshop: Workshop) -> None:
    workshop.plane.billing = False


def break_handler(workshop: Workshop) -> None:
    (workshop.folder / "handlers" / "broken.py").write_text("import nowhere\n")


def break_settings(workshop: Workshop) -> None:
    (workshop.folder / ".env.deploy").write_text("EVENTS=packages.*\n")


def break_file(workshop: Workshop) -> None:
    (workshop.folder / ".env.deploy").write_text("WEBHOOK_SECRET=mine\n")


def nothing(workshop: Workshop) -> None:
    """All is well but the arguments."""


@pytest.mark.parametrize(
    ("prepare", "arguments", "told"),
    [
        (break_permission, (), "gcloud auth login"),
        (break_billing, (), "https://console.cloud.google.com/billing/linkedaccount?project=flows-demo-3"),
        (break_handler, (), "handlers/broken.py can't be imported"),
        (break_settings, (), "did you mean packets?"),
        (break_file, (), ".env.deploy: WEBHOOK_SECRET is set by this script"),
        (nothing, ("--project", "somebody-elses"), "project somebody-elses can't be reached"),
        (nothing, ("--region", "atlantis-west1"), "choose one of: europe-west1 us-central1"),
        (nothing, ("--name", "X"), "--name X"),
        (nothing, ("--delivery", "pigeon"), "it must be pubsub or inline"),
        (nothing, ("--secret-file", "-"), "--allow-weak-secret"),
        (nothing, ("--frobnicate",), "unknown argument --frobnicate"),
        (nothing, ("rotate-secret",), "there is no secret yet"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_a_mistake_is_told_and_nothing_is_changed(
    workshop: Workshop, prepare: Callable[[Workshop], None], arguments: tuple[str, ...], told: str
) -> None:
    prepare(workshop)
    command = arguments if arguments[:1] in (("rotate-secret",), ("status",)) else (*arguments, "--yes")
    ran = workshop.deploy(*command, stdin="12345678\n")
    assert (ran.status, workshop.plane.changes) == (1, [])
    assert told in ran.output


def test_without_a_terminal_and_without_yes_nothing_is_changed(workshop: Workshop) -> None:
    ran = workshop.deploy()
    assert (ran.status, workshop.plane.changes) == (1, [])
    assert "--yes" in ran.output


@pytest.mark.parametrize("command", ["", "rotate-secret", "status", "delete"])
def test_every_command_has_help(workshop: Workshop, command: str) -> None:
    ran = workshop.deploy(*command.split(), "--help")
    assert ran.status == 0
    assert ran.output.startswith(f"Usage: ./deploy.sh {command}".rstrip())
    assert workshop.plane.log == []
