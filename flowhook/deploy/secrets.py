"""Reads, adds and disables versions of secrets in Secret Manager.

Versions are read by their numbers: those are strongly consistent, unlike `latest`.
"""

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

# How often `add` tries to add a version when answers are lost.
ATTEMPTS = 8
STANDARD_INPUT = "-"


class Version(NamedTuple):
    """An enabled version of a secret: its number and its value."""

    number: str
    payload: bytes

    @property
    def accepted(self) -> list[bytes]:
        """The secrets that a version of the webhook secret accepts, one in each line, the newest first."""
        return [line.strip() for line in self.payload.splitlines() if line.strip()]


def newest(api: Api, place: Place, secret: str) -> Version | None:
    """Return the enabled version with the highest number, or None."""
    numbers = enabled(api, place, secret)
    return read(api, place, secret, numbers[0]) if numbers else None


def enabled(api: Api, place: Place, secret: str) -> list[str]:
    """Return the numbers of the enabled versions, the highest first."""
    found = api.pages(f"{_address(place, secret)}/versions", "versions", {"filter": "state:ENABLED"})
    numbers = [int(version["name"].rpartition("/")[2]) for version in found if version["state"] == "ENABLED"]
    return [str(number) for number in sorted(numbers, reverse=True)]


def read(api: Api, place: Place, secret: str, number: str) -> Version:
    """Return a version, by its number."""
    document = api.get(f"{_address(place, secret)}/versions/{number}:access")
    return Version(number, base64.b64decode(document["payload"]["data"]))


def add(api: Api, place: Place, secret: str, payload: bytes) -> Version:
    """Add a version with a value, and return it. Raises Unanswered where that fails.

    Where the newest version has this value already, it is returned and none is added. So a version that was
    added although the answer was lost is not added twice.
    """
    body = {"payload": {"data": base64.b64encode(payload).decode()}}
    for _ in range(ATTEMPTS):
        present = newest(api, place, secret)
        if present is not None and present.payload == payload:
            return present
        try:
            document = api.request("POST", f"{_address(place, secret)}:addVersion", body, _raise_answer_lost)
        except _AnswerLostError:
            continue
        return Version(document["name"].rpartition("/")[2], payload)
    raise Unanswered(f"no version can be added to {secret}")


def disable(api: Api, place: Place, secret: str, number: str) -> None:
    """Disable a version, so that it can no longer be read."""
    api.request("POST", f"{_address(place, secret)}/versions/{number}:disable", {})


def chosen(options: Options) -> bytes:
    """Return the secret that --secret-file gives, or a new random one. Raises DeployError for a bad one."""
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
    """Return a secret that the user chose. Raises DeployError where it is empty, multi-line or too short."""
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
    """Return the values that the env file has for handlers' secrets, by secret id.

    `names` has the secret id of each variable.
    """
    return {
        secret: options.variables[name].encode()
        for name, secret in names.items()
        if options.variables.get(name)
    }


class _AnswerLostError(Exception):
    """An answer was lost, so whether the version was added must be looked up before a retry."""


def _raise_answer_lost() -> None:
    raise _AnswerLostError


def _address(place: Place, secret: str) -> str:
    return f"{SECRETS}/projects/{place.project}/secrets/{secret}"
