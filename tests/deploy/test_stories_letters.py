"""Dead letters and rejected bodies: looked at without loss, sent to the handler whose they are alone."""

import json
from collections import Counter
from pathlib import Path

import pytest

from flowhook.deploy.reading import reading
from flowhook.deploy.resources import Place
from flowhook.deploy.rest import Api
from tests.deploy.test_stories_pausing import name_of
from tests.support.google_cloud import picture
from tests.support.google_cloud.client import Session, clock
from tests.support.google_cloud.desk import CHAT, LOG, PROJECT, Desk, Ran
from tests.support.google_cloud.exchange import Request
from tests.support.google_cloud.flows import body, post
from tests.support.google_cloud.simulated import attributes_of, identity

DEAD, REJECTED, REPLAY = "flowhook-dead-letters", "flowhook-rejected", "flowhook-replay"
SOURCE = "CloudPubSubDeadLetterSource"


def event(number: int, collection: str = "pipelinesPackets") -> bytes:
    return body(number, collection, "created", 1_770_000_000.0)


def bury(desk: Desk, handler: str, *events: bytes) -> None:
    """As Pub/Sub does with what a handler has failed for."""
    for data in events:
        attributes = {
            **attributes_of(json.loads(data), data),
            "ce-id": identity(data),
            "ce-subject": json.loads(data)["entityPath"],
            f"{SOURCE}Subscription": name_of(desk, handler),
            f"{SOURCE}DeliveryCount": "100",
        }
        desk.plane.pubsub.publish(DEAD, data, attributes)


def waiting(desk: Desk, box: str = DEAD) -> int:
    return len(desk.plane.pubsub.waiting(box))


def ran_for(desk: Desk) -> dict[str, Counter[str]]:
    """How often each handler ran for each event."""
    found: dict[str, Counter[str]] = {}
    for ran in desk.plane.simulation.ran:
        found.setdefault(ran.handler, Counter())[ran.event] += 1
    return found


def rows(ran: Ran) -> list[str]:
    return [line for line in ran.output.splitlines() if "  " in line][1:]


def published(ran: Ran) -> list[Request]:
    return [request for request in ran.requests if request.path.endswith(":publish")]


# --- looking -----------------------------------------------------------------------------------------------


def test_a_list_says_whose_each_is_and_takes_nothing_away(deployed: Desk) -> None:
    bury(deployed, CHAT, *map(event, range(250)))
    bury(deployed, LOG, event(1000, "users"))
    deployed.plane.time.advance(200)
    for _ in range(2):
        ran = deployed.run("dead-letters", "list")
        assert ran.status == 0, ran.output
        found = rows(ran)
        assert Counter(CHAT in line for line in found) == {True: 250, False: 1}
        assert "251 dead-letters; 251 seen of about 251." in ran.output
        assert "packets.created" in found[0]
        assert found[0].split()[-2:] == ["100", "failed"]
    assert waiting(deployed) == 251
    # Given back at once, not when the subscription's deadline has passed.
    assert len(rows(deployed.run("dead-letters", "list"))) == 251


def test_a_clock_that_is_slow_hides_nothing_without_a_word(deployed: Desk) -> None:
    """What is newer than the command is none of it, lest what comes back is sent for ever."""
    bury(deployed, CHAT, event(1))
    deployed.plane.time.advance(600)
    bury(deployed, CHAT, event(2))
    deployed.slow = 300.0
    ran = deployed.run("dead-letters", "list")
    assert "1 dead-letters; 1 seen, and 1 newer than this command (by the clock here)" in ran.output


def test_an_empty_list_is_no_error(deployed: Desk) -> None:
    ran = deployed.run("dead-letters", "list")
    assert (ran.status, rows(ran)) == (0, [])
    assert "0 dead-letters; 0 seen" in ran.output


@pytest.mark.parametrize(
    ("filters", "count"),
    [
        (["--handler", CHAT], 3),
        (["--handler", LOG], 2),
        (["--type", "users.*"], 2),
        (["--type", "packets.created", "--handler", LOG], 0),
        (["--reason", "failed"], 5),
        (["--reason", "not-json"], 0),
        (["--since", "1h"], 5),
        (["--to", "1h"], 0),
        (["--from", "2020-01-01T00:00Z", "--to", "2021-01-01"], 0),
        (["--entity", "users/4"], 0),
    ],
)
def test_filters_leave_what_is_meant(deployed: Desk, filters: list[str], count: int) -> None:
    bury(deployed, CHAT, *map(event, range(3)))
    bury(deployed, LOG, *(event(number, "users") for number in (3, 4)))
    ran = deployed.run("dead-letters", "list", *filters)
    assert ran.status == 0, ran.output
    assert len(rows(ran)) == count
    assert waiting(deployed) == 5


