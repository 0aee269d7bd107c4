"""The emulator's pure parts: what happens in an organization, when a delivery is tried again."""

import itertools
import json
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowhook import events, samples
from flows_emulator import organization
from flows_emulator.retry import Backoff

START = datetime(2026, 3, 2, 9, 15, tzinfo=UTC)


def story(seed: int, types: list[str]) -> list[dict[str, Any]]:
    """What happens in an organization, an event of each of these types after the other."""
    random = Random(seed)
    entities = organization.seed(random, START)
    told = []
    for number, event_type in enumerate(types, 1):
        event = organization.propose(entities, event_type, random, START + timedelta(seconds=number))
        entities = organization.fold(entities, event)
        told.append(event)
    return told


@given(st.integers(), st.lists(st.sampled_from(samples.TYPES), min_size=1, max_size=80))
def test_every_event_is_one_of_its_type_and_says_what_has_changed(seed: int, types: list[str]) -> None:
    last: dict[str, Any] = {}
    for document, event_type in zip(story(seed, types), types, strict=True):
        event = events.parse(json.dumps(document).encode())
        assert event.type == event_type
        old, value = document["data"]["oldValue"], document["data"]["value"]
        assert old == last.get(event.entity_path, old)
        assert (value is None, old is None) == (
            event.operation_type == "deleted",
            event.operation_type == "created",
        )
        if event.operation_type == "updated":
            assert set(event.changes()) == {
                name for name in value["properties"] if value["properties"][name] != old["properties"][name]
            }
            assert event.changes()
        last[event.entity_path] = value


def test_a_story_is_the_same_for_the_same_seed_and_another_for_another() -> None:
    types = list(samples.TYPES) * 3
    assert story(1, types) == story(1, types)
    assert story(1, types) != story(2, types)


def test_what_is_likely_happens_and_nothing_dies_out_or_grows_without_end() -> None:
    random = Random(7)
    entities = organization.seed(random, START)
    happened = []
    for number in range(1_000):
        event_type = organization.choose(entities, samples.TYPES, random)
        event = organization.propose(entities, event_type, random, START + timedelta(seconds=number))
        entities = organization.fold(entities, event)
        happened.append(event_type)
    assert set(happened) == set(samples.TYPES)
    assert happened.count("packets.updated") > 5 * happened.count("packets.deleted") > 0
    assert 8 < len(entities) < 500


@pytest.mark.parametrize("event_type", samples.TYPES)
def test_an_organization_without_anybody_can_still_be_asked(event_type: str) -> None:
    event = organization.propose({}, event_type, Random(1), START)
    assert events.parse(json.dumps(event).encode()).type == event_type


@pytest.mark.parametrize(
    "nonsense",
    [
        None,
        [],
        {},
        {"entityPath": "", "data": {}},
        {"entityPath": 7, "data": {}},
        {"entityPath": "users/\ud83d", "operationType": "created", "data": {"value": {"properties": {}}}},
        {"entityPath": "users/u", "data": None},
        {"entityPath": "users/u", "data": {"value": {"properties": None}}},
    ],
)
def test_what_is_no_event_changes_nothing(nonsense: object) -> None:
    entities = organization.seed(Random(1), START)
    assert organization.fold(entities, nonsense) == entities


def test_a_deleted_packet_takes_its_comments_along() -> None:
    entities = organization.seed(Random(1), START)
    packet = next(path.split("/comments/")[0] for path in entities if "/comments/" in path)
    event = {"entityPath": packet, "operationType": "deleted", "data": {}}
    assert not [path for path in organization.fold(entities, event) if path.startswith(packet)]


def test_retries_wait_twice_as_long_each_time_and_end() -> None:
    backoff = Backoff(first=1, longest=60, attempts=9)
    waits = [
        backoff.wait(attempt, 503) for attempt in itertools.takewhile(lambda n: n < 10, itertools.count(1))
    ]
    assert waits == [1, 2, 4, 8, 16, 32, 60, 60, None]
    assert backoff.wait(1, 503, luck=1.0) == 1.25


@pytest.mark.parametrize(
    ("status", "retry_after", "seconds"),
    [(503, "5", 5), (503, "0", 1), (503, "1e9", 1), (503, "9" * 400, 60), (503, "soon", 1), (410, "", None)],
)
def test_a_receiver_may_ask_for_more_time_or_for_no_more(
    status: int, retry_after: str, seconds: float
) -> None:
    assert Backoff().wait(1, status, retry_after) == seconds
