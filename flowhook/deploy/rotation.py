"""Rotates the webhook secret, without an event being refused meanwhile.

Between the two commands of a rotation, the old and the new secret are both accepted. Each command adds a
version to the secret and deploys a revision that mounts this version by its number. Mounting `latest` would
need no new revision, but it may return the previous version for minutes or hours. The new revision is a copy
of the serving one but for the mounted version, so no code of the local folder is deployed.
https://cloud.google.com/secret-manager/docs/access-secret-version
"""

from functools import partial

from flowhook.deploy import deployment, kinds, lock, secrets, services, state
from flowhook.deploy.errors import DeployError
from flowhook.deploy.resources import RECEIVE, Place
from flowhook.deploy.rest import Api, Document
from flowhook.deploy.run import Deployment
from flowhook.deploy.secrets import Version


def rotate(run: Deployment, new: bytes) -> None:
    """Begin a rotation to the secret `new`, or with --finish end one. Raises DeployError.

    A rotation that was interrupted continues, with the secret that it began with.
    """
    secret = run.place.secret
    version = secrets.newest(run.api, run.place, secret) if _is_there(run) else None
    if version is None:
        raise DeployError("there is no secret yet: ./deploy.sh")
    service = services.read(run.api, run.place, RECEIVE)
    if services.serving(service):
        raise DeployError("after a rollback, deploy before the secret is rotated: ./deploy.sh")
    mounted = services.secret_version(service["template"])
    if run.options.finish:
        payload = _payload_to_finish(run, version, mounted)
    else:
        payload = _payload_to_begin(run, version, mounted, new)
    if run.options.dry_run:
        run.tell("This was a dry run: nothing has been changed.")
        return
    with lock.held(run.api, run.place, run.options.break_lock):
        done = secrets.add(run.api, run.place, secret, payload)
        mount(run.api, run.place, done.number)
        run.changed = True
        if run.options.finish:
            disable_old(run.api, run.place, done)
            run.tell("The old secret is accepted no more.")
        else:
            deployment.show_secret(run, done.accepted[0])
            run.tell(
                "Both secrets are accepted. When Flows has the new one: ./deploy.sh rotate-secret --finish"
            )


def mount(api: Api, place: Place, number: str) -> None:
    """Deploy a revision that mounts a version, and wait until it gets all traffic."""

    def fields(service: Document) -> Document:
        latest = [{"type": services.LATEST, "percent": 100}]
        return {"template": services.mounting(service["template"], number), "traffic": latest}

    if services.secret_version(services.read(api, place, RECEIVE)["template"]) != number:
        services.change(api, place, RECEIVE, "template,traffic", fields)
    services.all_traffic_on(api, place, RECEIVE, lambda revision: services.secret_version(revision) == number)


def disable_old(api: Api, place: Place, current: Version) -> None:
    """Disable the outdated versions of the secret."""
    numbers = outdated(api, place, current)
    api.together(partial(secrets.disable, api, place, place.secret, number) for number in numbers)


def outdated(api: Api, place: Place, current: Version) -> list[str]:
    """Return the numbers of the older versions that lack the current secret, or that no revision mounts.

    A revision can't start without the version that it mounts, and a rollback may choose any revision.
    """
    mounted = {services.secret_version(revision) for revision in services.revisions(api, place, RECEIVE)}
    older = [number for number in secrets.enabled(api, place, place.secret) if number != current.number]
    versions = api.together(partial(secrets.read, api, place, place.secret, number) for number in older)
    return [
        version.number
        for version in versions
        if current.accepted[0] not in version.accepted or version.number not in mounted
    ]


def _is_there(run: Deployment) -> bool:
    if not state.enabled(run.state.apis, "secretmanager"):
        return False
    return kinds.find(run.api, run.place, "secret", run.place.secret) is not None


def _payload_to_begin(run: Deployment, version: Version, mounted: str, new: bytes) -> bytes:
    """Return what to store to begin a rotation: the new secret first, then the old. Raises DeployError."""
    if len(version.accepted) == 1:
        return b"\n".join([new, *version.accepted])
    if mounted == version.number:
        raise DeployError(
            "a rotation is under way: finish it with --finish. The new secret is the first line of\n"
            f"gcloud secrets versions access {version.number} --secret={run.place.secret} "
            f"--project={run.place.project}"
        )
    run.tell("A rotation was interrupted, and goes on with the secret that it began with.")
    return version.payload


def _payload_to_finish(run: Deployment, version: Version, mounted: str) -> bytes:
    """Return what to store to finish a rotation: the new secret alone. Raises DeployError."""
    if len(version.accepted) > 1:
        if mounted not in (version.number, "latest"):
            raise DeployError("the rotation has not come to its end: ./deploy.sh rotate-secret")
        return version.accepted[0]
    if mounted == version.number and not outdated(run.api, run.place, version):
        raise DeployError("no rotation is under way")
    return version.payload
