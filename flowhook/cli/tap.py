"""A subscription for a moment: sees what arrives in a topic and takes it from nobody. By gcloud."""

import base64
import json
import secrets
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from flowhook.cli.errors import CommandError

# Should this process die, Pub/Sub removes the subscription after the shortest time that it allows.
LIFETIME = ("--expiration-period=1d", "--message-retention-duration=10m")
PULLED_AT_ONCE = 100
# Seconds between two looks.
PAUSE = 0.5


@dataclass(frozen=True)
class Arrived:
    """A message."""

    data: bytes
    attributes: Mapping[str, str]


class Tap:
    """What has arrived since it was made."""

    def __init__(self, project: str, name: str) -> None:
        self._project = project
        self._name = name
        self._seen: list[Arrived] = []

    def wait(self, ours: Callable[[Arrived], bool], deadline: float) -> bool:
        """Whether a message that is ours arrives before `deadline` (of `time.monotonic`)."""
        while not any(map(ours, self._seen)):
            if time.monotonic() > deadline:
                return False
            self._seen += self._pull() or self._pause()
        return True

    def _pause(self) -> list[Arrived]:
        time.sleep(PAUSE)
        return []

    def _pull(self) -> list[Arrived]:
        pull = ("pubsub", "subscriptions", "pull", self._name, "--auto-ack", f"--limit={PULLED_AT_ONCE}")
        return [_arrived(received["message"]) for received in _gcloud(self._project, *pull, "--format=json")]


def _arrived(message: Mapping[str, Any]) -> Arrived:
    return Arrived(base64.b64decode(message.get("data", "")), message.get("attributes", {}))


@contextmanager
def tapped(project: str, topic: str) -> Iterator[Tap]:
    """A tap on `topic`, gone at the end. Raises CommandError where gcloud can't do it."""
    name = f"{topic}-doctor-{secrets.token_hex(4)}"
    _gcloud(project, "pubsub", "subscriptions", "create", name, f"--topic={topic}", *LIFETIME)
    try:
        yield Tap(project, name)
    finally:
        _gcloud(project, "pubsub", "subscriptions", "delete", name)


def _gcloud(project: str, *arguments: str) -> Sequence[Any]:
    """Run gcloud and read what it prints, if that is JSON."""
    gcloud = shutil.which("gcloud")
    if not gcloud:
        raise CommandError("gcloud is not installed: see https://cloud.google.com/sdk/docs/install")
    command = [gcloud, *arguments, f"--project={project}", "--quiet"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - no shell
    if done.returncode:
        raise CommandError(f"gcloud {' '.join(arguments[:3])} failed: {done.stderr.strip()}")
    return json.loads(done.stdout) if "--format=json" in arguments else ()
