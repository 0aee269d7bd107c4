"""The options `--set`, `--became` and `--event`, which change events before they are sent."""

import argparse
import json
from collections.abc import Iterable, Iterator
from typing import Any

from flowhook.cli.errors import CommandError
from flowhook.samples.overlay import Overlay


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="PROPERTY=VALUE",
        help="a property of the entity; VALUE is JSON or text: status=won, 'tags=[\"a\"]'; repeatable",
    )
    parser.add_argument(
        "--became",
        action="append",
        default=[],
        metavar="PROPERTY=OLD:NEW",
        help="an update of this property and no other, with its old state and mask; repeatable",
    )
    parser.add_argument(
        "--event",
        action="append",
        default=[],
        metavar="FIELD=VALUE",
        help="a field of the event, e.g. entityId=pk-1 or data.updateMask=null; repeatable",
    )


def read(arguments: argparse.Namespace) -> Overlay:
    """The overlay that the options describe. Raises CommandError for what is not NAME=VALUE."""
    return Overlay(
        properties={name: _value(text) for name, text in _pairs("--set", arguments.set)},
        became={name: _states(name, text) for name, text in _pairs("--became", arguments.became)},
        fields={name: _value(text) for name, text in _pairs("--event", arguments.event)},
    )


def _pairs(option: str, texts: Iterable[str]) -> Iterator[tuple[str, str]]:
    for text in texts:
        name, equals, value = text.partition("=")
        if not name or not equals:
            raise CommandError(f"{option} {text}: it must be NAME=VALUE, e.g. status=won")
        yield name, value


def _value(text: str) -> Any:
    """The value if the text is JSON, else the text itself."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _states(name: str, text: str) -> tuple[Any, Any]:
    """The old and the new value; the colon between them is the first one outside of JSON."""
    colons = [index for index, sign in enumerate(text) if sign == ":"]
    if not colons:
        raise CommandError(f"--became {name}={text}: it must be PROPERTY=OLD:NEW, e.g. status=open:won")
    halves = [(text[:at], text[at + 1 :]) for at in colons]
    old, new = next((pair for pair in halves if all(map(_is_json, pair))), halves[0])
    return _value(old), _value(new)


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True
