"""`once=True`: a database of its own, for whoever runs handlers and for nobody else."""

import pytest

from flowhook.deploy import ledger, plan
from flowhook.deploy.declared import Declared
from flowhook.deploy.options import Options
from flowhook.deploy.plan import Facts
from flowhook.deploy.resources import Place
from tests.support.google_cloud.desk import HANDLERS, PROJECT, Desk

PLACE = Place(PROJECT, "1", "europe-west1", "flowhook")
ONCE = Declared("m.f", ("*",), once=True)


@pytest.mark.parametrize(("delivery", "runs"), [("pubsub", "consume"), ("inline", "receive")])
def test_whoever_runs_handlers_is_told_of_it_and_nobody_else(delivery: str, runs: str) -> None:
    found = plan.make(Options(delivery=delivery), PLACE, [ONCE], Facts("https://x"))
    told = {
        r.name: r.wanted["serviceConfig"]["environmentVariables"].get("LEDGER") for r in found.of("function")
    }
    assert told.pop(f"flowhook-{runs}") == "firestore:flowhook-ledger"
    assert set(told.values()) <= {None}
    (binding,) = [b for b in found.bindings if b.role == ledger.ROLE]
    assert binding.member.startswith(f"serviceAccount:flowhook-{runs}@")
    assert binding.condition == f'resource.name == "projects/{PROJECT}/databases/flowhook-ledger"'


@pytest.mark.parametrize("options", [Options(), Options(ledger="memory")])
def test_without_need_there_is_none(options: Options) -> None:
    handlers = [ONCE] if options.ledger else [Declared("m.f", ("*",))]
    found = plan.make(options, PLACE, handlers, Facts("https://x"))
    assert found.names("database") == set()
    assert [b for b in found.bindings if b.role == ledger.ROLE] == []


def test_a_package_that_is_missing_stops_it_before_anything_is_changed(desk: Desk) -> None:
    desk.handlers(HANDLERS, notify_chat__notify_chat={"once": True})
    ran = desk.run("--yes")
    assert (ran.status, ran.changes) == (1, [])
    assert "notify_chat.notify_chat: once=True needs google-cloud-firestore" in ran.output


def test_the_database_is_made_expires_and_goes_with_all_the_rest(desk: Desk) -> None:
    desk.handlers(HANDLERS, notify_chat__notify_chat={"once": True})
    (desk.folder / "requirements.txt").write_text("google-cloud-firestore==2.34.0\n")
    first, second = desk.run("--yes"), desk.run("--yes")
    assert (first.status, second.status) == (0, 0), first.output + second.output
    databases = desk.plane.databases
    assert databases.found["flowhook-ledger"]["locationId"] == "europe-west1"
    (field,) = databases.fields.values()
    assert field["name"].endswith("/flowhook-ledger/collectionGroups/flowhook-once/fields/expires")
    assert field["ttlConfig"]
    bindings = desk.plane.iam.policies[f"projects/{PROJECT}"]["bindings"]
    (under,) = [b for b in bindings if b["role"] == ledger.ROLE]
    assert "flowhook-ledger" in under["condition"]["expression"]
    assert not [change for change in second.changes if "databases" in change or "setIamPolicy" in change]

    assert desk.run("delete", "--yes").status == 0
    assert set(databases.found) == {"flowhook-ledger"}
    assert desk.plane.iam.policies[f"projects/{PROJECT}"]["bindings"] == []
    assert desk.run("delete", "--yes", "--all").status == 0
    assert databases.found == {}
