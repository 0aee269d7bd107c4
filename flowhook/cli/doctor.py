"""Prove that a receiver works: with an event of the doctor's own, which no handler of yours gets.

  doctor --url URL                what HTTP shows: who is accepted, who is not
  doctor --url URL --project P --topic T --rejected-topic R
                                  and that what is accepted arrives in Pub/Sub, and behind it; with gcloud

Through subscriptions of its own, which it makes before and deletes afterwards, so that it takes nothing from
yours. What it sends stays in the topics' own subscriptions: an event with the entity key flowhook/doctor, and
a body that is no event. `./deploy.sh status` also compares what is deployed with what should be.

Exit status 1 if anything is not as it should be.
"""

import argparse
import hashlib
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import httpx2
from rich.table import Table
from rich.text import Text

from flowhook import canary
from flowhook.cli import send
from flowhook.cli.arguments import LOOPBACK, require_url
from flowhook.cli.errors import CommandError
from flowhook.cli.output import console
from flowhook.cli.tap import Tap, tapped
from flowhook.schemes import Scheme

# Seconds for an answer, a cold start included; and for a message to arrive, retries of a push included.
ANSWER_TIMEOUT = 60.0
ARRIVAL_TIMEOUT = 120.0


class Check(NamedTuple):
    """One line of the table."""

    what: str
    ok: bool
    seen: str


@dataclass(frozen=True)
class Visit:
    """The bodies of one visit: nobody else sends such."""

    event: bytes
    malformed: bytes

    @classmethod
    def new(cls) -> "Visit":
        """Bodies of their own."""
        nonce = secrets.token_hex(8)
        return cls(canary.body(nonce), f"flowhook/doctor {nonce}: this is no JSON".encode())


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--url", required=True, help="of the receiver")
    parser.add_argument("--auth", default="bearer", help="as for send; default: bearer")
    parser.add_argument("--secret-file", type=Path, help="as for send")
    parser.add_argument("--project", help="the project of the topics")
    parser.add_argument("--topic", help="the id of the topic that events are published to")
    parser.add_argument("--rejected-topic", help="the id of REJECTED_TOPIC")
    parser.add_argument("--found", type=Path, help="more lines for the table, as deploy.sh writes them")


def run(arguments: argparse.Namespace) -> int:
    """Send, look, print a table, and return 0 if all is well."""
    if bool(arguments.project) != bool(arguments.topic or arguments.rejected_topic):
        raise CommandError("--project goes with --topic or --rejected-topic")
    scheme = send.scheme_of(arguments.auth)
    secret = send.secret_of(arguments.secret_file, arguments.url)
    with Receiver(arguments.url, scheme, secret) as receiver:
        checks = [*_found(arguments.found), *_examine(arguments, receiver)]
    _report(checks, arguments.url)
    return 0 if all(check.ok for check in checks) else 1


class Receiver:
    """A receiver somewhere, and how to sign for it."""

    def __init__(self, url: str, scheme: Scheme, secret: bytes) -> None:
        self._url = url
        self._scheme = scheme
        self._secret = secret
        self._client = httpx2.Client(timeout=ANSWER_TIMEOUT)

    def __enter__(self) -> "Receiver":
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def post(self, body: bytes, secret: bytes | None = None) -> httpx2.Response:
        """Send a body, signed; with an empty secret it is not signed. Raises CommandError."""
        chosen = self._secret if secret is None else secret
        headers, url = {b"content-type": b"application/json"}, self._url
        if chosen:
            proof = self._scheme.sign(chosen, body)
            headers, url = {**headers, **proof.headers}, send.with_query(url, proof)
        try:
            return self._client.post(url, content=body, headers=headers)
        except (httpx2.UnsupportedProtocol, httpx2.InvalidURL):
            raise CommandError(f"{self._url} is not a URL: it begins with http:// or https://") from None
        except httpx2.HTTPError as error:
            raise CommandError(f"nothing answers at {self._url}: {type(error).__name__}") from None


def _examine(arguments: argparse.Namespace, receiver: Receiver) -> Iterator[Check]:
    visit = Visit.new()
    with ExitStack() as taps:
        # Both before anything is sent: a subscription gets what is published after it.
        events, rejected = (
            taps.enter_context(tapped(arguments.project, topic)) if topic else None
            for topic in (arguments.topic, arguments.rejected_topic)
        )
        answer = receiver.post(visit.event)
        yield _accepted(answer, "published" if events else "")
        yield _status(
            "a wrong secret is refused",
            receiver.post(visit.event, secrets.token_bytes(24).hex().encode()),
            {401},
        )
        yield _status("no secret is refused", receiver.post(visit.event, b""), {401})
        malformed = receiver.post(visit.malformed)
        yield _status("a malformed body is refused", malformed, {400, 415, 422})
        if answer.status_code == 200:
            yield from _arrivals(visit, events, rejected)


def _accepted(response: httpx2.Response, outcome: str) -> Check:
    check = _status("a signed event is accepted", response, {200})
    if not check.ok:
        return check
    document = response.json()
    said = document.get("outcome") if isinstance(document, dict) else None
    return check._replace(ok=not outcome or said == outcome, seen=f"200 {said}")


def _status(what: str, response: httpx2.Response, expected: set[int]) -> Check:
    return Check(what, response.status_code in expected, str(response.status_code))


def _arrivals(visit: Visit, events: Tap | None, rejected: Tap | None) -> Iterator[Check]:
    """What can be seen in Pub/Sub; `rejected` is also where the built-in handler puts the event."""
    if events:
        yield _arrival("the event is in its topic", events, lambda m: m.data == visit.event)
    if rejected:
        digest = hashlib.sha256(visit.malformed).hexdigest()
        yield _arrival("the malformed body is kept", rejected, lambda m: m.attributes.get("id") == digest)
        where = "consume" if events else "receive"
        yield _arrival(
            f"a handler ran in {where}, and could keep what it rejected",
            rejected,
            lambda m: m.data == visit.event and m.attributes.get("handler") == canary.HANDLER,
        )


def _arrival(what: str, tap: Tap, ours: Callable[..., bool]) -> Check:
    started = time.monotonic()
    arrived = tap.wait(ours, started + ARRIVAL_TIMEOUT)
    seconds = time.monotonic() - started
    return Check(what, arrived, f"{'after' if arrived else 'not after'} {seconds:.0f} s")


def _found(path: Path | None) -> Iterator[Check]:
    """The lines of deploy.sh: a status, `ok` or another one, a tab, and what it is about."""
    if path:
        for line in path.read_text().splitlines():
            status, _, what = line.partition("\t")
            yield Check(what, status == "ok", status)


def _report(checks: list[Check], url: str) -> None:
    out = console()
    table = Table("CHECK", "", "SEEN", box=None, pad_edge=False)
    for check in checks:
        table.add_row(Text(check.what), "[green]ok[/]" if check.ok else "[red]FAILED[/]", Text(check.seen))
    out.print(table)
    failed = sum(not check.ok for check in checks)
    if failed:
        out.print(f"\n{failed} of {len(checks)} are not as they should be.")
        return
    if require_url(url).hostname in LOOPBACK:
        out.print(f"\nAll is well. {url} is an address of this machine, which Flows can't reach.")
        out.print("Next: ./deploy.sh; or `python -m flowhook emulate`, which sends here as Flows would.")
        return
    out.print(f"\nAll is well. The URL for Flows:\n\n    {url}\n", soft_wrap=True)
    out.print(
        "Next, in Flows: Settings > Integrations > Webhook settings: provider Flows API webhook, this URL,"
    )
    out.print("the secret, the events that you want; then Save.")
