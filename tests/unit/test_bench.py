"""What the bench makes of its measurements, and the client of its open loop."""

import asyncio
import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from xml.etree.ElementTree import fromstring

import pytest

from bench import cold, load, picture, report
from bench.arrivals import Arrivals, requests
from bench.probing import probing
from bench.rounds import BODIES, FAR, LARGE, OPEN, ROUND_TRIP, SHARES, Sample
from bench.serving import CONTESTANTS
from bench.targets import AGAIN, OURS, RECORDED, Case, Results, control, reached
from flowhook.cli.errors import CommandError
from tests.support.receiver import project, until

NAMES = [contestant.name for contestant in CONTESTANTS]


def sample(number: int, case: Case, slow: float) -> Sample:
    """Others are 20 times as slow as ours; a whole round is `slow` times as slow."""
    factor = slow * (1 if case.contestant in (OURS, AGAIN) else 20)
    times = {"p50": 0.001 * factor, "p99": 0.002 * factor, "cpu": 0.0001 * factor, "rate": 8000 / factor}
    memory = {"worker": 60.0, "peak": 61.0, "all": 70.0}
    used = {"client": 0.5, "broker": 0.25, "here": 0.1, "late": 0.0004, "offered": 100.0}
    return {"round": number, **case._asdict(), **times, **used, "refused": 0, "broken": 0, "memory": memory}


def cases() -> Iterator[Case]:
    for name in NAMES:
        yield from (Case(name, 1), Case(name))
    yield from (Case(name, clients, size) for name in LARGE for size, clients in BODIES.items())
    yield from (Case(name, clients, delay=ROUND_TRIP) for name in FAR for clients in (1, 64))
    yield from (Case(name, share=share) for name in OPEN for share in SHARES)


def results() -> dict[str, object]:
    rounds = (1.0, 3.0, 1.5)
    starts = [
        {"round": number, "contestant": name, "seconds": 0.3 * slow}
        for number, slow in enumerate(rounds)
        for name in [*NAMES, "consume, a handler"]
    ]
    books = {"accepted": 9, "after": 3, "found": 9, "lost": 1, "refused": 0, "broken": 0}
    return {
        "machine": {"python": "3"},
        "rounds": 3,
        "load": [sample(number, case, slow) for number, slow in enumerate(rounds) for case in cases()],
        "growth": [{"minute": minute, "offered": 1.0, **sample(0, Case(OURS), 1.0)} for minute in (0.5, 1)],
        "cold": starts,
        "imports": [{name: {"packages": {"grpc": 0.05}, "handlers": 0.007}} for name in NAMES],
        "instructions": {"dropped": RECORDED["dropped"] / 2, "published": RECORDED["published"]},
        "tls": {"cpu": 0.0002, "accepted": 9, "size": 12.0},
        "outage": [{"contestant": OURS, **books}],
    }


def test_a_ratio_is_that_of_the_rounds_and_a_lost_event_misses_its_target() -> None:
    found: Results = results()
    values = {
        target.figure: (round(value, 6), target.met(value))
        for target, value in reached(found)
        if value is not None
    }
    expected = {
        "instructions of an event, dropped, ÷ recorded": (0.5, True),
        "instructions of an event, published, ÷ recorded": (1, False),
        "requests/s at 64 clients ÷ empty-sync": (20, True),
        "CPU per event at 64 clients ÷ empty-async": (0.05, True),
        "cold start ÷ empty-async": (1, True),
        "memory after load at 64 clients, MB": (60, True),
        "events lost, broker killed under load": (1, False),
    }
    assert {figure: values[figure] for figure in expected} == expected


def test_the_control_compares_each_round_with_the_same_round() -> None:
    found = dict(control(results()))
    assert found["cpu at 64"] == found["cold start"] == pytest.approx([1, 1, 1])


def test_all_is_in_the_report_and_the_picture() -> None:
    found = results()
    text = "\n".join(report.lines(found))
    assert "not met" in text
    assert "limit of: nothing" in text
    for title in ("20 ms", "Open loop", "Instructions", "÷ flowhook-pubsub, which are the same"):
        assert title in text
    shown = "".join(fromstring(picture.draw(found)).itertext())
    for name in NAMES:
        assert name in text
        assert (name in shown) == (name != AGAIN)


@pytest.mark.parametrize("missing", ["load", "cold", "imports", "instructions", "tls", "outage", "growth"])
def test_a_run_that_was_stopped_is_reported_as_far_as_it_came(missing: str) -> None:
    found = results()
    del found[missing]
    text = "\n".join(report.lines(found))
    assert ("not measured" in text) == (missing in {"load", "cold", "instructions", "outage"})


def test_a_round_that_was_stopped_is_compared_as_far_as_it_came() -> None:
    found = results()
    # Ours had its turn in the second round, the empty function hadn't.
    found["load"] = [sample(0, case, 1.0) for case in cases()] + [sample(1, Case(OURS), 5.0)]
    values = {target.figure: value for target, value in reached(found)}
    assert values["CPU per event at 64 clients ÷ empty-async"] == pytest.approx(0.05)
    assert "Noise" in "\n".join(report.lines(found))