@pytest.mark.parametrize("words", [["--since", "yesterday"], ["--type", "nothing.ever"], ["browse"], []])
def test_what_is_not_understood_is_told(deployed: Desk, words: list[str]) -> None:
    ran = deployed.run("dead-letters", *(["list"] if words and words[0].startswith("--") else []), *words)
    assert (ran.status, ran.changes) == (1, [])


def test_show_has_the_body_only_where_it_is_asked_for(deployed: Desk) -> None:
    bury(deployed, CHAT, event(1), event(2))
    number = rows(deployed.run("dead-letters", "list"))[1].split()[0]
    ran = deployed.run("dead-letters", "show", number)
    assert "CloudPubSubDeadLetterSourceSubscription" in ran.output
    assert '"entityPath"' not in ran.output
    assert event(2).decode() in deployed.run("dead-letters", "show", number, "--body").output
    assert deployed.run("dead-letters", "show", "999999").status == 1
    assert deployed.run("dead-letters", "show").status == 1
    assert waiting(deployed) == 2


def test_what_a_sender_wrote_moves_no_cursor(deployed: Desk) -> None:
    attributes = {"handler": "m.a", "ce-subject": "a\x1b[2Jb", "reason": "rejected"}
    deployed.plane.pubsub.publish(REJECTED, b"\x1b]0;title\x07\xff", attributes)
    assert "\x1b" not in deployed.run("rejected", "list").output
    number = deployed.plane.pubsub.waiting(REJECTED)[-1].id
    shown = deployed.run("rejected", "show", number, "--body").output
    assert "\x1b" not in shown
    assert "\\xff" in shown


# --- sending again -----------------------------------------------------------------------------------------


def test_each_goes_to_the_handler_that_failed_and_to_no_other(deployed: Desk) -> None:
    bury(deployed, CHAT, *map(event, range(150)))
    bury(deployed, LOG, *(event(number, "users") for number in range(200, 220)))
    ran = deployed.run("dead-letters", "redrive", "--yes")
    assert ran.status == 0, ran.output
    assert f"Sent again: 20 to {LOG}, 150 to {CHAT}." in ran.output
    deployed.plane.time.advance(30)
    assert ran_for(deployed)[CHAT] == Counter(identity(event(number)) for number in range(150))
    assert ran_for(deployed)[LOG] == Counter(identity(event(number, "users")) for number in range(200, 220))
    assert waiting(deployed) == 0


def test_nothing_is_sent_before_somebody_says_yes(deployed: Desk) -> None:
    bury(deployed, CHAT, event(1))
    for words, answers in ((["--dry-run"], []), ([], [False]), ([], [None])):
        deployed.answers = [*answers]
        ran = deployed.run("dead-letters", "redrive", *words)
        assert published(ran) == []
        assert f"1 of {CHAT}" in ran.output
        assert waiting(deployed) == 1


def test_what_is_sent_is_the_same_event_to_the_ledger_unless_it_is_to_run_again(deployed: Desk) -> None:
    seen: list[dict[str, str]] = []
    deployed.plane.pubsub.put("spy", {"name": "p/s/spy", "topic": f"projects/p/topics/{REPLAY}"})
    for words in ([], ["--again"], ["--again"]):
        bury(deployed, CHAT, event(1))
        number = deployed.plane.pubsub.waiting(DEAD)[0].id
        assert deployed.run("dead-letters", "redrive", "--yes", *words).status == 0
        sent = deployed.plane.pubsub.waiting("spy")[-1]
        assert sent.data == event(1)
        assert (sent.attributes["handler"], sent.attributes["redrive-of"]) == (CHAT, number)
        assert sent.attributes["category"] == "packets"
        assert not [name for name in sent.attributes if name.startswith(SOURCE)]
        assert sent.attributes.get("replay", "") == (f"redrive-{number}" if words else "")
        seen.append(dict(sent.attributes))
    assert len({attributes.get("replay") for attributes in seen}) == 3


