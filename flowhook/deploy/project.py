"""Checks the Google Cloud project and its billing, and enables the APIs that a deployment needs."""

from pathlib import Path

from flowhook.deploy.errors import DeployError, Refusal
from flowhook.deploy.functions import Gcloud
from flowhook.deploy.options import PROJECT, Options
from flowhook.deploy.resources import Place
from flowhook.deploy.rest import LOGIN, Api, Document

PROJECTS = "https://cloudresourcemanager.googleapis.com/v3/projects"
BILLING = "https://cloudbilling.googleapis.com/v1/projects"
USAGE = "https://serviceusage.googleapis.com"
# The console's page on which a project gets a billing account.
ACCOUNT = "https://console.cloud.google.com/billing/linkedaccount?project="
# The APIs that every deployment needs, without `.googleapis.com`.
APIS = (
    "artifactregistry", "cloudbuild", "cloudfunctions", "cloudresourcemanager", "iam", "logging",
    "monitoring", "pubsub", "run", "secretmanager",
)  # fmt: skip
# The most APIs that one request can enable:
# https://cloud.google.com/service-usage/docs/reference/rest/v1/services/batchEnable
ENABLED_AT_ONCE = 20


def place(api: Api, options: Options, gcloud: Gcloud) -> Place:
    """Return the project, region and name that the command acts on.

    The project is that of the options, by its id or number, else gcloud's. Raises DeployError where it can't
    be reached or is not active.
    """
    wanted = options.project or _configured(gcloud)
    try:
        document = api.get(f"{PROJECTS}/{wanted}")
    except Refusal as refusal:
        raise DeployError(
            f"project {wanted} can't be reached; is the id right, and {LOGIN}\n{refusal}"
        ) from None
    if document.get("state", "ACTIVE") != "ACTIVE":
        raise DeployError(f"project {wanted} is {document['state']}")
    number = document["name"].rpartition("/")[2]
    return Place(document["projectId"], number, options.region, options.name)


def check_billing(api: Api, where: Place) -> None:
    """Raise DeployError where the project has no active billing account: some APIs can't be enabled then."""
    try:
        document = api.get(f"{BILLING}/{where.project}/billingInfo")
    except Refusal as refusal:
        raise DeployError(f"the billing of project {where.project} can't be read: {refusal}") from None
    if not document.get("billingEnabled"):
        raise DeployError(f"project {where.project} has no billing account: {ACCOUNT}{where.project}")


def enabled(api: Api, where: Place) -> frozenset[str]:
    """Return the host names of the APIs that are enabled in a project."""
    found = api.pages(
        f"{USAGE}/v1/projects/{where.project}/services", "services", {"filter": "state:ENABLED"}
    )
    return frozenset(service["config"]["name"] for service in found)


def missing(apis: frozenset[str], *more: str) -> list[str]:
    """Return the host names of the APIs that a deployment needs, and `more`, that are not among `apis`."""
    return [host for host in (f"{name}.googleapis.com" for name in (*APIS, *more)) if host not in apis]


def enable(api: Api, where: Place, hosts: list[str]) -> None:
    """Enable APIs, by their host names, and wait until they are enabled."""
    for start in range(0, len(hosts), ENABLED_AT_ONCE):
        url = f"{USAGE}/v1/projects/{where.project}/services:batchEnable"
        operation = api.request("POST", url, {"serviceIds": hosts[start : start + ENABLED_AT_ONCE]})
        api.finished(f"{USAGE}/v1", operation)


def ensure_pubsub_agent(api: Api, where: Place) -> Document:
    """Create Pub/Sub's service agent in the project if it doesn't exist, and return it.

    Pub/Sub creates the agent only when it is first used, but roles are granted to the agent before that. Only
    v1beta1 of the API has this method.
    """
    url = f"{USAGE}/v1beta1/projects/{where.project}/services/pubsub.googleapis.com:generateServiceIdentity"
    return api.finished(f"{USAGE}/v1beta1", api.request("POST", url))


def _configured(gcloud: Gcloud) -> str:
    """Return the project of gcloud's configuration. Raises DeployError where it has none."""
    ran = gcloud(["config", "get-value", "project", "--quiet"], Path.cwd())
    last = (ran.output.strip().splitlines() or [""])[-1]
    if ran.status or not PROJECT.fullmatch(last):
        raise DeployError("which project? --project P, or gcloud config set project P")
    return last
