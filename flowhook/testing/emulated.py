"""The platform itself, emulated, for the tests of handlers."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from flows_emulator.client import Emulator


@pytest.fixture(scope="session")
def flows(tmp_path_factory: pytest.TempPathFactory) -> Iterator["Emulator"]:
    """The emulated platform, and `receive` with the handlers of this project behind it, both in processes.

    `[delivery] = flows.send("packets.updated")` sends an event and returns what became of it. Import the
    fixture in a `conftest.py`.
    """
    # Imported here, because tests of a handler alone don't need what the emulator needs.
    from flows_emulator import local  # noqa: PLC0415

    with local.flows(tmp_path_factory.mktemp("flows")) as started:
        yield started
