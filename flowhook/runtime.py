"""Garbage-collector tuning, and what is to happen before the process ends."""

import asyncio
import gc
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from types import FrameType

# New objects that are kept until the collector looks for cycles among them; 700 (2,000 since Python 3.14) is
# the default. A delivery keeps hundreds while it waits, and leaves no cycle behind, however it ends, which is
# tested: what there is to find are those of handlers, and they may hold bodies: it comes seldom, but comes.
THRESHOLD = 20_000


def settle() -> None:
    """Spare the collector what lives as long as the process, and have it run less often.

    https://docs.python.org/3/library/gc.html#gc.freeze: it also keeps the pages shared that workers inherit.
    """
    # Nothing is frozen at the start; later it is also what was made in `unwatched`.
    gc.unfreeze()
    gc.collect()
    gc.freeze()
    gc.set_threshold(THRESHOLD)


@contextmanager
def unwatched() -> Iterator[None]:
    """Keep from the collector what is made in here, millions of objects without a cycle, until `settle`.

    It looks for cycles at every 20,000th object, and holds up all else for seconds once millions are there.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def at_the_end(call: Callable[[], None]) -> bool:
    """Have the running loop make a call once the process is told to stop; whether that could be arranged.

    The server has no hook for it: when it is done with its requests, the signal that stopped it ends the
    process at once, without `atexit`. So this goes before the server's own handler, which comes next.
    """
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        return False
    if threading.current_thread() is not threading.main_thread():
        return False
    for number in (signal.SIGTERM, signal.SIGINT):
        handler = signal.getsignal(number)
        if callable(handler):
            signal.signal(number, partial(_call_first, loop, call, handler))
    return True


def _call_first(
    loop: asyncio.AbstractEventLoop,
    call: Callable[[], None],
    handler: Callable[[int, FrameType | None], object],
    number: int,
    frame: FrameType | None,
) -> None:
    # Not here: a signal may come in the middle of a write to the same stream.
    if not loop.is_closed():
        loop.call_soon_threadsafe(call)
    handler(number, frame)
