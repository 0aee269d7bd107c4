"""The variables of handlers on this machine: those of the file `.env` beside main.py, if there is one."""

import os

from dotenv import dotenv_values

FILE = ".env"


def values() -> dict[str, str]:
    """What `.env` says, a `NAME=value` a line, to the letter."""
    return {
        name: value for name, value in dotenv_values(FILE, interpolate=False).items() if value is not None
    }


def load() -> None:
    """Have this process see it too. A variable that is set already stays as it is."""
    for name, value in values().items():
        os.environ.setdefault(name, value)
