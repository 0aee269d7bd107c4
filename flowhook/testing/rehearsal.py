"""Runs handlers over events without a network, to find events that they can't read."""

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
    """A handler tried to connect, which a rehearsal prevents."""


class Failure(NamedTuple):
    """A handler that can't take an event, and why."""

    handler: str
    event: Event
    error: BaseException


def rehearse(handler: Handler, events: Iterable[Event]) -> list[Failure]:
    """Call the handler for each event that it takes, without a network, and return its failures.

    Rejecting an event is no failure, nor is an error that comes of a prevented connection or of a variable
    without a value: what is tried is how far a handler gets without those. Libraries that don't use Python's
    sockets, such as gRPC, can still connect.
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
    # Made before connections are prevented: a new loop connects a pair of sockets.
    runner.get_loop()
    try:
        with without_network():
            result = handler.function(event)
            if result is not None:
                runner.run(_wait(result))
    except Reject:
        return None
    except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever a handler raises is returned
        return error
    return None


@contextmanager
def without_network() -> Iterator[None]:
    """Make every connection of Python's sockets fail with NoNetwork."""

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
    """The error and its causes."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
