import logging
import os
import signal
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

from flowhook import logs
from flowhook.cli.emulator import Emulator
from flowhook.testing import flows  # noqa: F401 - a fixture
from tests import broker, tally
from tests.clock import Clock
from tests.receiver import ROOT, Receiver, project, receiver
from tests.support.google_cloud import workshop

# A slow machine is no defect; how many examples is a matter of time alone.
for name, examples in (("quick", 60), ("long", 3_000)):
    settings.register_profile(
        name, max_examples=examples, deadline=None, suppress_health_check=[HealthCheck.too_slow]
    )
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "quick"))


def pytest_configure() -> None:
    """Have Ctrl-C reach what tests start: a shell's background processes ignore it, and so would theirs."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def emulator() -> Iterator[Emulator]:
    """The Pub/Sub emulator, shared: a test makes topics of its own in it and doesn't stop it."""
    with broker.started() as started:
        yield started


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def logging_of_its_own() -> Iterator[None]:
    """No handlers but those that the test adds, and no delivery under way."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    root.handlers = []
    logs.begin({})
    yield
    root.handlers, root.level = handlers, level


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """What the outages did and what deployments took: more is said by that than by a green dot."""
    if tally.ROWS:
        terminalreporter.section("outages")
        for line in tally.table():
            terminalreporter.write_line(line)
    if workshop.ROWS:
        terminalreporter.section("deployments")
        for line in sorted(workshop.ROWS, key=lambda row: row.split()[0]):
            terminalreporter.write_line(line)


@pytest.fixture(scope="session")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Receiver]:
    """The receiver with its default settings and the handlers that are shipped, without those you add."""
    tmp_path = tmp_path_factory.mktemp("receiver")
    shipped = {name: (ROOT / "handlers" / f"{name}.py").read_text() for name in ("log_events", "notify_chat")}
    with receiver(tmp_path, project(tmp_path, **shipped)) as started:
        yield started
