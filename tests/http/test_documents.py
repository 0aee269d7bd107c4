"""What the documents tell to write is written, and what they tell to run is run, against a real receiver."""

import ast
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from flowhook import samples
from flows_emulator import local
from tests.support.crm import Crm
from tests.support.documents import DOCUMENTS, README
from tests.support.receiver import ROOT, SECRET, Receiver, project, receiver

pytestmark = pytest.mark.slow

MODULES = [(path, code) for document in DOCUMENTS for path, code in document.modules()]
# What ends by itself and needs no cloud.
RUNNABLE = re.compile(
    r"python -m flowhook "
    r"(send|capture|handlers|subscriptions|check|doctor|--version|emulate (connect|send|raw))\b"
)
BLOCKS = [
    pytest.param(
        [line for line in block.splitlines() if RUNNABLE.match(line)], id=f"{document.name}, {number}"
    )
    for document in DOCUMENTS
    for number, block in enumerate(document.blocks("sh"))
    if any(RUNNABLE.match(line) for line in block.splitlines())
]
# What a handler of the documents needs beside the address of a CRM.
TOKEN = {"CRM_TOKEN": "t"}


@dataclass(frozen=True)
class Written:
    """A project in which every module of the documents is written; its receiver, and an emulator's URL."""

    folder: Path
    receiver: Receiver
    emulator: str


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Written]:
    tmp_path = tmp_path_factory.mktemp("documents")
    shipped = {name: (ROOT / "handlers" / f"{name}.py").read_text() for name in ("log_events", "notify_chat")}
    folder = project(tmp_path, **shipped)
    (folder / "tests" / "handlers").mkdir(parents=True)
    for path, code in MODULES:
        (folder / path).write_text(code)
    (folder / "event.json").write_bytes(samples.load("packets.updated"))
    (folder / "secret.txt").write_bytes(SECRET)
    with (
        Crm(TOKEN["CRM_TOKEN"], faults={}) as crm,
        receiver(tmp_path, folder, CRM_URL=crm.url, **TOKEN) as started,
        local.emulator(tmp_path / "flows.sqlite3") as emulator,
    ):
        yield Written(folder, started, emulator.url)


def test_no_two_modules_of_the_documents_are_one_file() -> None:
    paths = [path for path, _ in MODULES]
    assert sorted(set(paths)) == sorted(paths)


def test_the_tests_of_the_documents_pass_in_the_project_that_they_make(written: Written) -> None:
    tests = [name for path, code in MODULES if "/test_" in path for name in names_of_tests(code)]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-W", "error", "-p", "no:cacheprovider", "tests"],
        cwd=written.folder,
        env={"PATH": os.environ["PATH"], "CRM_URL": "http://127.0.0.1:1", **TOKEN},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert f"{len(tests)} passed" in done.stdout
    assert len(tests) >= 3


@pytest.mark.parametrize("check", ["check", "format --check"])
def test_what_the_documents_tell_to_write_passes_the_checks(written: Written, check: str) -> None:
    settings = f"--config={ROOT / 'pyproject.toml'}"
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "ruff",
            *check.split(),
            "--no-cache",
            settings,
            *(path for path, _ in MODULES),
        ],
        cwd=written.folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout


def names_of_tests(code: str) -> list[str]:
    functions = [node for node in ast.parse(code).body if isinstance(node, ast.FunctionDef)]
    return [function.name for function in functions if function.name.startswith("test_")]


def test_the_handlers_of_the_documents_take_the_samples_that_they_ask_for(written: Written) -> None:
    names = {path.removeprefix("handlers/")[:-3] for path, _ in MODULES if path.startswith("handlers/")}
    called: set[str] = set()
    for event_type in samples.TYPES:
        answer = written.receiver.post(samples.load(event_type))
        assert answer.status_code == 200, answer.text
        called |= {name.partition(".")[0] for name in answer.json()["handlers"]}
    assert called >= names


def test_the_first_handler_is_the_one_that_is_tested_and_as_short_as_it_says() -> None:
    first = dict(README.modules())["handlers/my_handler.py"]
    assert first == (ROOT / "tests" / "support" / "my_handler.py").read_text()
    [test] = ast.parse(dict(README.modules())["tests/handlers/test_my_handler.py"]).body[-1:]
    assert test.end_lineno is not None
    assert test.end_lineno - test.lineno + 1 == 3


@pytest.mark.parametrize("lines", BLOCKS)
def test_the_commands_do_what_they_say(written: Written, lines: list[str]) -> None:
    bash = shutil.which("bash")
    assert bash
    done = subprocess.run(
        [bash, "-euc", "\n".join(here(line, written) for line in lines)],
        cwd=written.folder,
        env={
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "WEBHOOK_SECRET": SECRET.decode(),
            "FLOWS_EMULATOR": written.emulator,
        },
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def here(line: str, written: Written) -> str:
    """The line for this receiver, and for as many events as a test has time for."""
    url = written.receiver.url
    line = re.sub(r" +#.*", "", line)
    for told, meant in (
        ("http://127.0.0.1:8080", url),
        ("--url URL", f"--url {url}"),
        ("FILE", "secret.txt"),
    ):
        line = line.replace(told, meant)
    if line.startswith("python -m flowhook send"):
        line += f" --url {url}"
    return f"{line} --count 30" if "--count" in line else line


def test_no_command_of_a_block_is_left_out() -> None:
    lines = {line for document in DOCUMENTS for block in document.blocks("sh") for line in block.splitlines()}
    own = {line for line in lines if line.startswith("python -m flowhook")}
    assert {line for line in own if not RUNNABLE.match(line)} == set()
