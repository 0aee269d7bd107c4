"""Who may do what: service accounts, and a policy for each resource, known everywhere a while later."""

import base64
import itertools
import json
import zlib
from collections.abc import Callable
from typing import Any

from tests.support.google_cloud.exchange import Document, Refusal, Request, Routes, refusal_for
from tests.support.google_cloud.faults import Faults
from tests.support.google_cloud.timeline import Timeline

NUMBER = "123456789012"
AGENT = f"service-{NUMBER}@gcp-sa-pubsub.iam.gserviceaccount.com"
# Somebody who works in the same project.
STRANGER = "group:others@example.com"
# What may be granted on which kind of resource.
ROLES = {
    "topics": {"publisher", "subscriber", "editor", "viewer", "admin"},
    "subscriptions": {"subscriber", "viewer", "admin"},
    "secrets": {"secretAccessor", "viewer", "admin"},
    "services": {"invoker", "admin", "viewer"},
    "repositories": {"writer", "reader", "admin"},
    "accounts": {"serviceAccountTokenCreator", "serviceAccountUser", "workloadIdentityUser"},
    "projects": {"logWriter", "writer", "objectViewer", "editor", "builder", "viewer", "user"},
}
# What somebody who works in the same project writes meanwhile; elsewhere it is who is audited.
AUDITED = [{"service": "allServices", "auditLogConfigs": [{"logType": "DATA_READ"}]}]
STRANGERS_ROLES = {
    "topics": "roles/pubsub.viewer",
    "subscriptions": "roles/pubsub.viewer",
    "repositories": "roles/artifactregistry.reader",
    "accounts": "roles/iam.serviceAccountUser",
    "projects": "roles/viewer",
}
Grant = tuple[str, str]


