"""Print, as JSON, the subscriptions that the handlers need with delivery to Pub/Sub.

Each with its name, topic, handler, push path, filter, attempts and timeout. An empty filter lets everything
through, and a handler without a timeout has DELIVERY_TIMEOUT.
Run it where main.py is. Fails if a handler can't be imported.
"""

import argparse
import json
import os
from dataclasses import asdict

from flowhook.cli import handlers
from flowhook.cli.errors import CommandError
from flowhook.pubsub import subscriptions
from flowhook.settings import DECLARED

PREFIX = "flowhook"
TOPIC = DECLARED["topic"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument(
        "--topic",
        default=os.environ.get(TOPIC.variable) or TOPIC.default,
        help=f"may contain {{category}}; default: the variable PUBSUB_TOPIC, else {TOPIC.default}",
    )
    parser.add_argument("--prefix", default=PREFIX, help="how the names begin; default: %(default)s")


def run(arguments: argparse.Namespace) -> int:
    """Print the list."""
    try:
        TOPIC.read(arguments.topic)
        TOPIC.read(arguments.prefix)
    except ValueError as mistake:
        raise CommandError(f"--topic or --prefix: {mistake}") from None
    found = subscriptions.needed(handlers.load(), arguments.topic, arguments.prefix)
    print(json.dumps([asdict(subscription) for subscription in found], indent=2))
    return 0
