"""The rows that `status` prints: what is as planned, missing or different, and who has access unplanned."""

from collections.abc import Iterator

from flowhook.deploy import diff
from flowhook.deploy.resources import CONSUME, Binding, Place, Plan
from flowhook.deploy.state import State
from flowhook.deploy.surroundings import Row

# Roles that show a resource, but neither invoke a service nor read the value of a secret.
VIEWER_ROLES = frozenset({"roles/run.viewer", "roles/secretmanager.viewer"})


def rows(plan: Plan, state: State, place: Place) -> Iterator[Row]:
    """Yield a row for each planned resource, planned binding, unplanned binding and function elsewhere."""
    for resource in plan.resources:
        present = state.found.get(resource.key)
        wrong = list(diff.differing(resource.wanted, present)) if present is not None else []
        seen = f"differs: {', '.join(wrong)}" if wrong else "ok"
        yield _row(str(resource), seen if present is not None else "missing")
    for binding in plan.bindings:
        policy = state.policies.get(binding.target, {})
        kept = "holds a deleted account" if diff.stale(policy, binding) else "ok"
        yield _row(str(binding), kept if diff.holds(policy, binding) else "missing")
    for binding in unexpected(plan, state, place):
        yield _row(str(binding), "unexpected")
    for name in state.elsewhere:
        # This is not an error: Flows may still send its events there.
        yield Row(f"function {name}", True, "in another region; --prune removes it")


def unexpected(plan: Plan, state: State, place: Place) -> Iterator[Binding]:
    """Yield the bindings that let an unplanned member read a planned secret or invoke `consume`."""
    guarded = [("secret", resource.name) for resource in plan.of("secret")]
    guarded += [key for key in state.policies if key == ("service", place.called(CONSUME))]
    for kind, name in guarded:
        for given in state.policies.get((kind, name), {}).get("bindings", ()):
            for member in given.get("members", ()):
                binding = Binding(kind, name, given["role"], member)
                harmless = binding.role in VIEWER_ROLES or member.startswith("deleted:")
                if binding not in plan.bindings and not harmless:
                    yield binding


def _row(what: str, seen: str) -> Row:
    return Row(what, seen == "ok", seen)
