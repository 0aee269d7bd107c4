"""What is there, as tests compare it: without what each run makes anew."""

import io
import json
import zipfile
from pathlib import Path
from typing import Any

from tests.support.google_cloud.control_plane import ControlPlane
from tests.support.google_cloud.functions import Image, template_of
from tests.support.google_cloud.iam import Grant
from tests.support.google_cloud.run import Wanted
from tests.support.google_cloud.simulated import TABLE

NEW_EACH_TIME = {"updateTime", "createTime", "etag", "state", "stateMessages"}
REGION = "europe-west1"


def grants(plane: ControlPlane) -> dict[str, set[Grant]]:
    """Who may do what, on what anybody may do anything on."""
    return {resource: given for resource in plane.iam.policies if (given := plane.iam.grants(resource))}


def taken(plane: ControlPlane) -> dict[str, Any]:
    """All of it."""
    subscriptions = {name: s.document for name, s in plane.pubsub.found.items()}
    return {
        "grants": grants(plane),
        "accounts": set(plane.iam.accounts),
        "topics": {name: topic.document for name, topic in plane.pubsub.topics.items()},
        "subscriptions": {n: _without_dates(d) for n, d in subscriptions.items() if not _expires(d)},
        "secrets": {
            name: [(v.state, v.payload) for v in s.versions] for name, s in plane.secrets.found.items()
        },
        "functions": {name: _stable(document) for name, document in plane.functions.found.items()},
        "services": {name: _service(s.document) for name, s in plane.run.found.items()},
        "repositories": set(plane.repositories.found),
        "alerts": {a["displayName"]: _without_number(a) for a in plane.monitoring.alerts.values()},
        "metrics": {name: _stable(m) for name, m in plane.logs.metrics.items()},
        "dashboards": {name: _stable(d) for name, d in plane.monitoring.dashboards.items()},
        "channels": [c["labels"] for c in plane.monitoring.channels.values()],
    }


def _stable(document: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in document.items() if name not in NEW_EACH_TIME}


def _expires(document: dict[str, Any]) -> bool:
    """Whether a subscription goes away by itself when a command has died: those that last never do."""
    return str(document["expirationPolicy"].get("ttl", "2678400s")) != "2678400s"


def _without_number(alert: dict[str, Any]) -> dict[str, Any]:
    """They are made several at a time, so who is the first is a matter of chance."""
    return {name: value for name, value in _stable(alert).items() if name != "name"}


def _without_dates(document: dict[str, Any]) -> dict[str, Any]:
    labels = {name: value for name, value in document.get("labels", {}).items() if name != "flowhook-since"}
    return {**_stable(document), "labels": labels}


def _service(document: dict[str, Any]) -> dict[str, Any]:
    kept = ("ingress", "traffic", "template", "invokerIamDisabled")
    found = {name: document[name] for name in kept if name in document}
    # Each build makes an image of its own.
    containers = [{k: v for k, v in c.items() if k != "image"} for c in document["template"]["containers"]]
    return {**found, "template": {**document["template"], "containers": containers}}


def restore(plane: ControlPlane, recorded: Path, table: bytes) -> None:
    """Have what the script of before plan and state had installed, from a record of the fake of that time.

    `table` is the simulation's table of handlers.
    """
    found = json.loads(recorded.read_text())
    plane.place.enabled_from.update(dict.fromkeys(found["apis"], 0.0))
    plane.iam.accounts.update(found["accounts"])
    plane.iam.agents.add("service-123456789012@gcp-sa-pubsub.iam.gserviceaccount.com")
    _restore_messages(plane, found)
    for name, (state, payload) in ((n, v) for n, versions in found["secrets"].items() for v in versions):
        plane.secrets.put(name, payload.encode())
        plane.secrets.found[name].versions[-1].state = state
    for resource, policy in found["policies"].items():
        kind, _, name = resource.partition("/")
        key = f"services/{REGION}/{name}" if kind == "services" else resource
        for binding in policy.get("bindings", []):
            for member in binding["members"]:
                plane.iam.plant(key, binding["role"], member)
    for name, document in found["functions"].items():
        _restore_function(plane, name, document, table)
    for number, alert in found["alerts"].items():
        plane.monitoring.alerts[f"old-{number}"] = {**alert, "name": f"{_parent(alert)}/old-{number}"}


def _parent(alert: dict[str, Any]) -> str:
    return str(alert["name"]).rpartition("/")[0]


def _restore_messages(plane: ControlPlane, found: dict[str, Any]) -> None:
    for name in found["topics"]:
        plane.pubsub.put_topic(name, {"name": f"projects/{plane.project}/topics/{name}"})
    for name, document in found["subscriptions"].items():
        plane.pubsub.put(name, {"pushConfig": {}, **document})


def _restore_function(plane: ControlPlane, name: str, document: dict[str, Any], table: bytes) -> None:
    plane.functions.put(f"{REGION}/{name}", document)
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as written:
        written.writestr(TABLE, table)
    image = Image(archive.getvalue(), document["buildConfig"]["entryPoint"])
    plane.run.deploy(
        name, REGION, Wanted(template_of(document), image, "INGRESS_TRAFFIC_ALL", all_traffic=False)
    )