def test_a_run_without_growth_is_drawn_too() -> None:
    found = results()
    del found["growth"]
    assert "not measured" in picture.draw(found)


def test_who_was_busy_is_named() -> None:
    found = results()
    samples = json.loads(json.dumps(found["load"]))
    found["load"] = [{**one, "client": load.BUSY, "here": load.BUSY} for one in samples]
    text = "\n".join(report.lines(found))
    assert "client was the limit of: empty-async at 1 clients" in text
    assert "proxy was the limit of: flowhook-pubsub at 1 clients, 1000 bytes, 20 ms away" in text


def test_the_time_of_imports_is_told_by_package() -> None:
    text = b"""import time: self [us] | cumulative | imported package
import time:      1000 |       1000 |     pydantic.main
import time:       500 |       1500 |   mine
noise
import time:       250 |        250 | pydantic
"""
    assert cold.packages(text) == {"pydantic": 0.00125, "mine": 0.0005}


def test_a_slow_handler_shows_as_the_handlers_part(tmp_path: Path) -> None:
    source = project(tmp_path, slow="import time; time.sleep(0.1)\n" + cold.HANDLER) / "main.py"
    settings = {"WEBHOOK_SECRET": "x" * 32, "GOOGLE_CLOUD_PROJECT": "demo"}
    assert 0.1 <= cold.handlers(cold.consume("slow", source, settings)) < 10


class Server(asyncio.Protocol):
    """Answers what it is told, one request after the other; None closes the connection."""

    def __init__(self, answers: Iterator[tuple[float, int | None]]) -> None:
        self._answers = answers

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        delay, status = next(self._answers)
        asyncio.get_running_loop().call_later(delay, self._answer, status)

    def _answer(self, status: int | None) -> None:
        if status is None:
            self._transport.close()
        else:
            self._transport.write(b"HTTP/1.1 %d X\r\nContent-Length: 2\r\n\r\n{}" % status)


def arrived(answers: list[tuple[float, int | None]], rate: float, connections: int) -> Arrivals:
    """One event for each answer."""

    async def run() -> Arrivals:
        following = iter(answers)
        server = await asyncio.get_running_loop().create_server(lambda: Server(following), "127.0.0.1", 0)
        async with server:
            port = server.sockets[0].getsockname()[1]
            made = Arrivals(f"http://127.0.0.1:{port}/", requests(1000), connections)
            await made.run(rate, len(answers) / rate)
            made.close()
        return made

    return asyncio.run(run())


def test_an_event_that_waits_for_a_connection_has_waited_since_it_was_due() -> None:
    found = arrived([(0.3, 200), *[(0.0, 200)] * 9], rate=100, connections=1)
    assert len(found.times) == 10
    # They were due every 10 ms and could be sent after 300 ms.
    assert all(took >= 0.3 - 0.01 * number - 0.001 for number, took in enumerate(found.times))
    assert max(found.lateness) < 0.3


def test_events_arrive_while_others_are_under_way() -> None:
    found = arrived([(0.3, 200), *[(0.0, 200)] * 9], rate=100, connections=2)
    assert len(found.times) == 10
    assert found.times[-1] >= 0.3
    assert max(found.times[:-1]) < 0.3


def test_the_open_loop_counts_what_is_refused_and_what_is_cut() -> None:
    found = arrived([(0.0, 200), (0.0, 503), (0.0, None), (0.0, 200)], rate=20, connections=1)
    assert (len(found.times), found.refused, found.broken) == (3, 1, 1)


def test_the_open_loop_gives_up_what_nobody_listens_for() -> None:
    found = Arrivals("http://127.0.0.1:1/", requests(1000), 4)
    asyncio.run(found.run(100, 0.05))
    assert (found.times, found.broken) == ([], 5)


@pytest.mark.parametrize("size", [1_000, 100_000, 1_000_000])
def test_a_body_has_about_the_size_that_is_asked_for_and_one_place_for_an_id(size: int) -> None:
    made = load.body(size)
    assert 0.9 * size < len(made) < 1.1 * size
    assert made.count(b"@ID@") == 1
    json.loads(made)


def test_without_wrk_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(CommandError, match="apt-get install wrk"):
        load.find()


class Answers(BaseHTTPRequestHandler):
    """Answers the third event after 0.3 s, refuses the fourth, and ends the connection of the fifth."""

    protocol_version = "HTTP/1.1"
    seen = 0

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        Answers.seen += 1
        if self.seen == 3:
            time.sleep(0.3)
        if self.seen == 5:
            self.connection.shutdown(socket.SHUT_RDWR)
            self.close_connection = True
            return
        self.send_response(503 if self.seen == 4 else 200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_arguments: object) -> None:
        return


def test_the_probe_tells_how_long_an_event_waits_and_what_becomes_of_the_others() -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), Answers) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with probing(server.server_port, os.getpid(), b"{}", {}) as probe:
            until(lambda: Answers.seen > 8)
        server.shutdown()
    assert max(probe.waited) >= 0.3
    assert sorted(probe.waited)[-2] < 0.3
    assert (probe.refused, probe.broken) == (1, 1)
    assert len(probe.worked) == len(probe.waited) == Answers.seen - 2
    assert max(probe.worked) < max(probe.waited)
