"""Getting a token from Google when that hangs, or when the loop's own threads do."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from google.auth.credentials import Credentials, TokenState
from google.auth.exceptions import DefaultCredentialsError

from flowhook.errors import PublishFailed
from flowhook.pubsub import credentials
from flowhook.pubsub.credentials import Finder, Tokens
from flowhook.pubsub.publisher import UnavailableError

# More than the loop has threads of its own.
OTHERS = 64


class Stub(Credentials):
    """Credentials without a token, until `refresh` has been called."""

    def __init__(self, before: Callable[[], object] = bool) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.before = before
        self.refreshed = 0

    @property
    def token_state(self) -> TokenState:
        return TokenState.FRESH if self.token else TokenState.INVALID

    def refresh(self, request: object) -> None:
        self.refreshed += 1
        self.before()
        self.token = "t"


@contextmanager
def full_threads() -> Iterator[threading.Event]:
    """The threads that are the loop's own, all of them busy until the end."""
    released = threading.Event()
    loop = asyncio.get_running_loop()
    for _ in range(OTHERS):
        loop.run_in_executor(None, released.wait, 20)
    try:
        yield released
    finally:
        released.set()


def test_threads_that_others_have_filled_keep_nobody_from_a_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(credentials, "_credentials", Stub)

    async def scenario() -> dict[str, str]:
        headers: dict[str, str] = {}
        with full_threads() as released:
            finder = Finder()
            tokens = await finder.find()
            await tokens.ready()
            assert not released.is_set()
        tokens.apply(headers)
        return headers

    assert asyncio.run(scenario()) == {"authorization": "Bearer t"}


def test_a_renewal_that_hangs_is_started_and_waited_for_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(credentials, "PATIENCE", 0.2)
    released = threading.Event()
    stub = Stub(lambda: released.wait(20))

    async def scenario() -> float:
        tokens = Tokens(stub)
        loop = asyncio.get_running_loop()
        began = loop.time()
        for _ in range(30):
            with pytest.raises(UnavailableError, match="no token yet"):
                await tokens.ready()
        waited = loop.time() - began
        released.set()
        assert tokens._renewals._result is not None
        await tokens._renewals._result
        await tokens.ready()
        return waited

    assert 0.2 <= asyncio.run(scenario()) < 3
    assert stub.refreshed == 1


def test_a_search_that_hangs_is_waited_for_once_and_one_that_fails_says_why(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(credentials, "PATIENCE", 0.2)
    released = threading.Event()

    def search(scopes: object) -> object:
        released.wait(20)
        raise DefaultCredentialsError("none here")

    monkeypatch.setattr("google.auth.default", search)

    async def scenario() -> None:
        finder = Finder()
        for _ in range(30):
            with pytest.raises(UnavailableError, match="no credentials yet"):
                await finder.find()
        released.set()
        with pytest.raises(PublishFailed, match="There are no credentials"):
            await asyncio.wait_for(_found(finder), 10)

    asyncio.run(scenario())


async def _found(finder: Finder) -> Tokens:
    while True:
        try:
            return await finder.find()
        except UnavailableError:
            await asyncio.sleep(0)
