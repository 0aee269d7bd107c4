import contextlib
import logging
import os
import signal
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from flowhook import logs
from flowhook.cli.pubsub_emulator import Emulator as PubSubEmulator
from flowhook.testing import flows as users_flows  # noqa: F401 - a fixture
from flows_emulator.client import Emulator
from tests.support import broker, tally
from tests.support.clock import Clock
from tests.support.google_cloud import workshop
from tests.support.receiver import Receiver, receiver, usual_project

# There is no deadline, because a slow machine is no defect; the profiles only differ in how long they take.
for name, examples in (("quick", 60), ("long", 3_000)):
    settings.register_profile(
        name, max_examples=examples, deadline=None, suppress_health_check=[HealthCheck.too_slow]
    )
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "quick"))


def pytest_configure() -> None:
    """Restore SIGINT, which a shell's background processes ignore, and so would what the tests start."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def emulator() -> Iterator[PubSubEmulator]:
    """The Pub/Sub emulator, shared: a test makes topics of its own in it and doesn't stop it."""
    with broker.started() as started:
        yield started


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def logging_of_its_own() -> Iterator[None]:
    """No log handlers but those that the test adds, and no delivery under way."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    root.handlers = []
    logs.begin({})
    yield
    root.handlers, root.level = handlers, level


# What the terminal prints at the end, and several processes collect: the rows, and the lines that show them.
TABLES: dict[str, tuple[list[Any], Callable[[], Iterable[str]]]] = {
    "outages": (tally.ROWS, tally.table),
    "handled once": (tally.NOTES, lambda: tally.NOTES),
    "deployments": (workshop.ROWS, lambda: sorted(workshop.ROWS, key=lambda row: row.split()[0])),
}


def pytest_sessionfinish(session: pytest.Session) -> None:
    """In one of several processes: hand what was measured to the one that prints it."""
    output = getattr(session.config, "workeroutput", None)
    if output is not None:
        output["tables"] = {title: rows for title, (rows, _) in TABLES.items()}


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Take what another process has measured; one that died has nothing."""
    for title, rows in getattr(node, "workeroutput", {}).get("tables", {}).items():
        TABLES[title][0].extend(rows)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print what was measured in outages and deployments, for example; a passed test doesn't show it."""
    for title, (rows, lines) in TABLES.items():
        if rows:
            terminalreporter.section(title)
            for line in lines():
                terminalreporter.write_line(line)


@pytest.fixture(scope="session")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Receiver]:
    """The receiver with its default settings and the handlers of the tests."""
    with receiver(tmp_path_factory.mktemp("receiver")) as started:
        yield started


@pytest.fixture(scope="session")
def flows(request: pytest.FixtureRequest) -> Emulator:
    """The fixture that users' tests have, in the project with the handlers of the tests."""
    with contextlib.chdir(usual_project()):
        started: Emulator = request.getfixturevalue("users_flows")
    return started
