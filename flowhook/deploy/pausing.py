"""Pauses and resumes handlers: the subscriptions of a paused one don't push, so its events wait in them."""

from collections.abc import Iterator, Mapping
from functools import partial

from flowhook.deploy import alerts, backlog, kinds, lock, moments, plan, state
from flowhook.deploy.deployed import DOCTOR, push_to
from flowhook.deploy.errors import DeployError
from flowhook.deploy.resources import CONSUME, PAUSED, Resource
from flowhook.deploy.rest import Document
from flowhook.deploy.run import Deployment
from flowhook.deploy.surroundings import Row


def pause(run: Deployment) -> None:
    """Stop pushing to the handler of the command line, and remove its subscriptions from the alert.

    Other handlers are not affected. Raises DeployError where the handler has no subscription.
    """
    with lock.held(run.api, run.place, run.options.break_lock):
        found = _subscriptions(run)
        since = str(int(run.api.clock.now()))
        todo = {name: s for name, s in found.items() if PAUSED not in s["labels"] or s.get("pushConfig")}
        # One request changes both fields, so a process that is killed leaves no subscription half paused.
        run.api.together(partial(_stop, run, name, s, since) for name, s in todo.items())
        watch(run)
    run.tell(f"{run.options.handler} is paused. What arrives waits: ./deploy.sh resume {run.options.handler}")


def resume(run: Deployment) -> None:
    """Push to the handler again, beginning with what waits. Raises DeployError where `consume` lacks it."""
    handler = run.options.handler
    with lock.held(run.api, run.place, run.options.break_lock):
        found = _subscriptions(run)
        _check_known(run, handler)
        url = run.state.facts(run.place).consume_url
        config = plan.push_config(run.place, push_to(handler, (), run.place.name).path, url)
        todo = {name: s for name, s in found.items() if PAUSED in s["labels"]}
        run.api.together(partial(_start, run, name, s, config) for name, s in todo.items())
        watch(run)
    run.tell(f"{handler} gets its events{', what has waited first' if todo else '; it was not paused'}.")


def watch(run: Deployment) -> None:
    """Create, update or delete the alert on waiting events, which covers all handlers but paused ones."""
    facts = run.state.facts(run.place)
    ours = run.state.ours("subscription", run.place)
    names = [
        name for name, s in ours.items() if plan.is_pushed(run.place, name) and PAUSED not in s["labels"]
    ]
    channel = facts.channels.get(run.options.notification_email, "")
    wanted = alerts.waiting(run.options, run.place, sorted(names), channel)
    name = f"{run.place.name}: {alerts.WAITING}"
    present = run.state.found.get(("alert", name))
    if wanted is None:
        run.remove("alert", *([name] if present else []))
    elif present is None:
        run.state.found[wanted.key] = kinds.create(run.api, run.place, wanted)
    else:
        run.state.found[wanted.key] = kinds.change(run.api, wanted, present, ("conditions",))


def rows(run: Deployment) -> Iterator[Row]:
    """Yield a row for each paused subscription.

    It shows since when it is paused, about how many events wait, and when the oldest of them is dropped.
    """
    for name, subscription in _pushed(run).items():
        if since := subscription["labels"].get(PAUSED):
            what = f"handler {plan.handler_of(run.place, name)}"
            yield Row(
                what, True, f"paused since {moments.shown(float(since))}{_waiting(run, name, subscription)}"
            )


def handlers(run: Deployment) -> Mapping[str, list[str]]:
    """Return the names of the subscriptions of each handler, by the handler's name."""
    found: dict[str, list[str]] = {}
    for name in _pushed(run):
        found.setdefault(plan.handler_of(run.place, name), []).append(name)
    return found


def _waiting(run: Deployment, name: str, subscription: Document) -> str:
    waits = backlog.measured(run.api, run.place, name)
    if waits.count is None:
        return "; how many wait is not measured yet"
    oldest = ""
    if waits.oldest is not None:
        dropped = moments.shown(backlog.kept_until(subscription, waits.oldest))
        oldest = f", the oldest until {dropped}"
    return f"; about {waits.count} wait{oldest}"


def _pushed(run: Deployment) -> dict[str, Document]:
    """Return the subscriptions of the user's handlers, without those of `doctor` and of the replay topic."""
    ours = run.state.ours("subscription", run.place)
    return {name: s for name, s in ours.items() if plan.handler_of(run.place, name) not in ("", DOCTOR)}


def _subscriptions(run: Deployment) -> dict[str, Document]:
    """Return the subscriptions of the command line's handler. Raises DeployError where it has none.

    Reads the state anew, because it is called under the lock.
    """
    run.state = state.read(run.api, run.place, run.state.apis)
    names = handlers(run).get(run.options.handler, [])
    if not names:
        known = ", ".join(sorted(handlers(run))) or "none"
        raise DeployError(f"no handler {run.options.handler} has a subscription; these have one: {known}")
    return {name: run.state.found["subscription", name] for name in names}


def _check_known(run: Deployment, handler: str) -> None:
    """Raise DeployError where `consume` is not deployed, or doesn't have the handler."""
    consume = run.state.found.get(("function", run.place.called(CONSUME)), {}).get("serviceConfig", {})
    known = consume.get("environmentVariables", {}).get(plan.HANDLERS)
    if not consume.get("uri"):
        raise DeployError(f"{run.place.called(CONSUME)} is not deployed: ./deploy.sh")
    if known is not None and handler not in known.split(","):
        raise DeployError(f"{run.place.called(CONSUME)} has no handler {handler}: ./deploy.sh deploys yours")


def _stop(run: Deployment, name: str, present: Document, since: str) -> None:
    wanted = Resource("subscription", name, {"labels": {PAUSED: since}, "pushConfig": {}})
    _change(run, wanted, present)


def _start(run: Deployment, name: str, present: Document, config: Document) -> None:
    labels = {label: value for label, value in present["labels"].items() if label != PAUSED}
    wanted = Resource("subscription", name, {"labels": labels, "pushConfig": config})
    _change(run, wanted, {**present, "labels": labels})


def _change(run: Deployment, wanted: Resource, present: Document) -> None:
    changed = kinds.change(run.api, wanted, present, ("labels", "pushConfig"))
    run.state.found[wanted.key] = changed
