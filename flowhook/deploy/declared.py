"""What the handlers declare, asked of a process of its own: it runs their code, and with nothing of ours."""

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

# Seconds for importing the handlers, on a slow machine with much to import.
TIMEOUT = 120
ATTEMPTS = 100
LINES = 20
# Where the tests of the handlers are, in the folder that is deployed.
TESTS = "tests/handlers"


@dataclass(frozen=True)
class Variable:
    """What a handler wants to be told; a secret goes through Secret Manager."""

    name: str
    secret: bool
    required: bool


@dataclass(frozen=True)
class Declared:
    """A handler: what it takes, how often it is tried (5 to 100), how long it may take, and what it needs.

    `variables` is None where the handlers don't declare any: then nobody knows what they read.
    """

    name: str
    patterns: tuple[str, ...]
    attempts: int = ATTEMPTS
    timeout: float | None = None
    once: bool = False
    variables: tuple[Variable, ...] | None = None


def ask(folder: Path) -> tuple[Declared, ...]:
    """The handlers of the project in `folder`. Raises DeployError where one is broken."""
    return read(_printed(_python(folder, ["-m", "flowhook", "handlers", "--json"], {})))


def read(document: Sequence[Mapping[str, Any]]) -> tuple[Declared, ...]:
    """The handlers in what `python -m flowhook handlers --json` prints."""
    return tuple(_declared(handler) for handler in document)


def check_source(folder: Path, environment: Mapping[str, str]) -> None:
    """Import what will be deployed, with the settings that it will have. Raises DeployError.

    A mistake stops here, not in production.
    """
    _python(folder, ["-c", "import main"], {"WEBHOOK_SECRET": "only-for-this-check", **environment})


def _printed(output: str) -> list[Mapping[str, Any]]:
    """The list at the end; before it may be what handlers print when they are imported."""
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
    """Run the tests of the handlers (`make test-handlers`), if any. Raises DeployError if one fails."""
    if (folder / TESTS).is_dir():
        options = ["-q", "-p", "no:cacheprovider", f"--confcutdir={TESTS}"]
        _python(folder, ["-m", "pytest", *options, TESTS], {}, "the handlers' tests fail")


def _python(
    folder: Path,
    arguments: Sequence[str],
    environment: Mapping[str, str],
    failure: str = "the source would not start",
) -> str:
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
