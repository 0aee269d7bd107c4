"""The two functions: built and deployed by gcloud, one at a time, for it must not run beside itself.

https://cloud.google.com/sdk/docs/scripting-gcloud. What gcloud prints is not read for what it says of itself;
it is only looked through for the wordings of the catalogue, which a build or a revision has no other way to
tell.
"""

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from flowhook.deploy import reasons, services
from flowhook.deploy.clock import PATIENCE
from flowhook.deploy.errors import DeployError
from flowhook.deploy.kinds import KINDS
from flowhook.deploy.resources import RECEIVE, SECRET_FILE, SECRET_FOLDER, Place, Resource
from flowhook.deploy.rest import Api, Document

ORGANIZATION = "constraints/iam.allowedPolicyMemberDomains"


class Ran(NamedTuple):
    """What a command came to."""

    status: int
    output: str


Gcloud = Callable[[Sequence[str], Path], Ran]
Build = Callable[[Sequence[str]], Ran]


def gcloud(arguments: Sequence[str], folder: Path) -> Ran:
    """Run gcloud in a folder, to its end, without a question. Raises DeployError where there is none."""
    program = shutil.which("gcloud")
    if not program:
        raise DeployError("gcloud is not installed: https://cloud.google.com/sdk/docs/install")
    done = subprocess.run(  # noqa: S603 - no shell
        [program, *arguments],
        cwd=folder,
        env={**os.environ, "CLOUDSDK_CORE_DISABLE_PROMPTS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
        text=True,
        check=False,
    )
    return Ran(done.returncode, done.stdout)


def deploy(
    api: Api,
    place: Place,
    resource: Resource,
    versions: Mapping[str, str],
    build: Build,
) -> Document:
    """Build and deploy one of the functions, and give it once its latest revision serves everything.

    `build` calls gcloud where the source is. Raises DeployError.
    """
    with tempfile.TemporaryDirectory() as temporary:
        variables = Path(temporary) / "environment.json"
        variables.touch(mode=0o600)
        variables.write_text(json.dumps(resource.wanted["serviceConfig"]["environmentVariables"]))
        command = [*arguments(place, resource, versions), f"--env-vars-file={variables}"]
        pauses = api.clock.pauses(PATIENCE)
        while (ran := build(command)).status:
            _wait_or_raise(api, place, resource, ran, pauses)
    function = _with_address(api, place, resource)
    target = resource.wanted["buildConfig"]["entryPoint"]
    services.all_traffic_on(api, place, target, lambda _revision: True)
    return function


def arguments(place: Place, resource: Resource, versions: Mapping[str, str]) -> list[str]:
    """What gcloud is called with, but for the file with the variables, whose values are no one's to see."""
    config, build = resource.wanted["serviceConfig"], resource.wanted["buildConfig"]
    labels = ",".join(f"{name}={value}" for name, value in resource.wanted["labels"].items())
    built_with = ",".join(f"{name}={value}" for name, value in build["environmentVariables"].items())
    ingress = {"ALLOW_ALL": "all", "ALLOW_INTERNAL_ONLY": "internal-only"}[config["ingressSettings"]]
    return [
        "functions", "deploy", resource.name, "--gen2", "--quiet", f"--project={place.project}",
        f"--region={place.region}", f"--runtime={build['runtime']}", "--source=.",
        f"--entry-point={build['entryPoint']}", "--trigger-http", f"--ingress-settings={ingress}",
        f"--service-account={config['serviceAccountEmail']}",
        f"--build-service-account={build['serviceAccount']}",
        f"--docker-repository={build['dockerRepository']}", f"--set-build-env-vars={built_with}",
        f"--update-labels={labels}", f"--concurrency={config['maxInstanceRequestConcurrency']}",
        f"--cpu={config['availableCpu']}", f"--memory={config['availableMemory']}",
        f"--timeout={config['timeoutSeconds']}s", f"--min-instances={config['minInstanceCount']}",
        f"--max-instances={config['maxInstanceCount']}", "--serve-all-traffic-latest-revision",
        secrets_flag(place, build["entryPoint"], config, versions),
    ]  # fmt: skip


def secrets_flag(place: Place, target: str, config: Mapping[str, Any], versions: Mapping[str, str]) -> str:
    """The secrets by number: a file for the webhook's, variables for the handlers'."""
    mounted = [f"{s['key']}={s['secret']}:{s['version']}" for s in config["secretEnvironmentVariables"]]
    if target == RECEIVE:
        path = f"{SECRET_FOLDER}/{SECRET_FILE}"
        mounted.insert(0, f"{path}={place.secret}:{versions[place.secret]}")
    return f"--set-secrets={','.join(mounted)}" if mounted else "--clear-secrets"


def _wait_or_raise(api: Api, place: Place, resource: Resource, ran: Ran, pauses: Iterator[float]) -> None:
    reason = reasons.of_text(ran.output)
    if reason is None or next(pauses, None) is None:
        builds = f"https://console.cloud.google.com/cloud-build/builds;region={place.region}"
        raise DeployError(
            f"{ran.output.strip()}\n{resource.name} was not deployed; the lines above say why, and where the "
            f"log of a build is. All builds:\n{builds}?project={place.project}"
        )
    api.tell(f"Waiting for {reason.waits_for}, up to {PATIENCE / 60:.0f} minutes.")


def _with_address(api: Api, place: Place, resource: Resource) -> Document:
    """The function, once it is active and has an address. Raises DeployError where it gets none."""
    pauses = api.clock.pauses(PATIENCE)
    while True:
        found = api.find(KINDS["function"].address(place, resource.name)) or {}
        if found.get("state") == "ACTIVE" and found.get("serviceConfig", {}).get("uri"):
            return found
        if found.get("state") == "FAILED" or next(pauses, None) is None:
            told = "; ".join(m.get("message", "") for m in found.get("stateMessages", ()))
            raise DeployError(f"{resource.name} is not active: {told or found.get('state', 'missing')}")
