"""What the two functions do, as far as a deployment is concerned: no process, no socket, no waiting.

A project's handlers are what the archive's file handlers.json says: that which
`python -m flowhook handlers --json` prints.
"""

import base64
import hashlib
import io
import json
import zipfile
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple
from urllib.parse import unquote

from tests.support.google_cloud.exchange import Refusal, Reply
from tests.support.google_cloud.functions import Image
from tests.support.google_cloud.iam import Iam
from tests.support.google_cloud.pubsub import PUBLISHER, PubSub
from tests.support.google_cloud.run import Call, Instance
from tests.support.google_cloud.timeline import Timeline

TABLE = "handlers.json"
REPLAY = "replay"
DOCTOR, DOCTOR_KEY = "flowhook.doctor", "flowhook/doctor"
COLLECTIONS = {"pipelinesPackets": "packets", "users": "users", "pipelines": "pipelines"}


@dataclass(frozen=True)
class Ran:
    """A handler that has run for an event."""

    handler: str
    event: str
    revision: str
    at: float


class Simulation:
    """Starts instances, and knows what ran in them."""

    def __init__(self, iam: Iam, pubsub: PubSub, time: Timeline) -> None:
        self.ran: list[Ran] = []
        # Handlers that fail, by name, and those that fail for a type of events.
        self.failing: set[str] = set()
        self.failing_for: set[tuple[str, str]] = set()
        # What handlers with `once` have done: handler, event, replay; and how many came once more.
        self.ledger: set[tuple[str, str, str]] = set()
        self.duplicates = 0
        # Handlers that reject everything, by name.
        self.rejecting: set[str] = set()
        self.refusals: dict[str, int] = defaultdict(int)
        self._iam = iam
        self._pubsub = pubsub
        self._time = time

    def start(
        self, image: Image, account: str, environment: Mapping[str, str], files: Mapping[str, bytes]
    ) -> Instance:
        """An instance. Raises Refusal where the container would not start."""
        if image.target == "receive" and environment.get("WEBHOOK_SECRET_FILE") not in files:
            raise Refusal(400, "The container failed to start: WEBHOOK_SECRET_FILE is not there")
        with zipfile.ZipFile(io.BytesIO(image.archive)) as unzipped:
            table = json.loads(unzipped.read(TABLE)) if TABLE in unzipped.namelist() else []
        return _Instance(self, image.target, account, dict(environment), dict(files), table)

    def publish(self, account: str, topic: str, data: bytes, attributes: Mapping[str, str]) -> bool:
        """Publish as an account; whether that was allowed."""
        if not self._iam.permits(f"topics/{topic}", PUBLISHER, account):
            return False
        self._pubsub.publish(topic, data, attributes)
        return True

    def run(self, handler: "_Handler", data: bytes, attributes: Mapping[str, str], revision: str) -> bool:
        """Run a handler, with `once` unless it has done this already; whether it succeeds."""
        name, type_ = handler.name, f"{attributes['category']}.{attributes['operation']}"
        if name in self.failing or (name, type_) in self.failing_for:
            return False
        key = (name, identity(data), attributes.get("replay", ""))
        if handler.once and key in self.ledger:
            self.duplicates += 1
            return True
        self.ledger.add(key)
        self.ran.append(Ran(name, identity(data), revision, self._time.now))
        return True


class _Handler(NamedTuple):
    name: str
    patterns: list[str]
    once: bool


