"""What is wanted of a deployment: the command line over the env file over the defaults, validated.

The env file is data. A line is `VARIABLE=value`: a setting of the deployment, one of flowhook's, or a value
for a variable that handlers read. None of it becomes a variable of a process on this machine, but for
flowhook's own settings, which the check of the source gets.
"""

import argparse
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, NoReturn

from flowhook.deploy.deployed import DELIVERY_TIMEOUT
from flowhook.deploy.deployed import SETTINGS as DEPLOYED
from flowhook.deploy.errors import DeployError
from flowhook.deploy.usage import USAGE

COMMANDS = tuple(USAGE)
# Those that look after what is deployed. All of them concern messages.
OPERATIONS = ("pause", "resume", "replay", "dead-letters", "rejected", "audit", "tail")
# Options whose field has another name.
FIELDS = {"from": "since", "to": "until", "as": "rename"}
ENV_FILE = ".env.deploy"
DELIVERIES = ("pubsub", "inline")
PUBLIC = ("iam", "no-check")
NAME = re.compile(r"[a-z][a-z0-9-]{1,20}[a-z0-9]")
# An id, an old one that begins with a domain, or a number: https://cloud.google.com/resource-manager/docs/creating-managing-projects
PROJECT = re.compile(r"([a-z0-9.-]+:)?[a-z][a-z0-9-]{4,28}[a-z0-9]|[0-9]{6,20}")
REGION = re.compile(r"[a-z]+-[a-z]+[0-9]{1,2}")
EMAIL = re.compile(r"[^@\s]+@[^@\s]+\.[^@\s]+")
LINE = re.compile(r"([A-Z][A-Z0-9_]*)=(.*)")

# The functions end after 60 seconds, and Pub/Sub waits a while longer than a delivery may take.
LONGEST_DELIVERY = 40.0
# Days that a topic can keep what was published: https://cloud.google.com/pubsub/docs/topic-message-retention
RETENTION = range(1, 32)
LONGEST_DRAIN = 24 * 60

# Lines of the env file that are options of the same name.
FILE_OPTIONS = (
    "PROJECT", "REGION", "NAME", "DELIVERY", "PUBLIC", "MIN_INSTANCES", "MAX_INSTANCES", "NOTIFICATION_EMAIL",
    "NOTIFICATION_CHANNEL", "RETENTION_DAYS", "DRAIN_MINUTES", "LEDGER",
)  # fmt: skip
# flowhook's settings that the deployment sets by itself.
OURS = frozenset(
    {
        "DELIVERY", "WEBHOOK_SECRET", "WEBHOOK_SECRET_FILE", "GOOGLE_CLOUD_PROJECT", "PUBSUB_TOPIC",
        "REJECTED_TOPIC", "PUBSUB_EMULATOR_HOST", "PUSH_AUDIENCE", "PUSH_SERVICE_ACCOUNT", "LEDGER",
    }
)  # fmt: skip
SETTINGS = frozenset(setting.variable for setting in DEPLOYED) - OURS
# What programs on the way of a function's start read; no handler can want one of these for itself.
RESERVED = re.compile(
    r"PATH|HOME|SHELL|ENV|IFS|USER|LANG|TMPDIR|PORT|HOST|DEBUG|WORKERS|THREADS|WEB_CONCURRENCY|LOG_EXECUTION_ID"
    r"|SOURCE_DATE_EPOCH|FIRESTORE_EMULATOR_HOST|.*_PROXY|(PYTHON|BASH).*"
    r"|(LD|DYLD|PIP|LC|GCONV|MALLOC|GLIBC|OPENSSL|SSL|GIT|SSH|CURL|REQUESTS|GRPC|K|FUNCTION|X_GOOGLE|GCLOUD)_.*"
    r"|(GCE_METADATA|CLOUDSDK|CLOUD_RUN|PUBSUB|GUNICORN|UVICORN|FLASK|OTEL|CNB)_.*"
    r"|GOOGLE_(APPLICATION|CLOUD|API|AUTH|FUNCTION|PYTHON|RUNTIME|ENTRYPOINT|BUILDABLE).*"
)


