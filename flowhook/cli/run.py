"""Serve `receive` on this machine with a development secret.

It prints the address, the secret and a curl line that sends a sample event; Ctrl-C stops it.
Run it where main.py is.
"""

import argparse
import os
import shlex
import socket
import sys
from pathlib import Path

from flowhook import samples
from flowhook.cli.errors import CommandError

HOST = "127.0.0.1"
PORT = 8080
# Known to everybody, and so good for this machine alone.
DEVELOPMENT_SECRET = "flowhook-development-secret"  # noqa: S105
SAMPLE = "packet_comments.created"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument(
        "--port", default=os.environ.get("PORT") or str(PORT), help=f"default: the variable PORT, else {PORT}"
    )


def run(arguments: argparse.Namespace) -> int:
    """Say how to reach it, then become the functions framework."""
    port = _free_port(arguments.port)
    source = Path("main.py").resolve()
    if not source.exists():
        raise CommandError("there is no main.py here: change to the folder of flowhook")
    url = f"http://{HOST}:{port}"
    print(f"URL     {url}\nSecret  {DEVELOPMENT_SECRET}\n\nSend an event from another terminal:\n")
    print(_curl(url), flush=True)
    print(flush=True)
    environment = {name: value for name, value in os.environ.items() if name != "WEBHOOK_SECRET_FILE"}
    environment |= {"WEBHOOK_SECRET": DEVELOPMENT_SECRET, "DELIVERY": "inline"}
    command = [sys.executable, "-m", "functions_framework", "--target=receive", f"--source={source}"]
    os.execve(sys.executable, [*command, f"--host={HOST}", f"--port={port}"], environment)  # noqa: S606


def _free_port(text: str) -> int:
    """The port, if nothing listens there: the server itself would only try again and again."""
    if not text.isascii() or not text.isdigit() or not 0 < int(text) < 65536:
        raise CommandError(f"{text!r} is not a port: choose one from 1 to 65535")
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, int(text)))
        except OSError as error:
            raise CommandError(
                f"port {text} can't be used ({error.strerror}): choose another one, e.g. PORT=8081 make run"
            ) from None
    return int(text)


def _curl(url: str) -> str:
    """A line for a shell, that works in whatever folder it is pasted."""
    options = ["-H", f"Authorization: Bearer {DEVELOPMENT_SECRET}", "-H", "Content-Type: application/json"]
    return shlex.join(["curl", "-sS", url, *options, "--data-binary", f"@{samples.path(SAMPLE)}"])
