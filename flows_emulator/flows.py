"""The emulated platform: an organization in which events happen, and the deliveries that they cause."""

import asyncio
import json
import logging
import time
from collections.abc import Coroutine, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

from flowhook import samples
from flowhook.categories import classify
from flowhook.samples.overlay import Overlay
from flows_emulator import organization
from flows_emulator.dispatch import Dispatcher
from flows_emulator.faults import FAULTS
from flows_emulator.feed import Feed
from flows_emulator.integration import Integration, Settings
from flows_emulator.retry import Backoff
from flows_emulator.sender import Sender
from flows_emulator.store import New, Store

log = logging.getLogger(__name__)

# A stream waits while so many deliveries are pending.
MAX_WAITING = 2_000
PRUNE_EVERY = 500
AS_IT_IS = Overlay()
# Characters of a path or type that a list shows; in a user's own body they may be of any length.
MAX_SHOWN = 512


class Unknown(Exception):  # noqa: N818 - it says what is not there
    """There is no such integration or delivery; the message names it."""


class NotSent(Exception):  # noqa: N818 - it says what did not happen
    """Nothing was sent; the message says why and what to do."""


class SecretNeeded(Exception):  # noqa: N818 - it says what is missing
    """These settings need the secret entered again; the message says why."""


@dataclass(frozen=True)
class Stream:
    """A stream of generated events: `count` in all (None: without end), `rate` of them a second."""

    count: int | None
    rate: float
    types: tuple[str, ...] = ()
    sent: int = 0
    running: bool = True


