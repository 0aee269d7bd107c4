"""The environment, read once at the start into frozen settings. A mistake names the variable and the fix."""

import logging
import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from flowhook import schemes
from flowhook.categories import CATEGORIES, OPERATIONS, OTHER, Pattern
from flowhook.destinations import DESTINATIONS
from flowhook.errors import StartError
from flowhook.pubsub.messages import MAX_BODY
from flowhook.schemes import Scheme
from flowhook.secret import SHORT, VOID, SecretFile, Secrets

log = logging.getLogger(__name__)

TOPIC = re.compile(r"[A-Za-z][\w.~+%-]{2,254}", re.ASCII)
# The framework sets it: https://github.com/GoogleCloudPlatform/functions-framework-python
TARGET, CONSUME = "FUNCTION_TARGET", "consume"
DATABASE = re.compile(r"\(default\)|[a-z][a-z0-9-]{2,61}[a-z0-9]", re.ASCII)
LOG_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")


def _delivery(value: str) -> str:
    if value not in DESTINATIONS:
        raise ValueError(f"it must be {' or '.join(DESTINATIONS)}")
    return value


def _topic(value: str) -> str:
    """A topic's id: https://cloud.google.com/pubsub/docs/pubsub-basics#resource_names."""
    longest = value.replace("{category}", max(CATEGORIES, key=len))
    if value.startswith("goog") or (value and not TOPIC.fullmatch(longest)):
        raise ValueError("it must be a topic's id: 3 to 255 of A-Za-z0-9-._~+%, a letter first, but not goog")
    return value


def _plain_topic(value: str) -> str:
    if "{" in value:
        raise ValueError("what is rejected may have no category: it needs a topic without {category}")
    return _topic(value)


def _patterns(value: str) -> tuple[Pattern, ...]:
    patterns = tuple(Pattern.parse(part.strip()) for part in value.split(",") if part.strip())
    if not patterns:
        raise ValueError("it selects nothing, so every event would be dropped; * selects all")
    return patterns


def _bytes(value: str) -> int:
    if not value.isascii() or not value.isdigit() or int(value) == 0:
        raise ValueError("it must be a number of bytes above 0, e.g. 8388608")
    return int(value)


def _seconds(value: str) -> float:
    try:
        seconds = float(value)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < math.inf:
        raise ValueError("it must be a number of seconds above 0, e.g. 8")
    return seconds


def _log_level(value: str) -> str:
    if value.upper() not in LOG_LEVELS:
        raise ValueError(f"it must be one of {', '.join(LOG_LEVELS)}")
    return value.upper()


def _ledger(value: str) -> str:
    """https://cloud.google.com/firestore/docs/manage-databases#database_id."""
    name, colon, database = value.partition(":")
    if value != "memory" and (name != "firestore" or (colon and not DATABASE.fullmatch(database))):
        raise ValueError("it must be memory, firestore, or firestore:DATABASE")
    return value


class Setting(NamedTuple):
    """One environment variable: its default, what reads it, and its sentence in the documents.

    `read` raises ValueError, saying what it must be.
    """

    variable: str
    default: str
    read: Callable[[str], Any]
    meaning: str


SECRET = Setting(
    "WEBHOOK_SECRET",
    "",
    str,
    "the secret of the webhook settings in Flows; without one the start fails. At least 16 characters, "
    "please",
)
SECRET_FILE = Setting(
    "WEBHOOK_SECRET_FILE",
    "",
    Path,
    "instead: a file with one accepted secret a line, so that two are live during a rotation. It is read "
    "again while the function runs: a new secret counts within seconds, a removed one for a minute at most, "
    "as do the last good ones while the file can't be read or is empty; then the answer is 503",
)


def _setting(variable: str, default: str, read: Callable[[str], Any], meaning: str) -> Any:
    return field(metadata={"setting": Setting(variable, default, read, meaning)})


