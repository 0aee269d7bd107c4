"""How far it is: a line that is rewritten on a terminal, lines elsewhere."""

import io
import os
import pty
import re
import sys

import pytest

from flowhook.cli import deploy as command
from flowhook.deploy import progress
from flowhook.deploy.terminal import CLEAR, Terminal, is_watched
from tests.deploy.test_stories_letters import bury, event
from tests.deploy.test_stories_replay import send
from tests.support.google_cloud.desk import CHAT, Desk


@pytest.mark.parametrize(
    ("count", "total", "drawn"),
    [
        (0, 250, "[........................]   0 %"),
        (100, 250, "[#########...............]  40 %"),
        (249, 250, "[#######################.]  99 %"),
        (250, 250, "[########################] 100 %"),
        (300, 250, "[########################] 100 %"),
    ],
)
def test_only_what_is_whole_is_drawn_whole(count: int, total: int, drawn: str) -> None:
    assert progress.drawn(count, total) == drawn


def test_a_redrive_shows_a_bar_on_a_terminal_alone(deployed: Desk) -> None:
    bury(deployed, CHAT, *map(event, range(250)))
    deployed.bar = (bars := list[str]()).append
    ran = deployed.run("dead-letters", "redrive", "--yes")
    assert [re.sub(r"\d+ a second, \d+ s", "N", bar) for bar in bars] == [
        "[#########...............]  40 %  100 of 250 sent, N left",
        "[###################.....]  80 %  200 of 250 sent, N left",
        "[########################] 100 %  250 of 250 sent, N left",
        "",
    ]
    assert " of 250 sent" not in ran.output
    bury(deployed, CHAT, *map(event, range(150)))
    deployed.bar = None
    ran = deployed.run("dead-letters", "redrive", "--yes")
    assert "100 of 150 sent\n150 of 150 sent\n" in ran.output


def test_a_replay_knows_only_how_many_there_are_at_least(deployed: Desk) -> None:
    send(deployed, range(150))
    deployed.bar = (bars := list[str]()).append
    assert deployed.run("replay", CHAT, "--since", "1h", "--yes").status == 0
    assert [bar.partition(",")[0] for bar in bars] == [
        "[################........]  66 %  100 of at least 150 sent",
        "[########################] 100 %  150 of at least 150 sent",
        "",
    ]


def test_the_line_is_ended_whatever_ends_the_sending(deployed: Desk) -> None:
    bury(deployed, CHAT, event(1))
    deployed.bar = (bars := list[str]()).append
    deployed.plane.faults.refused["topics/flowhook-replay"] = 403
    assert deployed.run("dead-letters", "redrive", "--yes").status == 1
    assert bars == [""]


def test_lines_stand_above_the_one_that_is_rewritten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "11")
    terminal = Terminal(stream := io.StringIO())
    terminal.tell("before")
    terminal.bar("")
    terminal.bar("0123456789 is too long")
    terminal.tell("between")
    terminal.bar("last")
    terminal.bar("")
    terminal.tell("after")
    expected = f"before\n{CLEAR}0123456789{CLEAR}between\n0123456789{CLEAR}last\nafter\n"
    assert stream.getvalue() == expected


@pytest.mark.parametrize("kind", ["xterm", "dumb"])
def test_whether_somebody_watches(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", kind)
    main, other = pty.openpty()
    with os.fdopen(other, "w") as stream:
        monkeypatch.setattr(sys, "stderr", stream)
        assert is_watched(stream) == (kind == "xterm")
        assert (command.surroundings().bar is not None) == (kind == "xterm")
    os.close(main)


def test_a_file_is_no_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    assert command.surroundings().bar is None
