"""`python -m bench.in_flight`: how many publish calls may be under way at a time.

The publisher by itself, on a loop of its own, against the emulator behind a proxy that puts a round trip
between them. Messages arrive at random moments from outside, not when the ones before are done: a closed loop
would march in step with the calls.
"""

import argparse
import asyncio
import random
import statistics
import sys
import time

from flowhook.cli.pubsub_emulator import Emulator
from flowhook.cli.run import free_port
from flowhook.pubsub import publisher
from flowhook.pubsub.client import PubSub
from flowhook.pubsub.messages import Message
from flowhook.pubsub.publisher import Publisher
from tests.support.proxy import Proxy, proxy

TOPIC = "in-flight"
ROUND_TRIPS = (1, 5, 30)
IN_FLIGHT = (1, 2, 3, 4, 8, 16)
MESSAGE = Message(b"x" * 1000, {"category": "packets", "operation": "updated"})


async def publish(host: str, rate: float, seconds: float) -> tuple[float, float, float]:
    """Offer `rate` messages a second; return how many were published a second, p50 in ms, CPU µs of each."""
    made = Publisher(PubSub("demo", host), 8)
    await made.publish(TOPIC, MESSAGE)
    times: list[float] = []

    async def one() -> None:
        started = time.perf_counter()
        await made.publish(TOPIC, MESSAGE)
        times.append(time.perf_counter() - started)

    begun, cpu = time.perf_counter(), time.process_time()
    tasks = []
    due = begun
    while due < begun + seconds:
        due += random.expovariate(rate)
        if due > time.perf_counter():
            await asyncio.sleep(due - time.perf_counter())
        tasks.append(asyncio.create_task(one()))
    await asyncio.gather(*tasks)
    elapsed = time.perf_counter() - begun
    return (
        len(times) / elapsed,
        statistics.median(times) * 1e3,
        (time.process_time() - cpu) / len(times) * 1e6,
    )


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m bench.in_flight", description=__doc__)
    parser.add_argument("--rate", type=float, default=2000, help="messages a second; default: %(default)g")
    parser.add_argument("--seconds", type=float, default=3, help="of each; default: %(default)g")
    parsed = parser.parse_args()
    with Emulator(free_port()) as emulator, proxy(emulator.host) as between:
        emulator.create_topic(TOPIC)
        _table(between, parsed.rate, parsed.seconds)
    return 0


def _table(between: Proxy, rate: float, seconds: float) -> None:
    print("round trip ms  in flight  published/s  p50 ms  CPU µs")
    for milliseconds in ROUND_TRIPS:
        between.delay = milliseconds / 1000
        for calls in IN_FLIGHT:
            publisher.MAX_IN_FLIGHT = calls
            got, middle, cpu = asyncio.run(publish(between.address, rate, seconds))
            print(f"{milliseconds:13}  {calls:9}  {got:11.0f}  {middle:6.1f}  {cpu:6.0f}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
