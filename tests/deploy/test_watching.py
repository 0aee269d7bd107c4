"""docs/operations.md: its commands that only look are run, in their order, and change nothing."""

import re
import shlex

import pytest

from tests.deploy.test_stories_pausing import send
from tests.support.google_cloud.desk import Desk
from tests.support.receiver import ROOT

TEXT = (ROOT / "docs" / "operations.md").read_text()
LOOKING = ("audit", "tail")


def commands(command: str) -> list[list[str]]:
    """Those of the document, without what a shell takes for a comment."""
    blocks = re.findall(r"```sh\n(.*?)```", TEXT, re.DOTALL)
    lines = [shlex.split(line, comments=True) for block in blocks for line in block.splitlines()]
    return [line[1:] for line in lines if line[:2] == ["./deploy.sh", command]]


@pytest.mark.parametrize("command", LOOKING)
def test_each_command_runs_and_changes_nothing(deployed: Desk, command: str) -> None:
    deployed.plane.time.advance(3600)
    send(deployed, 3)
    deployed.plane.time.advance(3600)
    told = commands(command)
    assert told
    for words in told:
        deployed.leaves_at = deployed.plane.time.now + 60
        ran = deployed.run(*words)
        assert (ran.status, ran.changes) == (0, []), f"{words}: {ran.output}"
