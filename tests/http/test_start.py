"""What stops the start: one readable line that names the mistake and the fix, and no traceback."""

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from flowhook import samples
from tests.support.ports import free_port
from tests.support.receiver import PATIENCE, end, environment, project, receiver, start, usual_project

# Each test starts processes.
pytestmark = pytest.mark.slow

MISTAKES = [
    ({"WEBHOOK_SECRET": ""}, "WEBHOOK_SECRET is not set"),
    ({"WEBHOOK_SECRET": "  \t "}, "WEBHOOK_SECRET is not set"),
    ({"WEBHOOK_SECRET": "whsec_AAAA"}, "WEBHOOK_SECRET can't be used: a key of nothing but zero bytes"),
    ({"WEBHOOK_SECRET_FILE": "/nowhere"}, "WEBHOOK_SECRET and WEBHOOK_SECRET_FILE are both set"),
    (
        {"WEBHOOK_SECRET": "", "WEBHOOK_SECRET_FILE": "/nowhere"},
        "WEBHOOK_SECRET_FILE='/nowhere' can't be read: No such",
    ),
    (
        {"WEBHOOK_SECRET": "", "WEBHOOK_SECRET_FILE": "/"},
        "WEBHOOK_SECRET_FILE='/' can't be read: Is a directory",
    ),
    ({"WEBHOOK_SECRET": "", "WEBHOOK_SECRET_FILE": "/dev/null"}, "holds no secret"),
    ({"WEBHOOK_AUTH": "hmac"}, "WEBHOOK_AUTH: it is none of auto"),
    ({"WEBHOOK_AUTH": "header:"}, "WEBHOOK_AUTH: header: needs the name of a header"),
    ({"WEBHOOK_AUTH": "bearer:x"}, "WEBHOOK_AUTH: bearer takes no name"),
    ({"DELIVERY": "kafka"}, "DELIVERY='kafka': it must be"),
    (
        {"EVENTS": "packet.created"},
        "EVENTS='packet.created': 'packet' is not a known category; did you mean packets?",
    ),
    ({"EVENTS": "packets.renamed"}, "'renamed' is not a known operation"),
    ({"EVENTS": "packets"}, "'packets' is not CATEGORY.OPERATION"),
    ({"EVENTS": " , "}, "EVENTS"),
    ({"MAX_BODY_BYTES": "8MB"}, "MAX_BODY_BYTES='8MB': it must be a number of bytes above 0"),
    ({"MAX_BODY_BYTES": "0"}, "MAX_BODY_BYTES='0'"),
    ({"DELIVERY_TIMEOUT": "soon"}, "DELIVERY_TIMEOUT='soon': it must be a number of seconds above 0"),
    ({"DELIVERY_TIMEOUT": "-1"}, "DELIVERY_TIMEOUT='-1'"),
    ({"DELIVERY_TIMEOUT": "inf"}, "DELIVERY_TIMEOUT='inf'"),
    ({"DELIVERY_TIMEOUT": "nan"}, "DELIVERY_TIMEOUT='nan'"),
    ({"DELIVERY": "pubsub"}, "GOOGLE_CLOUD_PROJECT is not set: DELIVERY=pubsub needs"),
    ({"REJECTED_TOPIC": "refused"}, "GOOGLE_CLOUD_PROJECT is not set: REJECTED_TOPIC needs"),
    ({"PUBSUB_TOPIC": "goog-events"}, "PUBSUB_TOPIC='goog-events': it must be a topic's id"),
    ({"PUBSUB_TOPIC": "projects/p/topics/t"}, "PUBSUB_TOPIC='projects/p/topics/t': it must be a topic's id"),
    ({"PUBSUB_TOPIC": "flows-{kind}"}, "PUBSUB_TOPIC='flows-{kind}': it must be a topic's id"),
    ({"PUBSUB_TOPIC": "ab"}, "PUBSUB_TOPIC='ab': it must be a topic's id"),
    ({"REJECTED_TOPIC": "flows-{category}"}, "it needs a topic without {category}"),
    (
        {"REJECTED_TOPIC": "refused", "GOOGLE_CLOUD_PROJECT": "demo", "MAX_BODY_BYTES": "10000000"},
        "MAX_BODY_BYTES=10000000: Pub/Sub takes bodies of 9950000 bytes at most",
    ),
    ({"PUSH_AUDIENCE": "https://consume"}, "PUSH_SERVICE_ACCOUNT is not set"),
    ({"PUSH_SERVICE_ACCOUNT": "push@demo.iam.gserviceaccount.com"}, "PUSH_AUDIENCE is not set"),
    ({"LOG_LEVEL": "LOUD"}, "LOG_LEVEL='LOUD': it must be one of DEBUG"),
]
BROKEN_HANDLERS = [
    ("def f(:\n", "handlers/broken.py can't be imported: SyntaxError"),
    ("\nimport nothing_of_this_name\n", "ModuleNotFoundError: No module named 'nothing_of_this_name'"),
    ("\n\nundefined\n", "line 3"),
    ("from flowhook import on\n@on('packet.created')\ndef f(event): ...\n", "did you mean packets?"),
    (
        "from flowhook import on\n@on\ndef f(event): ...\n",
        '@on needs the events to handle, e.g. @on("packets.updated")',
    ),
    ("from flowhook import on\n@on()\ndef f(event): ...\n", "@on needs the events to handle"),
    ("raise SystemExit(0)\n", "broken.py can't be imported: SystemExit"),
]


def refused(
    tmp_path: Path, settings: Mapping[str, str], source: Path | None = None, target: str = "receive"
) -> str:
    """What a start says that fails."""
    output = tmp_path / "output"
    process = start(source or usual_project(), free_port(), output, settings, target)
    try:
        assert process.wait(PATIENCE) == 1
    except subprocess.TimeoutExpired:
        raise AssertionError("it started") from None
    finally:
        end(process)
    said = output.read_text()
    assert "Traceback" not in said
    return said


