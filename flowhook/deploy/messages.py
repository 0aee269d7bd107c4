"""Messages, for the little that a deployment sends and looks at itself: publish, pull, acknowledge, tap.

They go over REST like all else here, not through google-cloud-pubsub's clients: that publisher goes on
sending after its caller has given up, while here nothing may be acknowledged before it is published, and one
session has the login, the proxy, the catalogue of what passes by itself, and the tests' control plane.
"""

import base64
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from flowhook.deploy.kinds import KINDS, PUBSUB
from flowhook.deploy.resources import OURS, Place
from flowhook.deploy.rest import Api

PULLED_AT_ONCE = 100
HELD_AT_ONCE = 1000
# Bytes; a request may have 10 MB, and a message is at most as long: https://cloud.google.com/pubsub/quotas
PUBLISHED_AT_ONCE = 8_000_000
# The label of a tap: when it was created, in seconds since 1970.
TAP = "flowhook-tap"
# Should this process be killed, Pub/Sub deletes a tap after a day, the shortest time that it allows.
LIFETIME = {
    "expirationPolicy": {"ttl": "86400s"},
    "messageRetentionDuration": "600s",
    "ackDeadlineSeconds": 10,
}


@dataclass(frozen=True)
class Pulled:
    """A message that was pulled, and must be acknowledged or released."""

    ack_id: str
    data: bytes
    attributes: Mapping[str, str]
    published: str
    id: str = ""


def publish(api: Api, place: Place, topic: str, messages: Sequence[tuple[bytes, Mapping[str, str]]]) -> None:
    """Publish messages to a topic in one request; `groups` splits what is too much for one."""
    body = [{"data": base64.b64encode(data).decode(), "attributes": dict(given)} for data, given in messages]
    api.request("POST", f"{PUBSUB}/projects/{place.project}/topics/{topic}:publish", {"messages": body})


def pull(api: Api, place: Place, subscription: str) -> list[Pulled]:
    """Return up to PULLED_AT_ONCE messages that wait. Pub/Sub may return none although some wait."""
    body = {"maxMessages": PULLED_AT_ONCE, "returnImmediately": True}
    answer = api.request("POST", f"{_address(place, subscription)}:pull", body)
    return [_pulled(received) for received in answer.get("receivedMessages", ())]


def acknowledge(api: Api, place: Place, subscription: str, messages: Sequence[Pulled]) -> None:
    """Acknowledge messages, so that Pub/Sub doesn't deliver them again."""
    if messages:
        ids = [message.ack_id for message in messages]
        api.request("POST", f"{_address(place, subscription)}:acknowledge", {"ackIds": ids})


def hold(api: Api, place: Place, subscription: str, ack_ids: Sequence[str], seconds: int) -> None:
    """Have messages not delivered again for so many seconds; with 0 they are at once."""
    for start in range(0, len(ack_ids), HELD_AT_ONCE):
        body = {"ackIds": [*ack_ids[start : start + HELD_AT_ONCE]], "ackDeadlineSeconds": seconds}
        api.request("POST", f"{_address(place, subscription)}:modifyAckDeadline", body)


def groups(messages: Iterable[Pulled]) -> Iterator[list[Pulled]]:
    """The same in groups, each of which fits into one request to publish."""
    group: list[Pulled] = []
    taken = 0
    for message in messages:
        size = _size(message)
        if group and (taken + size > PUBLISHED_AT_ONCE or len(group) == PULLED_AT_ONCE):
            yield group
            group, taken = [], 0
        group.append(message)
        taken += size
    if group:
        yield group


def _size(message: Pulled) -> int:
    """Return the approximate size of a message in a request, in bytes."""
    return len(message.data) + sum(len(name) + len(value) for name, value in message.attributes.items())


class Tap:
    """A temporary subscription: receives what is published to a topic from now on, as all others still do."""

    def __init__(self, api: Api, place: Place, name: str) -> None:
        self._api = api
        self._place = place
        self._name = name
        self._seen: list[Pulled] = []
        self.clock = api.clock

    def wait(self, ours: Callable[[Pulled], bool], patience: float) -> bool:
        """Return whether a message for which `ours` is true arrives within `patience` seconds."""
        pauses = self.clock.pauses(patience)
        while not any(map(ours, self._seen)):
            arrived = pull(self._api, self._place, self._name)
            acknowledge(self._api, self._place, self._name, arrived)
            self._seen += arrived
            if not arrived and next(pauses, None) is None:
                return False
        return True


@contextmanager
def tapped(api: Api, place: Place, topic: str, filter_: str) -> Iterator[Tap]:
    """Create a tap on a topic, and delete it at the end of the `with` block.

    `filter_` is a Pub/Sub filter, so that the tap need not pull all messages of a busy topic.
    """
    name = f"{topic}-doctor-{secrets.token_hex(4)}"
    fields = {"topic": f"projects/{place.project}/topics/{topic}", "filter": filter_}
    labels = {TAP: str(int(api.clock.now())), **({OURS: place.name} if place.name else {})}
    url = _address(place, name)
    api.create("PUT", url, {**fields, "labels": labels, **LIFETIME}, lambda: api.find(url))
    try:
        yield Tap(api, place, name)
    finally:
        api.remove(url)


def _pulled(received: Mapping[str, Any]) -> Pulled:
    message = received["message"]
    data = base64.b64decode(message.get("data", ""))
    return Pulled(
        received["ackId"],
        data,
        message.get("attributes", {}),
        message.get("publishTime", ""),
        message.get("messageId", ""),
    )


def _address(place: Place, subscription: str) -> str:
    return KINDS["subscription"].address(place, subscription)
