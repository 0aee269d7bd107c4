"""Where a command prints its tables."""

import sys

from rich.console import Console

# A pipe has no width, and a program that reads the output needs unfolded lines.
UNFOLDED = 250


def plain(text: str) -> str:
    """Foreign text without control characters, which a terminal would obey."""
    return "".join(sign if sign.isprintable() else "\ufffd" for sign in text)


def console() -> Console:
    """Standard output, as wide as the terminal."""
    return Console(highlight=False, width=None if sys.stdout.isatty() else UNFOLDED)
