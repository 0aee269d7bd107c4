"""A thousand requests at once, slow and failing handlers among them: each gets the answer to what it sent."""

import asyncio
import hashlib
import json
from pathlib import Path

import httpx2

from flowhook import samples
from tests.support.receiver import SECRET, Receiver, project, receiver

MIXED = """
import asyncio, time
from flowhook import Reject, on

@on("packets.created")
async def quick(event): ...

@on("packets.updated")
def slow(event):
    time.sleep(0.5)

@on("packets.deleted")
async def slow_too(event):
    await asyncio.sleep(0.5)

@on("users.created")
def fails(event):
    raise RuntimeError(event.entity_id)

@on("users.updated")
async def late(event):
    await asyncio.sleep(60)

@on("users.deleted")
def rejects(event):
    raise Reject("no")
"""
# Event type: status, handlers, failed, rejected.
EXPECTED = {
    "packets.created": (200, ["mixed.quick"], None, None),
    "packets.updated": (200, ["mixed.slow"], None, None),
    "packets.deleted": (200, ["mixed.slow_too"], None, None),
    "users.created": (500, None, ["mixed.fails"], None),
    "users.updated": (500, None, ["mixed.late"], None),
    "users.deleted": (200, [], None, ["mixed.rejects"]),
    "projects.created": (200, [], None, None),
}
REQUESTS = 1_000


def test_a_thousand_requests_at_once_get_their_own_answers(tmp_path: Path) -> None:
    with receiver(tmp_path, project(tmp_path, mixed=MIXED), DELIVERY_TIMEOUT="6") as started:
        asyncio.run(_send(started))
        lines = started.deliveries()
    authentic = [line for line in lines if line["status"] != 401]
    assert len(authentic) == len({line["event_id"] for line in authentic}) == REQUESTS * 9 // 10
    # Of those that anybody can send, the first few have a line, and the rest are counted at the end.
    counted = sum(line["left_out"]["unauthentic"] for line in started.lines() if "left_out" in line)
    assert len(lines) - len(authentic) + counted == REQUESTS // 10
    assert counted > 0


async def _send(started: Receiver) -> None:
    limits = httpx2.Limits(max_connections=REQUESTS)
    async with httpx2.AsyncClient(timeout=60, limits=limits) as client:
        await asyncio.gather(*(_check(client, started.url, number) for number in range(REQUESTS)))


def _is_forged(number: int) -> bool:
    return number % 10 == 9


async def _check(client: httpx2.AsyncClient, url: str, number: int) -> None:
    """Send one event of its own and look at its answer."""
    kind = list(EXPECTED)[number % len(EXPECTED)]
    body = json.dumps({**json.loads(samples.load(kind)), "entityId": f"e{number}"}).encode()
    secret = b"wrong" if _is_forged(number) else SECRET
    response = await client.post(url, content=body, headers={b"authorization": b"Bearer " + secret})
    answer = response.json()
    if _is_forged(number):
        assert (response.status_code, "instance" in answer) == (401, False)
        return
    told = (response.status_code, answer.get("handlers"), answer.get("failed"), answer.get("rejected"))
    assert told == EXPECTED[kind]
    assert answer.get("id", answer.get("instance")) == hashlib.sha256(body).hexdigest()
