"""Reads what the handlers declare, and checks that the source starts and that the handlers' tests pass.

All of this imports the handlers, so it runs in a process of its own, without this process's environment.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flowhook.deploy.errors import DeployError

# The longest that such a process may take, in seconds: a slow machine may have much to import.
TIMEOUT = 120
# How often Pub/Sub delivers an event to a handler that doesn't declare `attempts`.
ATTEMPTS = 100
# How many of the last lines of a failed process an error message shows.
LINES = 20
# The folder of the handlers' tests, below the folder that is deployed.
TESTS = "tests/handlers"


@dataclass(frozen=True)
class Variable:
    """An environment variable that a handler reads; the value of a secret one is stored in Secret Manager."""

    name: str
    secret: bool
    required: bool


@dataclass(frozen=True)
class Declared:
    """A handler, as its decorator `@on` describes it.

    `attempts` is how often an event is delivered to it before it becomes a dead letter (5 to 100), `timeout`
    how many seconds a call may take. `variables` is None where it is unknown which variables it reads.
    """

    name: str
    patterns: tuple[str, ...]
    attempts: int = ATTEMPTS
    timeout: float | None = None
    once: bool = False
    variables: tuple[Variable, ...] | None = None


def ask(folder: Path) -> tuple[Declared, ...]:
    """Return the handlers of the project in `folder`. Raises DeployError where they can't be imported."""
    return read(_printed(_python(folder, ["-m", "flowhook", "handlers", "--json"], {})))


def read(document: Sequence[Mapping[str, Any]]) -> tuple[Declared, ...]:
    """Return the handlers that a document lists, as `python -m flowhook handlers --json` prints it."""
    return tuple(_declared(handler) for handler in document)


def check_source(folder: Path, environment: Mapping[str, str]) -> None:
    """Import the source in `folder` with the environment variables that it will have once it is deployed.

    Raises DeployError where that fails, because the deployed function would fail to start.
    """
    _python(folder, ["-c", "import main"], {"WEBHOOK_SECRET": "only-for-this-check", **environment})


def _printed(output: str) -> list[Mapping[str, Any]]:
    """Return the JSON list that ends the output; handlers may print something before, when they are imported.

    Raises DeployError where there is none.
    """
    starts = [found.start() for found in re.finditer(r"^\[", output, re.MULTILINE)]
    try:
        found: list[Mapping[str, Any]] = json.loads(output[starts[-1] :])
    except (IndexError, ValueError):
        raise DeployError(f"the handlers can't be listed:\n{output[-500:]}") from None
    return found


def _declared(handler: Mapping[str, Any]) -> Declared:
    variables = handler.get("variables")
    return Declared(
        handler["name"],
        tuple(handler["patterns"]),
        handler.get("attempts") or ATTEMPTS,
        handler.get("timeout"),
        bool(handler.get("once")),
        None if variables is None else tuple(map(_variable, variables)),
    )


def _variable(declared: Mapping[str, Any]) -> Variable:
    required = declared.get("required", "default" not in declared)
    return Variable(declared["name"], bool(declared.get("secret")), bool(required))


def check_tests(folder: Path) -> None:
    """Run the handlers' tests (`make test-handlers`), if there are any. Raises DeployError if one fails."""
    if (folder / TESTS).is_dir():
        options = ["-q", "-p", "no:cacheprovider", f"--confcutdir={TESTS}"]
        _python(folder, ["-m", "pytest", *options, TESTS], {}, "the handlers' tests fail")


def _python(
    folder: Path,
    arguments: Sequence[str],
    environment: Mapping[str, str],
    failure: str = "the source would not start",
) -> str:
    """Run Python in `folder` with `environment`, and return what it prints to standard output.

    Raises DeployError, which begins with `failure`, where it fails or takes longer than TIMEOUT.
    """
    with tempfile.TemporaryDirectory() as home:
        clean = {"PATH": os.environ.get("PATH", os.defpath), "HOME": home, **environment}
        try:
            done = subprocess.run(  # noqa: S603 - no shell
                [sys.executable, "-B", *arguments],
                cwd=folder,
                env=clean,
                capture_output=True,
                text=True,
                check=False,
                timeout=TIMEOUT,
            )
        except subprocess.TimeoutExpired:
            raise DeployError(f"{failure}: that takes more than {TIMEOUT} s") from None
    if done.returncode:
        told = "\n".join((done.stderr or done.stdout).splitlines()[-LINES:])
        raise DeployError(f"{failure}, so nothing is deployed:\n{told}")
    return done.stdout
