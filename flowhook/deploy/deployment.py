"""A deployment, from the plan to what is there, in the order that loses nothing.

What goes away is worked off while the old `consume` still knows it; then `consume`; who may call it; what is
pushed to it, once a push has been seen to arrive; then `receive`; and last, what is no longer planned.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import groupby
from typing import Any

from flowhook.deploy import (
    declared,
    diff,
    drain,
    functions,
    kinds,
    ledger,
    lock,
    messages,
    plan,
    policies,
    probing,
    project,
    secrets,
    services,
    source,
    state,
)
from flowhook.deploy.declared import Declared
from flowhook.deploy.diff import Change
from flowhook.deploy.errors import DeployError, Refusal
from flowhook.deploy.options import Options
from flowhook.deploy.resources import CONSUME, RECEIVE, SINCE, Binding, Place, Plan, Resource
from flowhook.deploy.rest import Api
from flowhook.deploy.state import State
from flowhook.deploy.surroundings import Surroundings

MINUTE = 60
# https://cloud.google.com/pubsub/docs/reference/rest/v1/projects.subscriptions#Subscription
DELETED_TOPIC = "_deleted-topic_"
# Seconds after which no doctor looks through a subscription of his any more.
LONGEST_VISIT = 60 * MINUTE


@dataclass
class Deployment:
    """One run: what is wanted, where, and what is known to be there by now."""

    options: Options
    around: Surroundings
    api: Api
    place: Place
    handlers: tuple[Declared, ...] = ()
    state: State = field(default_factory=State)
    # Whether anything has been changed: then what follows may not be so everywhere yet.
    changed: bool = False
    # Whether `receive` was not in this region before.
    is_new_here: bool = False
    # When the account that builds was given its rights, if it was in this run.
    granted_at: float = 0.0

    def plan(self) -> Plan:
        """What should be there, by what is known now."""
        return plan.make(self.options, self.place, self.handlers, self.state.facts(self.place))

    def read(self) -> None:
        """Read what is there. Raises DeployError."""
        self.state = state.read(self.api, self.place, self.state.apis)
        state.read_policies(self.api, self.place, self.state, self.plan())

    def missing_apis(self) -> list[str]:
        """What is still to be enabled."""
        needs_database = ledger.is_needed(self.options, self.handlers)
        return project.missing(self.state.apis, *(("firestore",) if needs_database else ()))

    def tell(self, text: object) -> None:
        """Say what is being done."""
        self.around.tell(str(text))

    # --- resources ---

    def apply(self, *wanted: str, but: Iterable[str] = ()) -> None:
        """Make and change what is planned of some kinds, all at once, except for some fields."""
        self.do(change for change in self.changes(but) if change.resource.kind in wanted)

    def changes(self, but: Iterable[str] = ()) -> Iterator[Change]:
        """What to make and what to change."""
        for change in diff.changes(self.plan(), self.state.found):
            paths = tuple(path for path in change.paths if path not in but)
            if change.action == "create" or paths:
                yield Change(change.action, change.resource, paths)

    def do(self, changes: Iterable[Change]) -> None:
        """Do some changes, all at once."""
        todo = list(changes)
        self.changed |= bool(todo)
        self.api.together(partial(self._do, change) for change in todo)

    def _do(self, change: Change) -> None:
        self.tell(change)
        resource = change.resource
        if change.action == "create":
            made = kinds.create(self.api, self.place, resource)
        else:
            made = kinds.change(self.api, resource, self.state.found[resource.key], change.paths)
        self.state.found[resource.key] = made

    def remove(self, kind: str, *names: str) -> None:
        """Remove some of a kind, all at once."""
        self.changed |= bool(names)
        self.api.together(partial(self._remove, kind, name) for name in names)

    def _remove(self, kind: str, name: str) -> None:
        self.tell(f"remove {kind} {name}")
        present = self.state.found.pop((kind, name))
        kinds.remove(self.api, self.place, kind, name, present)
        self.state.policies.pop((kind, name), None)

    def allow(self, *wanted: str) -> None:
        """Give the bindings that are planned on some kinds: those of one resource together."""
        todo = [grant.binding for grant in diff.grants(self.plan(), self.state.policies)]
        todo = [binding for binding in todo if binding.kind in wanted]
        self.allow_these(todo)

    def allow_these(self, bindings: Sequence[Binding]) -> None:
        """Give some bindings."""
        self.changed |= bool(bindings)
        by_target = groupby(sorted(bindings, key=lambda b: b.target), key=lambda b: b.target)
        self.api.together(partial(self._allow, target, list(given)) for target, given in by_target)

    def _allow(self, target: tuple[str, str], bindings: Sequence[Binding]) -> None:
        for binding in bindings:
            self.tell(f"grant {binding}")
        self.state.policies[target] = policies.allow(self.api, self.place, target, bindings)
        if any(binding.member == self.place.member("build") for binding in bindings):
            self.granted_at = self.api.clock.now()


# --- before any change -------------------------------------------------------------------------------------


def opened(options: Options, around: Surroundings) -> Deployment:
    """A run in the project that is meant, with the APIs that it has. Raises DeployError."""
    bootstrap = Api(around.login(), around.clock, around.tell)
    place = project.place(bootstrap, options, around.gcloud)
    apis = project.enabled(bootstrap, place)
    api = bootstrap.billed_to(place.project)
    return Deployment(options, around, api, place, state=State(apis))


def check(run: Deployment) -> None:
    """Look at the source and the project; what is wrong with them stops a deployment before it begins."""
    run.handlers = run.around.declared(run.around.folder)
    source.requirements(run.around.folder)
    ledger.check_package(run.options, run.handlers, run.around.folder)
    settings = plan.environment(run.options, run.place, CONSUME)
    run.around.check_source(run.around.folder, settings)
    project.check_billing(run.api.billed_to(""), run.place)


def check_topics(run: Deployment) -> None:
    """Raise DeployError where somebody has deleted a topic: its subscriptions never get another one.

    What still waits in them may be wanted, so a person decides.
    """
    ours = run.state.ours("subscription", run.place)
    if lost := sorted(name for name, found in ours.items() if found.get("topic") == DELETED_TOPIC):
        raise DeployError(
            f"the topic of {', '.join(lost)} has been deleted, and a subscription never gets another one. "
            "Look at what still waits there, then\n"
            f"gcloud pubsub subscriptions delete {' '.join(lost)} --project={run.place.project}\n"
            "and run this again"
        )


def agreed(run: Deployment, question: str) -> None:
    """Have somebody say yes before anything is changed. Raises DeployError where nobody does."""
    if run.options.yes:
        return
    answer = run.around.ask(question)
    if answer is None:
        raise DeployError(f"{question} Nobody is there to ask: give --yes")
    if not answer:
        raise DeployError("stopped; nothing has been changed")


def may_remove(run: Deployment, question: str) -> bool:
    """Whether somebody says so, or --prune did before."""
    if run.options.prune:
        return True
    answer = run.around.ask(question)
    if answer is None:
        run.tell(f"{question} Kept; --prune says yes.")
    return bool(answer)


# --- the story ---------------------------------------------------------------------------------------------


def enable_apis(run: Deployment) -> None:
    """Enable what is missing, and make sure of Pub/Sub's own account, each time."""
    bootstrap = run.api.billed_to("")
    if missing := run.missing_apis():
        run.tell(f"enable {', '.join(missing)}")
        project.enable(bootstrap, run.place, missing)
        run.changed = True
        run.state.apis = project.enabled(bootstrap, run.place) | set(missing)
    if run.options.pubsub:
        project.make_sure_of_the_agent(bootstrap, run.place)


