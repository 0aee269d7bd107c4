"""Make fixtures for tests of real events, without what they say.

  capture --subscription NAME --project PROJECT     what waits there, dead letters for example; it stays there
  capture --export events.jsonl                     a file of JSON lines, or a folder of JSON
  capture --emulator http://127.0.0.1:8090          what the emulator has sent

Every text that is not the platform's own word becomes a pseudonym of its length and shape, the same wherever
it comes; moments are moved together; numbers get other digits. Unknown names of properties are masked too,
for they may be your customers' words. What --keep, --keep-name and --keep-numbers leave as it is, is shown
before anything is written, and asked about. Structure, types, lengths and relations stay.

A report says what the events have that the models and samples don't, in counts and without a value.
"""

import argparse
import json
import os
import secrets
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flowhook import events
from flowhook.cli import capture_sources
from flowhook.cli.errors import CommandError
from flowhook.cli.output import plain
from flowhook.errors import Refused
from flowhook.testing.captures import FOLDER
from flowhook.testing.lacking import Lacking, known_names
from flowhook.testing.masking import Choice, Masks, is_vocabulary, texts

# Bytes of the key, and the least length of an original that is searched for inside other texts.
KEY = 32
SHORTEST = 5
LIMIT = 1_000


@dataclass(frozen=True)
class Found:
    """Real events, each once and ordered by time, and how many bodies were no events or repeated one."""

    documents: Sequence[Mapping[str, Any]]
    refused: int
    repeated: int


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--subscription", metavar="NAME", help="a subscription; nothing is acknowledged")
    source.add_argument("--export", type=Path, metavar="PATH", help="a file or a folder")
    source.add_argument("--emulator", metavar="URL", help="the emulator's address")
    parser.add_argument(
        "--project", default=os.environ.get("GOOGLE_CLOUD_PROJECT", ""), help="of the subscription"
    )
    parser.add_argument("--limit", type=int, default=LIMIT, help="events at most; default: %(default)s")
    parser.add_argument(
        "--keep", action="append", default=[], metavar="NAME", help="keep this property's value"
    )
    parser.add_argument(
        "--keep-name", action="append", default=[], metavar="NAME", help="keep this name, and mask its value"
    )
    parser.add_argument("--keep-numbers", action="store_true", help="keep numbers as they are")
    parser.add_argument(
        "--key-file",
        type=Path,
        help="keep the key there, for the same pseudonyms next time; default: forget it",
    )
    parser.add_argument("--into", type=Path, default=FOLDER, help="the folder; default: %(default)s")
    parser.add_argument("--name", default="events", help="of the file; default: %(default)s")
    parser.add_argument("--replace", action="store_true", help="write over a file that is there")
    parser.add_argument("--report", type=Path, metavar="FILE", help="write the report there too")
    parser.add_argument("--dry-run", action="store_true", help="show everything, write nothing")
    parser.add_argument("--yes", action="store_true", help="don't ask about what is kept")


def run(arguments: argparse.Namespace) -> int:
    """Capture, show what is kept, and write."""
    path: Path = arguments.into / f"{arguments.name}.jsonl"
    if path.exists() and not (arguments.replace or arguments.dry_run):
        raise CommandError(f"{path} is there already: choose another --name, or --replace")
    found = read(_source(arguments), arguments.limit)
    choice = Choice(arguments.keep, arguments.keep_name, arguments.keep_numbers)
    originals = {text for document in found.documents for text in texts(document)}
    masks = Masks(_key(arguments.key_file), known_names(), choice, originals)
    lines = [json.dumps(masks.event(document), ensure_ascii=False) for document in found.documents]
    kept = sorted({shown for document in found.documents for shown in _kept(document, choice)})
    _require_nothing_left(lines, originals, {*known_names(), *choice.names, *choice.values}, kept)
    report = _report(found, masks)
    _show(found, masks, kept, report)
    if arguments.dry_run:
        print(f"Nothing is written: without --dry-run it is {path}.")
        return 0
    _confirm(kept, yes=arguments.yes)
    _write(path, lines)
    if arguments.report:
        _write(arguments.report, report)
    print(f"{len(lines)} events are in {path}.")
    return 0


def read(bodies: Iterable[bytes], limit: int) -> Found:
    """The events among the bodies, `limit` at most. Raises CommandError if there is none."""
    documents: dict[str, Mapping[str, Any]] = {}
    moments: dict[str, Any] = {}
    refused = repeated = 0
    for body in bodies:
        try:
            event = events.parse(body)
        except Refused:
            refused += 1
            continue
        repeated += event.id in documents
        documents[event.id] = json.loads(events.mend(body).decode("utf-8-sig"))
        moments[event.id] = event.event_timestamp
        if len(documents) >= limit:
            break
    if not documents:
        raise CommandError(f"there is no event to capture ({refused} bodies are none)")
    ordered = sorted(documents, key=moments.__getitem__)
    return Found([documents[identifier] for identifier in ordered], refused, repeated)


