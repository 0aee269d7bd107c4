"""Whatever is done in whatever order, with whatever going wrong: no event is refused, and none is lost.

A seed is a story. One that fails is told again by `-k SEED`.
"""

import random
from collections.abc import Callable

import pytest

from tests.deploy.test_stories_faults import MODES
from tests.deploy.test_stories_loss import missed
from tests.support.google_cloud.desk import CHAT, LOG, Desk
from tests.support.google_cloud.faults import Faults

SEEDS = range(8)
STEPS = 6
# Always what CHAT had before, and more or less beside it.
FILTERS = (("packets.created",), ("packets.*",), ("packets.created", "users.*"), ("*",))
OTHERS = ("extra.welcome", "more.audit")
# These end a command, as they should; what goes on afterwards is another story.
LEFT_OUT = ("created by halves", "APIs late", "the build's first failures")

Act = Callable[[Desk, random.Random], None]


def deploy(desk: Desk, chance: random.Random) -> None:
    others = {name: ("users.*",) for name in OTHERS if chance.random() < 0.5}
    desk.handlers({LOG: ("*",), CHAT: chance.choice(FILTERS), **others})
    words = ["--yes", "--drain-minutes", str(chance.choice((1, 10, 30)))]
    succeed(desk, *words, *(["--prune"] if chance.random() < 0.5 else []))


def rotate(desk: Desk, _chance: random.Random) -> None:
    succeed(desk, "rotate-secret", *(["--finish"] if len(desk.accepted) > 1 else []))


def roll_back(desk: Desk, _chance: random.Random) -> None:
    """Refused where there is nothing to go back to; the next deployment ends it."""
    desk.run("rollback", "--yes")
    desk.plane.time.advance(300)
    succeed(desk, "--yes")


def die(desk: Desk, chance: random.Random) -> None:
    """Somewhere on the way of a deployment, which is then run again."""
    desk.handlers({LOG: ("*",), CHAT: chance.choice(FILTERS)})
    desk.killed(chance.randrange(30), chance.choice(("before", "after")), "--yes", "--prune")
    desk.plane.time.advance(chance.choice((5, 300)))
    succeed(desk, "--yes", "--prune", "--break-lock")


def fail(desk: Desk, chance: random.Random) -> None:
    """A handler fails for a while."""
    desk.plane.simulation.failing.add(CHAT)
    desk.plane.time.advance(chance.choice((60, 900)))
    if chance.random() < 0.5:
        deploy(desk, chance)
    desk.plane.simulation.failing.discard(CHAT)


def suffer(desk: Desk, chance: random.Random) -> None:
    """Something else goes wrong from now on."""
    mode = chance.choice([mode for mode in MODES if mode not in LEFT_OUT])
    MODES[mode](desk.plane.faults)


def succeed(desk: Desk, *words: str) -> None:
    ran = desk.run(*words)
    assert ran.status == 0, f"{words}: {ran.output[-3000:]}"


ACTS: tuple[Act, ...] = (deploy, deploy, rotate, roll_back, die, fail, suffer)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_random_life_refuses_and_loses_nothing(desk: Desk, seed: int) -> None:
    chance = random.Random(seed)
    succeed(desk, "--yes")
    desk.flows.start(desk.accepted[0])
    for _ in range(STEPS):
        chance.choice(ACTS)(desk, chance)
        desk.plane.time.advance(chance.choice((5, 120)))
    desk.plane.faults.__dict__.update(Faults().__dict__)
    desk.plane.time.advance(600)
    succeed(desk, "--yes", "--prune", "--drain-minutes", "60")
    assert desk.flows.statuses.keys() == {200}
    assert missed(desk, LOG, "*", desk.flows.accepted) == set()
    assert missed(desk, CHAT, "packets.created", desk.flows.accepted) == set()
