"""Google's control plane for one project, as far as a deployment sees it."""

import http.server
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import unquote

from flowhook.cli.pubsub_emulator import Emulator
from tests.gcloud.exchange import Document, Refusal, Reply, Request, Routes
from tests.gcloud.functions import Functions, Installed
from tests.gcloud.iam import AGENT, NUMBER, Iam, policy_routes
from tests.gcloud.pubsub import PubSub
from tests.gcloud.secrets import Secrets

# APIs that are on in a new project, and the hosts that answer nothing before theirs is.
ENABLED_AT_FIRST = {"monitoring.googleapis.com", "logging.googleapis.com", "storage.googleapis.com"}
GUARDED = {
    f"{name}.googleapis.com"
    for name in ("iam", "secretmanager", "pubsub", "cloudfunctions", "run", "monitoring", "cloudbuild")
}


class ControlPlane:
    """State, faults to plant, and a log of what was asked."""

    def __init__(self, project: str, emulator: Emulator, folder: Path, installed: Installed) -> None:
        self.project = project
        self.billing = True
        self.enabled = set(ENABLED_AT_FIRST)
        self.alerts: dict[str, Document] = {}
        self.log: list[Request] = []
        # Requests that contain the first are refused with the status, "METHOD host/path": status.
        self.faults: dict[str, int] = {}
        self.iam = Iam(project)
        self.secrets = Secrets(self.iam)
        self.pubsub = PubSub(project, self.iam, emulator)
        self.functions = Functions(self.iam, self.secrets, self.pubsub, folder, installed)
        self._lock = threading.RLock()
        self._routes = Routes()
        self._add_routes()

    @property
    def changes(self) -> list[Request]:
        return [request for request in self.log if request.changes]

    def answer(self, request: Request) -> Reply:
        """What the proxy asks. A call to a function runs without the lock, for it may call back."""
        if request.host.endswith(".a.run.app"):
            return self.functions.call(request)
        self.log.append(request)
        try:
            with self._lock:
                self._guard(request)
                return Reply(200, json.dumps(self._routes.find(request)()).encode())
        except Refusal as refusal:
            return Reply(refusal.status, json.dumps(refusal.document).encode())

    def _guard(self, request: Request) -> None:
        for part, status in self.faults.items():
            if part in str(request):
                raise Refusal(status, "The caller does not have permission")
        if request.host not in GUARDED or request.host in self.enabled:
            return
        reason = {
            "reason": "SERVICE_DISABLED",
            "domain": "googleapis.com",
            "metadata": {"service": request.host},
        }
        details = {"@type": "type.googleapis.com/google.rpc.ErrorInfo", **reason}
        raise Refusal(403, f"{request.host} has not been used in project {NUMBER} before.", "", details)

    def _add_routes(self) -> None:
        routes = self._routes
        manager = "cloudresourcemanager.googleapis.com/v1/projects"
        routes.add("GET", f"{manager}/*", self._describe)
        policy_routes(routes, self.iam, manager, "projects", self._known, read="POST")
        billing = "cloudbilling.googleapis.com/v1/projects/*/billingInfo"
        routes.add("GET", billing, lambda request, project: {"billingEnabled": self.billing})
        usage = "serviceusage.googleapis.com/v1/projects/*/services"
        routes.add("GET", usage, self._services)
        routes.add("POST", f"{usage}:batchEnable", self._enable)
        routes.add("POST", f"{usage.replace('v1', 'v1beta1')}/*:generateServiceIdentity", self._identify)
        routes.add("GET", "serviceusage.googleapis.com/v1/operations/*", self._enabling)
        alerts = "monitoring.googleapis.com/v3/projects/*/alertPolicies"
        routes.add("GET", alerts, lambda request, project: {"alertPolicies": list(self.alerts.values())})
        routes.add("POST", alerts, self._alert)
        routes.add("GET", f"{alerts}/*", lambda request, project, number: self.alerts[number])
        routes.add("DELETE", f"{alerts}/*", self._remove_alert)
        for part in (self.iam, self.secrets, self.pubsub, self.functions):
            part.routes(routes)

    def _known(self, project: str) -> None:
        if project != self.project:
            raise Refusal(403, f"The caller does not have permission on {project}, or it does not exist")

    def _describe(self, request: Request, project: str) -> Document:
        self._known(project)
        return {"projectId": project, "projectNumber": NUMBER, "lifecycleState": "ACTIVE"}

    def _services(self, request: Request, project: str) -> Document:
        found = [
            {"name": f"projects/{NUMBER}/services/{n}", "config": {"name": n}, "state": "ENABLED"}
            for n in self.enabled
        ]
        return {"services": found}

    def _enable(self, request: Request, project: str) -> Document:
        if not self.billing:
            raise Refusal(400, "Billing must be enabled.", "FAILED_PRECONDITION")
        self.enabled |= set(request.document["serviceIds"])
        self._enabling_polls = 1
        return {"name": "operations/enable", "done": False}

    def _enabling(self, request: Request, name: str) -> Document:
        self._enabling_polls -= 1
        return {"name": "operations/enable", "done": self._enabling_polls < 0, "response": {}}

    def _identify(self, request: Request, project: str, service: str) -> Document:
        if service not in self.enabled or service != "pubsub.googleapis.com":
            raise Refusal(400, f"{service} is not enabled.")
        self.iam.agents.add(AGENT)
        response = {
            "@type": "type.googleapis.com/google.api.serviceusage.v1beta1.ServiceIdentity",
            "email": AGENT,
        }
        return {"name": "operations/identity", "done": True, "response": response}

    def _alert(self, request: Request, project: str) -> Document:
        policy = request.document
        if not policy.get("conditions") or policy.get("combiner") not in ("OR", "AND"):
            raise Refusal(400, "An alert needs conditions and a combiner.")
        for condition in policy["conditions"]:
            threshold = condition["conditionThreshold"]
            if "resource.type" not in threshold["filter"] or "metric.type" not in threshold["filter"]:
                raise Refusal(400, "The filter must name a metric and a resource.")
            if threshold.get("comparison") != "COMPARISON_GT" or not threshold.get("duration", "").endswith(
                "s"
            ):
                raise Refusal(400, "The condition compares nothing.")
        number = str(len(self.alerts) + 1)
        self.alerts[number] = {**policy, "name": f"projects/{project}/alertPolicies/{number}"}
        return self.alerts[number]

    def _remove_alert(self, request: Request, project: str, number: str) -> Document:
        if number not in self.alerts:
            raise Refusal(404, "There is no such alert policy.")
        del self.alerts[number]
        return {}


class Gateway(http.server.ThreadingHTTPServer):
    """Where the emulator pushes to."""

    daemon_threads = True

    def __init__(self, plane: ControlPlane) -> None:
        super().__init__(("127.0.0.1", 0), Push)
        self.plane = plane
        plane.pubsub.push_gateway = f"http://127.0.0.1:{self.server_address[1]}"


class Push(http.server.BaseHTTPRequestHandler):
    server: Gateway

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        reply = self.server.plane.functions.push(unquote(self.path[1:]), body)
        self.send_response(reply.status)
        self.send_header("content-length", str(len(reply.body)))
        self.end_headers()
        self.wfile.write(reply.body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def running(project: str, emulator: Emulator, folder: Path, installed: Installed) -> Iterator[ControlPlane]:
    """A control plane whose functions serve and whose subscriptions push; nothing is left at the end."""
    plane = ControlPlane(project, emulator, folder, installed)
    with Gateway(plane) as gateway:
        thread = threading.Thread(target=gateway.serve_forever, daemon=True)
        thread.start()
        try:
            yield plane
        finally:
            plane.pubsub.clear()
            plane.functions.stop()
            gateway.shutdown()
            thread.join()