@dataclass(frozen=True)
class Options:
    """One command and what it is to do; an empty project is that of gcloud's configuration."""

    command: str = "deploy"
    project: str = ""
    region: str = "europe-west1"
    name: str = "flowhook"
    delivery: str = "pubsub"
    public: str = "iam"
    min_instances: int = 0
    max_instances: int = 10
    notification_email: str = ""
    notification_channel: str = ""
    retention_days: int = 7
    drain_minutes: float = 10.0
    ledger: str = ""
    secret_file: str = ""
    env_file: Path = Path(ENV_FILE)
    allow_weak_secret: bool = False
    prune: bool = False
    dry_run: bool = False
    yes: bool = False
    json: bool = False
    all: bool = False
    finish: bool = False
    break_lock: bool = False
    skip_tests: bool = False
    # The handler that a command is about.
    handler: str = ""
    # What to do with letters, and which of them.
    action: str = ""
    id: str = ""
    type: str = ""
    entity: str = ""
    reason: str = ""
    since: str = ""
    until: str = ""
    rename: str = ""
    output: str = ""
    # What to replay instead of the topic, and whose letters there.
    file: str = ""
    of: str = ""
    again: bool = False
    body: bool = False
    failed: bool = False
    emulator: bool = False
    # flowhook's own settings, for both functions.
    settings: Mapping[str, str] = field(default_factory=dict)
    # Everything else of the env file, for whoever runs handlers.
    variables: Mapping[str, str] = field(default_factory=dict, repr=False)

    @property
    def pubsub(self) -> bool:
        """Whether events reach the handlers through Pub/Sub."""
        return self.delivery == "pubsub"

    @property
    def delivery_timeout(self) -> float:
        """Seconds that a delivery may take."""
        return float(self.settings.get(DELIVERY_TIMEOUT.variable) or DELIVERY_TIMEOUT.default)


def read(words: Sequence[str], environment: Mapping[str, str] = os.environ) -> Options:
    """The options of a command line. Raises DeployError that names the mistake, UsageWanted for --help."""
    command, rest = (words[0], words[1:]) if words[:1] and words[0] in COMMANDS else ("deploy", words)
    typed = _typed(command, rest)
    path = Path(typed.get("env_file", ENV_FILE))
    values, others = _split(_lines(path, "env_file" in typed))
    options = Options(command=command, **{**values, **typed, "env_file": path}, **others)
    options = _numbers(options)
    _check_emulator(options, environment.get("PUBSUB_EMULATOR_HOST", ""))
    if not options.project:
        options = replace(options, project=environment.get("CLOUDSDK_CORE_PROJECT", ""))
    for mistake in _mistakes(options):
        raise DeployError(mistake)
    return options


class UsageWanted(Exception):  # noqa: N818 - no error: somebody has asked
    """Holds the text to print."""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise DeployError(f"{message}; ./deploy.sh --help")


def _typed(command: str, words: Sequence[str]) -> dict[str, Any]:
    """What the command line says, by the names of the fields."""
    parser = _Parser(add_help=False, allow_abbrev=False, argument_default=argparse.SUPPRESS)
    for name in USAGE[command].valued:
        parser.add_argument(f"--{name}", dest=FIELDS.get(name, name.replace("-", "_")))
    for name in USAGE[command].flags:
        parser.add_argument(f"--{name}", action="store_true")
    if {"-h", "--help"} & {*words}:
        raise UsageWanted(USAGE[command].text)
    for name in USAGE[command].positional:
        parser.add_argument(name.rstrip("?"), nargs="?" if name.endswith("?") else None)
    known, unknown = parser.parse_known_args(list(words))
    found = vars(known)
    if unknown:
        raise DeployError(f"unknown argument {unknown[0]}; ./deploy.sh {command} --help")
    return found


def _lines(path: Path, asked_for: bool) -> dict[str, str]:
    """The variables of a file; the last line of a name counts."""
    try:
        text = path.read_text("utf-8-sig")
    except FileNotFoundError:
        if asked_for:
            raise DeployError(f"--env-file {path}: there is no such file") from None
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise DeployError(f"{path} can't be read: {error}") from None
    found: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        matched = LINE.fullmatch(line.rstrip())
        if not matched:
            # Not the line itself: it may be a secret.
            raise DeployError(f"{path}: line {number} is not VARIABLE=value")
        found[matched[1]] = matched[2]
    if mistake := next(_forbidden(found), ""):
        raise DeployError(f"{path}: {mistake}")
    return found