def carry_out(run: Deployment, new_secret: bytes) -> None:
    """Make it so."""
    with lock.held(run.api, run.place, run.options.break_lock):
        run.read()
        run.is_new_here = ("function", run.place.called(RECEIVE)) not in run.state.found
        lay_foundations(run, new_secret)
        with source.staged(run.around.folder) as folder:
            if run.options.pubsub:
                retire_handlers(run)
                deploy_function(run, CONSUME, lambda command: run.around.gcloud(command, folder))
                run.allow_these(_missing(run, "service", CONSUME))
                start_pushing(run)
            deploy_function(run, RECEIVE, lambda command: run.around.gcloud(command, folder))
        let_everybody_in(run)
        run.apply("channel")
        run.apply("alert")
        clear_away(run)


def lay_foundations(run: Deployment, new_secret: bytes) -> None:
    """Everything but the functions. Subscriptions begin without pushing: what is published waits in them."""
    run.apply("account", "topic", "repository", "secret", "database")
    if ledger.is_needed(run.options, run.handlers):
        ledger.have_it_expire(run.api, run.place)
    store_secrets(run, new_secret)
    run.apply("subscription", but=("pushConfig",))
    date_successors(run)
    run.allow("account", "project", "repository", "secret", "topic", "subscription")


def store_secrets(run: Deployment, new_secret: bytes) -> None:
    """A version for each secret that has none, or another value than the env file gives."""
    versions, place = run.state.versions, run.place
    if place.secret not in versions:
        versions[place.secret] = secrets.add(run.api, place, place.secret, new_secret).number
        run.changed = True
        if not run.options.secret_file:
            show_secret(run, new_secret)
    names = {variable.name: place.variable(variable.name) for variable in secret_variables(run.handlers)}
    for secret, value in secrets.values(run.options, names).items():
        versions[secret] = secrets.add(run.api, place, secret, value).number


def secret_variables(handlers: Iterable[Declared]) -> list[declared.Variable]:
    """The handlers' variables that nobody may see."""
    return [v for handler in handlers for v in handler.variables or () if v.secret]


def show_secret(run: Deployment, secret: bytes) -> None:
    """Once, to a person or into a file that only its owner can read."""
    where = "In Flows: Settings > Integrations > Webhook settings > Secret."
    if run.around.on_a_terminal():
        run.around.show(f"\nThe secret, shown this once. {where}\n\n    {secret.decode()}\n")
        return
    path = run.around.folder / f".env.secret.{run.place.project}.{run.place.name}"
    path.unlink(missing_ok=True)
    path.touch(mode=0o600, exist_ok=False)
    path.write_bytes(secret + b"\n")
    run.tell(f"The secret is in {path}, for nobody watches; remove that file when Flows has it. {where}")


