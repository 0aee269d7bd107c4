"""The interpreter's garbage collector and threads, and what is to happen before the process ends."""

import asyncio
import gc
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from types import FrameType

# How many new objects there may be before the collector looks for cycles among them; the default is 700
# (2,000 since Python 3.14). A delivery holds hundreds of objects while it waits, and leaves no cycle behind,
# however it ends, which is tested. Handlers may leave some, which may refer to bodies: so the collector runs
# seldom, but it runs.
THRESHOLD = 20_000
# Seconds after which a thread that computes lets another one run; the default is 0.005. The loop gives the
# interpreter away at each read and write of a connection, and waits so long to have it back.
# https://docs.python.org/3/library/sys.html#sys.setswitchinterval
SWITCH_INTERVAL = 0.00005


def begin() -> None:
    """Exclude what a start has made from garbage collection, for good, and collect less often.

    Also have threads that compute leave the loop more of its time.

    https://docs.python.org/3/library/gc.html#gc.freeze: it also keeps memory pages shared with workers that
    are forked. Nothing is collected first: imports leave hardly any garbage, and looking for it takes a tenth
    of a start.
    """
    gc.freeze()
    gc.set_threshold(THRESHOLD)
    sys.setswitchinterval(SWITCH_INTERVAL)


def settle() -> None:
    """Collect what was made in `unwatched` and is garbage now, and exclude what is left."""
    gc.unfreeze()
    gc.collect()
    gc.freeze()


class _Collector:
    """The garbage collector, disabled while at least one thread needs it to be."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._disabled = 0

    @contextmanager
    def unwatched(self) -> Iterator[None]:
        """Exclude what this block makes, millions of objects without a cycle, from collection until `settle`.

        The collector runs at every 20,000th new object, and with millions of them it blocks everything for
        seconds.
        """
        with self._lock:
            self._disabled += 1
            gc.disable()
        try:
            yield
        finally:
            with self._lock:
                self._disabled -= 1
                gc.freeze()
                if not self._disabled:
                    gc.enable()


# One for the process, because it has one collector.
unwatched = _Collector().unwatched


def at_the_end(call: Callable[[], None]) -> bool:
    """Have the running loop make a call when the process has to stop; returns whether that is possible.

    The server has no hook for it: when it is done with its requests, the signal that stopped it ends the
    process at once, without `atexit`. So a signal handler is set that calls the server's own afterwards.
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
    # Not called here: the signal may have interrupted a write to the same stream.
    if not loop.is_closed():
        loop.call_soon_threadsafe(call)
    handler(number, frame)
