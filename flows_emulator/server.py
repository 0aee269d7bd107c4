"""Serves the emulator on an address until a signal comes."""

import socket
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import uvicorn

from flows_emulator.flows import Flows
from flows_emulator.retry import Backoff
from flows_emulator.store import Store
from flows_emulator.web import application

HOST = "127.0.0.1"
PORT = 8090
# Seconds for open requests at the end. A delivery that is interrupted is sent again at the next start.
FAREWELL = 3


class Server(uvicorn.Server):
    """Closes the feed of changes before it stops: its open responses would delay the shutdown."""

    def __init__(self, config: uvicorn.Config, flows: Flows) -> None:
        super().__init__(config)
        self._flows = flows

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Close the feed, then shut down."""
        self._flows.feed.close()
        await super().shutdown(sockets)


@dataclass(frozen=True)
class Place:
    """Where it listens, by which names it is reached, and whether it has a page beside its API."""

    host: str = HOST
    port: int = PORT
    names: Collection[str] = ()
    page: bool = True


def serve(data: Path, place: Place, backoff: Backoff) -> None:
    """Serve until SIGINT or SIGTERM. Raises StoreError if the file `data` can't be used."""
    store = Store(data)
    try:
        flows = Flows(store, backoff)
        config = uvicorn.Config(
            application(flows, page=place.page, names=(place.host, *place.names)),
            host=place.host,
            port=place.port,
            access_log=False,
            log_level="warning",
            timeout_graceful_shutdown=FAREWELL,
        )
        Server(config, flows).run()
    finally:
        store.close()
