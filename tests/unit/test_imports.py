"""What a start imports beside the framework: the first event of an instance waits for each module of it."""

import sys

import pytest

from tests.support.command_line import modules_after
from tests.support.receiver import SECRET, usual_project

# By what a start is for: the modules of flowhook, and the packages of others.
ALWAYS = {
    *(
        "",
        "admission",
        "auth",
        "background",
        "canary",
        "categories",
        "delivery",
        "destinations",
        "edge",
        "envelope",
    ),
    *("errors", "logs", "quota", "runtime", "schemes", "secret", "settings", "timestamps", "trace"),
    *("pubsub", "pubsub.factory", "pubsub.messages", "pubsub.publisher", "pubsub.push", "pubsub.rejected"),
}
PUBLISHES = {"pubsub.client", "pubsub.protobuf", "pubsub.publish_pb2"}
AT_GOOGLE = {"pubsub.credentials"}
RUNS_HANDLERS = {
    *("assembly", "calling", "discovery", "events", "frozen", "handler", "once", "routing", "variables"),
}
# Before Python 3.13 the framework imports the second one too.
OTHERS_ALWAYS = {"pydantic_core", "typing_extensions"}
OTHERS_PUBLISHES = {"cython_runtime", "google", "grpc"}
OTHERS_AT_GOOGLE = {"certifi", "charset_normalizer", "cryptography", "idna", "requests", "urllib3"}
OTHERS_RUNS_HANDLERS = {"annotated_types", "anyio", "handlers", "pydantic", "typing_inspection"}
# grpc imports it where it is installed, which only the checks need.
TOOLS = {"grpc_tools"}

BASE = {"GOOGLE_CLOUD_PROJECT": "demo", "WEBHOOK_SECRET": SECRET.decode()}
EMULATED = {"PUBSUB_EMULATOR_HOST": "127.0.0.1:1"}


@pytest.fixture(scope="module")
def framework() -> set[str]:
    """What an empty function imports."""
    return modules_after("import functions_framework.aio", cwd=usual_project())


@pytest.mark.parametrize(
    ("target", "settings", "modules", "others"),
    [
        ("receive", {"DELIVERY": "inline"}, RUNS_HANDLERS, OTHERS_RUNS_HANDLERS),
        ("receive", {"DELIVERY": "pubsub", **EMULATED}, PUBLISHES, OTHERS_PUBLISHES),
        ("receive", {"DELIVERY": "pubsub"}, PUBLISHES | AT_GOOGLE, OTHERS_PUBLISHES | OTHERS_AT_GOOGLE),
        (
            "consume",
            {"DELIVERY": "pubsub", **EMULATED},
            PUBLISHES | RUNS_HANDLERS,
            OTHERS_PUBLISHES | OTHERS_RUNS_HANDLERS,
        ),
    ],
    ids=["receive inline", "receive, emulated Pub/Sub", "receive, Pub/Sub", "consume, emulated Pub/Sub"],
)
def test_a_start_imports_what_it_needs_and_no_more(
    framework: set[str], target: str, settings: dict[str, str], modules: set[str], others: set[str]
) -> None:
    statements = "import functions_framework.aio, main"
    loaded = modules_after(statements, cwd=usual_project(), FUNCTION_TARGET=target, **BASE, **settings)
    added = loaded - framework
    ours = {name.removeprefix("flowhook").removeprefix(".") for name in added if name.startswith("flowhook")}
    assert ours == ALWAYS | modules
    packages = {name.partition(".")[0] for name in added} - sys.stdlib_module_names - TOOLS
    public = {name for name in packages if not name.startswith("_")} - {"flowhook", "main"}
    assert public <= OTHERS_ALWAYS | others
    assert ("google.auth" in added) == ("pubsub.credentials" in modules)
    assert not added & {"google.pubsub_v1", "google.cloud"}
