"""The commands, run as a person runs them, against a real receiver."""

import json
import re
import shlex
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from flowhook import samples
from tests.support.command_line import flowhook
from tests.support.ports import free_port
from tests.support.receiver import (
    FORMS,
    PATIENCE,
    ROOT,
    SECRET,
    Receiver,
    environment,
    project,
    receiver,
    until,
    usual_project,
)

# Each test starts processes.
pytestmark = pytest.mark.slow


def test_send_all_shows_every_type(running: Receiver) -> None:
    done = flowhook("send", "--all", "--url", running.url)
    assert done.returncode == 0, done.stderr
    rows = {line.split()[0]: line.split()[1] for line in done.stdout.splitlines()[1:25]}
    assert rows == dict.fromkeys(samples.TYPES, "200")
    assert "24 of 24 accepted" in done.stdout


@pytest.mark.parametrize("types", [["packets.updated"], ["users.*", "*.deleted"]])
def test_send_takes_types_and_patterns(running: Receiver, types: list[str]) -> None:
    done = flowhook("send", *types, "--url", running.url)
    assert done.returncode == 0
    expected = 1 if types == ["packets.updated"] else 10
    assert f"{expected} of {expected} accepted" in done.stdout


def test_send_file_sends_it_to_the_byte(running: Receiver, tmp_path: Path) -> None:
    body = b"  " + samples.load("projects.created")
    path = tmp_path / "event.json"
    path.write_bytes(body)
    known = running.post(body).json()["id"]
    done = flowhook("send", "--file", str(path), "--url", running.url)
    assert done.returncode == 0
    assert running.deliveries()[-1]["event_id"] == known


def test_send_many_sends_different_events_at_the_rate(running: Receiver) -> None:
    before = len(running.deliveries())
    started = time.monotonic()
    done = flowhook("send", "packets.created", "--count", "60", "--rate", "100", "--url", running.url)
    assert time.monotonic() - started > 0.55
    assert done.returncode == 0
    assert "60 of 60 accepted" in done.stdout
    assert "p99" in done.stdout
    assert len({line["event_id"] for line in running.deliveries()[before:]}) == 60


@pytest.mark.parametrize(
    "form",
    [*FORMS, "query:t"],
)
def test_send_signs_in_every_form(tmp_path: Path, form: str) -> None:
    with receiver(tmp_path, WEBHOOK_AUTH=form) as pinned:
        assert (
            flowhook("send", "users.created", "--auth", form, "--url", pinned.url + "/?a=1").returncode == 0
        )
        other = "basic" if form == "bearer" else "bearer"
        refused = flowhook("send", "users.created", "--auth", other, "--url", pinned.url)
        assert refused.returncode == 1
        assert "0 of 1 accepted" in refused.stdout


def test_send_fails_if_one_event_is_not_accepted(running: Receiver, tmp_path: Path) -> None:
    bad = tmp_path / "bad.json"
    bad.write_text('{"no": "event"}')
    done = flowhook("send", "--all", "--file", str(bad), "--url", running.url)
    assert done.returncode == 1
    assert "24 of 25 accepted" in done.stdout
    assert "422" in done.stdout


def test_send_takes_the_secret_from_a_file(running: Receiver, tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_bytes(SECRET + b"\n")
    options = ["send", "users.created", "--url", running.url]
    assert flowhook(*options, WEBHOOK_SECRET="").returncode == 1
    assert flowhook(*options, "--secret-file", str(path), WEBHOOK_SECRET="").returncode == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["send"], "nothing to send"),
        (["send", "packet.created"], "did you mean packets?"),
        (["send", "--file", "/nowhere"], "/nowhere can't be read"),
        (["send", "--all", "--auth", "auto"], "auto is a way to check"),
        (["send", "--all", "--auth", "hmac"], "--auth: it is none of"),
        (["send", "--all", "--url", "nonsense"], "is not a URL"),
        (["send", "--all", "--secret-file", "/nowhere"], "can't be read"),
        (["run", "--port", "x"], "is not a port"),
    ],
)
def test_a_command_that_fails_says_what_to_do(arguments: list[str], message: str) -> None:
    done = flowhook(*arguments)
    assert done.returncode == 1
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_send_asks_for_a_secret_before_it_sends_to_another_machine() -> None:
    done = flowhook("send", "--all", "--url", "https://example.invalid", WEBHOOK_SECRET="")
    assert done.returncode == 1
    assert "WEBHOOK_SECRET" in done.stderr


