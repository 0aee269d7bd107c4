"""Handlers with mistakes that show only with several events, and correct handlers."""

import asyncio
import threading
from contextlib import suppress
from datetime import datetime

from flowhook import Event, on
from tests.support.world import World

world = World()
# These are only in the memory of the process.
newest: list[datetime] = []
current: dict[str, Event] = {}
remembered: set[str] = set()
lock = threading.Lock()


@on("packets.created")
def counts_twice(event: Event) -> None:
    world.counts["packets"] = world.counts.get("packets", 0) + 1


@on("packets.updated", once=True)
def loses_on_reorder(event: Event) -> None:
    if newest and event.event_timestamp < newest[0]:
        return
    newest[:] = [event.event_timestamp]
    world.post(event.entity_path)


@on("packets.updated", changed="status")
def unsafe_under_a_crash(event: Event) -> None:
    if event.id in world.ids:
        return
    world.ids.add(event.id)
    if event.became("status", "won"):
        world.post(event.entity_path)


@on("packets.updated", once=True)
def shares_state(event: Event) -> None:
    current["event"] = event
    title = current["event"].properties["title"]
    world.post((current["event"].entity_path, title))


@on("packets.updated", changed="status")
def depends_on_an_old_value(event: Event) -> None:
    change = event.changes()["status"]
    with lock:
        if world.status.get(event.entity_path, change.old) == change.old:
            world.status[event.entity_path] = change.new


@on("packets.updated", changed="status")
def last_one_wins(event: Event) -> None:
    world.status[event.entity_path] = event.properties["status"]


@on("packets.updated", once=True)
async def shares_state_on_the_loop(event: Event) -> None:
    current["event"] = event
    await asyncio.sleep(0)
    world.post(current["event"].entity_path)


@on("packets.updated", changed="status", once=True)
def swallows_a_failure(event: Event) -> None:
    with suppress(ConnectionError):
        world.post(event.entity_path)


@on("packets.updated")
def remembers_in_the_process(event: Event) -> None:
    with lock:
        if event.id not in remembered:
            world.post(event.entity_path)
            remembered.add(event.id)


@on("packets.updated", changed="status", once=True)
def right_by_once(event: Event) -> None:
    if event.became("status", "won"):
        world.post(event.entity_path)


@on("packets.updated", changed="status", once=True)
async def right_by_once_on_the_loop(event: Event) -> None:
    await asyncio.sleep(0)
    world.post((event.entity_path, event.properties["status"]))


@on("packets.updated", changed="status")
def right_by_itself(event: Event) -> None:
    with lock:
        if event.event_timestamp >= world.seen.get(event.entity_path, event.event_timestamp):
            world.status[event.entity_path] = event.properties["status"]
            world.seen[event.entity_path] = event.event_timestamp