class Flows:
    """The emulated platform, used on one event loop: `start`, then `stop`."""

    def __init__(self, store: Store, backoff: Backoff, seed: int | None = None) -> None:
        self.store = store
        self.feed = Feed()
        self._random = Random(seed)  # noqa: S311 - it makes stories up
        self._entities = store.entities()
        self._sender = Sender()
        self._dispatcher = Dispatcher(store, self._sender, backoff, self._tell_delivery)
        self._latest = datetime.min.replace(tzinfo=UTC)
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._streams: dict[str, Stream] = {}
        self._until_pruned = 0
        if not self._entities:
            self._remember(organization.seed(self._random, self._now()))

    def start(self) -> None:
        """Begin to deliver, first what an earlier run left pending."""
        self._run_task("deliver", self._dispatcher.run())

    async def stop(self) -> None:
        """Stop everything; what is not delivered stays pending in the store."""
        self.feed.close()
        for task in list(self._tasks.values()):
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)
        await self._sender.close()

    # Integrations

    def add(self, settings: Settings) -> Integration:
        """Save a new integration. Raises NotSent without a secret."""
        return self._keep(Integration.new(settings))

    def change(self, integration: Integration, settings: Settings) -> Integration:
        """Save an integration again. Raises SecretNeeded if that could reveal its stored secret."""
        if integration.needs_secret(settings):
            raise SecretNeeded(
                "enter it again: the stored one goes to the same scheme, host and port alone, "
                "and no more openly than before"
            )
        return self._keep(integration.changed(settings))

    def remove(self, integration: Integration) -> Integration:
        """Remove an integration softly: it is still listed and sends nothing."""
        return self._keep(integration.removed())

    # Events

    def propose(self, event_type: str) -> dict[str, Any]:
        """An event that could happen now. Raises KeyError for a type that the platform doesn't send."""
        return organization.propose(self._entities, event_type, self._random, self._now())

    def happen(self, event_type: str, manner: str = "", overlay: Overlay = AS_IT_IS) -> list[int]:
        """Let an event of this type happen, and deliver it.

        Raises KeyError for an unknown type, ValueError for an overlay that doesn't fit, and NotSent if no
        integration sends the type.
        """
        self._require_receivers(event_type)
        if manner == "stale":
            return self._happen_backwards(event_type)
        return self.send(_encode(overlay.apply(self.propose(event_type))), manner)

    def send(self, body: bytes, manner: str = "") -> list[int]:
        """Deliver a body unchanged; if it is an event, it also changes the organization. Raises NotSent."""
        if manner == "stale":
            raise NotSent(
                "an old state after a new one takes two events of the emulator's own: send it without a body"
            )
        manner = FAULTS[manner].name
        event = _decode(body)
        event_type, entity = describe(event)
        copies = 2 if manner == "redelivery" else 1
        new = [
            New(
                integration.id,
                event_type,
                entity,
                body,
                manner,
                follows=None if copy == 0 else number * copies + copy - 1,
            )
            for number, integration in enumerate(self._require_receivers(event_type))
            for copy in range(copies)
        ]
        return self._deliver(new, organization.fold(self._entities, event))

    def happen_all(self, manner: str = "") -> list[int]:
        """Let one event happen of every ticked type to which `manner` applies.

        Raises NotSent if there is none.
        """
        ticked = [name for name in self._ticked() if manner != "stale" or name.endswith(".updated")]
        if not ticked:
            kind = "update" if manner == "stale" else "event"
            raise NotSent(f"no {kind} is ticked in an active integration: tick one and save")
        return [identifier for event_type in ticked for identifier in self.happen(event_type, manner)]

    def again(self, delivery: int) -> list[int]:
        """Deliver a body once more, or now if it waits for its retry. Raises Unknown, or NotSent."""
        told, body = self.store.summary(delivery), self.store.body(delivery)
        if told is None or body is None:
            raise Unknown(f"There is no delivery {delivery}: it was never made, or is forgotten")
        if told["state"] == "pending":
            self.store.hasten(delivery, time.time())
            self._dispatcher.wake()
            return [delivery]
        integration = self.store.integration(told["integration"])
        if integration is None or integration.soft_removed:
            raise NotSent("its integration has been removed: save it again first")
        return self._deliver([New(integration.id, told["type"], told["entity"], body)], self._entities)

    def clear(self) -> None:
        """Delete the finished deliveries."""
        self.store.clear()
        self.feed.tell("cleared", self.store.latest)

    # Streams

    def stream(self, name: str, stream: Stream | None) -> Stream | None:
        """Start a stream in place of a running one with this name; None only stops that.

        Raises NotSent if none of its types is ticked.
        """
        if stream and not self._wanted(stream):
            raise NotSent("none of these events is ticked in an active integration: tick one and save")
        if running := self._tasks.pop(f"stream {name}", None):
            running.cancel()
        if stream:
            self._streams[name] = stream
            self._run_task(f"stream {name}", self._run(name))
        elif name in self._streams:
            self._set(name, replace(self._streams[name], running=False))
        self._tell_streams()
        return self._streams.get(name)

    def streams(self) -> dict[str, Stream]:
        """The streams that run or have run, by name."""
        return dict(self._streams)

    async def _run(self, name: str) -> None:
        started, loop = self._streams[name], asyncio.get_running_loop()
        begin = loop.time()
        while started.count is None or self._streams[name].sent < started.count:
            sent = self._streams[name].sent
            await asyncio.sleep(max(0.0, begin + sent / started.rate - loop.time()))
            types = self._wanted(started)
            if not types or self.store.pending() >= MAX_WAITING:
                # Wait until somebody ticks an event again, or until the receiver has caught up.
                await asyncio.sleep(1)
                continue
            self.happen(organization.choose(self._entities, types, self._random))
            self._set(name, replace(self._streams[name], sent=sent + 1))
        self._set(name, replace(self._streams[name], running=False))

    def _run_task(self, name: str, work: Coroutine[Any, Any, None]) -> None:
        self._tasks[name] = task = asyncio.create_task(work)
        task.add_done_callback(lambda ended: _log_defect(name, ended))

    def _set(self, name: str, stream: Stream) -> None:
        self._streams[name] = stream
        self._tell_streams()

    def _wanted(self, stream: Stream) -> list[str]:
        return [name for name in self._ticked() if not stream.types or name in stream.types]

    def _ticked(self) -> list[str]:
        active = self.store.integrations()
        return [name for name in samples.TYPES if any(i.sends(name) for i in active)]

    def _require_receivers(self, event_type: str) -> list[Integration]:
        receivers = [i for i in self.store.integrations() if i.sends(event_type)]
        if not receivers:
            raise NotSent(f"no active integration sends {event_type}: add one, or tick the event, and save")
        return receivers

    def _happen_backwards(self, event_type: str) -> list[int]:
        """Two updates of one entity, the later one delivered first."""
        category, _, operation = event_type.partition(".")
        if operation != "updated":
            raise NotSent("only an update has a state that can be old: choose an event of the kind updated")
        first = self.propose(event_type)
        between = organization.fold(self._entities, first)
        kept = {first["entityPath"]: between[first["entityPath"]]}
        parents = {p: e for p, e in between.items() if classify(p, "", "") != category}
        second = organization.propose({**parents, **kept}, event_type, self._random, self._now())
        new: list[New] = []
        for integration in self._require_receivers(event_type):
            at = len(new)
            for event, follows in ((second, None), (first, at)):
                new.append(
                    New(integration.id, event_type, event["entityPath"], _encode(event), "stale", follows)
                )
        return self._deliver(new, organization.fold(between, second))

    def _deliver(self, new: Sequence[New], after: dict[str, organization.Entity]) -> list[int]:
        identifiers = self._remember(after, new)
        for identifier in identifiers:
            self._tell_delivery(identifier)
        self._dispatcher.wake()
        self._prune(len(identifiers))
        return identifiers

    def _remember(self, after: dict[str, organization.Entity], new: Sequence[New] = ()) -> list[int]:
        changed = {path: e for path, e in after.items() if self._entities.get(path) is not e}
        identifiers = self.store.happen(new, changed, self._entities.keys() - after.keys(), time.time())
        self._entities = after
        return identifiers

    def _prune(self, added: int) -> None:
        self._until_pruned -= added
        if self._until_pruned < 0:
            self._until_pruned = PRUNE_EVERY
            self.store.prune()

    def _keep(self, integration: Integration) -> Integration:
        if not integration.secret:
            raise NotSent("it needs a secret: nothing is authentic without one")
        self.store.save(integration)
        self.feed.tell(f"integration {integration.id}", integration.document)
        self._dispatcher.wake()
        return integration

    def _now(self) -> datetime:
        """The time, at least a millisecond after the previous one, so that no two events are equal."""
        now = datetime.now(UTC)
        self._latest = max(now, self._latest + timedelta(milliseconds=1)) if self._latest.year > 1 else now
        return self._latest

    def _tell_delivery(self, identifier: int) -> None:
        self.feed.tell(f"delivery {identifier}", lambda: self.store.summary(identifier))

    def _tell_streams(self) -> None:
        self.feed.tell("streams", lambda: {name: s.__dict__ for name, s in self._streams.items()})


def describe(event: object) -> tuple[str, str]:
    """The type and the path of an event, shortened for a list; empty where the document is no event."""
    if not isinstance(event, dict):
        return "", ""
    path, collection, key, operation = (
        _shown(value) if isinstance(value := event.get(name), str) else ""
        for name in ("entityPath", "collectionPath", "entityKey", "operationType")
    )
    category = classify(path, collection, key)
    return (f"{category}.{operation}", path) if operation else ("", path)


def _log_defect(name: str, ended: asyncio.Task[None]) -> None:
    if not ended.cancelled() and (error := ended.exception()):
        log.error("The emulator does no more: %s; start it again", name, exc_info=error)


def _shown(text: str) -> str:
    return text[:MAX_SHOWN].encode("utf-8", "replace").decode()


def _encode(event: dict[str, Any]) -> bytes:
    try:
        return json.dumps(event, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        # A lone surrogate, which a user's own event may contain, can only be sent escaped.
        return json.dumps(event).encode()


def _decode(body: bytes) -> object:
    """The JSON document in a body; None if there is none, or none that could be serialized again."""
    with suppress(ValueError, RecursionError):
        document: object = json.loads(body)
        json.dumps(document, allow_nan=False)
        return document
    return None
