"""`tail`: each delivery once, whenever its line arrives, as it would stand on a terminal."""

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence

import pytest

from tests.support.google_cloud.desk import CHAT, HANDLERS, LOG, Desk, Ran
from tests.support.google_cloud.flows import body, post
from tests.support.receiver import ROOT

# Some seconds after the beginning, in which what a deployment itself has sent is too old to be shown.
QUIET = 120.0


@pytest.fixture
def quiet(deployed: Desk) -> Desk:
    deployed.plane.time.advance(QUIET)
    return deployed


def event(number: int, collection: str = "pipelinesPackets", operation: str = "created") -> bytes:
    return body(number, collection, operation, 1_770_000_000.0)


def send_at(desk: Desk, seconds: float, *events: bytes, **faults: float) -> None:
    """Send later, while something is late."""

    def send() -> None:
        with desk.plane.faults.set(**faults):
            for one in events:
                assert post(desk.plane, one, desk.accepted[0]) in (200, 400)

    desk.plane.time.after(seconds, send)


def tail(desk: Desk, *words: str, seconds: float = 60.0) -> Ran:
    """Look for a while, and press Ctrl-C."""
    desk.leaves_at = desk.plane.time.now + seconds
    ran = desk.run("tail", *words)
    desk.leaves_at = float("inf")
    return ran


def lines(ran: Ran) -> list[str]:
    """What was shown, without what was told and without the times."""
    return [text[9:] for text in ran.output.splitlines() if text[2:3] == text[5:6] == ":"]


def published(shown: Sequence[str]) -> Counter[str]:
    """How often each entity's delivery was shown."""
    return Counter(text.split("/")[-1].split(":")[0] for text in shown if "published" in text)


def test_deliveries_are_shown_as_they_happen_and_ctrl_c_ends_it_quietly(quiet: Desk) -> None:
    send_at(quiet, 10, event(1))
    send_at(quiet, 20, event(2, "users"))
    ran = tail(quiet)
    assert (ran.status, ran.changes) == (0, [])
    shown = lines(ran)
    assert "INFO    packets.created organizations/o/pipelinesPackets/1: published  [200, 3.2 ms]" in shown
    assert "INFO    users.created organizations/o/users/2: published  [200, 3.2 ms]" in shown
    assert sum("handled" in text for text in shown) == 3
    assert ran.output.splitlines()[0] == "Deliveries of flowhook as they happen; Ctrl-C ends it."
    assert "Interrupted" not in ran.output


def test_what_happened_in_the_last_minute_comes_first(quiet: Desk) -> None:
    assert post(quiet.plane, event(1), quiet.accepted[0]) == 200
    quiet.plane.time.advance(40)
    assert published(lines(tail(quiet, seconds=5))) == {"1": 1}
    quiet.plane.time.advance(40)
    assert lines(tail(quiet, seconds=5)) == []


def test_each_is_shown_once_however_late_it_is_received_or_found(quiet: Desk) -> None:
    for second in range(40):
        late, hidden = second * 7 % 5 * 60.0, second % 3 * 10.0
        send_at(quiet, 5 + second, event(second), logs_late=late, logs_hidden=hidden)
    ran = tail(quiet, seconds=600)
    assert published(lines(ran)) == {str(number): 1 for number in range(40)}


def test_more_than_a_page_of_one_moment_is_shown_once_each(quiet: Desk) -> None:
    quiet.plane.faults.page_size = 7
    send_at(quiet, 10, *map(event, range(60)))
    ran = tail(quiet, seconds=120)
    assert published(lines(ran)) == {str(number): 1 for number in range(60)}


def test_a_question_that_fails_for_a_while_is_asked_again(quiet: Desk) -> None:
    send_at(quiet, 10, event(1))
    quiet.plane.time.after(15, lambda: setattr(quiet.plane.faults, "too_many", 3))
    send_at(quiet, 20, event(2))
    ran = tail(quiet, seconds=120)
    assert published(lines(ran)) == {"1": 1, "2": 1}


def test_it_asks_no_more_than_it_may_and_for_no_more_than_it_needs(quiet: Desk) -> None:
    ran = tail(quiet, seconds=1800)
    asked = [request for request in ran.requests if request.path.endswith("entries:list")]
    assert len(asked) <= 1800 / 60 * 25
    since = [json.loads(request.body)["filter"].partition("receiveTimestamp>=")[2] for request in asked]
    assert since[0] < since[-1]


# --- which -------------------------------------------------------------------------------------------------


