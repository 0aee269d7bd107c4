"""Pub/Sub: the emulator, and before it what the emulator doesn't know.

IAM, the grammar of filters, tokens on pushes, and the limits of https://cloud.google.com/pubsub/quotas.
"""

import json
import re
from typing import Any
from urllib.parse import quote, urlsplit

import httpx2

from flowhook.cli.pubsub_emulator import Emulator
from tests.gcloud.exchange import Document, Refusal, Request, Routes
from tests.gcloud.iam import Iam, policy_routes

HOST = "pubsub.googleapis.com"
TERM = (
    r'(NOT )?(attributes\.[\w-]+ != "[^"]*"|attributes[.:][\w-]+( = "[^"]*")?'
    r'|hasPrefix\(attributes\.[\w-]+, "[^"]*"\))'
)
LABEL = re.compile(r"[a-z][a-z0-9_-]{0,62}")
GIVEN_FIELDS = {"name", "topic", "labels", "filter", "ackDeadlineSeconds", "pushConfig", "retryPolicy"} | {
    "deadLetterPolicy",
    "expirationPolicy",
    "messageRetentionDuration",
    "retainAckedMessages",
}


class PubSub:
    """Topics and subscriptions of one project."""

    def __init__(self, project: str, iam: Iam, emulator: Emulator) -> None:
        self.project = project
        self.topics: set[str] = set()
        self.subscriptions: dict[str, Document] = {}
        self.push_gateway = ""
        self.emulator_host = emulator.host
        self._iam = iam
        self._client = httpx2.Client(base_url=f"http://{emulator.host}/v1", timeout=90)

    def routes(self, routes: Routes) -> None:
        base = f"{HOST}/v1/projects/*"
        routes.add("GET", f"{base}/topics", self._list_topics)
        routes.add("PUT", f"{base}/topics/*", self._create_topic)
        routes.add("DELETE", f"{base}/topics/*", self._delete_topic)
        routes.add("GET", f"{base}/subscriptions", self._list_subscriptions)
        routes.add("GET", f"{base}/subscriptions/*", lambda r, p, name: self._subscription(name))
        routes.add("PUT", f"{base}/subscriptions/*", self._create)
        routes.add("PATCH", f"{base}/subscriptions/*", self._update)
        routes.add("DELETE", f"{base}/subscriptions/*", self._delete)
        for call in ("pull", "acknowledge"):
            routes.add("POST", f"{base}/subscriptions/*:{call}", self._data)
        policy_routes(routes, self._iam, f"{base}/topics", "topics", self._topic)
        policy_routes(routes, self._iam, f"{base}/subscriptions", "subscriptions", self._subscription)

    def clear(self) -> None:
        """Take everything out of the emulator again."""
        for name in self.subscriptions:
            self._emulate("DELETE", f"subscriptions/{name}")
        for name in self.topics:
            self._emulate("DELETE", f"topics/{name}")
        self._client.close()

    def matching(self, subscription: str, push: bytes) -> bool:
        """Whether the filter of a subscription lets a pushed message through."""
        wanted = self.subscriptions[subscription].get("filter", "")
        attributes = json.loads(push)["message"].get("attributes", {})
        return matches(wanted, attributes)

    def pull(self, name: str) -> list[Document]:
        """What waits in a subscription, acknowledged."""
        answer = self._emulate(
            "POST", f"subscriptions/{name}:pull", {"maxMessages": 1000, "returnImmediately": True}
        )
        received: list[Document] = answer.get("receivedMessages", [])
        if received:
            ids = [message["ackId"] for message in received]
            self._emulate("POST", f"subscriptions/{name}:acknowledge", {"ackIds": ids})
        return [message["message"] for message in received]

    def _topic(self, name: str) -> str:
        if name not in self.topics:
            raise Refusal(404, f"Resource not found (resource={name}).")
        return f"projects/{self.project}/topics/{name}"

    def _subscription(self, name: str) -> Document:
        if name not in self.subscriptions:
            raise Refusal(404, f"Resource not found (resource={name}).")
        return self.subscriptions[name]

    def _list_topics(self, request: Request, project: str) -> Document:
        return {"topics": [{"name": f"projects/{project}/topics/{name}"} for name in sorted(self.topics)]}

    def _create_topic(self, request: Request, project: str, name: str) -> Document:
        if name in self.topics:
            raise Refusal(409, f"Resource already exists in the project (resource={name}).")
        if not re.fullmatch(r"(?!goog)[A-Za-z][\w.~+%-]{2,254}", name, re.ASCII):
            raise Refusal(400, "Invalid resource name given.")
        self._emulate("PUT", f"topics/{name}", {})
        self.topics.add(name)
        return {"name": f"projects/{project}/topics/{name}"}

    def _delete_topic(self, request: Request, project: str, name: str) -> Document:
        self._topic(name)
        self._emulate("DELETE", f"topics/{name}")
        self.topics.discard(name)
        self._iam.forget(f"topics/{name}")
        for subscription in self.subscriptions.values():
            if subscription["topic"].endswith(f"/{name}"):
                subscription["topic"] = "_deleted-topic_"
        return {}

    def _list_subscriptions(self, request: Request, project: str) -> Document:
        return {"subscriptions": [self.subscriptions[name] for name in sorted(self.subscriptions)]}

    def _create(self, request: Request, project: str, name: str) -> Document:
        if name in self.subscriptions:
            raise Refusal(409, f"Resource already exists in the project (resource={name}).")
        given = request.document
        self._check(given)
        self._topic(given["topic"].rpartition("/")[2])
        defaults = {"ackDeadlineSeconds": 10, "messageRetentionDuration": "604800s"}
        expiration = given.get("expirationPolicy", {"ttl": "2678400s"})
        self.subscriptions[name] = {**defaults, **given, "expirationPolicy": expiration, "state": "ACTIVE"}
        self._emulate("PUT", f"subscriptions/{name}", self._for_emulator(name))
        return self.subscriptions[name]

    def _update(self, request: Request, project: str, name: str) -> Document:
        present = self._subscription(name)
        given, mask = request.document["subscription"], request.document["updateMask"].split(",")
        if {"filter", "topic", "name"} & set(mask):
            raise Refusal(400, "This can't be changed after creation.")
        changed = {_camel(field): given.get(_camel(field)) for field in mask}
        merged = {**present, **{field: value for field, value in changed.items() if value is not None}}
        self._check({field: value for field, value in merged.items() if field in GIVEN_FIELDS})
        self.subscriptions[name] = merged
        if "pushConfig" in changed:
            push = {"pushConfig": self._for_emulator(name)["pushConfig"]}
            self._emulate("POST", f"subscriptions/{name}:modifyPushConfig", push)
        return merged

    def _delete(self, request: Request, project: str, name: str) -> Document:
        self._subscription(name)
        self._emulate("DELETE", f"subscriptions/{name}")
        del self.subscriptions[name]
        self._iam.forget(f"subscriptions/{name}")
        return {}

    def _data(self, request: Request, project: str, name: str) -> Document:
        self._subscription(name)
        call = request.path.rpartition(":")[2]
        document = {**request.document, "returnImmediately": True} if call == "pull" else request.document
        return self._emulate("POST", f"subscriptions/{name}:{call}", document)

    def _for_emulator(self, name: str) -> Document:
        """What the emulator can do of it; it pushes to the fake, which checks what Cloud Run checks."""
        present = self.subscriptions[name]
        fields: Document = {f: present[f] for f in ("topic", "ackDeadlineSeconds", "filter") if f in present}
        if "pushConfig" in present:
            fields["pushConfig"] = {"pushEndpoint": f"{self.push_gateway}/{quote(name, safe='')}"}
            fields["retryPolicy"] = {"minimumBackoff": "0.2s", "maximumBackoff": "1s"}
        return fields

    def _check(self, given: Document) -> None:
        if unknown := set(given) - GIVEN_FIELDS:
            raise Refusal(400, f"Unknown fields {unknown}.")
        if not 10 <= given.get("ackDeadlineSeconds", 10) <= 600:
            raise Refusal(400, "The acknowledgement deadline is out of range.")
        if not all(
            LABEL.fullmatch(k) and re.fullmatch(r"[a-z0-9_-]{0,63}", v)
            for k, v in given.get("labels", {}).items()
        ):
            raise Refusal(400, "Invalid label.")
        check_filter(given.get("filter", ""))
        if push := given.get("pushConfig"):
            self._check_push(push)
        if dead := given.get("deadLetterPolicy"):
            self._topic(dead["deadLetterTopic"].rpartition("/")[2])
            if not 5 <= dead.get("maxDeliveryAttempts", 5) <= 100:
                raise Refusal(400, "Invalid maximum number of delivery attempts.")
        for delay in given.get("retryPolicy", {}).values():
            if not 0 <= float(delay.rstrip("s")) <= 600:
                raise Refusal(400, "Invalid retry policy.")

    def _check_push(self, push: Document) -> None:
        url = urlsplit(push.get("pushEndpoint", ""))
        if url.scheme != "https" or not url.hostname:
            raise Refusal(400, "Invalid push endpoint.")
        if (token := push.get("oidcToken")) and not self._iam.exists(token["serviceAccountEmail"]):
            raise Refusal(404, f"Service account {token['serviceAccountEmail']} does not exist.")

    def _emulate(self, method: str, path: str, document: Any = None) -> Document:
        response = self._client.request(method, f"/projects/{self.project}/{path}", json=document)
        if response.is_error:
            raise Refusal(response.status_code, response.text)
        found: Document = response.json()
        return found


