"""The README says what is: its commands, settings, answers and first handler are those that exist."""

import argparse
import re
import shlex
from collections.abc import Iterator
from typing import Any

import pytest

from flowhook import errors, samples, schemes
from flowhook.cli import COMMANDS
from flowhook.errors import NotAPush, Problem, Refused, UnknownHandler
from flowhook.handler import MARK
from flowhook.schemes import SCHEMES
from flowhook.settings import SETTINGS, load
from flowhook.testing import make_event
from flows_emulator.client import Emulator
from tests.support.my_handler import greet
from tests.support.receiver import ROOT

DASH = "\u2013"
README = (ROOT / "README.md").read_text()


def rows(heading: str) -> Iterator[list[str]]:
    """The cells of the table below a heading, without its own heading."""
    section = README.split(f"## {heading}\n")[1].split("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    for line in lines[2:]:
        yield [cell.strip() for cell in line.strip("|").split(" | ")]


def test_the_settings_are_those_that_are_read() -> None:
    told = {name.strip("`"): [default.strip("`"), meaning] for name, default, meaning in rows("Settings")}
    assert set(told) - {"CHAT_WEBHOOK_URL"} == {setting.variable for setting in SETTINGS}
    for setting in SETTINGS:
        assert told[setting.variable] == [f"{setting.default or DASH}", setting.meaning]


def test_the_answers_are_those_that_are_given() -> None:
    told = {(int(cells[1]), cells[2].strip("`")) for cells in rows("Answers") if "`" in cells[2]}
    problems = {
        value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, Problem)
    }
    given = {(problem.status, problem.slug) for problem in problems - {Problem, Refused}}
    pushed = {(problem.status, problem.slug) for problem in (NotAPush, UnknownHandler)}
    assert {pair for pair in told if pair[0] != 200} == given - pushed
    assert {slug for status, slug in told if status == 200} == {"published", "handled", "ignored"}
    assert all(f"`{slug}`" in README.split("## Pub/Sub\n")[1] for _, slug in pushed)


def test_the_ways_of_authentication_are_those_that_are_accepted() -> None:
    told = {cells[0].strip("`") for cells in rows("Authentication")}
    assert told == {"auto", *(scheme.spelling() for scheme in SCHEMES.values())}
    for spelling in told - {"auto"}:
        assert str(schemes.parse(spelling)).lower() == spelling.lower()


def test_the_commands_exist() -> None:
    told = set(re.findall(r"python -m flowhook ([a-z]+)", README))
    assert told == set(COMMANDS)
    makefile = (ROOT / "Makefile").read_text()
    for target in set(re.findall(r"\bmake ([a-z]+)", README)):
        assert f"\n{target}:" in makefile


@pytest.mark.parametrize("options", re.findall(r"python -m flowhook send ([^`#\n]*)", README))
def test_the_options_of_send_exist(options: str) -> None:
    parser = argparse.ArgumentParser()
    COMMANDS["send"].add_arguments(parser)
    words = options.replace("--help", "").split()
    parser.parse_args(words)
    assert all(word in samples.TYPES for word in words if word.startswith("packet"))


@pytest.mark.parametrize("line", re.findall(r"python -m flowhook ((?:emulate|check) [^`#\n>]*)", README))
def test_the_options_of_the_emulator_exist(line: str) -> None:
    name, *words = shlex.split(line)
    parser = argparse.ArgumentParser()
    COMMANDS[name].add_arguments(parser)
    parser.parse_args(words)


def test_the_emulators_test_is_one(flows: Emulator) -> None:
    block = next(b for b in re.findall(r"```python\n(.*?)```", README, re.DOTALL) if "flows.send" in b)
    assert len([line for line in block.splitlines() if line.strip()]) <= 5
    names: dict[str, Any] = {}
    exec(compile(block, "README.md", "exec"), names)
    names["test_my_handler_takes_comments"](flows)


def test_the_first_handler_and_its_test_are_those_that_are_tested() -> None:
    handler = (ROOT / "tests" / "support" / "my_handler.py").read_text()
    blocks = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert handler in blocks
    assert len([line for line in handler.splitlines() if line.strip()]) == 4
    test = next(block for block in blocks if "make_event" in block)
    names: dict[str, object] = {}
    exec(compile(handler, "my_handler.py", "exec"), names)
    source = test.replace("from handlers.my_handler import greet\n", "")
    exec(compile(source, "test_my_handler.py", "exec"), names)
    tests = [value for name, value in names.items() if name.startswith("test_")]
    assert len(tests) == 1


def test_the_first_handler_greets(capsys: pytest.CaptureFixture[str]) -> None:
    greet(make_event("packet_comments.created"))
    assert capsys.readouterr().out == "users/us-ada says: The contract is signed.\n"
    assert [str(pattern) for pattern in getattr(greet, MARK)] == ["packet_comments.created"]


def test_the_defaults_are_enough_with_a_secret() -> None:
    assert load({"WEBHOOK_SECRET": "x" * 16}).wants("other.created")
