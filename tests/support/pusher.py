"""Pushes what a subscription of the Pub/Sub emulator holds, as Pub/Sub pushes it.

The emulator pushes too. But after a push to an address where nobody listens, or to a process that dies before
it answers, it doesn't push that message again for minutes. Pub/Sub does, after the subscription's backoff.
https://cloud.google.com/pubsub/docs/push
"""

import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import httpx2

from flowhook.cli.pubsub_emulator import Emulator

# What acknowledges a message: https://cloud.google.com/pubsub/docs/push#receive_push
ACKNOWLEDGES = (102, 200, 201, 202, 204)
# Seconds before a message is pushed again: at first, and at most.
BACKOFF = (0.2, 2.0)
# Seconds that a push may take; the subscription's deadline is longer.
TIMEOUT = 30.0
AT_ONCE = 32


class Pusher:
    """Pushes until it is stopped. What is not acknowledged by then stays in the subscription."""

    def __init__(self, emulator: Emulator, subscription: str, address: str) -> None:
        path = f"projects/{emulator.project}/subscriptions/{subscription}"
        self._name, self._address = path, address
        self._url = f"http://{emulator.host}/v1/{path}"
        self._pubsub = httpx2.Client(timeout=TIMEOUT)
        self._endpoint = httpx2.Client(timeout=TIMEOUT)
        self._failures: Counter[str] = Counter()
        self._stopped = threading.Event()
        # What Pub/Sub calls flow control: no more is pulled than is being pushed.
        self._free = threading.Semaphore(AT_ONCE)

    def run(self) -> None:
        """Pull and push. Raises httpx2.HTTPError where the emulator is out of reach."""
        with self._pubsub, self._endpoint:
            with ThreadPoolExecutor(AT_ONCE) as pool:
                pushes = list(self._begun(pool))
            for push in pushes:
                push.result()

    def stop(self) -> None:
        """Let those pushes end that are under way, and begin no other."""
        self._stopped.set()

    def _begun(self, pool: ThreadPoolExecutor) -> Iterator[Future[None]]:
        while not self._stopped.is_set():
            self._free.acquire()
            answer = self._call(":pull", {"maxMessages": 1, "returnImmediately": True})
            received = answer.get("receivedMessages", [])
            if received:
                yield pool.submit(self._push, received[0])
            else:
                self._free.release()
                self._stopped.wait(0.05)

    def _push(self, received: Mapping[str, Any]) -> None:
        try:
            number = received["message"]["messageId"]
            if self._acknowledged(received["message"]):
                self._call(":acknowledge", {"ackIds": [received["ackId"]]})
                return
            self._failures[number] += 1
            first, most = BACKOFF
            self._stopped.wait(min(most, first * 2 ** (self._failures[number] - 1)))
            self._call(":modifyAckDeadline", {"ackIds": [received["ackId"]], "ackDeadlineSeconds": 0})
        finally:
            self._free.release()

    def _acknowledged(self, message: Mapping[str, Any]) -> bool:
        try:
            answer = self._endpoint.post(self._address, json={"message": message, "subscription": self._name})
        except httpx2.TransportError:
            return False
        return answer.status_code in ACKNOWLEDGES

    def _call(self, method: str, body: Mapping[str, Any]) -> dict[str, Any]:
        response = self._pubsub.post(self._url + method, json=body)
        response.raise_for_status()
        document: dict[str, Any] = response.json()
        return document


@contextmanager
def pushing(emulator: Emulator, subscription: str, address: str) -> Iterator[None]:
    """Push what is in a pull subscription to an address, to the end of the block."""
    pusher = Pusher(emulator, subscription, address)
    with ThreadPoolExecutor(1) as running:
        ended = running.submit(pusher.run)
        try:
            yield
        finally:
            pusher.stop()
            ended.result()
