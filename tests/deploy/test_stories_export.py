"""An export sent to a handler again: whole files, broken ones, and runs that end in the middle."""

import base64
import fcntl
import json
import os
import tracemalloc
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import pytest

from flowhook.deploy import exports, journal
from flowhook.deploy.errors import DeployError
from tests.deploy.test_stories_letters import (
    DEAD,
    REJECTED,
    REPLAY,
    bury,
    event,
    published,
    ran_for,
    real_event,
)
from tests.support.google_cloud.desk import CHAT, LOG, Desk
from tests.support.google_cloud.faults import Moment
from tests.support.google_cloud.simulated import identity

FILE = "letters.jsonl"


def line(number: int, **changes: Any) -> dict[str, Any]:
    """A letter of CHAT, as an export has it."""
    document = {
        "messageId": str(number),
        "publishTime": f"2026-03-01T08:00:{number % 60:02}.123456789Z",
        "attributes": {"handler": CHAT, "reason": "rejected", "status": "200"},
        "data": base64.b64encode(real_event(number)).decode(),
    }
    return {name: value for name, value in {**document, **changes}.items() if value is not ...}


def written(desk: Desk, *lines: dict[str, Any]) -> Path:
    path = desk.folder / FILE
    path.write_text("".join(json.dumps(one) + "\n" for one in lines))
    return path


def again(desk: Desk, *words: str, handler: str = CHAT) -> Any:
    return desk.run("replay", handler, "--file", FILE, *words)


def sent(desk: Desk) -> list[Any]:
    """What has been published for replays, the spy's."""
    return desk.plane.pubsub.waiting("spy")


@pytest.fixture
def spied(deployed: Desk) -> Desk:
    deployed.plane.pubsub.put("spy", {"name": "p/s/spy", "topic": f"projects/p/topics/{REPLAY}"})
    return deployed


def beside(desk: Desk) -> list[str]:
    return sorted(path.name for path in desk.folder.glob(f"{FILE}.*"))


# --- what is meant -----------------------------------------------------------------------------------------


def test_what_was_dropped_is_sent_again_from_its_export(spied: Desk) -> None:
    bury(spied, CHAT, *map(real_event, range(250)))
    bury(spied, LOG, *map(real_event, range(300, 310)))
    assert spied.run("dead-letters", "drop", "--yes", "--output", FILE).status == 0
    ran = again(spied, "--yes")
    assert ran.status == 0, ran.output
    assert "250 events, from 2026-03-02 " in ran.output
    assert f"10 are not sent: they are of {LOG} (--of HANDLER sends another's)" in ran.output
    assert f"250 sent to {CHAT}, as replay " in ran.output
    spied.plane.time.advance(60)
    assert ran_for(spied) == {CHAT: Counter(identity(real_event(number)) for number in range(250))}
    (message, *_) = sent(spied)
    assert message.attributes["handler"] == CHAT
    assert message.attributes["redrive-of"]
    assert not [name for name in message.attributes if name.startswith("CloudPubSub")]
    assert len({one.attributes["replay"] for one in sent(spied)}) == 1


def test_after_a_rename_those_of_the_old_name_go_to_the_new_one(spied: Desk) -> None:
    written(spied, *(line(number, attributes={"handler": "old.name"}) for number in range(3)), line(9))
    ran = again(spied, "--of", "old.name", "--yes", handler=LOG)
    assert f"3 sent to {LOG}" in ran.output
    assert f"1 are not sent: they are of {CHAT}" in ran.output


def test_those_of_another_installation_are_its_handlers(spied: Desk) -> None:
    """A person tries out here what has failed there."""
    source = "CloudPubSubDeadLetterSourceSubscription"
    names = [(1, f"my-staging-{CHAT}-0a1b2c3d"), (2, f"my-staging-{LOG}-0a1b2c3d")]
    written(spied, *(line(number, attributes={source: name}) for number, name in names))
    ran = again(spied, "--yes")
    assert f"1 are not sent: they are of {LOG}" in ran.output
    assert [message.data for message in sent(spied)] == [real_event(1)]


def test_bodies_that_are_events_by_now_are_sent_and_others_are_told(spied: Desk) -> None:
    spied.plane.pubsub.publish(
        REJECTED, real_event(1), {"reason": "not-an-event", "problem": "{}", "id": "x"}
    )
    spied.plane.pubsub.publish(REJECTED, b"none", {"reason": "not-json"})
    assert spied.run("rejected", "export", "--output", FILE).status == 0
    ran = again(spied, "--yes")
    # The doctor's is that of another handler.
    assert "1 are not sent: they are no events" in ran.output
    (message,) = sent(spied)
    assert (message.data, message.attributes["category"]) == (real_event(1), "packets")
    assert not {"reason", "problem", "id"} & message.attributes.keys()


