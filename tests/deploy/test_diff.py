"""What differs, and what only looks as if it did."""

from typing import Any

import pytest

from flowhook.deploy import comparison, diff
from flowhook.deploy.resources import Binding, Place, Plan, Resource
from flowhook.deploy.state import State

PLACE = Place("p-12345", "1", "europe-west1", "flowhook")
PUSH = {"pushEndpoint": "https://x/y", "oidcToken": {"audience": "https://x"}}


@pytest.mark.parametrize(
    ("wanted", "present", "differing"),
    [
        ({"a": 1}, {"a": 1, "b": 2}, []),
        ({"a": 1}, {"a": 2}, ["a"]),
        ({"a": 1}, {}, ["a"]),
        ({"filter": ""}, {}, []),
        ({"filter": ""}, {"filter": "x"}, ["filter"]),
        ({"expirationPolicy": {}}, {"expirationPolicy": {"ttl": "86400s"}}, ["expirationPolicy"]),
        ({"minInstanceCount": 0}, {}, []),
        ({"labels": {"flowhook": "a"}}, {"labels": {"flowhook": "a", "mine": "b"}}, []),
        ({"labels": {"flowhook": "a"}}, {"labels": {"flowhook": "b"}}, ["labels"]),
        ({"pushConfig": PUSH}, {"pushConfig": {**PUSH, "attributes": {"x-goog-version": "v1"}}}, []),
        ({"pushConfig": PUSH}, {"pushConfig": {}}, ["pushConfig"]),
        ({"pushConfig": {}}, {"pushConfig": PUSH}, ["pushConfig"]),
        (
            {"s": {"environmentVariables": {"A": "1"}}},
            {"s": {"environmentVariables": {"A": "1", "B": "2"}}},
            ["s"],
        ),
        (
            {"s": {"environmentVariables": {"A": "1"}}},
            {"s": {"environmentVariables": {"A": "1", "LOG_EXECUTION_ID": "true"}}},
            [],
        ),
        ({"conditions": [{"a": 1}]}, {"conditions": [{"a": 1, "name": "x"}]}, []),
        ({"conditions": [{"a": 1}]}, {"conditions": [{"a": 1}, {"a": 2}]}, ["conditions"]),
        ({"notificationChannels": []}, {"notificationChannels": ["x"]}, ["notificationChannels"]),
    ],
)
def test_fields_differ_or_not(wanted: dict[str, Any], present: dict[str, Any], differing: list[str]) -> None:
    assert list(diff.differing(wanted, present)) == differing


BINDING = Binding("service", "flowhook-consume", "roles/run.invoker", "serviceAccount:push@p")


def policy(*members: str, **more: Any) -> dict[str, Any]:
    return {"bindings": [{"role": "roles/run.invoker", "members": [*members], **more}]}


def test_a_binding_under_a_condition_is_none() -> None:
    assert diff.holds(policy(BINDING.member), BINDING)
    assert not diff.holds(policy(BINDING.member, condition={"expression": "false"}), BINDING)
    assert not diff.holds(policy("serviceAccount:other@p"), BINDING)


def test_what_is_left_of_a_deleted_account_is_mended() -> None:
    planned = Plan((), (BINDING,))
    left = policy(BINDING.member, f"deleted:{BINDING.member}?uid=1")
    assert [grant.binding for grant in diff.grants(planned, {BINDING.target: left})] == [BINDING]
    assert list(diff.grants(planned, {BINDING.target: policy(BINDING.member)})) == []


def test_missing_differing_and_unexpected_things_are_told_and_nothing_else() -> None:
    there, wrong, gone = (Resource("topic", name, {"labels": {"flowhook": "flowhook"}}) for name in "abc")
    secret = Resource("secret", "flowhook-secret")
    state = State(
        found={
            there.key: dict(there.wanted),
            wrong.key: {"labels": {}},
            secret.key: {},
        },
        policies={
            BINDING.target: policy(BINDING.member, "allUsers"),
            secret.key: {"bindings": [{"role": "roles/secretmanager.admin", "members": ["user:a@b.c"]}]},
        },
    )
    planned = Plan((there, wrong, gone, secret), (BINDING,))
    seen = {row.what: row.seen for row in comparison.rows(planned, state, PLACE)}
    assert seen == {
        "topic a": "ok",
        "topic b": "differs: labels",
        "topic c": "missing",
        "secret flowhook-secret": "ok",
        str(BINDING): "ok",
        "roles/run.invoker on flowhook-consume: allUsers": "unexpected",
        "roles/secretmanager.admin on flowhook-secret: user:a@b.c": "unexpected",
    }
