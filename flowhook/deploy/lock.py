"""The deployment lock, with which only one command changes an installation at a time.

The lock is a secret without a version in Secret Manager, because only one process can create it. Its
annotations say who holds the lock, and since when.
"""

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
    """Return the id of the secret that is the lock."""
    return place.called("deployment-lock")


@contextmanager
def held(api: Api, place: Place, break_it: bool = False) -> Iterator[None]:
    """Take the lock for the duration of a `with` block. Raises DeployError, with the holder, if it is taken.

    A process that was killed leaves its lock. `break_it`, the user's --break-lock, deletes such a lock first.
    """
    if break_it:
        api.remove(_address(place))
    nonce = take(api, place)
    try:
        yield
    finally:
        release(api, place, nonce)


def release(api: Api, place: Place, nonce: str) -> None:
    """Release the lock, unless somebody else has broken it and taken it since."""
    holder = api.find(_address(place)) or {}
    if holder.get("annotations", {}).get("nonce") == nonce:
        api.remove(_address(place))


def take(api: Api, place: Place) -> str:
    """Take the lock and return the nonce that identifies the holder. Raises DeployError if it is taken."""
    mine = {"who": _who(), "since": _since(api.clock.now()), "nonce": secrets.token_hex(8)}
    try:
        made = _create(api, place, mine, {"automatic": {}})
    except Refusal as refusal:
        if not refusal.has("resourceLocations"):
            raise
        made = _create(api, place, mine, {"userManaged": {"replicas": [{"location": place.region}]}})
    holder = made.get("annotations", {})
    # Where the answer to our own request was lost, the lock that exists is ours: compare its nonce.
    if holder.get("nonce") != mine["nonce"]:
        raise DeployError(_taken(holder, api.clock.now()))
    return mine["nonce"]


def _create(api: Api, place: Place, mine: dict[str, str], replication: Document) -> Document:
    """Create the lock, and return it; where it exists already, return the one that exists."""
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
    """Return who takes the lock: user, machine, process id, and in GitHub Actions the id of the run."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # In some containers the user has no name.
        user = "somebody"
    run = os.environ.get("GITHUB_RUN_ID", "")
    return f"{user}@{socket.gethostname()}{f' (run {run})' if run else ''}, process {os.getpid()}"


def _since(now: float) -> str:
    return datetime.fromtimestamp(now, UTC).isoformat(timespec="seconds")


def _address(place: Place) -> str:
    return f"{SECRETS}/projects/{place.project}/secrets/{name_of(place)}"
