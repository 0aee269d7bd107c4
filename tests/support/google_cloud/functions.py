"""Cloud Functions v2: an archive is uploaded, built, and served by a Cloud Run service of the same name."""

import io
import itertools
import json
import re
import zipfile
from dataclasses import dataclass
from typing import Any

from tests.support.google_cloud.exchange import (
    Document,
    Refusal,
    Request,
    Routes,
    last,
    patched,
    refusal_for,
)
from tests.support.google_cloud.faults import Faults
from tests.support.google_cloud.iam import Iam
from tests.support.google_cloud.operations import Operations
from tests.support.google_cloud.run import REGIONS, Run, Wanted
from tests.support.google_cloud.timeline import Timeline, stamp

HOST, UPLOADS = "cloudfunctions.googleapis.com", "storage.googleapis.com"
BUILD_ROLES = {"roles/logging.logWriter", "roles/storage.objectViewer"}
WRITER = "roles/artifactregistry.writer"
BUILD_TAKES = 60.0
RUNTIMES = ("python313", "python311")
# https://cloud.google.com/functions/docs/configuring/env-var#reserved_names
RESERVED = re.compile(r"X_GOOGLE_.*|FUNCTION_TARGET|FUNCTION_SIGNATURE_TYPE|K_SERVICE|K_REVISION|PORT")
CONFIG = {
    "availableMemory": "256M",
    "timeoutSeconds": 60,
    "availableCpu": "0.1666",
    "maxInstanceRequestConcurrency": 1,
}
INGRESS = {"ALLOW_ALL": "INGRESS_TRAFFIC_ALL", "ALLOW_INTERNAL_ONLY": "INGRESS_TRAFFIC_INTERNAL_ONLY"}
FUNCTION_TYPE = "google.cloud.functions.v2.Function"


@dataclass(frozen=True)
class Image:
    """What a build makes of an archive."""

    archive: bytes
    target: str
    built_with: tuple[tuple[str, str], ...] = ()


