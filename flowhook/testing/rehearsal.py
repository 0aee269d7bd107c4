"""Runs handlers over events with nobody to talk to: what they can't read, they show."""

import asyncio
import socket
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple
from unittest.mock import patch

from flowhook.errors import MissingVariable, Reject
from flowhook.events import Event
from flowhook.handler import Handler


class NoNetwork(OSError):  # noqa: N818 - it says what there is
    """A connection that a handler wanted, and that is not made in a rehearsal."""


class Failure(NamedTuple):
    """A handler that can't take an event, and why."""

    handler: str
    event: Event
    error: BaseException


def rehearse(handler: Handler, events: Iterable[Event]) -> list[Failure]:
    """Call the handler for each event that it takes, without a network; what it raises but shouldn't.

    Rejecting an event is no failure, nor is what comes of a connection that isn't made or of a variable
    without a value: how far a handler comes without those is what is tried. Connections of libraries that
    don't use Python's sockets, gRPC for example, are not kept from being made.
    """
    found = []
    with asyncio.Runner() as runner:
        for event in events:
            if not (handler.wants(event.type) and handler.takes(event)):
                continue
            error = _raised(handler, event, runner)
            if error is not None and not any(
                isinstance(e, (NoNetwork, MissingVariable)) for e in _chain(error)
            ):
                found.append(Failure(handler.name, event, error))
    return found


def _raised(handler: Handler, event: Event, runner: asyncio.Runner) -> BaseException | None:
    # Made before the network is gone: a loop has a pair of sockets of its own.
    runner.get_loop()
    try:
        with without_network():
            result = handler.function(event)
            if result is not None:
                runner.run(_wait(result))
    except Reject:
        return None
    except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever a handler raises is told
        return error
    return None


@contextmanager
def without_network() -> Iterator[None]:
    """No connection is made by Python's sockets: it fails with NoNetwork."""

    def refuse(*_arguments: Any) -> None:
        raise NoNetwork("no connection is made here")

    with (
        patch.object(socket.socket, "connect", refuse),
        patch.object(socket.socket, "connect_ex", refuse),
        patch.object(socket, "getaddrinfo", refuse),
    ):
        yield


async def _wait(result: Any) -> None:
    await result


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """The error and what it came from."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
