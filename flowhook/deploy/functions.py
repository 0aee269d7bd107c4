"""Builds and deploys the two functions with gcloud.

Google supports no two gcloud commands at the same time, so the functions are deployed one after the other:
https://cloud.google.com/sdk/docs/scripting-gcloud. The output of gcloud is only searched for the errors in
`reasons`, because the cause of a failed build or revision is found nowhere else.
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

# The service and gcloud both report with these words that a function exists.
EXISTS = "already exists"
# Seconds after which a grant takes effect, typically and at most:
# https://cloud.google.com/iam/docs/access-change-propagation
SETTLED_AFTER = (120.0, 420.0)
# The policy of an organization that can forbid members outside it, and so allUsers.
ORGANIZATION = "constraints/iam.allowedPolicyMemberDomains"


class Ran(NamedTuple):
    """The exit status of a command, and what it printed to standard output and standard error."""

    status: int
    output: str


# The type of `gcloud` below, which tests replace.
Gcloud = Callable[[Sequence[str], Path], Ran]
# `gcloud` with its folder already given.
Build = Callable[[Sequence[str]], Ran]


def gcloud(arguments: Sequence[str], folder: Path) -> Ran:
    """Run gcloud in a folder, without prompts, and return its result. Raises DeployError if missing."""
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
    """Build and deploy a function, wait until its latest revision gets all traffic, and return the function.

    `build` runs gcloud in the folder of the source. `granted_at` is when the build's service account was
    granted its roles, in seconds since 1970: a build that fails soon after is repeated. Raises DeployError.
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
    """Return the arguments for gcloud, without the environment variables.

    Their values must not show in the list of processes, so they are passed in a file.
    """
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
    """Return the flag that mounts the webhook secret as a file, and handlers' secrets as variables.

    Each is mounted by the number of its version.
    """
    files = [
        f"{volume['mountPath']}/{at['path']}={volume['secret']}:{at['version']}"
        for volume in config["secretVolumes"]
        for at in volume["versions"]
    ]
    variables = [f"{s['key']}={s['secret']}:{s['version']}" for s in config["secretEnvironmentVariables"]]
    mounted = ",".join([*files, *variables])
    return f"--set-secrets={mounted}" if mounted else "--clear-secrets"


class _Failures:
    """Decides after each failed attempt to deploy a function whether to try again, and waits until then.

    `granted_at` is when the build's service account was granted its roles, in seconds since 1970.
    """

    def __init__(self, api: Api, place: Place, resource: Resource, granted_at: float) -> None:
        self._api = api
        self._place = place
        self._name = resource.name
        self._pauses = api.clock.pauses(PATIENCE)
        self._exists = False
        self._settled = [granted_at + seconds for seconds in SETTLED_AFTER]

    def wait_or_raise(self, ran: Ran) -> None:
        """Wait where the failure is temporary. Raises DeployError where it is not, or has lasted too long."""
        reason = reasons.of_text(ran.output)
        if EXISTS in ran.output and not self._exists:
            # gcloud created the function, but lost the answer. The next attempt updates the function.
            self._exists = True
            self._api.tell(f"Waiting for {self._name}, which exists already.")
        elif reason:
            self._api.tell(f"Waiting for {reason.waits_for}, up to {PATIENCE / 60:.0f} minutes.")
        else:
            self._wait_for_grants(ran)
            return
        if next(self._pauses, None) is None:
            raise DeployError(self._message(ran))

    def _wait_for_grants(self, ran: Ran) -> None:
        """Wait until the grants for the build have taken effect, then let it be tried again.

        A build that fails for lack of a role seldom says so. Raises DeployError where the grants were made
        long enough ago to have taken effect.
        """
        now = self._api.clock.now()
        settled = next((at for at in self._settled if at > now), None)
        if settled is None:
            raise DeployError(self._message(ran))
        self._api.tell(
            f"{self._message(ran)}\nThat may be because the rights of its account, given just now, do "
            f"not hold everywhere yet: again in {settled - now:.0f} s. Interrupt it if it is not that."
        )
        self._api.clock.sleep(settled - now)

    def _message(self, ran: Ran) -> str:
        builds = f"https://console.cloud.google.com/cloud-build/builds;region={self._place.region}"
        return (
            f"{ran.output.strip()}\n{self._name} was not deployed; the lines above say why, and where the "
            f"log of a build is. All builds:\n{builds}?project={self._place.project}"
        )


def _with_address(api: Api, place: Place, resource: Resource) -> Document:
    """Wait until a function is active and has a URL, and return it. Raises DeployError where that fails."""
    pauses = api.clock.pauses(PATIENCE)
    while True:
        found = api.find(KINDS["function"].address(place, resource.name)) or {}
        if found.get("state") == "ACTIVE" and found.get("serviceConfig", {}).get("uri"):
            return found
        if found.get("state") == "FAILED" or next(pauses, None) is None:
            told = "; ".join(m.get("message", "") for m in found.get("stateMessages", ()))
            raise DeployError(f"{resource.name} is not active: {told or found.get('state', 'missing')}")