@pytest.mark.parametrize(
    ("words", "count"),
    [
        (["--type", "packets.created"], 3),
        (["--type", "users.*"], 0),
        (["--since", "2026-03-01T08:00:01Z"], 2),
        (["--to", "2026-03-01T08:00:01Z"], 1),
        (["--entity", "organizations/o/pipelinesPackets/2"], 1),
    ],
)
def test_filters_leave_what_is_meant(spied: Desk, words: list[str], count: int) -> None:
    written(spied, *map(line, range(3)))
    assert again(spied, "--yes", *words).status == 0
    assert len(sent(spied)) == count


def test_attributes_that_lie_change_no_event(spied: Desk) -> None:
    attributes = {"handler": CHAT, "category": "users", "ce-id": "1", "replay": "yours", "traceparent": "00"}
    written(spied, line(1, attributes=attributes))
    assert again(spied, "--yes").status == 0
    (message,) = sent(spied)
    assert (message.attributes["category"], message.attributes["ce-id"]) == (
        "packets",
        identity(real_event(1)),
    )
    assert message.attributes["traceparent"] == "00"
    assert message.attributes["replay"] != "yours"


def test_the_same_letter_of_two_exports_in_one_file_is_sent_once(spied: Desk) -> None:
    written(spied, line(1), line(2), line(1))
    ran = again(spied, "--yes")
    assert "1 are not sent: they are in the file already" in ran.output
    assert len(sent(spied)) == 2


def test_nothing_is_sent_or_left_behind_before_somebody_says_yes(spied: Desk) -> None:
    written(spied, line(1))
    for words, answers in ((["--dry-run"], []), ([], [False]), ([], [None])):
        spied.answers = [*answers]
        ran = again(spied, *words)
        assert (published(ran), beside(spied)) == ([], [])
        assert "1 events, from 2026-03-01 08:00:01Z" in ran.output


def test_a_handler_that_can_have_nothing_now_gets_nothing(spied: Desk) -> None:
    written(spied, line(1))
    assert spied.run("pause", CHAT).status == 0
    for handler, told in ((CHAT, f"{CHAT} is paused"), ("mine.nobody", "no handler mine.nobody is deployed")):
        ran = again(spied, "--yes", handler=handler)
        assert (ran.status, published(ran)) == (1, [])
        assert told in ran.output


@pytest.mark.parametrize("words", [["--again"], ["--of", LOG]])
def test_options_of_a_file_need_one(deployed: Desk, words: list[str]) -> None:
    ran = deployed.run("replay", CHAT, "--since", "1h", *words)
    assert (ran.status, "--file EXPORT" in ran.output) == (1, True)


