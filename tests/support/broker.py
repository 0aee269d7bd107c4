"""The real Pub/Sub emulator, or a skip that says why there is none."""

import itertools
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pytest

from flowhook.cli.errors import CommandError
from flowhook.cli.pubsub_emulator import Emulator, find
from tests.support.ports import free_port
from tests.support.receiver import until

_numbers = itertools.count(1)


@contextmanager
def started() -> Iterator[Emulator]:
    """An emulator; without one installed the test is skipped, with REQUIRE_EMULATOR=1 it fails."""
    try:
        find()
    except CommandError as missing:
        if os.environ.get("REQUIRE_EMULATOR") == "1":
            raise
        pytest.skip(str(missing))
    with Emulator(free_port()) as emulator:
        yield emulator


def topic(emulator: Emulator, name: str = "") -> str:
    """A new topic with a subscription of the same name that stores what arrives."""
    made = name or f"topic-{next(_numbers)}"
    emulator.create_topic(made)
    emulator.subscribe(made, made)
    return made


def settings(emulator: Emulator, topic: str, **more: str) -> dict[str, str]:
    """The settings with which a receiver publishes to the topic."""
    return {
        "DELIVERY": "pubsub",
        "GOOGLE_CLOUD_PROJECT": emulator.project,
        "PUBSUB_EMULATOR_HOST": emulator.host,
        "PUBSUB_TOPIC": topic,
        **more,
    }


def take(emulator: Emulator, subscription: str, count: int) -> list[Mapping[str, Any]]:
    """Pull until there are at least `count` messages, and return all that came."""
    found: list[Mapping[str, Any]] = []

    def enough() -> bool:
        found.extend(emulator.pull(subscription))
        return len(found) >= count

    until(enough)
    return found
