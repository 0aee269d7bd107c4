"""`check`: what a Form RAW Response means, in plain words."""

import json
from pathlib import Path

import pytest

from flowhook import samples
from flowhook.categories import CATEGORIES, OPERATIONS, Pattern
from flows_emulator.integration import Integration, Settings
from flows_emulator.reading import NotARawResponse, findings, read
from tests.support.command_line import flowhook
from tests.support.receiver import ROOT

WHOLE = {
    "softRemoved": False,
    "status": "active",
    "integrationProvider": {"path": "providers/webhook", "segments": ["providers", "webhook"]},
}
WANTED = {
    "mine.f": (Pattern.parse("packets.updated"), Pattern.parse("users.*")),
    "log_events.log_event": (Pattern.parse("*"),),
}
CAMEL = (
    "packets",
    "pipelines",
    "users",
    "entities",
    "packetComments",
    "projects",
    "pipelineLabels",
    "packetLabels",
)


def said(document: object, *, wrong: bool | None = None) -> list[str]:
    found = findings(read(json.dumps(document)), WANTED)
    return [finding.text for finding in found if wrong is None or finding.wrong == wrong]


@pytest.mark.parametrize(
    "events",
    [
        {"events": {"packets": ["updated"], "packetComments": ["created"]}},
        {
            "config": {
                "packet_events": {"created": False, "updated": True},
                "packetCommentsEvents": {"created": True},
            }
        },
        {
            "form": [
                {"Packet events": ["updated"]},
                {"Packet comments events": {"onCreate": True, "onDelete": False}},
            ]
        },
        {"events": ["packets.updated", "packet_comments.created"]},
        {"events": {"packets.updated": True, "packet_comments.created": True, "users.created": False}},
        {"pipelinesPackets": ["UPDATED"], "comments": ["create"], "users": []},
    ],
)
def test_ticked_events_are_found_however_they_are_written(events: dict[str, object]) -> None:
    assert read(json.dumps({**WHOLE, **events})).ticked == frozenset(
        {"packets.updated", "packet_comments.created"}
    )


@pytest.mark.parametrize("names", [CATEGORIES, CAMEL])
def test_every_group_is_known_by_the_guides_names(names: tuple[str, ...]) -> None:
    raw = read(json.dumps({"events": {name: list(OPERATIONS) for name in names}}))
    assert raw.ticked == frozenset(samples.TYPES)


def test_it_names_what_handlers_wait_for_and_is_not_sent() -> None:
    document = {**WHOLE, "events": {"packets": ["updated"], "users": ["created"], "projects": ["deleted"]}}
    assert said(document, wrong=True) == ["mine.f waits for users.updated, users.deleted, not ticked."]
    assert "3 of 24 events are ticked: packets.updated, users.created, projects.deleted." in said(document)


def test_it_does_not_guess_where_it_can_not_tell() -> None:
    assert said(WHOLE, wrong=True) == []
    assert any("does not tell which events" in text for text in said(WHOLE))


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"softRemoved": True}, "Removed"),
        ({"status": "paused"}, "sends nothing as long as that is so"),
        ({"status": None}, "no status"),
        ({"integrationProvider": None}, "no integration provider"),
        ({"integrationProvider": {"path": "providers/zapier"}}, "is that “Flows API webhook”?"),
        ({"events": {"packets": []}}, "No event is ticked"),
    ],
)
def test_what_keeps_events_from_coming_is_said(changed: dict[str, object], words: str) -> None:
    assert any(words in text for text in said({**WHOLE, **changed}, wrong=True))


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({}, "Not removed"),
        ({"softRemoved": "no"}, "does not tell whether"),
        ({"status": "synchronising"}, "the platform's guide does not say"),
        ({"integrationProvider": {"segments": ["a", "webhook"]}}, "a/webhook"),
        ({"integrationProvider": "Flows API webhook"}, "Flows API webhook"),
    ],
)
def test_what_is_in_order_or_unclear_is_said_too(changed: dict[str, object], words: str) -> None:
    assert any(words in text for text in said({**WHOLE, **changed}, wrong=False))


@pytest.mark.parametrize("ticked", [(), samples.TYPES, samples.TYPES[::5]])
def test_what_the_emulator_shows_is_read_back(ticked: tuple[str, ...]) -> None:
    settings = Settings.model_validate({"url": "http://127.0.0.1:8080", "secret": "s" * 20, "events": ticked})
    raw = read(json.dumps(Integration.new(settings).raw_response()))
    assert raw.ticked == frozenset(ticked)
    assert (raw.soft_removed, raw.status, raw.url) == (False, "active", "http://127.0.0.1:8080")


@pytest.mark.parametrize("text", ["", "nonsense", "[]", '"text"', "{" * 9, "[" * 100_000, '{"a": 1'])
def test_what_is_no_response_is_refused(text: str) -> None:
    with pytest.raises(NotARawResponse):
        read(text)


def test_a_hostile_response_is_read_all_the_same() -> None:
    deep = json.loads('{"packets":' * 300 + "{}" + "}" * 300)
    assert read(json.dumps({**WHOLE, "x": deep, "packets": [1, None, {"created": 3}], "\ud83d": "\u202e"}))


def test_the_command_reads_a_file_or_what_is_piped_and_fails_where_events_do_not_come(tmp_path: Path) -> None:
    path = tmp_path / "raw.json"
    path.write_text(json.dumps({**WHOLE, "events": {name: list(OPERATIONS) for name in CATEGORIES}}))
    done = flowhook("check", str(path))
    assert done.returncode == 0, done.stdout
    assert "24 of 24 events are ticked: *." in done.stdout
    path.write_text(json.dumps({**WHOLE, "events": {"packets": ["created"]}}))
    assert flowhook("check", str(path)).returncode == 1
    for package in ("flowhook", "flows_emulator"):
        (tmp_path / package).symlink_to(ROOT / package)
    elsewhere = flowhook("check", str(path), cwd=tmp_path)
    assert elsewhere.returncode == 0
    assert "waits for" not in elsewhere.stdout


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"nonsense", "line 1, column 1"), (b"\xff", "not text in UTF-8"), (b"x" * 5_000_000, "too large")],
)
def test_the_command_says_what_is_wrong_with_the_file(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "raw.json"
    path.write_bytes(content)
    done = flowhook("check", str(path))
    assert done.returncode == 1
    assert message in done.stderr
    assert "/nowhere can't be read" in flowhook("check", "/nowhere").stderr
