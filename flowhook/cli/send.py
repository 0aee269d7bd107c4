"""Send sample events, or events of yours, to a receiver.

  send --all                      one event of each type
  send packets.updated users.*    some types
  send --file event.json          a file, to the byte
  send --captured packets.*       what `capture` wrote into tests/captured, to the byte
  send packets.created --set status=won --set 'tags=["a"]' --event entityId=pk-1
  send packets.updated --became status=open:won
  send --all --count 1000 --rate 50

Exit status 1 if one of them was not accepted. The secret is that of WEBHOOK_SECRET or --secret-file; for a
receiver on this machine, without either, the one that `make run` uses.
"""

import argparse
import asyncio
import itertools
import json
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import httpx2
from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress
from rich.table import Table
from rich.text import Text

from flowhook import samples, schemes
from flowhook.cli import overlays
from flowhook.cli import run as serve
from flowhook.cli.arguments import LOOPBACK, positive, require_url
from flowhook.cli.errors import CommandError
from flowhook.cli.output import console
from flowhook.events import Event
from flowhook.samples.overlay import Overlay
from flowhook.schemes import Proof, Scheme
from flowhook.secret import read_secrets
from flowhook.testing import captures
from flowhook.version import VERSION

USER_AGENT = f"flowhook/{VERSION}"
# More answers than this are only summarized, not listed.
MOST_ROWS = 48


@dataclass(frozen=True)
class Letter:
    """Something to send: its name in the table, and a function that makes its body for each request."""

    name: str
    body: Callable[[], bytes]


@dataclass(frozen=True)
class Answer:
    """What came back; status 0 where nothing did."""

    name: str
    status: int
    milliseconds: float
    text: str


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument(
        "types", nargs="*", metavar="TYPE", help="event types, e.g. packets.updated or users.*"
    )
    parser.add_argument("--all", action="store_true", help=f"all {len(samples.TYPES)} event types")
    parser.add_argument(
        "--file", action="append", default=[], type=Path, help="a body from a file; repeatable"
    )
    add_captured(parser)
    overlays.add_arguments(parser)
    parser.add_argument("--url", default=f"http://{serve.HOST}:{serve.PORT}", help="default: %(default)s")
    parser.add_argument(
        "--auth",
        default="bearer",
        help="how the secret travels: any value of WEBHOOK_AUTH but auto; default: bearer",
    )
    parser.add_argument("--secret-file", type=Path, help="the secret is the first line of this file")
    parser.add_argument("--count", type=positive(int), help="how many events in all, the types taken in turn")
    parser.add_argument("--rate", type=positive(float), help="events a second; default: as fast as answered")
    parser.add_argument("--concurrency", type=positive(int), default=8, help="requests at a time; default: 8")
    parser.add_argument(
        "--timeout", type=positive(float), default=30.0, help="seconds for an answer; default: 30"
    )


def run(arguments: argparse.Namespace) -> int:
    """Send, print a table, and return 0 if all were accepted."""
    letters = _letters(arguments)
    scheme = scheme_of(arguments.auth)
    secret = secret_of(arguments.secret_file, arguments.url)
    count = arguments.count or len(letters)
    answers = asyncio.run(
        _send_all(arguments, scheme, secret, itertools.islice(itertools.cycle(letters), count), count)
    )
    _report(answers)
    return 0 if all(200 <= answer.status < 300 for answer in answers) else 1


def _letters(arguments: argparse.Namespace) -> list[Letter]:
    try:
        types = samples.selected(["*"] if arguments.all else arguments.types)
    except ValueError as error:
        raise CommandError(str(error)) from None
    overlay = overlays.read(arguments)
    letters = [Letter(name, _freshly(name, overlay)) for name in types]
    if overlay and (arguments.file or arguments.captured):
        raise CommandError("--set, --became and --event change samples; others are sent to the byte")
    letters += [_from_file(path) for path in arguments.file]
    letters += [Letter(event.type, lambda event=event: event.body) for event in captured(arguments.captured)]  # type: ignore[misc]
    if not letters:
        raise CommandError("nothing to send: name event types, or --all, --captured or --file")
    return letters


def add_captured(parser: argparse.ArgumentParser) -> None:
    """Declare --captured."""
    parser.add_argument(
        "--captured",
        nargs="?",
        const="*",
        metavar="PATTERN",
        help=f"the events in {captures.FOLDER}, all or those that a pattern selects",
    )


def captured(pattern: str | None) -> list[Event]:
    """The captured events that --captured means. Raises CommandError where it means none."""
    if pattern is None:
        return []
    try:
        found = captures.captured(pattern)
    except ValueError as mistake:
        raise CommandError(f"--captured: {mistake}") from None
    if not found:
        raise CommandError(f"nothing of {pattern} is captured in {captures.FOLDER}: see `capture --help`")
    return found


def _freshly(name: str, overlay: Overlay) -> Callable[[], bytes]:
    """A function that makes a sample with the present time, so that no two pass for a repeated delivery.

    Raises CommandError if the overlay doesn't fit.
    """

    def fresh() -> bytes:
        now = {"eventTimestamp": datetime.now(UTC).isoformat()}
        return json.dumps(overlay.apply({**sample, **now})).encode()

    sample = json.loads(samples.load(name))
    try:
        fresh()
    except ValueError as mistake:
        raise CommandError(f"{name}: {mistake}") from None
    return fresh


