"""Generates bodies that are as large as allowed and as expensive to process as possible.

A shape is JSON text that fills any number of bytes; a place is a field of an event or a push to put it in.
"""

import base64
import json
from collections.abc import Callable, Iterator
from functools import partial

from flowhook import samples

MARK = b'"@"'
# Levels of nesting that the parser still accepts.
DEEP = 180
SCALARS = {
    "zeros": b"0",
    "nulls": b"null",
    "floats": b"1.5",
    "long numbers": b"9" * 4300,
    "integers of two words": b"9" * 20,
    "empty texts": b'""',
    "short texts": b'"ab"',
    "texts beyond ASCII": '"\u0100"'.encode(),
    "escaped texts": rb'"\n"',
    "empty lists": b"[]",
    "empty objects": b"{}",
    "lists of one": b"[0]",
    "lists of five": b"[0,0,0,0,0]",
    "objects of one": b'{"":0}',
    "objects of nine": b"{" + b",".join(b'"%d":0' % i for i in range(9)) + b"}",
    "objects with a name nine times": b"{" + b",".join([b'"":0'] * 9) + b"}",
    "deep lists": b"[" * DEEP + b"]" * DEEP,
    "deep objects": b'{"":' * DEEP + b"0" + b"}" * DEEP,
    "lists in objects in lists": b'[{"":' * (DEEP // 2) + b"0" + b"}]" * (DEEP // 2),
}
TEXTS = {
    "letters": b"a",
    "commas": b",",
    "brackets": b"[",
    "colons": b":",
    "slashes": b"ab/",
    "escaped backslashes": rb"\\",
    "pairs of surrogates": rb"\ud83d\ude00",
    "lone surrogates": rb"\ud83d",
    "lone surrogates between letters": rb"a\ud83d",
    "emojis": "\U0001f600".encode(),
    "escaped NULs": rb"\u0000",
}
NAMED = {"zeros": b"0", "empty objects": b"{}", "texts": b'"ab"'}


def shapes(size: int) -> Iterator[tuple[str, bytes]]:
    """Every shape by its name, each of about `size` bytes and no more."""
    for name, item in SCALARS.items():
        yield f"a list of {name}", b"[" + b",".join([item] * (size // (len(item) + 1) - 1)) + b"]"
    for name, piece in TEXTS.items():
        yield f"a text of {name}", b'"' + piece * ((size - 2) // len(piece)) + b'"'
    for name, value in NAMED.items():
        yield f"an object of {name}", _filled(size, value)
    yield "a list of distinct texts", b"[" + b",".join(_distinct(size)) + b"]"
    yield "a text with one emoji", '"\U0001f600'.encode() + b"a" * (size - 6) + b'"'
    yield "an object of one name", b"{" + b",".join([b'"":0'] * (size // 5 - 1)) + b"}"


def _distinct(size: int) -> Iterator[bytes]:
    return (b'"%06x"' % i for i in range(size // 9 - 1))


def _filled(size: int, value: bytes) -> bytes:
    count = size // (len(value) + 10) - 1
    return b"{" + b",".join(b'"%06x":%b' % (i, value) for i in range(count)) + b"}"


EVENT = json.loads(samples.load("users.updated"))
COMMENT = json.loads(samples.load("packet_comments.updated"))
Document = dict[str, object]


def _in_event(document: Document, **fields: object) -> bytes:
    return json.dumps({**document, **fields}).encode()


EVENTS = {
    "data.value.properties.x": _in_event(EVENT, data={"value": {"properties": {"x": "@"}}}),
    "data.value.properties": _in_event(EVENT, data={"value": {"properties": "@"}}),
    "data.oldValue.properties of a comment": _in_event(COMMENT, data={"oldValue": {"properties": "@"}}),
    "data.value": _in_event(EVENT, data={"value": "@"}),
    "data.updateMask": _in_event(EVENT, data={"updateMask": "@"}),
    "data": _in_event(EVENT, data="@"),
    "data of a comment": _in_event(COMMENT, data="@"),
    "entityComments": _in_event(COMMENT, data={}, entityComments="@"),
    "a new field": _in_event(EVENT, data={}, new="@"),
    **{name: _in_event(EVENT, data={}, **{name: "@"}) for name in EVENT if name != "data"},
    "the body": MARK,
}
_PUSH = {"data": base64.b64encode(json.dumps(EVENT).encode()).decode(), "attributes": {"a": "b"}}
PUSHES = {
    "message.attributes": json.dumps({"message": {**_PUSH, "attributes": "@"}}).encode(),
    "message.attributes.a": json.dumps({"message": {**_PUSH, "attributes": {"a": "@"}}}).encode(),
    "message.data": json.dumps({"message": {**_PUSH, "data": "@"}}).encode(),
    "message": json.dumps({"message": "@"}).encode(),
    "message.new": json.dumps({"message": {**_PUSH, "new": "@"}}).encode(),
    "deliveryAttempt": json.dumps({"message": _PUSH, "deliveryAttempt": "@"}).encode(),
    "subscription": json.dumps({"message": _PUSH, "subscription": "@"}).encode(),
    "the push": MARK,
}


def events(size: int) -> Iterator[tuple[str, Callable[[], bytes]]]:
    """Every shape in every field of an event: a name, and a function that makes it, `size` bytes at most."""
    return _placed(EVENTS, size)


def pushes(size: int) -> Iterator[tuple[str, Callable[[], bytes]]]:
    """Every shape in every field of a push, and every event in a push."""
    yield from _placed(PUSHES, size)
    for name, event in _placed(EVENTS, (size - 100) // 4 * 3):
        yield f"pushed: {name}", partial(_carried, event)


def carrying(data: bytes) -> bytes:
    """A push whose message has this data."""
    return b'{"message":{"data":"%b"},"deliveryAttempt":1}' % base64.b64encode(data)


def _carried(event: Callable[[], bytes]) -> bytes:
    return carrying(event())


def _placed(places: dict[str, bytes], size: int) -> Iterator[tuple[str, Callable[[], bytes]]]:
    for name, shape in shapes(size - 1_000):
        for place, around in places.items():
            yield f"{name} as {place}", partial(around.replace, MARK, shape)
