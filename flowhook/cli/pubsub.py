"""Serve `receive` and `consume` on this machine with the Pub/Sub emulator between them.

Topics, and a push subscription for each handler, are made in the emulator. It prints the address, the secret
and a curl line that sends a sample event; Ctrl-C stops everything. Run it where main.py is.

It needs the Google Cloud CLI with its component pubsub-emulator, and Java.
"""

import argparse
import math
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from flowhook.categories import CATEGORIES, OTHER
from flowhook.cli import environment, handlers
from flowhook.cli import run as serve
from flowhook.cli.pubsub_emulator import Emulator, wait_until
from flowhook.cli.subscriptions import PREFIX, TOPIC
from flowhook.handler import MARGIN
from flowhook.pubsub import subscriptions
from flowhook.settings import DECLARED

REJECTED_TOPIC = "flows-rejected"
UNFILTERED = """\
This emulator applies no filters: consume gets every event for every handler, and its log calls `ignored`
what Pub/Sub itself would not have sent.
"""
TIMEOUT = float(os.environ.get("DELIVERY_TIMEOUT") or DECLARED["delivery_timeout"].default)
# Short, because nobody wants to wait ten seconds for a redelivery here.
RETRY = {"minimumBackoff": "1s", "maximumBackoff": "10s"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    serve.add_arguments(parser)
    parser.add_argument("--topic", default=TOPIC.default, help="may contain {category}; default: %(default)s")


def run(arguments: argparse.Namespace) -> int:
    """Start everything, print how to send an event, and stop everything at the end."""
    environment.load()
    port = serve.chosen_port(arguments.port)
    needed = subscriptions.needed(handlers.load(), arguments.topic, PREFIX)
    serve.interrupt_on_signals()
    with Emulator(serve.free_port()) as emulator:
        settings = {
            "DELIVERY": "pubsub",
            "GOOGLE_CLOUD_PROJECT": emulator.project,
            "PUBSUB_TOPIC": arguments.topic,
            "REJECTED_TOPIC": REJECTED_TOPIC,
            "PUBSUB_EMULATOR_HOST": emulator.host,
        }
        private = serve.free_port()
        _create(emulator, arguments.topic, needed, f"http://{serve.HOST}:{private}")
        with _served("consume", private, settings) as consume, _served("receive", port, settings) as receive:
            serve.introduce(port)
            print(UNFILTERED, flush=True)
            _wait_for_one_to_end(emulator.process, consume, receive)
    return 1


def _create(emulator: Emulator, topic: str, needed: list[subscriptions.Subscription], consume: str) -> None:
    categories = (*CATEGORIES, OTHER) if "{category}" in topic else ("",)
    for name in (REJECTED_TOPIC, *(topic.replace("{category}", category) for category in categories)):
        emulator.create_topic(name)
    emulator.subscribe(REJECTED_TOPIC, REJECTED_TOPIC)
    for subscription in needed:
        emulator.subscribe(
            subscription.name,
            subscription.topic,
            pushConfig={"pushEndpoint": consume + subscription.path},
            retryPolicy=RETRY,
            # Computed as in a deployment, so that no handler is called again while it runs.
            ackDeadlineSeconds=math.ceil((subscription.timeout or TIMEOUT) + MARGIN),
            **({"filter": subscription.filter} if subscription.filter else {}),
        )


@contextmanager
def _served(target: str, port: int, settings: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """The functions framework, once it listens; stopped as Cloud Run stops it."""
    # In a session of its own, so that Ctrl-C reaches this process alone, which stops it in order.
    process = subprocess.Popen(  # noqa: S603 - it is this Python
        serve.command(target, port), env=serve.environment(settings), start_new_session=True
    )
    try:
        wait_until(lambda: serve.listens(port), process, target)
        yield process
    finally:
        process.terminate()
        process.wait()


def _wait_for_one_to_end(*processes: subprocess.Popen[bytes]) -> None:
    while all(process.poll() is None for process in processes):
        time.sleep(0.2)
    print("flowhook: one of the processes has ended, so the others are stopped", file=sys.stderr)