def _from_file(path: Path) -> Letter:
    try:
        body = path.read_bytes()
    except OSError as error:
        raise CommandError(f"{path} can't be read: {error.strerror}") from None
    return Letter(path.name, lambda: body)


def scheme_of(text: str) -> Scheme:
    """The scheme that --auth names. Raises CommandError if it can't sign."""
    try:
        scheme = schemes.parse(text)
    except ValueError as error:
        raise CommandError(f"--auth: {error}") from None
    if scheme is None:
        raise CommandError("--auth: auto is a way to check, not to sign; name one, e.g. bearer")
    return scheme


def secret_of(path: Path | None, url: str) -> bytes:
    """The secret to sign with, for a receiver at `url`. Raises CommandError if either can't be used."""
    parts = require_url(url)
    if path:
        try:
            secrets = read_secrets(path)
        except OSError as error:
            raise CommandError(f"{path} can't be read: {error.strerror}") from None
        if not secrets:
            raise CommandError(f"{path} holds no secret")
        return secrets[0]
    if secret := os.environ.get("WEBHOOK_SECRET", "").strip():
        return os.fsencode(secret)
    if parts.hostname in LOOPBACK:
        return serve.DEVELOPMENT_SECRET.encode()
    raise CommandError("which secret? Set WEBHOOK_SECRET or give --secret-file")


async def _send_all(
    arguments: argparse.Namespace, scheme: Scheme, secret: bytes, letters: Iterator[Letter], count: int
) -> list[Answer]:
    """Send from a few workers that share one queue, each letter no sooner than the rate allows."""
    answers: list[Answer] = []
    turns = enumerate(letters)
    started = time.monotonic()
    progress = Progress(
        *Progress.get_default_columns(),
        MofNCompleteColumn(),
        console=Console(stderr=True),
        disable=not (arguments.count or arguments.rate),
    )
    limits = httpx2.Limits(max_connections=arguments.concurrency)
    agent = {"user-agent": USER_AGENT}
    async with httpx2.AsyncClient(timeout=arguments.timeout, limits=limits, headers=agent) as client:
        bar = progress.add_task("Sending", total=count)

        async def work() -> None:
            for turn, letter in turns:
                if arguments.rate:
                    await asyncio.sleep(max(0.0, started + turn / arguments.rate - time.monotonic()))
                answers.append(await _send(client, arguments.url, scheme, secret, letter))
                progress.advance(bar)

        with progress:
            await asyncio.gather(*(work() for _ in range(min(arguments.concurrency, count))))
    return answers


async def _send(
    client: httpx2.AsyncClient, url: str, scheme: Scheme, secret: bytes, letter: Letter
) -> Answer:
    body = letter.body()
    proof = scheme.sign(secret, body)
    headers = {b"content-type": b"application/json", **proof.headers}
    signed_url = with_query(url, proof)
    started = time.perf_counter()
    try:
        response = await client.post(signed_url, content=body, headers=headers)
    except httpx2.UnsupportedProtocol:
        raise CommandError(f"{url} is not a URL: it begins with http:// or https://") from None
    except httpx2.HTTPError as error:
        status, text = 0, f"{type(error).__name__}: is the receiver running at {url}?"
    else:
        status, text = response.status_code, _describe(response)
    return Answer(letter.name, status, (time.perf_counter() - started) * 1000, text)


def with_query(url: str, proof: Proof) -> str:
    """The URL, with the proof's query if it has one."""
    return url + ("&" if "?" in url else "?") + proof.query.decode() if proof.query else url


def _describe(response: httpx2.Response) -> str:
    """What the receiver reports; for an answer that is not its own, the first line of the text."""
    try:
        document = response.json()
    except ValueError:
        return response.text.strip().partition("\n")[0][:80]
    if not isinstance(document, dict):
        return ""
    handlers = ", ".join(map(str, document.get("handlers") or []))
    said = (document.get("detail"), document.get("outcome"), handlers)
    return " · ".join(str(words) for words in said if words)


def _report(answers: list[Answer]) -> None:
    out = console()
    if len(answers) <= MOST_ROWS:
        out.print(_table(sorted(answers, key=lambda answer: answer.name)))
    accepted = sum(200 <= answer.status < 300 for answer in answers)
    times = sorted(answer.milliseconds for answer in answers)
    middle, late = times[len(times) // 2], times[min(len(times) - 1, len(times) * 99 // 100)]
    out.print(f"{accepted} of {len(answers)} accepted; p50 {middle:.1f} ms, p99 {late:.1f} ms")
    refused = Counter((answer.status, answer.text) for answer in answers if not 200 <= answer.status < 300)
    for (status, text), times_seen in refused.most_common(5):
        out.print(f"{times_seen} times {status or 'no answer'}: {text}", markup=False)


def _table(answers: list[Answer]) -> Table:
    table = Table("EVENT", "STATUS", "MS", "OUTCOME", box=None, pad_edge=False)
    for answer in answers:
        colour = "green" if 200 <= answer.status < 300 else "red"
        table.add_row(
            answer.name,
            f"[{colour}]{answer.status or '-'}[/]",
            f"{answer.milliseconds:.1f}",
            Text(answer.text),
        )
    return table
