"""What a deployment is made of, as data: where it is, what it is called, and how each thing should be."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

# The functions, each of which acts as an account of its own.
RECEIVE, CONSUME = "receive", "consume"
FUNCTIONS = (CONSUME, RECEIVE)
OURS = "flowhook"  # the label whose value is the name of the installation
PAUSED = "flowhook-paused"  # since when, in seconds since 1970
SINCE = "flowhook-since"  # by when a subscription existed, in seconds since 1970
SECRET_FOLDER, SECRET_FILE = "/secrets/webhook", "secret"


@dataclass(frozen=True)
class Place:
    """A project, a region in it, and the name that everything of an installation begins with."""

    project: str
    number: str
    region: str
    name: str

    def called(self, what: str) -> str:
        """The id of something of this installation."""
        return f"{self.name}-{what}"

    def account(self, role: str) -> str:
        """The address of a service account of ours."""
        return f"{self.called(role)}@{self.project}.iam.gserviceaccount.com"

    def member(self, role: str) -> str:
        """The same as a policy names it."""
        return f"serviceAccount:{self.account(role)}"

    @property
    def agent(self) -> str:
        """Pub/Sub's own service account, as a policy names it."""
        return f"serviceAccount:service-{self.number}@gcp-sa-pubsub.iam.gserviceaccount.com"

    @property
    def parent(self) -> str:
        """What regional resources lie in."""
        return f"projects/{self.project}/locations/{self.region}"

    def topic(self, what: str) -> str:
        """The full name of a topic of ours."""
        return f"projects/{self.project}/topics/{self.called(what)}"

    @property
    def secret(self) -> str:
        """The id of the webhook secret."""
        return self.called("secret")

    def variable(self, name: str) -> str:
        """The id of the secret that holds the value of a handlers' variable."""
        return self.called(f"variable-{name}")

    @property
    def repository(self) -> str:
        """The full name of the repository for our images."""
        return f"{self.parent}/repositories/{self.name}"


@dataclass(frozen=True)
class Resource:
    """Something that should exist: of a kind, with an id, and with these fields of Google's.

    Fields that are not named here are nobody's business; one that is named with an empty value must be empty.
    """

    kind: str
    name: str
    wanted: Mapping[str, Any] = field(default_factory=dict)

    @property
    def key(self) -> tuple[str, str]:
        """What tells it from every other one."""
        return self.kind, self.name

    def __str__(self) -> str:
        return f"{self.kind} {self.name}"


@dataclass(frozen=True)
class Binding:
    """A member that should have a role on a resource; `condition` is an expression of Google's, or empty."""

    kind: str
    name: str
    role: str
    member: str
    condition: str = ""

    @property
    def target(self) -> tuple[str, str]:
        """The resource whose policy says so."""
        return self.kind, self.name

    def __str__(self) -> str:
        return f"{self.role} on {self.name}: {self.member}"


@dataclass(frozen=True)
class Plan:
    """What should exist, in the order in which it is made."""

    resources: tuple[Resource, ...]
    bindings: tuple[Binding, ...]

    def of(self, *kinds: str) -> tuple[Resource, ...]:
        """The resources of some kinds, in order."""
        return tuple(resource for resource in self.resources if resource.kind in kinds)

    def names(self, kind: str) -> set[str]:
        """The ids of one kind."""
        return {resource.name for resource in self.of(kind)}
