"""Reads IAM policies, and grants and revokes roles in them.

A policy is always read and written as a whole, so that what others have added to it is kept. Version 3 keeps
conditions. The etag makes Google refuse a write where somebody else has changed the policy since the read:
https://cloud.google.com/iam/docs/allow-policies#etag
"""

from collections.abc import Callable, Sequence
from typing import Any

from flowhook.deploy import diff
from flowhook.deploy.clock import PATIENCE
from flowhook.deploy.errors import Refusal
from flowhook.deploy.kinds import KINDS
from flowhook.deploy.resources import Binding, Place
from flowhook.deploy.rest import Api, Document

VERSION = 3
# The title of a condition, which Google requires beside its expression.
TITLE = "flowhook"
PROJECTS = "https://cloudresourcemanager.googleapis.com/v3/projects"
# Kinds of resources whose policy is read with POST.
BY_POST = ("project", "account")

# The kind and the id of the resource that a policy belongs to.
Target = tuple[str, str]


def read(api: Api, place: Place, target: Target) -> Document:
    """Return the policy of a resource; empty where it has none, or where the resource doesn't exist."""
    try:
        return _read(api, place, target)
    except Refusal as refusal:
        if refusal.status == 404:
            return {}
        raise


def allow(api: Api, place: Place, target: Target, bindings: Sequence[Binding]) -> Document:
    """Grant bindings on one resource, and return its policy.

    Deleted accounts with the same names as the bindings' members are removed from the policy.
    """
    return _rewrite(api, place, target, lambda policy: _with(policy, bindings))


def withdraw(api: Api, place: Place, target: Target, members: Sequence[str]) -> Document:
    """Revoke every role of some members on a resource, and return its policy."""
    return _rewrite(api, place, target, lambda policy: _without(policy, members))


def _rewrite(api: Api, place: Place, target: Target, change: Callable[[Document], Document]) -> Document:
    """Apply `change` to a policy, and return the policy. Nothing is written where nothing changes.

    Starts again from reading where somebody else has written meanwhile, for PATIENCE seconds at most.
    """
    pauses = api.clock.pauses(PATIENCE)
    while True:
        policy = _read_new(api, place, target)
        wanted = change(policy)
        if wanted.get("bindings", []) == policy.get("bindings", []):
            return policy
        try:
            return api.request("POST", f"{_address(place, target)}:setIamPolicy", {"policy": wanted})
        except Refusal as refusal:
            lost = refusal.reason is not None and refusal.reason.name == "policy-changed"
            if not (lost or refusal.status in (409, 412)) or next(pauses, None) is None:
                raise


def _read_new(api: Api, place: Place, target: Target) -> Document:
    """Return the policy of a resource that exists, but that Google may not find everywhere yet."""
    pauses = api.clock.pauses(PATIENCE)
    while True:
        try:
            return _read(api, place, target)
        except Refusal as refusal:
            if refusal.status != 404 or next(pauses, None) is None:
                raise


def _read(api: Api, place: Place, target: Target) -> Document:
    url = f"{_address(place, target)}:getIamPolicy"
    if target[0] == "project":
        return api.request("POST", url, {"options": {"requestedPolicyVersion": VERSION}})
    option: dict[str, Any] = {"options.requestedPolicyVersion": VERSION}
    return api.request("POST" if target[0] in BY_POST else "GET", url, None, **option)


def _address(place: Place, target: Target) -> str:
    kind, name = target
    return f"{PROJECTS}/{name}" if kind == "project" else KINDS[kind].address(place, name)


def _with(policy: Document, bindings: Sequence[Binding]) -> Document:
    """Return the policy with the bindings, and without deleted accounts of their members' names."""
    deleted = {member for binding in bindings for member in diff.stale(policy, binding)}
    kept = _without(policy, sorted(deleted))
    for binding in bindings:
        if not diff.holds(kept, binding):
            kept = _added(kept, binding)
    return kept


def _added(policy: Document, binding: Binding) -> Document:
    """Return the policy with a binding added, in the entry for its role and condition where there is one."""
    given = [dict(b) for b in policy.get("bindings", [])]
    same = next((b for b in given if diff.is_same(b, binding)), None)
    if same is None:
        condition = {"title": TITLE, "expression": binding.condition}
        under = {"condition": condition} if binding.condition else {}
        given.append({"role": binding.role, "members": [binding.member], **under})
    else:
        same["members"] = [*same.get("members", []), binding.member]
    return {**policy, "version": VERSION, "bindings": given}


def _without(policy: Document, members: Sequence[str]) -> Document:
    """Return the policy without some members, and without the bindings that then have no member."""
    given = [
        {**b, "members": [m for m in b.get("members", []) if m not in members]}
        for b in policy.get("bindings", [])
    ]
    return {**policy, "version": VERSION, "bindings": [b for b in given if b["members"]]}
