"""Which module may import which, what the function needs, and that the project is as small as it looks."""

import ast
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.receiver import ROOT

# Module of flowhook: the modules of flowhook that it may import. The arrows point one way.
MAY_IMPORT: dict[str, set[str]] = {
    "errors": set(),
    "categories": set(),
    "trace": set(),
    "secret": set(),
    "logs": {"trace"},
    "auth": {"errors", "secret"},
    "events": {"categories", "errors"},
    "envelope": {"categories", "errors", "events"},
    "delivery": {"envelope"},
    "probe": {"envelope"},
    "messages": {"envelope", "errors", "events"},
    "settings": {"auth", "categories", "errors", "messages", "secret"},
    "routing": {"categories", "delivery", "envelope", "errors", "events", "probe"},
    "publisher": {"delivery", "envelope", "errors", "messages"},
    "wire": set(),
    "tokens": {"errors", "publisher"},
    "pubsub": {"errors", "messages", "publisher", "tokens", "wire"},
    "oidc": {"errors"},
    "cloud": {"errors", "messages", "oidc", "publisher", "pubsub", "settings", "tokens"},
    "rejected": {"envelope", "errors", "messages", "publisher"},
    "push": {"envelope", "errors", "trace"},
    "runtime": set(),
    "subscriptions": {"categories", "routing"},
    "edge": {"delivery", "errors", "logs", "trace"},
    "__init__": {"errors", "events", "routing"},
    "testing": {"emulate", "events", "samples"},
    "samples": {"categories"},
}
# The same of the emulator, which the function never imports: first its own modules, then flowhook's others.
EMULATOR_MAY_IMPORT: dict[str, tuple[set[str], set[str]]] = {
    "__init__": (set(), set()),
    "retry": (set(), set()),
    "manners": (set(), set()),
    "integration": (set(), {"auth", "categories", "samples"}),
    "organization": ({"integration"}, {"categories"}),
    "reading": (set(), {"categories", "samples"}),
    "feed": (set(), set()),
    "guard": (set(), set()),
    "store": ({"integration", "organization"}, set()),
    "sender": ({"integration", "store"}, {"auth"}),
    "dispatch": ({"manners", "retry", "sender", "store"}, set()),
    "flows": (
        {"dispatch", "feed", "integration", "manners", "organization", "retry", "sender", "store"},
        {"categories", "samples"},
    ),
    "web": ({"flows", "guard", "integration", "manners"}, {"auth", "categories", "samples"}),
    "server": ({"flows", "retry", "store", "web"}, set()),
    "client": (set(), {"samples"}),
    "local": ({"client"}, {"cli"}),
}
EMULATOR_ONLY_IN = {
    "starlette": {"guard", "web"},
    "uvicorn": {"server"},
    "httpx2": {"client", "sender"},
    "sqlite3": {"store"},
    "pydantic": {"integration", "web"},
}
EMULATOR = sorted((ROOT / "flowhook" / "emulate").glob("*.py"))
# Whom the function needs; everybody else's use of it is a mistake.
ONLY_IN = {
    "starlette": {"edge", "main"},
    "functions_framework": {"main"},
    "pydantic": {"events", "push", "testing"},
    "google": {"oidc", "tokens", "wire"},
    "grpc": {"pubsub"},
}
WEB_AND_TOOLS = {"httpx2", "rich", "hypothesis", "pytest"}
SOURCES = [*sorted((ROOT / "flowhook").glob("*.py")), ROOT / "flowhook" / "samples" / "__init__.py"]


def name_of(path: Path) -> str:
    return path.parent.name if path.name == "__init__.py" and path.parent.name != "flowhook" else path.stem


def imports(path: Path) -> Iterator[str]:
    """Every module that is imported; `from flowhook import x` is flowhook.x."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{path} imports relatively"
            packages = ("flowhook", "flowhook.emulate")
            whole = node.module in packages
            yield from [f"{node.module}.{a.name}" for a in node.names] if whole else [node.module]


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_the_arrows_point_one_way(path: Path) -> None:
    if name_of(path) == "__main__":
        return
    used = {name.split(".")[1] for name in imports(path) if name.startswith("flowhook.")}
    assert used <= MAY_IMPORT[name_of(path)]


@pytest.mark.parametrize("path", EMULATOR, ids=lambda path: path.stem)
def test_the_arrows_of_the_emulator_point_one_way(path: Path) -> None:
    own, others = EMULATOR_MAY_IMPORT[path.stem]
    used = {tuple(name.split(".")) for name in imports(path) if name.startswith("flowhook.")}
    assert {name[2] for name in used if name[1] == "emulate"} <= own
    assert {name[1] for name in used} - {"emulate"} <= others
    for library, modules in EMULATOR_ONLY_IN.items():
        assert library not in {name.split(".")[0] for name in imports(path)} or path.stem in modules


@pytest.mark.parametrize("path", [*SOURCES, ROOT / "main.py"], ids=name_of)
def test_one_module_knows_a_library(path: Path) -> None:
    used = {name.split(".")[0] for name in imports(path)}
    allowed = {"pytest"} if name_of(path) == "testing" else set()
    assert not used & WEB_AND_TOOLS - allowed
    for library, modules in ONLY_IN.items():
        assert library not in used or name_of(path) in modules


def test_only_main_and_the_command_line_know_the_handlers() -> None:
    assert [path for path in SOURCES if "handlers" in imports(path)] == []
    for path in (ROOT / "handlers").glob("*.py"):
        assert {name for name in imports(path) if name.startswith("flowhook")} <= {
            f"flowhook.{name}" for name in ("on", "Event", "CommentEvent", "Reject", "Change")
        }


def test_main_is_short() -> None:
    assert len((ROOT / "main.py").read_text().splitlines()) < 60


def test_the_function_imports_nothing_that_only_tools_need() -> None:
    script = "import sys, main; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=ROOT,
        env={**os.environ, "WEBHOOK_SECRET": "x" * 16},
        capture_output=True,
        text=True,
        check=True,
    )
    assert not set(done.stdout.split()) & {
        *WEB_AND_TOOLS,
        # With inline delivery.
        "google.auth",
        "google.pubsub_v1",
        "grpc",
        "uvicorn",
        "flowhook.cli",
        "flowhook.emulate",
        "flowhook.testing",
    }


def test_what_is_deployed_is_pinned_to_the_last_package() -> None:
    pinned = {
        canonicalize_name(Requirement(line).name): Requirement(line)
        for line in (ROOT / "requirements.txt").read_text().splitlines()
        if line and not line.startswith("#")
    }
    for name, requirement in pinned.items():
        assert re.fullmatch(r"==[\d.]+(b\d+)?", str(requirement.specifier)), name
        assert requirement.specifier.contains(metadata.version(name), prereleases=True), (
            f"{name} is not what is tested"
        )
        needed = map(Requirement, metadata.requires(name) or [])
        wanted = {
            canonicalize_name(r.name) for r in needed if not r.marker or r.marker.evaluate({"extra": ""})
        }
        assert wanted <= set(pinned), f"{name} needs {wanted - set(pinned)}"