class Functions:
    """Functions of one project, by REGION/NAME."""

    def __init__(self, iam: Iam, run: Run, time: Timeline, faults: Faults) -> None:
        self.found: dict[str, Document] = {}
        self.archives: dict[str, bytes] = {}
        self.repositories: set[str] = set()
        self.build_takes = BUILD_TAKES
        self._iam = iam
        self._run = run
        self._time = time
        self._faults = faults
        self._uploads: dict[str, bytes] = {}
        self._numbers = itertools.count(1)
        self._operations = Operations(time, HOST, "v2", FUNCTION_TYPE)

    def routes(self, routes: Routes) -> None:
        base = f"{HOST}/v2/projects/*/locations"
        routes.add("GET", base, lambda request, project: {"locations": [_location(name) for name in REGIONS]})
        routes.add(
            "GET", f"{base}/*/runtimes", lambda *_: {"runtimes": [_runtime(name) for name in RUNTIMES]}
        )
        routes.add("GET", f"{base}/*/functions", self._list)
        routes.add("GET", f"{base}/*/functions/*", lambda r, p, region, name: self._find(f"{region}/{name}"))
        routes.add("POST", f"{base}/*/functions:generateUploadUrl", self._upload_url)
        routes.add("POST", f"{base}/*/functions", self._create)
        routes.add("PATCH", f"{base}/*/functions/*", self._update)
        routes.add("DELETE", f"{base}/*/functions/*", self._delete)
        routes.add("PUT", f"{UPLOADS}/uploads/*", self._upload)
        self._operations.routes(routes)

    def put(self, name: str, document: Document) -> None:
        """Have a function be there."""
        self.found[name] = document

    def _find(self, name: str) -> Document:
        found = self.found.get(name)
        if found is None:
            raise Refusal(404, f"Resource '{name}' was not found")
        return found

    def _list(self, request: Request, project: str, region: str) -> Document:
        if region not in (*REGIONS, "-"):
            raise Refusal(403, f"Permission denied on 'locations/{region}' (or it may not exist).")
        where = set(REGIONS) if region == "-" else {region}
        away = sorted(where & self._faults.unreachable)
        seen = [f for name, f in sorted(self.found.items()) if f["name"].split("/")[3] in where - set(away)]
        return {"functions": seen, **({"unreachable": away} if away else {})}

    def _upload_url(self, request: Request, project: str, region: str) -> Document:
        name = f"source-{next(self._numbers)}.zip"
        storage = {"bucket": f"gcf-v2-uploads-{region}", "object": name}
        return {"uploadUrl": f"https://{UPLOADS}/uploads/{name}", "storageSource": storage}

    def _upload(self, request: Request, name: str) -> Document:
        self._uploads[name] = request.body
        return {}

    def _create(self, request: Request, project: str, region: str) -> Document:
        name, given = request.query["functionId"], request.document
        if f"{region}/{name}" in self.found:
            raise Refusal(409, f"Resource '{name}' already exists")
        if not re.fullmatch(r"[a-z]([a-z0-9-]{0,61}[a-z0-9])?", name):
            raise Refusal(400, "Invalid function name.")
        if region not in REGIONS:
            raise Refusal(403, f"Permission denied on 'locations/{region}' (or it may not exist).")
        full = f"projects/{project}/locations/{region}/functions/{name}"
        config = {**CONFIG, **given.get("serviceConfig", {})}
        function = {**given, "name": full, "serviceConfig": config, "environment": "GEN_2"}
        self._check(function)
        self.found[f"{region}/{name}"] = {
            **function,
            "state": "DEPLOYING",
            "updateTime": stamp(self._time.now),
        }
        return self._start(project, region, name, function)

    def _update(self, request: Request, project: str, region: str, name: str) -> Document:
        present = self._find(f"{region}/{name}")
        if present["state"] == "DEPLOYING":
            raise refusal_for("operation-queued")
        mask = request.query.get("updateMask", "")
        if not mask:
            raise Refusal(400, "The fake wants a mask, for without one everything else is removed.")
        function = patched(present, request.document, mask)
        function["serviceConfig"] = {**CONFIG, **function["serviceConfig"]}
        self._check(function)
        present["state"] = "DEPLOYING"
        return self._start(project, region, name, function)

    def _start(self, project: str, region: str, name: str, function: Document) -> Document:
        stages = [{"name": stage, "state": "COMPLETE", "message": ""} for stage in ("BUILD", "SERVICE")]
        metadata = {
            "@type": "type.googleapis.com/google.cloud.functions.v2.OperationMetadata",
            "stages": stages,
        }
        parent = f"projects/{project}/locations/{region}/"

        def finish() -> Document:
            try:
                return self._deploy(name, region, function)
            except Refusal as refusal:
                self._fail(f"{region}/{name}", str(refusal))
                raise

        return self._operations.start(parent, self.build_takes, finish, metadata)

    def _fail(self, name: str, told: str) -> None:
        """A function that has a service serves on; one that has none is there without an address."""
        message = {"severity": "ERROR", "type": "CloudRunServiceNotReady", "message": told}
        serves = name in self._run.found
        self.found[name] |= {"state": "ACTIVE" if serves else "FAILED", "stateMessages": [message]}

    def _deploy(self, name: str, region: str, function: Document) -> Document:
        config, build = function["serviceConfig"], function["buildConfig"]
        image = self._build(function)
        if self._faults.half_created[name] > 0 and f"{region}/{name}" not in self._run.found:
            self._faults.half_created[name] -= 1
            raise Refusal(400, "Could not create or update Cloud Run service.", "FAILED_PRECONDITION")
        reset = bool(config.get("allTrafficOnLatestRevision"))
        ingress = INGRESS[config.get("ingressSettings", "ALLOW_ALL")]
        self._run.deploy(name, region, Wanted(template_of(function), image, ingress, reset))
        key = f"{region}/{name}"
        self.archives[key] = image.archive
        service = f"projects/{self._iam.project}/locations/{region}/services/{name}"
        kept = {**build, "source": {"storageSource": {}}}
        document = {**function, "buildConfig": kept, "state": "ACTIVE", "updateTime": stamp(self._time.now)}
        document["serviceConfig"] = {**config, "service": service}
        document.pop("stateMessages", None)
        self.found[key] = document
        self._time.after(self._faults.addresses_late, lambda: self._address(key))
        return self.found[key]

    def _address(self, name: str) -> None:
        uri = self._run.find(name).document["uri"]
        self.found[name]["serviceConfig"]["uri"] = uri
        self.found[name]["url"] = uri

    def _build(self, function: Document) -> Image:
        build = function["buildConfig"]
        if self._faults.not_yet:
            row = self._faults.not_yet.pop(0)
            gaps = dict.fromkeys(
                ("bucket", "repository", "agent", "image", "email", "account"), "of-the-build"
            )
            raise refusal_for(row, **gaps)
        builder = last(build.get("serviceAccount", ""))
        if self._faults.builds_fail or not self._may_build(builder, build.get("dockerRepository", "")):
            log = "https://console.cloud.google.com/cloud-build/builds/1?project=1"
            raise Refusal(400, f"Build failed with status: FAILURE. For more details see the logs at {log}.")
        archive = self._uploads[build["source"]["storageSource"]["object"]]
        return Image(archive, build["entryPoint"], tuple(build.get("environmentVariables", {}).items()))

    def _may_build(self, builder: str, repository: str) -> bool:
        project = f"projects/{self._iam.project}"
        parts = repository.split("/")
        places = [project, *([f"repositories/{parts[3]}/{parts[5]}"] if repository else [])]
        writes = any(self._iam.permits(place, WRITER, builder) for place in places)
        return writes and all(self._iam.permits(project, role, builder) for role in BUILD_ROLES)

    def _check(self, function: Document) -> None:
        config, build = function["serviceConfig"], function["buildConfig"]
        if build["runtime"] not in RUNTIMES:
            raise Refusal(400, "Unknown runtime.")
        for account in (config.get("serviceAccountEmail", ""), last(build.get("serviceAccount", ""))):
            if not self._iam.exists(account):
                raise refusal_for("account-not-found", email=account)
        if any(map(RESERVED.fullmatch, config.get("environmentVariables", {}))):
            raise Refusal(400, "The name of a variable is reserved.")
        if config["maxInstanceRequestConcurrency"] > 1 and float(config["availableCpu"]) < 1:
            raise Refusal(400, "Concurrency above 1 needs 1 CPU.")
        if config.get("minInstanceCount", 0) > config.get("maxInstanceCount", 100):
            raise Refusal(400, "There are fewer instances at most than at least.")
        if repository := build.get("dockerRepository", ""):
            self._check_repository(repository)
        if build["source"].get("storageSource", {}).get("object") not in self._uploads:
            raise Refusal(400, "The source is not there.")

    def _check_repository(self, repository: str) -> None:
        if repository not in self.repositories:
            raise Refusal(400, f"The repository {repository} does not exist.")

    def _delete(self, request: Request, project: str, region: str, name: str) -> Document:
        self._find(f"{region}/{name}")

        def finish() -> Document:
            self.found.pop(f"{region}/{name}", None)
            self._run.remove(f"{region}/{name}")
            return {}

        return self._operations.start(f"projects/{project}/locations/{region}/", 10, finish)


