"""Drains and deletes what is no longer planned, but never before what replaces it exists."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from flowhook.deploy import (
    counts,
    drain,
    kinds,
    messages,
    plan,
    policies,
)
from flowhook.deploy.counts import MINUTE
from flowhook.deploy.diff import Change
from flowhook.deploy.resources import CONSUME, SINCE, Resource
from flowhook.deploy.run import Deployment, may_remove

# Seconds after which no `doctor` command can still be using its temporary subscription.
LONGEST_DOCTOR_RUN = 60 * MINUTE


def label_successors(run: Deployment) -> None:
    """Label each subscription that replaces another one with a time at which it existed.

    The time is taken after its creation: events from before it may be in the replaced subscription alone.
    """
    now = str(int(run.api.clock.now()) + 1)
    for successor in superseded(run).values():
        present = run.state.found[successor.key]
        if SINCE not in present.get("labels", {}):
            dated = Resource(successor.kind, successor.name, {"labels": {SINCE: now}})
            run.do([Change("change", dated, ("labels",))])


def superseded(run: Deployment) -> dict[str, Resource]:
    """Return the subscriptions that another one of the same handler replaces, each with its replacement."""
    planned = {plan.handler_of(run.place, r.name): r for r in run.plan().of("subscription")}
    return {
        name: planned[handler]
        for name in run.state.ours("subscription", run.place)
        if (handler := plan.handler_of(run.place, name)) and handler in planned
        if name != planned[handler].name
    }


def orphans(run: Deployment) -> list[str]:
    """Return the subscriptions of handlers that no longer exist, and that of replays if it is not planned."""
    names = run.plan().names("subscription")
    planned = {plan.handler_of(run.place, name) for name in names}
    pushed = [n for n in run.state.ours("subscription", run.place) if plan.is_pushed(run.place, n)]
    return sorted(n for n in pushed if n not in names and plan.handler_of(run.place, n) not in planned - {""})


def retire_handlers(run: Deployment) -> None:
    """Drain and delete the subscriptions of handlers that no longer exist, if the user agrees.

    If not, these subscriptions push no more, and events wait in them.
    """
    gone = orphans(run)
    if not gone:
        return
    question = f"These subscriptions belong to no handler any more: {', '.join(gone)}. Remove them?"
    if may_remove(run, question):
        retire(run, gone)
        return
    run.tell("What is published for them waits there, unpushed, until they are removed or back.")
    pushing = [name for name in gone if run.state.found["subscription", name].get("pushConfig")]
    run.api.together(partial(stop_pushing, run, name) for name in pushing)


def stop_pushing(run: Deployment, name: str) -> None:
    """Stop a subscription from pushing to a handler that `consume` doesn't have.

    Each push would fail, and events would become dead letters after the handler's attempts.
    """
    drain.stop_pushing(run.api, run.place, name)
    run.state.found["subscription", name]["pushConfig"] = {}


def retire(run: Deployment, names: Sequence[str]) -> None:
    """Drain subscriptions, move what is left to the dead letters, and delete the subscriptions.

    Draining takes --drain-minutes at most.
    """
    now, found = run.api.clock.now(), run.state.found
    pushing = {name: now for name in names if found["subscription", name].get("pushConfig")}
    unpushed = {name: now for name in names if name not in pushing}
    done = drain.wait(run.api, run.place, unpushed, 0)
    if pushing:
        minutes = run.options.drain_minutes
        run.tell(f"Waiting up to {minutes:g} minutes until {drain.listed(pushing)} are worked off.")
        done |= drain.wait(run.api, run.place, pushing, minutes * MINUTE)
    run.changed = True
    run.api.together(partial(_move_left_over, run, name, name in done) for name in names)
    run.remove("subscription", *names)


def _move_left_over(run: Deployment, name: str, done: bool) -> None:
    """Move the messages that are left in a subscription to the dead letters.

    Where it is not `done` (drained), messages may have failed, and can be pulled only after a pause.
    """
    subscription = run.state.found["subscription", name]
    quiet = float(subscription.get("ackDeadlineSeconds", 10))
    stop_pushing(run, name)
    if not done:
        quiet = max(quiet, drain.longest_pause(subscription))
        run.tell(f"Looking for up to {quiet / MINUTE:.0f} minutes for what {name} has not worked off.")
    if moved := drain.move_to_dead_letters(run.api, run.place, name, quiet):
        run.tell(f"{moved} messages of {name} are in {run.place.called('dead-letters')} now.")


def remove_unplanned(run: Deployment) -> None:
    """Delete what is no longer planned, as the last step of a deployment: what replaces it exists by now."""
    if run.options.pubsub:
        remove_superseded(run)
    else:
        retire_consume(run)
    for kind in ("alert", "channel"):
        run.remove(kind, *unplanned(run, kind))
    run.remove("subscription", *(name for name in unplanned(run, "subscription") if is_leftover(run, name)))
    if run.state.elsewhere:
        remove_other_regions(run)


def remove_other_regions(run: Deployment) -> None:
    """Delete the functions in other regions, if the user agrees.

    The first deployment to a region leaves them: Flows doesn't have the URL of the new function yet.
    """
    names = ", ".join(run.state.elsewhere)
    if run.is_new_here:
        run.tell(
            f"{names}: in other regions; these stay until Flows has the new URL. Then: ./deploy.sh --prune"
        )
    elif may_remove(
        run, f"These functions are in other regions: {names}. Has Flows the new URL? Remove them?"
    ):
        run.api.together(partial(remove_elsewhere, run, name) for name in run.state.elsewhere)
        run.state.elsewhere = ()


def is_leftover(run: Deployment, name: str) -> bool:
    """Return whether an unplanned subscription can be deleted at once, because nobody needs it.

    That is so for the temporary one of a `doctor` command that was killed, and for the one of the topic of
    events that older versions created to retain events: the topic itself retains them now.
    """
    tapped_at = run.state.found["subscription", name].get("labels", {}).get(messages.TAP)
    if tapped_at is not None:
        return run.api.clock.now() - float(tapped_at) > LONGEST_DOCTOR_RUN
    return name == run.place.called("events")


def unplanned(run: Deployment, kind: str) -> list[str]:
    """Return the resources of a kind that have the installation's label, but are not planned."""
    return sorted(set(run.state.ours(kind, run.place)) - run.plan().names(kind))


