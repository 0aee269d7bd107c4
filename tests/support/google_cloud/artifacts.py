"""Artifact Registry and Firestore's databases, as far as a deployment asks them."""

import re

from tests.support.google_cloud.exchange import Document, Refusal, Request, Routes, patched
from tests.support.google_cloud.faults import Faults
from tests.support.google_cloud.functions import Functions
from tests.support.google_cloud.iam import Iam, policy_routes
from tests.support.google_cloud.operations import Operations
from tests.support.google_cloud.timeline import Timeline

HOST = "artifactregistry.googleapis.com"
FIRESTORE = "firestore.googleapis.com"


class Repositories:
    """For images, of one project."""

    def __init__(self, iam: Iam, functions: Functions, time: Timeline, faults: Faults) -> None:
        self.found: dict[str, Document] = {}
        self._iam = iam
        self._functions = functions
        self._faults = faults
        self._operations = Operations(time, HOST, "v1", "google.devtools.artifactregistry.v1.Repository")

    def routes(self, routes: Routes) -> None:
        base = f"{HOST}/v1/projects/*/locations/*/repositories"
        routes.add("GET", base, self._list)
        routes.add("POST", base, self._create)
        routes.add("GET", f"{base}/*", lambda r, p, region, name: self._find(f"{region}/{name}"))
        routes.add("PATCH", f"{base}/*", self._change)
        routes.add("DELETE", f"{base}/*", self._delete)
        policy_routes(routes, self._iam, base, "repositories", self._find)
        self._operations.routes(routes)

    def _find(self, name: str) -> Document:
        if name not in self.found:
            raise Refusal(404, f"Requested entity was not found: {name}.")
        return self.found[name]

    def _list(self, request: Request, project: str, region: str) -> Document:
        return {"repositories": [r for name, r in self.found.items() if name.startswith(f"{region}/")]}

    def _create(self, request: Request, project: str, region: str) -> Document:
        name, given = request.query["repositoryId"], request.document
        if f"{region}/{name}" in self.found:
            raise Refusal(409, "the repository already exists")
        if not re.fullmatch(r"[a-z]([a-z0-9-]{0,61}[a-z0-9])?", name) or given.get("format") != "DOCKER":
            raise Refusal(400, "The repository's name or format is not valid.")
        if self._faults.locations and region not in self._faults.locations:
            raise Refusal(
                400, "Constraint constraints/gcp.resourceLocations violated.", "FAILED_PRECONDITION"
            )
        parent = f"projects/{project}/locations/{region}/"

        def finish() -> Document:
            made = self.found[f"{region}/{name}"] = {**given, "name": f"{parent}repositories/{name}"}
            self._functions.repositories.add(made["name"])
            return made

        return self._operations.start(parent, 3, finish)

    def _change(self, request: Request, project: str, region: str, name: str) -> Document:
        present = self._find(f"{region}/{name}")
        changed = patched(present, request.document, request.query["updateMask"])
        self.found[f"{region}/{name}"] = changed
        return changed

    def _delete(self, request: Request, project: str, region: str, name: str) -> Document:
        full = self._find(f"{region}/{name}")["name"]

        def finish() -> Document:
            self.found.pop(f"{region}/{name}", None)
            self._functions.repositories.discard(full)
            self._iam.forget(f"repositories/{region}/{name}")
            return {}

        return self._operations.start(f"projects/{project}/locations/{region}/", 3, finish)


class Databases:
    """Firestore's, with the fields that expire."""

    def __init__(self, time: Timeline) -> None:
        self.found: dict[str, Document] = {}
        self.fields: dict[str, Document] = {}
        self._operations = Operations(time, FIRESTORE, "v1", "google.firestore.admin.v1.Database")

    def routes(self, routes: Routes) -> None:
        base = f"{FIRESTORE}/v1/projects/*/databases"
        routes.add("GET", base, lambda *_: {"databases": list(self.found.values())})
        routes.add("POST", base, self._create)
        routes.add("GET", f"{base}/*", lambda request, project, name: self._find(name))
        routes.add("DELETE", f"{base}/*", self._delete)
        routes.add("GET", f"{base}/*/collectionGroups/*/fields/*", self._field)
        routes.add("PATCH", f"{base}/*/collectionGroups/*/fields/*", self._set_field)
        self._operations.routes(routes, "projects/*/databases/*/")

    def _find(self, name: str) -> Document:
        if name not in self.found:
            raise Refusal(404, f"Database {name} does not exist.")
        return self.found[name]

    def _create(self, request: Request, project: str) -> Document:
        name = request.query["databaseId"]
        if name in self.found:
            raise Refusal(409, f"Database {name} already exists.")
        if not re.fullmatch(r"[a-z][a-z0-9-]{2,61}[a-z0-9]|\(default\)", name):
            raise Refusal(400, "The database's id is not valid.")
        full = f"projects/{project}/databases/{name}"

        def finish() -> Document:
            self.found[name] = {**request.document, "name": full}
            return self.found[name]

        return self._operations.start(f"{full}/", 5, finish)

    def _delete(self, request: Request, project: str, name: str) -> Document:
        full = self._find(name)["name"]

        def finish() -> Document:
            self.found.pop(name, None)
            return {}

        return self._operations.start(f"{full}/", 5, finish)

    def _field(self, request: Request, *_: str) -> Document:
        name = request.path.removeprefix("/v1/")
        return self.fields.get(name, {"name": name})

    def _set_field(self, request: Request, project: str, database: str, group: str, name: str) -> Document:
        full = request.path.removeprefix("/v1/")
        self._find(database)

        def finish() -> Document:
            present = self.fields.get(full, {"name": full})
            changed = patched(present, request.document, request.query["updateMask"])
            # Asking for it makes the state; nobody writes one.
            self.fields[full] = (
                {**changed, "ttlConfig": {"state": "ACTIVE"}} if "ttlConfig" in changed else changed
            )
            return self.fields[full]

        return self._operations.start(f"projects/{project}/databases/{database}/", 5, finish)