@pytest.fixture
def mixed(quiet: Desk) -> Desk:
    """One that gets events of several types, for handlers that fail, reject and succeed."""
    quiet.plane.simulation.failing.add(CHAT)
    send_at(quiet, 5, event(1), event(2, "users"), event(3, "users", "updated"), b"no json")
    return quiet


def outcomes(ran: Ran) -> set[str]:
    """What was shown, by the last word of each line before its figures."""
    return {text.partition("  [")[0].split()[-1] for text in lines(ran)}


@pytest.mark.parametrize(
    ("words", "kinds", "shown"),
    [
        ([], {"packets.created", "users.created", "users.updated", "not-json"}, None),
        (["--handler", CHAT], {"packets.created"}, {"handler-failed"}),
        (["--handler", LOG], {"packets.created", "users.created", "users.updated"}, {"handled"}),
        (["--type", "users.*"], {"users.created", "users.updated"}, {"published", "handled"}),
        (["--type", "*.updated"], {"users.updated"}, {"published", "handled"}),
        (["--type", "packets.created", "--handler", LOG], {"packets.created"}, {"handled"}),
        (["--type", "*"], {"packets.created", "users.created", "users.updated", "not-json"}, None),
        (["--failed"], {"packets.created", "not-json"}, {"handler-failed", "not-json"}),
        (["--failed", "--handler", LOG], set(), set()),
    ],
)
def test_only_what_is_meant_is_shown(
    mixed: Desk, words: list[str], kinds: set[str], shown: set[str] | None
) -> None:
    ran = tail(mixed, *words)
    assert ran.status == 0, ran.output
    assert {text.split()[1] for text in lines(ran)} == kinds
    assert shown is None or outcomes(ran) == shown


def test_what_was_left_out_of_the_log_is_counted_in_it_and_shown(quiet: Desk) -> None:
    line = {
        "severity": "WARNING",
        "message": "25 more requests were refused",
        "left_out": {"unauthentic": 25},
    }
    quiet.plane.time.after(5, lambda: quiet.plane.logs.write("flowhook-receive", line))
    assert lines(tail(quiet, "--failed")) == ["WARNING 25 more requests were refused"]


def test_lines_of_others_are_not_shown(quiet: Desk) -> None:
    line = {"severity": "INFO", "message": "hello"}
    quiet.plane.time.after(5, lambda: quiet.plane.logs.write("flowhook-receive", line))
    other = {**line, "outcome": "published"}
    quiet.plane.time.after(5, lambda: quiet.plane.logs.write("flowhook-two-receive", other))
    assert lines(tail(quiet)) == []


def test_a_line_moves_no_cursor(quiet: Desk) -> None:
    line = {
        "severity": "WARNING",
        "message": "a\x1b[2Jb\nc",
        "outcome": "unauthentic",
        "headers_tried": ["x-\x1b[31m", 7],
        "status": 401,
        "milliseconds": 0.5,
    }
    quiet.plane.time.after(5, lambda: quiet.plane.logs.write("flowhook-receive", line))
    (shown,) = lines(tail(quiet))
    assert "\x1b" not in shown
    assert shown.endswith(", 7  [401, 0.5 ms]")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--handler", "mine.nobody"], f"no handler mine.nobody is deployed; these are: {LOG}, {CHAT}"),
        (["--handler", 'x" OR "'], "is deployed; these are"),
        (["--type", "packages.*"], "did you mean packets?"),
        (["--json"], "unknown argument --json"),
    ],
)
def test_what_would_never_show_anything_is_told(quiet: Desk, words: list[str], told: str) -> None:
    ran = tail(quiet, *words)
    assert ran.status == 1
    assert told in ran.output


def test_handlers_of_inline_delivery_are_shown_too(desk: Desk) -> None:
    desk.handlers(HANDLERS)
    assert desk.run("--yes", "--delivery", "inline").status == 0
    desk.plane.time.advance(QUIET)
    desk.plane.simulation.failing.add(CHAT)
    send_at(desk, 5, event(2, "users"))
    ran = tail(desk, "--handler", LOG)
    assert outcomes(ran) == {"handled"}


def test_nobody_who_reads_any_more_ends_it_quietly() -> None:
    """As in `./deploy.sh tail | head`."""
    script = (
        "from flowhook.deploy import commands, surroundings, tail\n"
        "def shown(run):\n"
        "    while True: surroundings.show('a line')\n"
        "tail.tail, commands.operating = shown, lambda wanted, around: None\n"
        "raise SystemExit(commands.follow(None, None))\n"
    )
    command = [sys.executable, "-c", script]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout
        assert process.stderr
        assert process.stdout.readline() == b"a line\n"
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(30) == 0
