"""Moving to another region: the old address serves until Flows has the new one."""

from tests.support.google_cloud.desk import Desk

RECEIVERS = {"europe-west1/flowhook-receive", "us-central1/flowhook-receive"}


def test_the_functions_of_the_old_region_serve_until_flows_can_have_the_new_url(deployed: Desk) -> None:
    moved = deployed.run("--yes", "--prune", "--region", "us-central1")
    assert moved.status == 0, moved.output
    assert set(deployed.plane.functions.found) >= RECEIVERS
    assert "stay until Flows has the new URL" in moved.output
    deployed.flows.start(deployed.accepted[0])
    deployed.plane.time.advance(60)
    assert deployed.flows.statuses.keys() == {200}
    deployed.flows.stop()
    again = deployed.run("--yes", "--prune", "--region", "us-central1")
    assert again.status == 0, again.output
    assert set(deployed.plane.functions.found) == {
        "us-central1/flowhook-receive",
        "us-central1/flowhook-consume",
    }
