"""A webhook integration as a person sets it up, and the Form RAW Response that the platform shows for it."""

import secrets
from datetime import UTC, datetime
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, SecretStr
from pydantic.alias_generators import to_camel

from flowhook import samples, schemes
from flowhook.categories import CATEGORIES, OPERATIONS
from flowhook.schemes import HmacSha1, Query, Scheme

PROVIDER: Literal["Flows API webhook"] = "Flows API webhook"
SEGMENTS = ("integrationProviders", "flowsApiWebhook")
MASK = "••••••••"
MAX_SECRET = 1024
# Headers that HTTP itself needs: a secret in one of them would break the request.
RESERVED = {"host", "content-length", "content-type", "transfer-encoding", "connection", "te", "upgrade"}


def _url(value: str) -> str:
    try:
        parts = urlsplit(value.strip())
        usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        usable = False
    if not usable or not value.strip().isprintable() or " " in value.strip():
        raise ValueError("it must be an address that begins with http:// or https://")
    if parts.username is not None:
        raise ValueError("it must hold no user and no password: the secret proves who sends")
    return value.strip().partition("#")[0]


def _auth(value: str) -> str:
    scheme = schemes.parse(value)
    if scheme is None:
        raise ValueError("auto is a way to check, not to sign; name one, e.g. bearer")
    if scheme.name in RESERVED and scheme.named == "header":
        raise ValueError(f"{scheme.name} is a header that HTTP needs itself")
    return str(scheme)


def _secret(value: SecretStr | None) -> SecretStr | None:
    if value is None or not value.get_secret_value():
        return None
    # The receiver strips white space around a secret, so its sender must strip it too.
    text = value.get_secret_value().strip()
    if not text or not text.isprintable() or len(text) > MAX_SECRET:
        raise ValueError(f"it must be 1 to {MAX_SECRET} printable characters")
    return SecretStr(text)


def _events(value: tuple[str, ...]) -> tuple[str, ...]:
    unknown = [name for name in value if name not in samples.TYPES]
    if unknown:
        raise ValueError("one of them is no event type, such as packets.updated")
    return tuple(name for name in samples.TYPES if name in value)


class Model(BaseModel):
    """Frozen, camelCase in JSON. Its errors never show the input, which may be the secret."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        alias_generator=to_camel,
        populate_by_name=True,
        hide_input_in_errors=True,
    )


class Settings(Model):
    """What a user fills in. Raises ValidationError for unusable values."""

    provider: Literal["Flows API webhook"] = PROVIDER
    url: Annotated[str, AfterValidator(_url)]
    secret: Annotated[SecretStr | None, AfterValidator(_secret)] = None
    """When an integration is saved again, None means that its secret stays as it was."""
    auth: Annotated[str, AfterValidator(_auth)] = "bearer"
    status: Literal["active", "paused"] = "active"
    events: Annotated[tuple[str, ...], AfterValidator(_events)] = ()

    @property
    def scheme(self) -> Scheme:
        """How the secret travels."""
        scheme = schemes.parse(self.auth)
        assert scheme is not None  # noqa: S101 - `_auth` has seen to it
        return scheme


class Integration(Model):
    """An integration as it is stored."""

    id: str
    settings: Settings
    soft_removed: bool = False
    create_time: datetime
    update_time: datetime

    @classmethod
    def new(cls, settings: Settings) -> "Integration":
        """A new integration with these settings and an id of its own."""
        now = datetime.now(UTC)
        return cls(id=f"in-{secrets.token_hex(6)}", settings=settings, create_time=now, update_time=now)

    def changed(self, settings: Settings) -> "Integration":
        """The same with other settings, and not removed; where these have no secret, the old one stays."""
        if settings.secret is None:
            settings = settings.model_copy(update={"secret": self.settings.secret})
        update = {"settings": settings, "soft_removed": False, "update_time": datetime.now(UTC)}
        return self.model_copy(update=update)

    def needs_secret(self, settings: Settings) -> bool:
        """Whether these settings lack a secret, and the old one would go elsewhere or be protected less.

        Nobody can read a stored secret here, so nobody may redirect it to where they could read it.
        """
        if settings.secret is not None or not self.secret:
            return False
        moved = _origin(settings.url) != _origin(self.settings.url)
        return moved or _guarding(settings.scheme) < _guarding(self.settings.scheme)

    def named(self, identifier: str) -> "Integration":
        """The same integration with another id."""
        return self.model_copy(update={"id": identifier})

    def removed(self) -> "Integration":
        """The integration softly removed: it is still listed and sends nothing."""
        return self.model_copy(update={"soft_removed": True, "update_time": datetime.now(UTC)})

    @property
    def secret(self) -> bytes:
        """The secret; empty where none is set."""
        return self.settings.secret.get_secret_value().encode() if self.settings.secret else b""

    def sends(self, event_type: str) -> bool:
        """Whether it sends events of this type; a type that the platform doesn't know needs no tick."""
        alive = self.settings.status == "active" and not self.soft_removed
        return alive and (event_type in self.settings.events or event_type not in samples.TYPES)

    def document(self) -> dict[str, Any]:
        """The integration as the HTTP API returns it: `secretSet` instead of the secret."""
        settings = self.settings.model_dump(mode="json", by_alias=True, exclude={"secret"})
        return {
            "id": self.id,
            **settings,
            "secretSet": bool(self.secret),
            "softRemoved": self.soft_removed,
            "createTime": timestamp(self.create_time),
            "updateTime": timestamp(self.update_time),
        }

    def raw_response(self) -> dict[str, Any]:
        """The Form RAW Response: the fields that the platform's guide names, and the configuration."""
        return {
            "key": f"integrations/{self.id}",
            "softRemoved": self.soft_removed,
            "status": self.settings.status,
            "integrationProvider": {"path": "/".join(SEGMENTS), "segments": list(SEGMENTS)},
            "configuration": {
                "url": self.settings.url,
                "secret": MASK if self.secret else None,
                "auth": self.settings.auth,
                "events": {name: self._operations(name) for name in CATEGORIES},
            },
            "createTime": timestamp(self.create_time),
            "updateTime": timestamp(self.update_time),
        }

    def _operations(self, category: str) -> list[str]:
        return [operation for operation in OPERATIONS if f"{category}.{operation}" in self.settings.events]


def _origin(url: str) -> tuple[str, str, int]:
    """Scheme, host and port (RFC 6454)."""
    parts = urlsplit(url)
    default = 443 if parts.scheme == "https" else 80
    return parts.scheme, parts.hostname or "", parts.port or default


def _guarding(scheme: Scheme) -> int:
    """How well a scheme protects the secret: a URL is logged, and a signature does not contain it."""
    if isinstance(scheme, Query):
        return 0
    if not scheme.needs_body:
        return 1
    return 2 if isinstance(scheme, HmacSha1) else 3


def timestamp(moment: datetime) -> str:
    """ISO 8601 in UTC, to the millisecond, as the platform writes it."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
