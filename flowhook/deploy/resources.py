"""The data that a plan consists of: resources, bindings, and where they are and what they are called."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

# The two functions; each has a service account of its own.
RECEIVE, CONSUME = "receive", "consume"
FUNCTIONS = (CONSUME, RECEIVE)
# Labels. The first is on everything that belongs to an installation: its value is the installation's name.
OURS = "flowhook"
# On a subscription that is paused: since when, in seconds since 1970.
PAUSED = "flowhook-paused"
# On a subscription that replaces another one: a time at which it existed, in seconds since 1970.
SINCE = "flowhook-since"
# The folder in which `receive` finds the webhook secret, and the name of the file.
SECRET_FOLDER, SECRET_FILE = "/secrets/webhook", "secret"


@dataclass(frozen=True)
class Place:
    """Where an installation is: the project's id and number, the region, and the installation's name.

    The ids of the installation's resources begin with its name.
    """

    project: str
    number: str
    region: str
    name: str

    def called(self, what: str) -> str:
        """Return the id of a resource of this installation."""
        return f"{self.name}-{what}"

    def account(self, role: str) -> str:
        """Return the email address of the installation's service account for a role."""
        return f"{self.called(role)}@{self.project}.iam.gserviceaccount.com"

    def member(self, role: str) -> str:
        """Return that service account as a member of policies."""
        return f"serviceAccount:{self.account(role)}"

    @property
    def agent(self) -> str:
        """Pub/Sub's service agent in this project, as a member of policies."""
        return f"serviceAccount:service-{self.number}@gcp-sa-pubsub.iam.gserviceaccount.com"

    @property
    def parent(self) -> str:
        """The full name of the location that regional resources belong to."""
        return f"projects/{self.project}/locations/{self.region}"

    def topic(self, what: str) -> str:
        """Return the full name of a topic of this installation."""
        return f"projects/{self.project}/topics/{self.called(what)}"

    @property
    def secret(self) -> str:
        """The id of the webhook secret."""
        return self.called("secret")

    def variable(self, name: str) -> str:
        """Return the id of the secret that holds the value of a handler's variable."""
        return self.called(f"variable-{name}")

    @property
    def repository(self) -> str:
        """The full name of the Artifact Registry repository for the functions' images."""
        return f"{self.parent}/repositories/{self.name}"


@dataclass(frozen=True)
class Resource:
    """A resource that should exist: its kind, its id, and the fields that Google should report of it.

    A field that `wanted` doesn't name may have any value; one that is empty in it must be empty or missing.
    """

    kind: str
    name: str
    wanted: Mapping[str, Any] = field(default_factory=dict)

    @property
    def key(self) -> tuple[str, str]:
        """The kind and the id, which identify a resource within an installation."""
        return self.kind, self.name

    def __str__(self) -> str:
        return f"{self.kind} {self.name}"


@dataclass(frozen=True)
class Binding:
    """A role that a member should have on a resource; `condition` is a CEL expression, or empty."""

    kind: str
    name: str
    role: str
    member: str
    condition: str = ""

    @property
    def target(self) -> tuple[str, str]:
        """The kind and the id of the resource in whose policy the binding is."""
        return self.kind, self.name

    def __str__(self) -> str:
        return f"{self.role} on {self.name}: {self.member}"


@dataclass(frozen=True)
class Plan:
    """The resources and bindings that should exist, in the order in which they are created."""

    resources: tuple[Resource, ...]
    bindings: tuple[Binding, ...]

    def of(self, *kinds: str) -> tuple[Resource, ...]:
        """Return the resources of some kinds, in the plan's order."""
        return tuple(resource for resource in self.resources if resource.kind in kinds)

    def names(self, kind: str) -> set[str]:
        """Return the ids of the resources of a kind."""
        return {resource.name for resource in self.of(kind)}
