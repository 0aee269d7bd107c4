"""Publishes messages in groups; each has one deadline for everything that it waits for, and its own failure.

A message is sent at once unless `MAX_IN_FLIGHT` calls to its topic are under way. Then messages wait
together, and the next call takes all of them. What fails for a transient reason returns to the head of the
queue; what was given up while it waited is never sent. This module does not know Google Cloud: it calls a
`Service`.
"""

import asyncio
import weakref
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextvars import Context
from dataclasses import dataclass
from typing import Protocol

from flowhook.delivery import Deliver, Outcome
from flowhook.envelope import Envelope
from flowhook.errors import PublishFailed
from flowhook.pubsub import messages
from flowhook.pubsub.messages import MAX_MESSAGE, Message

# Calls to one topic at a time. More of them gain little even at a round trip of 30 ms, and make groups
# smaller, so that each message costs more CPU; fewer reduce throughput.
MAX_IN_FLIGHT = 4
# https://cloud.google.com/pubsub/quotas: messages and bytes of a call.
MAX_GROUP = 1000
MAX_CALL = MAX_MESSAGE
# Bytes of a call beside the messages.
CALL_OVERHEAD = 1_000
# Seconds before a call that failed on a working connection is repeated: the first, doubled up to the longest.
FIRST_PAUSE, LONGEST_PAUSE = 0.05, 0.5
# Finished futures at the head are dropped when the number of watched ones is a multiple of this.
DROP_EVERY = 64
NO_FAILURE = "there was no connection, or no turn"

Publish = Callable[[str, Message], Awaitable[str]]


class UnavailableError(Exception):
    """The call failed, and may succeed when it is made again."""


class InvalidError(Exception):
    """The service refuses the call for what is in one of its messages; none of them is published."""


class Service(Protocol):
    """What publishes: the interface between grouping and Google Cloud."""

    def encode(self, message: Message) -> bytes:
        """The message as it goes over the wire. Raises InvalidError for what can't be encoded."""

    async def ready(self) -> None:
        """Return once a call can be made.

        Raises UnavailableError where that may become possible, PublishFailed where somebody has to act first.
        """

    async def call(self, topic: str, group: Sequence[bytes], timeout: float) -> Sequence[str]:
        """Publish all or none within `timeout` seconds; the ids of the messages, in their order.

        Raises UnavailableError, InvalidError, or PublishFailed for what repeating doesn't mend.
        """


@dataclass(eq=False, slots=True)
class _Pending:
    """A message on its way; `acknowledged` is done when it is published, has failed or is given up."""

    message: Message
    deadline: float
    acknowledged: asyncio.Future[str]
    encoded: bytes = b""

    def fail(self, error: Exception) -> None:
        if not self.acknowledged.done():
            self.acknowledged.set_exception(error)

    def succeed(self, message_id: str) -> None:
        if not self.acknowledged.done():
            self.acknowledged.set_result(message_id)


class Publisher:
    """Publishes to any topic of a service; made before the loop runs, used on one loop."""

    def __init__(self, service: Service, timeout: float) -> None:
        self._service = service
        self._timeout = timeout
        self._topics: dict[str, _Topic] = {}
        self._deadlines = _Deadlines()

    async def publish(self, topic: str, message: Message) -> str:
        """Return the message's id once it is acknowledged. Raises PublishFailed, within the timeout."""
        loop = asyncio.get_running_loop()
        pending = _Pending(message, loop.time() + self._timeout, loop.create_future())
        queue = self._topics.get(topic) or self._topic(topic)
        queue.add(pending)
        self._deadlines.add(pending.deadline, pending.acknowledged)
        try:
            return await pending.acknowledged
        except TimeoutError:
            raise PublishFailed(
                "Pub/Sub did not acknowledge it in time.",
                f"It had {self._timeout:g} s (DELIVERY_TIMEOUT); {queue.last_failure}.",
                topic=topic,
            ) from None
        finally:
            # It refers to the exception, which refers to this frame: without this, they would form a cycle.
            del pending

    def _topic(self, name: str) -> "_Topic":
        self._topics[name] = _Topic(name, self._service)
        return self._topics[name]


def to_topic(publish: Publish, topic: str) -> Deliver:
    """Deliver by publishing to `topic`, in which `{category}` stands for that of the event."""
    by_category = "{category}" in topic

    async def deliver(event: Envelope) -> Outcome:
        name = topic.replace("{category}", event.category) if by_category else topic
        return Outcome(event, "published", message_id=await publish(name, messages.of_event(event)))

    return deliver


class _Deadlines:
    """Fails what is not done in time. All have the same timeout, so one timer is enough, for the oldest."""

    def __init__(self) -> None:
        # Weak, because a failed future still refers to its message.
        self._awaited: deque[tuple[float, weakref.ref[asyncio.Future[str]]]] = deque()
        self._timer: asyncio.TimerHandle | None = None

    def add(self, deadline: float, future: asyncio.Future[str]) -> None:
        """Watch a future; no earlier `deadline` may be added later."""
        # Finished futures are dropped now and then, not at each call.
        if not len(self._awaited) % DROP_EVERY:
            self._oldest()
        self._awaited.append((deadline, weakref.ref(future)))
        if self._timer is None:
            self._sweep()

    def _sweep(self) -> None:
        loop = asyncio.get_running_loop()
        self._timer = None
        while oldest := self._oldest():
            deadline, future = oldest
            if deadline > loop.time():
                self._timer = loop.call_at(deadline, self._sweep)
                return
            future.set_exception(TimeoutError())

    def _oldest(self) -> tuple[float, asyncio.Future[str]] | None:
        """The unfinished future that has waited longest; finished ones before it are dropped."""
        while self._awaited:
            deadline, watched = self._awaited[0]
            future = watched()
            if future is not None and not future.done():
                return deadline, future
            self._awaited.popleft()
        return None


