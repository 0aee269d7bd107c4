"""Serve the platform's webhook side on this machine: settings, events and deliveries, with a page.

  emulate                              the page on http://127.0.0.1:8090
  emulate --headless                   the HTTP API alone, for CI; GET /api lists it

What the page does, a running emulator can be told from here:

  emulate connect http://127.0.0.1:8080     send events there (--auth, --events, --secret-file, --paused)
  emulate disconnect http://127.0.0.1:8080  send nothing there any more
  emulate send packets.updated              let an event happen, wait for what becomes of it
  emulate send packets.updated --became status=open:won
  emulate send --file event.json            send a body as it is, to the byte
  emulate send --captured                   what `capture` wrote, to the byte
  emulate send --all                        one event of every type that is ticked
  emulate stream --count 1000 --rate 50     many; `emulate stop` ends it
  emulate live on                           let the organization live by itself
  emulate deliveries                        what was sent; `emulate clear` forgets what is finished
  emulate again 7                           send one once more
  emulate raw                               the Form RAW Response, for `check`

Exit status 1 where something was not delivered. Integrations and deliveries are kept in the file --data.
"""

import argparse
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from flowhook import samples
from flowhook.cli import overlays
from flowhook.cli import run as local
from flowhook.cli import send as sending
from flowhook.cli.arguments import positive
from flowhook.cli.errors import CommandError
from flowhook.cli.output import console, plain
from flows_emulator.client import Delivery, Emulator, EmulatorError
from flows_emulator.faults import FAULTS
from flows_emulator.retry import Backoff
from flows_emulator.server import HOST, PORT, Place, serve
from flows_emulator.store import StoreError

