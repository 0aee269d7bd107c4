"""Asking Google: what is waited for, for how long, and what is done twice."""

from typing import Any

import pytest

from flowhook.deploy import lock, policies, secrets
from flowhook.deploy.errors import DeployError, Refusal, Unanswered
from flowhook.deploy.resources import Binding, Place
from tests.deploy.scripted import BROKEN, Answer, refusal, world

URL = "https://pubsub.googleapis.com/v1/projects/p/topics/t"
PLACE = Place("p-12345", "1", "europe-west1", "flowhook")
UNKNOWN = refusal(400, "Service account a@b.c does not exist.")
DONE: Answer = (200, {"name": "done"})


def test_what_the_catalogue_explains_is_waited_for_and_told_once() -> None:
    found = world(UNKNOWN, UNKNOWN, UNKNOWN, DONE)
    assert found.api.request("POST", URL, {}) == {"name": "done"}
    assert found.told == ["Waiting for a new service account to be known everywhere, up to 8 minutes."]
    assert found.time.now > 1_000_000


def test_it_is_waited_for_eight_minutes_and_no_longer() -> None:
    found = world(*[UNKNOWN] * 1000)
    with pytest.raises(Refusal, match="does not exist"):
        found.api.request("POST", URL, {})
    assert 470 < found.time.now - 1_000_000 <= 480


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 412])
def test_what_no_row_explains_is_told_at_once(status: int) -> None:
    found = world(refusal(status, "no"))
    with pytest.raises(Refusal, match="no"):
        found.api.request("POST", URL, {})
    assert found.time.now == 1_000_000


@pytest.mark.parametrize("answer", [BROKEN, (503, {}), (500, {}), (429, {})], ids=str)
def test_what_passes_is_asked_again_for_a_minute(answer: Answer) -> None:
    assert world(answer, answer, DONE).api.request("GET", URL) == {"name": "done"}
    found = world(*[answer] * 100)
    with pytest.raises((Refusal, Unanswered)):
        found.api.request("GET", URL)
    assert found.time.now - 1_000_000 <= 75


@pytest.mark.parametrize("lost", [BROKEN, (503, {})], ids=str)
def test_what_was_made_although_the_answer_was_lost_is_not_made_again(lost: Answer) -> None:
    found = world(lost)
    assert found.api.create("PUT", URL, {}, lambda: {"name": "there"}) == {"name": "there"}
    assert len(found.session.asked) == 1


def test_what_was_not_made_is_made_again_and_what_exists_counts() -> None:
    again = world(BROKEN, DONE)
    assert again.api.create("PUT", URL, {}, lambda: None) == {"name": "done"}
    exists = world(refusal(409, "already exists"))
    assert exists.api.create("PUT", URL, {}, lambda: {"name": "there"}) == {"name": "there"}


def test_what_is_gone_already_counts_as_removed() -> None:
    assert world(refusal(404, "not found")).api.remove(URL) == {}
    with pytest.raises(Refusal):
        world(refusal(403, "no")).api.remove(URL)


def test_every_page_is_read_and_a_region_that_is_missing_is_told() -> None:
    found = world(
        (200, {"topics": [{"name": "a"}], "nextPageToken": "x"}), (200, {"topics": [{"name": "b"}]})
    )
    assert [topic["name"] for topic in found.api.pages(URL, "topics")] == ["a", "b"]
    with pytest.raises(DeployError, match="can't be reached now: europe-west9"):
        list(world((200, {"unreachable": ["europe-west9"]})).api.pages(URL, "functions"))


def test_the_project_pays_but_for_the_bootstrap() -> None:
    found = world(DONE, DONE)
    found.api.get(URL)
    found.api.billed_to("").get(URL)
    assert found.session.headers_seen == [{"X-Goog-User-Project": "p-12345"}, {}]


def test_an_operation_that_fails_is_told_with_what_it_says() -> None:
    operation = {"name": "operations/1", "done": True, "error": {"code": 9, "message": "Build failed"}}
    found = world((200, {"name": "operations/1"}), (200, operation))
    with pytest.raises(Refusal, match="Build failed"):
        found.api.finished("https://x/v1", {"name": "operations/1"})


# --- policies ----------------------------------------------------------------------------------------------

TARGET = ("topic", "t")
OURS = Binding("topic", "t", "roles/pubsub.publisher", "serviceAccount:receive@p")
FOREIGN = {
    "version": 3,
    "etag": "e1",
    "auditConfigs": [{"service": "allServices"}],
    "bindings": [
        {
            "role": "roles/pubsub.publisher",
            "members": ["user:a@b.c"],
            "condition": {"title": "t", "expression": "e"},
        },
        {"role": "roles/pubsub.publisher", "members": ["user:other@b.c"]},
        {"role": "roles/owner", "members": ["user:a@b.c"]},
    ],
}


def written(found: Any) -> dict[str, Any]:
    (policy,) = [body["policy"] for method, _, body in found.session.asked if method == "POST"]
    result: dict[str, Any] = policy
    return result


