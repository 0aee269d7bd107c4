"""Rolls both functions back to the revisions that served before.

`consume` goes first, as in a deployment: it must understand what `receive` publishes.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any

from flowhook.deploy import lock, plan, retirement, secrets, services, state
from flowhook.deploy.errors import DeployError
from flowhook.deploy.resources import CONSUME, RECEIVE, Place
from flowhook.deploy.rest import Api, Document
from flowhook.deploy.run import Deployment, agreed


def possible(run: Deployment) -> bool:
    """Return whether there are revisions to roll back to."""
    try:
        targets(run)
    except DeployError:
        return False
    return True


def roll_back(run: Deployment) -> None:
    """Send all traffic to the previous revision of each function, if the user agrees.

    Subscriptions of handlers that the previous `consume` lacks push no more. Raises DeployError.
    """
    run.state = state.read(run.api, run.place, run.state.apis)
    chosen = targets(run)
    steps = [f"{run.place.called(target)} to {services.short(r['name'])}" for target, r in chosen.items()]
    unknown = subscriptions_without_handler(run, chosen[CONSUME]) if CONSUME in chosen else []
    question = f"Send all traffic of {' and of '.join(steps)}?"
    if unknown:
        question += f" Without their handlers these are pushed no more: {', '.join(unknown)}."
    if run.options.dry_run:
        run.tell(f"{question}\nThis was a dry run: nothing has been changed.")
        return
    agreed(run, question)
    with lock.held(run.api, run.place, run.options.break_lock):
        run.api.together(partial(retirement.stop_pushing, run, name) for name in unknown)
        for target, revision in chosen.items():
            send_traffic(run.api, run.place, target, services.short(revision["name"]))
            run.tell(f"{run.place.called(target)} is at {services.short(revision['name'])}.")
    run.tell("The next ./deploy.sh serves the latest revision again.")


def targets(run: Deployment) -> dict[str, Document]:
    """Return the revision that each function is to serve, `consume` first.

    Raises DeployError where a function has no earlier revision, or its revision is of no use.
    """
    found: dict[str, Document] = {}
    for target in (CONSUME, RECEIVE):
        if ("function", run.place.called(target)) in run.state.found:
            found[target] = _previous_revision(run, target)
    if RECEIVE not in found:
        raise DeployError(f"{run.place.called(RECEIVE)} is not deployed in {run.place.region}")
    _require_current_secret(run, found[RECEIVE])
    return found


def subscriptions_without_handler(run: Deployment, revision: Mapping[str, Any]) -> list[str]:
    """Return the subscriptions that push to handlers which a revision of `consume` lacks.

    The result is empty for a revision that doesn't list its handlers: an older version has deployed it.
    """
    listed = services.environment(revision).get(plan.HANDLERS)
    if listed is None:
        return []
    known = {*listed.split(","), plan.DOCTOR.name}
    pushed = {
        name: plan.handler_of(run.place, name)
        for name, found in run.state.ours("subscription", run.place).items()
        if found.get("pushConfig")
    }
    return sorted(name for name, handler in pushed.items() if handler and handler not in known)


def send_traffic(api: Api, place: Place, target: str, revision: str) -> None:
    """Send all traffic of a function to one revision, and wait until that is in effect."""
    pinned = [{"type": services.REVISION, "revision": revision, "percent": 100}]
    services.change(api, place, target, "traffic", lambda _service: {"traffic": pinned})
    services.all_traffic_on(api, place, target, lambda found: services.short(found["name"]) == revision)


def _previous_revision(run: Deployment, target: str) -> Document:
    """Return the newest revision before the serving one that is ready and has another image.

    Revisions with the same image come from rotations of the secret, and run the same code. Raises DeployError
    where there is no such revision.
    """
    service = services.read(run.api, run.place, target)
    present = services.serving(service) or services.short(service.get("latestReadyRevision", ""))
    revisions = services.revisions(run.api, run.place, target)
    names = [services.short(revision["name"]) for revision in revisions]
    if present in names:
        position = names.index(present)
        for revision in revisions[position + 1 :]:
            if services.ready(revision) and services.image(revision) != services.image(revisions[position]):
                return revision
    raise DeployError(f"{run.place.called(target)} has no earlier revision that was ready")


def _require_current_secret(run: Deployment, revision: Mapping[str, Any]) -> None:
    """Raise DeployError where a revision doesn't accept the current secret: it would refuse Flows."""
    current = secrets.newest(run.api, run.place, run.place.secret)
    number = services.secret_version(revision)
    if current is None or number == "latest":
        return
    readable = secrets.enabled(run.api, run.place, run.place.secret)
    known: list[bytes] = []
    if number in readable:
        known = secrets.read(run.api, run.place, run.place.secret, number).accepted
    if current.accepted[0] not in known:
        raise DeployError(
            f"{services.short(revision['name'])} does not know the current secret, so it would refuse Flows; "
            "mend this version instead, and deploy it"
        )
