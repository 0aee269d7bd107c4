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
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from flowhook.deploy import reasons, services
from flowhook.deploy.clock import PATIENCE
from flowhook.deploy.errors import DeployError
from flowhook.deploy.kinds import KINDS
from flowhook.deploy.resources import Place, Resource
from flowhook.deploy.rest import Api, Document

# How both the service and gcloud say it.
EXISTS = "already exists"
# Seconds after which grants hold, typically and potentially:
# https://cloud.google.com/iam/docs/access-change-propagation
SETTLED_AFTER = (120.0, 420.0)
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
    build: Build,
    granted_at: float,
) -> Document:
    """Build and deploy one of the functions, and give it once its latest revision serves everything.

    `build` calls gcloud where the source is; `granted_at` is when the account that builds got its rights.
    Raises DeployError.
    """
    with tempfile.TemporaryDirectory() as temporary:
        variables = Path(temporary) / "environment.json"
        variables.touch(mode=0o600)
        variables.write_text(json.dumps(resource.wanted["serviceConfig"]["environmentVariables"]))
        command = [*arguments(place, resource), f"--env-vars-file={variables}"]
        failures = _Failures(api, place, resource, granted_at)
        while (ran := build(command)).status:
            failures.wait_or_raise(ran)
    function = _with_address(api, place, resource)
    target = resource.wanted["buildConfig"]["entryPoint"]
    services.all_traffic_on(api, place, target, lambda _revision: True)
    return function


def arguments(place: Place, resource: Resource) -> list[str]:
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
        secrets_flag(config),
    ]  # fmt: skip


def secrets_flag(config: Mapping[str, Any]) -> str:
    """The secrets by number: a file for the webhook's, variables for the handlers'."""
    files = [
        f"{volume['mountPath']}/{at['path']}={volume['secret']}:{at['version']}"
        for volume in config["secretVolumes"]
        for at in volume["versions"]
    ]
    variables = [f"{s['key']}={s['secret']}:{s['version']}" for s in config["secretEnvironmentVariables"]]
    mounted = ",".join([*files, *variables])
    return f"--set-secrets={mounted}" if mounted else "--clear-secrets"


class _Failures:
    """What has gone wrong so far with one function, and whether to go on."""

    def __init__(self, api: Api, place: Place, resource: Resource, granted_at: float) -> None:
        self._api = api
        self._place = place
        self._name = resource.name
        self._pauses = api.clock.pauses(PATIENCE)
        self._exists = False
        self._settled = [granted_at + seconds for seconds in SETTLED_AFTER]

    def wait_or_raise(self, ran: Ran) -> None:
        """Let pass what passes. Raises DeployError for what stays."""
        reason = reasons.of_text(ran.output)
        if EXISTS in ran.output and not self._exists:
            # It was made, and the answer was lost on its way to gcloud: now it can be changed.
            self._exists = True
            self._api.tell(f"Waiting for {self._name}, which exists already.")
        elif reason:
            self._api.tell(f"Waiting for {reason.waits_for}, up to {PATIENCE / 60:.0f} minutes.")
        else:
            self._wait_for_grants(ran)
            return
        if next(self._pauses, None) is None:
            raise DeployError(self._told(ran))

    def _wait_for_grants(self, ran: Ran) -> None:
        """A build says little; where its account was given its rights a moment ago, it may be for that."""
        now = self._api.clock.now()
        settled = next((at for at in self._settled if at > now), None)
        if settled is None:
            raise DeployError(self._told(ran))
        self._api.tell(
            f"{self._told(ran)}\nThat may be because the rights of its account, given just now, do "
            f"not hold everywhere yet: again in {settled - now:.0f} s. Interrupt it if it is not that."
        )
        self._api.clock.sleep(settled - now)

    def _told(self, ran: Ran) -> str:
        builds = f"https://console.cloud.google.com/cloud-build/builds;region={self._place.region}"
        return (
            f"{ran.output.strip()}\n{self._name} was not deployed; the lines above say why, and where the "
            f"log of a build is. All builds:\n{builds}?project={self._place.project}"
        )


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