def test_nothing_foreign_in_a_policy_is_lost() -> None:
    found = world((200, FOREIGN), DONE)
    policies.allow(found.api, PLACE, TARGET, [OURS])
    policy = written(found)
    assert policy["bindings"][0] == FOREIGN["bindings"][0]  # type: ignore[index]
    assert policy["bindings"][1]["members"] == ["user:other@b.c", OURS.member]
    assert policy["bindings"][2] == FOREIGN["bindings"][2]  # type: ignore[index]
    assert (policy["etag"], policy["version"], policy["auditConfigs"]) == (
        "e1",
        3,
        [{"service": "allServices"}],
    )


def test_a_policy_that_somebody_else_has_changed_is_read_again() -> None:
    lost = refusal(409, "There were concurrent policy changes. Please retry the whole read-modify-write with"
                   " exponential backoff.")  # fmt: skip
    newer = {**FOREIGN, "etag": "e2", "bindings": [{"role": "roles/viewer", "members": ["user:new@b.c"]}]}
    found = world((200, FOREIGN), lost, (200, newer), DONE)
    policies.allow(found.api, PLACE, TARGET, [OURS])
    _, second = [body["policy"] for method, _, body in found.session.asked if method == "POST"]
    assert second["etag"] == "e2"
    assert second["bindings"][0]["members"] == ["user:new@b.c"]


def test_what_is_so_already_is_not_written() -> None:
    policy = {"bindings": [{"role": OURS.role, "members": [OURS.member]}]}
    found = world((200, policy))
    policies.allow(found.api, PLACE, TARGET, [OURS])
    assert [method for method, _, _ in found.session.asked] == ["GET"]


def test_withdrawing_takes_from_the_members_alone() -> None:
    policy = {"bindings": [{"role": OURS.role, "members": [OURS.member, "user:a@b.c"]}, {"role": "x", "members": [OURS.member]}]}  # fmt: skip # noqa: E501
    found = world((200, policy), DONE)
    policies.withdraw(found.api, PLACE, TARGET, [OURS.member])
    assert written(found)["bindings"] == [{"role": OURS.role, "members": ["user:a@b.c"]}]


# --- versions ----------------------------------------------------------------------------------------------


class Versions:
    """Secret Manager for one secret, of which some answers are lost."""

    def __init__(self, lost: list[bool], takes_effect: bool) -> None:
        self.payloads: list[str] = []
        self.lost = lost
        self.takes_effect = takes_effect

    def answer(self, method: str, url: str, body: Any) -> Answer:
        if url.endswith(":addVersion"):
            lost = self.lost.pop(0) if self.lost else False
            if not lost or self.takes_effect:
                self.payloads.append(body["payload"]["data"])
            return BROKEN if lost else (200, {"name": f"x/versions/{len(self.payloads)}"})
        if url.endswith("/versions"):
            states = [
                {"name": f"x/versions/{n}", "state": "ENABLED"} for n in range(1, len(self.payloads) + 1)
            ]
            return 200, {"versions": states}
        number = int(url.rpartition("/")[2].removesuffix(":access"))
        return 200, {"payload": {"data": self.payloads[number - 1]}}


@pytest.mark.parametrize("takes_effect", [True, False])
def test_a_version_whose_answer_was_lost_is_there_once(takes_effect: bool) -> None:
    found, versions = world(), Versions([True, True], takes_effect)
    found.session.store = versions.answer
    added = secrets.add(found.api, PLACE, "s", b"new\nold")
    assert added == secrets.Version("1", b"new\nold")
    assert len(versions.payloads) == 1


# --- the lock ----------------------------------------------------------------------------------------------


def test_a_second_deployment_is_told_who_and_since_when() -> None:
    holder = {"annotations": {"who": "anna@desk", "since": "1970-01-12T13:26:40+00:00", "nonce": "x"}}
    found = world(refusal(409, "exists"), (200, holder))
    with pytest.raises(DeployError) as raised, lock.held(found.api, PLACE):
        pytest.fail("somebody else holds it")
    assert "anna@desk, since 1970-01-12T13:26:40+00:00 (20 minutes ago)" in str(raised.value)
    assert "--break-lock" in str(raised.value)
    assert [method for method, _, _ in found.session.asked] == ["POST", "GET"]


class Store:
    """Secret Manager for the lock."""

    def __init__(self, *lose: bool) -> None:
        self.there: dict[str, Any] | None = None
        self.lose = [*lose]

    def answer(self, method: str, url: str, body: Any) -> Answer:
        if method == "POST" and self.there is not None:
            return refusal(409, "exists")
        if method == "POST":
            self.there = body
            return BROKEN if self.lose and self.lose.pop(0) else (200, body)
        if self.there is None:
            return refusal(404, "none")
        if method == "DELETE":
            self.there = None
            return 200, {}
        return 200, self.there


@pytest.mark.parametrize("lose", [(), (True,)])
def test_the_lock_is_held_meanwhile_and_given_back(lose: tuple[bool, ...]) -> None:
    found, store = world(), Store(*lose)
    found.session.store = store.answer
    with lock.held(found.api, PLACE):
        assert store.there is not None
    assert store.there is None


def test_a_lock_that_was_broken_is_its_new_holders_to_give_back() -> None:
    found, store = world(), Store()
    found.session.store = store.answer
    with lock.held(found.api, PLACE):
        store.there = {"annotations": {"nonce": "of another"}}
    assert store.there is not None
    with lock.held(found.api, PLACE, break_it=True):
        pass
    assert store.there is None
