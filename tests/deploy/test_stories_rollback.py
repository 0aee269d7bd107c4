"""Going back: to what ran before, not to what only mounted another secret."""

from tests.support.google_cloud.desk import HANDLERS, Desk
from tests.support.google_cloud.picture import REGION

RECEIVE, CONSUME = f"{REGION}/flowhook-receive", f"{REGION}/flowhook-consume"
MORE = {**HANDLERS, "extra.welcome": ("users.*",)}


def traffic(desk: Desk, service: str) -> list[dict[str, object]]:
    found: list[dict[str, object]] = desk.plane.run.found[service].document["traffic"]
    return found


def test_after_a_first_deployment_there_is_nothing_to_go_back_to(deployed: Desk) -> None:
    ran = deployed.run("rollback", "--yes")
    assert (ran.status, ran.changes) == (1, [])
    assert "no earlier revision" in ran.output


def test_a_rotation_is_no_revision_to_go_back_to(deployed: Desk) -> None:
    deployed.handlers(MORE)
    assert deployed.run("--yes").status == 0
    assert deployed.run("rotate-secret").status == 0
    before = traffic(deployed, RECEIVE), traffic(deployed, CONSUME)
    ran = deployed.run("rollback", "--yes")
    # What ran before the rotation knows only the old secret, and Flows may have the new one by now.
    assert (ran.status, ran.changes) == (1, [])
    assert "does not know the current secret" in ran.output
    assert (traffic(deployed, RECEIVE), traffic(deployed, CONSUME)) == before


def test_a_dry_run_says_where_it_would_go_and_goes_nowhere(deployed: Desk) -> None:
    deployed.handlers(MORE)
    assert deployed.run("--yes").status == 0
    ran = deployed.run("rollback", "--dry-run")
    assert (ran.status, ran.changes) == (0, [])
    assert "extra.welcome" in ran.output


def test_the_status_after_a_rotation_is_well_and_after_a_rollback_is_not(deployed: Desk) -> None:
    assert deployed.run("rotate-secret").status == 0
    assert deployed.run("status").status == 0
    deployed.handlers(MORE)
    assert deployed.run("--yes").status == 0
    assert deployed.run("rollback", "--yes").status == 0
    status = deployed.run("status")
    assert status.status == 1
    assert "service flowhook-receive" in status.output
