"""Cloud Functions: what is uploaded is unpacked, built and served, on loopback."""

import hashlib
import io
import itertools
import re
import subprocess
import sys
import threading
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx2

from flowhook.cli.run import free_port, listens
from tests.gcloud.exchange import Document, Refusal, Reply, Request, Routes
from tests.gcloud.iam import Iam, policy_routes
from tests.gcloud.pubsub import PubSub
from tests.gcloud.secrets import Secrets
from tests.support import receiver

REGIONS = ("europe-west1", "us-central1")
BUILDS = {"roles/logging.logWriter", "roles/artifactregistry.writer", "roles/storage.objectViewer"}
# https://cloud.google.com/functions/docs/configuring/env-var#reserved_names
RESERVED = re.compile(r"X_GOOGLE_.*|FUNCTION_TARGET|FUNCTION_SIGNATURE_TYPE|K_SERVICE|K_REVISION|PORT")
UPLOADS = "storage.googleapis.com"
MEGABYTES = {"Mi": 1, "Gi": 1024, "M": 1, "G": 1000}
CONFIG = {
    "availableMemory": "256M",
    "timeoutSeconds": 60,
    "availableCpu": "0.1666",
    "maxInstanceRequestConcurrency": 1,
}


class Installed:
    """The requirements of an archive, installed once for all that have the same."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()

    def python(self, requirements: bytes) -> Path:
        """A Python that has them, and nothing else."""
        environment = self._folder / hashlib.sha256(requirements).hexdigest()[:16]
        python = environment / "bin" / "python"
        with self._lock:
            if not (environment / "done").exists():
                self._install(environment, python, requirements)
        return python

    def _install(self, environment: Path, python: Path, requirements: bytes) -> None:
        subprocess.run([sys.executable, "-m", "venv", environment], check=True)
        listed = environment / "requirements.txt"
        listed.write_bytes(requirements)
        install = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*install, "-r", str(listed)], check=True, stderr=subprocess.DEVNULL)
        (environment / "done").touch()


class Functions:
    """Functions of one project, each with a running instance."""

    def __init__(
        self, iam: Iam, secrets: Secrets, pubsub: PubSub, folder: Path, installed: Installed
    ) -> None:
        self.functions: dict[str, Document] = {}
        self.archives: dict[str, bytes] = {}
        self.builds_fail = False
        self.answers_fail = False
        self._project = iam.project
        self._iam = iam
        self._secrets = secrets
        self._pubsub = pubsub
        self._folder = folder
        self._installed = installed
        self._uploads: dict[str, bytes] = {}
        self._operations: dict[str, list[Any]] = {}
        self._running: dict[str, tuple[subprocess.Popen[bytes], int]] = {}
        self._numbers = itertools.count(1)
        self._client = httpx2.Client(timeout=90)

    def routes(self, routes: Routes) -> None:
        base = "cloudfunctions.googleapis.com/v2/projects/*/locations"
        routes.add("GET", base, lambda request, project: {"locations": [_location(name) for name in REGIONS]})
        routes.add(
            "GET",
            f"{base}/*/runtimes",
            lambda *_: {"runtimes": [_runtime("python313"), _runtime("python311")]},
        )
        routes.add("GET", f"{base}/*/functions", self._list)
        routes.add("GET", f"{base}/*/functions/*", lambda r, p, region, name: self._find(name))
        routes.add("POST", f"{base}/*/functions:generateUploadUrl", self._upload_url)
        routes.add("POST", f"{base}/*/functions", self._create)
        routes.add("PATCH", f"{base}/*/functions/*", self._update)
        routes.add("DELETE", f"{base}/*/functions/*", self._delete)
        routes.add("GET", f"{base}/*/operations/*", self._operation)
        routes.add("PUT", f"{UPLOADS}/uploads/*", self._upload)
        base = "run.googleapis.com/v1/projects/*/locations/*/services"
        policy_routes(routes, self._iam, base, "services", self._find)
        for region in REGIONS:
            base = f"{region}-run.googleapis.com/v1/projects/*/locations/*/services"
            policy_routes(routes, self._iam, base, "services", self._find)

    def stop(self) -> None:
        for process, _ in self._running.values():
            receiver.end(process)
        self._client.close()

    def call(self, request: Request) -> Reply:
        """A request to a function's own address, from somebody without an identity."""
        name = request.host.partition("-hash-")[0]
        if name not in self.functions:
            return Reply(404, b"Page not found", {})
        if ("roles/run.invoker", "allUsers") not in self._iam.grants(f"services/{name}"):
            return Reply(403, b"Your client does not have permission to get this URL.", {})
        if self.answers_fail:
            return Reply(503, b"Service Unavailable", {})
        return self._forward(name, request.method, request.path, request.headers, request.body)

    def push(self, subscription: str, body: bytes) -> Reply:
        """What the emulator pushes, let in as Cloud Run and Pub/Sub would."""
        if subscription not in self._pubsub.subscriptions:
            return Reply(404)
        if not self._pubsub.matching(subscription, body):
            return Reply(204)
        push = self._pubsub.subscriptions[subscription]["pushConfig"]
        endpoint, token = push["pushEndpoint"], push.get("oidcToken", {})
        host, _, path = endpoint.removeprefix("https://").partition("/")
        name = host.partition("-hash-")[0]
        if name not in self.functions:
            return Reply(404)
        account = token.get("serviceAccountEmail", "")
        let_in = self._iam.permits(f"services/{name}", "roles/run.invoker", account)
        if not let_in or token.get("audience") != self.functions[name]["serviceConfig"]["uri"]:
            return Reply(403)
        return self._forward(name, "POST", f"/{path}", {"content-type": "application/json"}, body)

    def _forward(self, name: str, method: str, path: str, headers: Mapping[str, str], body: bytes) -> Reply:
        _, port = self._running[name]
        kept = {k: v for k, v in headers.items() if k not in ("host", "connection", "accept-encoding")}
        response = self._client.request(method, f"http://127.0.0.1:{port}{path}", content=body, headers=kept)
        answered = {k: v for k, v in response.headers.items() if k in ("content-type", "retry-after")}
        return Reply(response.status_code, response.content, answered)

    def _find(self, name: str) -> Document:
        if name not in self.functions:
            raise Refusal(404, f"Resource '{name}' was not found")
        return self.functions[name]

    def _list(self, request: Request, project: str, region: str) -> Document:
        if region not in REGIONS:
            raise Refusal(403, f"Permission denied on 'locations/{region}' (or it may not exist).")
        return {"functions": [self.functions[name] for name in sorted(self.functions)]}

    def _upload_url(self, request: Request, project: str, region: str) -> Document:
        name = f"source-{next(self._numbers)}"
        storage = {"bucket": f"gcf-v2-uploads-{region}", "object": name}
        return {"uploadUrl": f"https://{UPLOADS}/uploads/{name}", "storageSource": storage}

    def _upload(self, request: Request, name: str) -> Document:
        self._uploads[name] = request.body
        return {}

    def _create(self, request: Request, project: str, region: str) -> Document:
        name = request.query["functionId"]
        if name in self.functions:
            raise Refusal(409, f"Resource '{name}' already exists")
        if not re.fullmatch(r"[a-z]([a-z0-9-]{0,61}[a-z0-9])?", name):
            raise Refusal(400, "Invalid function name.")
        given = request.document
        service = f"projects/{project}/locations/{region}/services/{name}"
        uri = f"https://{name}-hash-ew.a.run.app"
        config = {**CONFIG, **given["serviceConfig"], "service": service, "uri": uri}
        full = f"projects/{project}/locations/{region}/functions/{name}"
        function = {**given, "name": full, "serviceConfig": config, "environment": "GEN_2", "state": "ACTIVE"}
        self._check(function)
        return self._start_operation(region, lambda: self._deploy(name, function))

    def _update(self, request: Request, project: str, region: str, name: str) -> Document:
        present, given = self._find(name), request.document
        function = {
            **present,
            "serviceConfig": {**present["serviceConfig"]},
            "buildConfig": {**present["buildConfig"]},
        }
        for path in request.query["updateMask"].split(","):
            parts = [re.sub(r"_(.)", lambda found: found[1].upper(), part) for part in path.split(".")]
            target, source = function, given
            for part in parts[:-1]:
                target, source = target[part], source.get(part, {})
            if parts[-1] in source:
                target[parts[-1]] = source[parts[-1]]
            else:
                target.pop(parts[-1], None)
        self._check(function)
        return self._start_operation(region, lambda: self._deploy(name, function))

    def _delete(self, request: Request, project: str, region: str, name: str) -> Document:
        self._find(name)
        return self._start_operation(region, lambda: self._remove(name))

    def _remove(self, name: str) -> Document:
        del self.functions[name]
        self._iam.forget(f"services/{name}")
        process, _ = self._running.pop(name)
        receiver.end(process)
        return {}

    def _start_operation(self, region: str, finish: Any) -> Document:
        name = f"projects/{self._project}/locations/{region}/operations/op-{next(self._numbers)}"
        self._operations[name] = [1, finish]
        return {"name": name, "done": False}

    def _operation(self, request: Request, *_: str) -> Document:
        """Not done at the first look, like the real ones; what was asked for happens at the second."""
        name = request.path.removeprefix("/v2/")
        left, finish = self._operations[name]
        stages = {
            "@type": "type.googleapis.com/google.cloud.functions.v2.OperationMetadata",
            "stages": _stages(),
        }
        if left:
            self._operations[name][0] -= 1
            return {"name": name, "done": False, "metadata": stages}
        if callable(finish):
            try:
                finish = {
                    "response": {
                        "@type": "type.googleapis.com/google.cloud.functions.v2.Function",
                        **finish(),
                    }
                }
            except Refusal as refusal:
                finish = {"error": {"code": 3, "message": str(refusal)}}
            self._operations[name][1] = finish
        return {"name": name, "done": True, "metadata": stages, **finish}

    def _check(self, function: Document) -> None:
        config, build = function["serviceConfig"], function["buildConfig"]
        if build["runtime"] not in ("python311", "python313"):
            raise Refusal(400, "Unknown runtime.")
        accounts = [config["serviceAccountEmail"], build.get("serviceAccount", "/default").rpartition("/")[2]]
        for account in accounts:
            if not self._iam.exists(account):
                raise Refusal(400, f"Service account {account} does not exist.")
        for name in config.get("environmentVariables", {}):
            if RESERVED.fullmatch(name):
                raise Refusal(400, f"{name} is reserved.")
        if config["maxInstanceRequestConcurrency"] > 1 and float(config["availableCpu"]) < 1:
            raise Refusal(400, "Concurrency above 1 needs 1 CPU.")
        if config.get("minInstanceCount", 0) > config.get("maxInstanceCount", 100):
            raise Refusal(400, "min above max")
        if build["source"]["storageSource"]["object"] not in self._uploads:
            raise Refusal(400, "The source is not there.")

    def _deploy(self, name: str, function: Document) -> Document:
        """Build and start a revision; the one before serves until the new one listens."""
        config, build = function["serviceConfig"], function["buildConfig"]
        builder = build["serviceAccount"].rpartition("/")[2]
        granted = {
            role
            for role, member in self._iam.grants(f"projects/{self._project}")
            if member.endswith(f":{builder}")
        }
        if self.builds_fail or not granted >= BUILDS:
            log = "https://console.cloud.google.com/cloud-build/builds/1?project=1"
            raise Refusal(400, f"Build failed with status: FAILURE. For more details see the logs at {log}.")
        archive = self._uploads[build["source"]["storageSource"]["object"]]
        source = self._folder / f"{name}-{next(self._numbers)}"
        with zipfile.ZipFile(io.BytesIO(archive)) as unzipped:
            unzipped.extractall(source)
        python = self._installed.python((source / "requirements.txt").read_bytes())
        self._compile(python, source, build.get("environmentVariables", {}))
        started = self._serve(name, python, source, build["entryPoint"], config)
        if name in self._running:
            receiver.end(self._running[name][0])
        self._running[name] = started
        self.functions[name] = {**function, "buildConfig": {**build, "source": {"storageSource": {}}}}
        self.archives[name] = archive
        return self.functions[name]

    def _compile(self, python: Path, source: Path, environment: Mapping[str, str]) -> None:
        """As Google's buildpack python/functions_framework does it."""
        command = [str(python), "-m", "compileall", "-f", "-q", "."]
        done = subprocess.run(
            command, cwd=source, env=dict(environment), capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise Refusal(400, f"Build failed: {done.stdout}")

    def _serve(
        self, name: str, python: Path, source: Path, target: str, config: Document
    ) -> tuple[subprocess.Popen[bytes], int]:
        port = free_port()
        environment = {
            "PATH": "/usr/bin:/bin",
            "K_SERVICE": name,
            "FUNCTION_TARGET": target,
            "PUBSUB_EMULATOR_HOST": self._pubsub.emulator_host,
            **self._mounted(config),
        }
        command = [
            str(python),
            "-m",
            "functions_framework",
            f"--source={source / 'main.py'}",
            "--host=127.0.0.1",
        ]
        output = self._folder / f"{name}-{port}.log"
        with output.open("wb") as out:
            process = subprocess.Popen(
                [*command, f"--target={target}", f"--port={port}"],
                env=environment,
                cwd=source,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            receiver.until(lambda: process.poll() is not None or listens(port))
        except AssertionError:
            receiver.end(process)
        if process.poll() is not None:
            raise Refusal(400, f"The container failed to start: {output.read_text()[-500:]}")
        return process, port

    def _mounted(self, config: Document) -> dict[str, str]:
        """The environment, with the paths of mounted secrets where they are here."""
        environment = dict(config.get("environmentVariables", {}))
        for volume in config.get("secretVolumes", []):
            account = config["serviceAccountEmail"]
            if not self._iam.permits(
                f"secrets/{volume['secret']}", "roles/secretmanager.secretAccessor", account
            ):
                raise Refusal(400, f"Permission denied on secret {volume['secret']} for {account}.")
            (version,) = volume["versions"]
            if version["version"] != "latest":
                raise Refusal(400, "The tests want the latest version to be mounted.")
            here = self._secrets.mount(volume["secret"], self._folder)
            there = f"{volume['mountPath']}/{version['path'].lstrip('/')}"
            environment = {k: str(here) if v == there else v for k, v in environment.items()}
        return environment


def names(archive: bytes) -> set[str]:
    """The files in an archive."""
    with zipfile.ZipFile(io.BytesIO(archive)) as unzipped:
        return {name for name in unzipped.namelist() if not name.endswith("/")}


def _location(name: str) -> Document:
    return {"name": f"projects/p/locations/{name}", "locationId": name}


def _runtime(name: str) -> Document:
    return {"name": name, "environment": "GEN_2", "stage": "GA"}


def _stages() -> list[Document]:
    return [{"name": name, "state": "COMPLETE", "message": ""} for name in ("BUILD", "SERVICE")]
