"""The documents say what is: their tables, commands, links and figures are those of the code."""

import argparse
import contextlib
import functools
import importlib.util
import io
import json
import os
import re
import statistics
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import fromstring

import pytest

import bench.targets
from bench.serving import CONTESTANTS, CONTROL
from flowhook import errors, events, samples, schemes
from flowhook.categories import CATEGORIES
from flowhook.cli import COMMANDS, parser
from flowhook.envelope import Envelope
from flowhook.errors import NotAPush, Problem, Refused, UnknownHandler
from flowhook.pubsub import messages
from flowhook.schemes import SCHEMES
from flowhook.settings import SETTINGS, load
from flowhook.version import VERSION
from flows_emulator.faults import FAULTS
from tests.support.documents import DOCUMENTS, README, Command, Document, document
from tests.support.receiver import ROOT

DASH = "\u2013"
# What the history says was true at its time.
CURRENT = [found for found in DOCUMENTS if found.name != "CHANGELOG.md"]
COMMANDS_TOLD = sorted({command.text: command for d in CURRENT for command in d.commands()}.items())
CODE = [(f"{d.name}, {path}", code) for d in CURRENT for path, code in d.modules()]
# By `make bench`.
MADE = {"bench/last.json", "bench/last.svg", "handlers/requirements.txt"}
# Read by the tools, not by the function.
TOOLS_VARIABLES = {"PORT", "PYTEST", "PYTHON", "VENV"}


def problems() -> set[type[Problem]]:
    found = {
        value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, Problem)
    }
    return found - {Problem, Refused}


def first_cells(name: str, heading: str) -> list[str]:
    return [cells[0].strip("`") for cells in document(name).table(heading)]


