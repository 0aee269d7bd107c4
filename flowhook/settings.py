"""The environment, read once at the start into frozen settings. A mistake names the variable and the fix."""

import logging
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flowhook.auth import Form
from flowhook.categories import Pattern
from flowhook.errors import StartError
from flowhook.secret import SHORT, SecretFile, Secrets

log = logging.getLogger(__name__)

LOG_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")


@dataclass(frozen=True)
class Settings:
    """What the environment says, validated."""

    secrets: Secrets
    auth: Form
    delivery: str
    events: tuple[Pattern, ...]
    project: str | None
    max_body_bytes: int
    delivery_timeout: float
    log_level: str

    def wants(self, event_type: str) -> bool:
        """Whether `EVENTS` selects this type."""
        return any(pattern.matches(event_type) for pattern in self.events)


def load(environment: Mapping[str, str]) -> Settings:
    """The settings in `environment`. Raises StartError with a line for each mistake.

    An empty variable counts as one that is not set. What a variable that concerns the secret holds is
    never repeated: it may be the secret itself, in the wrong place.
    """
    values: dict[str, Any] = {}
    mistakes: list[str] = []
    readers: dict[str, Callable[[], Any]] = {
        "secrets": lambda: _secrets(environment),
        **{field: _reader(environment, *rule) for field, rule in VARIABLES.items()},
    }
    for field, read in readers.items():
        try:
            values[field] = read()
        except ValueError as mistake:
            mistakes.append(str(mistake))
    if environment.get("REJECTED_TOPIC", "").strip():
        mistakes.append("REJECTED_TOPIC: keeping refused events is not part of this version; unset it")
    if mistakes:
        raise StartError("\n".join(mistakes))
    return Settings(**values)


def warn(settings: Settings) -> None:
    """Log what is allowed, yet unwise."""
    if settings.secrets.short:
        log.warning(
            "The webhook secret has fewer than %d characters and can be guessed: "
            "set a longer one here and in Flows",
            SHORT,
        )


def _reader(
    environment: Mapping[str, str], name: str, default: str, parse: Callable[[str], Any]
) -> Callable[[], Any]:
    def read() -> Any:
        value = environment.get(name, "").strip() or default
        try:
            return parse(value)
        except ValueError as mistake:
            shown = "" if name.startswith("WEBHOOK_") else f"={value!r}"
            raise ValueError(f"{name}{shown}: {mistake}") from None

    return read


def _secrets(environment: Mapping[str, str]) -> Secrets:
    secret = environment.get("WEBHOOK_SECRET", "").strip()
    path = environment.get("WEBHOOK_SECRET_FILE", "").strip()
    if secret and path:
        raise ValueError("WEBHOOK_SECRET and WEBHOOK_SECRET_FILE are both set: unset one of them")
    if path:
        return _secret_file(Path(path))
    if not secret:
        raise ValueError(
            "WEBHOOK_SECRET is not set: set it to the secret of the webhook settings in Flows, "
            "or WEBHOOK_SECRET_FILE to a file that holds it"
        )
    return Secrets(secret.encode("utf-8", "surrogateescape"))


def _secret_file(path: Path) -> Secrets:
    try:
        secrets = SecretFile(path)
    except OSError as error:
        raise ValueError(f"WEBHOOK_SECRET_FILE={str(path)!r} can't be read: {error.strerror}") from None
    if secrets.empty:
        raise ValueError(f"WEBHOOK_SECRET_FILE={str(path)!r} holds no secret: write one a line")
    return secrets


def _delivery(value: str) -> str:
    if value == "pubsub":
        raise ValueError("delivery to Pub/Sub is not part of this version; use inline")
    if value != "inline":
        raise ValueError("it must be inline")
    return value


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


# Field of `Settings`: variable, default, what reads it.
VARIABLES: Mapping[str, tuple[str, str, Callable[[str], Any]]] = {
    "auth": ("WEBHOOK_AUTH", "auto", Form.parse),
    "delivery": ("DELIVERY", "inline", _delivery),
    "events": ("EVENTS", "*", _patterns),
    "project": ("GOOGLE_CLOUD_PROJECT", "", lambda value: value or None),
    "max_body_bytes": ("MAX_BODY_BYTES", str(8 * 1024 * 1024), _bytes),
    "delivery_timeout": ("DELIVERY_TIMEOUT", "8", _seconds),
    "log_level": ("LOG_LEVEL", "INFO", _log_level),
}
