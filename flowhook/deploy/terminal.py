"""A terminal that somebody watches: lines, and below them one that is rewritten while something goes on."""

import os
import shutil
from typing import TextIO

# Back to the beginning of the line, and away with what stood there.
CLEAR = "\r\x1b[K"


def is_watched(stream: TextIO) -> bool:
    """Whether a line can be rewritten there: a file, a pipe and a dumb terminal keep every version of it."""
    return stream.isatty() and os.environ.get("TERM") != "dumb"


class Terminal:
    """Writes to a stream for which `is_watched` is true."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._bar = ""

    def tell(self, text: str) -> None:
        """A line, above the one that is rewritten."""
        before, after = (CLEAR, self._bar) if self._bar else ("", "")
        # In one piece, for others write at the same time.
        self._write(f"{before}{text}\n{after}")

    def bar(self, text: str) -> None:
        """Rewrite the line; without a text its last version stays, and lines follow."""
        if text:
            # A line that wraps could not be rewritten.
            self._bar = text[: shutil.get_terminal_size().columns - 1]
            self._write(f"{CLEAR}{self._bar}")
        elif self._bar:
            self._bar = ""
            self._write("\n")

    def _write(self, text: str) -> None:
        self._stream.write(text)
        self._stream.flush()
