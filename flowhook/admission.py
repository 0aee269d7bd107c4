"""How much memory bodies may take at a time in an instance: a large one waits for room, a small one never.

Parsing makes Python objects of up to forty times the body's bytes, and holds the interpreter while it does;
so what must be limited is the memory that parses take together, not their number.
"""

import asyncio
from collections import deque
from collections.abc import Callable

from flowhook import runtime
from flowhook.errors import Overloaded

# Bytes up to which a body is not counted; 40 of the worst, parsed, are 120 MB.
SMALL = 64 * 1024
# Bytes that bodies may take together while they are there, and what is parsed of them. A push is decoded, so
# it takes almost as much again. With the process itself (80 MB) and what an estimate misses, an instance of
# 1 GiB keeps 200 MB for its handlers.
MAX_BODIES = 96 * 1024 * 1024
MAX_PARSED = 400_000_000
# From here on a parse is heavy: what is made of it is kept away from the garbage collector.
HEAVY = 32_000_000
# Bytes that pydantic's parser was seen to make at most of a bracket, comma or colon, and of a body's byte.
MAX_PER_MARK, MAX_PER_BYTE = 100, 48
MARKS = b"[{:,"
# A character beyond ASCII makes Python store each of its string's in up to four bytes.
ASCII, UNICODE = 2, 6
# Where there are escaped surrogates, a lone one may have to be replaced: pieces of a few bytes are sewn up.
SURROGATES = 30
# Seconds after a parse in which no other begins, so that what came meanwhile is answered first.
PAUSE = 0.03


def memory_of(body: bytes) -> int:
    """The bytes that `body` takes once it is parsed, itself included: an estimate that errs upwards."""
    plain = body.isascii() and rb"\u" not in body
    text = SURROGATES if rb"\ud" in body or rb"\uD" in body else ASCII if plain else UNICODE
    return min(structure_of(body) + text * len(body), MAX_PER_BYTE * len(body))


def structure_of(body: bytes) -> int:
    """The bytes that the containers and items of `body` take, without its texts."""
    # One pass of a few milliseconds for 8 MiB; counting each mark by itself takes four.
    return MAX_PER_MARK * (len(body) - len(body.translate(None, MARKS)))


class Room:
    """Memory that has been granted. It is given back when nothing refers to the room any more.

    So whatever holds what was parsed holds the room as well: a thread of a handler that hangs does.
    """

    __slots__ = ("__weakref__", "_give_back", "size")

    def __init__(self, size: int, give_back: Callable[[int], None]) -> None:
        self.size = size
        self._give_back = give_back

    @property
    def heavy(self) -> bool:
        """Whether so much is parsed that the garbage collector must not look through it."""
        return self.size > HEAVY

    def leave(self) -> None:
        """Called by whatever held the room, when it ends; giving back is up to the last of them."""

    def __del__(self) -> None:
        self._give_back(self.size)


class Admission:
    """Grants `capacity` bytes in the order of asking; who waits for longer than `patience` seconds gets none.

    Made before the loop runs, used on one loop; a room may be given back from any thread.
    """

    def __init__(self, capacity: int, patience: float) -> None:
        self._capacity = capacity
        self._free = capacity
        self._patience = patience
        self._heavy = 0
        self._waiting: deque[tuple[int, asyncio.Future[Room]]] = deque()

    async def room_for(self, body: bytes) -> Room | None:
        """Room to parse `body` in; a small one needs none. Raises Overloaded."""
        return await self.room(memory_of(body)) if len(body) > SMALL else None

    async def room(self, size: int) -> Room:
        """Room for `size` bytes; what is larger than the whole capacity has it alone. Raises Overloaded."""
        size = min(size, self._capacity)
        if size <= self._free and not self._waiting:
            return self._grant(size)
        granted: asyncio.Future[Room] = asyncio.get_running_loop().create_future()
        self._waiting.append((size, granted))
        try:
            async with asyncio.timeout(self._patience):
                return await granted
        except TimeoutError:
            raise Overloaded("Larger bodies came before it and take all the memory there is.") from None
        finally:
            # Whoever stands behind one that has given up may fit.
            self._advance()

    def _grant(self, size: int) -> Room:
        self._free -= size
        self._heavy += size > HEAVY
        loop = asyncio.get_running_loop()

        def give_back(size: int) -> None:
            if not loop.is_closed():
                loop.call_soon_threadsafe(self._take_back, size)

        return Room(size, give_back)

    def _take_back(self, size: int) -> None:
        self._free += size
        self._heavy -= size > HEAVY
        if size > HEAVY and not self._heavy:
            runtime.settle()
        asyncio.get_running_loop().call_later(PAUSE, self._advance)

    def _advance(self) -> None:
        while self._waiting:
            size, granted = self._waiting[0]
            if not granted.done():
                if size > self._free:
                    return
                granted.set_result(self._grant(size))
            self._waiting.popleft()


def queues(timeout: float) -> tuple[Admission, Admission]:
    """Of bodies that are read, and of those that are parsed; a request waits `timeout` seconds at most."""
    return Admission(MAX_BODIES, timeout / 2), Admission(MAX_PARSED, timeout / 2)
