"""Compares a plan with what exists: which resources to create or change, and which bindings to grant."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from flowhook.deploy.resources import Binding, Plan, Resource

Action = Literal["create", "change", "remove"]
Found = Mapping[tuple[str, str], Mapping[str, Any]]

# Objects that may have no other keys than the planned ones; any other object may.
EXACT = frozenset({"environmentVariables"})
# Keys that Cloud Functions adds to such objects by itself.
ADDED = frozenset({"LOG_EXECUTION_ID"})
# Fields of a function that are not compared: a rotation changes the mounted secret in the Cloud Run service
# alone, so the plan has it as a field of the service, too.
NOT_COMPARED = frozenset({"secretVolumes"})


@dataclass(frozen=True)
class Change:
    """A resource to create, change or remove; `paths` are the top-level fields that differ."""

    action: Action
    resource: Resource
    paths: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.action} {self.resource}{': ' if self.paths else ''}{', '.join(self.paths)}"


@dataclass(frozen=True)
class Grant:
    """A binding to grant."""

    binding: Binding

    def __str__(self) -> str:
        return f"grant {self.binding}"


def changes(plan: Plan, found: Found) -> Iterator[Change]:
    """Yield the resources to create and to change, in the plan's order."""
    for resource in plan.resources:
        present = found.get(resource.key)
        if present is None:
            yield Change("create", resource)
        elif paths := tuple(differing(resource.wanted, present)):
            yield Change("change", resource, paths)


def grants(plan: Plan, policies: Mapping[tuple[str, str], Mapping[str, Any]]) -> Iterator[Grant]:
    """Yield the bindings to grant: those that a policy lacks, or has beside a deleted account of that name.

    The policy of a resource that doesn't exist yet is taken as empty.
    """
    for binding in plan.bindings:
        policy = policies.get(binding.target, {})
        if not holds(policy, binding) or stale(policy, binding):
            yield Grant(binding)


def stale(policy: Mapping[str, Any], binding: Binding) -> list[str]:
    """Return the members of a policy that are deleted accounts of the same name as the binding's member.

    Google leaves them in the policy for ever, as `deleted:MEMBER?uid=…`.
    """
    members = [m for given in policy.get("bindings", ()) for m in given.get("members", ())]
    return [member for member in members if member.startswith(f"deleted:{binding.member}?")]


def holds(policy: Mapping[str, Any], binding: Binding) -> bool:
    """Return whether a policy contains a binding, under exactly the binding's condition."""
    return any(
        is_same(given, binding) and binding.member in given.get("members", ()) for given in _given(policy)
    )


def is_same(given: Mapping[str, Any], binding: Binding) -> bool:
    """Return whether `given`, from a policy, has the same role and the same condition as a binding."""
    return given["role"] == binding.role and _expression(given) == binding.condition


def _expression(given: Mapping[str, Any]) -> str:
    return str((given.get("condition") or {}).get("expression", ""))


def _given(policy: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    found: Sequence[Mapping[str, Any]] = policy.get("bindings", ())
    return found


def differing(wanted: Mapping[str, Any], present: Mapping[str, Any]) -> Iterator[str]:
    """Yield the names of the top-level fields whose value differs from the wanted one."""
    for name, value in wanted.items():
        if not _same(name, value, present.get(name)):
            yield name


def _same(name: str, wanted: Any, present: Any) -> bool:
    # An empty value and a missing one are the same: Google omits fields that are empty.
    if not wanted or not present:
        return not wanted and not present
    if isinstance(wanted, Mapping):
        if not isinstance(present, Mapping) or (name in EXACT and set(present) - ADDED != set(wanted)):
            return False
        compared = {key: value for key, value in wanted.items() if key not in NOT_COMPARED}
        return all(_same(key, value, present.get(key)) for key, value in compared.items())
    if isinstance(wanted, Sequence) and not isinstance(wanted, str):
        return len(wanted) == len(present) and all(map(_same, [name] * len(wanted), wanted, present))
    return bool(wanted == present)