def _source(arguments: argparse.Namespace) -> Iterator[bytes]:
    if arguments.limit < 1:
        raise CommandError("--limit must be 1 or more")
    if arguments.export:
        return capture_sources.from_export(arguments.export)
    if arguments.emulator:
        return capture_sources.from_emulator(arguments.emulator, arguments.limit)
    if not arguments.project:
        raise CommandError("whose subscription? Give --project")
    return capture_sources.from_subscription(arguments.project, arguments.subscription, arguments.limit)


def _key(path: Path | None) -> bytes:
    """The key in a file, which is created if missing; without a path, a new key that is stored nowhere.

    Raises CommandError if the file can't be used, or if git doesn't ignore it.
    """
    if path is None:
        return secrets.token_bytes(KEY)
    _require_ignored(path)
    try:
        if not path.exists():
            with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                file.write(secrets.token_hex(KEY).encode())
        key = bytes.fromhex(path.read_text().strip())
    except (OSError, ValueError) as error:
        raise CommandError(f"{path} can't be used as a key: {error}") from None
    if len(key) < KEY:
        raise CommandError(f"{path} is no key of {KEY} bytes in hex: remove it, and a new one is made")
    return key


def _require_ignored(path: Path) -> None:
    git = shutil.which("git")
    if not git:
        return
    folder = path.absolute().parent
    # git answers 0 for an ignored path, 1 for one that is not, and 128 outside of a repository.
    done = subprocess.run(  # noqa: S603 - no shell
        [git, "-C", str(folder), "check-ignore", "--quiet", str(path.absolute())],
        capture_output=True,
        check=False,
    )
    if done.returncode == 1:
        raise CommandError(f"git would take {path} along: have .gitignore name it, as it does .capture-key")


def _kept(document: Any, choice: Choice) -> Iterator[str]:
    """What the options leave unmasked, as it is shown to the user: `status: "won"`."""
    if isinstance(document, Mapping):
        for name, value in document.items():
            if name in choice.values:
                yield f"{name}: {json.dumps(value, ensure_ascii=False)}"
            else:
                if name in choice.names:
                    yield f"the name {name}"
                yield from (_named(name, shown) for shown in _kept(value, choice))
    elif isinstance(document, list):
        for part in document:
            yield from _kept(part, choice)
    elif choice.numbers and isinstance(document, (int, float)) and not isinstance(document, bool):
        yield json.dumps(document)


def _named(name: str, shown: str) -> str:
    """A number with the name of its property; a text that has a name already is returned unchanged."""
    return shown if ": " in shown or shown.startswith("the name ") else f"{name}: {shown}"


def _require_nothing_left(
    lines: Sequence[str], originals: Iterable[str], names: set[str], kept: Sequence[str]
) -> None:
    """Raise CommandError, before anything is written, if the lines contain an original to be masked."""
    written = {text for line in lines for text in texts(json.loads(line))}
    # Searching bytes is much faster than searching text that contains an emoji.
    whole, shown = "\n".join(lines).encode(), "\n".join(kept)
    left = 0
    for text in originals:
        if is_vocabulary(text, names) or text in shown:
            continue
        inside = len(text) >= SHORTEST and _inside(text) in whole
        left += text in written or inside
    if left:
        raise CommandError(f"{left} originals would be left in what is written, so nothing is: try again")


def _inside(text: str) -> bytes:
    """The text as it would appear within a line of JSON."""
    return json.dumps(text, ensure_ascii=False)[1:-1].encode("utf-8", "surrogatepass")


def _report(found: Found, masks: Masks) -> list[str]:
    lacking = Lacking(masks)
    for document in found.documents:
        lacking.count(document)
    return list(lacking.lines())


def _show(found: Found, masks: Masks, kept: Sequence[str], report: Sequence[str]) -> None:
    print(
        f"{len(found.documents)} events; {found.repeated} came again, {found.refused} bodies are no events."
    )
    print("Kept: structure, types, lengths, relations, booleans, and the platform's words.")
    if masks.longer:
        print(f"{masks.longer} short texts became longer: every one of their length is an original.")
    for line in kept:
        print(plain(f"Kept as it is: {line}"))
    print("\nWhat the events have, without a value:")
    for line in report:
        print(plain(f"  {line}"))


def _confirm(kept: Sequence[str], *, yes: bool) -> None:
    """Ask whether the unmasked values may be written. Raises CommandError without a yes."""
    if not kept or yes:
        return
    if not sys.stdin.isatty():
        raise CommandError("something is kept as it is: look at it above, then say --yes")
    if input(f"Write these {len(kept)} as they are? [y/N] ").strip().lower() not in ("y", "yes"):
        raise CommandError("nothing is written")


def _write(path: Path, lines: Sequence[str]) -> None:
    """Write a file as a whole or not at all."""
    beside = path.with_name(f".{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        beside.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        beside.replace(path)
    except OSError as error:
        raise CommandError(f"{path} can't be written: {error.strerror}") from None