def test_the_readme_is_short_and_leads_to_every_document() -> None:
    assert len(README.text.splitlines()) <= 120
    assert {f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md")} <= README.links()
    assert {path.name for path in ROOT.glob("*.md")} - {"README.md"} <= README.links()


@pytest.mark.parametrize("found", DOCUMENTS, ids=lambda found: found.name)
def test_the_links_lead_somewhere(found: Document) -> None:
    assert [link for link in found.links() if not (found.path.parent / link).exists()] == []


@pytest.mark.parametrize("found", CURRENT, ids=lambda found: found.name)
def test_the_files_that_are_named_exist(found: Document) -> None:
    named = set(
        re.findall(
            r"`((?:bench|docs|flowhook|flows_emulator|handlers|tests)/[\w./-]*(?:\.\w+|/))`", found.text
        )
    )
    yours = {path for d in CURRENT for path, _ in d.modules()}
    assert {path for path in named - yours - MADE if not (ROOT / path).exists()} == set()


def test_the_settings_are_those_that_are_read() -> None:
    told = {
        cells[0].strip("`"): [cells[1].strip("`"), cells[2]]
        for cells in document("settings").table("variable")
    }
    assert set(told) - {"CHAT_WEBHOOK_URL"} == {setting.variable for setting in SETTINGS}
    for setting in SETTINGS:
        assert told[setting.variable] == [f"{setting.default or DASH}", setting.meaning]


def test_the_defaults_are_enough_with_a_secret() -> None:
    assert load({"WEBHOOK_SECRET": "x" * 16}).wants("other.created")


def test_the_answers_are_those_that_are_given() -> None:
    told = {(int(status), slug.strip("`")) for _, status, slug in document("answers").table("situation")}
    given = {(problem.status, problem.slug) for problem in problems() - {NotAPush, UnknownHandler}}
    assert {pair for pair in told if pair[0] != 200} == given
    assert {slug for status, slug in told if status == 200} == {"published", "handled", "ignored"}


def test_the_problems_of_consume_are_told() -> None:
    text = document("pubsub").text
    assert [p.slug for p in (NotAPush, UnknownHandler) if f"`{p.slug}`" not in text] == []


def test_what_to_do_is_told_for_outcomes_that_exist() -> None:
    told = [
        slug for cell in first_cells("operations", "outcome in the log") for slug in re.split(r"`, `", cell)
    ]
    assert set(told) <= {problem.slug for problem in problems()}


def test_the_schemes_are_those_that_are_accepted() -> None:
    told = first_cells("authentication", "`WEBHOOK_AUTH`")
    assert sorted(told) == sorted(["auto", *(scheme.spelling() for scheme in SCHEMES.values())])
    for spelling in set(told) - {"auto"}:
        assert str(schemes.parse(spelling)).lower() == spelling.lower()


def test_the_categories_are_those_that_exist() -> None:
    told = document("handlers").text.split("The categories are ")[1].split(".")[0]
    assert {*re.findall(r"`(\w+)`", told)} == {*CATEGORIES, "other"}


def test_the_events_attributes_exist() -> None:
    event = events.parse(samples.load("packet_comments.updated"))
    told = [cell.removeprefix("event.") for cell in first_cells("handlers", "attribute")]
    told += re.findall(r"`event\.([a-z_.]+)`", document("handlers").text)
    for path in told:
        value: object = event
        for name in path.partition("(")[0].split("."):
            assert hasattr(value, name), path
            value = getattr(value, name)


def test_the_messages_attributes_are_those_that_are_published() -> None:
    trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    event = Envelope.of(events.parse(samples.load("packets.updated"), traceparent=trace))
    assert sorted(first_cells("pubsub", "attribute")) == sorted(messages.of_event(event).attributes)


def test_the_attributes_of_what_is_rejected_are_those_that_are_published() -> None:
    told = set(re.findall(r"`(\w+)`", document("pubsub").text.split("## Rejected messages")[1]))
    event = Envelope.of(events.parse(samples.load("packets.updated")))
    refused = set(messages.of_refused(b"{", errors.NotJson("no")).attributes)
    rejected = set(messages.of_rejected(event, "a.b", "no").attributes)
    assert told == refused | rejected - set(messages.of_event(event).attributes)


def subcommands(of: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    return next(a.choices for a in of._actions if isinstance(a, argparse._SubParsersAction))


def test_the_emulators_actions_and_manners_are_those_that_exist() -> None:
    assert first_cells("emulator", "action") == list(subcommands(subcommands(parser())["emulate"]))
    assert first_cells("emulator", "manner") == [name for name in FAULTS if name]


def test_the_options_of_the_emulators_actions_exist() -> None:
    actions = subcommands(subcommands(parser())["emulate"])
    for name, told in document("emulator").table("action"):
        assert set(re.findall(r"`(--[a-z-]+)`", told)) <= set(actions[name.strip("`")]._option_string_actions)


def test_the_figures_are_those_of_the_record() -> None:
    record = json.loads((ROOT / "bench" / "record.json").read_text())

    def loads(name: str, clients: int) -> list[dict[str, Any]]:
        case = {"contestant": name, "clients": clients, "size": bench.targets.SIZE}
        # With a distant broker, or in an open loop.
        special = ("delay", "share")
        same = [load for load in record["load"] if case.items() <= load.items()]
        return [load for load in same if not any(load.get(key) for key in special)]

    def seen(name: str, key: str, clients: int) -> float:
        return float(statistics.median(load[key] for load in loads(name, clients)))

    def memory(name: str) -> float:
        return float(statistics.median(load["memory"]["worker"] for load in loads(name, 64)))

    for cell, *told in document("performance").table("receiver"):
        name = cell.strip("`")
        start = statistics.median(bench.targets.starts(record, name).values()) * 1e3
        cpu = seen(name, "cpu", 64) * 1e6
        p50 = f"{seen(name, 'p50', 1) * 1e3:.1f}"
        assert told == [
            f"{seen(name, 'rate', 64):.0f}",
            p50,
            f"{cpu:.0f}",
            f"{start:.0f}",
            f"{memory(name):.0f}",
        ]
    names = [contestant.name for contestant in CONTESTANTS if contestant is not CONTROL]
    assert first_cells("performance", "receiver") == names


def modules() -> set[str]:
    """Every module of flowhook; a package of tools is one."""
    tools = ("cli", "deploy", "samples", "testing")
    paths = (
        path.relative_to(ROOT / "flowhook").with_suffix("") for path in (ROOT / "flowhook").rglob("*.py")
    )
    names = {".".join(path.parts[:1] if path.parts[0] in tools else path.parts) for path in paths}
    return {name for name in names if not name.endswith(("__init__", "__main__"))} | {"flows_emulator"}


def test_every_module_has_its_row() -> None:
    assert sorted(first_cells("architecture", "module")) == sorted(modules())


def test_the_journeys_go_through_modules_that_exist() -> None:
    steps = document("architecture").text.split("## Which module")[0]
    told = set(re.findall(r"`([a-z_.]+)`", steps)) - {"consume", "receive", "main.py"}
    assert told <= modules()


def test_the_picture_shows_modules_that_exist() -> None:
    picture = fromstring((ROOT / "docs" / "architecture.svg").read_text())
    names = {
        text.text for text in picture.iter("{http://www.w3.org/2000/svg}text") if text.get("class") == "name"
    }
    assert names - {"Flows", "Pub/Sub", "handlers/"} <= modules()
    assert len(names) > 8


def test_the_newest_version_of_the_changelog_is_this_one() -> None:
    versions = re.findall(r"^## (\d+\.\d+\.\d+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert versions[0] == VERSION


def test_every_command_is_told() -> None:
    told = {c.words[3] for _, c in COMMANDS_TOLD if c.words[1:3] == ("-m", "flowhook") and len(c.words) > 3}
    assert set(COMMANDS) <= told


@pytest.mark.parametrize("name", [name for name, _ in CODE], ids=str)
def test_the_python_can_be_compiled(name: str) -> None:
    compile(dict(CODE)[name], name, "exec")


@pytest.mark.parametrize("command", [command for _, command in COMMANDS_TOLD], ids=lambda c: c.text)
def test_the_commands_can_be_given(command: Command) -> None:
    program = command.words[0].rpartition("/")[2]
    assert program in CHECKS, f"no test knows {program}"
    CHECKS[program](command.words[1:])
    settings = {n: value for n, value in command.variables.items() if n not in TOOLS_VARIABLES}
    assert set(settings) <= {setting.variable for setting in SETTINGS}
    load({"WEBHOOK_SECRET": "x" * 16, **settings})


def test_the_options_of_the_deployments_commands_exist() -> None:
    for command, told in document("deployment").table("command"):
        deploy([*command.strip("`").split()[1:], *re.findall(r"`(--[a-z-]+)`", told)])


def make(words: Sequence[str]) -> None:
    makefile = (ROOT / "Makefile").read_text()
    targets = [word for word in words if "=" not in word]
    assert [target for target in targets if f"\n{target}:" not in makefile] == []
    assert {word.partition("=")[0] for word in words if "=" in word} <= TOOLS_VARIABLES


def python(words: Sequence[str]) -> None:
    option, module, *rest = words
    assert option == "-m"
    if module == "flowhook":
        flowhook(rest)
    elif module == "pip":
        assert (ROOT / rest[rest.index("-r") + 1]).exists()
    else:
        found = importlib.util.find_spec(f"{module}.__main__" if module == "bench" else module)
        assert found, module
        if module.partition(".")[0] == "bench":
            options = [word for word in rest if word.startswith("--")]
            source = Path(found.origin or "").read_text()
            assert [word for word in options if f'"{word}"' not in source] == []


def flowhook(words: Sequence[str]) -> None:
    if "--version" in words:
        return
    with contextlib.redirect_stderr(io.StringIO()) as said:
        try:
            parser().parse_args(words)
        except SystemExit:
            pytest.fail(said.getvalue())
    events_named = [word for word in words if re.fullmatch(r"(packet|user|project)\w*\.[\w*]+", word)]
    assert samples.selected(events_named) or not events_named


def deploy(words: Sequence[str]) -> None:
    action = [word for word in words[:1] if not word.startswith("-")]
    assert {word for word in words if word.startswith("--")} <= options_of(*action)


@functools.cache
def options_of(*action: str) -> frozenset[str]:
    told = subprocess.run(
        ["./deploy.sh", *action, "--help"],
        cwd=ROOT,
        # With this Python it makes no other environment.
        env={"PATH": os.environ["PATH"], "PYTHON": sys.executable},
        capture_output=True,
        text=True,
        check=True,
    )
    return frozenset(re.findall(r"--[a-z-]+", told.stdout))


def framework(words: Sequence[str]) -> None:
    [target] = [word for word in words if word.startswith("--target=")]
    assert f"def {target.removeprefix('--target=')}(" in (ROOT / "main.py").read_text()


def anything(_words: Sequence[str]) -> None:
    """What this project can't change. The commands of gcloud are gcloud's own to judge: see below."""


CHECKS: dict[str, Callable[[Sequence[str]], None]] = {
    "make": make,
    "python": python,
    "python3": python,
    "deploy.sh": deploy,
    "functions-framework": framework,
    "run": lambda _: None,
    **dict.fromkeys(("git", "cd", ".", "gcloud"), anything),
}
