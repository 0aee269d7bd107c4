"""What exists: read once, all kinds at once, and kept up to date by whoever changes something."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial

from flowhook.deploy import kinds, policies, secrets
from flowhook.deploy.errors import DeployError
from flowhook.deploy.kinds import FUNCTIONS, KINDS
from flowhook.deploy.plan import Facts, handler_of
from flowhook.deploy.resources import CONSUME, OURS, PAUSED, Place, Plan
from flowhook.deploy.rest import Api, Document

Key = tuple[str, str]


@dataclass
class State:
    """Documents by kind and id, policies by kind and id, numbers of secret versions by secret."""

    apis: frozenset[str] = frozenset()
    found: dict[Key, Document] = field(default_factory=dict)
    policies: dict[Key, Document] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    # Functions of ours in other regions, by full name.
    elsewhere: tuple[str, ...] = ()

    def of(self, kind: str) -> dict[str, Document]:
        """What is there of a kind, by id."""
        return {name: document for (found, name), document in self.found.items() if found == kind}

    def ours(self, kind: str, place: Place) -> dict[str, Document]:
        """The same, of this installation: by label."""
        return {name: document for name, document in self.of(kind).items() if labelled(document, place)}

    def facts(self, place: Place) -> Facts:
        """What a plan takes from it."""
        pushed = self.ours("subscription", place)
        consume = self.found.get(("function", place.called(CONSUME)), {})
        channels = {email: document["name"] for email, document in self.ours("channel", place).items()}
        return Facts(
            consume_url=consume.get("serviceConfig", {}).get("uri", ""),
            versions=dict(self.versions),
            present=frozenset((name, s["topic"], s.get("filter", "")) for name, s in pushed.items()),
            paused={
                handler_of(place, name): s["labels"][PAUSED]
                for name, s in pushed.items()
                if PAUSED in s["labels"]
            },
            channels=channels,
        )


def labelled(document: Mapping[str, object], place: Place) -> bool:
    """Whether something carries the label of this installation, and no neighbour's."""
    for name in ("labels", "userLabels"):
        labels = document.get(name)
        if isinstance(labels, Mapping) and labels.get(OURS) == place.name:
            return True
    return False


def read(api: Api, place: Place, apis: frozenset[str]) -> State:
    """Everything that concerns the installation. Raises DeployError where something can't be read.

    What can't be read must not be taken for missing. An API that is not enabled has nothing.
    """
    state = State(apis)
    wanted = [kind for kind, row in KINDS.items() if enabled(apis, row.service)]
    _check_region(api, place, apis)
    lists = api.together(partial(kinds.every, api, place, kind) for kind in wanted)
    for kind, found in zip(wanted, lists, strict=True):
        state.found.update({(kind, name): document for name, document in found.items()})
    state.elsewhere = _elsewhere(api, place, apis)
    _read_versions(api, place, state)
    return state


def enabled(apis: frozenset[str], service: str) -> bool:
    """Whether an API is."""
    return f"{service}.googleapis.com" in apis


def read_policies(api: Api, place: Place, state: State, plan: Plan) -> None:
    """The policies that the plan's bindings belong to, of what is there."""
    targets = {binding.target for binding in plan.bindings}
    read_these(api, place, state, targets)


def read_these(api: Api, place: Place, state: State, targets: Iterable[Key]) -> None:
    """The policies of some resources, of those that are there."""
    present = [target for target in targets if _is_there(state, target)]
    found = api.together(partial(policies.read, api, place, target) for target in present)
    state.policies.update(zip(present, found, strict=True))


def _is_there(state: State, target: Key) -> bool:
    kind, _ = target
    return enabled(state.apis, "cloudresourcemanager") if kind == "project" else target in state.found


def _check_region(api: Api, place: Place, apis: frozenset[str]) -> None:
    """A region without functions answers as if it were forbidden, so it is looked up. Raises DeployError."""
    if enabled(apis, "cloudfunctions"):
        url = f"{FUNCTIONS}/projects/{place.project}/locations"
        regions = sorted(location["locationId"] for location in api.pages(url, "locations"))
        if place.region not in regions:
            raise DeployError(
                f"--region {place.region} has no Cloud Functions; choose one of: {' '.join(regions)}"
            )


def _elsewhere(api: Api, place: Place, apis: frozenset[str]) -> tuple[str, ...]:
    """Functions of this installation in other regions, as far as those can be reached now."""
    if not enabled(apis, "cloudfunctions"):
        return ()
    url = f"{FUNCTIONS}/projects/{place.project}/locations/-/functions"
    found = api.pages(url, "functions", tolerant=True)
    return tuple(
        document["name"]
        for document in found
        if labelled(document, place) and not document["name"].startswith(f"{place.parent}/")
    )


def _read_versions(api: Api, place: Place, state: State) -> None:
    names = [name for name in state.of("secret") if name == place.secret]
    names += variable_secrets(state, place)
    found = api.together(partial(secrets.enabled, api, place, name) for name in names)
    state.versions = {name: numbers[0] for name, numbers in zip(names, found, strict=True) if numbers}


def variable_secrets(state: State, place: Place) -> list[str]:
    """The secrets that hold values of handlers' variables of this installation."""
    prefix = place.variable("")
    labelled_ours = state.ours("secret", place)
    return [name for name in labelled_ours if name.startswith(prefix) and name.removeprefix(prefix).isupper()]
