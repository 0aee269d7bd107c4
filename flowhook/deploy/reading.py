"""Reading a subscription that nothing is pushed from. Pub/Sub can't browse: what is seen is held meanwhile.

What was only looked at is released at the end, and what was sent elsewhere is acknowledged after that. The
subscription's deadline is short and is renewed while this goes on: a process that dies releases everything
within it, so that whoever begins again soon sees all of it.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from flowhook.deploy import messages, moments
from flowhook.deploy.messages import Pulled
from flowhook.deploy.resources import Place
from flowhook.deploy.rest import Api

# Seconds. An empty answer is no proof that nothing waits; nothing but such answers for a while will do.
QUIET = 2.0
PAUSE = 1.0
# Seconds, of the subscriptions that are read.
DEADLINE = 60


class Reading:
    """One look through a subscription: each message is seen once, however often it comes.

    What is published meanwhile is none of it: what is sent again and comes back would be sent for ever.
    """

    def __init__(self, api: Api, place: Place, subscription: str, quiet: float, deadline: int) -> None:
        # How many seconds without anything new are the end; whoever knows more may change it meanwhile.
        self.quiet = quiet
        self._deadline = deadline
        self._renewed = api.clock.now()
        self._api = api
        self._place = place
        self._subscription = subscription
        # The newest acknowledgement id of what is held, and of what is done with, by message.
        self._held: dict[str, str] = {}
        self._done: set[str] = set()
        self._started = api.clock.now()
        self._newer: set[str] = set()
        self.seen = 0

    def batches(self) -> Iterator[list[Pulled]]:
        """What is there, a hundred at most at once, until nothing new comes."""
        clock = self._api.clock
        came_at = clock.now()
        while True:
            self._renew()
            fresh = self._fresh()
            self.seen += len(fresh)
            if fresh:
                yield fresh
                came_at = clock.now()
            elif clock.now() - came_at < self.quiet:
                clock.sleep(PAUSE)
            else:
                return

    @property
    def newer(self) -> int:
        """How many came that were published since this began, by this machine's clock, and are none of it."""
        return len(self._newer)

    def acknowledge(self, done: Sequence[Pulled]) -> None:
        """Have these not come again: they are somewhere else now."""
        messages.acknowledge(self._api, self._place, self._subscription, done)
        for message in done:
            self._done.add(message.id)
            self._held.pop(message.id, None)

    def release(self) -> None:
        """Give back what is held."""
        messages.hold(self._api, self._place, self._subscription, [*self._held.values()], 0)
        self._held.clear()

    def _renew(self) -> None:
        """Hold what is held for longer, in time."""
        now = self._api.clock.now()
        if now - self._renewed > self._deadline / 2:
            self._renewed = now
            ids = [*self._held.values()]
            messages.hold(self._api, self._place, self._subscription, ids, self._deadline)

    def _fresh(self) -> list[Pulled]:
        """What has not been seen before; what has been acknowledged in vain is acknowledged again."""
        arrived = messages.pull(self._api, self._place, self._subscription)
        again = [message for message in arrived if message.id in self._done]
        if again:
            self.acknowledge(again)
        waiting = [message for message in arrived if message.id not in self._done]
        self._newer.update(m.id for m in waiting if not self._is_old(m))
        fresh = [m for m in waiting if m.id not in self._held and m.id not in self._newer]
        self._held.update({message.id: message.ack_id for message in waiting})
        return fresh

    def _is_old(self, message: Pulled) -> bool:
        """Whether it was there when this began."""
        return moments.stamped(message.published) <= self._started


@contextmanager
def reading(
    api: Api, place: Place, subscription: str, quiet: float = QUIET, deadline: int = DEADLINE
) -> Iterator[Reading]:
    """A look through a subscription with that deadline, until nothing has come for `quiet` seconds.

    It gives back at the end what it has only looked at.
    """
    look = Reading(api, place, subscription, quiet, deadline)
    try:
        yield look
    finally:
        look.release()