def template_of(function: Document) -> Document:
    """What a revision of the service is made of."""
    config = function["serviceConfig"]
    entries: list[Document] = [
        {"name": k, "value": v} for k, v in config.get("environmentVariables", {}).items()
    ]
    entries.append({"name": "LOG_EXECUTION_ID", "value": "true"})
    for secret in config.get("secretEnvironmentVariables", []):
        source = {"secret": secret["secret"], "version": secret["version"]}
        entries.append({"name": secret["key"], "valueSource": {"secretKeyRef": source}})
    volumes, mounts = [], []
    for number, volume in enumerate(config.get("secretVolumes", [])):
        items = [{"path": v["path"].lstrip("/"), "version": v["version"]} for v in volume["versions"]]
        volumes.append({"name": f"volume-{number}", "secret": {"secret": volume["secret"], "items": items}})
        mounts.append({"name": f"volume-{number}", "mountPath": volume["mountPath"]})
    # Each build makes an image of its own.
    built = function["buildConfig"]["source"].get("storageSource", {}).get("object", "")
    image = f"{function['buildConfig']['entryPoint']}@{built}"
    container: dict[str, Any] = {"image": image, "env": entries}
    container["volumeMounts"] = mounts
    template = {
        "containers": [container],
        "volumes": volumes,
        "serviceAccount": config["serviceAccountEmail"],
    }
    copy: Document = json.loads(json.dumps(template))
    return copy


def names(archive: bytes) -> set[str]:
    """The files in an archive."""
    with zipfile.ZipFile(io.BytesIO(archive)) as unzipped:
        return {name for name in unzipped.namelist() if not name.endswith("/")}


def _location(name: str) -> Document:
    return {"name": f"projects/p/locations/{name}", "locationId": name}


def _runtime(name: str) -> Document:
    return {"name": name, "environment": "GEN_2", "stage": "GA"}
