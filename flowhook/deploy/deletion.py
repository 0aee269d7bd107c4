"""Deletes an installation: everything that a deployment may have created, whatever state it is in.

A resource belongs to the installation if it has the exact name, or the label, that a deployment gives it.
"""

from functools import partial

from flowhook.deploy import kinds, ledger, lock, metrics, policies, retirement, state
from flowhook.deploy.resources import CONSUME, FUNCTIONS, RECEIVE, Resource
from flowhook.deploy.run import Deployment, agreed

# The ids of the service accounts and of the topics, without the name of the installation.
ROLES = ("build", RECEIVE, CONSUME, "push")
TOPICS = ("events", "rejected", "dead-letters", "replay")
# This topic and its subscription are deleted only with --all.
KEPT = "dead-letters"


def delete(run: Deployment) -> None:
    """List what would be deleted, ask for confirmation, and delete it. Raises DeployError if refused."""
    run.state = state.read(run.api, run.place, run.state.apis)
    deleted, kept = to_delete(run), to_keep(run)
    for resource in deleted:
        run.tell(f"  {resource}")
    for name in run.state.elsewhere:
        run.tell(f"  function {name}")
    if kept:
        run.tell(f"To be kept (--all deletes them): {', '.join(map(str, kept))}")
    if run.options.dry_run or not (deleted or run.state.elsewhere or _is_locked(run)):
        run.tell("Nothing has been changed.")
        return
    agreed(run, f"Delete all of this from project {run.place.project}?")
    with lock.held(run.api, run.place, run.options.break_lock):
        carry_out(run, deleted)


def carry_out(run: Deployment, resources: list[Resource]) -> None:
    """Delete the functions first, then the subscriptions and topics, then everything else."""
    names = {kind: [r.name for r in resources if r.kind == kind] for kind in kinds.KINDS}
    run.api.together(partial(retirement.remove_elsewhere, run, name) for name in run.state.elsewhere)
    run.remove("function", *names["function"])
    run.remove("subscription", *names["subscription"])
    run.remove("topic", *names["topic"])
    revoke_roles(run, names["account"])
    for kind in ("account", "dashboard", "metric", "alert", "channel", "repository", "secret", "database"):
        run.remove(kind, *names[kind])


def to_delete(run: Deployment) -> list[Resource]:
    """Return the existing resources that are to be deleted, in order."""
    return [resource for resource in _present(run) if run.options.all or not _is_kept(run, resource)]


def to_keep(run: Deployment) -> list[Resource]:
    """Return the existing resources that are deleted only with --all: none where that is given."""
    return [] if run.options.all else [resource for resource in _present(run) if _is_kept(run, resource)]


def revoke_roles(run: Deployment, emails: list[str]) -> None:
    """Revoke the roles that service accounts have on the project and on the webhook secret.

    This must happen before the accounts are deleted: a policy lists the deleted accounts for ever otherwise.
    """
    members = [f"serviceAccount:{email}" for email in emails]
    targets = (
        [("project", run.place.project)] if state.enabled(run.state.apis, "cloudresourcemanager") else []
    )
    targets += [key for key in run.state.found if key == ("secret", run.place.secret)]
    if members:
        run.api.together(
            partial(policies.withdraw, run.api, run.place, target, members) for target in targets
        )


def _is_locked(run: Deployment) -> bool:
    """Return whether a lock exists that --break-lock is to delete."""
    return run.options.break_lock and ("secret", lock.name_of(run.place)) in run.state.found


def _present(run: Deployment) -> list[Resource]:
    """Return the resources of the installation that exist, in the order in which they are listed."""
    place = run.place
    exact = [
        *(("function", place.called(target)) for target in reversed(FUNCTIONS)),
        *(("topic", place.called(what)) for what in TOPICS),
        *(("account", place.account(role)) for role in ROLES),
        ("repository", place.name),
        ("secret", place.secret),
        ("database", ledger.name_of(place)),
        ("metric", metrics.name_of(place)),
        ("dashboard", place.name),
    ]
    labelled = [
        *(("subscription", name) for name in run.state.ours("subscription", place)),
        *(("alert", name) for name in run.state.ours("alert", place)),
        *(("channel", name) for name in run.state.ours("channel", place)),
        *(("secret", name) for name in state.variable_secrets(run.state, place)),
    ]
    return [Resource(*key) for key in [*exact, *labelled] if key in run.state.found]


def _is_kept(run: Deployment, resource: Resource) -> bool:
    letters = resource.kind in ("topic", "subscription") and resource.name == run.place.called(KEPT)
    return letters or resource.kind in ("secret", "database")
