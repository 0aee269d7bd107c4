"""The metric and the dashboard of the plan: there before the first event, and what they say is so."""

import json
import re
from collections import Counter
from copy import deepcopy
from typing import Any

import pytest

from flowhook.deploy import dashboard, plan
from flowhook.deploy.options import Options
from flowhook.deploy.resources import Place
from tests.deploy.test_stories_pausing import send
from tests.support.google_cloud import picture
from tests.support.google_cloud.desk import HANDLERS, Desk
from tests.support.google_cloud.flows import post
from tests.support.google_cloud.logging import Logs

METRIC, TYPE = "flowhook-deliveries", "logging.googleapis.com/user/flowhook-deliveries"
LINK = "https://console.cloud.google.com/monitoring/dashboards/builder/flowhook?project=flows-demo-1"
PLACE = Place("flows-demo-1", "123456789012", "europe-west1", "flowhook")


def counted(logs: Logs) -> Counter[tuple[str, str]]:
    """How often the metric has counted each outcome and type."""
    return Counter((line.labels["outcome"], line.labels["type"]) for line in logs.counted(METRIC))


def charts(document: dict[str, Any]) -> dict[str, str]:
    """What each chart asks for, by its title."""
    tiles = document["mosaicLayout"]["tiles"]
    return {tile["widget"]["title"]: json.dumps(tile["widget"]) for tile in tiles}


# --- the metric --------------------------------------------------------------------------------------------


def test_it_counts_answers_by_outcome_and_type_and_no_other_function(deployed: Desk) -> None:
    before = counted(deployed.plane.logs)
    send(deployed, 5)
    assert post(deployed.plane, b"no json", deployed.accepted[0]) == 400
    assert post(deployed.plane, b"{}", b"a-wrong-secret") == 401
    deployed.plane.time.advance(30)
    assert counted(deployed.plane.logs) - before == {
        ("published", "packets.created"): 5,
        ("not-json", ""): 1,
        ("unauthentic", ""): 1,
    }


def test_it_is_there_before_anything_can_be_answered(desk: Desk) -> None:
    ran = desk.run("--yes")
    made = [str(request) for request in ran.requests if request.changes]
    metric = next(number for number, told in enumerate(made) if told.endswith("/metrics"))
    function = next(number for number, told in enumerate(made) if told.endswith("/functions"))
    assert metric < function


def test_a_metric_of_that_name_is_adopted(deployed: Desk) -> None:
    found = deployed.plane.logs.metrics[METRIC]
    wanted, created = found["filter"], found["createTime"]
    found["filter"] = "severity>=ERROR"
    ran = deployed.run("status")
    assert ran.status == 1
    assert f"WRONG metric {METRIC}: differs: filter" in ran.output
    assert deployed.run("--yes").status == 0
    found = deployed.plane.logs.metrics[METRIC]
    assert (found["filter"], found["createTime"]) == (wanted, created)


def test_one_with_labels_that_cannot_be_removed_is_told(deployed: Desk) -> None:
    descriptor = deployed.plane.logs.metrics[METRIC]["metricDescriptor"]
    descriptor["labels"] = [{"key": "revision"}, *descriptor["labels"]]
    ran = deployed.run("--yes")
    assert ran.status == 1
    assert f"{METRIC} failed: Labels can't be removed." in ran.output


def test_one_that_somebody_has_disabled_is_enabled(deployed: Desk) -> None:
    deployed.plane.logs.metrics[METRIC]["disabled"] = True
    assert f"WRONG metric {METRIC}: differs: disabled" in deployed.run("status").output
    assert deployed.run("--yes").status == 0
    assert not deployed.plane.logs.metrics[METRIC].get("disabled")


def test_a_metric_of_others_with_a_name_that_ends_alike_is_theirs(deployed: Desk) -> None:
    other = {**deployed.plane.logs.metrics[METRIC], "name": f"team/{METRIC}", "filter": "severity>=ERROR"}
    deployed.plane.logs.metrics[f"team/{METRIC}"] = other
    assert deployed.run("status").status == 0
    assert deployed.run("delete", "--all", "--yes").status == 0
    assert list(deployed.plane.logs.metrics) == [f"team/{METRIC}"]


# --- the dashboard -----------------------------------------------------------------------------------------


def test_its_link_is_at_the_end_of_a_deployment_and_in_the_status(desk: Desk) -> None:
    assert f"Dashboard: {LINK}" in desk.run("--yes").output.splitlines()[-3:]
    assert f"Dashboard: {LINK}" in desk.run("status").output
    assert json.loads(desk.run("status", "--json").output)["dashboard"] == LINK
    assert "flowhook" in desk.plane.monitoring.dashboards


