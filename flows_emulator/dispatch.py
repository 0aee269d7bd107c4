"""Sends deliveries when they are due, a few at a time, and retries those that failed."""

import asyncio
import logging
import time
from collections.abc import Callable
from random import Random

from flows_emulator.faults import FAULTS
from flows_emulator.retry import Backoff
from flows_emulator.sender import Sender
from flows_emulator.store import Attempt, Due, Store

log = logging.getLogger(__name__)

AT_ONCE = 8
# Seconds. The system clock may be changed while nothing is due, so never sleep longer than this.
LOOK_AGAIN = 30.0
REMOVED = "the integration has been removed"


class Dispatcher:
    """Runs until it is cancelled; `wake` it after adding deliveries. It calls `tell` for each change."""

    def __init__(self, store: Store, sender: Sender, backoff: Backoff, tell: Callable[[int], None]) -> None:
        self._store = store
        self._sender = sender
        self._backoff = backoff
        self._tell = tell
        self._wanted = asyncio.Event()
        self._luck = Random()  # noqa: S311 - it spreads retries
        self._under_way: dict[int, asyncio.Task[None]] = {}

    def wake(self) -> None:
        """Look for due deliveries now."""
        self._wanted.set()

    async def run(self) -> None:
        """Send deliveries as they become due. Those under way when this is cancelled are sent again later."""
        try:
            while True:
                self._wanted.clear()
                # Use one time for both calls, so that neither misses a delivery that becomes due meanwhile.
                now = time.time()
                self._start_due(now)
                await self._sleep(now)
        finally:
            for task in self._under_way.values():
                task.cancel()
            await asyncio.gather(*self._under_way.values(), return_exceptions=True)

    def _start_due(self, now: float) -> None:
        free = AT_ONCE - len(self._under_way)
        for due in self._store.due(now, free, self._under_way) if free else ():
            task = asyncio.create_task(self._deliver(due))
            self._under_way[due.id] = task
            task.add_done_callback(lambda ended, number=due.id: self._done(number, ended))  # type: ignore[misc]

    def _done(self, number: int, task: asyncio.Task[None]) -> None:
        if task.cancelled() or not (error := task.exception()):
            self._release(number)
            return
        # The disk may be full. The store still has the delivery as due, so wait before it is sent again.
        log.error("Delivery %d could not be recorded", number, exc_info=error)
        asyncio.get_running_loop().call_later(LOOK_AGAIN, self._release, number)

    def _release(self, number: int) -> None:
        del self._under_way[number]
        self.wake()

    async def _sleep(self, now: float) -> None:
        soonest = self._store.next_due(now)
        seconds = LOOK_AGAIN if soonest is None else min(soonest - now, LOOK_AGAIN)
        try:
            async with asyncio.timeout(seconds):
                await self._wanted.wait()
        except TimeoutError:
            pass

    async def _deliver(self, due: Due) -> None:
        integration = self._store.integration(due.integration)
        if integration is None or integration.soft_removed:
            gone = Attempt(time.time(), 0.0, "", [], error=REMOVED)
            self._store.record(due.id, gone, "failed", gone.at)
        else:
            attempt = await self._sender.attempt(integration, due.body, due.manner)
            self._store.record(due.id, attempt, *self._judge(due, attempt))
        self._tell(due.id)

    def _judge(self, due: Due, attempt: Attempt) -> tuple[str, float]:
        """The state of the delivery after an attempt, and when the next one is due."""
        now = time.time()
        if 200 <= attempt.status < 300:
            return "delivered", now
        asked, luck = attempt.header("retry-after"), self._luck.random()
        wait = self._backoff.wait(due.attempt, attempt.status, asked, luck)
        return ("failed", now) if FAULTS[due.manner].once or wait is None else ("pending", now + wait)
