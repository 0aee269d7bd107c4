"""What a deployment asks of this machine: gcloud's login, the handlers, a file for the secret."""

import json
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from flowhook.deploy import declared, rest
from flowhook.deploy.declared import Declared, Variable
from flowhook.deploy.errors import DeployError
from tests.deploy.scripted import Time
from tests.support.google_cloud.desk import Desk
from tests.support.receiver import ROOT

GCLOUD = """#!/bin/sh
echo x >> "$0.calls"
echo "token-$(wc -l < "$0.calls" | tr -d ' ')"
"""


@pytest.fixture
def gcloud(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    program = tmp_path / "bin" / "gcloud"
    program.parent.mkdir()
    program.write_text(GCLOUD)
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")
    return program


def test_a_token_is_gclouds_and_asked_for_again_when_it_has_ended(
    gcloud: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    time = Time()
    monkeypatch.setattr("flowhook.deploy.rest.time.monotonic", lambda: time.now)
    login = rest.GcloudLogin(str(gcloud))
    login.refresh(None)
    login.refresh(None)
    assert login.token == "token-1"
    time.sleep(rest.FRESH)
    login.refresh(None)
    assert login.token == "token-2"


def test_without_a_login_it_is_told_what_to_do(gcloud: Path) -> None:
    gcloud.write_text("#!/bin/sh\necho 'You do not currently have an active account selected.' >&2\nexit 1\n")
    with pytest.raises(DeployError, match="gcloud auth login") as raised:
        rest.GcloudLogin(str(gcloud)).refresh(None)
    assert "active account" in str(raised.value)


@pytest.mark.parametrize("variable", rest.AUTHORITIES)
def test_the_authorities_of_this_machine_are_trusted(
    variable: str, gcloud: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in rest.AUTHORITIES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(variable, str(tmp_path / "ca.pem"))
    assert rest.login().verify == str(tmp_path / "ca.pem")


# --- handlers ----------------------------------------------------------------------------------------------


def test_the_handlers_that_are_shipped_are_found() -> None:
    found = {handler.name: handler.patterns for handler in declared.ask(ROOT)}
    assert found["log_events.log_event"] == ("*",)
    assert found["notify_chat.notify_chat"] == ("packet_comments.created",)


def test_the_command_prints_them_for_programs() -> None:
    command = [sys.executable, "-m", "flowhook", "handlers", "--json"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert {"log_events.log_event", "notify_chat.notify_chat"} <= {h["name"] for h in json.loads(done.stdout)}


@pytest.mark.parametrize(
    ("given", "read"),
    [
        ({}, Declared("m.f", ("*",))),
        ({"attempts": None, "timeout": None, "variables": []}, Declared("m.f", ("*",), variables=())),
        (
            {"attempts": 5, "timeout": 15.0, "once": True},
            Declared("m.f", ("*",), attempts=5, timeout=15.0, once=True),
        ),
        (
            {"variables": [{"name": "A", "secret": True}, {"name": "B", "secret": False, "default": None}]},
            Declared("m.f", ("*",), variables=(Variable("A", True, True), Variable("B", False, False))),
        ),
        (
            {"variables": [{"name": "A", "secret": True, "required": True, "default": None}]},
            Declared("m.f", ("*",), variables=(Variable("A", True, True),)),
        ),
        (
            {"variables": [{"name": "A", "secret": False, "required": False, "default": "x"}]},
            Declared("m.f", ("*",), variables=(Variable("A", False, False),)),
        ),
    ],
)
def test_what_is_not_declared_has_a_default(given: dict[str, object], read: Declared) -> None:
    assert declared.read([{"name": "m.f", "patterns": ["*"], **given}]) == (read,)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    for name in ("main.py", "flowhook", "flows_emulator", "handlers"):
        (tmp_path / name).symlink_to(ROOT / name)
    return tmp_path


def test_a_broken_handler_is_told_with_its_file(project: Path) -> None:
    (project / "handlers").unlink()
    (project / "handlers").mkdir()
    (project / "handlers" / "__init__.py").touch()
    (project / "handlers" / "broken.py").write_text("import nowhere\n")
    with pytest.raises(DeployError, match=r"(?s)nothing is deployed.*handlers/broken\.py can't be imported"):
        declared.ask(project)


def test_what_handlers_print_when_they_are_imported_is_no_list(project: Path) -> None:
    (project / "handlers").unlink()
    (project / "handlers").mkdir()
    (project / "handlers" / "__init__.py").touch()
    (project / "handlers" / "loud.py").write_text(
        "from flowhook import on\nprint('[1, 2]')\n\n@on('users.*')\ndef hear(event): ...\n"
    )
    (found,) = declared.ask(project)
    assert (found.name, found.patterns) == ("loud.hear", ("users.*",))


def test_handlers_see_nothing_of_this_machine(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (project / "handlers").unlink()
    (project / "handlers").mkdir()
    (project / "handlers" / "__init__.py").touch()
    (project / "handlers" / "curious.py").write_text(
        "import os\nassert 'A_TOKEN' not in os.environ and 'PYTHONPATH' not in os.environ, 'it sees it'\n"
    )
    monkeypatch.setenv("A_TOKEN", "of-this-machine")
    monkeypatch.setenv("PYTHONPATH", str(project))
    assert declared.ask(project) == ()


def test_a_setting_that_would_stop_the_start_stops_the_deployment(project: Path) -> None:
    declared.check_source(project, {})
    with pytest.raises(DeployError, match="DELIVERY"):
        declared.check_source(project, {"DELIVERY": "pigeon"})


# --- the secret --------------------------------------------------------------------------------------------


def test_where_nobody_watches_the_secret_is_written_for_its_owner_alone(desk: Desk) -> None:
    desk.terminal = False
    ran = desk.run("--yes")
    assert ran.status == 0, ran.output
    (path,) = desk.folder.glob(".env.secret.*")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    secret = path.read_bytes().strip()
    assert [secret] == desk.accepted
    assert secret.decode() not in ran.output
    assert str(path) in ran.output


def test_a_file_of_somebody_elses_is_not_written_into(desk: Desk, tmp_path: Path) -> None:
    theirs = tmp_path / "theirs"
    theirs.write_text("theirs")
    desk.terminal = False
    (desk.folder / ".env.secret.flows-demo-1.flowhook").symlink_to(theirs)
    assert desk.run("--yes").status == 0
    assert theirs.read_text() == "theirs"


def test_a_failing_test_of_a_handler_stops_the_deployment(project: Path) -> None:
    declared.check_tests(project)
    tests = project / "tests" / "handlers"
    tests.mkdir(parents=True)
    (tests / "test_mine.py").write_text("def test_it(): pass\n")
    declared.check_tests(project)
    (tests / "test_mine.py").write_text("def test_it(): assert 2 + 2 == 5\n")
    with pytest.raises(DeployError, match=r"(?s)the handlers' tests fail, so nothing is deployed.*2 \+ 2"):
        declared.check_tests(project)
