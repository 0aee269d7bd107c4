"""What the handlers of a test change."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any


class World:
    """The state outside of the process, which a crash of the process doesn't change."""

    def __init__(self) -> None:
        self.posts: list[Any] = []
        self.counts: dict[str, int] = {}
        self.status: dict[str, Any] = {}
        self.seen: dict[str, datetime] = {}
        self.ids: set[str] = set()
        self.down = False

    def clear(self) -> None:
        self.__init__()  # type: ignore[misc]

    def post(self, what: Any) -> None:
        if self.down:
            raise ConnectionError("the CRM does not answer")
        self.posts.append(what)

    @contextmanager
    def failing(self) -> Iterator[None]:
        self.down = True
        yield
        self.down = False