def test_send_says_that_nobody_listens() -> None:
    done = flowhook("send", "users.created", "--url", f"http://127.0.0.1:{free_port()}")
    assert done.returncode == 1
    assert "is the receiver running" in done.stdout


@pytest.mark.parametrize(
    "wrong", [["--count", "0"], ["--count", "x"], ["--rate", "-1"], ["--rate", "nan"], ["--no-such"]]
)
def test_wrong_arguments_are_status_2(wrong: list[str]) -> None:
    assert flowhook("send", "--all", *wrong).returncode == 2


@pytest.mark.parametrize("command", [[], ["send"], ["handlers"], ["run"]])
def test_every_command_has_help(command: list[str]) -> None:
    done = flowhook(*command, "--help")
    assert done.returncode == 0
    assert "usage: python -m flowhook" in done.stdout


def test_handlers_lists_who_handles_what() -> None:
    done = flowhook("handlers", WEBHOOK_SECRET="")
    assert done.returncode == 0
    assert re.search(r"recorder\.record +\* +in a thread", done.stdout)
    assert re.search(r"my_handler\.greet +packet_comments\.created", done.stdout)


def test_handlers_names_what_nobody_handles_and_fails_for_a_broken_one(tmp_path: Path) -> None:
    source = project(
        tmp_path, mine="from flowhook import on\n@on('*.created', 'packets.*')\nasync def f(event): ...\n"
    )
    done = flowhook("handlers", cwd=source)
    assert re.search(r"mine\.f +\*\.created, packets\.\* +on the loop", done.stdout)
    assert "Nobody handles pipelines.updated, pipelines.deleted" in done.stdout
    (source / "handlers" / "mine.py").write_text("undefined\n")
    broken = flowhook("handlers", cwd=source)
    assert broken.returncode == 1
    assert "handlers/mine.py can't be imported: NameError" in broken.stderr


def test_handlers_says_where_to_run_it(tmp_path: Path) -> None:
    for package in ("flowhook", "flows_emulator"):
        (tmp_path / package).symlink_to(ROOT / package)
    assert "no handlers/ here" in flowhook("handlers", cwd=tmp_path).stderr


def test_run_says_that_a_port_is_taken() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        done = flowhook("run", PORT=str(taken.getsockname()[1]))
    assert done.returncode == 1
    assert "PORT=8081 make run" in done.stderr


def test_run_prints_a_curl_line_that_works_as_pasted(tmp_path: Path) -> None:
    output = tmp_path / "output"
    port = free_port()
    with output.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "flowhook", "run"],
            cwd=usual_project(),
            env=environment(PORT=str(port), WEBHOOK_SECRET_FILE="/nowhere"),
            stdout=out,
            stderr=subprocess.STDOUT,
        )
    try:
        until(lambda: "--data-binary" in output.read_text())
        said = output.read_text()
        line = next(line for line in said.splitlines() if line.startswith("curl "))
        pasted = subprocess.run(
            shlex.split(line), cwd=tmp_path, capture_output=True, timeout=PATIENCE, check=True
        )
        answer = json.loads(pasted.stdout)
        assert answer["outcome"] == "handled"
        assert "my_handler.greet" in answer["handlers"]
        assert f"http://127.0.0.1:{port}" in said
        assert "flowhook-development-secret" in said
        told = "packet_comments.created pipelinesPackets/pk-7f3a/comments/cm-91c2: handled"
        # The line is written after the answer.
        until(lambda: told in output.read_text())
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(PATIENCE)


def test_a_handler_of_five_lines_is_called_with_a_typed_comment(tmp_path: Path) -> None:
    source = project(tmp_path, my_handler=(ROOT / "tests" / "support" / "my_handler.py").read_text())
    with receiver(tmp_path, source) as started:
        answer = started.post(samples.load("packet_comments.created")).json()
        assert answer["handlers"] == ["my_handler.greet"]
        assert "users/us-ada says: The contract is signed." in started.output()


