"""The state of an installation: which of its resources exist in the project.

It is read once, all kinds at the same time; each function that changes a resource updates it.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial

from flowhook.deploy import kinds, policies, secrets
from flowhook.deploy.errors import DeployError
from flowhook.deploy.kinds import FUNCTIONS, KINDS
from flowhook.deploy.plan import Facts, handler_of
from flowhook.deploy.resources import CONSUME, OURS, PAUSED, Place, Plan
from flowhook.deploy.rest import Api, Document

# The kind and the id of a resource.
Key = tuple[str, str]


@dataclass
class State:
    """What exists in the project.

    `apis` are the host names of the enabled APIs. `found` and `policies` have the documents of resources and
    their policies. `versions` has the number of the newest enabled version of each secret.
    """

    apis: frozenset[str] = frozenset()
    found: dict[Key, Document] = field(default_factory=dict)
    policies: dict[Key, Document] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    # The full names of the functions of this installation in other regions.
    elsewhere: tuple[str, ...] = ()

    def of(self, kind: str) -> dict[str, Document]:
        """Return the resources of a kind, by id."""
        return {name: document for (found, name), document in self.found.items() if found == kind}

    def ours(self, kind: str, place: Place) -> dict[str, Document]:
        """Return the resources of a kind that have the installation's label, by id."""
        return {name: document for name, document in self.of(kind).items() if labelled(document, place)}

    def facts(self, place: Place) -> Facts:
        """Return what a plan depends on: URLs, versions, subscriptions, paused handlers and channels."""
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
    """Return whether a resource has the label of this installation."""
    for name in ("labels", "userLabels"):
        labels = document.get(name)
        if isinstance(labels, Mapping) and labels.get(OURS) == place.name:
            return True
    return False


def read(api: Api, place: Place, apis: frozenset[str]) -> State:
    """Return the state, but for the policies. Raises DeployError where something can't be read.

    A resource that can't be read must not be taken for missing. An API that is not enabled has no resources.
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
    """Return whether an API is enabled; `service` is its host name without `.googleapis.com`."""
    return f"{service}.googleapis.com" in apis


def read_policies(api: Api, place: Place, state: State, plan: Plan) -> None:
    """Read the policies of all existing resources on which the plan has bindings."""
    targets = {binding.target for binding in plan.bindings}
    read_these(api, place, state, targets)


def read_these(api: Api, place: Place, state: State, targets: Iterable[Key]) -> None:
    """Read the policies of those of some resources that exist."""
    present = [target for target in targets if _is_there(state, target)]
    found = api.together(partial(policies.read, api, place, target) for target in present)
    state.policies.update(zip(present, found, strict=True))


def _is_there(state: State, target: Key) -> bool:
    kind, _ = target
    return enabled(state.apis, "cloudresourcemanager") if kind == "project" else target in state.found


def _check_region(api: Api, place: Place, apis: frozenset[str]) -> None:
    """Raise DeployError where the region has no Cloud Functions.

    A request to such a region is answered as if the user lacked a permission, which would mislead.
    """
    if enabled(apis, "cloudfunctions"):
        url = f"{FUNCTIONS}/projects/{place.project}/locations"
        regions = sorted(location["locationId"] for location in api.pages(url, "locations"))
        if place.region not in regions:
            raise DeployError(
                f"--region {place.region} has no Cloud Functions; choose one of: {' '.join(regions)}"
            )


def _elsewhere(api: Api, place: Place, apis: frozenset[str]) -> tuple[str, ...]:
    """Return the full names of the installation's functions in other regions.

    Regions that Google can't reach at the moment are left out.
    """
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
    """Read the number of the newest enabled version of each secret of the installation."""
    names = [name for name in state.of("secret") if name == place.secret]
    names += variable_secrets(state, place)
    found = api.together(partial(secrets.enabled, api, place, name) for name in names)
    state.versions = {name: numbers[0] for name, numbers in zip(names, found, strict=True) if numbers}


def variable_secrets(state: State, place: Place) -> list[str]:
    """Return the ids of the secrets that hold the values of handlers' variables."""
    prefix = place.variable("")
    labelled_ours = state.ours("secret", place)
    return [name for name in labelled_ours if name.startswith(prefix) and name.removeprefix(prefix).isupper()]
