"""How what runs in this process reaches the control plane: a session, a clock, and gcloud's stand-in."""

import io
import json
import threading
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

import requests
from requests.adapters import BaseAdapter

from flowhook.deploy.clock import Clock
from flowhook.deploy.functions import Ran
from tests.support.google_cloud.control_plane import ControlPlane
from tests.support.google_cloud.exchange import BrokenConnection, Document, Reply, Request
from tests.support.google_cloud.functions import HOST
from tests.support.google_cloud.timeline import Timeline

FLAGS = {
    "runtime", "source", "entry-point", "ingress-settings", "service-account", "build-service-account",
    "docker-repository", "set-build-env-vars", "update-labels", "concurrency", "cpu", "memory", "timeout",
    "min-instances", "max-instances", "set-secrets", "env-vars-file", "project", "region",
}  # fmt: skip
SWITCHES = {"gen2", "quiet", "trigger-http", "serve-all-traffic-latest-revision", "clear-secrets"}
INGRESS = {"all": "ALLOW_ALL", "internal-only": "ALLOW_INTERNAL_ONLY"}
POLL_EVERY = 2.0


class Session(requests.Session):
    """Asks the control plane, in this process."""

    def __init__(self, plane: ControlPlane) -> None:
        super().__init__()
        self.trust_env = False
        self.mount("https://", _Adapter(plane))


class _Adapter(BaseAdapter):
    def __init__(self, plane: ControlPlane) -> None:
        super().__init__()
        self._plane = plane
        self._counting = threading.Lock()
        self._under_way = 0

    @contextmanager
    def _counted(self) -> Iterator[None]:
        with self._counting:
            self._under_way += 1
            self._plane.most_at_once = max(self._plane.most_at_once, self._under_way)
        try:
            yield
        finally:
            with self._counting:
                self._under_way -= 1

    def send(self, request: requests.PreparedRequest, **_: Any) -> requests.Response:  # type: ignore[override]
        asked = _asked(request)
        try:
            with self._counted():
                reply = self._plane.answer(asked)
        except BrokenConnection:
            raise requests.ConnectionError("the connection broke") from None
        response = requests.Response()
        response.status_code, response.url = reply.status, str(request.url)
        response.raw = io.BytesIO(reply.body)
        response.headers.update(reply.headers)
        return response

    def close(self) -> None:
        """Nothing is open."""


def _asked(request: requests.PreparedRequest) -> Request:
    url = urlsplit(str(request.url))
    body = request.body.encode() if isinstance(request.body, str) else request.body or b""
    assert isinstance(body, bytes)
    query = dict(parse_qsl(url.query, keep_blank_values=True))
    headers = {name.lower(): str(value) for name, value in request.headers.items()}
    return Request(str(request.method), url.hostname or "", unquote(url.path), query, headers, body)


def clock(time: Timeline) -> Clock:
    """The product's clock, which lets the fake's time pass."""
    return Clock(lambda: time.now, time.advance)


class Gcloud:
    """As strict as gcloud about the two commands that a deployment gives, and as ignorant of any other."""

    def __init__(self, plane: ControlPlane) -> None:
        self.calls: list[Sequence[str]] = []
        self._plane = plane
        self._at_work = False

    def __call__(self, arguments: Sequence[str], folder: Path) -> Ran:
        self.calls.append(tuple(arguments))
        if list(arguments[:3]) == ["config", "get-value", "project"]:
            return Ran(0, f"{self._plane.project}\n")
        if list(arguments[:2]) != ["functions", "deploy"]:
            return Ran(2, f"ERROR: (gcloud) Invalid choice: {arguments[:2]}")
        with self._alone():
            return self._deploy(arguments[2], arguments[3:], folder)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """gcloud must not run beside itself: https://cloud.google.com/sdk/docs/scripting-gcloud."""
        assert not self._at_work, "two gcloud at once"
        self._at_work = True
        try:
            yield
        finally:
            self._at_work = False

    def _deploy(self, name: str, arguments: Sequence[str], folder: Path) -> Ran:
        flags, switches = _parsed(arguments)
        if unknown := (set(flags) - FLAGS) | (switches - SWITCHES):
            return Ran(2, f"ERROR: (gcloud.functions.deploy) unrecognized arguments: {sorted(unknown)}")
        if not {"gen2", "trigger-http"} <= switches:
            return Ran(1, "ERROR: the fake wants a function of the second generation with an address")
        parent = f"/v2/projects/{flags['project']}/locations/{flags['region']}"
        present = self._ask("GET", f"{parent}/functions/{name}")
        if present.status not in (200, 404):
            return _error(present)
        upload = self._ask("POST", f"{parent}/functions:generateUploadUrl", {"environment": "GEN_2"})
        if upload.status != 200:
            return _error(upload)
        address = json.loads(upload.body)
        self._upload(address["uploadUrl"], _archive(folder / flags["source"]))
        before = json.loads(present.body) if present.status == 200 else {}
        function = _function(flags, switches, address["storageSource"], before)
        return self._write(parent, name, function, is_new=present.status == 404)

    def _write(self, parent: str, name: str, function: Document, *, is_new: bool) -> Ran:
        if is_new:
            started = self._ask("POST", f"{parent}/functions", function, functionId=name)
        else:
            parts = ("buildConfig", "serviceConfig")
            mask = ",".join(["labels", *(f"{part}.{key}" for part in parts for key in function[part])])
            started = self._ask("PATCH", f"{parent}/functions/{name}", function, updateMask=mask)
        if started.status != 200:
            return _error(started)
        return self._wait(json.loads(started.body))

    def _wait(self, operation: Document) -> Ran:
        while not operation.get("done"):
            self._plane.time.advance(POLL_EVERY)
            looked = self._ask("GET", f"/v2/{operation['name']}")
            if looked.status != 200:
                return _error(looked)
            operation = json.loads(looked.body)
        if error := operation.get("error"):
            return Ran(
                1, f"ERROR: (gcloud.functions.deploy) OperationError: code=3, message={error['message']}"
            )
        return Ran(0, json.dumps(operation["response"]))

    def _upload(self, url: str, archive: bytes) -> None:
        parts = urlsplit(url)
        self._send(Request("PUT", parts.hostname or "", parts.path, {}, {}, archive))

    def _ask(self, method: str, path: str, document: Document | None = None, **query: str) -> Reply:
        body = json.dumps(document).encode() if document is not None else b""
        return self._send(Request(method, HOST, path, query, {}, body))

    def _send(self, request: Request) -> Reply:
        """gcloud tries again by itself where a connection breaks or too much is asked for."""
        for _ in range(3):
            try:
                reply = self._plane.answer(request)
            except BrokenConnection:
                continue
            if reply.status != 429:
                return reply
            self._plane.time.advance(1)
        return Reply(503, b'{"error": {"message": "the connection broke", "status": "UNAVAILABLE"}}')


