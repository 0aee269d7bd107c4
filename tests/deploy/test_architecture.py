"""Who may know what: Google's libraries, gcloud and the rest of flowhook each have one door."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.receiver import ROOT

SOURCES = sorted((ROOT / "flowhook" / "deploy").glob("*.py"))
# Library: the modules that may import it.
ONLY_IN = {
    "google": {"rest"},
    "requests": {"rest", "surroundings"},
    "subprocess": {"declared", "functions", "rest"},
    "packaging": {"source"},
    "argparse": {"options"},
}
# Pure: what is wanted and what differs is decided without asking anybody.
DECIDING = {"plan", "diff", "alerts", "resources", "reasons", "comparison", "metrics", "dashboard"}
ASKING = {"rest", "kinds", "policies", "services", "secrets", "messages", "functions", "project", "lock"}


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            whole = node.module in ("flowhook", "flowhook.deploy")
            yield from [f"{node.module}.{a.name}" for a in node.names] if whole else [node.module]


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.stem)
def test_each_library_has_one_door(path: Path) -> None:
    used = {name.partition(".")[0] for name in imports(path)}
    for library, modules in ONLY_IN.items():
        assert library not in used or path.stem in modules


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.stem)
def test_the_rest_of_flowhook_is_known_to_one_module(path: Path) -> None:
    others = {name for name in imports(path) if name.startswith("flowhook.") and ".deploy" not in name}
    assert not others or path.stem == "deployed"


@pytest.mark.parametrize("path", [p for p in SOURCES if p.stem in DECIDING], ids=lambda path: path.stem)
def test_what_decides_asks_nobody(path: Path) -> None:
    used = {name.split(".")[2] for name in imports(path) if name.startswith("flowhook.deploy.")}
    assert not used & ASKING


def test_nobody_but_the_command_line_knows_deployments() -> None:
    others = [p for p in (ROOT / "flowhook").rglob("*.py") if p.parent.name not in ("deploy", "cli")]
    assert [p for p in (*others, ROOT / "main.py") if any(".deploy" in name for name in imports(p))] == []


def test_deploy_sh_only_starts_it() -> None:
    assert len((ROOT / "deploy.sh").read_text().splitlines()) <= 30