def test_a_replays_letter_is_that_of_its_handler_and_keeps_its_replay(deployed: Desk) -> None:
    given = {"handler": CHAT, "replay": "incident-7", f"{SOURCE}Subscription": REPLAY, "category": "packets"}
    deployed.plane.pubsub.publish(DEAD, event(1), {**given, "operation": "created", "entity_key": "x"})
    deployed.plane.pubsub.put("spy", {"name": "p/s/spy", "topic": f"projects/p/topics/{REPLAY}"})
    assert CHAT in rows(deployed.run("dead-letters", "list"))[0]
    assert deployed.run("dead-letters", "redrive", "--yes").status == 0
    (sent,) = deployed.plane.pubsub.waiting("spy")
    assert (sent.attributes["handler"], sent.attributes["replay"]) == (CHAT, "incident-7")


def test_what_nobody_can_take_now_stays_and_is_told_why(deployed: Desk) -> None:
    bury(deployed, CHAT, event(1), event(2))
    deployed.plane.pubsub.publish(DEAD, event(3), {"handler": "old.name"})
    deployed.plane.pubsub.publish(DEAD, event(4), {})
    assert deployed.run("pause", CHAT).status == 0
    ran = deployed.run("dead-letters", "redrive", "--yes")
    assert (ran.status, published(ran)) == (0, [])
    assert f"2 stay: {CHAT} is paused: ./deploy.sh resume {CHAT}" in ran.output
    assert "1 stay: flowhook-consume has no handler old.name: --as NEW" in ran.output
    assert "1 stay: they don't say of which handler they are" in ran.output
    assert waiting(deployed) == 4


def test_after_a_rename_they_go_to_the_new_one(deployed: Desk) -> None:
    data = event(3)
    deployed.plane.pubsub.publish(
        DEAD, data, {**attributes_of(json.loads(data), data), "handler": "old.name"}
    )
    assert deployed.run("dead-letters", "redrive", "--handler", "old.name", "--as", LOG, "--yes").status == 0
    deployed.plane.time.advance(30)
    assert ran_for(deployed) == {LOG: Counter([identity(data)])}
    assert waiting(deployed) == 0


def test_a_failure_in_the_middle_says_how_many_may_be_sent_twice(deployed: Desk) -> None:
    bury(deployed, CHAT, *map(event, range(150)))
    deployed.plane.faults.refused[f"POST pubsub.googleapis.com/v1/projects/flows-demo-1/topics/{REPLAY}"] = (
        403
    )
    ran = deployed.run("dead-letters", "redrive", "--yes")
    assert ran.status == 1
    assert "Nothing is lost; at most 100 have been sent" in ran.output
    assert waiting(deployed) == 150


def test_letters_as_large_as_pubsub_takes_go_one_by_one(deployed: Desk) -> None:
    large = [json.dumps({**json.loads(event(n)), "padding": "x" * 5_000_000}).encode() for n in range(3)]
    bury(deployed, CHAT, *large)
    ran = deployed.run("dead-letters", "redrive", "--yes")
    assert ran.status == 0, ran.output
    assert [len(request.document["messages"]) for request in published(ran)] == [1, 1, 1]


def test_what_was_listed_and_is_not_seen_again_is_told(deployed: Desk) -> None:
    bury(deployed, CHAT, *map(event, range(150)))
    deployed.bar = lambda text: snatch(deployed) if "100 of" in text else None
    ran = deployed.run("dead-letters", "redrive", "--yes")
    assert "50 were not seen again, and stay: run it once more in a minute" in ran.output
    assert f"Sent again: 100 to {CHAT}." in ran.output
    deployed.plane.time.advance(60)
    assert f"Sent again: 50 to {CHAT}." in deployed.run("dead-letters", "redrive", "--yes").output


def snatch(desk: Desk) -> None:
    """Have somebody else look at what is there."""
    for kept in desk.plane.pubsub.found[DEAD].waiting.values():
        kept.due, kept.ack_id = desk.plane.time.now + 60, "somebody-else"


def test_what_is_looked_at_for_long_is_held_meanwhile(deployed: Desk) -> None:
    """Five batches take two minutes, twice the subscription's deadline, and yet none comes again."""
    bury(deployed, CHAT, *map(event, range(500)))
    plane = deployed.plane
    api = Api(Session(plane), clock(plane.time), deployed.told)
    before = len(plane.log)
    with reading(api, Place(PROJECT, "1", picture.REGION, "flowhook"), DEAD) as look:
        for _ in look.batches():
            plane.time.advance(25)
    pulls = [request for request in plane.log[before:] if request.path.endswith(":pull")]
    # The last three are empty: they are what proves the end.
    assert (look.seen, len(pulls)) == (500, 5 + 3)


