"""Away with it: what the plan's table names, by exact name or by label, whatever state it is in."""

from functools import partial

from flowhook.deploy import kinds, ledger, lock, metrics, policies, retirement, state
from flowhook.deploy.resources import CONSUME, FUNCTIONS, RECEIVE, Resource
from flowhook.deploy.run import Deployment, agreed

ROLES = ("build", RECEIVE, CONSUME, "push")
TOPICS = ("events", "rejected", "dead-letters", "replay")
KEPT = "dead-letters"


def delete(run: Deployment) -> None:
    """List what is there, ask, and delete it."""
    run.state = state.read(run.api, run.place, run.state.apis)
    gone, kept = doomed(run), stays(run)
    for resource in gone:
        run.tell(f"  {resource}")
    for name in run.state.elsewhere:
        run.tell(f"  function {name}")
    if kept:
        run.tell(f"To be kept (--all deletes them): {', '.join(map(str, kept))}")
    if run.options.dry_run or not (gone or run.state.elsewhere or _is_locked(run)):
        run.tell("Nothing has been changed.")
        return
    agreed(run, f"Delete all of this from project {run.place.project}?")
    with lock.held(run.api, run.place, run.options.break_lock):
        carry_out(run, gone)


def carry_out(run: Deployment, gone: list[Resource]) -> None:
    """First what takes in, then what runs, then what they used."""
    names = {kind: [r.name for r in gone if r.kind == kind] for kind in kinds.KINDS}
    run.api.together(partial(retirement.remove_elsewhere, run, name) for name in run.state.elsewhere)
    run.remove("function", *names["function"])
    run.remove("subscription", *names["subscription"])
    run.remove("topic", *names["topic"])
    forget_accounts(run, names["account"])
    for kind in ("account", "dashboard", "metric", "alert", "channel", "repository", "secret", "database"):
        run.remove(kind, *names[kind])


def doomed(run: Deployment) -> list[Resource]:
    """What goes."""
    return [resource for resource in _present(run) if run.options.all or not _is_kept(run, resource)]


def stays(run: Deployment) -> list[Resource]:
    """What stays, unless --all is given."""
    return [] if run.options.all else [resource for resource in _present(run) if _is_kept(run, resource)]


def forget_accounts(run: Deployment, emails: list[str]) -> None:
    """Take what accounts may do on things that stay, before them, or policies keep a trace of them."""
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
    """Whether the lock of a process that died is left, and is to go too."""
    return run.options.break_lock and ("secret", lock.name_of(run.place)) in run.state.found


def _present(run: Deployment) -> list[Resource]:
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
