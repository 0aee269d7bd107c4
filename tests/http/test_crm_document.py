"""The example of docs/handlers.md, followed from nothing: its files are written, its commands are run."""

import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from flowhook.cli.run import listens
from tests.support.ports import free_port
from tests.support.receiver import ROOT, environment, project, until

pytestmark = pytest.mark.slow

DOCUMENT = (ROOT / "docs" / "handlers.md").read_text().partition("## From nothing")[2]
FILE = re.compile(r"`([\w./]+)`:\n\n```\w+\n(.*?)```", re.DOTALL)
COMMANDS = re.compile(r"```sh(?:ell)?\n(.*?)```", re.DOTALL)
# What `make` would install is installed; and ports that are free here take the place of the usual ones.
MAKE = {
    "make run": f"{sys.executable} -m flowhook run --port 8080",
    "make emulate": f"{sys.executable} -m flowhook emulate --port 8090 --first-retry 0.1",
    "make test-handlers": f"{sys.executable} -m pytest tests/handlers -q",
}


class Reader:
    """Somebody who does what the document says, in a new project."""

    def __init__(self, folder: Path) -> None:
        self.ports = {usual: str(free_port()) for usual in ("8080", "8090", "9000")}
        self.environment = environment(WEBHOOK_SECRET="", FLOWS_EMULATOR=self.here("http://127.0.0.1:8090"))
        self.folder = project(folder)
        (self.folder / "tests" / "handlers").mkdir(parents=True)
        for name, text in FILE.findall(DOCUMENT):
            (self.folder / name).write_text(self.here(text))

    def here(self, text: str) -> str:
        """The text with the ports that are free."""
        for usual, free in self.ports.items():
            text = text.replace(usual, free)
        return text

    def command(self, line: str) -> str:
        """The line as it is run here."""
        return self.here(re.sub(r"^python ", f"{sys.executable} ", MAKE.get(line, line)))

    def run(self, line: str) -> str:
        """What a command says. Raises AssertionError where it fails."""
        done = subprocess.run(
            self.command(line),
            shell=True,
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"
        return done.stdout

    @contextmanager
    def running(self, line: str, port: str) -> Iterator[Path]:
        """A server, once it listens, and where its output goes."""
        output = self.folder / f"{port}.log"
        with output.open("wb") as out:
            process = subprocess.Popen(
                self.command(line).split(),
                cwd=self.folder,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
            )
        try:
            until(lambda: listens(int(self.ports[port])) or process.poll() is not None)
            assert process.poll() is None, output.read_text()
            yield output
        finally:
            process.terminate()
            process.wait(30)


@pytest.fixture
def reader(tmp_path: Path) -> Reader:
    return Reader(tmp_path)


def test_it_leads_from_nothing_to_a_deal_that_is_posted_once(reader: Reader) -> None:
    test, listing, servers, sending = (block.splitlines() for block in COMMANDS.findall(DOCUMENT))
    assert "1 passed" in reader.run(test[0])
    told = re.sub(r" +", " ", reader.run(listing[0]))
    (expected,) = re.findall(r"```text\n(.*?)\n```", DOCUMENT, re.DOTALL)
    assert re.sub(r" +", " ", expected) in told
    crm, run, emulate = servers
    with (
        reader.running(crm, "9000") as posted,
        reader.running(run, "8080") as log,
        reader.running(emulate, "8090"),
    ):
        answers = [reader.run(line) for line in sending]
        deal = '{"packet": "pipelinesPackets/pk-7f3a", "title": "Onboard Contoso"}'
        assert [line for line in posted.read_text().splitlines() if "{" in line] == [deal]
        assert "200" in answers[-1]
        assert '"duplicate":["crm.tell_crm"]' in log.read_text().replace(" ", "")


def test_a_crm_that_is_down_is_a_failure_until_it_is_back(reader: Reader) -> None:
    *_, servers, sending = (block.splitlines() for block in COMMANDS.findall(DOCUMENT))
    with reader.running(servers[1], "8080") as log, reader.running(servers[2], "8090"):
        for line in sending[:2]:
            reader.run(line)
        sender = subprocess.Popen(
            reader.command(sending[2]), shell=True, cwd=reader.folder, env=reader.environment
        )
        until(lambda: "Connection refused" in log.read_text())
        with reader.running(servers[0], "9000") as posted:
            assert sender.wait(60) == 0
            assert posted.read_text().count("pipelinesPackets/pk-7f3a") == 1


def test_its_parts_are_there() -> None:
    assert [name for name, _ in FILE.findall(DOCUMENT)] == [
        "handlers/crm.py",
        "tests/handlers/test_crm.py",
        ".env",
        "crm_to_try.py",
        "won.py",
    ]
