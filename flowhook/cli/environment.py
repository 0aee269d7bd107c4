"""The variables of handlers on this machine: those of the file `.env` beside main.py, if there is one."""

import os

from dotenv import dotenv_values, load_dotenv

FILE = ".env"


def load() -> None:
    """Read `.env`, a `NAME=value` a line. A variable that is set already stays as it is."""
    load_dotenv(FILE, override=False, interpolate=False)


def current() -> dict[str, str]:
    """The variables of `.env` as it is now, overridden by the environment of this process."""
    told = {name: value or "" for name, value in dotenv_values(FILE, interpolate=False).items()}
    return {**told, **os.environ}
