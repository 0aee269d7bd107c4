"""Where events are captured from: a subscription, dead letters among them, an export, or the emulator."""

import base64
import binascii
import importlib
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from flowhook.cli.errors import CommandError
from flows_emulator.client import Emulator, EmulatorError

# Messages in a pull, and after how many pulls without a new message the subscription counts as read.
PULLED_AT_ONCE = 100
EMPTY = 3
# Seconds that a call waits for messages.
PATIENCE = 5.0
# Deliveries that the emulator lists at most.
LISTED = 1_000


def from_subscription(project: str, name: str, limit: int) -> Iterator[bytes]:
    """The data of the messages in a subscription. None is acknowledged, so all of them stay there.

    Raises CommandError if it can't be read.
    """
    # Imported here: it takes a third of a second, and only this source needs it.
    from google.api_core.exceptions import GoogleAPICallError, RetryError  # noqa: PLC0415
    from google.auth.exceptions import GoogleAuthError  # noqa: PLC0415

    try:
        # By name, for it ships no types.
        with importlib.import_module("google.cloud.pubsub_v1").SubscriberClient() as client:
            yield from _pulled(client, client.subscription_path(project, name), limit)
    except (GoogleAPICallError, RetryError, GoogleAuthError) as error:
        raise CommandError(f"subscription {name} of {project} can't be read: {error}") from None


def _pulled(client: Any, path: str, limit: int) -> list[bytes]:
    """The data of messages, each once. At the end the leases are released, for others to pull them."""
    from google.api_core.exceptions import DeadlineExceeded  # noqa: PLC0415

    found: dict[str, bytes] = {}
    leases: list[str] = []
    empty = 0
    try:
        while len(found) < limit and empty < EMPTY:
            wanted = {"subscription": path, "max_messages": min(PULLED_AT_ONCE, limit - len(found))}
            try:
                received = client.pull(request=wanted, timeout=PATIENCE, retry=None).received_messages
            except DeadlineExceeded:
                received = []
            before = len(found)
            found.update({each.message.message_id: each.message.data for each in received})
            leases += [each.ack_id for each in received]
            # A pull that only repeats messages counts as empty, too.
            empty = 0 if len(found) > before else empty + 1
    finally:
        for begin in range(0, len(leases), PULLED_AT_ONCE):
            client.modify_ack_deadline(
                request={
                    "subscription": path,
                    "ack_ids": leases[begin : begin + PULLED_AT_ONCE],
                    "ack_deadline_seconds": 0,
                }
            )
    return list(found.values())


def from_emulator(url: str, limit: int) -> Iterator[bytes]:
    """The bodies of the emulator's newest deliveries. Raises CommandError where it does not answer."""
    emulator = Emulator(url)
    try:
        for delivery in emulator.deliveries(min(limit, LISTED)):
            yield emulator.delivery(delivery["id"]).body.encode()
    except EmulatorError as error:
        raise CommandError(str(error)) from None
    finally:
        emulator.close()


def from_export(path: Path) -> Iterator[bytes]:
    """The events in a file of JSON or of JSON lines, or in all such files of a folder.

    A message of Pub/Sub (`gcloud pubsub subscriptions pull --format=json`, a BigQuery subscription) has its
    event in base64. Raises CommandError where a file can't be read.
    """
    files = sorted(p for p in path.rglob("*") if p.suffix in (".json", ".jsonl")) if path.is_dir() else [path]
    if not files:
        raise CommandError(f"{path} has no file of JSON: *.json or *.jsonl")
    for file in files:
        try:
            text = file.read_bytes()
        except OSError as error:
            raise CommandError(f"{file} can't be read: {error.strerror}") from None
        yield from _bodies(text)


def _bodies(text: bytes) -> Iterator[bytes]:
    """One document, a list of them, or one in each line."""
    try:
        documents = json.loads(text)
    except (ValueError, RecursionError):
        for line in filter(bytes.strip, text.splitlines()):
            yield from _in_line(line)
        return
    yield from _in_documents(documents if isinstance(documents, list) else [documents])


def _in_line(line: bytes) -> Iterator[bytes]:
    try:
        yield from _in_documents([json.loads(line)])
    except (ValueError, RecursionError):
        # The caller counts such a line as no event.
        yield line


def _in_documents(documents: Iterable[Any]) -> Iterator[bytes]:
    for document in documents:
        data = _message(document).get("data")
        if isinstance(data, str):
            try:
                yield base64.b64decode(data, validate=True)
            except (binascii.Error, ValueError):
                # BigQuery may store the text itself.
                yield data.encode("utf-8", "surrogatepass")
        else:
            yield json.dumps(document).encode()


def _message(document: Any) -> Mapping[str, Any]:
    inner = document.get("message", document) if isinstance(document, Mapping) else {}
    return inner if isinstance(inner, Mapping) else {}
