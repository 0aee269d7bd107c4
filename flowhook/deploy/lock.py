"""One deployment at a time: a secret without a version, which only one can create, says who and when."""

import getpass
import os
import secrets
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

from flowhook.deploy.errors import DeployError, Refusal
from flowhook.deploy.kinds import SECRETS
from flowhook.deploy.resources import OURS, Place
from flowhook.deploy.rest import Api, Document

MINUTE = 60


def name_of(place: Place) -> str:
    """The id of the secret."""
    return place.called("deployment-lock")


@contextmanager
def held(api: Api, place: Place, break_it: bool = False) -> Iterator[None]:
    """Hold the lock. Raises DeployError that names the holder where somebody else does.

    The lock of a process that died stays, and is broken only where a person has said so.
    """
    if break_it:
        api.remove(_address(place))
    nonce = take(api, place)
    try:
        yield
    finally:
        release(api, place, nonce)


def release(api: Api, place: Place, nonce: str) -> None:
    """Give it back, unless somebody has broken it and holds it now."""
    holder = api.find(_address(place)) or {}
    if holder.get("annotations", {}).get("nonce") == nonce:
        api.remove(_address(place))


def take(api: Api, place: Place) -> str:
    """Take it, and give what tells this holder from another. Raises DeployError where somebody holds it."""
    mine = {"who": _who(), "since": _since(api.clock.now()), "nonce": secrets.token_hex(8)}
    try:
        made = _create(api, place, mine, {"automatic": {}})
    except Refusal as refusal:
        if not refusal.has("resourceLocations"):
            raise
        made = _create(api, place, mine, {"userManaged": {"replicas": [{"location": place.region}]}})
    holder = made.get("annotations", {})
    # What is there after an answer that was lost may be ours.
    if holder.get("nonce") != mine["nonce"]:
        raise DeployError(_taken(holder, api.clock.now()))
    return mine["nonce"]


def _create(api: Api, place: Place, mine: dict[str, str], replication: Document) -> Document:
    body = {"labels": {OURS: place.name}, "annotations": mine, "replication": replication}
    url = f"{SECRETS}/projects/{place.project}/secrets"
    try:
        return api.request("POST", url, body, lambda: api.find(_address(place)), secretId=name_of(place))
    except Refusal as refusal:
        if refusal.status != 409:
            raise
    holder = api.find(_address(place))
    if holder is None:
        raise DeployError("another deployment has ended just now: run this again")
    return holder


def _taken(holder: Document, now: float) -> str:
    since = str(holder.get("since", ""))
    return (
        f"another deployment is under way: by {holder.get('who', 'somebody')}, since {since}"
        f"{_ago(since, now)}. If it has died, --break-lock goes on without it"
    )


def _ago(since: str, now: float) -> str:
    try:
        minutes = (now - datetime.fromisoformat(since).timestamp()) / MINUTE
    except ValueError:
        return ""
    return f" ({minutes:.0f} minutes ago)"


def _who() -> str:
    """Whoever is logged in here, and which run of a CI this is, where it says so."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # There is no such user, as in some containers.
        user = "somebody"
    run = os.environ.get("GITHUB_RUN_ID", "")
    return f"{user}@{socket.gethostname()}{f' (run {run})' if run else ''}, process {os.getpid()}"


def _since(now: float) -> str:
    return datetime.fromtimestamp(now, UTC).isoformat(timespec="seconds")


def _address(place: Place) -> str:
    return f"{SECRETS}/projects/{place.project}/secrets/{name_of(place)}"
