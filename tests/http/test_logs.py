"""The log: JSON for Cloud Logging, text for a terminal, and neither can be abused by what is sent."""

import asyncio
import io
import json
import logging
import os
import pty
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx2
import pytest

from flowhook import logs, samples
from flowhook.cli.run import listens
from flowhook.deploy import kinds, metrics
from flowhook.deploy.resources import Place
from flowhook.deploy.rest import Api
from tests.support.google_cloud.client import Session, clock
from tests.support.google_cloud.control_plane import ControlPlane
from tests.support.ports import free_port
from tests.support.receiver import PATIENCE, ROOT, Receiver, project, until

pytestmark = pytest.mark.usefixtures("logging_of_its_own")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def entry(headers: dict[bytes, bytes], project: str = "", **noted: Any) -> dict[str, Any]:
    stream = io.StringIO()
    logs.configure("INFO", project, stream)

    async def deliver() -> None:
        logs.begin(headers)
        logs.write(logging.WARNING, "hello", None, noted)

    asyncio.run(deliver())
    document: dict[str, Any] = json.loads(stream.getvalue())
    return document


def test_a_line_has_the_fields_of_cloud_logging() -> None:
    line = entry(
        {b"traceparent": b"00-" + b"a" * 32 + b"-" + b"b" * 16 + b"-00"}, "acme", handlers=("a", "b")
    )
    assert (line["severity"], line["message"], line["handlers"]) == ("WARNING", "hello", ["a", "b"])
    assert line["logging.googleapis.com/trace"] == f"projects/acme/traces/{'a' * 32}"
    assert line["logging.googleapis.com/trace_sampled"] is False
    assert line["time"].endswith("+00:00")


@pytest.mark.parametrize(
    "headers",
    [{b"traceparent": b"\xff" * 55}, {b"traceparent": b"00-x-y-01"}, {b"x-cloud-trace-context": b"/;o="}, {}],
)
def test_a_malformed_trace_is_no_trace(headers: dict[bytes, bytes]) -> None:
    assert "logging.googleapis.com/trace" not in entry(headers)


def test_what_a_caller_sent_is_cut() -> None:
    line = entry({}, entity_path="x" * 1_000_000, headers_tried=["y" * 1000] * 1000)
    assert len(json.dumps(line)) < 50_000


def test_a_message_is_cut() -> None:
    stream = io.StringIO()
    logs.configure("INFO", "", stream)
    logging.getLogger("handlers.mine").info("%s", "x" * 1_000_000)
    assert len(stream.getvalue()) < 3_000


def test_the_lines_of_a_handler_carry_the_event() -> None:
    stream = io.StringIO()
    logs.configure("INFO", "", stream)
    logs.begin({})
    logs.note({"event_id": "e1"})
    logging.getLogger("handlers.mine").info("working")
    assert json.loads(stream.getvalue())["event_id"] == "e1"


def test_the_deliveries_of_a_turn_are_written_at_once_and_in_order() -> None:
    class Counted(io.StringIO):
        writes = 0

        def write(self, text: str) -> int:
            self.writes += bool(text)
            return super().write(text)

    stream = Counted()
    logs.configure("INFO", "", stream)

    async def deliver(name: str) -> None:
        logs.begin({})
        logs.write(logging.INFO, name, None, {"told": name})

    async def turn() -> None:
        await asyncio.gather(*(deliver(name) for name in "abc"))
        await deliver("d")
        logging.getLogger("handlers.mine").info("e")
        await deliver("f")

    asyncio.run(turn())
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [line["message"] for line in lines] == ["a", "b", "c", "d", "e", "f"]
    assert [line["told"] for line in lines] == ["a", "b", "c", "d", "d", "f"]
    assert stream.writes == 4


def test_a_terminal_gets_text_that_it_can_not_be_made_to_obey() -> None:
    stream = Terminal()
    logs.configure("INFO", "", stream)
    logs.begin({})
    try:
        raise ValueError("\x1b[2J\x07gone")
    except ValueError as error:
        message = "packets.created \x1b[31mred\r\n2nd line"
        logs.write(logging.ERROR, message, error, {"status": 500, "milliseconds": 1.5})
    text = stream.getvalue()
    assert "\x1b" not in text
    assert "\x07" not in text
    assert "\\x1b[31mred\\r\\n2nd line  [500, 1.5 ms]" in text
    assert "ValueError: \\x1b[2J\\x07gone" in text


def test_a_terminal_gets_the_names_of_the_headers_that_were_tried() -> None:
    stream = Terminal()
    logs.configure("INFO", "", stream)
    logs.begin({})
    logs.write(logging.WARNING, "Not authentic", None, {"headers_tried": ["host", "x-\x1b[2Jodd"]})
    assert "Not authentic  headers tried: host, x-\\x1b[2Jodd" in stream.getvalue()


def test_a_level_hides_what_is_below_it() -> None:
    stream = io.StringIO()
    logs.configure("ERROR", "", stream)
    logs.write(logging.WARNING, "hidden")
    assert stream.getvalue() == ""


def test_make_run_in_a_terminal_shows_text(tmp_path: Path) -> None:
    """The command itself, on a pseudo-terminal, one event sent to it, stopped as Ctrl-C does."""
    port = free_port()
    ours, theirs = pty.openpty()
    source = project(tmp_path, mine="from flowhook import on\n@on('*')\ndef f(event): ...")
    for path in (ROOT / "Makefile", *ROOT.glob("requirements*.txt"), ROOT / "handlers" / "requirements.txt"):
        (source / path.relative_to(ROOT)).symlink_to(path)
    process = subprocess.Popen(
        ["make", "run", f"VENV={sys.prefix}"],
        cwd=source,
        env={**os.environ, "PORT": str(port)},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    )
    os.close(theirs)
    said = b""

    def reads(words: bytes) -> bool:
        nonlocal said
        if words not in said:
            said += os.read(ours, 65_536)
        return words in said

    try:
        until(lambda: reads(b"curl"))
        until(lambda: listens(port))
        headers = {"authorization": "Bearer flowhook-development-secret"}
        body = samples.load("users.created")
        assert httpx2.post(f"http://127.0.0.1:{port}", content=body, headers=headers).status_code == 200
        until(lambda: reads(b"users.created users/us-ada: handled by mine.f"))
        until(lambda: reads(b"  [200, "))
        assert b"{" not in said
    finally:
        os.killpg(process.pid, signal.SIGINT)
        process.wait(PATIENCE)
        os.close(ours)
    assert not listens(port)


def test_the_metric_of_a_deployment_counts_the_lines_that_receive_writes(running: Receiver) -> None:
    place = Place("flows-demo-1", "123456789012", "europe-west1", "flowhook")
    wanted, plane = metrics.planned(place), ControlPlane(place.project)
    plane.place.enabled_from["logging.googleapis.com"] = 0.0
    api = Api(Session(plane), clock(plane.time), print)
    kinds.create(api, place, wanted)
    assert running.post(samples.load("packets.updated")).status_code == 200
    assert running.post(b"no json").status_code == 400
    for line in running.deliveries()[-2:]:
        plane.logs.write("flowhook-receive", line, at=plane.time.now)
        plane.logs.write("somebody-elses", line, at=plane.time.now)
    plane.time.advance(60)
    counted = [(c.labels["outcome"], c.labels["type"]) for c in plane.logs.counted(wanted.name)]
    assert sorted(counted) == [("handled", "packets.updated"), ("not-json", "")]
