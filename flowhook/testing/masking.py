"""Masks events: what is not the platform's own vocabulary becomes a pseudonym.

A pseudonym has the length and the shape of the original, and is the same wherever that occurs. It is made
with a key (HMAC-SHA256), so without the key nobody can find the original by trying. Timestamps are all moved
by the same time, so that their order and their distances stay.
"""

import hashlib
import hmac
import math
import re
import string
from collections.abc import Collection, Iterator, Mapping
from datetime import date, datetime, timedelta
from typing import Any, NamedTuple

from flowhook.categories import OPERATIONS, TABLE

# Segments of paths and keys that are the platform's own words.
COLLECTIONS = frozenset({"flows", *(row.collection for row in TABLE)})
DATA_FIELDS = frozenset({"value", "oldValue", "updateMask"})
STATE_FIELDS = frozenset({"key", "properties", "createTime", "updateTime"})
ENVELOPE_FIELDS = frozenset(
    {
        "eventTimestamp",
        "operationType",
        "entityPath",
        "entityId",
        "entityKey",
        "collectionPath",
        "organizationId",
        "entityComments",
        "data",
    }
)
PATHS = frozenset({"collectionPath", "entityKey", "entityPath"})
MOMENT = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d(:\d\d(\.\d+)?)?([Zz]|[+-]\d\d:?\d\d)?")
DAY = re.compile(r"\d{4}-\d\d-\d\d")
WEB = re.compile(r"https?://|mailto:")
# The form of a name that the platform may give a new field; any other name is somebody's text.
FIELD = re.compile(r"[a-z][A-Za-z]{0,39}")
LETTERS = "äöüßéèñøåçłžабвгдежзиклмнопрстαβγδεζηθ語文字東京한국어"
PICTURES = "🎈🌟🍀🎁🌈🔔🎵🍎🌻🚀"
# After this many attempts, no pseudonym of the length is taken to be free; from SHAPELESS on, shapes are
# ignored.
TRIES = 64
SHAPELESS = 8


class Choice(NamedTuple):
    """What is not masked: the values and names of these properties, these names alone, and numbers."""

    values: Collection[str] = ()
    names: Collection[str] = ()
    numbers: bool = False