# --- files that are none -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("broken", "told"),
    [
        (b"{}", "line 2 has no data in base64"),
        (b"[]", "line 2 is no letter of an export"),
        (b"", "line 2 is not JSON"),
        (b"\xff\xfe", "line 2 is not JSON"),
        (b"[" * 100_000, "line 2 is not JSON"),
        (json.dumps(line(1, messageId=...)).encode(), "line 2 has no messageId"),
        (json.dumps(line(1, messageId="1" * 300)).encode(), "line 2 has no messageId"),
        (json.dumps(line(1, messageId="\ud800")).encode(), "line 2 has a text that is none"),
        (json.dumps(line(1, publishTime="soon")).encode(), "line 2 has no publishTime"),
        (json.dumps(line(1, publishTime="")).encode(), "line 2 has no publishTime"),
        (json.dumps(line(1, publishTime=5)).encode(), "line 2 has no publishTime"),
        (json.dumps(line(1, data="a$b=")).encode(), "line 2 has no data in base64"),
        (json.dumps(line(1, data=None)).encode(), "line 2 has no data in base64"),
        (json.dumps(line(1, attributes=[])).encode(), "line 2 has attributes that are no texts"),
        (json.dumps(line(1, attributes={"a": 1})).encode(), "line 2 has attributes that are no texts"),
        (
            json.dumps(line(1, attributes={"a": "x" * 1025})).encode(),
            "line 2 has an attribute that is too long",
        ),
        (json.dumps(line(1, attributes={"": "x"})).encode(), "line 2 has an attribute that is too long"),
        (
            json.dumps(line(1, attributes={"googx": "x"})).encode(),
            "line 2 has attributes that Pub/Sub refuses",
        ),
        (
            json.dumps(line(1, attributes={str(n): "x" for n in range(90)})).encode(),
            "line 2 has attributes that Pub/Sub refuses",
        ),
        (json.dumps(line(1, data="A" * 13_333_336)).encode(), "line 2 has more data than a message may have"),
        (b" " * 16_000_001, "line 2 is longer than any letter"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_line_that_is_no_letter_is_named_and_nothing_is_sent(spied: Desk, broken: bytes, told: str) -> None:
    path = written(spied, line(0))
    path.write_bytes(path.read_bytes() + broken + b"\n" + json.dumps(line(5)).encode() + b"\n")
    ran = again(spied, "--yes")
    assert (ran.status, published(ran), beside(spied)) == (1, [], [])
    assert f"{FILE}: {told}" in ran.output
    assert "Nothing has been sent." in ran.output


def test_a_file_that_was_cut_off_says_so(spied: Desk) -> None:
    path = written(spied, *map(line, range(3)))
    path.write_bytes(path.read_bytes()[:-100])
    ran = again(spied, "--yes")
    assert (ran.status, published(ran)) == (1, [])
    assert "line 3 is cut off" in ran.output
    # Without its end of line it is whole all the same.
    path.write_bytes(written(spied, *map(line, range(3))).read_bytes()[:-1])
    assert again(spied, "--yes").status == 0
    assert len(sent(spied)) == 3


def test_an_empty_file_has_nothing_to_send(spied: Desk) -> None:
    written(spied)
    ran = again(spied, "--yes")
    assert (ran.status, published(ran)) == (0, [])
    assert "Nothing has been sent." in ran.output


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda path: None, "No such file"),
        (Path.mkdir, "it is no file"),
        (os.mkfifo, "it is no file"),
        (lambda path: path.symlink_to("/dev/zero"), "it is no file"),
    ],
)
def test_what_is_no_file_is_told(deployed: Desk, make: Callable[[Path], None], told: str) -> None:
    make(deployed.folder / FILE)
    ran = again(deployed, "--yes")
    assert (ran.status, ran.changes) == (1, [])
    assert told in ran.output


# --- again, and after an end in the middle -----------------------------------------------------------------


def test_a_file_is_not_sent_twice_by_mistake(spied: Desk) -> None:
    written(spied, *map(line, range(5)))
    assert again(spied, "--yes").status == 0
    ran = again(spied, "--yes")
    assert (ran.status, published(ran)) == (0, [])
    assert f"All of it was sent to {CHAT} before, as replay " in ran.output
    # To another handler, or by other words, it is another one.
    assert f"they are of {CHAT}" in again(spied, "--yes", handler=LOG).output
    spied.plane.time.advance(5)
    assert again(spied, "--yes", "--again").status == 0
    ids = Counter(message.attributes["replay"] for message in sent(spied))
    assert sorted(ids.values()) == [5, 5]


def test_another_content_under_the_same_name_is_sent(spied: Desk) -> None:
    written(spied, line(1))
    assert again(spied, "--yes").status == 0
    written(spied, line(2))
    assert again(spied, "--yes").status == 0
    assert [message.data for message in sent(spied)] == [real_event(1), real_event(2)]


@pytest.mark.parametrize("moment", get_args(Moment))
def test_killed_over_and_over_each_is_sent_and_under_one_id(spied: Desk, moment: Moment) -> None:
    """What was published and could not be noted is sent once more, and is told before that."""
    written(spied, *map(line, range(650)))
    for number in (0, 1, 2, 0):
        assert spied.killed(number, moment, "replay", CHAT, "--file", FILE, "--yes")
    ran = again(spied, "--yes")
    assert ran.status == 0, ran.output
    assert "It goes on: 300 have been sent before" in ran.output
    assert "At most 100 more may have been sent" in ran.output
    times = Counter(message.data for message in sent(spied))
    assert set(times) == {real_event(number) for number in range(650)}
    # A request for each time that the process died after its effect.
    twice = 0 if moment == "before" else 400
    assert sum(times.values()) == 650 + twice
    assert len({message.attributes["replay"] for message in sent(spied)}) == 1
    assert "All of it was sent" in again(spied, "--yes").output


def test_one_that_failed_goes_on_with_what_is_left(spied: Desk) -> None:
    written(spied, *map(line, range(250)))
    topic = f"POST pubsub.googleapis.com/v1/projects/flows-demo-1/topics/{REPLAY}"
    spied.plane.faults.refused[topic] = 403
    ran = again(spied, "--yes")
    assert ran.status == 1
    assert "0 of 250 are sent. Run it again with the same words: it goes on." in ran.output
    del spied.plane.faults.refused[topic]
    ran = again(spied, "--yes")
    assert "It goes on: 0 have been sent before" in ran.output
    assert "At most 100 more may have been sent" in ran.output
    assert len(sent(spied)) == 250


