"""Secret Manager: a numbered version is what it is, `latest` is what it was a while ago."""

import base64
import itertools
import re
from dataclasses import dataclass, field

from tests.support.google_cloud.exchange import Document, Refusal, Request, Routes, patched
from tests.support.google_cloud.faults import Faults
from tests.support.google_cloud.iam import NUMBER, Iam, policy_routes
from tests.support.google_cloud.timeline import Timeline, stamp

HOST = "secretmanager.googleapis.com"


@dataclass
class Version:
    payload: bytes
    added: float
    state: str = "ENABLED"


@dataclass
class Secret:
    document: Document
    versions: list[Version] = field(default_factory=list)


class Secrets:
    """Secrets of one project."""

    def __init__(self, iam: Iam, time: Timeline, faults: Faults) -> None:
        self.found: dict[str, Secret] = {}
        self._iam = iam
        self._time = time
        self._faults = faults
        self._etags = itertools.count(1)

    def routes(self, routes: Routes) -> None:
        base = f"{HOST}/v1/projects/*/secrets"
        routes.add("GET", base, self._list)
        routes.add("POST", base, self._create)
        routes.add("GET", f"{base}/*", lambda request, project, name: self._find(name).document)
        routes.add("PATCH", f"{base}/*", self._patch)
        routes.add("DELETE", f"{base}/*", self._delete)
        routes.add("POST", f"{base}/*:addVersion", self._add)
        routes.add("GET", f"{base}/*/versions", self._list_versions)
        routes.add(
            "GET", f"{base}/*/versions/*", lambda r, p, name, v: self._described(name, self._number(name, v))
        )
        routes.add("GET", f"{base}/*/versions/*:access", self._access)
        for verb, state in (("disable", "DISABLED"), ("enable", "ENABLED"), ("destroy", "DESTROYED")):
            routes.add("POST", f"{base}/*/versions/*:{verb}", self._to(state))
        policy_routes(routes, self._iam, base, "secrets", self._find)

    def payload(self, name: str, version: str, reader: str) -> bytes:
        """What a revision reads as an account. Raises Refusal where it can't."""
        self._find(name)
        if not self._iam.permits(f"secrets/{name}", "roles/secretmanager.secretAccessor", reader):
            raise Refusal(403, f"{reader} may not read {name}")
        return self._readable(name, self._number(name, version)).payload

    def put(self, name: str, payload: bytes, **document: object) -> None:
        """Have a version be there."""
        full = f"projects/{NUMBER}/secrets/{name}"
        made = {"name": full, "replication": {"automatic": {}}, "etag": self._etag(), **document}
        secret = self.found.setdefault(name, Secret(made))
        secret.versions.append(Version(payload, self._time.now))

    def _etag(self) -> str:
        return f'"{next(self._etags):x}"'

    def _find(self, name: str) -> Secret:
        if name not in self.found:
            raise Refusal(404, f"Secret [projects/{NUMBER}/secrets/{name}] not found.")
        return self.found[name]

    def _number(self, name: str, version: str) -> int:
        """The index of a version. `latest` is the newest of a while ago."""
        versions = self._find(name).versions
        if version == "latest":
            old = [i for i, v in enumerate(versions) if v.added + self._faults.latest_stale <= self._time.now]
            if not old:
                raise Refusal(404, f"Secret Version [{name}/versions/latest] not found.")
            return old[-1]
        if not version.isdigit() or not 0 < int(version) <= len(versions):
            raise Refusal(404, f"Secret Version [{name}/versions/{version}] not found.")
        return int(version) - 1

    def _readable(self, name: str, index: int) -> Version:
        version = self._find(name).versions[index]
        if version.state != "ENABLED":
            told = f"Secret Version [{name}/versions/{index + 1}] is in {version.state} state."
            raise Refusal(400, told, "FAILED_PRECONDITION")
        return version

    def _list(self, request: Request, project: str) -> Document:
        return {"secrets": [self.found[name].document for name in sorted(self.found)]}

    def _create(self, request: Request, project: str) -> Document:
        name, given = request.query["secretId"], request.document
        if name in self.found:
            raise Refusal(409, f"Secret [projects/{NUMBER}/secrets/{name}] already exists.")
        if not re.fullmatch(r"[A-Za-z0-9_-]{1,255}", name):
            raise Refusal(400, "The provided Secret ID is not valid.")
        self._check_replication(given.get("replication"))
        full = f"projects/{NUMBER}/secrets/{name}"
        made = {"createTime": stamp(self._time.now), **given, "name": full, "etag": self._etag()}
        self.found[name] = Secret(made)
        return made

    def _check_replication(self, replication: Document | None) -> None:
        if not replication:
            raise Refusal(400, "A replication policy must be given.")
        managed = replication.get("userManaged", {}).get("replicas", [])
        places = {replica["location"] for replica in managed} or {"global"}
        allowed = self._faults.locations
        if allowed and not places <= allowed:
            told = f"Constraint constraints/gcp.resourceLocations violated for [orgpolicy:projects/{NUMBER}] "
            where = ", ".join(sorted(places))
            raise Refusal(400, f"{told}attempting to create a secret in [{where}].", "FAILED_PRECONDITION")

    def _patch(self, request: Request, project: str, name: str) -> Document:
        secret, given = self._find(name), request.document
        if given.get("etag", secret.document["etag"]) != secret.document["etag"]:
            raise Refusal(409, "The etag is stale.", "ABORTED")
        if "replication" in request.query["updateMask"]:
            raise Refusal(400, "The replication can't be changed.")
        changed = patched(secret.document, given, request.query["updateMask"])
        secret.document = {**changed, "etag": self._etag()}
        return secret.document

    def _delete(self, request: Request, project: str, name: str) -> Document:
        self._find(name)
        del self.found[name]
        self._iam.forget(f"secrets/{name}")
        return {}

    def _add(self, request: Request, project: str, name: str) -> Document:
        secret = self._find(name)
        payload = base64.b64decode(request.document["payload"]["data"])
        secret.versions.append(Version(payload, self._time.now))
        return self._described(name, len(secret.versions) - 1)

    def _described(self, name: str, index: int) -> Document:
        version = self._find(name).versions[index]
        full = f"projects/{NUMBER}/secrets/{name}/versions/{index + 1}"
        # A client that sends a checksum wants to hear that it was looked at.
        return {"name": full, "state": version.state, "clientSpecifiedPayloadChecksum": True}

    def _list_versions(self, request: Request, project: str, name: str) -> Document:
        newest_first = range(len(self._find(name).versions) - 1, -1, -1)
        found = [self._described(name, index) for index in newest_first]
        wanted = request.query.get("filter", "").partition(":")[2] or request.query.get("filter", "")[6:]
        return {"versions": [v for v in found if not wanted or v["state"] == wanted.strip("= ").upper()]}

    def _access(self, request: Request, project: str, name: str, version: str) -> Document:
        index = self._number(name, version)
        payload = base64.b64encode(self._readable(name, index).payload).decode()
        return {
            "name": f"projects/{NUMBER}/secrets/{name}/versions/{index + 1}",
            "payload": {"data": payload},
        }

    def _to(self, state: str):  # type: ignore[no-untyped-def]
        def change(request: Request, project: str, name: str, version: str) -> Document:
            index = self._number(name, version)
            found = self._find(name).versions[index]
            if found.state == "DESTROYED":
                raise Refusal(400, "The version is destroyed.", "FAILED_PRECONDITION")
            found.state = state
            return self._described(name, index)

        return change
