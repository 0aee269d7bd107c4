"""How each kind of resource is listed, made, changed and removed: a row a kind, one way for all."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from flowhook.deploy import diff, services
from flowhook.deploy.errors import DeployError, Refusal
from flowhook.deploy.resources import Place, Resource
from flowhook.deploy.rest import Api, Document


@dataclass(frozen=True)
class Kind:
    """Where Google keeps a kind, and how it wants to be asked.

    `id_field` is the parameter for the id of something new; empty where it is part of the address (PUT), or
    where Google gives one (`named_by` tells then what ours goes by), or where it is in the document, as
    `named` has it. `wrapped` is the name under which a change holds its document, and its mask; else the mask
    is a parameter. Where there are no masks, `replaced` is the method that takes the whole document.
    """

    service: str
    base: str
    collection: str
    items: str
    id_field: str = ""
    named_by: str = "name"
    wrapped: str = ""
    anonymous: bool = False
    named: str = ""
    replaced: str = ""

    def parent(self, place: Place) -> str:
        """The address of the collection."""
        return f"{self.base}/{self.collection.format(project=place.project, parent=place.parent)}"

    def address(self, place: Place, name: str) -> str:
        """The address of one that has an id of ours."""
        return f"{self.parent(place)}/{quote(name, safe='@')}"


PUBSUB, MONITORING = "https://pubsub.googleapis.com/v1", "https://monitoring.googleapis.com/v3"
RUN = "https://run.googleapis.com/v2"
FUNCTIONS = "https://cloudfunctions.googleapis.com/v2"
SECRETS = "https://secretmanager.googleapis.com/v1"
IAM = "https://iam.googleapis.com/v1"
FIRESTORE = "https://firestore.googleapis.com/v1"
REPOSITORIES = "https://artifactregistry.googleapis.com/v1"
LOGGING, DASHBOARDS = "https://logging.googleapis.com/v2", "https://monitoring.googleapis.com/v1"
# Where the name is the id alone, in which there may be slashes; then this has the full name.
PLAIN, FULL_NAME = "{name}", "resourceName"

KINDS: Mapping[str, Kind] = {
    "account": Kind(
        "iam", IAM, "projects/{project}/serviceAccounts", "accounts", id_field="accountId", named_by="email"
    ),
    "topic": Kind("pubsub", PUBSUB, "projects/{project}/topics", "topics", wrapped="topic"),
    "subscription": Kind(
        "pubsub", PUBSUB, "projects/{project}/subscriptions", "subscriptions", wrapped="subscription"
    ),
    "repository": Kind(
        "artifactregistry", REPOSITORIES, "{parent}/repositories", "repositories", id_field="repositoryId"
    ),
    "secret": Kind("secretmanager", SECRETS, "projects/{project}/secrets", "secrets", id_field="secretId"),
    "function": Kind(
        "cloudfunctions", FUNCTIONS, "{parent}/functions", "functions", id_field="functionId"
    ),
    "service": Kind("run", RUN, "{parent}/services", "services", id_field="serviceId"),
    "database": Kind(
        "firestore", FIRESTORE, "projects/{project}/databases", "databases", id_field="databaseId"
    ),
    "channel": Kind(
        "monitoring", MONITORING, "projects/{project}/notificationChannels", "notificationChannels",
        named_by="labels.email_address", anonymous=True,
    ),
    "alert": Kind(
        "monitoring", MONITORING, "projects/{project}/alertPolicies", "alertPolicies", named_by="displayName",
        anonymous=True,
    ),
    "metric": Kind("logging", LOGGING, "projects/{project}/metrics", "metrics", named=PLAIN, replaced="PUT"),
    "dashboard": Kind(
        "monitoring", DASHBOARDS, "projects/{project}/dashboards", "dashboards",
        named="projects/{project}/dashboards/{name}", replaced="PATCH",
    ),
}  # fmt: skip


def every(api: Api, place: Place, kind: str) -> dict[str, Document]:
    """All that a project has of a kind, by id."""
    row = KINDS[kind]
    found = (_seen(place, kind, document) for document in api.pages(row.parent(place), row.items))
    return {_id(row, document): document for document in found}


def find(api: Api, place: Place, kind: str, name: str) -> Document | None:
    """One of a kind, if it is there."""
    row = KINDS[kind]
    if row.anonymous:
        return every(api, place, kind).get(name)
    document = api.find(row.address(place, name))
    return _seen(place, kind, document) if document is not None else None


def create(api: Api, place: Place, resource: Resource) -> Document:
    """Make it, and give what is there then. A subscription begins without pushing."""
    if resource.kind == "secret":
        return _create_secret(api, place, resource)
    return _create(api, place, resource, resource.wanted)


def change(api: Api, resource: Resource, present: Mapping[str, Any], paths: Sequence[str]) -> Document:
    """Give some fields the values that are wanted; labels of others stay."""
    row = KINDS[resource.kind]
    fields = {path: _kept(path, resource.wanted[path], present) for path in paths}
    url = f"{row.base}/{quote(present.get(FULL_NAME, present['name']), safe='/@')}"
    mask = ",".join(paths)
    if row.replaced:
        return {**present, **_replace(api, row, url, present, fields)}
    if row.wrapped:
        # The topic of a subscription is required, and can't be changed.
        same = {name: present[name] for name in ("name", "topic") if name in present}
        body = {row.wrapped: {**same, **fields}, "updateMask": mask}
        changed = api.request("PATCH", url, body)
    else:
        changed = api.request("PATCH", url, {"name": present["name"], **fields}, updateMask=mask)
    return normal(resource.kind, changed)


def remove(api: Api, place: Place, kind: str, name: str, present: Mapping[str, Any]) -> None:
    """Delete it, and wait until it is gone."""
    row = KINDS[kind]
    url = row.address(place, name) if not row.anonymous else f"{row.base}/{present['name']}"
    operation = api.remove(url)
    if "/operations/" in operation.get("name", ""):
        api.finished(row.base, operation)


def normal(kind: str, document: Document) -> Document:
    """A document without what Google adds to it where there is nothing, and with what its parts come to."""
    if kind == "subscription" and not document.get("pushConfig", {}).get("pushEndpoint"):
        return {**document, "pushConfig": {}}
    return services.described(document) if kind == "service" else document


def _seen(place: Place, kind: str, document: Document) -> Document:
    """What is there, normal, with a full name."""
    if KINDS[kind].named == PLAIN:
        parent = KINDS[kind].collection.format(project=place.project)
        document = {**document, FULL_NAME: f"{parent}/{document['name']}"}
    return normal(kind, document)


def _replace(api: Api, row: Kind, url: str, present: Mapping[str, Any], fields: Document) -> Document:
    """Write the whole document with some fields as they are wanted.

    Its etag is of one use: after an answer that was lost, what is there tells whether it has been written.
    """

    def written() -> Document | None:
        found = api.get(url)
        return None if any(diff.differing(fields, found)) else found

    whole = {name: value for name, value in present.items() if name != FULL_NAME}
    return api.request(row.replaced, url, {**whole, **fields}, before_again=written)


def _id(row: Kind, document: Mapping[str, Any]) -> str:
    value: Any = document
    for part in row.named_by.split("."):
        value = value.get(part, {})
    is_full = row.named_by == "name" and row.named != PLAIN
    return str(value).rpartition("/")[2] if is_full else str(value)


def _create(api: Api, place: Place, resource: Resource, fields: Mapping[str, Any]) -> Document:
    row = KINDS[resource.kind]
    method, url, body = _creation(row, place, resource, fields)
    params = {row.id_field: resource.name} if row.id_field and resource.kind != "account" else {}
    made = api.create(method, url, body, lambda: find(api, place, resource.kind, resource.name), **params)
    if "/operations/" in made.get("name", ""):
        made = api.finished(row.base, made)
    return _seen(place, resource.kind, made)


def _creation(
    row: Kind, place: Place, resource: Resource, fields: Mapping[str, Any]
) -> tuple[str, str, Document]:
    if resource.kind == "account":
        short = resource.name.partition("@")[0]
        return "POST", row.parent(place), {"accountId": short, "serviceAccount": {"displayName": short}}
    if resource.kind == "subscription":
        fields = {name: value for name, value in fields.items() if name != "pushConfig"}
    if resource.kind == "database":
        fields = {**fields, "locationId": place.region}
    if row.named:
        fields = {**fields, "name": row.named.format(project=place.project, name=resource.name)}
    if row.id_field or row.anonymous or row.named:
        return "POST", row.parent(place), dict(fields)
    return "PUT", row.address(place, resource.name), dict(fields)


def _create_secret(api: Api, place: Place, resource: Resource) -> Document:
    """Everywhere, or where an organization wants its data to lie, in the region of the functions.

    https://cloud.google.com/resource-manager/docs/organization-policy/defining-locations
    """
    try:
        return _create(api, place, resource, {**resource.wanted, "replication": {"automatic": {}}})
    except Refusal as refusal:
        if not refusal.has("resourceLocations"):
            raise
    here = {"userManaged": {"replicas": [{"location": place.region}]}}
    return _create(api, place, resource, {**resource.wanted, "replication": here})


def _kept(path: str, wanted: Any, present: Mapping[str, Any]) -> Any:
    return {**present.get(path, {}), **wanted} if path in ("labels", "userLabels") else wanted


def required(found: Document | None, what: str) -> Document:
    """What must be there. Raises DeployError."""
    if found is None:
        raise DeployError(f"{what} is not there: ./deploy.sh")
    return found
