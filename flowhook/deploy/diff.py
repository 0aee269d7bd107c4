"""What differs between what should be and what is."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from flowhook.deploy.resources import Binding, Plan, Resource

Action = Literal["create", "change", "remove"]
Found = Mapping[tuple[str, str], Mapping[str, Any]]

# Of these nothing more may be there than is wanted.
EXACT = frozenset({"environmentVariables"})
# What Cloud Functions adds to them by itself.
ADDED = frozenset({"LOG_EXECUTION_ID"})
# What a function is only made with: a rotation changes it in the function's service, which says what is so.
MADE_WITH = frozenset({"secretVolumes"})


@dataclass(frozen=True)
class Change:
    """One thing to do; `paths` are the fields that differ, at their top."""

    action: Action
    resource: Resource
    paths: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.action} {self.resource}{': ' if self.paths else ''}{', '.join(self.paths)}"


@dataclass(frozen=True)
class Grant:
    """A binding to give."""

    binding: Binding

    def __str__(self) -> str:
        return f"grant {self.binding}"


def changes(plan: Plan, found: Found) -> Iterator[Change]:
    """What to make and what to change, in the plan's order."""
    for resource in plan.resources:
        present = found.get(resource.key)
        if present is None:
            yield Change("create", resource)
        elif paths := tuple(differing(resource.wanted, present)):
            yield Change("change", resource, paths)


def grants(plan: Plan, policies: Mapping[tuple[str, str], Mapping[str, Any]]) -> Iterator[Grant]:
    """What to allow; the policy of what isn't there yet allows nothing."""
    for binding in plan.bindings:
        policy = policies.get(binding.target, {})
        if not holds(policy, binding) or stale(policy, binding):
            yield Grant(binding)


def stale(policy: Mapping[str, Any], binding: Binding) -> list[str]:
    """The traces in a policy of an account of the same name that was deleted, which Google keeps for ever."""
    members = [m for given in policy.get("bindings", ()) for m in given.get("members", ())]
    return [member for member in members if member.startswith(f"deleted:{binding.member}?")]


def holds(policy: Mapping[str, Any], binding: Binding) -> bool:
    """Whether a policy has a binding, under its own condition and no other."""
    return any(
        is_same(given, binding) and binding.member in given.get("members", ()) for given in _given(policy)
    )


def is_same(given: Mapping[str, Any], binding: Binding) -> bool:
    """Whether one of a policy's bindings is for the same role under the same condition."""
    return given["role"] == binding.role and _expression(given) == binding.condition


def _expression(given: Mapping[str, Any]) -> str:
    return str((given.get("condition") or {}).get("expression", ""))


def _given(policy: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    found: Sequence[Mapping[str, Any]] = policy.get("bindings", ())
    return found


def differing(wanted: Mapping[str, Any], present: Mapping[str, Any]) -> Iterator[str]:
    """The fields that are not as they are wanted."""
    for name, value in wanted.items():
        if not _same(name, value, present.get(name)):
            yield name


def _same(name: str, wanted: Any, present: Any) -> bool:
    if not wanted or not present:
        return not wanted and not present
    if isinstance(wanted, Mapping):
        if not isinstance(present, Mapping) or (name in EXACT and set(present) - ADDED != set(wanted)):
            return False
        compared = {key: value for key, value in wanted.items() if key not in MADE_WITH}
        return all(_same(key, value, present.get(key)) for key, value in compared.items())
    if isinstance(wanted, Sequence) and not isinstance(wanted, str):
        return len(wanted) == len(present) and all(map(_same, [name] * len(wanted), wanted, present))
    return bool(wanted == present)
