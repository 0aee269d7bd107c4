"""The sender: signs with what was printed last, sends all the time, and again what was not accepted."""

import json
from collections import Counter
from dataclasses import dataclass

from tests.support.google_cloud.control_plane import ControlPlane
from tests.support.google_cloud.exchange import Request
from tests.support.google_cloud.simulated import identity
from tests.support.google_cloud.timeline import stamp

SENT_AGAIN_AFTER = 10.0
KINDS = (("users", "updated"), ("pipelinesPackets", "created"), ("pipelinesPackets", "updated"))


@dataclass(frozen=True)
class Accepted:
    """An event that was answered 200."""

    event: str
    type: str
    at: float


class Flows:
    """Sends an event every few seconds of the fake's time."""

    def __init__(self, plane: ControlPlane, every: float = 2.0) -> None:
        self.secret = b""
        self.accepted: list[Accepted] = []
        # How often each status came.
        self.statuses: Counter[int] = Counter()
        self._plane = plane
        self._count = 0
        self._sending = False
        plane.time.every(every, self._tick)

    def start(self, secret: bytes) -> None:
        """Send from now on."""
        self.secret, self._sending = secret, True

    def stop(self) -> None:
        self._sending = False

    def between(self, start: float, end: float) -> list[Accepted]:
        """What was accepted in a time."""
        return [event for event in self.accepted if start <= event.at <= end]

    def _tick(self) -> None:
        if not self._sending:
            return
        self._count += 1
        collection, operation = KINDS[self._count % len(KINDS)]
        self._send(body(self._count, collection, operation, self._plane.time.now), collection, operation)

    def _send(self, event: bytes, collection: str, operation: str) -> None:
        status = post(self._plane, event, self.secret)
        self.statuses[status] += 1
        if status == 200:
            category = {"pipelinesPackets": "packets"}.get(collection, collection)
            done = Accepted(identity(event), f"{category}.{operation}", self._plane.time.now)
            self.accepted.append(done)
        else:
            self._plane.time.after(SENT_AGAIN_AFTER, lambda: self._send(event, collection, operation))


def body(number: int, collection: str, operation: str, now: float) -> bytes:
    """An event as it travels."""
    key = f"flows/{collection}"
    path = f"organizations/o/{collection}/{number}"
    document = {
        "operationType": operation,
        "entityPath": path,
        "entityKey": key,
        "eventTimestamp": stamp(now),
        "organizationId": "o",
    }
    return json.dumps(document).encode()


def post(
    plane: ControlPlane, event: bytes, secret: bytes, function: str = "europe-west1/flowhook-receive"
) -> int:
    """Send an event to where the function is; its status."""
    service = plane.run.found.get(function)
    if service is None:
        return 404
    host = service.document["uri"].removeprefix("https://")
    headers = {"authorization": f"Bearer {secret.decode()}", "content-type": "application/json"}
    return plane.run.call(Request("POST", host, "/", {}, headers, event)).status
