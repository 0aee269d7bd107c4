"""A rehearsal shows what a handler can't read, and lets it reach nobody."""

import socket
import urllib.request

import pytest

from flowhook import Event, Reject, variable
from flowhook.categories import Pattern
from flowhook.handler import Function, Handler
from flowhook.testing import make_event
from flowhook.testing.rehearsal import NoNetwork, rehearse, without_network

TOKEN = variable("A_TOKEN_THAT_IS_NOT_SET")
EVENTS = [make_event("packets.updated"), make_event("users.created")]


def handler(function: Function, *patterns: str) -> Handler:
    return Handler("mine.f", tuple(map(Pattern.parse, patterns or ("*",))), function)


def asks_somebody(event: Event) -> None:
    try:
        urllib.request.urlopen("http://127.0.0.1:1", timeout=1).close()
    except OSError:
        raise ValueError("nobody answers") from None


async def asks_somebody_on_the_loop(event: Event) -> None:
    socket.create_connection(("127.0.0.1", 1))


def rejects(event: Event) -> None:
    raise Reject("not mine")


def needs_a_token(event: Event) -> None:
    assert TOKEN.value


@pytest.mark.parametrize("function", [asks_somebody, asks_somebody_on_the_loop, rejects, needs_a_token])
def test_who_only_misses_the_world_takes_the_events(function: Function) -> None:
    assert rehearse(handler(function), EVENTS) == []


def test_who_cannot_read_an_event_fails_with_it() -> None:
    def reads(event: Event) -> None:
        assert event.properties["status"]

    [failure] = rehearse(handler(reads), EVENTS)
    assert failure.event is EVENTS[1]
    assert isinstance(failure.error, KeyError)
    assert rehearse(handler(reads, "packets.*"), EVENTS) == []


def test_a_handler_on_the_loop_fails_too() -> None:
    async def reads(event: Event) -> None:
        raise SystemExit(1)

    assert len(rehearse(handler(reads), EVENTS)) == 2


def test_the_network_is_there_again_afterwards() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = server.getsockname()
        with without_network(), pytest.raises(NoNetwork):
            socket.create_connection(address)
        socket.create_connection(address).close()