@dataclass(frozen=True)
class Settings:
    """The validated settings of the environment. Each is declared here, once."""

    secrets: Secrets
    # The entry point that this process serves, from the functions framework; empty elsewhere.
    target: str
    auth: Scheme | None = _setting(
        "WEBHOOK_AUTH", "auto", schemes.parse, "how the secret arrives, see authentication"
    )
    delivery: str = _setting(
        "DELIVERY",
        "inline",
        _delivery,
        "`inline`: handlers run before the answer is sent; `pubsub`: the event is published, handlers run "
        "behind it",
    )
    events: tuple[Pattern, ...] = _setting(
        "EVENTS",
        "*",
        _patterns,
        "comma-separated patterns; an event that none selects is answered 200 and dropped",
    )
    project: str = _setting(
        "GOOGLE_CLOUD_PROJECT",
        "",
        str,
        "the project of the topics; with it the log names traces in full",
    )
    topic: str = _setting(
        "PUBSUB_TOPIC",
        "flows-events",
        _topic,
        "the id of the topic; with `{category}` in it, each category has one of its own",
    )
    rejected_topic: str = _setting(
        "REJECTED_TOPIC",
        "",
        _plain_topic,
        "the id of the topic that keeps authentic bodies that are no event, and what handlers reject",
    )
    push_audience: str = _setting(
        "PUSH_AUDIENCE",
        "",
        str,
        "`consume` checks the token of each push for this audience; only for where IAM can't do it",
    )
    push_service_account: str = _setting("PUSH_SERVICE_ACCOUNT", "", str, "and for this service account")
    emulator: str = _setting(
        "PUBSUB_EMULATOR_HOST", "", str, "`HOST:PORT` of the emulator, instead of Pub/Sub itself"
    )
    max_body_bytes: int = _setting(
        "MAX_BODY_BYTES", str(8 * 1024 * 1024), _bytes, "larger bodies are refused"
    )
    delivery_timeout: float = _setting(
        "DELIVERY_TIMEOUT",
        "8",
        _seconds,
        "seconds that Pub/Sub has to acknowledge an event, repetitions included, or its handlers to end, all "
        "of them together",
    )
    ledger: str = _setting(
        "LEDGER",
        "memory",
        _ledger,
        "where handlers with `once=True` store what they have handled: `memory` (of one instance), "
        "`firestore` or `firestore:DATABASE` (for all)",
    )
    log_level: str = _setting(
        "LOG_LEVEL", "INFO", _log_level, "`DEBUG`, `INFO`, `WARNING`, `ERROR` or `CRITICAL`"
    )

    @cached_property
    def selected(self) -> frozenset[str]:
        """The event types that `EVENTS` selects."""
        every = (f"{category}.{operation}" for category in (*CATEGORIES, OTHER) for operation in OPERATIONS)
        return frozenset(name for name in every if any(pattern.matches(name) for pattern in self.events))

    def wants(self, event_type: str) -> bool:
        """Whether `EVENTS` selects this type."""
        return event_type in self.selected

    @property
    def runs_handlers(self) -> bool:
        """Whether handlers run in this process."""
        return self.target == CONSUME or DESTINATIONS[self.delivery].runs_handlers

    @property
    def publishes(self) -> bool:
        """Whether anything is published to Pub/Sub."""
        return DESTINATIONS[self.delivery].publishes or bool(self.rejected_topic)


def load(environment: Mapping[str, str]) -> Settings:
    """The settings in `environment`. Raises StartError with a line for each mistake.

    An empty variable counts as one that is not set. The value of a variable that concerns the secret is never
    repeated: it may be the secret itself, in the wrong place.
    """
    values: dict[str, Any] = {}
    mistakes: list[str] = []
    readers: dict[str, Callable[[], Any]] = {
        "secrets": lambda: _secrets(environment),
        "target": lambda: environment.get(TARGET, ""),
        **{name: _reader(environment, setting) for name, setting in DECLARED.items()},
    }
    for name, read in readers.items():
        try:
            values[name] = read()
        except ValueError as mistake:
            mistakes.append(str(mistake))
    if not mistakes:
        settings = Settings(**values)
        mistakes = list(_contradictions(settings))
    if mistakes:
        raise StartError("\n".join(mistakes))
    return settings