def date_successors(run: Deployment) -> None:
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
    """The subscriptions of handlers that are no more."""
    planned = {plan.handler_of(run.place, name) for name in run.plan().names("subscription")}
    found = {name: plan.handler_of(run.place, name) for name in run.state.ours("subscription", run.place)}
    return sorted(name for name, handler in found.items() if handler and handler not in planned)


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
    run.api.together(partial(hold, run, name) for name in pushing)


def hold(run: Deployment, name: str) -> None:
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
        run.tell(f"Waiting up to {minutes:g} minutes until {drain.names(pushing)} are worked off.")
        done |= drain.wait(run.api, run.place, pushing, minutes * MINUTE)
    run.changed = True
    run.api.together(partial(_bury, run, name, name in done) for name in names)
    run.remove("subscription", *names)


def _bury(run: Deployment, name: str, done: bool) -> None:
    """Move what is left. Unless all is done, something may fail and come again only after a pause."""
    subscription = run.state.found["subscription", name]
    quiet = float(subscription.get("ackDeadlineSeconds", 10))
    hold(run, name)
    if not done:
        quiet = max(quiet, drain.longest_pause(subscription))
        run.tell(f"Looking for up to {quiet / MINUTE:.0f} minutes for what {name} has not worked off.")
    if moved := drain.bury(run.api, run.place, name, quiet):
        run.tell(f"{moved} messages of {name} are in {run.place.called('dead-letters')} now.")


def deploy_function(run: Deployment, target: str, build: functions.Build) -> None:
    """Build and deploy one of the functions."""
    name = run.place.called(target)
    resource = next(r for r in run.plan().of("function") if r.name == name)
    run.tell(f"deploy {name} (some minutes)")
    run.state.found[resource.key] = functions.deploy(run.api, run.place, resource, build, run.granted_at)
    service = services.read(run.api, run.place, target)
    run.state.found["service", name] = services.described(service)
    state.read_these(run.api, run.place, run.state, [("service", name)])
    run.changed = True


def _missing(run: Deployment, kind: str, target: str) -> list[Binding]:
    grants = diff.grants(run.plan(), run.state.policies)
    return [grant.binding for grant in grants if grant.binding.target == (kind, run.place.called(target))]


def start_pushing(run: Deployment) -> None:
    """Push to `consume`: the doctor's event first, and the handlers' once that has been seen to arrive.

    A handler that is tried five times would else bury its first events while the grants spread.
    """
    waiting = [c for c in run.changes() if c.resource.kind == "subscription" and "pushConfig" in c.paths]
    if not waiting:
        return
    doctors = [c for c in waiting if plan.handler_of(run.place, c.resource.name) == plan.DOCTOR.name]
    run.do(doctors)
    probing.see_a_push(run.api, run.place)
    run.do(change for change in waiting if change not in doctors)


def let_everybody_in(run: Deployment) -> None:
    """Flows has no Google identity, so `receive` is open; written only where it differs.

    Raises DeployError where the organization forbids it.
    """
    name = run.place.called(RECEIVE)
    service = next(r for r in run.plan().of("service") if r.name == name)
    wanted = service.wanted["invokerIamDisabled"]
    if bool(run.state.found[service.key].get("invokerIamDisabled")) != wanted:
        run.tell(f"{'no check' if wanted else 'check'} of who calls {name}")
        changed = services.change(
            run.api, run.place, RECEIVE, "invokerIamDisabled", lambda _now: {"invokerIamDisabled": wanted}
        )
        run.state.found[service.key] = services.described(changed)
        run.changed = True
    try:
        run.allow_these(_missing(run, "service", RECEIVE))
    except Refusal as refusal:
        if refusal.status in (400, 412) and refusal.reason is None:
            raise DeployError(_forbidden(run, refusal)) from None
        raise


def _forbidden(run: Deployment, refusal: Refusal) -> str:
    return (
        f"{run.place.called(RECEIVE)} must be open to everybody, for Flows has no Google identity, and a "
        "policy of your organization forbids allUsers.\nGive --public no-check (PUBLIC=no-check in the env "
        f"file), which Google recommends for that, or let an administrator exempt project {run.place.project}"
        " from\n"
        f"{functions.ORGANIZATION}, and run this again.\n{refusal}"
    )


# --- what is no longer planned -----------------------------------------------------------------------------


def clear_away(run: Deployment) -> None:
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
        f"Waiting up to {minutes:g} minutes until {drain.names(since)} are worked off; their successors get "
        "the same events meanwhile, so some are handled twice."
    )
    done = drain.wait(run.api, run.place, since, minutes * MINUTE)
    run.remove("subscription", *sorted(done))
    if left := set(since) - done:
        run.tell(f"{drain.names(left)} are not worked off yet, and stay: the next deployment removes them.")


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