# --- rejected ----------------------------------------------------------------------------------------------


def test_what_is_rejected_is_parsed_again_and_goes_where_it_belongs(deployed: Desk) -> None:
    """One that a handler rejected goes to it, a body that is an event by now to all, what is none stays."""
    post(deployed.plane, b"no json", deployed.accepted[0])
    mended, refused = real_event(1), real_event(2)
    deployed.plane.pubsub.publish(REJECTED, mended, {"reason": "not-an-event", "problem": "{}"})
    deployed.plane.pubsub.publish(
        REJECTED,
        refused,
        {**attributes_of(json.loads(refused), refused), "handler": CHAT, "reason": "rejected"},
    )
    found = [r for r in rows(deployed.run("rejected", "list")) if "flowhook.doctor" not in r]
    assert sorted(line.split()[-1] for line in found) == ["not-an-event", "not-json", "rejected"]
    ran = deployed.run("rejected", "redrive", "--yes")
    assert ran.status == 0, ran.output
    assert "stay: they are no events" in ran.output
    assert "stay: they are the doctor's" in ran.output
    deployed.plane.time.advance(30)
    assert ran_for(deployed)[LOG] == Counter([identity(mended)])
    assert ran_for(deployed)[CHAT] == Counter([identity(mended), identity(refused)])
    left = [message.data for message in deployed.plane.pubsub.waiting(REJECTED)]
    assert b"no json" in left
    assert not {mended, refused} & set(left)


def test_what_is_rejected_again_while_it_is_sent_is_not_sent_for_ever(deployed: Desk) -> None:
    """Each comes back at once: what came after the beginning waits for another command."""
    deployed.plane.simulation.rejecting.add(CHAT)
    data = real_event(1)
    deployed.plane.pubsub.publish(REJECTED, data, {**attributes_of(json.loads(data), data), "handler": CHAT})
    # One that goes on for ever is ended here.
    deployed.plane.kill_at(20, "before")
    ran = deployed.run("rejected", "redrive", "--handler", CHAT, "--yes")
    assert not deployed.plane.revive()
    assert (ran.status, len(published(ran))) == (0, 1)
    deployed.plane.time.advance(30)
    assert data in [message.data for message in deployed.plane.pubsub.waiting(REJECTED)]


def real_event(number: int) -> bytes:
    """With all that the guide's events have."""
    now = "2026-03-01T08:00:00.000Z"
    document = json.loads(event(number))
    path = document["entityPath"]
    state = {"key": path, "properties": {}, "createTime": now, "updateTime": now}
    data = {"value": state, "oldValue": None, "updateMask": None}
    return json.dumps({
        "eventTimestamp": now, "operationType": "created", "entityPath": path, "entityId": "1",
        "entityKey": document["entityKey"], "collectionPath": path.rpartition("/")[0],
        "organizationId": "acme", "data": data, "number": number,
    }).encode()  # fmt: skip


# --- files -------------------------------------------------------------------------------------------------


def test_export_writes_everything_for_its_owner_and_takes_nothing(deployed: Desk, tmp_path: Path) -> None:
    bury(deployed, CHAT, *map(event, range(120)))
    path = tmp_path / "letters.jsonl"
    assert deployed.run("dead-letters", "export", "--output", str(path)).status == 0
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert len(lines) == waiting(deployed) == 120
    assert path.stat().st_mode & 0o777 == 0o600
    assert lines[0]["attributes"][f"{SOURCE}Subscription"] == name_of(deployed, CHAT)
    again = deployed.run("dead-letters", "export", "--output", str(path))
    assert (again.status, len(path.read_text().splitlines())) == (1, 120)


def test_drop_exports_first(deployed: Desk) -> None:
    bury(deployed, CHAT, *map(event, range(5)))
    bury(deployed, LOG, event(9, "users"))
    deployed.answers = [False]
    assert deployed.run("dead-letters", "drop").status == 1
    assert waiting(deployed) == 6
    assert deployed.run("dead-letters", "drop", "--handler", CHAT, "--yes").status == 0
    (path,) = deployed.folder.glob("export-*.jsonl")
    assert len(path.read_text().splitlines()) == 5
    assert waiting(deployed) == 1


def test_a_drop_that_cannot_write_drops_nothing(deployed: Desk) -> None:
    bury(deployed, CHAT, event(1))
    ran = deployed.run("dead-letters", "drop", "--yes", "--output", "no-such-folder/letters.jsonl")
    assert ran.status == 1
    assert waiting(deployed) == 1