def remove_superseded(run: Deployment) -> None:
    """Delete the subscriptions that others replace, once their replacements have all events that are left.

    A paused subscription stays. Those that are not drained in time are left to the next deployment.
    """
    found = run.state.found
    since: Mapping[str, float] = {
        old: float(found[new.key]["labels"][SINCE])
        for old, new in superseded(run).items()
        if found["subscription", old].get("pushConfig")
    }
    if not since:
        return
    minutes = run.options.drain_minutes
    run.tell(
        f"Waiting up to {minutes:g} minutes until {drain.listed(since)} are worked off; their successors get "
        "the same events meanwhile, so some are handled twice."
    )
    done = drain.wait(run.api, run.place, since, minutes * MINUTE)
    for name in sorted(done):
        run.tell(_handled_twice(run, name, since[name]))
    run.remove("subscription", *sorted(done))
    if left := set(since) - done:
        run.tell(f"{drain.listed(left)} are not worked off yet, and stay: the next deployment removes them.")


def _handled_twice(run: Deployment, name: str, since: float) -> str:
    """Say how many events a subscription and its replacement have both delivered, which was there `since`.

    Events that were published before that are counted as well: metrics don't tell them apart.
    """
    span = counts.Span(counts.full_minute(since), counts.full_minute(run.api.clock.now()))
    pushes = counts.acknowledged_pushes(run.api, run.place, name, span)
    if not pushes.is_measured:
        return f"How many events both {name} and its successor delivered is not measured yet."
    number = pushes.within(span)
    return f"Both {name} and its successor delivered {number} events, as measured until some minutes ago."


def retire_consume(run: Deployment) -> None:
    """With inline delivery, drain and delete the subscriptions, then delete `consume`, if the user agrees.

    Nothing is published any more, so they are not needed. The service accounts of `consume` and of the pushes
    are deleted with it.
    """
    unneeded = orphans(run)
    name = run.place.called(CONSUME)
    present = ("function", name) in run.state.found
    if not unneeded and not present:
        return
    question = f"With inline delivery nobody needs {name} and its subscriptions any more. Remove them?"
    if not may_remove(run, question):
        return
    if unneeded:
        retire(run, unneeded)
    if present:
        run.remove("function", name)
    run.state.found.pop(("service", name), None)
    _remove_accounts(run, (CONSUME, "push"))


def _remove_accounts(run: Deployment, roles: Sequence[str]) -> None:
    """Revoke the roles of service accounts, then delete the accounts.

    Policies would list the deleted accounts for ever otherwise.
    """
    members = [run.place.member(role) for role in roles]
    targets = [target for target, policy in run.state.policies.items() if _names(policy, members)]
    run.api.together(partial(policies.withdraw, run.api, run.place, target, members) for target in targets)
    emails = [run.place.account(role) for role in roles]
    run.remove("account", *(email for email in emails if ("account", email) in run.state.found))


def _names(policy: Mapping[str, Any], members: Sequence[str]) -> bool:
    return any(set(members) & set(given.get("members", ())) for given in policy.get("bindings", ()))


def remove_elsewhere(run: Deployment, full_name: str) -> None:
    """Delete a function of this installation in another region, and wait until it is deleted."""
    run.tell(f"remove function {full_name}")
    operation = run.api.remove(f"{kinds.FUNCTIONS}/{full_name}")
    if operation:
        run.api.finished(kinds.FUNCTIONS, operation)
