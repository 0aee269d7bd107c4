"""Secret Manager."""

import base64
from pathlib import Path

from tests.gcloud.exchange import Document, Refusal, Request, Routes
from tests.gcloud.iam import NUMBER, Iam, policy_routes


class Secrets:
    """Secrets of one project; `versions` holds of each the states and payloads, the first version first."""

    def __init__(self, iam: Iam) -> None:
        self.versions: dict[str, list[tuple[str, bytes]]] = {}
        self._iam = iam
        self._mounts: dict[str, Path] = {}

    def routes(self, routes: Routes) -> None:
        base = "secretmanager.googleapis.com/v1/projects/*/secrets"
        routes.add("GET", base, self._list)
        routes.add("POST", base, self._create)
        routes.add("DELETE", f"{base}/*", self._delete)
        routes.add("POST", f"{base}/*:addVersion", self._add)
        routes.add("GET", f"{base}/*/versions", self._list_versions)
        routes.add("GET", f"{base}/*/versions/*:access", self._access)
        routes.add("POST", f"{base}/*/versions/*:disable", self._disable)
        policy_routes(routes, self._iam, base, "secrets", self._find)

    def mount(self, name: str, folder: Path) -> Path:
        """A file that holds the newest version, now and later."""
        path = folder / f"{name}.mounted"
        self._mounts[name] = path
        self._write(name)
        return path

    def _write(self, name: str) -> None:
        if name in self._mounts:
            fresh = self._mounts[name].with_suffix(".new")
            fresh.write_bytes(self._latest(name))
            fresh.replace(self._mounts[name])

    def _latest(self, name: str) -> bytes:
        self._find(name)
        if not self.versions[name]:
            raise Refusal(404, f"Secret [{name}] not found or has no versions.")
        state, payload = self.versions[name][-1]
        if state != "ENABLED":
            raise Refusal(400, "The secret version is disabled.", "FAILED_PRECONDITION")
        return payload

    def _find(self, name: str) -> None:
        if name not in self.versions:
            raise Refusal(404, f"Secret [projects/{NUMBER}/secrets/{name}] not found.")

    def _list(self, request: Request, project: str) -> Document:
        return {"secrets": [{"name": f"projects/{NUMBER}/secrets/{name}"} for name in self.versions]}

    def _create(self, request: Request, project: str) -> Document:
        name = request.query["secretId"]
        if name in self.versions:
            raise Refusal(409, f"Secret [{name}] already exists.")
        self.versions[name] = []
        return {"name": f"projects/{NUMBER}/secrets/{name}"}

    def _delete(self, request: Request, project: str, name: str) -> Document:
        self._find(name)
        del self.versions[name]
        self._iam.forget(f"secrets/{name}")
        return {}

    def _add(self, request: Request, project: str, name: str) -> Document:
        self._find(name)
        payload = base64.b64decode(request.document["payload"]["data"])
        self.versions[name].append(("ENABLED", payload))
        self._write(name)
        # The client sends a checksum, and wants to hear that it was looked at.
        return {**self._version(name, len(self.versions[name])), "clientSpecifiedPayloadChecksum": True}

    def _version(self, name: str, number: int) -> Document:
        state, _ = self.versions[name][number - 1]
        return {"name": f"projects/{NUMBER}/secrets/{name}/versions/{number}", "state": state}

    def _list_versions(self, request: Request, project: str, name: str) -> Document:
        self._find(name)
        newest_first = range(len(self.versions[name]), 0, -1)
        wanted = request.query.get("filter", "")
        found = [self._version(name, number) for number in newest_first]
        return {"versions": [v for v in found if "ENABLED" not in wanted.upper() or v["state"] == "ENABLED"]}

    def _access(self, request: Request, project: str, name: str, version: str) -> Document:
        self._find(name)
        payload = self._latest(name) if version == "latest" else self.versions[name][int(version) - 1][1]
        return {"name": f"{name}/versions/{version}", "payload": {"data": base64.b64encode(payload).decode()}}

    def _disable(self, request: Request, project: str, name: str, version: str) -> Document:
        self._find(name)
        index = int(version) - 1
        self.versions[name][index] = ("DISABLED", self.versions[name][index][1])
        return self._version(name, int(version))
