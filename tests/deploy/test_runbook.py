"""docs/operations.md, followed: each of its commands about a bad day is run, in its order."""

import re
import shlex

from tests.deploy.test_stories_letters import REJECTED, bury, event, ran_for, waiting
from tests.support.google_cloud.desk import CHAT, Desk
from tests.support.google_cloud.simulated import identity
from tests.support.receiver import ROOT

TEXT = (ROOT / "docs" / "operations.md").read_text()


def commands() -> list[list[str]]:
    """Those of the chapter, without what a shell takes for a comment."""
    chapter = TEXT.split("## On a bad day")[1].split("\n## ")[0]
    blocks = re.findall(r"```sh\n(.*?)```", chapter, re.DOTALL)
    lines = [shlex.split(line, comments=True) for block in blocks for line in block.splitlines()]
    return [line[1:] for line in lines if line]


def test_each_command_of_a_bad_day_runs_and_the_handler_gets_what_it_missed(deployed: Desk) -> None:
    bury(deployed, CHAT, event(1), event(2))
    deployed.plane.pubsub.publish(REJECTED, b"none", {"reason": "not-an-event"})
    ran = {}
    for words in commands():
        done = deployed.run(*words)
        assert done.status == 0, f"{words}: {done.output}"
        ran[" ".join(words[:2])] = done.output
        deployed.plane.time.advance(30)
    assert set(ran) >= {f"pause {CHAT}", f"resume {CHAT}", "dead-letters redrive", "rejected redrive"}
    assert ran_for(deployed)[CHAT].keys() >= {identity(event(1)), identity(event(2))}
    assert waiting(deployed) == 0
