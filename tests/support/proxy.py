"""A TCP proxy that delays, holds, cuts and refuses connections, as networks do."""

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any

CHUNK = 65536
Run = Callable[[Coroutine[Any, Any, Any]], Any]


class Proxy:
    """Forwards bytes to `target` (`HOST:PORT`), from a port of its own on loopback."""

    def __init__(self, target: str, loop: asyncio.AbstractEventLoop) -> None:
        self._host, _, port = target.rpartition(":")
        self._port = int(port)
        self._loop = loop
        self._writers: set[asyncio.StreamWriter] = set()
        self._flowing = asyncio.Event()
        self._flowing.set()
        self.refusing = False
        self.delay = 0.0
        self.address = ""

    async def listen(self) -> asyncio.Server:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        return server

    def cut(self, *, refuse: bool = False) -> None:
        """Reset every connection; with `refuse`, new ones too from now on."""
        self._do(self._cut(refuse=refuse))

    def hold(self) -> None:
        """Forward nothing in either direction, with all connections left open."""
        self._do(self._set(flowing=False))

    def release(self) -> None:
        """Forward everything again."""
        self._do(self._set(flowing=True))

    def _do(self, coroutine: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(10)

    async def _cut(self, *, refuse: bool) -> None:
        self.refusing = refuse
        for writer in self._writers:
            writer.transport.abort()

    async def _set(self, *, flowing: bool) -> None:
        self.refusing = False
        if flowing:
            self._flowing.set()
        else:
            self._flowing.clear()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.refusing:
            writer.transport.abort()
            return
        try:
            far_reader, far_writer = await asyncio.open_connection(self._host, self._port)
        except OSError:
            writer.transport.abort()
            return
        both = {writer, far_writer}
        self._writers |= both
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._pass_on(reader, far_writer))
                group.create_task(self._pass_on(far_reader, writer))
        finally:
            self._writers -= both
            for end in both:
                end.transport.abort()

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Forward with half of the delay each way, any number of bytes under way: only latency is added."""
        loop = asyncio.get_running_loop()
        try:
            while chunk := await reader.read(CHUNK):
                await self._flowing.wait()
                loop.call_later(self.delay / 2, _write, writer, chunk)
        except OSError:
            pass
        loop.call_later(self.delay / 2, writer.transport.abort)


def _write(writer: asyncio.StreamWriter, chunk: bytes) -> None:
    if not writer.transport.is_closing():
        writer.write(chunk)


@contextmanager
def proxy(target: str) -> Iterator[Proxy]:
    """A proxy that listens, on a loop in a thread of its own."""
    with background_loop() as (loop, run):
        made = Proxy(target, loop)
        server = run(made.listen())
        try:
            yield made
        finally:
            made.cut(refuse=True)
            loop.call_soon_threadsafe(server.close)


@contextmanager
def background_loop() -> Iterator[tuple[asyncio.AbstractEventLoop, Run]]:
    """An event loop that runs in a thread, and a function that runs a coroutine on it."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    try:
        yield loop, lambda coroutine: asyncio.run_coroutine_threadsafe(coroutine, loop).result(30)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()