def test_it_shows_the_receiver_and_each_handler(deployed: Desk) -> None:
    found = charts(deployed.plane.monitoring.dashboards["flowhook"])
    shown = {
        "Events a second, by outcome and type": (TYPE, "metric.label.outcome", "metric.label.type"),
        "How long receive takes: p50 and p99": ("request_latencies", "PERCENTILE_50", "PERCENTILE_99"),
        "Cold starts in 5 minutes": ("startup_latencies_count",),
        "Refused a second (401)": ("request_count", '"401"'),
        "Handlers: deliveries a second": ("push_request_count", "subscription_id"),
        "Handlers: failures a second": ("push_request_count", '!= "ack"'),
        "Handlers: age of the oldest event that waits": ("oldest_unacked_message_age",),
        "Handlers: dead letters": ("dead_letter_message_count",),
    }
    assert set(found) == set(shown)
    for title, parts in shown.items():
        assert [part for part in parts if part not in found[title].replace("\\", "")] == []


def test_inline_delivery_has_no_handlers_of_their_own() -> None:
    inline = charts(dict(dashboard.planned(Options(delivery="inline"), PLACE).wanted))
    assert len(inline) == 4
    assert "consume" not in inline["Cold starts in 5 minutes"]


def test_it_stays_the_same_when_handlers_come_and_go(deployed: Desk) -> None:
    before = picture.taken(deployed.plane)["dashboards"]
    deployed.handlers({**HANDLERS, "extra.welcome": ("users.*",)})
    ran = deployed.run("--yes")
    assert ran.status == 0, ran.output
    assert "dashboard" not in "\n".join(change for change in ran.changes)
    assert picture.taken(deployed.plane)["dashboards"] == before


@pytest.mark.parametrize(
    ("subscription", "is_shown"),
    [
        (plan.subscription_name("flowhook", "notify_chat.notify_chat", "t", "f"), True),
        (plan.legacy_name("flowhook", "m.été"), True),
        ("flowhook-replay", True),
        ("flowhook-dead-letters", False),
        ("flowhook-rejected", False),
        ("flowhook-replaying-0123456789ab", False),
        # Of an installation whose name begins alike.
        (plan.subscription_name("flowhook-two", "m.f", "t", "f"), False),
        ("flowhook-two-replay", False),
    ],
)
def test_handlers_are_known_by_their_names(subscription: str, is_shown: bool) -> None:
    found = str(charts(dict(dashboard.planned(Options(), PLACE).wanted)))
    (pattern,) = set(re.findall(r'full_match\(\\+"(.*?)\\+"\)', found))
    assert bool(re.fullmatch(pattern, subscription)) == is_shown


def test_one_that_was_changed_by_hand_is_told_and_mended(deployed: Desk) -> None:
    before = deepcopy(picture.taken(deployed.plane)["dashboards"])
    found = deployed.plane.monitoring.dashboards["flowhook"]
    found["mosaicLayout"]["tiles"].pop()
    found["labels"]["team"] = "mine"
    assert "WRONG dashboard flowhook: differs: mosaicLayout" in deployed.run("status").output
    ran = deployed.run("--yes")
    assert ran.status == 0, ran.output
    (after,) = picture.taken(deployed.plane)["dashboards"].values()
    assert after["mosaicLayout"] == before["flowhook"]["mosaicLayout"]
    assert after["labels"] == {"flowhook": "flowhook", "team": "mine"}


def test_a_dashboard_with_its_id_is_adopted(desk: Desk) -> None:
    (widget,) = [{"title": "of mine", "xyChart": {"dataSets": []}}]
    desk.plane.monitoring.dashboards["flowhook"] = {
        "name": "projects/123456789012/dashboards/flowhook",
        "displayName": "mine",
        "etag": "7",
        "mosaicLayout": {"columns": 48, "tiles": [{"width": 1, "height": 1, "widget": widget}]},
    }
    ran = desk.run("--yes")
    assert ran.status == 0, ran.output
    found = desk.plane.monitoring.dashboards["flowhook"]
    assert (found["displayName"], found["etag"], len(charts(found))) == ("flowhook", "8", 8)


def test_delete_takes_both_and_leaves_those_of_others(deployed: Desk) -> None:
    assert deployed.run("--yes", "--name", "flowhook-two").status == 0
    assert deployed.run("delete", "--yes").status == 0
    assert set(deployed.plane.logs.metrics) == {"flowhook-two-deliveries"}
    assert set(deployed.plane.monitoring.dashboards) == {"flowhook-two"}
