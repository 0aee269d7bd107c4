"""Prove that a receiver works: with an event of the doctor's own, which no handler of yours gets.

  doctor --url URL                what HTTP shows: who is accepted, who is not
  doctor --url URL --project P --topic T --rejected-topic R
                                  and that what is accepted arrives in Pub/Sub, and behind it

Through subscriptions of its own, which it makes before and deletes afterwards, so that it takes nothing from
yours; as gcloud's login, or without gcloud as the machine's own. What it sends stays in the topics' own
subscriptions: an event with the entity key flowhook/doctor, and a body that is no event. `./deploy.sh status`
also compares what is deployed with what should be.

Exit status 1 if anything is not as it should be.
"""

import argparse
import hashlib
import secrets
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import httpx2
from rich.table import Table
from rich.text import Text

from flowhook import canary
from flowhook.cli import send
from flowhook.cli.arguments import LOOPBACK, require_url
from flowhook.cli.errors import CommandError
from flowhook.cli.output import console
from flowhook.cli.send import scheme_of
from flowhook.deploy import rest
from flowhook.deploy.clock import Clock
from flowhook.deploy.errors import DeployError
from flowhook.deploy.messages import Pulled, Tap, tapped
from flowhook.deploy.resources import Place
from flowhook.deploy.rest import Api
from flowhook.deploy.surroundings import Row
from flowhook.schemes import Scheme

__all__ = ["Receiver", "Topics", "examine", "report", "scheme_of"]

# Seconds for an answer, a cold start included; and for a message to arrive, retries of a push included.
ANSWER_TIMEOUT = 60.0
ARRIVAL_TIMEOUT = 120.0
# Statuses that may pass while grants and revisions take effect: Cloud Run admits nobody yet, doesn't know the
# service, has no instance, or flowhook may not publish yet. A 401 is flowhook's own, and doesn't pass.
NOT_YET = frozenset({403, 404, 429, 500, 502, 503, 504})


@dataclass(frozen=True)
class Bodies:
    """The bodies of one examination; a random part makes them different from all others."""

    event: bytes
    malformed: bytes

    @classmethod
    def new(cls) -> "Bodies":
        """New bodies, with a new random part."""
        nonce = secrets.token_hex(8)
        return cls(canary.body(nonce), f"flowhook/doctor {nonce}: this is no JSON".encode())

    @property
    def digest(self) -> str:
        """The SHA-256 of the malformed body, which its message has as the attribute `id`."""
        return hashlib.sha256(self.malformed).hexdigest()


@dataclass(frozen=True)
class Topics:
    """The topics to look into behind the receiver; an empty id means no topic."""

    api: Api
    place: Place
    events: str
    rejected: str


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--url", required=True, help="of the receiver")
    parser.add_argument("--auth", default="bearer", help="as for send; default: bearer")
    parser.add_argument("--secret-file", type=Path, help="as for send")
    parser.add_argument("--project", help="the project of the topics")
    parser.add_argument("--topic", help="the id of the topic that events are published to")
    parser.add_argument("--rejected-topic", help="the id of REJECTED_TOPIC")


def run(arguments: argparse.Namespace) -> int:
    """Send, look, print a table, and return 0 if all is well."""
    if bool(arguments.project) != bool(arguments.topic or arguments.rejected_topic):
        raise CommandError("--project goes with --topic or --rejected-topic")
    scheme = scheme_of(arguments.auth)
    secret = send.secret_of(arguments.secret_file, arguments.url)
    try:
        with Receiver(arguments.url, scheme, secret) as receiver:
            rows = [*examine(receiver, _topics(arguments), ARRIVAL_TIMEOUT)]
    except DeployError as error:
        raise CommandError(str(error)) from None
    report(rows, arguments.url)
    return 0 if all(row.ok for row in rows) else 1


def _topics(arguments: argparse.Namespace) -> Topics | None:
    if not arguments.project:
        return None
    api = Api(rest.login(), Clock(), _tell, arguments.project)
    place = Place(arguments.project, "", "", "")
    return Topics(api, place, arguments.topic or "", arguments.rejected_topic or "")


def _tell(text: str) -> None:
    print(text, file=sys.stderr)


