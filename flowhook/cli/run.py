"""Serve `receive` on this machine with a development secret.

Once it serves, it prints the address, the secret and a curl line that sends a sample event. What is saved in
handlers/ or .env is served from then on; what can't be imported is not, and it says why. Ctrl-C stops it.
Run it where main.py is.
"""

import argparse
import os
import shlex
import signal
import socket
import sys
from collections.abc import Mapping
from pathlib import Path
from types import FrameType
from typing import NoReturn

from flowhook import samples
from flowhook.cli import environment as dotenv
from flowhook.cli import reload
from flowhook.cli.errors import CommandError

HOST = "127.0.0.1"
PORT = 8080
# Everybody knows it, so it is only for receivers on this machine.
DEVELOPMENT_SECRET = "flowhook-development-secret"  # noqa: S105
SAMPLE = "packet_comments.created"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument(
        "--port", default=os.environ.get("PORT") or str(PORT), help=f"default: the variable PORT, else {PORT}"
    )


def run(arguments: argparse.Namespace) -> int:
    """Serve, print how to send an event, and restart the server after changes."""
    port = chosen_port(arguments.port)
    start = command("receive", port)
    interrupt_on_signals()
    try:
        with socket.create_server((HOST, port)) as door:
            return reload.serve(
                start,
                lambda: environment({"DELIVERY": "inline"}, dotenv.current()),
                door,
                lambda: _welcome(port),
            )
    except KeyboardInterrupt:
        return 0


def interrupt_on_signals() -> None:
    """Make every signal that asks to stop raise KeyboardInterrupt.

    SIGINT too, because a shell starts background processes so that they ignore it.
    """
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)


def _interrupt(_signal: int, _frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


def chosen_port(text: str) -> int:
    """The port, if it is free; else raises CommandError, where the server itself would only retry."""
    if not text.isascii() or not text.isdigit() or not 0 < int(text) < 65536:
        raise CommandError(f"{text!r} is not a port: choose one from 1 to 65535")
    try:
        return free_port(int(text))
    except OSError as error:
        raise CommandError(
            f"port {text} can't be used ({error.strerror}): choose another one, e.g. PORT=8081 make run"
        ) from None


def free_port(port: int = 0) -> int:
    """The given port if it is free, any free one for 0. Raises OSError if something listens there."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind((HOST, port))
        free: int = probe.getsockname()[1]
        return free


def listens(port: int) -> bool:
    """Whether something listens on this port on loopback."""
    with socket.socket() as probe:
        return probe.connect_ex((HOST, port)) == 0


def command(target: str, port: int) -> list[str]:
    """The command that serves an entry point of main.py. Raises CommandError if there is no main.py."""
    source = Path("main.py").resolve()
    if not source.exists():
        raise CommandError("there is no main.py here: change to the folder of flowhook")
    framework = [sys.executable, "-m", "functions_framework", f"--target={target}", f"--source={source}"]
    return [*framework, f"--host={HOST}", f"--port={port}"]


def environment(settings: Mapping[str, str], seen: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The server's environment: the variables `seen` here, the development secret, and the settings."""
    kept = {name: value for name, value in seen.items() if name != "WEBHOOK_SECRET_FILE"}
    # Set explicitly, because flowhook warns here of the ledger `memory` only if LEDGER is not set.
    ledger = kept.get("LEDGER") or "memory"
    return {**kept, "WEBHOOK_SECRET": DEVELOPMENT_SECRET, "LEDGER": ledger, **settings}


def introduce(port: int) -> None:
    """Print how to send an event."""
    url = f"http://{HOST}:{port}"
    print(f"URL     {url}\nSecret  {DEVELOPMENT_SECRET}\n\nSend an event from another terminal:\n")
    print(_curl(url), end="\n\n", flush=True)


def _welcome(port: int) -> None:
    introduce(port)
    print("Next    python -m flowhook send --all; or make emulate, which sends as Flows does, from a page")
    print("        What you save in handlers/ or .env is served at once\n", flush=True)


def _curl(url: str) -> str:
    """A shell line that works in any folder."""
    options = ["-H", f"Authorization: Bearer {DEVELOPMENT_SECRET}", "-H", "Content-Type: application/json"]
    return shlex.join(["curl", "-sS", url, *options, "--data-binary", f"@{samples.path(SAMPLE)}"])
