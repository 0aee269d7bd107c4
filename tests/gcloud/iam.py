"""Who may do what: service accounts, and a policy for each resource."""

import base64
import itertools
from typing import Any

from tests.gcloud.exchange import Document, Refusal, Request, Routes

NUMBER = "123456789012"
AGENT = f"service-{NUMBER}@gcp-sa-pubsub.iam.gserviceaccount.com"
# What may be granted on which kind of resource.
ROLES = {
    "topics": {
        "roles/pubsub.publisher",
        "roles/pubsub.subscriber",
        "roles/pubsub.editor",
        "roles/pubsub.admin",
    },
    "subscriptions": {"roles/pubsub.subscriber", "roles/pubsub.viewer", "roles/pubsub.admin"},
    "secrets": {"roles/secretmanager.secretAccessor", "roles/secretmanager.admin"},
    "services": {"roles/run.invoker", "roles/run.admin", "roles/run.viewer"},
    "projects": {
        "roles/logging.logWriter",
        "roles/artifactregistry.writer",
        "roles/storage.objectViewer",
        "roles/editor",
        "roles/cloudbuild.builds.builder",
    },
}


class Iam:
    """Accounts and policies of one project. A resource is `KIND/NAME`."""

    def __init__(self, project: str) -> None:
        self.project = project
        self.accounts: dict[str, str] = {}
        self.agents: set[str] = set()
        self.policies: dict[str, Document] = {}
        self.public_is_forbidden = False
        # How often an account that has just been made is still unknown to everybody.
        self.unknown_for = 0
        self._ids = itertools.count(100)
        self._unknown: dict[str, int] = {}

    def routes(self, routes: Routes) -> None:
        base = "iam.googleapis.com/v1/projects/*/serviceAccounts"
        routes.add(
            "GET", base, lambda request, project: {"accounts": [self._account(e) for e in self.accounts]}
        )
        routes.add("POST", base, self._create)
        routes.add("DELETE", f"{base}/*", self._delete)

    def grants(self, resource: str) -> set[tuple[str, str]]:
        """The exact pairs of role and member."""
        bindings = self.policies.get(resource, {}).get("bindings", [])
        return {(b["role"], member) for b in bindings for member in b["members"]}

    def permits(self, resource: str, role: str, account: str) -> bool:
        return bool({(role, f"serviceAccount:{account}"), (role, "allUsers")} & self.grants(resource))

    def read(self, resource: str) -> Document:
        """A policy as the services give it: without bindings where there are none."""
        return self.policies.setdefault(resource, {"version": 1, "etag": _etag(0)})

    def write(self, resource: str, policy: Document) -> Document:
        """Replace a policy, as strictly as the services do it."""
        present = self.read(resource)
        if policy.get("etag") != present["etag"]:
            raise Refusal(409, "There were concurrent policy changes.", "ABORTED")
        for binding in policy.get("bindings", []):
            if binding["role"] not in ROLES[resource.partition("/")[0]]:
                raise Refusal(400, f"Role {binding['role']} is not supported for this resource.")
            if binding.get("condition"):
                raise Refusal(400, "Nothing here has a condition.")
            for member in binding["members"]:
                self._check(member, resource)
        generation = int(base64.b64decode(present["etag"])) + 1
        self.policies[resource] = {**policy, "version": 1, "etag": _etag(generation)}
        return self.policies[resource]

    def forget(self, resource: str) -> None:
        self.policies.pop(resource, None)

    def exists(self, email: str) -> bool:
        """Whether a service account is there, and everybody has heard of it."""
        if self._unknown.get(email, 0) > 0:
            self._unknown[email] -= 1
            return False
        return email in self.accounts or email in self.agents

    def _check(self, member: str, resource: str) -> None:
        kind, _, email = member.partition(":")
        if member == "allUsers":
            if self.public_is_forbidden:
                raise Refusal(
                    412,
                    "One or more users named in the policy do not belong to a permitted customer, "
                    "perhaps due to an organization policy.",
                    "FAILED_PRECONDITION",
                )
            if not resource.startswith("services/"):
                raise Refusal(400, "allUsers has no place here.")
        elif kind == "serviceAccount" and not self.exists(email):
            raise Refusal(400, f"Service account {email} does not exist.")
        elif kind not in ("serviceAccount", "deleted"):
            raise Refusal(400, f"Unknown member {member}.")

    def _account(self, email: str) -> Document:
        return {"name": f"projects/{self.project}/serviceAccounts/{email}", "email": email}

    def _create(self, request: Request, project: str) -> Document:
        name = request.document["accountId"]
        email = f"{name}@{self.project}.iam.gserviceaccount.com"
        if email in self.accounts:
            raise Refusal(409, f"Service account {name} already exists within project.")
        if not 6 <= len(name) <= 30:
            raise Refusal(400, "The account ID has an invalid length.")
        self.accounts[email] = str(next(self._ids))
        self._unknown[email] = self.unknown_for
        return self._account(email)

    def _delete(self, request: Request, project: str, email: str) -> Document:
        if email not in self.accounts:
            raise Refusal(404, f"Unknown service account {email}.")
        uid = self.accounts.pop(email)
        for policy in self.policies.values():
            for binding in policy.get("bindings", []):
                gone = f"serviceAccount:{email}"
                binding["members"] = [
                    f"deleted:{m}?uid={uid}" if m == gone else m for m in binding["members"]
                ]
        return {}


def _etag(generation: int) -> str:
    return base64.b64encode(b"%04d" % generation).decode()


def policy_routes(  # noqa: PLR0913 - one call a kind of resource
    routes: Routes, iam: Iam, prefix: str, kind: str, exists: Any, *, read: str = "GET"
) -> None:
    """Policies of the resources at `prefix`/NAME. `exists` raises Refusal for a name that is not there."""

    def get(request: Request, *names: str) -> Document:
        exists(names[-1])
        return iam.read(f"{kind}/{names[-1]}")

    def put(request: Request, *names: str) -> Document:
        exists(names[-1])
        return iam.write(f"{kind}/{names[-1]}", request.document["policy"])

    routes.add(read, f"{prefix}/*:getIamPolicy", get)
    routes.add("POST", f"{prefix}/*:setIamPolicy", put)