@pytest.mark.parametrize(("settings", "message"), MISTAKES, ids=lambda value: str(value)[:50])
def test_a_mistake_in_the_settings_stops_the_start(
    tmp_path: Path, settings: dict[str, str], message: str
) -> None:
    said = refused(tmp_path, settings).splitlines()
    assert len(said) == 2
    assert message in said[1]


def test_every_mistake_is_told_at_once_and_the_secret_never(tmp_path: Path) -> None:
    wrong = {
        "WEBHOOK_SECRET": "do-not-show",
        "WEBHOOK_AUTH": "do-not-show",
        "DELIVERY": "x",
        "LOG_LEVEL": "x",
    }
    said = refused(tmp_path, wrong)
    assert [line.partition("=")[0].partition(":")[0] for line in said.splitlines()[1:]] == [
        "WEBHOOK_AUTH",
        "DELIVERY",
        "LOG_LEVEL",
    ]
    assert "do-not-show" not in said


@pytest.mark.parametrize(("source", "message"), BROKEN_HANDLERS)
def test_a_broken_handler_stops_the_start(tmp_path: Path, source: str, message: str) -> None:
    said = refused(tmp_path, {}, project(tmp_path, broken=source))
    assert message in said
    assert "handlers/broken.py" in said


def test_a_project_without_handlers_starts(tmp_path: Path) -> None:
    with receiver(tmp_path, project(tmp_path)) as started:
        assert started.post(b"{}").status_code == 422


PUBSUB = {
    "DELIVERY": "pubsub",
    "GOOGLE_CLOUD_PROJECT": "demo",
    # Nobody listens there, and nobody has to.
    "PUBSUB_EMULATOR_HOST": "127.0.0.1:1",
}


def test_what_only_publishes_imports_no_handler(tmp_path: Path) -> None:
    source = project(tmp_path, broken="undefined", slow="import time\ntime.sleep(60)")
    with receiver(tmp_path, source, **PUBSUB) as started:
        assert started.post(b"{}").status_code == 422


def test_who_consumes_imports_them_at_the_start(tmp_path: Path) -> None:
    said = refused(tmp_path, PUBSUB, project(tmp_path, broken="undefined"), "consume")
    assert "handlers/broken.py can't be imported: NameError" in said


NEEDS = "from flowhook import *\nT = variable('CRM_TOKEN', secret=True)\n@on('*')\ndef tell(event): T.value"
OFF = "from flowhook import *\nU = variable('URL', default=None)\n@on('*')\ndef post(event): raise OSError"


@pytest.mark.parametrize(("target", "settings"), [("receive", {}), ("consume", PUBSUB)])
def test_who_runs_handlers_names_what_they_lack(
    tmp_path: Path, target: str, settings: dict[str, str]
) -> None:
    source = project(tmp_path, crm=NEEDS, chat=OFF)
    assert refused(tmp_path, settings, source, target).splitlines()[1:] == ["crm.tell: CRM_TOKEN is not set"]


def test_who_only_publishes_does_not_need_it(tmp_path: Path) -> None:
    with receiver(tmp_path, project(tmp_path, crm=NEEDS), **PUBSUB) as started:
        assert started.post(b"{}").status_code == 422


def test_a_handler_that_is_off_is_not_among_those_that_handled(tmp_path: Path) -> None:
    with receiver(tmp_path, project(tmp_path, crm=NEEDS, chat=OFF), CRM_TOKEN="t") as started:
        answer = started.post(samples.load("users.created"))
        assert (answer.status_code, answer.json()["handlers"]) == (200, ["crm.tell"])
        assert started.deliveries()[-1]["handlers"] == ["crm.tell"]
        assert "chat.post is off: URL is not set" in started.output()


LOADS = """
import sys
import google.cloud.firestore
from flowhook import on

@on("*", once=True)
def tell(event): ...
"""


@pytest.mark.parametrize(
    ("target", "settings", "loaded"),
    [
        ("receive", {**PUBSUB, "LEDGER": "firestore"}, False),
        ("consume", {**PUBSUB, "LEDGER": "firestore"}, True),
    ],
)
def test_what_handlers_and_their_ledger_load_costs_no_start_of_who_only_publishes(
    tmp_path: Path, target: str, settings: dict[str, str], loaded: bool
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", "import sys, main; print(*sys.modules)"],
        cwd=project(tmp_path, crm=LOADS),
        env=environment(FUNCTION_TARGET=target, **settings),
        capture_output=True,
        text=True,
        check=True,
    )
    modules = set(done.stdout.split())
    assert ({"google.cloud.firestore", "handlers.crm", "flowhook.firestore"} <= modules) is loaded
    assert ("flowhook.discovery" in modules) is loaded


def test_the_ledger_in_memory_loads_no_firestore(tmp_path: Path) -> None:
    source = project(tmp_path, crm="from flowhook import on\n@on('*', once=True)\ndef f(event): ...")
    done = subprocess.run(
        [sys.executable, "-c", "import sys, main; print(*sys.modules)"],
        cwd=source,
        env=environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    assert "google.cloud.firestore" not in done.stdout.split()


def test_a_secret_file_with_a_key_of_zero_bytes_stops_the_start(tmp_path: Path) -> None:
    path = tmp_path / "secrets"
    path.write_bytes(b"a-good-secret-of-enough-length\nwhsec_AAAA\n")
    said = refused(tmp_path, {"WEBHOOK_SECRET": "", "WEBHOOK_SECRET_FILE": str(path)})
    assert "has a line that can't be used: a key of nothing but zero bytes" in said
    assert "AAAA" not in said
