"""Pub/Sub: topics and subscriptions, and the messages in them.

Filters, tokens on pushes, delivery attempts, dead letters, retention and the metrics of a backlog: all that
the emulator lacks, after https://cloud.google.com/pubsub/docs.
"""

import base64
import itertools
import json
import re
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple
from urllib.parse import urlsplit

from tests.support.google_cloud import filters
from tests.support.google_cloud.exchange import Document, Refusal, Request, Routes, camel, last, patched
from tests.support.google_cloud.faults import Faults
from tests.support.google_cloud.iam import AGENT, Iam, policy_routes
from tests.support.google_cloud.timeline import Timeline, duration, seconds_of, stamp

HOST = "pubsub.googleapis.com"
NAME = re.compile(r"(?!goog)[A-Za-z][\w.~+%-]{2,254}", re.ASCII)
LABEL, LABEL_VALUE = re.compile(r"[a-z][a-z0-9_-]{0,62}"), re.compile(r"[a-z0-9_-]{0,63}")
ACKNOWLEDGED = {102, 200, 201, 202, 204}
PUBLISHER, SUBSCRIBER = "roles/pubsub.publisher", "roles/pubsub.subscriber"
DAY = 86400
SAMPLED_EVERY = 60
# Seconds between a push and its answer.
PUSH_TAKES = 0.3
UNCHANGEABLE = {"filter", "topic", "name", "enableMessageOrdering"}


@dataclass(frozen=True)
class Message:
    id: str
    data: bytes
    attributes: Mapping[str, str]
    published: float

    @property
    def document(self) -> Document:
        data = {"data": base64.b64encode(self.data).decode()} if self.data else {}
        given = {"attributes": dict(self.attributes)} if self.attributes else {}
        return {**data, **given, "messageId": self.id, "publishTime": stamp(self.published)}


@dataclass
class Waiting:
    """A message in a subscription, until it is acknowledged."""

    message: Message
    due: float
    attempts: int = 0
    ack_id: str = ""


class Sample(NamedTuple):
    at: float
    age: float
    undelivered: int


@dataclass
class Subscription:
    document: Document
    created: float
    waiting: dict[str, Waiting] = field(default_factory=dict)
    samples: list[Sample] = field(default_factory=list)

    @property
    def endpoint(self) -> str:
        return str(self.document.get("pushConfig", {}).get("pushEndpoint", ""))


@dataclass
class Topic:
    document: Document
    retained: list[Message] = field(default_factory=list)


# Endpoint, email and audience of the token, body: gives the status.
Push = Callable[[str, str, str, bytes], int]


