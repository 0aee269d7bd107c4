"""The variables of handlers on this machine: those of the file `.env` beside main.py, if there is one."""

from dotenv import load_dotenv

FILE = ".env"


def load() -> None:
    """Read `.env`, a `NAME=value` a line. A variable that is set already stays as it is."""
    load_dotenv(FILE, override=False, interpolate=False)
