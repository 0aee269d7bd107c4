"""What goes: worked off first, then taken away, and never before what takes its place is there."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from flowhook.deploy import (
    drain,
    kinds,
    messages,
    plan,
    policies,
)
from flowhook.deploy.diff import Change
from flowhook.deploy.resources import CONSUME, SINCE, Resource
from flowhook.deploy.run import Deployment, may_remove

MINUTE = 60
# Seconds after which no doctor looks through a subscription of his any more.
LONGEST_VISIT = 60 * MINUTE


def label_successors(run: Deployment) -> None:
    """Note since when a subscription exists that takes another one's place.

    Only once it is there: what was published before may be in the old one alone.
    """
    now = str(int(run.api.clock.now()) + 1)
    for successor in superseded(run).values():
        present = run.state.found[successor.key]
        if SINCE not in present.get("labels", {}):
            dated = Resource(successor.kind, successor.name, {"labels": {SINCE: now}})
            run.do([Change("change", dated, ("labels",))])


def superseded(run: Deployment) -> dict[str, Resource]:
    """The subscriptions of handlers that have another one now, each with that one."""
    planned = {plan.handler_of(run.place, r.name): r for r in run.plan().of("subscription")}
    return {
        name: planned[handler]
        for name in run.state.ours("subscription", run.place)
        if (handler := plan.handler_of(run.place, name)) and handler in planned
        if name != planned[handler].name
    }


def orphans(run: Deployment) -> list[str]:
    """The subscriptions of handlers that are no more, and that of replays where there are none."""
    names = run.plan().names("subscription")
    planned = {plan.handler_of(run.place, name) for name in names}
    pushed = [n for n in run.state.ours("subscription", run.place) if plan.is_pushed(run.place, n)]
    return sorted(n for n in pushed if n not in names and plan.handler_of(run.place, n) not in planned - {""})


def retire_handlers(run: Deployment) -> None:
    """Let handlers that go away work off what they have, then take their subscriptions away."""
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
    """Have a subscription push no more: nobody is there to take it, and attempts would be used up."""
    drain.stop_pushing(run.api, run.place, name)
    run.state.found["subscription", name]["pushConfig"] = {}


def retire(run: Deployment, names: Sequence[str]) -> None:
    """Wait a while, move what is left to the dead letters, and remove the subscriptions."""
    now, found = run.api.clock.now(), run.state.found
    pushing = {name: now for name in names if found["subscription", name].get("pushConfig")}
    held = {name: now for name in names if name not in pushing}
    done = drain.wait(run.api, run.place, held, 0)
    if pushing:
        minutes = run.options.drain_minutes
        run.tell(f"Waiting up to {minutes:g} minutes until {drain.listed(pushing)} are worked off.")
        done |= drain.wait(run.api, run.place, pushing, minutes * MINUTE)
    run.changed = True
    run.api.together(partial(_move_left_over, run, name, name in done) for name in names)
    run.remove("subscription", *names)


def _move_left_over(run: Deployment, name: str, done: bool) -> None:
    """Move what is left. Unless all is done, something may fail and come again only after a pause."""
    subscription = run.state.found["subscription", name]
    quiet = float(subscription.get("ackDeadlineSeconds", 10))
    stop_pushing(run, name)
    if not done:
        quiet = max(quiet, drain.longest_pause(subscription))
        run.tell(f"Looking for up to {quiet / MINUTE:.0f} minutes for what {name} has not worked off.")
    if moved := drain.move_to_dead_letters(run.api, run.place, name, quiet):
        run.tell(f"{moved} messages of {name} are in {run.place.called('dead-letters')} now.")


def remove_unplanned(run: Deployment) -> None:
    """Remove what nobody plans any more, last, when what takes its place is there."""
    if run.options.pubsub:
        remove_superseded(run)
    else:
        retire_consume(run)
    for kind in ("alert", "channel"):
        run.remove(kind, *unplanned(run, kind))
    run.remove("subscription", *(name for name in unplanned(run, "subscription") if is_litter(run, name)))
    if run.state.elsewhere:
        leave_other_regions(run)


def leave_other_regions(run: Deployment) -> None:
    """Remove the functions in other regions, but not while Flows can't know the address of the new ones."""
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


def is_litter(run: Deployment, name: str) -> bool:
    """Whether a subscription is of no use to anybody.

    One is that of the events topic which nobody read: the topic itself retains now. Others are what a doctor
    that died has left.
    """
    tapped_at = run.state.found["subscription", name].get("labels", {}).get(messages.TAP)
    if tapped_at is not None:
        return run.api.clock.now() - float(tapped_at) > LONGEST_VISIT
    return name == run.place.called("events")


def unplanned(run: Deployment, kind: str) -> list[str]:
    """What is ours by its label, and in no plan."""
    return sorted(set(run.state.ours(kind, run.place)) - run.plan().names(kind))


def remove_superseded(run: Deployment) -> None:
    """Remove a handler's old subscription once all that is left of it is in the new one too."""
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
    run.remove("subscription", *sorted(done))
    if left := set(since) - done:
        run.tell(f"{drain.listed(left)} are not worked off yet, and stay: the next deployment removes them.")


def retire_consume(run: Deployment) -> None:
    """With inline delivery nothing is published any more: what still waits is worked off, then all goes."""
    gone = orphans(run)
    name = run.place.called(CONSUME)
    present = ("function", name) in run.state.found
    if not gone and not present:
        return
    question = f"With inline delivery nobody needs {name} and its subscriptions any more. Remove them?"
    if not may_remove(run, question):
        return
    if gone:
        retire(run, gone)
    if present:
        run.remove("function", name)
    run.state.found.pop(("service", name), None)
    _remove_accounts(run, (CONSUME, "push"))


def _remove_accounts(run: Deployment, roles: Sequence[str]) -> None:
    """What an account may do goes before it, or policies keep a trace of it."""
    members = [run.place.member(role) for role in roles]
    held = [target for target, policy in run.state.policies.items() if _names(policy, members)]
    run.api.together(partial(policies.withdraw, run.api, run.place, target, members) for target in held)
    emails = [run.place.account(role) for role in roles]
    run.remove("account", *(email for email in emails if ("account", email) in run.state.found))


def _names(policy: Mapping[str, Any], members: Sequence[str]) -> bool:
    return any(set(members) & set(given.get("members", ())) for given in policy.get("bindings", ()))


def remove_elsewhere(run: Deployment, full_name: str) -> None:
    """Remove a function of ours in another region, by its full name."""
    run.tell(f"remove function {full_name}")
    operation = run.api.remove(f"{kinds.FUNCTIONS}/{full_name}")
    if operation:
        run.api.finished(kinds.FUNCTIONS, operation)
