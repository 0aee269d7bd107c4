"""Limits the memory that bodies take together: a large one waits for room, a small one never does.

Parsing a body makes Python objects of up to forty times its size, and no other code runs meanwhile. So the
memory that all parsed bodies take together is limited, not their number. And large bodies are parsed one at a
time, with turns of the loop for all others between two of them.
"""

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import (
    AbstractAsyncContextManager,
    AsyncExitStack,
    asynccontextmanager,
    contextmanager,
    nullcontext,
)

from flowhook import runtime
from flowhook.errors import Overloaded

# A body of up to this many bytes is not counted: 40 of the worst take only 120 MB once parsed.
SMALL = 64 * 1024
# The most bytes that all bodies may take together, and that everything parsed from them may take. A push is
# also decoded from base64, which takes almost as much again. With the process itself (80 MB) and what an
# estimate misses, an instance of 1 GiB has 200 MB left for its handlers.
MAX_BODIES = 96 * 1024 * 1024
MAX_PARSED = 400_000_000
# A parse of more bytes than this is heavy: the garbage collector must not examine its objects.
HEAVY = 32_000_000
# The most bytes that pydantic's parser was seen to allocate per bracket, comma or colon, and per byte.
MAX_PER_MARK, MAX_PER_BYTE = 100, 48
MARKS = b"[{:,"
# The bytes of text per byte of a body: with one character beyond ASCII, Python stores every character of that
# string in up to four bytes.
ASCII, UNICODE = 2, 6
# The same where there are escaped surrogates: replacing lone ones joins many strings of a few bytes.
SURROGATES = 30
# Seconds between the end of a long parse and the next one, in which requests that came meanwhile are
# answered.
PAUSE = 0.03
# Seconds of pause that may be owed before one is made: bodies of 100 KB are parsed in a millisecond each.
SLACK = 0.005
# Iterations of the loop after that pause: where the process was kept from running, the pause is over before
# the loop has looked at what has arrived. A small event takes three, and more where it is published.
ITERATIONS = 10


def memory_of(body: bytes) -> int:
    """The bytes that `body` takes once it is parsed, itself included: an estimate that errs upwards."""
    # A search for one byte is twenty times as fast as one for two, and most texts have no backslash.
    escaped = b"\\" in body and rb"\u" in body
    plain = body.isascii() and not escaped
    text = SURROGATES if escaped and (rb"\ud" in body or rb"\uD" in body) else ASCII if plain else UNICODE
    return min(structure_of(body) + text * len(body), MAX_PER_BYTE * len(body))


def structure_of(body: bytes) -> int:
    """The bytes that the containers and items of `body` take, without its texts."""
    # One pass of a few milliseconds for 8 MiB; counting each mark by itself takes four passes.
    return MAX_PER_MARK * (len(body) - len(body.translate(None, MARKS)))


class Room:
    """Memory that has been granted. It is freed when nothing refers to the room any more.

    So the memory of a parsed event stays counted while anything uses it, even the thread of a handler that
    hangs.
    """

    __slots__ = ("__weakref__", "_give_back", "alone", "size")

    def __init__(
        self,
        size: int,
        give_back: Callable[[int], None],
        alone: Callable[[], AbstractAsyncContextManager[None]] = nullcontext,
    ) -> None:
        self.size = size
        # A block of work on what the room is for, beside which no other body is parsed.
        self.alone = alone
        self._give_back = give_back

    @property
    def heavy(self) -> bool:
        """Whether so much is parsed that the garbage collector must not examine it."""
        return self.size > HEAVY

    def leave(self) -> None:
        """Called when an event that held the room ends. Does nothing: the last reference frees the memory."""

    def __del__(self) -> None:
        self._give_back(self.size)


class Pause:
    """The time after blocks of work in which no other may begin: as long as they took, up to `PAUSE`.

    Short blocks may follow each other until they owe `SLACK`. The time is not the loop's, which stands still
    while no other code runs.
    """

    def __init__(self) -> None:
        self._until = 0.0
        self.owed = False

    @property
    def left(self) -> float:
        """Seconds until it is over."""
        return max(0.0, self._until - time.monotonic()) if self.owed else 0.0

    @contextmanager
    def after(self) -> Iterator[None]:
        """The block of work that it comes after."""
        began = time.monotonic()
        try:
            yield
        finally:
            ended = time.monotonic()
            # Twice: what it owes begins as it ends, and what was owed before it is not over while it runs.
            self._until = min(max(self._until, began) + 2 * (ended - began), ended + PAUSE)
            self.owed = self._until - ended >= SLACK


class Admission:
    """Grants `capacity` bytes, first come, first served; whoever waits over `patience` seconds is refused.

    It is made before the loop runs and used on one loop; a room may be freed on any thread.
    """

    def __init__(self, capacity: int, patience: float) -> None:
        self._capacity = capacity
        self._free = capacity
        self._patience = patience
        self._heavy = 0
        self._turns = asyncio.Lock()
        self._pause = Pause()
        self._waiting: deque[tuple[int, asyncio.Future[Room]]] = deque()

    @asynccontextmanager
    async def turn(self, weigh: Callable[[], int] | None = None) -> AsyncIterator[Room | None]:
        """The loop for a block of work, and room for the bytes that `weigh` says. Raises Overloaded.

        Weighing is a block of its own: it takes 7 to 30 ms for a body of 8 MiB, and many may be complete at
        the same moment.
        """
        async with AsyncExitStack() as stack:
            try:
                async with asyncio.timeout(self._patience):
                    room = await self._weighed(weigh) if weigh else None
                    await stack.enter_async_context(self._alone())
            except TimeoutError:
                raise Overloaded("Other large bodies came before it.") from None
            yield room

    async def _weighed(self, weigh: Callable[[], int]) -> Room:
        async with self._alone():
            size = weigh()
        return await self._room(size)

    @asynccontextmanager
    async def _alone(self) -> AsyncIterator[None]:
        """A block of work, once the one before it and the pause after that are over."""
        async with self._turns:
            # Whoever comes next waits: a timer of the one before might outlive its loop, as in a test.
            if self._pause.owed:
                await asyncio.sleep(self._pause.left)
                for _ in range(ITERATIONS):
                    await asyncio.sleep(0)
            with self._pause.after():
                yield

    async def room(self, size: int) -> Room:
        """Room for `size` bytes; one that is larger than the capacity gets all of it. Raises Overloaded."""
        try:
            async with asyncio.timeout(self._patience):
                return await self._room(size)
        except TimeoutError:
            raise Overloaded("Larger bodies came before it and take all the memory there is.") from None

    async def _room(self, size: int) -> Room:
        size = min(size, self._capacity)
        if size <= self._free and not self._waiting:
            return self._grant(size)
        granted: asyncio.Future[Room] = asyncio.get_running_loop().create_future()
        self._waiting.append((size, granted))
        try:
            return await granted
        finally:
            # Whoever waits behind one that has given up may fit.
            self._advance()

    def _grant(self, size: int) -> Room:
        self._free -= size
        self._heavy += size > HEAVY
        loop = asyncio.get_running_loop()

        def give_back(size: int) -> None:
            if not loop.is_closed():
                loop.call_soon_threadsafe(self._take_back, size)

        return Room(size, give_back, self._alone)

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
    """One queue for reading bodies, one for parsing them; `timeout` is the longest wait in both."""
    return Admission(MAX_BODIES, timeout / 2), Admission(MAX_PARSED, timeout / 2)
