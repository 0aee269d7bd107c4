"""Events with other properties, other fields, or as updates that became something."""

import argparse
import json
from typing import Any

import pytest

from flowhook import events, samples
from flowhook.cli import overlays
from flowhook.cli.errors import CommandError
from flowhook.samples.overlay import Overlay


def sample(event_type: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(samples.load(event_type))
    return document


def read(*words: str) -> Overlay:
    parser = argparse.ArgumentParser()
    overlays.add_arguments(parser)
    return overlays.read(parser.parse_args(words))


@pytest.mark.parametrize("event_type", samples.TYPES)
def test_properties_are_those_that_the_event_shows(event_type: str) -> None:
    before = sample(event_type)
    changed = Overlay(properties={"status": "won", "tags": ["a"]}).apply(before)
    event = events.parse(json.dumps(changed).encode())
    assert event.type == event_type
    current = changed["data"]["value"] or changed["data"]["oldValue"]
    assert (current["properties"]["status"], current["properties"]["tags"]) == ("won", ["a"])
    assert before == sample(event_type), "the sample itself is left alone"


def test_an_update_that_sets_a_property_has_it_in_its_mask_once() -> None:
    changed = Overlay(properties={"status": "won", "tags": ["a"]}).apply(sample("packets.updated"))
    assert changed["data"]["updateMask"] == ["status", "assigneeRef", "tags"]


def test_what_became_something_is_all_that_changed() -> None:
    changed = Overlay(became={"status": ("open", "won"), "new": (None, 3)}).apply(sample("packets.updated"))
    event = events.parse(json.dumps(changed).encode())
    assert {name: (c.old, c.new) for name, c in event.changes().items()} == {
        "status": ("open", "won"),
        "new": (None, 3),
    }
    assert (
        changed["data"]["oldValue"]["properties"]["title"] == changed["data"]["value"]["properties"]["title"]
    )


def test_fields_are_the_events_own_and_a_dot_leads_into_them() -> None:
    overlay = read("--event", "entityId=pk-1", "--event", "data.updateMask=null", "--event", "x={}")
    changed = overlay.apply(sample("packets.updated"))
    assert (changed["entityId"], changed["data"]["updateMask"], changed["x"]) == ("pk-1", None, {})


@pytest.mark.parametrize(
    ("overlay", "event_type", "words"),
    [
        (Overlay(became={"status": ("open", "won")}), "packets.created", "only an update"),
        (Overlay(fields={"data.nowhere.x": 1}), "packets.created", "leads into nowhere"),
        (Overlay(fields={"entityId.x": 1}), "packets.created", "leads into entityId"),
    ],
)
def test_what_does_not_fit_is_said(overlay: Overlay, event_type: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        overlay.apply(sample(event_type))


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("won", "won"),
        ("3", 3),
        ("true", True),
        ('["a"]', ["a"]),
        ("", ""),
        ("a=b", "a=b"),
        ("[" * 99, "[" * 99),
    ],
)
def test_a_value_is_json_or_else_text(text: str, value: object) -> None:
    assert read("--set", f"p={text}").properties == {"p": value}


@pytest.mark.parametrize(
    ("text", "states"),
    [
        ("open:won", ("open", "won")),
        (":won", ("", "won")),
        ('"a:b":"c"', ("a:b", "c")),
        ('{"x":1}:{"x":2}', ({"x": 1}, {"x": 2})),
        ("null:3", (None, 3)),
        ("a:b:c", ("a", "b:c")),
    ],
)
def test_the_states_are_before_and_after_a_colon(text: str, states: tuple[object, object]) -> None:
    assert read("--became", f"p={text}").became == {"p": states}


@pytest.mark.parametrize(
    "words", [("--set", "status"), ("--set", "=x"), ("--became", "p=x"), ("--event", "")]
)
def test_what_is_no_pair_is_refused(words: tuple[str, str]) -> None:
    with pytest.raises(CommandError, match=words[0]):
        read(*words)
