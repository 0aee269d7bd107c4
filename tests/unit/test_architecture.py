"""Which module may import which, what the function needs, and that the project is as small as it looks."""

import ast
import re
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.support.command_line import modules_after
from tests.support.receiver import ROOT, SUPPORT, usual_project

# Module of flowhook: the modules of flowhook that it may import. The arrows point one way.
MAY_IMPORT: dict[str, set[str]] = {
    "errors": set(),
    "version": set(),
    "categories": set(),
    "trace": set(),
    "background": set(),
    "secret": {"background", "errors", "schemes"},
    "runtime": set(),
    "quota": {"runtime"},
    "logs": {"quota", "trace"},
    "schemes": set(),
    "auth": {"errors", "schemes", "secret"},
    "admission": {"errors", "runtime"},
    "timestamps": set(),
    "frozen": set(),
    "events": {"categories", "errors", "frozen", "timestamps"},
    "envelope": {"admission", "background", "categories", "errors", "events", "runtime", "timestamps"},
    "delivery": {"envelope"},
    "canary": {"envelope"},
    "destinations": {"assembly", "canary", "delivery", "envelope", "pubsub.publisher", "routing", "settings"},
    "settings": {"categories", "destinations", "errors", "pubsub.messages", "schemes", "secret"},
    "event_types": set(),
    "variables": {"errors"},
    "handler": {"categories", "event_types", "events", "variables"},
    "discovery": {"categories", "errors", "events", "handler", "variables"},
    "calling": {"errors", "events", "handler"},
    "routing": {
        "calling",
        "canary",
        "categories",
        "delivery",
        "envelope",
        "errors",
        "events",
        "handler",
        "once",
    },
    "once": {"errors", "firestore"},
    "firestore": {"errors", "once"},
    "assembly": {"destinations", "discovery", "errors", "handler", "once", "routing", "settings"},
    "edge": {"admission", "delivery", "envelope", "errors", "logs", "quota", "trace"},
    "__init__": {"errors", "events", "handler", "variables"},
    "pubsub.__init__": set(),
    "pubsub.messages": {"envelope", "errors", "timestamps"},
    "pubsub.publisher": {"delivery", "envelope", "errors", "pubsub.messages"},
    "pubsub.protobuf": {"pubsub.publish_pb2"},
    "pubsub.publish_pb2": set(),
    "pubsub.credentials": {"background", "errors", "pubsub.publisher"},
    "pubsub.client": {
        "errors",
        "pubsub.credentials",
        "pubsub.messages",
        "pubsub.protobuf",
        "pubsub.publisher",
    },
    "pubsub.push_auth": {"background", "errors"},
    "pubsub.factory": {
        "errors",
        "pubsub.client",
        "pubsub.credentials",
        "pubsub.messages",
        "pubsub.publisher",
        "pubsub.push_auth",
        "settings",
    },
    "pubsub.rejected": {"envelope", "errors", "pubsub.messages", "pubsub.publisher"},
    "pubsub.push": {"admission", "envelope", "errors", "trace"},
    "pubsub.subscriptions": {"categories", "handler"},
    "samples.__init__": {"categories"},
    "samples.overlay": set(),
    "testing.__init__": {"testing.captures", "testing.emulated", "testing.making", "testing.trying"},
    "testing.making": {"event_types", "events", "samples.__init__", "testing.captures"},
    "testing.captures": {"categories", "errors", "events"},
    "testing.emulated": set(),
    "testing.masking": {"categories"},
    "testing.lacking": {"categories", "samples.__init__", "testing.masking"},
    "testing.rehearsal": {"errors", "events", "handler"},
    "testing.effects": set(),
    "testing.memory": set(),
    "testing.tracing": set(),
    "testing.deliveries": set(),
    "testing.stories": {"events", "handler", "samples.__init__"},
    "testing.calls": {
        "errors",
        "events",
        "handler",
        "once",
        "testing.deliveries",
        "testing.memory",
        "testing.tracing",
    },
    "testing.trying": {
        "events",
        "handler",
        "testing.calls",
        "testing.deliveries",
        "testing.effects",
        "testing.memory",
        "testing.stories",
    },
}
# The same of the emulator, which the function never imports: first its own modules, then flowhook's.
EMULATOR_MAY_IMPORT: dict[str, tuple[set[str], set[str]]] = {
    "__init__": (set(), set()),
    "retry": (set(), set()),
    "faults": (set(), set()),
    "integration": (set(), {"categories", "samples", "schemes"}),
    "organization": ({"integration"}, {"categories"}),
    "reading": (set(), {"categories", "samples"}),
    "feed": (set(), set()),
    "guard": (set(), set()),
    "store": ({"integration", "organization"}, set()),
    "sender": ({"integration", "store"}, {"schemes"}),
    "dispatch": ({"faults", "retry", "sender", "store"}, set()),
    "flows": (
        {"dispatch", "faults", "feed", "integration", "organization", "retry", "sender", "store"},
        {"categories", "samples", "samples.overlay"},
    ),
    "web": (
        {"faults", "flows", "guard", "integration", "store"},
        {"categories", "samples", "samples.overlay", "schemes"},
    ),
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
EMULATOR = sorted((ROOT / "flows_emulator").glob("*.py"))
# Whom the function needs; everybody else's use of it is a mistake.
ONLY_IN = {
    "starlette": {"edge", "main"},
    "functions_framework": {"main"},
    "pydantic": {"events", "testing.making"},
    "pydantic_core": {"edge", "envelope", "events", "logs", "pubsub.push", "timestamps"},
    "google": {"firestore", "pubsub.credentials", "pubsub.publish_pb2", "pubsub.push_auth"},
    "grpc": {"pubsub.client"},
}
WEB_AND_TOOLS = {"httpx2", "rich", "hypothesis", "pytest"}
# What the function is made of, and what users' tests import.
PACKAGES = [ROOT / "flowhook", *(ROOT / "flowhook" / name for name in ("pubsub", "samples", "testing"))]
SOURCES = sorted(path for package in PACKAGES for path in package.glob("*.py") if path.stem != "__main__")


def name_of(path: Path) -> str:
    """`pubsub.messages`, as the tables call a module of flowhook; `main`."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removeprefix("flowhook.")


def imports(path: Path) -> Iterator[str]:
    """Every module that is imported; `from flowhook import x` is flowhook.x."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{path} imports relatively"
            yield from (
                [f"{node.module}.{a.name}" for a in node.names] if is_package(node.module) else [node.module]
            )


def is_package(name: str) -> bool:
    return (ROOT / Path(*name.split(".")) / "__init__.py").exists()


def own_modules(path: Path) -> Iterator[str]:
    """The modules of flowhook that a file imports, as the tables call them."""
    for name in imports(path):
        if name == "flowhook" or name.startswith("flowhook."):
            parts = name.split(".")
            while not (is_package(".".join(parts)) or (ROOT / Path(*parts)).with_suffix(".py").exists()):
                # A name in a module or package.
                parts.pop()
            yield ".".join([*parts[1:], "__init__"] if is_package(".".join(parts)) else parts[1:])


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_the_arrows_point_one_way(path: Path) -> None:
    assert set(own_modules(path)) <= MAY_IMPORT[name_of(path)]


@pytest.mark.parametrize("path", EMULATOR, ids=lambda path: path.stem)
def test_the_arrows_of_the_emulator_point_one_way(path: Path) -> None:
    own, others = EMULATOR_MAY_IMPORT[path.stem]
    used = [name.split(".") for name in imports(path)]
    assert {name[1] for name in used if name[0] == "flows_emulator"} <= own
    assert {name[1] for name in used if name[0] == "flowhook"} <= others
    for library, modules in EMULATOR_ONLY_IN.items():
        assert library not in {name[0] for name in used} or path.stem in modules


@pytest.mark.parametrize("path", [*SOURCES, ROOT / "main.py"], ids=name_of)
def test_one_module_knows_a_library(path: Path) -> None:
    used = {name.split(".")[0] for name in imports(path)}
    in_testing = name_of(path).startswith("testing.")
    allowed = {"pytest"} if in_testing else set()
    assert not used & WEB_AND_TOOLS - allowed
    assert "flows_emulator" not in used or in_testing
    for library, modules in ONLY_IN.items():
        assert library not in used or name_of(path) in modules


def test_every_package_of_flowhook_is_deployed_and_held_to_its_arrows_or_left_out() -> None:
    ignored = {
        line for line in (ROOT / ".gcloudignore").read_text().splitlines() if line.startswith("/flowhook/")
    }
    left_out = {Path(line).name for line in ignored}
    packages = {path.parent.name for path in (ROOT / "flowhook").glob("*/__init__.py")}
    assert packages - left_out == {package.name for package in PACKAGES[1:]} - left_out
    assert left_out == {"__main__.py", "cli", "deploy", "samples", "testing"}


def test_only_main_and_the_command_line_know_the_handlers() -> None:
    assert [path for path in SOURCES if "handlers" in imports(path)] == []
    for path in (SUPPORT / "handlers").glob("*.py"):
        assert {name for name in imports(path) if name.startswith("flowhook")} <= {
            f"flowhook.{name}" for name in ("on", "Event", "CommentEvent", "Reject", "Change", "variable")
        }


def test_no_test_knows_the_handlers_of_the_project_but_their_own() -> None:
    """Whoever installs flowhook deletes them and writes others: this suite neither needs nor runs any."""
    for path in (ROOT / "tests").rglob("*.py"):
        if path.parent != ROOT / "tests" / "handlers":
            assert not {name for name in imports(path) if name.partition(".")[0] == "handlers"}, path


def test_main_is_short() -> None:
    assert len((ROOT / "main.py").read_text().splitlines()) < 60


def test_the_function_imports_nothing_that_only_tools_need() -> None:
    loaded = modules_after("import main", cwd=usual_project(), WEBHOOK_SECRET="x" * 16)
    assert not loaded & {
        *WEB_AND_TOOLS,
        # With inline delivery.
        "google.auth",
        "google.pubsub_v1",
        "grpc",
        "uvicorn",
        "flowhook.cli",
        "flows_emulator",
        "flowhook.testing",
    }


def test_what_is_deployed_is_pinned_to_the_last_package() -> None:
    pinned = {
        canonicalize_name(Requirement(line).name): Requirement(line)
        for line in (ROOT / "requirements.txt").read_text().splitlines()
        if line and not line.startswith(("#", "-r "))
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
