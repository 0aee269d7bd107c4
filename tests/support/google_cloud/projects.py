"""The project itself: its number, its billing, its APIs, and what its organization forbids."""

from tests.support.google_cloud.exchange import Document, Refusal, Request, Routes, refusal_for
from tests.support.google_cloud.faults import Faults
from tests.support.google_cloud.iam import AGENT, NUMBER, Iam, policy_routes
from tests.support.google_cloud.operations import Operations
from tests.support.google_cloud.timeline import Timeline

# Of those that https://cloud.google.com/service-usage/docs/enabled-service names.
ENABLED_AT_FIRST = {f"{name}.googleapis.com" for name in ("logging", "monitoring", "serviceusage", "storage")}
# These answer before a project has enabled them, as long as it isn't the project that pays.
OPEN = {f"{name}.googleapis.com" for name in ("cloudresourcemanager", "cloudbilling", "serviceusage")}
USAGE, MANAGER = "serviceusage.googleapis.com", "cloudresourcemanager.googleapis.com"


class Project:
    """One project, named by its id or its number."""

    def __init__(self, iam: Iam, time: Timeline, faults: Faults) -> None:
        self.id = iam.project
        self.billing = True
        self.enabled_from: dict[str, float] = dict.fromkeys(ENABLED_AT_FIRST, 0.0)
        self._iam = iam
        self._time = time
        self._faults = faults
        self._operations = Operations(
            time, USAGE, "v1", "google.api.serviceusage.v1.BatchEnableServicesResponse"
        )
        self._identities = Operations(
            time, USAGE, "v1beta1", "google.api.serviceusage.v1beta1.ServiceIdentity"
        )

    @property
    def enabled(self) -> set[str]:
        return set(self.enabled_from)

    def routes(self, routes: Routes) -> None:
        for version, describe in (("v1", self._describe_v1), ("v3", self._describe)):
            base = f"{MANAGER}/{version}/projects"
            routes.add("GET", f"{base}/*", describe)
            policy_routes(routes, self._iam, base, "projects", self._policy_of, read="POST")
        billing = "cloudbilling.googleapis.com/v1/projects/*/billingInfo"
        routes.add("GET", billing, self._billing)
        usage = f"{USAGE}/v1/projects/*/services"
        routes.add("GET", usage, self._services)
        routes.add("GET", f"{usage}/*", lambda request, project, name: self._service(name))
        routes.add("POST", f"{usage}:batchEnable", self._enable)
        routes.add("POST", f"{usage.replace('v1', 'v1beta1')}/*:generateServiceIdentity", self._identify)
        self._operations.routes(routes, "")
        self._identities.routes(routes, "")
        routes.add(
            "GET", "orgpolicy.googleapis.com/v2/projects/*/policies/*:getEffectivePolicy", self._policy
        )

    def guard(self, request: Request) -> None:
        """Raises Refusal where the API is not enabled: in this project, or in the one that pays."""
        payer = request.headers.get("x-goog-user-project", "")
        if payer and payer not in (self.id, NUMBER):
            raise Refusal(403, f"Caller does not have required permission to use project {payer}.")
        host = "run.googleapis.com" if request.host.endswith("-run.googleapis.com") else request.host
        if host in OPEN and not payer:
            return
        since = self.enabled_from.get(host)
        if since is None or self._time.now < since + self._faults.apis_late:
            raise refusal_for("api-disabled", service=host, number=NUMBER)

    def known(self, project: str) -> None:
        """Raises Refusal for the project of somebody else."""
        if project not in (self.id, NUMBER):
            raise Refusal(403, f"The caller does not have permission on {project}, or it does not exist")

    def _policy_of(self, project: str) -> None:
        if project != self.id:
            self.known(project)
            raise Refusal(400, "The fake has the project's policy under its id.")

    def _describe(self, request: Request, project: str) -> Document:
        self.known(project)
        return {"name": f"projects/{NUMBER}", "projectId": self.id, "state": "ACTIVE"}

    def _describe_v1(self, request: Request, project: str) -> Document:
        self.known(project)
        return {"projectId": self.id, "projectNumber": NUMBER, "lifecycleState": "ACTIVE"}

    def _billing(self, request: Request, project: str) -> Document:
        self.known(project)
        return {
            "name": f"projects/{self.id}/billingInfo",
            "projectId": self.id,
            "billingEnabled": self.billing,
        }

    def _service(self, name: str) -> Document:
        state = "ENABLED" if name in self.enabled_from else "DISABLED"
        return {"name": f"projects/{NUMBER}/services/{name}", "config": {"name": name}, "state": state}

    def _services(self, request: Request, project: str) -> Document:
        self.known(project)
        return {"services": [self._service(name) for name in sorted(self.enabled_from)]}

    def _enable(self, request: Request, project: str) -> Document:
        if not self.billing:
            raise Refusal(400, "Billing must be enabled for activation of services.", "FAILED_PRECONDITION")
        names = request.document["serviceIds"]
        if not 0 < len(names) <= 20:
            raise Refusal(400, "Between 1 and 20 services can be enabled at once.")

        def finish() -> Document:
            fresh = {name: self._time.now for name in names if name not in self.enabled_from}
            self.enabled_from.update(fresh)
            return {"services": [self._service(name) for name in names]}

        return self._operations.start("", 8, finish)

    def _identify(self, request: Request, project: str, service: str) -> Document:
        if service != "pubsub.googleapis.com" or service not in self.enabled_from:
            raise Refusal(400, f"{service} is not enabled.", "FAILED_PRECONDITION")

        def finish() -> Document:
            self._iam.agents.add(AGENT)
            return {"email": AGENT, "uniqueId": "1"}

        return self._identities.start("", 2, finish)

    def _policy(self, request: Request, project: str, constraint: str) -> Document:
        allowed = {"gcp.resourceLocations": self._faults.locations}.get(constraint, set())
        rule = {"values": {"allowedValues": sorted(allowed)}} if allowed else {"allowAll": True}
        name = f"projects/{NUMBER}/policies/{constraint}"
        return {"name": name, "spec": {"rules": [rule]}}