class PubSub:
    """Topics and subscriptions of one project."""

    def __init__(self, iam: Iam, time: Timeline, faults: Faults) -> None:
        self.project = iam.project
        self.topics: dict[str, Topic] = {}
        self.found: dict[str, Subscription] = {}
        # Of every subscription that there ever was.
        self.samples: dict[str, list[Sample]] = defaultdict(list)
        # Dead letters and how often each subscription pushed a message, for the tests.
        self.pushes: dict[str, int] = defaultdict(int)
        # When the pushes of each subscription were acknowledged.
        self.acknowledged: dict[str, list[float]] = defaultdict(list)
        # When each message of a topic was published.
        self.published: dict[str, list[float]] = defaultdict(list)
        self.push: Push = lambda endpoint, email, audience, body: 503
        self._iam = iam
        self._time = time
        self._faults = faults
        self._ids = itertools.count(1)
        time.every(SAMPLED_EVERY, self._sample)

    def routes(self, routes: Routes) -> None:
        base = f"{HOST}/v1/projects/*"
        routes.add("GET", f"{base}/topics", self._list_topics)
        routes.add("GET", f"{base}/topics/*", lambda r, p, name: self._topic(name).document)
        routes.add("PUT", f"{base}/topics/*", self._create_topic)
        routes.add("PATCH", f"{base}/topics/*", self._update_topic)
        routes.add("DELETE", f"{base}/topics/*", self._delete_topic)
        routes.add("POST", f"{base}/topics/*:publish", self._publish)
        routes.add("GET", f"{base}/subscriptions", self._list_subscriptions)
        routes.add("GET", f"{base}/subscriptions/*", lambda r, p, name: self._find(name).document)
        routes.add("PUT", f"{base}/subscriptions/*", self._create)
        routes.add("PATCH", f"{base}/subscriptions/*", self._update)
        routes.add("DELETE", f"{base}/subscriptions/*", self._delete)
        routes.add("POST", f"{base}/subscriptions/*:modifyPushConfig", self._modify_push)
        routes.add("POST", f"{base}/subscriptions/*:pull", self._pull)
        routes.add("POST", f"{base}/subscriptions/*:acknowledge", self._acknowledge)
        routes.add("POST", f"{base}/subscriptions/*:modifyAckDeadline", self._modify_deadline)
        routes.add("POST", f"{base}/subscriptions/*:seek", self._seek)
        policy_routes(routes, self._iam, f"{base}/topics", "topics", self._topic)
        policy_routes(routes, self._iam, f"{base}/subscriptions", "subscriptions", self._find)

    # --- messages ---

    def publish(self, name: str, data: bytes, attributes: Mapping[str, str]) -> str:
        """Publish, and give the message's id. Raises Refusal for what the service refuses."""
        topic = self._topic(name)
        if any(len(k.encode()) > 256 or len(v.encode()) > 1024 for k, v in attributes.items()):
            raise Refusal(400, "An attribute is too long.")
        message = Message(str(next(self._ids)), data, dict(attributes), self._time.now)
        self.published[name].append(self._time.now)
        if "messageRetentionDuration" in topic.document:
            topic.retained.append(message)
        for subscription in list(self.found.values()):
            if last(subscription.document["topic"]) == name:
                self._deliver(subscription, message)
        return message.id

    def waiting(self, name: str) -> list[Message]:
        """What waits in a subscription."""
        return [w.message for w in self._find(name).waiting.values()]

    def _deliver(self, subscription: Subscription, message: Message) -> None:
        if filters.matches(subscription.document.get("filter", ""), message.attributes):
            subscription.waiting[message.id] = Waiting(message, self._time.now)
            self._push_later(subscription, message.id, PUSH_TAKES)

    def _push_later(self, subscription: Subscription, number: str, seconds: float) -> None:
        self._time.after(seconds, lambda: self._push(subscription, number))

    def _push(self, subscription: Subscription, number: str) -> None:
        """Push a message, unless it is gone, is pulled, or is not due."""
        waiting, name = subscription.waiting.get(number), last(subscription.document["name"])
        if waiting is None or self.found.get(name) is not subscription or not subscription.endpoint:
            return
        if waiting.due > self._time.now:
            return
        waiting.attempts += 1
        self.pushes[name] += 1
        token = subscription.document["pushConfig"].get("oidcToken", {})
        body = json.dumps(self._pushed(subscription, waiting)).encode()
        email, audience = token.get("serviceAccountEmail", ""), token.get("audience", "")
        if self.push(subscription.endpoint, email, audience, body) in ACKNOWLEDGED:
            self.acknowledged[name].append(self._time.now)
            subscription.waiting.pop(number, None)
        else:
            self._again(subscription, waiting)

    def _pushed(self, subscription: Subscription, waiting: Waiting) -> Document:
        dead = "deadLetterPolicy" in subscription.document
        attempt = {"deliveryAttempt": waiting.attempts} if dead else {}
        message = waiting.message.document
        return {"message": message, "subscription": subscription.document["name"], **attempt}

    def _again(self, subscription: Subscription, waiting: Waiting) -> None:
        """Deliver it later, or bury it."""
        dead = subscription.document.get("deadLetterPolicy", {})
        if (
            dead
            and waiting.attempts >= dead.get("maxDeliveryAttempts", 5)
            and self._bury(subscription, waiting)
        ):
            return
        retry = subscription.document.get("retryPolicy", {})
        shortest, longest = (
            duration(retry.get(name, default))
            for name, default in (("minimumBackoff", "0.1s"), ("maximumBackoff", "600s"))
        )
        pause = min(longest, shortest * 2 ** min(20, waiting.attempts - 1))
        waiting.due = self._time.now + pause
        self._push_later(subscription, waiting.message.id, pause)

    def _bury(self, subscription: Subscription, waiting: Waiting) -> bool:
        """Forward to the dead letters, if Pub/Sub's own account may."""
        topic, name = (
            last(subscription.document["deadLetterPolicy"]["deadLetterTopic"]),
            last(subscription.document["name"]),
        )
        may = self._iam.permits(f"topics/{topic}", PUBLISHER, AGENT)
        if topic not in self.topics or not may:
            return False
        if not self._iam.permits(f"subscriptions/{name}", SUBSCRIBER, AGENT):
            return False
        source = {
            "CloudPubSubDeadLetterSourceSubscription": name,
            "CloudPubSubDeadLetterSourceDeliveryCount": str(waiting.attempts),
            "CloudPubSubDeadLetterSourceSubscriptionProject": self.project,
        }
        self.publish(topic, waiting.message.data, {**waiting.message.attributes, **source})
        subscription.waiting.pop(waiting.message.id, None)
        return True

    def _sample(self) -> None:
        for name, subscription in self.found.items():
            published = [w.message.published for w in subscription.waiting.values()]
            age = self._time.now - min(published, default=self._time.now)
            self.samples[name].append(Sample(self._time.now, age, len(published)))

    # --- topics ---

    def _topic(self, name: str) -> Topic:
        if name not in self.topics:
            raise Refusal(404, f"Resource not found (resource={name}).")
        return self.topics[name]

    def _list_topics(self, request: Request, project: str) -> Document:
        return {"topics": [self.topics[name].document for name in sorted(self.topics)]}

    def _create_topic(self, request: Request, project: str, name: str) -> Document:
        if name in self.topics:
            raise Refusal(409, f"Resource already exists in the project (resource={name}).")
        _check_name(name)
        self._check_topic(request.document)
        document = {**request.document, "name": f"projects/{project}/topics/{name}", "state": "ACTIVE"}
        self.topics[name] = Topic(document)
        return document

    def _update_topic(self, request: Request, project: str, name: str) -> Document:
        topic = self._topic(name)
        changed = patched(topic.document, request.document["topic"], request.document["updateMask"])
        self._check_topic(changed)
        topic.document = changed
        return changed

    def _check_topic(self, given: Document) -> None:
        _check_labels(given)
        if not 600 <= duration(given.get("messageRetentionDuration", "600s")) <= 31 * DAY:
            raise Refusal(400, "Invalid message retention duration.")

    def _delete_topic(self, request: Request, project: str, name: str) -> Document:
        self._topic(name)
        del self.topics[name]
        self._iam.forget(f"topics/{name}")
        for subscription in self.found.values():
            if last(subscription.document["topic"]) == name:
                subscription.document = {**subscription.document, "topic": "_deleted-topic_"}
        return {}

    def _publish(self, request: Request, project: str, name: str) -> Document:
        messages = request.document["messages"]
        if not 0 < len(messages) <= 1000:
            raise Refusal(400, "The number of messages is out of range.")
        ids = [
            self.publish(name, base64.b64decode(m.get("data", "")), m.get("attributes", {})) for m in messages
        ]
        return {"messageIds": ids}

    # --- subscriptions ---

    def _find(self, name: str) -> Subscription:
        if name not in self.found:
            raise Refusal(404, f"Resource not found (resource={name}).")
        return self.found[name]

    def _list_subscriptions(self, request: Request, project: str) -> Document:
        return {"subscriptions": [self.found[name].document for name in sorted(self.found)]}

    def put_topic(self, name: str, document: Document) -> None:
        """Have a topic be there."""
        self.topics[name] = Topic(document)

    def put(self, name: str, document: Document) -> None:
        """Have a subscription be there."""
        self.found[name] = Subscription(document, self._time.now)

    def _create(self, request: Request, project: str, name: str) -> Document:
        if name in self.found:
            raise Refusal(409, f"Resource already exists in the project (resource={name}).")
        given = request.document
        _check_name(name)
        self._topic(last(given["topic"]))
        self._check(given)
        defaults = {"ackDeadlineSeconds": 10, "messageRetentionDuration": "604800s", "state": "ACTIVE"}
        expiration = given.get("expirationPolicy", {"ttl": "2678400s"})
        full = f"projects/{project}/subscriptions/{name}"
        document = {**defaults, **given, "name": full, "expirationPolicy": expiration}
        self.found[name] = Subscription({"pushConfig": {}, **document}, self._time.now)
        return self.found[name].document

    def _update(self, request: Request, project: str, name: str) -> Document:
        subscription, mask = self._find(name), request.document["updateMask"]
        if UNCHANGEABLE & {camel(path) for path in mask.split(",")}:
            raise Refusal(400, "This can't be changed after creation.")
        self._change(subscription, patched(subscription.document, request.document["subscription"], mask))
        return subscription.document

    def _modify_push(self, request: Request, project: str, name: str) -> Document:
        subscription = self._find(name)
        self._change(subscription, {**subscription.document, "pushConfig": request.document["pushConfig"]})
        return {}

    def _change(self, subscription: Subscription, document: Document) -> None:
        self._check(document)
        subscription.document = {"pushConfig": {}, **document}
        for waiting in subscription.waiting.values():
            self._push_later(subscription, waiting.message.id, max(0.1, waiting.due - self._time.now))

    def _delete(self, request: Request, project: str, name: str) -> Document:
        self._find(name)
        del self.found[name]
        self._iam.forget(f"subscriptions/{name}")
        return {}

    def _check(self, given: Document) -> None:
        _check_labels(given)
        if not 10 <= given.get("ackDeadlineSeconds", 10) <= 600:
            raise Refusal(400, "The acknowledgement deadline is out of range.")
        if not 600 <= duration(given.get("messageRetentionDuration", "600s")) <= 31 * DAY:
            raise Refusal(400, "Invalid message retention duration.")
        kept = duration(given.get("messageRetentionDuration", "604800s"))
        ttl = given.get("expirationPolicy", {}).get("ttl")
        # Documented for clients, see peburrows/kane#38: none goes before what it keeps.
        if ttl and duration(ttl) < max(DAY, kept):
            raise Refusal(400, "Invalid expiration policy.")
        filters.check(given.get("filter", ""))
        if given.get("pushConfig", {}).get("pushEndpoint"):
            self._check_push(given["pushConfig"])
        if dead := given.get("deadLetterPolicy"):
            self._topic(last(dead["deadLetterTopic"]))
            if not 5 <= dead.get("maxDeliveryAttempts", 5) <= 100:
                raise Refusal(400, "Invalid maximum number of delivery attempts.")
        if not all(0 <= duration(delay) <= 600 for delay in given.get("retryPolicy", {}).values()):
            raise Refusal(400, "Invalid retry policy.")

    def _check_push(self, push: Document) -> None:
        url = urlsplit(push["pushEndpoint"])
        if url.scheme != "https" or not url.hostname:
            raise Refusal(400, "Invalid push endpoint.")
        token = push.get("oidcToken", {})
        if token and not self._iam.exists(token.get("serviceAccountEmail", "")):
            raise Refusal(404, f"Service account {token.get('serviceAccountEmail')} was not found")

    def _pull(self, request: Request, project: str, name: str) -> Document:
        subscription, limit = self._find(name), request.document["maxMessages"]
        if subscription.endpoint:
            raise Refusal(400, "Pull isn't possible where messages are pushed.", "FAILED_PRECONDITION")
        ready = [w for w in subscription.waiting.values() if w.due <= self._time.now][:limit]
        for waiting in ready:
            waiting.due = self._time.now + subscription.document["ackDeadlineSeconds"]
            waiting.ack_id = f"{waiting.message.id}-{next(self._ids)}"
        received = [{"ackId": w.ack_id, "message": w.message.document} for w in ready]
        return {"receivedMessages": received} if received else {}

    def _acknowledge(self, request: Request, project: str, name: str) -> Document:
        waiting, ids = self._find(name).waiting, set(request.document["ackIds"])
        for number in [number for number, w in waiting.items() if w.ack_id in ids]:
            del waiting[number]
        return {}

    def _modify_deadline(self, request: Request, project: str, name: str) -> Document:
        ids = set(request.document["ackIds"])
        for waiting in self._find(name).waiting.values():
            if waiting.ack_id in ids:
                waiting.due = self._time.now + request.document["ackDeadlineSeconds"]
        return {}

    def _seek(self, request: Request, project: str, name: str) -> Document:
        """Back to a time: what the topic still has of later; ahead: what is earlier is acknowledged."""
        subscription, since = self._find(name), seconds_of(request.document["time"])
        subscription.waiting = {n: w for n, w in subscription.waiting.items() if w.message.published >= since}
        topic = self.topics.get(last(subscription.document["topic"]))
        for message in topic.retained if topic else []:
            if message.published >= since and message.id not in subscription.waiting:
                self._deliver(subscription, message)
        return {}


def _check_name(name: str) -> None:
    if not NAME.fullmatch(name):
        raise Refusal(400, "Invalid resource name given.")


def _check_labels(given: Document) -> None:
    for key, value in given.get("labels", {}).items():
        if not LABEL.fullmatch(key) or not LABEL_VALUE.fullmatch(value):
            raise Refusal(400, f"Invalid label {key}: {value}.")