def _parsed(arguments: Sequence[str]) -> tuple[dict[str, str], set[str]]:
    flags, switches = {}, set()
    for argument in arguments:
        name, equals, value = argument.removeprefix("--").partition("=")
        if equals:
            flags[name] = value
        else:
            switches.add(name)
    return flags, switches


def _error(reply: Reply) -> Ran:
    error = json.loads(reply.body)["error"]
    told = f"ResponseError: status=[{reply.status}], code=[{error['status']}], message=[{error['message']}]"
    return Ran(1, f"ERROR: (gcloud.functions.deploy) {told}")


def _archive(folder: Path) -> bytes:
    """The files of a small project; what gcloud leaves out, the tests with the real one see."""
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w") as archive:
        for path in sorted(folder.rglob("*")):
            if path.is_file() and not path.relative_to(folder).as_posix().startswith("."):
                archive.write(path, path.relative_to(folder))
    return written.getvalue()


def _function(
    flags: Mapping[str, str], switches: set[str], source: Document, present: Mapping[str, Any]
) -> Document:
    """The document that gcloud makes of its arguments; the variables of the file take the place of all."""
    config: Document = {
        "environmentVariables": json.loads(Path(flags["env-vars-file"]).read_text()),
        "serviceAccountEmail": flags["service-account"],
        "availableMemory": flags["memory"],
        "availableCpu": flags["cpu"],
        "timeoutSeconds": int(flags["timeout"].removesuffix("s")),
        "maxInstanceRequestConcurrency": int(flags["concurrency"]),
        "minInstanceCount": int(flags["min-instances"]),
        "maxInstanceCount": int(flags["max-instances"]),
        "ingressSettings": INGRESS[flags["ingress-settings"]],
        **_secrets(flags),
    }
    if "serve-all-traffic-latest-revision" in switches:
        config["allTrafficOnLatestRevision"] = True
    build: Document = {
        "entryPoint": flags["entry-point"],
        "runtime": flags["runtime"],
        "source": {"storageSource": source},
        "serviceAccount": flags["build-service-account"],
        "dockerRepository": flags["docker-repository"],
        "environmentVariables": dict(pair.split("=", 1) for pair in flags["set-build-env-vars"].split(",")),
    }
    labels = dict(pair.split("=", 1) for pair in flags["update-labels"].split(","))
    merged = {**present.get("labels", {}), "deployment-tool": "cli-gcloud", **labels}
    return {"environment": "GEN_2", "buildConfig": build, "serviceConfig": config, "labels": merged}


def _secrets(flags: Mapping[str, str]) -> Document:
    volumes, variables = [], []
    for given in filter(None, flags.get("set-secrets", "").split(",")):
        where, _, what = given.partition("=")
        secret, _, version = what.partition(":")
        known = {"projectId": flags["project"], "secret": secret}
        if where.startswith("/"):
            mount, _, path = where.rpartition("/")
            versions = [{"version": version, "path": path}]
            volumes.append({**known, "mountPath": mount, "versions": versions})
        else:
            variables.append({**known, "key": where, "version": version})
    return {"secretVolumes": volumes, "secretEnvironmentVariables": variables}
