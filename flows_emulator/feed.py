"""What has changed, for whoever watches: of each topic the latest state, however slow the watcher."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

# A watcher that can do nothing else is given all that happened in this many seconds at once.
BREATH = 0.05
PING = 15.0

Changes = dict[str, Any]


class Watcher:
    """The changes that one watcher has not taken yet; of a topic only the latest."""

    def __init__(self) -> None:
        self.changes: Changes = {}
        self.changed = asyncio.Event()


class Feed:
    """Made on the loop that it is used on."""

    def __init__(self) -> None:
        self._watchers: set[Watcher] = set()
        self._closed = False

    def tell(self, topic: str, state: Callable[[], Any]) -> None:
        """Something has changed; `state` is asked for only where somebody watches."""
        if not self._watchers:
            return
        told = state()
        for watcher in self._watchers:
            # To the end, so that the order is that of the latest changes.
            watcher.changes.pop(topic, None)
            watcher.changes[topic] = told
            watcher.changed.set()

    def close(self) -> None:
        """Let every watcher go."""
        self._closed = True
        for watcher in self._watchers:
            watcher.changed.set()

    async def watch(self) -> AsyncIterator[Changes]:
        """What has changed since the last time; empty now and then, so that who has left is noticed."""
        watcher = Watcher()
        self._watchers.add(watcher)
        try:
            yield {}
            while not self._closed:
                yield await self._take(watcher)
        finally:
            self._watchers.discard(watcher)

    async def _take(self, watcher: Watcher) -> Changes:
        try:
            async with asyncio.timeout(PING):
                await watcher.changed.wait()
        except TimeoutError:
            return {}
        if not self._closed:
            await asyncio.sleep(BREATH)
        watcher.changed.clear()
        changes, watcher.changes = watcher.changes, {}
        return changes
