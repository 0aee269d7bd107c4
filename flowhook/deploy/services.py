"""The Cloud Run service behind a function: its revisions, which of them serves, and what is mounted.

https://cloud.google.com/run/docs/reference/rest/v2/projects.locations.services
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from flowhook.deploy.clock import PATIENCE
from flowhook.deploy.errors import DeployError, Refusal
from flowhook.deploy.resources import SECRET_FOLDER, Place
from flowhook.deploy.rest import Api, Document

RUN = "https://run.googleapis.com/v2"
LATEST = "TRAFFIC_TARGET_ALLOCATION_TYPE_LATEST"
REVISION = "TRAFFIC_TARGET_ALLOCATION_TYPE_REVISION"


def address(place: Place, function: str) -> str:
    """The address of the service of a function."""
    return f"{RUN}/{place.parent}/services/{place.called(function)}"


def read(api: Api, place: Place, function: str) -> Document:
    """The service of a function, which appears a while after its function has. Raises DeployError."""
    pauses = api.clock.pauses(PATIENCE)
    while (found := api.find(address(place, function))) is None:
        if next(pauses, None) is None:
            raise DeployError(f"{place.called(function)} has no Cloud Run service")
    return found


def described(service: Mapping[str, Any]) -> Document:
    """A service with what its parts come to: `serves`, and `secretVersion` where the secret is mounted."""
    return {
        **service,
        "serves": serving(service) or "latest",
        "secretVersion": secret_version(service.get("template", {})),
    }


def serving(service: Mapping[str, Any]) -> str:
    """The revisions that traffic is pinned to; empty where the latest gets all of it."""
    pinned = [target for target in service.get("traffic", ()) if target.get("type") == REVISION]
    return ", ".join(target["revision"] for target in pinned if target.get("percent"))


def secret_version(template: Mapping[str, Any]) -> str:
    """The version of the webhook secret that a revision mounts; empty where it mounts none."""
    mount = _mount(template)
    volumes = {volume["name"]: volume for volume in template.get("volumes", ())}
    items: list[Document] = volumes.get(mount, {}).get("secret", {}).get("items", [])
    return str(items[0].get("version", "")) if items else ""


def mounting(template: Mapping[str, Any], version: str) -> Document:
    """The template of a revision that mounts another version of the secret, and else is the same."""
    mount = _mount(template)
    volumes = [_at_version(v, version) if v["name"] == mount else v for v in template.get("volumes", ())]
    # A revision's name belongs to one revision.
    return {**{name: value for name, value in template.items() if name != "revision"}, "volumes": volumes}


def change(
    api: Api, place: Place, function: str, mask: str, fields: Callable[[Document], Document]
) -> Document:
    """Change a service and wait until that has been done; read again where somebody else was faster."""
    pauses = api.clock.pauses(PATIENCE)
    while True:
        service = read(api, place, function)
        etag = {"etag": service["etag"]} if "etag" in service else {}
        # Google's description has the template required, whatever the mask says.
        body = {"name": service["name"], "template": service["template"], **etag, **fields(service)}
        try:
            operation = api.request("PATCH", address(place, function), body, updateMask=mask)
            api.finished(RUN, operation)
            return read(api, place, function)
        except Refusal as refusal:
            if refusal.status not in (409, 412) or next(pauses, None) is None:
                raise


def all_traffic_on(api: Api, place: Place, function: str, right: Callable[[Document], bool]) -> Document:
    """Wait until one revision that is right has all traffic, as the service reports it."""
    pauses = api.clock.pauses(PATIENCE)
    while True:
        service = read(api, place, function)
        sole = _sole_revision(service)
        if sole and not service.get("reconciling"):
            revision = api.get(f"{RUN}/{service['name']}/revisions/{sole}")
            if right(revision):
                return service
        if next(pauses, None) is None:
            raise DeployError(f"{place.called(function)} does not get all traffic on its new revision")


def revisions(api: Api, place: Place, function: str) -> list[Document]:
    """The revisions of a function, the newest first."""
    found = api.pages(f"{address(place, function)}/revisions", "revisions")
    return sorted(found, key=lambda revision: str(revision.get("createTime", "")), reverse=True)


def ready(revision: Mapping[str, Any]) -> bool:
    """Whether a revision can serve."""
    states = {c.get("type"): c.get("state") for c in revision.get("conditions", ())}
    return states.get("Ready") == "CONDITION_SUCCEEDED"


def image(template: Mapping[str, Any]) -> str:
    """What a revision runs; rotations leave it as it is."""
    return next((str(c.get("image", "")) for c in template.get("containers", ())), "")


def environment(template: Mapping[str, Any]) -> dict[str, str]:
    """The plain variables of a revision."""
    return {entry["name"]: entry.get("value", "") for entry in _entries(template)}


def short(name: str) -> str:
    """The last part of a full name."""
    return name.rpartition("/")[2]


def _sole_revision(service: Mapping[str, Any]) -> str:
    statuses = [status for status in service.get("trafficStatuses", ()) if status.get("percent")]
    if len(statuses) != 1 or statuses[0]["percent"] != 100:
        return ""
    latest = short(service.get("latestReadyRevision", ""))
    created = short(service.get("latestCreatedRevision", ""))
    if statuses[0].get("type") == LATEST:
        return latest if latest == created else ""
    return short(statuses[0].get("revision", ""))


def _mount(template: Mapping[str, Any]) -> str:
    """The name of the volume that the webhook secret is in."""
    mounts = [m for c in template.get("containers", ()) for m in c.get("volumeMounts", ())]
    return next((m["name"] for m in mounts if m.get("mountPath") == SECRET_FOLDER), "")


def _at_version(volume: Mapping[str, Any], version: str) -> Document:
    secret = volume["secret"]
    items = [{**item, "version": version} for item in secret.get("items", ())]
    return {**volume, "secret": {**secret, "items": items}}


def _entries(template: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    for container in template.get("containers", ()):
        yield from container.get("env", ())
