"""Google's control plane for one project: requests and answers are held against Google's documents."""

import json
from collections.abc import Callable

from tests.support.google_cloud import discovery
from tests.support.google_cloud.artifacts import Databases, Repositories
from tests.support.google_cloud.exchange import (
    BrokenConnection,
    Document,
    Killed,
    Refusal,
    Reply,
    Request,
    Routes,
    refusal_for,
)
from tests.support.google_cloud.faults import Faults, Moment
from tests.support.google_cloud.functions import UPLOADS, Functions
from tests.support.google_cloud.iam import Iam
from tests.support.google_cloud.logging import Logs
from tests.support.google_cloud.monitoring import Monitoring
from tests.support.google_cloud.projects import Project
from tests.support.google_cloud.pubsub import PubSub
from tests.support.google_cloud.run import Run, Runtime
from tests.support.google_cloud.secrets import Secrets
from tests.support.google_cloud.simulated import Simulation
from tests.support.google_cloud.timeline import Timeline

# Seconds that an answer takes.
LATENCY = 0.1
Choose = Callable[["ControlPlane"], Runtime]


class ControlPlane:
    """State, faults to plant, a time of its own, and a log of what was asked."""

    def __init__(self, project: str, time: Timeline | None = None, runtime: Choose | None = None) -> None:
        self.project = project
        self.time = time or Timeline()
        self.faults = Faults()
        self.log: list[Request] = []
        # How many requests have been under way at the same time.
        self.most_at_once = 0
        self.iam = Iam(project, self.time, self.faults)
        self.place = Project(self.iam, self.time, self.faults)
        self.secrets = Secrets(self.iam, self.time, self.faults)
        self.pubsub = PubSub(self.iam, self.time, self.faults)
        self.logs = Logs(project, self.time, self.faults)
        self.simulation = Simulation(self.iam, self.pubsub, self.logs, self.time)
        chosen = runtime(self) if runtime else self.simulation
        self.run = Run(self.iam, self.secrets, self.time, self.faults, chosen)
        self.functions = Functions(self.iam, self.run, self.time, self.faults)
        self.repositories = Repositories(self.iam, self.functions, self.time, self.faults)
        self.databases = Databases(self.time)
        self.monitoring = Monitoring(self.pubsub, self.logs, self.time, self.faults)
        self.pubsub.push = self.run.push
        self._cut: set[str] = set()
        self._changes_left = 0
        self._dead = False
        self._routes = Routes()
        for part in (
            self.place, self.iam, self.secrets, self.pubsub, self.run, self.functions, self.repositories,
            self.databases, self.logs, self.monitoring,
        ):  # fmt: skip
            part.routes(self._routes)

    @property
    def changes(self) -> list[Request]:
        return [request for request in self.log if request.changes]

    def answer(self, request: Request) -> Reply:
        """What a client gets. Raises BrokenConnection or Killed where it gets none."""
        if request.host.endswith(".a.run.app"):
            return self.run.call(request)
        with self.time.lock:
            self.time.advance(LATENCY)
            if self._dead:
                raise Killed
            self.log.append(request)
            moment = self._cut_off(request) if request.changes else None
            if moment == "before":
                raise self._ending()
            reply = self._reply(request)
            if moment == "after":
                raise self._ending()
            return reply

    def kill_at(self, number: int, moment: Moment) -> None:
        """Kill whoever makes the change of that number, counted from now."""
        self.faults.kill_at, self._changes_left = (number, moment), number

    def revive(self) -> bool:
        """Let another process begin; whether the one before was killed."""
        died, self._dead, self.faults.kill_at = self._dead, False, None
        return died

    def _reply(self, request: Request) -> Reply:
        try:
            return Reply(200, json.dumps(self._checked(request)).encode())
        except Refusal as refusal:
            return Reply(refusal.status, json.dumps(refusal.document).encode())

    def _checked(self, request: Request) -> Document:
        self._guard(request)
        if request.host == UPLOADS:
            return self._routes.find(request)()
        method = discovery.find(request)
        if method is None:
            raise Refusal(404, f"Google's documents know no {request}.")
        method.check_request(request)
        answer = self._paged(request, self._routes.find(request)())
        method.check_answer(answer)
        return answer

    def _guard(self, request: Request) -> None:
        for part, status in self.faults.refused.items():
            if part in str(request):
                raise Refusal(status, "The caller does not have permission")
        if self.faults.expired:
            self.faults.expired -= 1
            raise Refusal(401, "Request had invalid authentication credentials.")
        if self.faults.too_many:
            self.faults.too_many -= 1
            raise refusal_for("rate-limited", metric="requests")
        if request.host != UPLOADS:
            self.place.guard(request)

    def _paged(self, request: Request, answer: Document) -> Document:
        """A page of a list, where pages are small."""
        lists = [name for name, value in answer.items() if isinstance(value, list) and name != "unreachable"]
        listing = request.method == "GET" and len(lists) == 1 and set(answer) <= {*lists, "unreachable"}
        if not listing or not self.faults.page_size or "pageToken" not in _parameters(request):
            return answer
        start = int(request.query.get("pageToken") or 0)
        end = start + self.faults.page_size
        rest = {"nextPageToken": str(end)} if end < len(answer[lists[0]]) else {}
        return {**answer, lists[0]: answer[lists[0]][start:end], **rest}

    def _cut_off(self, request: Request) -> Moment | None:
        """At which moment of a change the connection ends, if it does."""
        if self.faults.kill_at is not None:
            self._changes_left -= 1
            if self._changes_left == -1:
                self._dead = True
                return self.faults.kill_at[1]
        told = str(request)
        if self.faults.cuts is None or told in self._cut:
            return None
        self._cut.add(told)
        return self.faults.cuts

    def _ending(self) -> BaseException:
        return Killed() if self._dead else BrokenConnection()


def _parameters(request: Request) -> set[str]:
    method = discovery.find(request)
    return set(method.parameters) if method else set()
