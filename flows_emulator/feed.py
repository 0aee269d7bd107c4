"""Sends changes to watchers; a slow watcher gets only the latest state of each topic."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

# Seconds: for how long changes are collected for a watcher, and after which silence it gets an empty one.
BREATH = 0.05
PING = 15.0

Changes = dict[str, Any]


class Watcher:
    """The changes that one watcher has not received yet; only the latest of each topic."""

    def __init__(self) -> None:
        self.changes: Changes = {}
        self.changed = asyncio.Event()


class Feed:
    """The watchers and their changes. Create it on the event loop that uses it."""

    def __init__(self) -> None:
        self._watchers: set[Watcher] = set()
        self._closed = False

    def tell(self, topic: str, state: Callable[[], Any]) -> None:
        """Announce a change; `state` is called only if somebody watches."""
        if not self._watchers:
            return
        told = state()
        for watcher in self._watchers:
            # Insert the topic again at the end, so that topics are ordered by their latest change.
            watcher.changes.pop(topic, None)
            watcher.changes[topic] = told
            watcher.changed.set()

    def close(self) -> None:
        """End the iteration of every watcher."""
        self._closed = True
        for watcher in self._watchers:
            watcher.changed.set()

    async def watch(self) -> AsyncIterator[Changes]:
        """Yield the changes since the last time, and sometimes an empty one to detect a closed connection."""
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
