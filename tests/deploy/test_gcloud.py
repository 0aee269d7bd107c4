"""deploy.sh, unmodified, with the real gcloud and real processes, against the control plane of the tests."""

import os
import re
import signal
from collections.abc import Iterator, Mapping

import pytest

from flowhook.cli.pubsub_emulator import Emulator
from tests.support.google_cloud import functions, picture
from tests.support.google_cloud.picture import REGION
from tests.support.google_cloud.processes import Installed
from tests.support.google_cloud.workshop import Ran, Workshop, opened
from tests.support.receiver import ROOT, until

pytestmark = pytest.mark.gcloud

PROJECT = "flows-demo-1"
ENVIRONMENT = 'MAX_INSTANCES=3\n# A comment.\nLOG_LEVEL=DEBUG\nGREETING=it says: "hello", twice=2\n'


GREETING = """
from flowhook import Event, on, variable

WORDS = variable("GREETING", default="hello")


@on("users.created")
def greet(event: Event) -> None: ...
"""


@pytest.fixture(scope="module")
def workshop(emulator: Emulator, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workshop]:
    installed = Installed(tmp_path_factory.mktemp("installed"))
    with opened(PROJECT, tmp_path_factory.mktemp(PROJECT), emulator, installed) as made:
        yield made


@pytest.fixture(scope="module")
def life(workshop: Workshop) -> Mapping[str, Ran]:
    """What a person does in a year; later tests look at what each command came to."""
    (workshop.folder / ".env.deploy").write_text(ENVIRONMENT)
    (workshop.folder / "handlers" / "greeting.py").write_text(GREETING)
    told: dict[str, Ran] = {}
    for name, arguments in (
        ("dry", ["--dry-run"]),
        ("first", ["--yes"]),
        ("second", ["--yes"]),
        ("status", ["status"]),
        ("rotated", ["rotate-secret"]),
        ("finished", ["rotate-secret", "--finish"]),
        ("proved", ["status"]),
    ):
        told[name] = workshop.deploy(*arguments)
    return told


def test_a_dry_run_changes_nothing(life: Mapping[str, Ran]) -> None:
    assert (life["dry"].status, life["dry"].changes) == (0, []), life["dry"].output


@pytest.mark.parametrize("step", ["first", "second", "status", "rotated", "finished", "proved"])
def test_each_step_succeeds(life: Mapping[str, Ran], step: str) -> None:
    assert life[step].status == 0, life[step].output


def test_the_end_of_a_deployment_proves_it(life: Mapping[str, Ran]) -> None:
    output = life["first"].output
    for check in (
        "a signed event is accepted",
        "a wrong secret is refused",
        "no secret is refused",
        "a malformed body is refused",
        "the event is in its topic",
        "the malformed body is kept",
        "a handler ran in consume, and could keep what it rejected",
    ):
        assert re.search(rf"^{re.escape(check)}.* ok ", output, re.MULTILINE), check
    assert "https://flowhook-receive-hash-ew.a.run.app" in output
    assert "Webhook settings" in output


def test_what_the_function_needs_is_uploaded_and_nothing_else(
    life: Mapping[str, Ran], workshop: Workshop
) -> None:
    archive = workshop.plane.functions.archives[f"{REGION}/flowhook-receive"]
    names = functions.names(archive)
    assert {"main.py", "requirements.txt", "handlers/__init__.py", "handlers/log_events.py"} <= names
    assert not [n for n in names if "pycache" in n or n.startswith(("flowhook/cli", "flowhook/deploy", "."))]
    assert not {"notes.txt", "README.md", "deploy.sh"} & names
    modules = {p.relative_to(ROOT).as_posix() for p in (ROOT / "flowhook").glob("*.py")}
    left_out = {"flowhook/__main__.py", "flowhook/testing.py"}
    assert modules - left_out <= names


def test_the_functions_are_configured_as_gcloud_was_told(life: Mapping[str, Ran], workshop: Workshop) -> None:
    found = workshop.plane.functions.found
    receive = found[f"{REGION}/flowhook-receive"]["serviceConfig"]
    consume = found[f"{REGION}/flowhook-consume"]["serviceConfig"]
    assert receive["maxInstanceCount"] == consume["maxInstanceCount"] == 3
    assert consume["environmentVariables"]["GREETING"] == 'it says: "hello", twice=2'
    assert (receive["ingressSettings"], consume["ingressSettings"]) == ("ALLOW_ALL", "ALLOW_INTERNAL_ONLY")
    assert receive["secretVolumes"][0]["versions"] == [{"version": "1", "path": "secret"}]


def test_neither_the_secret_nor_a_value_is_in_a_command_or_shown_to_nobody(life: Mapping[str, Ran]) -> None:
    output = life["first"].output
    assert "it says" not in output
    assert not re.search(r"\n    [\w-]{43}\n", output)


def test_a_token_that_has_run_out_is_renewed(workshop: Workshop, life: Mapping[str, Ran]) -> None:
    workshop.plane.faults.expired = 1
    ran = workshop.deploy("status")
    assert ran.status == 0, ran.output
    assert workshop.plane.faults.expired == 0


def test_an_interruption_is_told_and_the_lock_given_back(workshop: Workshop, life: Mapping[str, Ran]) -> None:
    before = len(workshop.plane.log)
    process = workshop.start("--yes")
    uploads = "functions:generateUploadUrl"
    until(lambda: any(uploads in str(r) for r in workshop.plane.log[before:]), patience=120)
    os.killpg(process.pid, signal.SIGINT)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 130, output
    assert "Run it again" in output
    assert set(workshop.plane.secrets.found) == {"flowhook-secret"}


def test_at_the_end_everything_goes(workshop: Workshop, life: Mapping[str, Ran]) -> None:
    ran = workshop.deploy("delete", "--all", "--yes")
    assert ran.status == 0, ran.output
    found = picture.taken(workshop.plane)
    assert {kind: value for kind, value in found.items() if value} == {}