class Masks:
    """Masks documents with one key. `taken` are originals that no pseudonym may equal."""

    def __init__(
        self, key: bytes, known: Collection[str], choice: Choice, taken: Collection[str] = ()
    ) -> None:
        self._key = key
        self._names = {*known, *choice.names, *choice.values}
        self._choice = choice
        self._taken = taken
        # The pseudonyms by original, and which are in use: no two originals share one.
        self._made: dict[str, str] = {}
        self._given: set[str] = set()
        # Years, so that no timestamp stays near its original.
        self._moved = timedelta(
            days=1_000 + self._number("days", 3_000), seconds=self._number("seconds", 86_400)
        )
        self.longer = 0

    def event(self, document: Mapping[str, Any]) -> dict[str, Any]:
        """The masked event."""
        return {self.field(name): self._envelope(name, value) for name, value in document.items()}

    def field(self, name: str) -> str:
        """The name of an unknown field: unchanged where it could be the platform's, else a pseudonym."""
        return name if FIELD.fullmatch(name) else self.text(name)

    def name(self, name: str) -> str:
        """The name of a property: a customer's own words, unless it is known."""
        return name if name in self._names else self.text(name)

    def text(self, original: str) -> str:
        """The pseudonym of a text; an empty text stays."""
        if not original:
            return original
        if MOMENT.fullmatch(original) or DAY.fullmatch(original):
            return self._moment(original)
        if _is_path(original):
            return "/".join(part if part in COLLECTIONS else self._word(part) for part in original.split("/"))
        web = WEB.match(original)
        begin = web.group() if web else ""
        return begin + self._word(original[len(begin) :])

    # The levels of an event

    def _envelope(self, name: str, value: Any) -> Any:
        if name == "data" and isinstance(value, Mapping):
            return {self.field(inner): self._data(inner, part) for inner, part in value.items()}
        if name == "operationType" and value in OPERATIONS:
            return value
        # A path of one collection has no slash, so `text` would mask it as a word.
        return value if name in PATHS and value in COLLECTIONS else self._any(value)

    def _data(self, name: str, value: Any) -> Any:
        if name in ("value", "oldValue") and isinstance(value, Mapping):
            return {self.field(inner): self._state(inner, part) for inner, part in value.items()}
        if name == "updateMask" and isinstance(value, list):
            return [self._mask(part) if isinstance(part, str) else self._any(part) for part in value]
        return self._any(value)

    def _state(self, name: str, value: Any) -> Any:
        if name == "properties" and isinstance(value, Mapping):
            return {self.name(inner): self._property(inner, part) for inner, part in value.items()}
        return self._any(value)

    def _property(self, name: str, value: Any) -> Any:
        return value if name in self._choice.values else self._any(value)

    def _mask(self, path: str) -> str:
        return ".".join(part if part in STATE_FIELDS else self.name(part) for part in path.split("."))

    def _any(self, value: Any) -> Any:
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, Mapping):
            return {self.name(name): self._property(name, part) for name, part in value.items()}
        if isinstance(value, list):
            return [self._any(part) for part in value]
        if isinstance(value, bool) or value is None:
            return value
        return value if self._choice.numbers and math.isfinite(value) else self._digits(value)

    # Pseudonyms

    def _word(self, original: str) -> str:
        if not original:
            return original
        if original not in self._made:
            self._made[original] = word = self._new_word(original)
            self._given.add(word)
        return self._made[original]

    def _new_word(self, original: str) -> str:
        for attempt in range(TRIES):
            word = "".join(self._signs(original, attempt))
            if word != original and word not in self._taken and word not in self._given:
                return word
        # No pseudonym of this length is free, for example of one letter.
        self.longer += 1
        return self._new_word(f"{original}xx")

    def _signs(self, original: str, attempt: int) -> Iterator[str]:
        stream = _stream(self._key, f"word {attempt} {original}")
        for sign in original:
            alphabet = string.ascii_lowercase if attempt >= SHAPELESS else _alphabet(sign)
            yield alphabet[next(stream) % len(alphabet)] if alphabet else sign

    def _moment(self, original: str) -> str:
        """The moved timestamp in its original form; masked as a word where it is no date."""
        day, time = original[:10], original[10:]
        try:
            if not time:
                return (date.fromisoformat(day) - timedelta(days=self._moved.days)).isoformat()
            # Only whole seconds are moved: the fraction and the zone stay.
            seconds = time[1:9] if time[6:7] == ":" else f"{time[1:6]}:00"
            moved = datetime.fromisoformat(f"{day}T{seconds}") - self._moved
        except (ValueError, OverflowError):
            return self._word(original)
        shown = moved.strftime("%H:%M:%S")[: len(seconds) if time[6:7] == ":" else 5]
        return f"{moved.date().isoformat()}{time[0]}{shown}{time[1 + len(shown) :]}"

    def _digits(self, value: float) -> float:
        """A number with as many digits; 0 stays, and a number in another notation (`1e300`) becomes 1.0."""
        text = repr(value)
        if value == 0 or not re.fullmatch(r"-?\d+(\.\d+)?", text):
            return value if value == 0 else 1.0
        stream = _stream(self._key, f"number {text}")
        drawn = "".join("123456789"[next(stream) % 9] if sign.isdigit() else sign for sign in text)
        return float(drawn) if isinstance(value, float) else int(drawn)

    def _number(self, what: str, below: int) -> int:
        digest = hmac.digest(self._key, what.encode(), hashlib.sha256)
        return int.from_bytes(digest[:8]) % below


def texts(value: Any) -> Iterator[str]:
    """Every text in a document, names of fields too, and the segments of those that are paths."""
    if isinstance(value, str):
        yield value
        if _is_path(value):
            yield from value.split("/")
    elif isinstance(value, Mapping):
        for name, part in value.items():
            yield name
            yield from texts(part)
    elif isinstance(value, list):
        for part in value:
            yield from texts(part)


def is_vocabulary(text: str, names: Collection[str]) -> bool:
    """Whether a text has only the platform's words: its fields, collections and operations."""
    if (
        not text
        or text in OPERATIONS
        or text in names
        or text in ENVELOPE_FIELDS | DATA_FIELDS | STATE_FIELDS
    ):
        return True
    return all(part in COLLECTIONS for part in text.split("/"))


def _is_path(text: str) -> bool:
    return "/" in text and any(part in COLLECTIONS for part in text.split("/"))


def _alphabet(sign: str) -> str:
    if sign in string.ascii_lowercase:
        return string.ascii_lowercase
    if sign in string.ascii_uppercase:
        return string.ascii_uppercase
    if sign in string.digits:
        return string.digits
    if sign.isascii() or sign.isspace():
        # Spaces and punctuation stay.
        return ""
    return LETTERS if sign.isalnum() else PICTURES


def _stream(key: bytes, text: str) -> Iterator[int]:
    """An endless stream of numbers below 65,536, determined by the key and the text."""
    encoded = text.encode("utf-8", "surrogatepass")
    counter = 0
    while True:
        block = hmac.digest(key, counter.to_bytes(8) + encoded, hashlib.sha256)
        yield from (block[index] << 8 | block[index + 1] for index in range(0, len(block), 2))
        counter += 1
