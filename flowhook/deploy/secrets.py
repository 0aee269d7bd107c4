"""The secrets in Secret Manager: versions by number, which are consistent at once, as `latest` is not."""

import base64
import secrets
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from flowhook.deploy.deployed import SHORTEST_SECRET
from flowhook.deploy.errors import DeployError, Unanswered
from flowhook.deploy.kinds import SECRETS
from flowhook.deploy.options import Options
from flowhook.deploy.resources import Place
from flowhook.deploy.rest import Api

# How often a version is added anew after an answer that was lost.
ATTEMPTS = 8
STANDARD_INPUT = "-"


class Version(NamedTuple):
    """A version that can be read, with what it holds."""

    number: str
    payload: bytes

    @property
    def accepted(self) -> list[bytes]:
        """Of the webhook secret: every secret that is accepted, the newest first."""
        return [line.strip() for line in self.payload.splitlines() if line.strip()]


def newest(api: Api, place: Place, secret: str) -> Version | None:
    """The enabled version with the highest number, if there is one."""
    numbers = enabled(api, place, secret)
    return read(api, place, secret, numbers[0]) if numbers else None


def enabled(api: Api, place: Place, secret: str) -> list[str]:
    """The numbers of the versions that can be read, the highest first."""
    found = api.pages(f"{_address(place, secret)}/versions", "versions", {"filter": "state:ENABLED"})
    numbers = [int(version["name"].rpartition("/")[2]) for version in found if version["state"] == "ENABLED"]
    return [str(number) for number in sorted(numbers, reverse=True)]


def read(api: Api, place: Place, secret: str, number: str) -> Version:
    """A version by its number."""
    document = api.get(f"{_address(place, secret)}/versions/{number}:access")
    return Version(number, base64.b64decode(document["payload"]["data"]))


def add(api: Api, place: Place, secret: str, payload: bytes) -> Version:
    """Add a version; none where the newest one is the same, as it is after an answer that was lost."""
    body = {"payload": {"data": base64.b64encode(payload).decode()}}
    for _ in range(ATTEMPTS):
        present = newest(api, place, secret)
        if present is not None and present.payload == payload:
            return present
        try:
            document = api.request("POST", f"{_address(place, secret)}:addVersion", body, _look)
        except _LookError:
            continue
        return Version(document["name"].rpartition("/")[2], payload)
    raise Unanswered(f"no version can be added to {secret}")


def disable(api: Api, place: Place, secret: str, number: str) -> None:
    """Let nobody read a version any more."""
    api.request("POST", f"{_address(place, secret)}/versions/{number}:disable", {})


def chosen(options: Options) -> bytes:
    """The secret of a file or of standard input, else a strong one. Raises DeployError for no good one."""
    if not options.secret_file:
        return secrets.token_urlsafe(32).encode()
    try:
        raw = _content(options.secret_file)
    except OSError as error:
        raise DeployError(f"--secret-file {options.secret_file} can't be read: {error.strerror}") from None
    return checked(raw.strip(), options)


def _content(path: str) -> bytes:
    return sys.stdin.buffer.read() if path == STANDARD_INPUT else Path(path).read_bytes()


def checked(secret: bytes, options: Options) -> bytes:
    """A secret of somebody's choice. Raises DeployError."""
    if not secret:
        raise DeployError("the secret is empty")
    if len(secret.splitlines()) > 1:
        raise DeployError("a secret is one line")
    if len(secret) < SHORTEST_SECRET and not options.allow_weak_secret:
        raise DeployError(
            f"the secret has fewer than {SHORTEST_SECRET} characters and can be guessed: choose another, "
            "or --allow-weak-secret"
        )
    return secret


def values(options: Options, names: Mapping[str, str]) -> dict[str, bytes]:
    """The values that the env file gives for secrets, by their ids; `names` has the id of each variable's."""
    return {
        secret: options.variables[name].encode()
        for name, secret in names.items()
        if options.variables.get(name)
    }


class _LookError(Exception):
    """An answer was lost: whether it had taken effect must be looked up."""


def _look() -> None:
    raise _LookError


def _address(place: Place, secret: str) -> str:
    return f"{SECRETS}/projects/{place.project}/secrets/{secret}"