def _forbidden(names: Iterable[str]) -> Iterator[str]:
    for name in names:
        if name in OURS and name not in FILE_OPTIONS:
            yield f"{name} is set by this script"
        elif name not in SETTINGS and name not in FILE_OPTIONS and RESERVED.fullmatch(name):
            yield f"{name} is not for handlers: other programs obey it"


def _split(lines: Mapping[str, str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Options, and what goes to the functions."""
    values = {name.lower(): value for name, value in lines.items() if name in FILE_OPTIONS and value}
    settings = {name: value for name, value in lines.items() if name in SETTINGS}
    known = {*FILE_OPTIONS, *SETTINGS}
    variables = {name: value for name, value in lines.items() if name not in known}
    return values, {"settings": settings, "variables": variables}


def _numbers(options: Options) -> Options:
    """The options with numbers where they came as text."""
    changes: dict[str, Any] = {}
    for option in fields(options):
        value = getattr(options, option.name)
        kind = type(option.default)
        if kind in (int, float) and isinstance(value, str):
            try:
                changes[option.name] = kind(value)
            except ValueError:
                raise DeployError(f"{option.name.upper()}={value}: it must be a number") from None
    return replace(options, **changes)


def _check_emulator(options: Options, host: str) -> None:
    """Raise DeployError where somebody may think that a command is about an emulator, and it isn't."""
    if host and options.command in OPERATIONS and not options.emulator:
        raise DeployError(
            f"PUBSUB_EMULATOR_HOST is {host}, but this command is about Google Cloud: unset it first, or "
            "give --emulator where the command has that"
        )
    if options.emulator and not (host and options.project):
        raise DeployError("--emulator needs PUBSUB_EMULATOR_HOST and --project")


def _mistakes(options: Options) -> Iterator[str]:
    # An emulator takes any name for a project.
    if options.project and not options.emulator and not PROJECT.fullmatch(options.project):
        yield f"--project {options.project}: it is no project's id"
    if not NAME.fullmatch(options.name):
        yield f"--name {options.name}: 3 to 22 of a-z, 0-9 and -, a letter first"
    if not REGION.fullmatch(options.region):
        yield f"--region {options.region}: it is no region's name, e.g. europe-west1"
    if options.delivery not in DELIVERIES:
        yield f"--delivery {options.delivery}: it must be pubsub or inline"
    if options.public not in PUBLIC:
        yield f"--public {options.public}: it must be iam or no-check"
    if options.min_instances < 0 or options.max_instances < max(1, options.min_instances):
        yield "MIN_INSTANCES, MAX_INSTANCES: whole numbers, the second at least 1 and not below the first"
    if options.notification_email and not EMAIL.fullmatch(options.notification_email):
        yield f"NOTIFICATION_EMAIL={options.notification_email}: it is no address"
    if options.retention_days not in RETENTION:
        yield f"RETENTION_DAYS={options.retention_days}: from 1 to 31"
    if not 0 <= options.drain_minutes <= LONGEST_DRAIN:
        yield f"--drain-minutes {options.drain_minutes:g}: from 0 to {LONGEST_DRAIN}"
    if options.ledger not in ("", "memory", "firestore"):
        yield f"LEDGER={options.ledger}: it must be memory or firestore"
    yield from _wrong_settings(options.settings)


def _wrong_settings(settings: Mapping[str, str]) -> Iterator[str]:
    """The same check as at the functions' start, and that a delivery ends before its function does."""
    for setting in DEPLOYED:
        try:
            parsed = setting.read(settings.get(setting.variable, "").strip() or setting.default)
        except ValueError as mistake:
            yield f"{setting.variable}: {mistake}"
            continue
        if setting is DELIVERY_TIMEOUT and parsed >= LONGEST_DELIVERY:
            yield f"DELIVERY_TIMEOUT={parsed:g}: at most 39 seconds, for the functions end after 60"
