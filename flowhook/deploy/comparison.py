"""What is there beside what should be, a line each; and what should not be there."""

from collections.abc import Iterator

from flowhook.deploy import diff
from flowhook.deploy.resources import CONSUME, Binding, Place, Plan
from flowhook.deploy.state import State
from flowhook.deploy.surroundings import Row

# Roles that let nobody call or read.
LOOKING = frozenset({"roles/run.viewer", "roles/secretmanager.viewer"})


def rows(plan: Plan, state: State, place: Place) -> Iterator[Row]:
    """Every resource and every binding of the plan, then what nobody planned."""
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
        # No mistake: Flows may still send there.
        yield Row(f"function {name}", True, "in another region; --prune removes it")


def unexpected(plan: Plan, state: State, place: Place) -> Iterator[Binding]:
    """Who else may read a secret of ours or call `consume`."""
    guarded = [("secret", resource.name) for resource in plan.of("secret")]
    guarded += [key for key in state.policies if key == ("service", place.called(CONSUME))]
    for kind, name in guarded:
        for given in state.policies.get((kind, name), {}).get("bindings", ()):
            for member in given.get("members", ()):
                binding = Binding(kind, name, given["role"], member)
                harmless = binding.role in LOOKING or member.startswith("deleted:")
                if binding not in plan.bindings and not harmless:
                    yield binding


def _row(what: str, seen: str) -> Row:
    return Row(what, seen == "ok", seen)
