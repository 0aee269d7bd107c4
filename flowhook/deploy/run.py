"""One run of a command: what is wanted, where, what is known to be there, and the ways to change that."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import groupby

from flowhook.deploy import (
    diff,
    kinds,
    ledger,
    plan,
    policies,
    project,
    state,
)
from flowhook.deploy.declared import Declared
from flowhook.deploy.diff import Change
from flowhook.deploy.errors import DeployError
from flowhook.deploy.options import Options
from flowhook.deploy.resources import Binding, Place, Plan
from flowhook.deploy.rest import Api
from flowhook.deploy.state import State
from flowhook.deploy.surroundings import Surroundings


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


def opened(options: Options, around: Surroundings) -> Deployment:
    """A run in the project that is meant, with the APIs that it has. Raises DeployError."""
    bootstrap = Api(around.login(), around.clock, around.tell)
    place = project.place(bootstrap, options, around.gcloud)
    apis = project.enabled(bootstrap, place)
    api = bootstrap.billed_to(place.project)
    return Deployment(options, around, api, place, state=State(apis))


def operating(options: Options, around: Surroundings) -> Deployment:
    """A run that knows what is there; with --emulator in the emulator, which has nothing but messages."""
    if options.emulator:
        api = Api(around.emulator(), around.clock, around.tell)
        return Deployment(options, around, api, Place(options.project, "", options.region, options.name))
    run = opened(options, around)
    run.state = state.read(run.api, run.place, run.state.apis)
    return run


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
