"""Ports for what the tests start. Nobody else gets them, unlike those that the kernel chooses.

The kernel gives a free port to whoever asks next, also to the other worker of the tests or to a client's
connection, as long as the server that it is meant for doesn't listen yet. A test then talks to a server of
another test.
"""

import itertools
import os
import random
from contextlib import suppress

from flowhook.cli import run

# Above the usual ports of servers, and below those that the kernel chooses: 32768 to 60999 on Linux,
# https://docs.kernel.org/networking/ip-sysctl.html (ip_local_port_range).
FIRST = 10000
END = 32768
# Each worker of pytest-xdist has ports of its own, and starts anywhere: other tests may run beside these.
_PORTS = range(
    FIRST + int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")),
    END,
    int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1")),
)
_POSITIONS = itertools.count(random.randrange(len(_PORTS)))


def free_port() -> int:
    """A port on loopback where nobody listens; another one with each call, until all have been given out."""
    for position in itertools.islice(_POSITIONS, len(_PORTS)):
        with suppress(OSError):
            return run.free_port(_PORTS[position % len(_PORTS)])
    raise AssertionError(f"something listens on each port from {FIRST} to {END - 1}")