class Iam:
    """Accounts and policies of one project. A resource is `KIND/NAME`."""

    def __init__(self, project: str, time: Timeline, faults: Faults) -> None:
        self.project = project
        self.accounts: dict[str, str] = {}
        self.agents: set[str] = set()
        self.policies: dict[str, Document] = {}
        # What somebody else has granted while a policy was being changed: to be there at the end.
        self.foreign: set[str] = set()
        self._time = time
        self._faults = faults
        self._ids = itertools.count(100)
        self._generations = itertools.count(1)
        self._known_from: dict[str, float] = {}
        self._holds_from: dict[tuple[str, Grant], float] = {}

    def routes(self, routes: Routes) -> None:
        base = "iam.googleapis.com/v1/projects/*/serviceAccounts"
        routes.add(
            "GET", base, lambda request, project: {"accounts": list(map(self._account, self.accounts))}
        )
        routes.add("POST", base, self._create)
        routes.add("GET", f"{base}/*", lambda request, project, email: self._account(self._find(email)))
        routes.add("DELETE", f"{base}/*", self._delete)
        policy_routes(routes, self, base, "accounts", self._find, read="POST")

    def grants(self, resource: str) -> set[Grant]:
        """The pairs of role and member that hold without a condition."""
        bindings = self.policies.get(resource, {}).get("bindings", [])
        return {(b["role"], member) for b in bindings if not b.get("condition") for member in b["members"]}

    def permits(self, resource: str, role: str, account: str) -> bool:
        """Whether an account has a role, and everybody has heard of that by now."""
        wanted = {(role, f"serviceAccount:{account}"), (role, "allUsers")} & self.grants(resource)
        return any(self._time.now >= self._holds_from.get((resource, grant), 0.0) for grant in wanted)

    def read(self, resource: str, version: int = 3) -> Document:
        """A policy as the services give it: without conditions for those who know none."""
        present = self.policies.setdefault(resource, {"version": 1, "etag": self._etag()})
        given: Document = json.loads(json.dumps(present))
        if version < 3:
            given["version"] = 1
            given["bindings"] = [_without_condition(b) for b in given.get("bindings", [])]
        if self._faults.concurrent_writer and resource not in self.foreign:
            self.foreign.add(resource)
            self._interfere(resource)
        return {name: value for name, value in given.items() if value != []}

    def write(self, resource: str, policy: Document) -> Document:
        """Replace a policy, as strictly as the services do it."""
        present = self.policies.setdefault(resource, {"version": 1, "etag": self._etag()})
        if policy.get("etag") != present["etag"]:
            raise refusal_for("policy-changed")
        self._check_conditions(policy, present)
        for binding in policy.get("bindings", []):
            self._check_role(binding, resource)
            for member in binding.get("members", []):
                self._check(member, resource)
        version = 3 if any(b.get("condition") for b in policy.get("bindings", [])) else 1
        self._keep(resource, {**policy, "version": version})
        return self.policies[resource]

    def forget(self, resource: str) -> None:
        """What is gone has no policy."""
        self.policies.pop(resource, None)
        self._holds_from = {key: at for key, at in self._holds_from.items() if key[0] != resource}

    def exists(self, email: str) -> bool:
        """Whether a service account is there, and everybody has heard of it."""
        if self._time.now < self._known_from.get(email, 0.0):
            return False
        return email in self.accounts or email in self.agents

    def plant(self, resource: str, role: str, member: str, **more: Any) -> None:
        """Have somebody else grant something."""
        present = self.policies.setdefault(resource, {"version": 1, "etag": self._etag()})
        given = [*present.get("bindings", []), {"role": role, "members": [member], **more}]
        version = 3 if "condition" in more else present["version"]
        self._keep(resource, {**present, "bindings": given, "version": version})

    def _interfere(self, resource: str) -> None:
        role = STRANGERS_ROLES.get(resource.partition("/")[0])
        if role:
            self.plant(resource, role, STRANGER)
        else:
            present = self.policies[resource]
            self._keep(resource, {**present, "auditConfigs": AUDITED})

    def _keep(self, resource: str, policy: Document) -> None:
        before = self.grants(resource)
        self.policies[resource] = {**policy, "etag": self._etag()}
        after = self.grants(resource)
        for grant in after - before:
            self._holds_from[resource, grant] = self._time.now + self._faults.grants_late
        for grant in before - after:
            self._holds_from.pop((resource, grant), None)

    def _etag(self) -> str:
        return base64.b64encode(b"%06d" % next(self._generations)).decode()

    @staticmethod
    def _check_conditions(policy: Document, present: Document) -> None:
        conditional = [b for p in (policy, present) for b in p.get("bindings", []) if b.get("condition")]
        if conditional and policy.get("version") != 3:
            raise Refusal(400, "A policy with conditions needs version 3.")

    @staticmethod
    def _check_role(binding: Document, resource: str) -> None:
        role = binding["role"].rpartition(".")[2].removeprefix("roles/")
        if "_withcond_" in role or role not in ROLES[resource.partition("/")[0]]:
            raise Refusal(400, f"Role {binding['role']} is not supported for this resource.")
        if not binding.get("members"):
            raise Refusal(400, "A binding has no members.")

    def _check(self, member: str, resource: str) -> None:
        kind, _, email = member.partition(":")
        if member == "allUsers":
            self._check_public(resource)
        elif kind == "serviceAccount" and not self.exists(email):
            raise refusal_for("account-unknown", email=email)
        elif kind not in ("serviceAccount", "deleted", "user", "group", "domain", "principalSet"):
            raise Refusal(400, f"Unknown member {member}.")

    def _check_public(self, resource: str) -> None:
        if self._faults.domains_restricted:
            text = "One or more users named in the policy do not belong to a permitted customer, "
            raise Refusal(400, f"{text}perhaps due to an organization policy.", "FAILED_PRECONDITION")
        if not resource.startswith("services/"):
            raise Refusal(400, "allUsers has no place here.")

    def _find(self, email: str) -> str:
        if email not in self.accounts or self._time.now < self._known_from.get(email, 0.0):
            raise Refusal(404, f"Unknown service account {email}.")
        return email

    def _account(self, email: str) -> Document:
        name = f"projects/{self.project}/serviceAccounts/{email}"
        return {"name": name, "email": email, "projectId": self.project, "uniqueId": self.accounts[email]}

    def _create(self, request: Request, project: str) -> Document:
        name = request.document["accountId"]
        email = f"{name}@{self.project}.iam.gserviceaccount.com"
        if email in self.accounts:
            raise Refusal(409, f"Service account {name} already exists within project projects/{project}.")
        if not 6 <= len(name) <= 30:
            raise Refusal(400, "The account ID has an invalid length.")
        self.accounts[email] = str(next(self._ids))
        self._known_from[email] = self._time.now + self._faults.accounts_unknown
        return self._account(email)

    def _delete(self, request: Request, project: str, email: str) -> Document:
        if email not in self.accounts:
            raise Refusal(404, f"Unknown service account {email}.")
        self.delete(email)
        return {}

    def delete(self, email: str) -> None:
        """Delete an account; policies keep a trace of it."""
        uid, gone = self.accounts.pop(email), f"serviceAccount:{email}"
        self.forget(f"accounts/{email}")
        for policy in self.policies.values():
            for binding in policy.get("bindings", []):
                trace = f"deleted:{gone}?uid={uid}"
                binding["members"] = [trace if m == gone else m for m in binding["members"]]


def _without_condition(binding: Document) -> Document:
    if "condition" not in binding:
        return binding
    digest = zlib.crc32(json.dumps(binding["condition"], sort_keys=True).encode())
    return {"role": f"{binding['role']}_withcond_{digest:x}", "members": binding["members"]}


def policy_routes(  # noqa: PLR0913 - one call a kind of resource
    routes: Routes, iam: Iam, prefix: str, kind: str, exists: Callable[[str], object], *, read: str = "GET"
) -> None:
    """Policies of the resources at `prefix`/NAME, which are `kind`/NAME or `kind`/REGION/NAME.

    `exists` raises Refusal for a name that is not there.
    """

    def resource_of(names: tuple[str, ...]) -> str:
        """What is regional has its region in its name, after the project."""
        name = "/".join(names[1:]) if len(names) > 1 else names[0]
        exists(name)
        return f"{kind}/{name}"

    def get(request: Request, *names: str) -> Document:
        resource = resource_of(names)
        asked = request.query.get("options.requestedPolicyVersion") or request.query.get(
            "optionsRequestedPolicyVersion"
        )
        option = request.document.get("options", {}).get("requestedPolicyVersion", 1)
        return iam.read(resource, int(asked or option))

    def put(request: Request, *names: str) -> Document:
        return iam.write(resource_of(names), request.document.get("policy", {}))

    routes.add(read, f"{prefix}/*:getIamPolicy", get)
    routes.add("POST", f"{prefix}/*:setIamPolicy", put)