class _Topic:
    """The queue of a topic, the task that forms groups of it, and those that publish a group each."""

    def __init__(self, name: str, service: Service) -> None:
        self.last_failure = NO_FAILURE
        self._name = name
        self._service = service
        self._queue: deque[_Pending] = deque()
        self._dispatcher: asyncio.Task[None] | None = None
        self._slots = asyncio.Semaphore(MAX_IN_FLIGHT)
        self._calls: set[asyncio.Task[None]] = set()
        self._pause = 0.0

    def add(self, pending: _Pending) -> None:
        """Queue a message, and start the dispatcher unless it is running."""
        # Without a connection nothing else removes messages that were given up; the oldest come first.
        while self._queue and self._queue[0].acknowledged.done():
            self._queue.popleft()
        self._queue.append(pending)
        if self._dispatcher is None or self._dispatcher.done():
            self._start_dispatcher()

    def _start_dispatcher(self) -> None:
        if self._dispatcher is None or self._dispatcher.done():
            # In an empty context: it outlives the delivery that starts it, whose notes for the log don't
            # concern it.
            self._dispatcher = asyncio.create_task(self._dispatch(), context=Context())

    async def _dispatch(self) -> None:
        """Send groups until nothing waits. A group is formed only once a call can be made for it."""
        while self._queue:
            await self._slots.acquire()
            group: list[_Pending] = []
            try:
                group = await self._next_group()
            finally:
                if not group:
                    self._slots.release()
            if group:
                self._start_call(group)

    async def _next_group(self) -> list[_Pending]:
        """The messages for a call that can be made now; empty where none can be made."""
        if self._pause:
            await asyncio.sleep(self._pause)
        try:
            await self._service.ready()
        except UnavailableError as failure:
            self._slow_down(failure)
        except Exception as error:  # noqa: BLE001 - it reaches whoever waits instead of dying with the task
            self._fail(error)
        else:
            return self._take()
        return []

    def _start_call(self, group: list[_Pending]) -> None:
        call = asyncio.create_task(self._publish(group))
        self._calls.add(call)
        call.add_done_callback(self._end_call)

    def _end_call(self, call: asyncio.Task[None]) -> None:
        self._calls.discard(call)
        self._slots.release()

    def _take(self) -> list[_Pending]:
        """The next group, within the limits of a call and without what has been given up."""
        group: list[_Pending] = []
        room = MAX_CALL - CALL_OVERHEAD
        while self._queue and len(group) < MAX_GROUP:
            pending = self._queue[0]
            if pending.acknowledged.done() or not self._encode(pending):
                self._queue.popleft()
                continue
            room -= len(pending.encoded)
            if room < 0:
                break
            group.append(self._queue.popleft())
        return group

    def _encode(self, pending: _Pending) -> bool:
        """Encode a message; False where no call can hold it, so that it fails. In groups this costs half."""
        try:
            pending.encoded = pending.encoded or self._service.encode(pending.message)
            if len(pending.encoded) > MAX_CALL - CALL_OVERHEAD:
                raise InvalidError(f"{len(pending.encoded)} bytes are more than a message may have")
        except InvalidError as refusal:
            pending.fail(_refused(self._name, refusal))
        except Exception as error:  # noqa: BLE001 - as in `_next_group`
            pending.fail(error)
        fits = not pending.acknowledged.done()
        # As in `Publisher.publish`.
        del pending
        return fits

    async def _publish(self, group: list[_Pending]) -> None:
        """Publish a group. What has to be tried again goes back to the head of the queue."""
        group = [pending for pending in group if not pending.acknowledged.done()]
        if not group:
            return
        timeout = max(pending.deadline for pending in group) - asyncio.get_running_loop().time()
        try:
            ids = await self._service.call(self._name, [pending.encoded for pending in group], timeout)
            published = list(zip(group, ids, strict=True))
        except UnavailableError as failure:
            self._slow_down(failure)
            self._queue.extendleft(reversed(group))
            self._start_dispatcher()
        except InvalidError as refusal:
            await self._find_refused(group, refusal)
        except Exception as error:  # noqa: BLE001 - as in `_next_group`
            self._fail(error, group)
        else:
            self._pause, self.last_failure = 0.0, NO_FAILURE
            for pending, message_id in published:
                pending.succeed(message_id)
        finally:
            # As in `Publisher.publish`.
            del group

    async def _find_refused(self, group: list[_Pending], refusal: InvalidError) -> None:
        """Halve the group until each message that the service refuses stands alone."""
        if len(group) == 1:
            group[0].fail(_refused(self._name, refusal))
            return
        middle = len(group) // 2
        for half in (group[:middle], group[middle:]):
            await self._publish(half)

    def _slow_down(self, failure: UnavailableError) -> None:
        self.last_failure = str(failure)
        self._pause = min(2 * self._pause or FIRST_PAUSE, LONGEST_PAUSE)

    def _fail(self, error: Exception, group: Sequence[_Pending] = ()) -> None:
        """Fail the group and all that wait, for a reason that concerns the whole topic."""
        waiting = [*group, *self._queue]
        self._queue.clear()
        for pending in waiting:
            pending.fail(error)


def _refused(topic: str, refusal: InvalidError) -> PublishFailed:
    return PublishFailed("Pub/Sub refused it.", f"Its reason: {refusal}.", topic=topic)
