"""A process that is killed at any of its changes, before or after it took effect, and started again."""

import math
from collections.abc import Callable, Iterator

import pytest

from tests.deploy.test_stories import RECEIVE, pushed
from tests.deploy.test_stories_loss import missed
from tests.support.google_cloud import picture
from tests.support.google_cloud.desk import CHAT, HANDLERS, LOG, Desk
from tests.support.google_cloud.faults import Moment

MOMENTS: tuple[Moment, ...] = ("before", "after")
Fresh = Callable[[], Desk]


@pytest.fixture
def fresh(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Fresh:
    return lambda: Desk(tmp_path_factory.mktemp("desk") / "project", monkeypatch)


def interruptions(make: Fresh, *words: str, every: int = 1) -> Iterator[tuple[Desk, str]]:
    """A desk for each change of a command, killed there; `make` brings each to where the command begins."""
    for moment in MOMENTS:
        for number in range(0, 1000, every):
            desk = make()
            died = desk.killed(number, moment, *words)
            if not died:
                break
            yield desk, f"killed {moment} change {number}, {desk.plane.log[-1]}"
        assert number > 3 or every > 1


def without_secret(found: dict[str, object]) -> dict[str, object]:
    """What each run makes anew is different each time."""
    return {kind: value for kind, value in found.items() if kind != "secrets"}


def settled(desk: Desk) -> None:
    """Builds that had begun go on without whoever asked for them."""
    desk.plane.time.advance(300)


def test_a_first_deployment_goes_on_from_wherever_it_was_killed(fresh: Fresh) -> None:
    whole = fresh()
    assert whole.run("--yes").status == 0
    wanted = without_secret(picture.taken(whole.plane))
    for desk, where in interruptions(fresh, "--yes"):
        settled(desk)
        ran = desk.run("--yes", "--break-lock")
        assert ran.status == 0, f"{where}: {ran.output[-1500:]}"
        assert without_secret(picture.taken(desk.plane)) == wanted, where
        (version,) = desk.plane.secrets.found["flowhook-secret"].versions
        assert version.state == "ENABLED", where
        assert set(desk.plane.secrets.found) == {"flowhook-secret"}, where


def test_another_deployment_goes_on_too_and_loses_nothing(fresh: Fresh) -> None:
    """One handler less, another filter, one handler more, all at once, with events coming."""

    def make() -> Desk:
        desk = fresh()
        assert desk.run("--yes").status == 0
        desk.handlers({CHAT: ("packets.*",), "extra.welcome": ("users.*",)})
        desk.flows.start(desk.accepted[0])
        return desk

    wanted: dict[str, object] = {}
    for desk, where in interruptions(make, "--yes", "--prune", "--drain-minutes", "30", every=3):
        desk.plane.time.advance(300)
        ran = desk.run("--yes", "--prune", "--drain-minutes", "30", "--break-lock")
        assert ran.status == 0, f"{where}: {ran.output[-1500:]}"
        found = without_secret(picture.taken(desk.plane))
        wanted = wanted or found
        assert found == wanted, where
        assert desk.flows.statuses.keys() == {200}, where
        assert missed(desk, CHAT, "packets.created", desk.flows.accepted) == set(), where
        assert not any(LOG in name for name in desk.plane.pubsub.found), where


def test_a_rotation_goes_on_and_refuses_nothing(fresh: Fresh) -> None:
    def make() -> Desk:
        desk = fresh()
        assert desk.run("--yes").status == 0
        desk.flows.start(desk.accepted[0])
        return desk

    for desk, where in interruptions(make, "rotate-secret"):
        settled(desk)
        again = desk.run("rotate-secret", "--break-lock")
        # Where all but the end had been done, there is nothing to begin any more.
        told = "a rotation is under way" in again.output
        assert again.status == 0 or told, f"{where}: {again.output}"
        assert len(desk.accepted) == 2, where
        desk.flows.secret = desk.accepted[0]
        settled(desk)
        assert desk.run("rotate-secret", "--finish", "--break-lock").status == 0, where
        settled(desk)
        assert desk.flows.statuses.keys() == {200}, where


def test_the_end_of_a_rotation_goes_on_and_refuses_nothing(fresh: Fresh) -> None:
    def make() -> Desk:
        desk = fresh()
        assert desk.run("--yes").status == 0
        assert desk.run("rotate-secret").status == 0
        desk.flows.start(desk.accepted[0])
        return desk

    for desk, where in interruptions(make, "rotate-secret", "--finish"):
        settled(desk)
        again = desk.run("rotate-secret", "--finish", "--break-lock")
        assert again.status == 0 or "no rotation is under way" in again.output, f"{where}: {again.output}"
        settled(desk)
        assert desk.flows.statuses.keys() == {200}, where
        (secret,) = desk.accepted
        assert secret == desk.flows.secret, where


def test_a_deletion_goes_on_until_nothing_is_left(fresh: Fresh) -> None:
    def make() -> Desk:
        desk = fresh()
        assert desk.run("--yes").status == 0
        return desk

    for desk, where in interruptions(make, "delete", "--all", "--yes", every=2):
        settled(desk)
        again = desk.run("delete", "--all", "--yes", "--break-lock")
        assert again.status == 0, f"{where}: {again.output}"
        found = picture.taken(desk.plane)
        left = {kind: value for kind, value in found.items() if value}
        assert left == {}, where


def test_the_way_from_pubsub_to_inline_goes_on_and_loses_nothing(fresh: Fresh) -> None:
    def make() -> Desk:
        desk = fresh()
        assert desk.run("--yes").status == 0
        desk.flows.start(desk.accepted[0])
        return desk

    words = ("--yes", "--delivery", "inline", "--prune", "--drain-minutes", "30")
    for desk, where in interruptions(make, *words, every=2):
        settled(desk)
        ran = desk.run(*words, "--break-lock")
        assert ran.status == 0, f"{where}: {ran.output[-1500:]}"
        settled(desk)
        assert set(desk.plane.functions.found) == {RECEIVE}, where
        assert pushed(desk) == set(), where
        assert missed(desk, LOG, "*", desk.flows.accepted) == set(), where
        assert desk.flows.statuses.keys() == {200}, where


def test_a_rollback_goes_on(fresh: Fresh) -> None:
    def make() -> Desk:
        desk = fresh()
        assert desk.run("--yes").status == 0
        desk.handlers({**HANDLERS, "extra.welcome": ("users.*",)})
        assert desk.run("--yes").status == 0
        desk.flows.start(desk.accepted[0])
        return desk

    for desk, where in interruptions(make, "rollback", "--yes"):
        settled(desk)
        deployed = desk.run("--yes", "--break-lock")
        assert deployed.status == 0, f"{where}: {deployed.output[-1500:]}"
        settled(desk)
        service = desk.plane.run.found[RECEIVE]
        assert len(service.serving) == 1, where
        assert desk.flows.statuses.keys() == {200}, where
        assert len(pushed(desk)) == len(HANDLERS) + 3, where
    assert math.isfinite(desk.plane.time.now)


def test_what_is_left_over_of_a_removed_handler_is_never_lost_on_its_way_to_the_dead_letters(
    fresh: Fresh,
) -> None:
    def make() -> Desk:
        desk = fresh()
        assert desk.run("--yes").status == 0
        desk.plane.simulation.failing.add(CHAT)
        desk.flows.start(desk.accepted[0])
        desk.plane.time.advance(60)
        desk.flows.stop()
        desk.handlers({LOG: ("*",)})
        return desk

    words = ("--yes", "--prune", "--drain-minutes", "1")
    # To be killed after one change is to be killed before the next: two in two are all.
    for desk, where in interruptions(make, *words, every=2):
        desk.plane.time.advance(300)
        ran = desk.run(*words, "--break-lock")
        assert ran.status == 0, f"{where}: {ran.output[-1500:]}"
        letters = desk.plane.pubsub.waiting("flowhook-dead-letters")
        buried = {m.attributes["ce-id"] for m in letters if m.attributes.get("handler") == CHAT}
        wanted = {e.event for e in desk.flows.accepted if e.type == "packets.created"}
        assert wanted <= buried, where
        assert wanted, where