class Receiver:
    """A receiver's URL, and how to sign for it."""

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


def examine(receiver: Receiver, topics: Topics | None, patience: float) -> Iterator[Row]:
    """Send the bodies and yield a row for each check; wait up to `patience` seconds for late results."""
    bodies = Bodies.new()
    with ExitStack() as taps:
        # Create both before anything is sent: a subscription only gets what is published after that.
        events = _tapped(
            taps, topics, topics.events if topics else "", f'attributes.entity_key = "{canary.KEY}"'
        )
        rejected = _tapped(taps, topics, topics.rejected if topics else "", _rejects(bodies))
        answer = _accepted(receiver, bodies, topics, patience)
        yield _with_outcome(answer, "published" if events else "")
        wrong = secrets.token_bytes(24).hex().encode()
        yield _status("a wrong secret is refused", receiver.post(bodies.event, wrong), {401})
        yield _status("no secret is refused", receiver.post(bodies.event, b""), {401})
        malformed = receiver.post(bodies.malformed)
        yield _status("a malformed body is refused", malformed, {400, 415, 422})
        if answer.status_code == 200:
            yield from _arrivals(bodies, events, rejected, patience)


def _tapped(taps: ExitStack, topics: Topics | None, topic: str, filter_: str) -> Tap | None:
    if not topics or not topic:
        return None
    return taps.enter_context(tapped(topics.api, topics.place, topic, filter_))


def _rejects(bodies: Bodies) -> str:
    return f'attributes.id = "{bodies.digest}" OR attributes.handler = "{canary.HANDLER}"'


def _accepted(receiver: Receiver, bodies: Bodies, topics: Topics | None, patience: float) -> httpx2.Response:
    """The answer to a signed event; with `topics`, it is sent again while the status is one of NOT_YET."""
    answer = receiver.post(bodies.event)
    if not topics or answer.status_code not in NOT_YET:
        return answer
    topics.api.tell(f"Waiting up to {patience / 60:.0f} minutes for an event to be accepted.")
    for _ in topics.api.clock.pauses(patience):
        answer = receiver.post(bodies.event)
        if answer.status_code not in NOT_YET:
            break
    return answer


def _with_outcome(response: httpx2.Response, outcome: str) -> Row:
    row = _status("a signed event is accepted", response, {200})
    if not row.ok:
        return row
    document = response.json()
    said = document.get("outcome") if isinstance(document, dict) else None
    return row._replace(ok=not outcome or said == outcome, seen=f"200 {said}")


def _status(what: str, response: httpx2.Response, expected: set[int]) -> Row:
    return Row(what, response.status_code in expected, str(response.status_code))


def _arrivals(bodies: Bodies, events: Tap | None, rejected: Tap | None, patience: float) -> Iterator[Row]:
    """The checks in Pub/Sub; the built-in handler rejects the event, which `rejected` gets as well."""
    if events:
        yield _arrival("the event is in its topic", events, lambda m: m.data == bodies.event, patience)
    if rejected:
        kept = lambda m: m.attributes.get("id") == bodies.digest  # noqa: E731 - as the one below
        yield _arrival("the malformed body is kept", rejected, kept, patience)
        where = "consume" if events else "receive"
        yield _arrival(
            f"a handler ran in {where}, and could keep what it rejected",
            rejected,
            lambda m: m.data == bodies.event and m.attributes.get("handler") == canary.HANDLER,
            patience,
        )


def _arrival(what: str, tap: Tap, ours: Callable[[Pulled], bool], patience: float) -> Row:
    started = tap.clock.now()
    arrived = tap.wait(ours, patience)
    return Row(what, arrived, f"{'after' if arrived else 'not after'} {tap.clock.now() - started:.0f} s")


def report(rows: Sequence[Row], url: str) -> None:
    """Show the table, and what to do next."""
    out = console()
    table = Table("CHECK", "", "SEEN", box=None, pad_edge=False)
    for row in rows:
        table.add_row(Text(row.what), "[green]ok[/]" if row.ok else "[red]FAILED[/]", Text(row.seen))
    out.print(table)
    failed = sum(not row.ok for row in rows)
    if failed:
        out.print(f"\n{failed} of {len(rows)} are not as they should be.")
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