DATA = Path(".flows-emulator.sqlite3")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options and the actions."""
    parser.add_argument("--host", default=HOST, help="default: %(default)s, this machine alone")
    parser.add_argument("--port", type=int, default=PORT, help="default: %(default)s")
    parser.add_argument("--data", type=Path, default=DATA, help="the SQLite file; default: %(default)s")
    parser.add_argument("--headless", action="store_true", help="without the page")
    parser.add_argument(
        "--allow-host",
        action="append",
        default=[],
        metavar="NAME",
        help="a name that it is reached by; repeatable",
    )
    parser.add_argument(
        "--first-retry", type=positive(float), default=1.0, help="seconds; default: 1, then doubled"
    )
    parser.set_defaults(action=_serve)
    actions = parser.add_subparsers(metavar="ACTION")
    connect = _action(actions, "connect", _connect, "have events sent to an address")
    connect.add_argument("url")
    connect.add_argument(
        "--auth", default="bearer", help="any value of WEBHOOK_AUTH but auto; default: bearer"
    )
    connect.add_argument("--events", default="*", help="comma-separated patterns; default: all")
    connect.add_argument("--secret-file", type=Path, help="the secret is the first line of this file")
    connect.add_argument("--paused", action="store_true", help="keep the settings, and send nothing for now")
    disconnect = _action(actions, "disconnect", _disconnect, "remove the integration with an address")
    disconnect.add_argument("url")
    send = _action(actions, "send", _send, "let events happen, and wait for what becomes of them")
    send.add_argument("types", nargs="*", metavar="EVENT_TYPE")
    send.add_argument("--all", action="store_true", help="one of every type that is ticked")
    send.add_argument("--file", type=Path, action="append", default=[], help="a body from a file; repeatable")
    sending.add_captured(send)
    send.add_argument("--manner", default="", choices=[name for name in FAULTS if name], help="misbehave")
    overlays.add_arguments(send)
    stream = _action(
        actions, "stream", _stream, "let events happen by themselves, and wait until all are delivered"
    )
    stream.add_argument("types", nargs="*", metavar="EVENT_TYPE", help="default: all that are ticked")
    stream.add_argument("--count", type=positive(int), default=100, help="default: 100")
    stream.add_argument("--rate", type=positive(float), default=10.0, help="events a second; default: 10")
    stream.add_argument(
        "--patience", type=positive(float), default=600.0, help="seconds to wait at most; default: 600"
    )
    _action(actions, "stop", _stop, "end the stream that runs")
    live = _action(actions, "live", _live, "let the organization live by itself, or stop")
    live.add_argument("state", choices=("on", "off"))
    live.add_argument("--rate", type=positive(float), default=1.0, help="events a second; default: 1")
    listed = _action(actions, "deliveries", _deliveries, "list the newest deliveries")
    listed.add_argument("--limit", type=positive(int), default=20, help="default: 20")
    listed.add_argument("--state", default="", choices=("pending", "delivered", "failed"))
    listed.add_argument("--type", default="", help="an event type or a pattern, e.g. packets.*")
    listed.add_argument("--entity", default="", help="a part of the entity's path")
    listed.add_argument("--status", default="", help="of the last answer: 401, 4xx or none")
    listed.add_argument("--json", action="store_true", help="for a program")
    _action(actions, "clear", _clear, "forget the deliveries that are finished")
    again = _action(actions, "again", _again, "send the body of a delivery once more")
    again.add_argument("delivery", type=int)
    raw = _action(actions, "raw", _raw, "print the Form RAW Response")
    raw.add_argument("--integration", help="its id; default: the newest that is active")


def run(arguments: argparse.Namespace) -> int:
    """Serve, or do what the action says."""
    try:
        status: int = arguments.action(arguments)
    except (EmulatorError, StoreError) as error:
        raise CommandError(str(error)) from None
    return status


def _action(actions: Any, name: str, action: Any, summary: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = actions.add_parser(name, help=summary, description=summary.capitalize())
    default = os.environ.get("FLOWS_EMULATOR") or f"http://{HOST}:{PORT}"
    parser.add_argument(
        "--at", default=default, help="the emulator; default: FLOWS_EMULATOR, else %(default)s"
    )
    parser.set_defaults(action=action)
    return parser


def _serve(arguments: argparse.Namespace) -> int:
    if not 0 < arguments.port < 65536:
        raise CommandError(f"{arguments.port} is not a port: choose one from 1 to 65535")
    if local.listens(arguments.port):
        raise CommandError(
            f"something listens on port {arguments.port} already: choose another one with --port"
        )
    print(_welcome(arguments), flush=True)
    backoff = Backoff(first=arguments.first_retry)
    place = Place(arguments.host, arguments.port, arguments.allow_host, page=not arguments.headless)
    serve(arguments.data, place, backoff)
    return 0


def _welcome(arguments: argparse.Namespace) -> str:
    address = f"http://{arguments.host}:{arguments.port}"
    lines = (
        [f"API     {address}/api"] if arguments.headless else [f"Page    {address}", f"API     {address}/api"]
    )
    receiver, secret = f"http://{local.HOST}:{local.PORT}", local.DEVELOPMENT_SECRET
    hint = f"For `make run`, the address is {receiver} and the secret {secret}."
    return "\n".join([*lines, f"Data    {arguments.data}", "", hint])


def _connect(arguments: argparse.Namespace) -> int:
    secret = sending.secret_of(arguments.secret_file, arguments.url).decode()
    events = _types(part.strip() for part in arguments.events.split(",") if part.strip())
    kept = Emulator(arguments.at).connect(
        arguments.url, secret, auth=arguments.auth, events=events, paused=arguments.paused
    )
    does = "is paused, and would send" if arguments.paused else "sends"
    print(f"{kept['id']} {does} {len(kept['events'])} of {len(samples.TYPES)} event types to {kept['url']}")
    return 0


def _disconnect(arguments: argparse.Namespace) -> int:
    Emulator(arguments.at).disconnect(arguments.url)
    print(f"nothing is sent to {arguments.url} any more; `emulate connect` brings it back")
    return 0


def _send(arguments: argparse.Namespace) -> int:
    emulator, overlay = Emulator(arguments.at), overlays.read(arguments)
    if overlay and (arguments.file or arguments.captured or arguments.all):
        raise CommandError("--set, --became and --event go with event types, and with nothing else")
    done: list[Delivery] = []
    for event in sending.captured(arguments.captured):
        done += emulator.send(body=event.body, manner=arguments.manner)
    for path in arguments.file:
        done += emulator.send(body=_read(path), manner=arguments.manner)
    for event_type in _types(arguments.types):
        done += emulator.send(event_type, manner=arguments.manner, **asdict(overlay))
    if arguments.all:
        done += emulator.send_all(manner=arguments.manner)
    if not done:
        raise CommandError("nothing to send: name event types, or --all, --captured or --file")
    return _report(done)


def _stream(arguments: argparse.Namespace) -> int:
    emulator = Emulator(arguments.at)
    failed = emulator.state()["counts"]["failed"]
    emulator.stream(arguments.count, arguments.rate, _types(arguments.types))
    counts = emulator.settle(arguments.patience)
    lost = counts["failed"] - failed
    print(f"{arguments.count} events happened; {lost} deliveries failed for good")
    return 1 if lost else 0


def _stop(arguments: argparse.Namespace) -> int:
    Emulator(arguments.at).stop_stream()
    print("no stream runs")
    return 0


def _live(arguments: argparse.Namespace) -> int:
    emulator = Emulator(arguments.at)
    if arguments.state == "on":
        emulator.stream(None, arguments.rate, name="life")
    else:
        emulator.stop_stream("life")
    print(f"the organization's own life is {arguments.state}")
    return 0


def _deliveries(arguments: argparse.Namespace) -> int:
    selection = {name: getattr(arguments, name) for name in ("state", "type", "entity", "status")}
    found = Emulator(arguments.at).deliveries(arguments.limit, **selection)
    if arguments.json:
        print(json.dumps(found, indent=2))
    else:
        console().print(_table(found))
    return 0


def _clear(arguments: argparse.Namespace) -> int:
    Emulator(arguments.at).clear()
    print("what was finished is forgotten")
    return 0


def _again(arguments: argparse.Namespace) -> int:
    return _report(Emulator(arguments.at).again(arguments.delivery))


def _raw(arguments: argparse.Namespace) -> int:
    emulator = Emulator(arguments.at)
    known = emulator.state()["integrations"]
    if not known:
        raise CommandError("there is no integration yet: add one on the page or with `emulate connect`")
    # The newest of those that send, else of those that are paused, else of those that are removed.
    newest = max(enumerate(known), key=lambda item: (_sends(item[1]), item[0]))[1]
    print(json.dumps(emulator.raw(arguments.integration or newest["id"]), indent=2))
    return 0


def _sends(integration: Mapping[str, Any]) -> tuple[bool, bool]:
    """A sort key: first integrations that are removed, then paused ones, then those that send."""
    there = not integration["softRemoved"]
    return there, there and integration["status"] == "active"


def _types(patterns: Iterable[str]) -> list[str]:
    try:
        return samples.selected(patterns)
    except ValueError as mistake:
        raise CommandError(str(mistake)) from None


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise CommandError(f"{path} can't be read: {error.strerror}") from None


def _report(done: Sequence[Delivery]) -> int:
    console().print(_table([delivery.__dict__ for delivery in done]))
    return 0 if all(delivery.state == "delivered" for delivery in done) else 1


def _table(deliveries: Iterable[Mapping[str, Any]]) -> Table:
    table = Table(
        "ID", "EVENT", "ENTITY", "STATE", "STATUS", "MS", "ATTEMPTS", "ERROR", box=None, pad_edge=False
    )
    for told in deliveries:
        table.add_row(
            str(told["id"]),
            Text(plain(told["type"]) or "-"),
            Text(plain(told["entity"])),
            told["state"],
            str(told["status"] or "-"),
            f"{told['milliseconds']:.1f}",
            str(told["attempts"]),
            Text(plain(told["error"])),
        )
    return table
