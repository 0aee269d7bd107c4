"""The secret file: when it is read, what is trusted, and for how long."""

import asyncio
import logging
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from flowhook import secret
from flowhook.errors import NoSecret
from flowhook.secret import SecretFile, is_void
from tests.support.clock import Clock

# Within the minute, more often than the log needs to say so.
SPOILT_READS = 10


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
        await secrets._reads.wait()
        assert await secrets.accepted() == (b"new",)

    asyncio.run(scenario())


def test_an_instance_that_slept_reads_before_it_trusts(path: Path, clock: Clock) -> None:
    async def scenario() -> None:
        secrets = SecretFile(path, clock)
        path.write_bytes(b"new")
        clock.now += SecretFile.TRUSTED_FOR + 1
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


def lose(path: Path) -> None:
    path.unlink()


def make_unreadable(path: Path) -> None:
    path.unlink()
    path.mkdir()


def empty(path: Path) -> None:
    path.write_bytes(b" \n\n")


def leave_a_void_one(path: Path) -> None:
    path.write_bytes(b"whsec_AAAA")


@pytest.mark.parametrize("spoil", [lose, make_unreadable, empty, leave_a_void_one])
def test_the_last_good_secrets_are_trusted_for_a_minute_and_then_none(
    path: Path, clock: Clock, caplog: pytest.LogCaptureFixture, spoil: Callable[[Path], None]
) -> None:
    async def scenario() -> None:
        secrets = SecretFile(path, clock)
        spoil(path)
        for _ in range(SPOILT_READS):
            clock.now += SecretFile.TRUSTED_FOR / SPOILT_READS
            assert await secrets.renewed() == (b"old",)
        clock.now += 0.001
        for ask in (secrets.accepted, secrets.renewed):
            with pytest.raises(NoSecret):
                await ask()

    asyncio.run(scenario())
    assert [record.levelname for record in caplog.records] == ["ERROR"]


@pytest.mark.parametrize("content", [b"old", b"new"])
def test_a_file_that_is_good_again_is_trusted_at_once(path: Path, clock: Clock, content: bytes) -> None:
    async def scenario() -> None:
        secrets = SecretFile(path, clock)
        path.unlink()
        clock.now += SecretFile.TRUSTED_FOR + 1
        with pytest.raises(NoSecret):
            await secrets.accepted()
        path.write_bytes(content)
        clock.now += SecretFile.PAUSE + 0.1
        assert await secrets.accepted() == (content,)

    asyncio.run(scenario())


def test_a_secret_that_is_removed_is_trusted_no_more_though_the_file_is_lost_next(
    path: Path, clock: Clock
) -> None:
    async def scenario() -> None:
        secrets = SecretFile(path, clock)
        path.write_bytes(b"new")
        clock.now += SecretFile.PAUSE + 0.1
        assert await secrets.renewed() == (b"new",)
        path.unlink()
        clock.now += SecretFile.PAUSE + 0.1
        assert await secrets.renewed() == (b"new",)

    asyncio.run(scenario())


def test_a_void_line_is_not_accepted_and_the_log_says_so_once(
    path: Path, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        secrets = SecretFile(path, clock)
        path.write_bytes(b"new\nwhsec_AAAA\n")
        for _ in range(3):
            clock.now += SecretFile.PAUSE + 0.1
            assert await secrets.renewed() == (b"new",)

    asyncio.run(scenario())
    errors = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert len(errors) == 1
    assert errors[0].startswith("1 lines of the secret file are not accepted")
    assert "AAAA" not in caplog.text


@pytest.mark.parametrize(
    "text", [b"whsec_AAAA", b"whsec_", b"whsec_AA==", b"AAAAAAAAAAAA", b"\0\0", b"whsec_\0"]
)
def test_a_key_of_zero_bytes_is_void(text: bytes) -> None:
    assert is_void(text)


@pytest.mark.parametrize("text", [b"whsec_AAAB", b"AAAAA", b"x", b"whsec_!", b"\0x", b"whsec", b"\xff"])
def test_another_key_is_not(text: bytes) -> None:
    assert not is_void(text)


def test_a_read_that_hangs_is_waited_for_and_logged_once_and_nothing_stale_is_accepted(
    path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    released = threading.Event()
    reads: list[Path] = []

    def hang(file: Path) -> tuple[bytes, ...]:
        reads.append(file)
        released.wait(20)
        return (b"stale",)

    async def scenario() -> None:
        monkeypatch.setattr(SecretFile, "PATIENCE", 0.3)
        secrets = SecretFile(path, clock)
        monkeypatch.setattr(secret, "read_secrets", hang)
        loop = asyncio.get_running_loop()
        began = loop.time()
        for _ in range(20):
            clock.now += SecretFile.PAUSE + 0.1
            assert set(await asyncio.gather(secrets.renewed(), secrets.accepted())) == {(b"old",)}
        clock.now += SecretFile.TRUSTED_FOR
        with pytest.raises(NoSecret):
            await secrets.accepted()
        assert loop.time() - began < 3
        released.set()
        assert secrets._reads._result is not None
        assert await secrets._reads._result == (b"stale",)
        # It may have read what was there when it began, more than a minute ago.
        monkeypatch.setattr(secrets, "_start_reading", bool)
        with pytest.raises(NoSecret):
            await secrets.accepted()

    asyncio.run(scenario())
    assert len(reads) == 1
    assert [r.getMessage() for r in caplog.records if "has taken more" in r.getMessage()] == [
        "Reading the secret file has taken more than 0.3 s; nobody waits for it any more"
    ]
