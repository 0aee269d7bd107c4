"""Which deliveries the emulator's API and commands select, and what they say of what isn't there."""

import json
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from flowhook import samples
from flowhook.categories import CATEGORIES
from flows_emulator import local
from flows_emulator.client import Emulator
from flows_emulator.store import Attempt, New, Selection, Store
from tests.support.command_line import flowhook
from tests.support.receiver import SECRET, Receiver

# Each test starts processes.
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def sent(tmp_path_factory: pytest.TempPathFactory, running: Receiver) -> Iterator[Emulator]:
    """An emulator that has sent one event of each type, and one with the wrong secret."""
    with local.emulator(tmp_path_factory.mktemp("sent") / "data") as emulator:
        emulator.connect(running.url, SECRET.decode())
        emulator.send_all()
        emulator.send("users.updated", manner="wrong-secret")
        yield emulator


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """A store with a delivery in each state, and one that was never attempted."""
    opened = Store(tmp_path / "data")
    types = ("users.created", "users.updated", "packets.created", "")
    identifiers = opened.happen([New("i", name, f"Users/{name}", b"{}") for name in types], {}, [], 0.0)
    outcomes = ((200, "delivered"), (503, "pending"), (401, "failed"))
    for identifier, (status, state) in zip(identifiers, outcomes, strict=False):
        opened.record(identifier, Attempt(0.0, 1.0, "", [], status=status), state, 0.0)
    yield opened
    opened.close()


@pytest.mark.parametrize(
    ("selection", "expected"),
    [
        (Selection(), [4, 3, 2, 1]),
        (Selection(state="pending"), [4, 2]),
        (Selection(type="users.*"), [2, 1]),
        (Selection(type="*.created"), [3, 1]),
        (Selection(type="*"), [4, 3, 2, 1]),
        (Selection(entity="uSERS/pack"), [3]),
        (Selection(entity="%"), []),
        (Selection(answer=(400, 499)), [3]),
        (Selection(answer=(0, 0)), []),
        (Selection(type="users.*", answer=(200, 200)), [1]),
    ],
)
def test_the_store_selects(store: Store, selection: Selection, expected: list[int]) -> None:
    assert [row["id"] for row in store.summaries(10, selection=selection)] == expected
    assert store.total(selection) == len(expected)


def test_the_highest_id_is_known_when_everything_is_forgotten(store: Store) -> None:
    assert store.latest() == 4
    store.clear()
    assert store.latest() == 4


@pytest.mark.parametrize(
    ("query", "number"),
    [
        ("type=packets.*", 3),
        ("type=*.deleted&limit=2", 8),
        ("status=401", 1),
        ("status=4xx&state=failed", 1),
        ("status=none", 0),
        ("entity=COMMENTS", 3),
    ],
)
def test_the_api_selects_and_counts(sent: Emulator, query: str, number: int) -> None:
    answer = httpx2.get(f"{sent.url}/api/deliveries?{query}", trust_env=False).json()
    assert answer["total"] == number
    assert len(answer["deliveries"]) == min(number, 2 if "limit" in query else number)


@pytest.mark.parametrize(
    ("query", "words"),
    [("type=packet.created", "did you mean packets?"), ("status=9xx", "status"), ("status=-1", "status")],
)
def test_what_can_not_be_selected_is_said(sent: Emulator, query: str, words: str) -> None:
    answer = httpx2.get(f"{sent.url}/api/deliveries?{query}", trust_env=False)
    assert answer.status_code == 422
    assert words in answer.json()["detail"]


def test_the_labels_of_the_categories_are_told_in_their_order(sent: Emulator) -> None:
    state = sent.state()
    assert tuple(state["labels"]) == CATEGORIES == tuple(state["categories"])
    assert state["labels"]["packet_comments"] == "Packet comments events"


def test_the_command_selects_as_the_api_does(sent: Emulator) -> None:
    listed = flowhook(
        "emulate",
        "deliveries",
        "--json",
        "--type",
        "users.*",
        "--status",
        "401",
        "--state",
        "failed",
        "--at",
        sent.url,
    )
    assert [row["type"] for row in json.loads(listed.stdout)] == ["users.updated"]


def test_all_are_sent_with_a_fault_where_one_is_asked_for(sent: Emulator) -> None:
    before = sent.state()["latest"]
    done = flowhook("emulate", "send", "--all", "--manner", "wrong-secret", FLOWS_EMULATOR=sent.url)
    assert done.returncode == 1
    made = [d for d in sent.deliveries() if d["id"] > before]
    assert {d["manner"] for d in made} == {"wrong-secret"}
    assert sorted(d["type"] for d in made) == sorted(samples.TYPES)
    stale = sent.send_all(manner="stale")
    assert {delivery.type for delivery in stale} == {f"{category}.updated" for category in CATEGORIES}
    refused = httpx2.post(f"{sent.url}/api/deliveries/all", json={"manner": "rude"}, trust_env=False)
    assert refused.status_code == 422


def test_what_is_not_there_is_named(sent: Emulator) -> None:
    again = flowhook("emulate", "again", "99999", FLOWS_EMULATOR=sent.url)
    assert again.returncode == 1
    assert "There is no delivery 99999" in again.stderr
    assert (
        "There is no integration 'in-none'"
        in flowhook("emulate", "raw", "--integration", "in-none", FLOWS_EMULATOR=sent.url).stderr
    )