DECLARING = """
from flowhook import Event, on, variable

TOKEN = variable("CRM_TOKEN", secret=True)
LIMIT = variable("CRM_LIMIT", default=10, cast=int)

@on("packets.updated", changed="status", once=True, attempts=20, timeout=15)
def tell(event: Event) -> None: ...
"""
OFF = "from flowhook import *\nU = variable('CHAT', default=None)\n@on('*')\nasync def post(event): ..."


def test_handlers_lists_what_they_declare_without_any_value(tmp_path: Path) -> None:
    source = project(tmp_path, crm=DECLARING, chat=OFF)
    told = flowhook("handlers", cwd=source).stdout
    assert re.search(
        r"crm\.tell +packets\.updated +in a thread +updates that changed status; once; 20 attempts; 15 s; "
        r"needs CRM_TOKEN",
        told,
    )
    assert re.search(r"chat\.post +\* +on the loop +off without CHAT", told)
    (source / ".env").write_text("CHAT=https://chat.example/$x # a comment\n")
    assert "off without" not in flowhook("handlers", cwd=source).stdout
    (source / ".env").unlink()
    assert "off without" not in flowhook("handlers", cwd=source, CHAT="x").stdout


def test_handlers_as_json_is_for_the_deployment(tmp_path: Path) -> None:
    done = flowhook("handlers", "--json", cwd=project(tmp_path, crm=DECLARING, chat=OFF))
    chat, crm = json.loads(done.stdout)
    assert crm == {
        "name": "crm.tell",
        "patterns": ["packets.updated"],
        "changed": ["status"],
        "once": True,
        "attempts": 20,
        "timeout": 15,
        "variables": [
            {"name": "CRM_TOKEN", "secret": True, "required": True, "default": None},
            {"name": "CRM_LIMIT", "secret": False, "required": False, "default": 10},
        ],
    }
    assert chat["variables"] == [{"name": "CHAT", "secret": False, "required": False, "default": None}]
    assert (chat["changed"], chat["once"], chat["attempts"], chat["timeout"]) == ([], False, None, None)


def test_handlers_refuses_names_and_requirements_that_can_not_be(tmp_path: Path) -> None:
    source = project(
        tmp_path, crm="from flowhook import *\nT = variable('PORT')\n@on('*')\ndef f(event): ..."
    )
    (source / "requirements.txt").write_text("# ours\nanyio==4.16.0\nrequests==2.34.2\n")
    (source / "handlers" / "requirements.txt").write_text(
        "# theirs\n\nAnyIO<4  # old\nrequests>=2\n-r more.txt\nhttpx[http2]==1; python_version > '3'\n"
    )
    done = flowhook("handlers", cwd=source)
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        "flowhook: crm.f: PORT belongs to the platform, so a handler can't have it: take another name",
        "handlers/requirements.txt, line 3: AnyIO<4 contradicts requirements.txt, line 2: anyio==4.16.0, "
        "which flowhook is tested with: change the first",
    ]


def test_run_reads_the_variables_of_handlers_from_a_file_and_the_environment_wins(tmp_path: Path) -> None:
    tells = """
from flowhook import *
A, B, C = variable("A"), variable("B"), variable("C")

@on("*")
def tell(event):
    print("told", A.value, B.value, C.value, flush=True)
"""
    source = project(tmp_path, mine=tells)
    (source / ".env").write_text("A=from-file\nexport B='with $A and # in it'\nC=from-file\n")
    port, output = free_port(), tmp_path / "output"
    with output.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "flowhook", "run", "--port", str(port)],
            cwd=source,
            env=environment(C="from-environment"),
            stdout=out,
            stderr=subprocess.STDOUT,
        )
    try:
        until(lambda: "--data-binary" in output.read_text())
        sent = flowhook("send", "users.created", "--url", f"http://127.0.0.1:{port}", WEBHOOK_SECRET="")
        assert sent.returncode == 0, sent.stdout
        assert "told from-file with $A and # in it from-environment" in output.read_text()
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(PATIENCE)
