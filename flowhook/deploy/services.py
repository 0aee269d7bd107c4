"""The Cloud Run service behind each function: its revisions, their traffic and the secrets that they mount.

https://cloud.google.com/run/docs/reference/rest/v2/projects.locations.services
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from flowhook.deploy.clock import PATIENCE
from flowhook.deploy.errors import DeployError, Refusal
from flowhook.deploy.resources import SECRET_FOLDER, Place
from flowhook.deploy.rest import Api, Document

RUN = "https://run.googleapis.com/v2"
# The two types of a traffic target.
LATEST = "TRAFFIC_TARGET_ALLOCATION_TYPE_LATEST"
REVISION = "TRAFFIC_TARGET_ALLOCATION_TYPE_REVISION"


def address(place: Place, function: str) -> str:
    """Return the URL of the service of a function."""
    return f"{RUN}/{place.parent}/services/{place.called(function)}"


def read(api: Api, place: Place, function: str) -> Document:
    """Return the service of a function.

    It may appear some time after the function. Raises DeployError where it doesn't within PATIENCE seconds.
    """
    pauses = api.clock.pauses(PATIENCE)
    while (found := api.find(address(place, function))) is None:
        if next(pauses, None) is None:
            raise DeployError(f"{place.called(function)} has no Cloud Run service")
    return found


def described(service: Mapping[str, Any]) -> Document:
    """Return a service with two fields added that a plan compares: `serves` and `secretVersion`."""
    return {
        **service,
        "serves": serving(service) or "latest",
        "secretVersion": secret_version(service.get("template", {})),
    }


def serving(service: Mapping[str, Any]) -> str:
    """Return the names of the revisions that traffic is pinned to; empty where the latest one gets all."""
    pinned = [target for target in service.get("traffic", ()) if target.get("type") == REVISION]
    return ", ".join(target["revision"] for target in pinned if target.get("percent"))


def secret_version(template: Mapping[str, Any]) -> str:
    """Return the version of the webhook secret that a revision mounts; empty where it mounts none."""
    mount = _mount(template)
    volumes = {volume["name"]: volume for volume in template.get("volumes", ())}
    items: list[Document] = volumes.get(mount, {}).get("secret", {}).get("items", [])
    return str(items[0].get("version", "")) if items else ""


def mounting(template: Mapping[str, Any], version: str) -> Document:
    """Return a revision template that mounts another version of the secret, and is the same otherwise."""
    mount = _mount(template)
    volumes = [_at_version(v, version) if v["name"] == mount else v for v in template.get("volumes", ())]
    # The new revision needs another name, which Google gives where there is none.
    return {**{name: value for name, value in template.items() if name != "revision"}, "volumes": volumes}


def change(
    api: Api, place: Place, function: str, mask: str, fields: Callable[[Document], Document]
) -> Document:
    """Update a service, wait until that is done, and return the service.

    `fields` returns the new fields for the present service; `mask` names them. Starts again from reading
    where somebody else has changed the service meanwhile, for PATIENCE seconds at most.
    """
    pauses = api.clock.pauses(PATIENCE)
    while True:
        service = read(api, place, function)
        etag = {"etag": service["etag"]} if "etag" in service else {}
        # The API requires the template, even where the mask doesn't name it.
        body = {"name": service["name"], "template": service["template"], **etag, **fields(service)}
        try:
            operation = api.request("PATCH", address(place, function), body, updateMask=mask)
            api.finished(RUN, operation)
            return read(api, place, function)
        except Refusal as refusal:
            if refusal.status not in (409, 412) or next(pauses, None) is None:
                raise


def all_traffic_on(api: Api, place: Place, function: str, is_wanted: Callable[[Document], bool]) -> Document:
    """Wait until the service reports that one revision gets all traffic, and return the service.

    `is_wanted` must be true for that revision. Raises DeployError after PATIENCE seconds.
    """
    pauses = api.clock.pauses(PATIENCE)
    while True:
        service = read(api, place, function)
        sole = _sole_revision(service)
        if sole and not service.get("reconciling"):
            revision = api.get(f"{RUN}/{service['name']}/revisions/{sole}")
            if is_wanted(revision):
                return service
        if next(pauses, None) is None:
            raise DeployError(f"{place.called(function)} does not get all traffic on its new revision")


def revisions(api: Api, place: Place, function: str) -> list[Document]:
    """Return the revisions of a function, the newest first."""
    found = api.pages(f"{address(place, function)}/revisions", "revisions")
    return sorted(found, key=lambda revision: str(revision.get("createTime", "")), reverse=True)


def ready(revision: Mapping[str, Any]) -> bool:
    """Return whether a revision can serve."""
    states = {c.get("type"): c.get("state") for c in revision.get("conditions", ())}
    return states.get("Ready") == "CONDITION_SUCCEEDED"


def image(template: Mapping[str, Any]) -> str:
    """Return the image that a revision runs. A rotation of the secret doesn't change it."""
    return next((str(c.get("image", "")) for c in template.get("containers", ())), "")


def environment(template: Mapping[str, Any]) -> dict[str, str]:
    """Return the environment variables of a revision, with an empty value for each that is a secret."""
    return {entry["name"]: entry.get("value", "") for entry in _entries(template)}


def short(name: str) -> str:
    """Return the last part of a full resource name."""
    return name.rpartition("/")[2]


def _sole_revision(service: Mapping[str, Any]) -> str:
    """Return the name of the one revision that gets all traffic; empty where there is no such one yet."""
    statuses = [status for status in service.get("trafficStatuses", ()) if status.get("percent")]
    if len(statuses) != 1 or statuses[0]["percent"] != 100:
        return ""
    latest = short(service.get("latestReadyRevision", ""))
    created = short(service.get("latestCreatedRevision", ""))
    if statuses[0].get("type") == LATEST:
        return latest if latest == created else ""
    return short(statuses[0].get("revision", ""))


def _mount(template: Mapping[str, Any]) -> str:
    """Return the name of the volume with the webhook secret; empty where none is mounted."""
    mounts = [m for c in template.get("containers", ()) for m in c.get("volumeMounts", ())]
    return next((m["name"] for m in mounts if m.get("mountPath") == SECRET_FOLDER), "")


def _at_version(volume: Mapping[str, Any], version: str) -> Document:
    secret = volume["secret"]
    items = [{**item, "version": version} for item in secret.get("items", ())]
    return {**volume, "secret": {**secret, "items": items}}


def _entries(template: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    for container in template.get("containers", ()):
        yield from container.get("env", ())
