"""The secret file: when it is read, what is believed, and for how long."""

import asyncio
from pathlib import Path

import pytest

from flowhook import secret
from flowhook.secret import SecretFile
from tests.support.clock import Clock


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "secrets"
    file.write_bytes(b"old\n")
    return file


def test_the_hot_path_never_reads(path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    secrets = SecretFile(path, clock)
    monkeypatch.setattr(secret, "read_secrets", lambda _path: pytest.fail("it was read"))
    clock.now += SecretFile.REREAD_AFTER
    assert asyncio.run(secrets.accepted()) == (b"old",)


def test_a_request_after_a_while_starts_a_read_and_does_not_wait_for_it(path: Path, clock: Clock) -> None:
    async def scenario() -> None:
        secrets = SecretFile(path, clock)
        path.write_bytes(b"new")
        clock.now += SecretFile.REREAD_AFTER + 1
        assert await secrets.accepted() == (b"old",)
        assert secrets._reading is not None
        await secrets._reading
        assert await secrets.accepted() == (b"new",)

    asyncio.run(scenario())


def test_an_instance_that_slept_reads_before_it_believes(path: Path, clock: Clock) -> None:
    async def scenario() -> None:
        secrets = SecretFile(path, clock)
        path.write_bytes(b"new")
        clock.now += SecretFile.BELIEVED_FOR + 1
        assert await secrets.accepted() == (b"new",)

    asyncio.run(scenario())


def test_wrong_secrets_cause_one_read_a_second_at_most(
    path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads: list[Path] = []

    def read(file: Path) -> tuple[bytes, ...]:
        reads.append(file)
        return (b"old",)

    async def scenario() -> None:
        secrets = SecretFile(path, clock)
        reads.clear()
        for _ in range(100):
            await asyncio.gather(*(secrets.renewed() for _ in range(10)))
            clock.now += 0.05

    monkeypatch.setattr(secret, "read_secrets", read)
    asyncio.run(scenario())
    assert len(reads) <= 5


def test_a_file_that_is_gone_is_believed_no_more_and_comes_back(path: Path, clock: Clock) -> None:
    async def scenario() -> None:
        secrets = SecretFile(path, clock)
        path.unlink()
        clock.now += SecretFile.PAUSE + 1
        assert await secrets.renewed() == ()
        path.write_bytes(b"back")
        clock.now += SecretFile.PAUSE + 1
        assert await secrets.renewed() == (b"back",)

    asyncio.run(scenario())


def test_a_read_that_hangs_holds_nobody_and_nothing_stale_is_accepted(
    path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        secrets = SecretFile(path, clock)
        monkeypatch.setattr(secrets, "PATIENCE", 0.05)
        hanging = asyncio.Event()
        monkeypatch.setattr(secrets, "_read", hanging.wait)
        clock.now += SecretFile.PAUSE + 1
        assert await secrets.renewed() == (b"old",)
        clock.now += SecretFile.BELIEVED_FOR
        assert await secrets.accepted() == ()
        hanging.set()

    asyncio.run(scenario())