class _Instance:
    def __init__(  # noqa: PLR0913, PLR0917 - what a container is given
        self,
        simulation: Simulation,
        target: str,
        account: str,
        environment: Mapping[str, str],
        files: Mapping[str, bytes],
        table: list[Any],
    ) -> None:
        self._simulation = simulation
        self._target = target
        self._account = account
        self._environment = environment
        self._files = files
        self._table = {
            row["name"]: _Handler(row["name"], row["patterns"], row.get("once", False)) for row in table
        }

    def call(self, call: Call) -> Reply:
        return self._receive(call) if self._target == "receive" else self._consume(call)

    def stop(self) -> None:
        """Nothing runs."""

    @property
    def _revision(self) -> str:
        return self._environment["K_REVISION"]

    def _receive(self, call: Call) -> Reply:
        accepted = self._files[self._environment["WEBHOOK_SECRET_FILE"]].split()
        token = call.headers.get("authorization", "").removeprefix("Bearer ").encode()
        if token not in accepted:
            return _json(401, {})
        try:
            event = json.loads(call.body)
        except ValueError:
            reason = {"reason": "not-json", "id": identity(call.body)}
            kept = self._publish("REJECTED_TOPIC", call.body, reason)
            return _json(400 if kept else 503, {})
        if self._environment["DELIVERY"] == "inline":
            return self._handle_inline(call.body, event)
        published = self._publish("PUBSUB_TOPIC", call.body, attributes_of(event, call.body))
        return _json(200, {"outcome": "published"}) if published else _json(503, {})

    def _handle_inline(self, body: bytes, event: Mapping[str, Any]) -> Reply:
        attributes = attributes_of(event, body)
        if attributes["entity_key"] == DOCTOR_KEY:
            self._publish("REJECTED_TOPIC", body, {**attributes, "handler": DOCTOR})
            return _json(200, {"outcome": "handled"})
        wanted = [name for name in self._table if self._matches(name, attributes)]
        done = [self._run(name, body, attributes) for name in wanted]
        return _json(200 if all(done) else 500, {"outcome": "handled"})

    def _consume(self, call: Call) -> Reply:
        message = json.loads(call.body)["message"]
        data, attributes = base64.b64decode(message.get("data", "")), message.get("attributes", {})
        handler = unquote(call.path.lstrip("/"))
        if handler == REPLAY:
            handler = attributes.get("handler", "")
        if handler == DOCTOR:
            kept = self._publish(
                "REJECTED_TOPIC", data, {**attributes, "handler": DOCTOR, "reason": "rejected"}
            )
            return Reply(204 if kept else 500)
        if attributes.get("entity_key") == DOCTOR_KEY:
            return Reply(204)
        if handler not in self._table:
            self._simulation.refusals[handler] += 1
            return Reply(404)
        if not self._matches(handler, attributes):
            return Reply(204)
        if handler in self._simulation.rejecting:
            given = {**attributes, "handler": handler, "reason": "rejected"}
            return Reply(204 if self._publish("REJECTED_TOPIC", data, given) else 500)
        return Reply(200 if self._run(handler, data, attributes) else 500)

    def _run(self, handler: str, data: bytes, attributes: Mapping[str, str]) -> bool:
        return self._simulation.run(self._table[handler], data, attributes, self._revision)

    def _publish(self, variable: str, data: bytes, attributes: Mapping[str, str]) -> bool:
        return self._simulation.publish(self._account, self._environment[variable], data, attributes)

    def _matches(self, handler: str, attributes: Mapping[str, str]) -> bool:
        halves = (pattern.partition(".")[::2] for pattern in self._table[handler].patterns)
        given = attributes["category"], attributes["operation"]
        return any(
            wanted in ("*", half) and (operation or "*") in ("*", given[1])
            for wanted, operation in halves
            for half in given[:1]
        )


def identity(body: bytes) -> str:
    """The id of an event."""
    return hashlib.sha256(body).hexdigest()


def attributes_of(event: Mapping[str, Any], body: bytes) -> dict[str, str]:
    """What subscriptions filter by."""
    collection = event["entityPath"].split("/")[-2]
    return {
        "ce-id": identity(body),
        "category": COLLECTIONS.get(collection, "other"),
        "operation": event["operationType"],
        "entity_key": event["entityKey"],
    }


def _json(status: int, document: Mapping[str, Any]) -> Reply:
    return Reply(status, json.dumps(document).encode())
