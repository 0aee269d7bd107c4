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
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple
from urllib.parse import unquote

from tests.support.google_cloud.exchange import Refusal, Reply
from tests.support.google_cloud.functions import Image
from tests.support.google_cloud.iam import Iam
from tests.support.google_cloud.log_filters import SEVERITIES
from tests.support.google_cloud.logging import Logs
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

    def __init__(self, iam: Iam, pubsub: PubSub, logs: Logs, time: Timeline) -> None:
        self.ran: list[Ran] = []
        # Handlers that fail, by name, and those that fail for a type of events.
        self.failing: set[str] = set()
        self.failing_for: set[tuple[str, str]] = set()
        # What handlers with `once` have done: handler, event, replay; and how many came once more.
        self.ledger: set[tuple[str, str, str]] = set()
        self.duplicates = 0
        # Handlers that reject everything, by name.
        self.rejecting: set[str] = set()
        # How many of the next events are answered as published, and aren't.
        self.losing = 0
        self.refusals: dict[str, int] = defaultdict(int)
        self._logs = logs
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

    def publish(self, account: str, topic: str, data: bytes, attributes: Mapping[str, str]) -> str:
        """Publish as an account, and give the message's id; empty where that is not allowed."""
        if not self._iam.permits(f"topics/{topic}", PUBLISHER, account):
            return ""
        if self.losing:
            self.losing -= 1
            return "0"
        return self._pubsub.publish(topic, data, attributes)

    def log(self, environment: Mapping[str, str], line: Mapping[str, Any]) -> None:
        """Write the line of a delivery, as `flowhook.edge` does, unless the level leaves it out."""
        level = environment.get("LOG_LEVEL", "INFO")
        if SEVERITIES.index(line["severity"]) >= SEVERITIES.index(level):
            self._logs.write(environment["K_SERVICE"], line)

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
            return self._answer(401, "unauthentic", headers_tried=["authorization"])
        try:
            event = json.loads(call.body)
        except ValueError:
            reason = {"reason": "not-json", "id": identity(call.body)}
            kept = self._publish("REJECTED_TOPIC", call.body, reason)
            return self._answer(400, "not-json") if kept else self._answer(503, "undelivered")
        noted = noted_of(event, call.body)
        if self._environment["DELIVERY"] == "inline":
            return self._handle_inline(call.body, event)
        published = self._publish("PUBSUB_TOPIC", call.body, attributes_of(event, call.body))
        if not published:
            return self._answer(503, "undelivered", **noted)
        return self._answer(200, "published", **noted, messageId=published)

    def _handle_inline(self, body: bytes, event: Mapping[str, Any]) -> Reply:
        attributes, noted = attributes_of(event, body), noted_of(event, body)
        if attributes["entity_key"] == DOCTOR_KEY:
            self._publish("REJECTED_TOPIC", body, {**attributes, "handler": DOCTOR})
            return self._answer(200, "handled", **noted, handlers=[], rejected=[DOCTOR])
        wanted = [name for name in self._table if self._matches(name, attributes)]
        failed = [name for name in wanted if not self._run(name, body, attributes)]
        return self._handled(200, noted, [name for name in wanted if name not in failed], failed)

    def _consume(self, call: Call) -> Reply:
        message = json.loads(call.body)["message"]
        data, attributes = base64.b64decode(message.get("data", "")), message.get("attributes", {})
        handler = unquote(call.path.lstrip("/"))
        if handler == REPLAY:
            handler = attributes.get("handler", "")
        if handler not in (DOCTOR, *self._table) and attributes.get("entity_key") != DOCTOR_KEY:
            self._simulation.refusals[handler] += 1
            return self._answer(404, "unknown-handler")
        return self._for_handler(handler, data, attributes)

    def _run(self, handler: str, data: bytes, attributes: Mapping[str, str]) -> bool:
        return self._simulation.run(self._table[handler], data, attributes, self._revision)

    def _for_handler(self, handler: str, data: bytes, attributes: Mapping[str, str]) -> Reply:
        noted = _noted(attributes, data, attributes.get("ce-subject", ""))
        is_doctors = attributes.get("entity_key") == DOCTOR_KEY
        if handler != DOCTOR and (is_doctors or not self._matches(handler, attributes)):
            return self._answer(204, "ignored", **noted)
        if handler in (DOCTOR, *self._simulation.rejecting):
            given = {**attributes, "handler": handler, "reason": "rejected"}
            if self._publish("REJECTED_TOPIC", data, given):
                return self._answer(204, "handled", **noted, handlers=[], rejected=[handler])
            return self._handled(204, noted, [], [handler])
        done = self._run(handler, data, attributes)
        return self._handled(204, noted, [handler] if done else [], [] if done else [handler])

    def _handled(
        self, status: int, noted: Mapping[str, Any], handlers: Sequence[str], failed: Sequence[str]
    ) -> Reply:
        if not failed:
            return self._answer(status, "handled", **noted, handlers=[*handlers])
        more = {"handlers": [*handlers], "failed": [*failed], "rejected": []}
        return self._answer(500, "handler-failed", **noted, **more)

    def _answer(self, status: int, outcome: str, **noted: Any) -> Reply:
        """An answer, and its line in the log."""
        severity = "ERROR" if status >= 500 else "WARNING" if status >= 400 else "INFO"
        severity = "WARNING" if severity == "INFO" and noted.get("rejected") else severity
        subject = f"{noted['event_type']} {noted['entity_path']}: " if "event_type" in noted else ""
        line = {"message": f"{subject}{outcome}", **noted, "outcome": outcome, "status": status}
        self._simulation.log(self._environment, {"severity": severity, **line, "milliseconds": 3.2})
        return _json(status, {"outcome": outcome})

    def _publish(self, variable: str, data: bytes, attributes: Mapping[str, str]) -> str:
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
        "ce-subject": event["entityPath"],
        "category": COLLECTIONS.get(collection, "other"),
        "operation": event["operationType"],
        "entity_key": event["entityKey"],
    }


def noted_of(event: Mapping[str, Any], body: bytes) -> dict[str, str]:
    """What a line says of its event."""
    return _noted(attributes_of(event, body), body, event["entityPath"])


def _noted(attributes: Mapping[str, str], body: bytes, path: str) -> dict[str, str]:
    kind = f"{attributes.get('category', '')}.{attributes.get('operation', '')}"
    return {"event_id": identity(body), "event_type": kind, "entity_path": path}


def _json(status: int, document: Mapping[str, Any]) -> Reply:
    return Reply(status, json.dumps(document).encode())