def test_a_file_that_changed_in_between_is_not_mixed_with_what_it_was(spied: Desk) -> None:
    path = written(spied, *map(line, range(150)))
    before = path.read_bytes()
    spied.killed(1, "before", "replay", CHAT, "--file", FILE, "--yes")
    written(spied, *map(line, range(140)))
    ran = again(spied, "--yes", "--again")
    assert (ran.status, published(ran)) == (1, [])
    assert f"{FILE} has changed since 100 of its events were sent to {CHAT}" in ran.output
    path.write_bytes(before)
    assert again(spied, "--yes").status == 0
    assert Counter(message.data for message in sent(spied)) == Counter(map(real_event, range(150)))


def test_a_file_that_changes_while_it_is_sent_is_told(spied: Desk) -> None:
    path = written(spied, *map(line, range(150)))

    def grow(_text: str) -> None:
        path.write_bytes(path.read_bytes() + json.dumps(line(1000)).encode() + b"\n")

    spied.bar = grow
    ran = again(spied, "--yes")
    assert ran.status == 1
    assert "is being changed by somebody else" in ran.output
    assert "100 of 150 are sent." in ran.output


def test_what_two_ago_means_stays_when_it_goes_on(spied: Desk) -> None:
    bury(spied, CHAT, *map(real_event, range(150)))
    assert spied.run("dead-letters", "export", "--output", FILE).status == 0
    words = ("replay", CHAT, "--file", FILE, "--since", "2h", "--yes")
    spied.killed(1, "before", *words)
    spied.plane.time.advance(3 * 3600)
    assert spied.run(*words).status == 0
    assert len({message.data for message in sent(spied)}) == 150


def test_two_at_once_are_one_too_many(spied: Desk) -> None:
    written(spied, *map(line, range(150)))
    spied.killed(1, "before", "replay", CHAT, "--file", FILE, "--yes")
    (name,) = beside(spied)
    with (spied.folder / name).open("rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        ran = again(spied, "--yes")
    assert (ran.status, published(ran)) == (1, [])
    assert "another replay of this file is under way" in ran.output


@pytest.mark.parametrize(
    "content", [b"hello\n", b"[]\n", b'{"id": 1}\n', b'{"sent": "x"}\n', b'"id"\n', b"[" * 9999 + b"\n"]
)
def test_notes_that_are_none_are_not_believed(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "notes"
    path.write_bytes(content)
    with pytest.raises(DeployError, match="no replay has noted this"), journal.opened(path):
        pass
    assert path.read_bytes() == content


def test_a_note_that_was_cut_off_counts_for_nothing(tmp_path: Path) -> None:
    path = tmp_path / "notes"
    with journal.opened(path) as notes:
        notes.begin(journal.Sending("1", "d", 0.0, float("inf")))
        notes.sending(100)
        notes.sent(100)
    path.write_bytes(path.read_bytes() + b'{"sent": 20')
    with journal.opened(path) as notes:
        assert notes.last == journal.Sending("1", "d", 0.0, float("inf"), 100, 100)
        notes.end()
    with journal.opened(path) as notes:
        assert notes.last is not None
        assert notes.last.done


def test_where_nothing_can_be_noted_nothing_is_sent(spied: Desk) -> None:
    written(spied, line(1))
    assert again(spied, "--yes").status == 0
    (name,) = beside(spied)
    (spied.folder / name).unlink()
    (spied.folder / name).mkdir()
    ran = again(spied, "--yes")
    assert (ran.status, published(ran)) == (1, [])
    assert "what is sent can't be noted" in ran.output


def test_a_long_file_takes_little_memory(tmp_path: Path) -> None:
    """Thirty letters of 3 MB, one after the other."""
    large = json.dumps(line(1, data=base64.b64encode(b"x" * 3_000_000).decode())).encode() + b"\n"
    path = tmp_path / FILE
    path.write_bytes(large * 30)
    tracemalloc.start()
    try:
        with exports.opened(path) as export:
            assert sum(1 for _ in export.letters()) == 30
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 40_000_000


def test_an_export_reads_as_it_was_written(spied: Desk) -> None:
    bury(spied, CHAT, real_event(1))
    (kept,) = spied.plane.pubsub.waiting(DEAD)
    bury(spied, CHAT, event(2))
    path = spied.folder / FILE
    assert spied.run("dead-letters", "export", "--output", FILE).status == 0
    with exports.opened(path) as export:
        first, second = export.letters()
    assert (first.id, first.data, dict(first.attributes)) == (kept.id, kept.data, dict(kept.attributes))
    assert second.data == event(2)
