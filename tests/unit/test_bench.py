"""The parts of the bench that measure nothing: what is made of the measurements."""

import json
from xml.etree.ElementTree import fromstring

import pytest

from bench import load, picture, report
from bench.rounds import BODIES, LARGE, Sample
from bench.serving import CONTESTANTS
from bench.targets import OURS, Results, reached
from flowhook.cli.errors import CommandError

NAMES = [contestant.name for contestant in CONTESTANTS]


def sample(number: int, contestant: str, clients: int, size: int, slow: float) -> Sample:
    """Others are 20 times as slow as ours; a whole round is `slow` times as slow."""
    factor = slow * (1 if contestant == OURS else 20)
    seen = {"round": number, "contestant": contestant, "clients": clients, "size": size}
    times = {"p50": 0.001 * factor, "p99": 0.002 * factor, "cpu": 0.0001 * factor, "rate": 8000 / factor}
    memory = {"worker": 60.0, "peak": 61.0, "all": 70.0}
    return {**seen, **times, "refused": 0, "broken": 0, "client": 0.5, "broker": 0.25, "memory": memory}


def results() -> dict[str, object]:
    sizes = [(1, 1000), (64, 1000), *((clients, size) for size, clients in BODIES.items())]
    samples = [
        sample(number, name, clients, size, slow)
        for number, slow in enumerate((1.0, 3.0, 1.5))
        for name in NAMES
        for clients, size in sizes
        if size == 1000 or name in LARGE
    ]
    books = {"accepted": 9, "after": 3, "found": 9, "lost": 1, "refused": 0, "broken": 0}
    return {
        "machine": {"python": "3"},
        "rounds": 3,
        "load": samples,
        "growth": [
            {"minute": minute, "offered": 1.0, **sample(0, OURS, 64, 1000, 1.0)} for minute in (0.5, 1)
        ],
        "cold": {name: [0.5, 0.3, 0.4] for name in NAMES},
        "imports": {name: {"grpc": 0.05} for name in NAMES},
        "tls": {"cpu": 0.0002, "accepted": 9, "size": 12.0, "cold": [0.5]},
        "outage": [{"contestant": OURS, **books}],
    }


def test_a_ratio_is_that_of_the_rounds_and_a_lost_event_misses_its_target() -> None:
    found: Results = results()
    values = {target.figure: (round(value, 6), target.met(value)) for target, value in reached(found)}
    expected = {
        "requests/s at 64 clients ÷ empty-sync": (20, True),
        "CPU per event at 64 clients ÷ empty-async": (0.05, True),
        "cold start ÷ empty-async": (1, True),
        "events lost, broker killed under load": (1, False),
    }
    assert {figure: values[figure] for figure in expected} == expected


def test_all_is_in_the_report_and_the_picture() -> None:
    found = results()
    text = "\n".join(report.lines(found))
    assert "not met" in text
    assert "limit of: nothing" in text
    shown = "".join(fromstring(picture.draw(found)).itertext())
    for name in NAMES:
        assert name in text
        assert name in shown


def test_a_run_without_growth_is_drawn_too() -> None:
    assert "not measured" in picture.draw({**results(), "growth": []})


def test_a_client_that_was_busy_is_named() -> None:
    found = results()
    found["load"] = [{**one, "client": load.BUSY} for one in json.loads(json.dumps(found["load"]))]
    assert "limit of: empty-async at 1 clients" in "\n".join(report.lines(found))


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