def check_filter(text: str) -> None:
    """Refuse what https://cloud.google.com/pubsub/docs/subscription-message-filter doesn't allow."""
    if len(text.encode()) > 256:
        raise Refusal(400, "The filter is too long.")
    rest = re.sub(TERM, "T", text)
    while True:
        shorter = re.sub(r"\(T\)|T AND T(?: AND T)*(?! AND)|T OR T(?: OR T)*(?! OR)", "T", rest)
        if shorter == rest:
            break
        rest = shorter
    if rest not in ("", "T"):
        raise Refusal(400, f"The filter is not valid: {text}")


def matches(text: str, attributes: dict[str, str]) -> bool:
    """Whether a filter of equalities, AND, OR and brackets selects these attributes."""
    if not text:
        return True
    equal = lambda found: str(attributes.get(found[1]) == found[2])  # noqa: E731
    expression = re.sub(r'attributes\.([\w-]+) = "([^"]*)"', equal, text)
    words = expression.replace("AND", "and").replace("OR", "or").replace("NOT", "not")
    assert re.fullmatch(r"[()\s]*((True|False|and|or|not)[()\s]*)+", words), text
    return bool(eval(words, {"__builtins__": {}}))


def _camel(name: str) -> str:
    head, *rest = name.split("_")
    return head + "".join(part.title() for part in rest)
