"""Sequences of commands, each followed by a picture of what is there; the tests look at the pictures."""

import copy
import os
import signal
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tests.gcloud.exchange import Request
from tests.gcloud.workshop import Ran, Workshop
from tests.support.receiver import until

ENVIRONMENT = 'MAX_INSTANCES=3\n# A comment.\nLOG_LEVEL=DEBUG\nGREETING=it says: "hello", twice=2\n'
HANDLER = """from flowhook import Event, on

@on("users.*")
def welcome(event: Event) -> None:
    raise AssertionError("the doctor's event must not get here")
"""


# What was told, for the end of the tests.
ROWS: list[str] = []


@dataclass(frozen=True)
class Step:
    """A command and what was there after it."""

    ran: Ran
    seconds: float
    requests: tuple[Request, ...]
    grants: Mapping[str, set[tuple[str, str]]]
    subscriptions: Mapping[str, Any]
    functions: Mapping[str, Any]
    archives: Mapping[str, bytes]
    versions: Mapping[str, list[tuple[str, bytes]]]
    topics: set[str]
    accounts: set[str]
    alerts: set[str]

    @property
    def changes(self) -> list[str]:
        return [str(request) for request in self.requests if request.changes]


class Story:
    """Tells step after step in one workshop."""

    def __init__(self, workshop: Workshop) -> None:
        self.workshop = workshop
        self.steps: dict[str, Step] = {}

    def step(self, name: str, *arguments: str, stdin: str = "") -> Step:
        """Run deploy.sh and take a picture."""
        before, started = len(self.workshop.plane.log), time.monotonic()
        ran = self.workshop.deploy(*arguments, stdin=stdin)
        return self._picture(name, ran, started, before)

    def interrupted(self, name: str, at: str, *arguments: str) -> Step:
        """Run it until a request is made, and press Ctrl-C."""
        plane = self.workshop.plane
        before, started = len(plane.log), time.monotonic()
        process = self.workshop.start(*arguments)
        try:
            until(lambda: any(at in str(request) for request in plane.log), patience=120)
            os.killpg(process.pid, signal.SIGINT)
            output, _ = process.communicate(timeout=60)
        finally:
            _end(process)
        return self._picture(name, Ran(process.returncode, output), started, before)

    def _picture(self, name: str, ran: Ran, started: float, before: int) -> Step:
        plane = self.workshop.plane
        resources = [resource for resource in plane.iam.policies if plane.iam.grants(resource)]
        self.steps[name] = Step(
            ran,
            time.monotonic() - started,
            tuple(plane.log[before:]),
            {resource: plane.iam.grants(resource) for resource in resources},
            copy.deepcopy(plane.pubsub.subscriptions),
            copy.deepcopy(plane.functions.functions),
            dict(plane.functions.archives),
            copy.deepcopy(plane.secrets.versions),
            set(plane.pubsub.topics),
            set(plane.iam.accounts),
            {alert["displayName"] for alert in plane.alerts.values()},
        )
        step = self.steps[name]
        counts = f"{len(step.requests):4} requests, {len(step.changes):3} of them changes"
        ROWS.append(f"{plane.project} {name:14} {step.seconds:5.1f} s {counts}, exit {ran.status}")
        return step


def _end(process: subprocess.Popen[str]) -> None:
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def a_life(workshop: Workshop) -> Mapping[str, Step]:
    """From nothing to everything and back."""
    story = Story(workshop)
    (workshop.folder / ".env.deploy").write_text(ENVIRONMENT)
    extra = workshop.folder / "handlers" / "extra.py"
    story.step("dry", "--dry-run")
    story.step("first", "--yes")
    story.step("second", "--yes")
    extra.write_text(HANDLER)
    story.step("added", "--yes")
    extra.unlink()
    story.step("kept", "--yes", "--dry-run")
    story.step("removed", "--yes", "--prune")
    story.step("rotated", "rotate-secret")
    story.step("status", "status")
    story.step("again", "rotate-secret")
    story.step("finished", "rotate-secret", "--finish")
    story.step("deleted", "delete", "--yes")
    story.step("deleted again", "delete", "--yes")
    story.step("all", "delete", "--all", "--yes")
    story.step(
        "inline", "--yes", "--delivery", "inline", "--secret-file", "-", stdin=" \r\n a-secret-from-Flows \n"
    )
    return story.steps


def misfortunes(workshop: Workshop) -> Mapping[str, Step]:
    """One thing after the other goes wrong, and in the end nothing does."""
    story, plane = Story(workshop), workshop.plane
    plane.iam.unknown_for = 1
    story.interrupted("interrupted", "europe-west1/functions:generateUploadUrl", "--yes")
    plane.functions.builds_fail = True
    story.step("build", "--yes")
    plane.functions.builds_fail, plane.iam.public_is_forbidden = False, True
    story.step("policy", "--yes")
    plane.iam.public_is_forbidden, plane.functions.answers_fail = False, True
    story.step("smoke", "--yes")
    plane.functions.answers_fail = False
    story.step("well", "--yes")
    return story.steps
