"""Cloud Run: services, their revisions, which of them serves, and who is let in."""

import itertools
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol
from urllib.parse import urlsplit

from tests.support.google_cloud.exchange import (
    Document,
    Refusal,
    Reply,
    Request,
    Routes,
    last,
    patched,
    refusal_for,
)
from tests.support.google_cloud.faults import Faults
from tests.support.google_cloud.iam import Iam, policy_routes
from tests.support.google_cloud.operations import Operations
from tests.support.google_cloud.secrets import Secrets
from tests.support.google_cloud.timeline import Timeline, stamp

HOST = "run.googleapis.com"
INVOKER = "roles/run.invoker"
LATEST, PINNED = "TRAFFIC_TARGET_ALLOCATION_TYPE_LATEST", "TRAFFIC_TARGET_ALLOCATION_TYPE_REVISION"
REGIONS = ("europe-west1", "us-central1")
# Seconds until a revision that is only configured anew is ready.
REVISION_TAKES = 20.0
INTERNAL = "INGRESS_TRAFFIC_INTERNAL_ONLY"


@dataclass(frozen=True)
class Call:
    """A request to an instance."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes


class Instance(Protocol):
    """Something that serves."""

    def call(self, call: Call) -> Reply:
        """Answer."""

    def stop(self) -> None:
        """End it."""


class Runtime(Protocol):
    """What runs a container."""

    def start(
        self, image: Any, account: str, environment: Mapping[str, str], files: Mapping[str, bytes]
    ) -> Instance:
        """Start an instance that acts as an account. Raises Refusal where it does not come up."""


@dataclass(frozen=True)
class Wanted:
    """What a deployment asks for; with `all_traffic` a pinned split ends."""

    template: Document
    image: Any
    ingress: str
    all_traffic: bool


@dataclass
class Revision:
    document: Document
    image: Any
    instance: Instance


@dataclass
class Service:
    document: Document
    image: Any
    revisions: dict[str, Revision] = field(default_factory=dict)
    # The revisions that requests go to at this moment: while traffic moves, the old ones too.
    serving: tuple[str, ...] = ()


class Run:
    """The services of one project."""

    def __init__(self, iam: Iam, secrets: Secrets, time: Timeline, faults: Faults, runtime: Runtime) -> None:
        self.found: dict[str, Service] = {}
        self.unready = 0
        self.revision_takes = REVISION_TAKES
        self._iam = iam
        self._secrets = secrets
        self._time = time
        self._faults = faults
        self._runtime = runtime
        self._operations = Operations(time, HOST, "v2", "google.cloud.run.v2.Service")
        self._generations = itertools.count(1)
        self._turn = itertools.count()

    def routes(self, routes: Routes) -> None:
        base = f"{HOST}/v2/projects/*/locations/*/services"
        routes.add("GET", base, self._list)
        routes.add("GET", f"{base}/*", lambda r, p, region, name: self.find(f"{region}/{name}").document)
        routes.add("PATCH", f"{base}/*", self._patch)
        routes.add("GET", f"{base}/*/revisions", self._revisions)
        routes.add("GET", f"{base}/*/revisions/*", self._revision)
        policy_routes(routes, self._iam, base, "services", self.find)
        for host in (HOST, *(f"{region}-{HOST}" for region in REGIONS)):
            old = f"{host}/v1/projects/*/locations/*/services"
            policy_routes(routes, self._iam, old, "services", self.find)
        self._operations.routes(routes)

    # --- what others ask ---

    def find(self, name: str) -> Service:
        """By REGION/NAME."""
        found = self.found.get(name)
        if found is None:
            raise Refusal(404, f"Resource '{name}' of kind 'SERVICE' does not exist.")
        return found

    def deploy(self, name: str, region: str, wanted: Wanted) -> None:
        """Have a service serve a new revision; a pinned split of traffic stays unless it is reset."""
        template, image = wanted.template, wanted.image
        full = f"projects/{self._iam.project}/locations/{region}/services/{name}"
        uri = f"https://{name}-hash-{'ew' if region.startswith('europe') else 'uc'}.a.run.app"
        revision = self._start(full, template, image)
        service = self.found.get(f"{region}/{name}")
        if service is None:
            document = {
                "name": full,
                "uri": uri,
                "urls": [uri],
                "traffic": [{"type": LATEST, "percent": 100}],
            }
            service = self.found[f"{region}/{name}"] = Service(document, image)
        if wanted.all_traffic:
            service.document["traffic"] = [{"type": LATEST, "percent": 100}]
        if self._faults.redeployment_checks_invokers:
            service.document.pop("invokerIamDisabled", None)
        service.document |= {"ingress": wanted.ingress, "template": template}
        self._add(service, revision, image)

    def remove(self, name: str) -> None:
        service = self.found.pop(name, None)
        self._iam.forget(f"services/{name}")
        for revision in service.revisions.values() if service else ():
            revision.instance.stop()

    def stop(self) -> None:
        for name in list(self.found):
            self.remove(name)

    # --- requests to a service's own address ---

    def call(self, request: Request) -> Reply:
        """A request from somewhere in the internet, by somebody without an identity."""
        service = self._at(request.host)
        if service is None:
            return Reply(404, b"Page not found", {})
        if service.document.get("ingress") == INTERNAL:
            return Reply(404, b"Access is forbidden.", {})
        if not self._lets_in(service, "", ""):
            return Reply(403, b"Your client does not have permission to get this URL.", {})
        if self._faults.answers_fail:
            return Reply(503, b"Service Unavailable", {})
        return self._serve(service, Call(request.method, request.path, request.headers, request.body))

    def push(self, endpoint: str, email: str, audience: str, body: bytes) -> int:
        """What Pub/Sub pushes: its status."""
        url = urlsplit(endpoint)
        service = self._at(url.hostname or "")
        if service is None:
            return 404
        if not self._lets_in(service, email, audience):
            return 403
        call = Call("POST", url.path or "/", {"content-type": "application/json"}, body)
        return self._serve(service, call).status

    def _at(self, host: str) -> Service | None:
        return next((s for s in self.found.values() if s.document["uri"] == f"https://{host}"), None)

    def _lets_in(self, service: Service, email: str, audience: str) -> bool:
        if service.document.get("invokerIamDisabled"):
            return True
        name = _key(service)
        token = email if audience == service.document["uri"] else ""
        return self._iam.permits(f"services/{name}", INVOKER, token)

    def _serve(self, service: Service, call: Call) -> Reply:
        """By each serving revision in its turn."""
        if not service.serving:
            return Reply(503, b"no revision is ready", {})
        chosen = service.serving[next(self._turn) % len(service.serving)]
        return service.revisions[chosen].instance.call(call)

    # --- revisions ---

    def _start(self, service: str, template: Document, image: Any) -> Revision:
        """Start a revision. Raises Refusal where it doesn't become ready."""
        number = next(self._generations)
        name = f"{last(service)}-{number:05d}-abc"
        if self.unready:
            self.unready -= 1
            raise Refusal(
                400, f"Revision '{name}' is not ready and cannot serve traffic.", "FAILED_PRECONDITION"
            )
        environment, files = self._mounted(template)
        environment |= {"K_SERVICE": last(service), "K_REVISION": name}
        instance = self._runtime.start(image, template["serviceAccount"], environment, files)
        ready = {"type": "Ready", "state": "CONDITION_SUCCEEDED"}
        document = {
            **{
                key: value
                for key, value in template.items()
                if key in ("containers", "volumes", "serviceAccount")
            },
            "name": f"{service}/revisions/{name}",
            "service": service,
            "generation": str(number),
            "createTime": stamp(self._time.now + number / 1000),
            "conditions": [ready],
        }
        return Revision(json.loads(json.dumps(document)), image, instance)

    def _mounted(self, template: Document) -> tuple[dict[str, str], dict[str, bytes]]:
        """The environment and the files of a revision, with the secrets that it may read."""
        environment: dict[str, str] = {}
        files: dict[str, bytes] = {}
        (container,) = template["containers"]
        volumes = {volume["name"]: volume["secret"] for volume in template.get("volumes", [])}
        for entry in container.get("env", []):
            source = entry.get("valueSource", {}).get("secretKeyRef")
            value = self._secret(template, source["secret"], source["version"]).decode() if source else None
            environment[entry["name"]] = entry.get("value", "") if value is None else value
        for mount in container.get("volumeMounts", []):
            volume = volumes[mount["name"]]
            for item in volume["items"]:
                path = f"{mount['mountPath']}/{item['path']}"
                files[path] = self._secret(template, volume["secret"], item["version"])
        return environment, files

    def _secret(self, template: Document, secret: str, version: str) -> bytes:
        account = template["serviceAccount"]
        try:
            return self._secrets.payload(last(secret), version, account)
        except Refusal as refusal:
            if refusal.status != 403:
                raise
            full = f"projects/{self._iam.project}/secrets/{last(secret)}/versions/{version}"
            raise refusal_for("secret-denied", version=full, email=account) from None

    def _add(self, service: Service, revision: Revision, image: Any) -> None:
        name = last(revision.document["name"])
        service.revisions[name], service.image = revision, image
        service.document |= {
            "latestCreatedRevision": revision.document["name"],
            "latestReadyRevision": revision.document["name"],
            "generation": str(next(self._generations)),
            "etag": self._etag(),
        }
        self._move_traffic(service)

    def _etag(self) -> str:
        return f'"{next(self._generations)}"'

    def _move_traffic(self, service: Service) -> None:
        """Old and new serve side by side for a while, and the service says so afterwards."""
        latest = last(service.document["latestReadyRevision"])
        traffic = service.document["traffic"]
        new = tuple(t["revision"] if t["type"] == PINNED else latest for t in traffic if t.get("percent"))
        service.serving = tuple(dict.fromkeys((*service.serving, *new)))
        service.document["reconciling"] = True

        def settle() -> None:
            if (
                service.document["traffic"] == traffic
                and last(service.document["latestReadyRevision"]) == latest
            ):
                service.serving = new
                service.document["trafficStatuses"] = [
                    {**t, "revision": t.get("revision", latest)} for t in traffic
                ]
                service.document["reconciling"] = False

        self._time.after(self._faults.traffic_late, settle)

    # --- routes ---

    def _list(self, request: Request, project: str, region: str) -> Document:
        names = [name for name in sorted(self.found) if name.startswith(f"{region}/")]
        return {"services": [self.found[name].document for name in names]}

    def _patch(self, request: Request, project: str, region: str, name: str) -> Document:
        service, given = self.find(f"{region}/{name}"), request.document
        if given.get("etag") != service.document["etag"]:
            raise Refusal(409, "The etag is stale.", "ABORTED")
        mask = request.query.get("updateMask", "")
        if not mask:
            raise Refusal(400, "The fake wants a mask, for without one everything else is removed.")
        before, changed = service.document, patched(service.document, given, mask)
        self._check_traffic(service, changed)
        # What is wanted changes at once, what is so later.
        service.document = {**changed, "etag": self._etag(), "reconciling": True}

        def finish() -> Document:
            if changed["template"] != before["template"]:
                fresh = self._start(service.document["name"], changed["template"], service.image)
                self._add(service, fresh, service.image)
            else:
                self._move_traffic(service)
            return service.document

        return self._operations.start(f"projects/{project}/locations/{region}/", self.revision_takes, finish)

    @staticmethod
    def _check_traffic(service: Service, changed: Document) -> None:
        traffic = changed["traffic"]
        if sum(target.get("percent", 0) for target in traffic) != 100:
            raise Refusal(400, "The percentages of traffic must add up to 100.")
        for target in traffic:
            if target["type"] == PINNED and target.get("revision") not in service.revisions:
                raise Refusal(400, f"Revision {target.get('revision')} does not exist.")

    def _revisions(self, request: Request, project: str, region: str, name: str) -> Document:
        found = list(self.find(f"{region}/{name}").revisions.values())
        return {"revisions": [revision.document for revision in reversed(found)]}

    def _revision(self, request: Request, project: str, region: str, name: str, revision: str) -> Document:
        found = self.find(f"{region}/{name}").revisions.get(revision)
        if found is None:
            raise Refusal(404, f"Resource '{revision}' of kind 'REVISION' does not exist.")
        return found.document


def _key(service: Service) -> str:
    """REGION/NAME, as resources with policies are called."""
    parts = service.document["name"].split("/")
    return f"{parts[3]}/{parts[5]}"
