"""One run of a command: its options, where it acts, what exists there, and the operations that change it."""

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
    """One run of a command. `state` is what exists; each operation here keeps it up to date."""

    options: Options
    around: Surroundings
    api: Api
    place: Place
    handlers: tuple[Declared, ...] = ()
    state: State = field(default_factory=State)
    # Whether this run has changed anything, which may not have taken effect everywhere yet.
    changed: bool = False
    # Whether this run deploys `receive` to this region for the first time.
    is_new_here: bool = False
    # When the build's service account was granted its roles, in seconds since 1970; 0 if not in this run.
    granted_at: float = 0.0

    def plan(self) -> Plan:
        """Return the plan, according to the options, the handlers and the present state."""
        return plan.make(self.options, self.place, self.handlers, self.state.facts(self.place))

    def read(self) -> None:
        """Read the resources and policies that exist into `state`. Raises DeployError."""
        self.state = state.read(self.api, self.place, self.state.apis)
        state.read_policies(self.api, self.place, self.state, self.plan())

    def missing_apis(self) -> list[str]:
        """Return the host names of the APIs that are needed but not enabled."""
        needs_database = ledger.is_needed(self.options, self.handlers)
        return project.missing(self.state.apis, *(("firestore",) if needs_database else ()))

    def tell(self, text: object) -> None:
        """Show the user a line about the progress."""
        self.around.tell(str(text))

    # --- resources ---

    def apply(self, *wanted: str, but: Iterable[str] = ()) -> None:
        """Create and update planned resources of some kinds, concurrently, but for the fields in `but`."""
        self.do(change for change in self.changes(but) if change.resource.kind in wanted)

    def changes(self, but: Iterable[str] = ()) -> Iterator[Change]:
        """Yield the resources to create and to change; the fields in `but` are left as they are."""
        for change in diff.changes(self.plan(), self.state.found):
            paths = tuple(path for path in change.paths if path not in but)
            if change.action == "create" or paths:
                yield Change(change.action, change.resource, paths)

    def do(self, changes: Iterable[Change]) -> None:
        """Carry out some changes, concurrently."""
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
        """Delete resources of a kind, concurrently."""
        self.changed |= bool(names)
        self.api.together(partial(self._remove, kind, name) for name in names)

    def _remove(self, kind: str, name: str) -> None:
        self.tell(f"remove {kind} {name}")
        present = self.state.found.pop((kind, name))
        kinds.remove(self.api, self.place, kind, name, present)
        self.state.policies.pop((kind, name), None)

    def allow(self, *wanted: str) -> None:
        """Grant the planned bindings on resources of some kinds that policies lack."""
        todo = [grant.binding for grant in diff.grants(self.plan(), self.state.policies)]
        todo = [binding for binding in todo if binding.kind in wanted]
        self.allow_these(todo)

    def allow_these(self, bindings: Sequence[Binding]) -> None:
        """Grant bindings, with one change of each resource's policy."""
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
    """Return a run in the options' project, whose state has only the enabled APIs. Raises DeployError."""
    bootstrap = Api(around.login(), around.clock, around.tell)
    place = project.place(bootstrap, options, around.gcloud)
    apis = project.enabled(bootstrap, place)
    api = bootstrap.billed_to(place.project)
    return Deployment(options, around, api, place, state=State(apis))


def operating(options: Options, around: Surroundings) -> Deployment:
    """Return a run that has read which resources exist. Raises DeployError.

    With --emulator it uses the Pub/Sub emulator, which has messages only, so there is no state to read.
    """
    if options.emulator:
        api = Api(around.emulator(), around.clock, around.tell)
        return Deployment(options, around, api, Place(options.project, "", options.region, options.name))
    run = opened(options, around)
    run.state = state.read(run.api, run.place, run.state.apis)
    return run


def agreed(run: Deployment, question: str) -> None:
    """Ask the user to confirm, unless --yes is given. Raises DeployError where nobody says yes."""
    if run.options.yes:
        return
    answer = run.around.ask(question)
    if answer is None:
        raise DeployError(f"{question} Nobody is there to ask: give --yes")
    if not answer:
        raise DeployError("stopped; nothing has been changed")


def may_remove(run: Deployment, question: str) -> bool:
    """Return whether something may be removed: --prune is given, or the user says yes."""
    if run.options.prune:
        return True
    answer = run.around.ask(question)
    if answer is None:
        run.tell(f"{question} Kept; --prune says yes.")
    return bool(answer)
