"""What the interpreter is told once everything is imported and made."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager

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
