"""What the interpreter is told once everything is imported and made."""

import gc

# New objects that are kept until the collector looks for cycles among them; 700 (2,000 since Python 3.14) is
# the default. A delivery keeps hundreds while it waits, and leaves no cycle behind, however it ends, which is
# tested: what there is to find are those of handlers, and they may hold bodies: it comes seldom, but comes.
THRESHOLD = 20_000


def settle() -> None:
    """Spare the collector what lives as long as the process, and have it run less often.

    https://docs.python.org/3/library/gc.html#gc.freeze: it also keeps the pages shared that workers inherit.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(THRESHOLD)