def _contradictions(settings: Settings) -> Iterator[str]:
    if settings.publishes and not settings.project:
        publishes = DESTINATIONS[settings.delivery].publishes
        setting = f"DELIVERY={settings.delivery}" if publishes else "REJECTED_TOPIC"
        yield f"GOOGLE_CLOUD_PROJECT is not set: {setting} needs to know whose topics to publish to"
    if settings.publishes and settings.max_body_bytes > MAX_BODY:
        yield f"MAX_BODY_BYTES={settings.max_body_bytes}: Pub/Sub takes bodies of {MAX_BODY} bytes at most"
    if bool(settings.push_audience) != bool(settings.push_service_account):
        missing = "PUSH_SERVICE_ACCOUNT" if settings.push_audience else "PUSH_AUDIENCE"
        yield f"{missing} is not set: a token is checked for both, its audience and its service account"


def warn(settings: Settings) -> None:
    """Log what is allowed, yet unwise."""
    if settings.secrets.short:
        log.warning(
            "The webhook secret has fewer than %d characters and can be guessed: "
            "set a longer one here and in Flows",
            SHORT,
        )


def _reader(environment: Mapping[str, str], setting: Setting) -> Callable[[], Any]:
    def read() -> Any:
        value = environment.get(setting.variable, "").strip() or setting.default
        try:
            return setting.read(value)
        except ValueError as mistake:
            shown = "" if setting.variable.startswith("WEBHOOK_") else f"={value!r}"
            raise ValueError(f"{setting.variable}{shown}: {mistake}") from None

    return read


def _secrets(environment: Mapping[str, str]) -> Secrets:
    # `consume` is private and should not be able to read the secret. Without secrets no request is authentic.
    if environment.get(TARGET) == CONSUME:
        return Secrets()
    secret = environment.get(SECRET.variable, "").strip()
    path = environment.get(SECRET_FILE.variable, "").strip()
    if secret and path:
        raise ValueError("WEBHOOK_SECRET and WEBHOOK_SECRET_FILE are both set: unset one of them")
    if path:
        return _secret_file(Path(path))
    if not secret:
        raise ValueError(
            "WEBHOOK_SECRET is not set: set it to the secret of the webhook settings in Flows, "
            "or WEBHOOK_SECRET_FILE to a file that holds it"
        )
    secrets = Secrets(secret.encode("utf-8", "surrogateescape"))
    if secrets.void:
        raise ValueError(f"WEBHOOK_SECRET can't be used: {VOID}. Set another one here and in Flows")
    return secrets


def _secret_file(path: Path) -> Secrets:
    try:
        secrets = SecretFile(path)
    except OSError as error:
        raise ValueError(f"WEBHOOK_SECRET_FILE={str(path)!r} can't be read: {error.strerror}") from None
    if secrets.empty:
        raise ValueError(f"WEBHOOK_SECRET_FILE={str(path)!r} holds no secret: write one a line")
    if secrets.void:
        raise ValueError(f"WEBHOOK_SECRET_FILE={str(path)!r} has a line that can't be used: {VOID}")
    return secrets


DECLARED: Mapping[str, Setting] = {
    declared.name: declared.metadata["setting"] for declared in fields(Settings) if declared.metadata
}
# All of them, in the order of the documents.
SETTINGS = (SECRET, SECRET_FILE, *DECLARED.values())
# No variable of a handler may have these names: flowhook's settings, and those of a deployment.
NAMES = frozenset(
    {
        *(setting.variable for setting in SETTINGS),
        *("PROJECT", "REGION", "NAME", "MIN_INSTANCES", "MAX_INSTANCES", "NOTIFICATION_CHANNEL"),
    }
)
