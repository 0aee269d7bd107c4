"""Cloud Logging's query language, as far as it is used here: see `LANGUAGE`.

Comparisons with AND, OR, NOT and brackets; a field may be compared with several values at once.
"""

import re
from collections.abc import Callable, Iterator
from typing import Any

from tests.support.google_cloud.exchange import Document, Refusal
from tests.support.google_cloud.timeline import seconds_of

LANGUAGE = "https://cloud.google.com/logging/docs/view/logging-query-language"
TOKEN = re.compile(r'\s*(AND\b|OR\b|NOT\b|>=|<=|!=|=~|!~|[()=<>:*]|"(?:[^"\\]|\\.)*"|[\w./-]+)')
TIMES = ("timestamp", "receiveTimestamp")
SEVERITIES = ("DEFAULT", "DEBUG", "INFO", "NOTICE", "WARNING", "ERROR", "CRITICAL", "ALERT", "EMERGENCY")
LONGEST = 20_000
Test = Callable[[Document], bool]


def parsed(text: str) -> Test:
    """What a filter takes. Raises Refusal where it is none."""
    if len(text) > LONGEST:
        raise Refusal(400, f"The filter is too long: {LANGUAGE}")
    if not text.strip():
        return lambda entry: True
    reader = _Reader(list(_tokens(text)))
    test = reader.either()
    if reader.left:
        raise Refusal(400, f"Unparseable filter: {' '.join(reader.left)}")
    return test


def _tokens(text: str) -> Iterator[str]:
    position = 0
    while text[position:].strip():
        found = TOKEN.match(text, position)
        if not found:
            raise Refusal(400, f"Unparseable filter at {text[position : position + 20]}")
        yield found[1]
        position = found.end()


class _Reader:
    def __init__(self, tokens: list[str]) -> None:
        self.left = tokens

    def either(self) -> Test:
        tests = [self._all()]
        while self._skip("OR"):
            tests.append(self._all())
        return lambda entry: any(test(entry) for test in tests)

    def _all(self) -> Test:
        tests = [self._one()]
        while self._skip("AND"):
            tests.append(self._one())
        return lambda entry: all(test(entry) for test in tests)

    def _one(self) -> Test:
        if self._skip("NOT"):
            negated = self._one()
            return lambda entry: not negated(entry)
        if self._skip("("):
            test = self.either()
            self._expect(")")
            return test
        return self._comparison()

    def _comparison(self) -> Test:
        field, operator, values = self._next(), self._next(), self._values()
        if operator not in (":", "=", "!=", ">=", "<=", ">", "<", "=~", "!~"):
            raise Refusal(400, f"Unparseable filter: {field} {operator}")
        return lambda entry: any(_compare(_found(entry, field), operator, value, field) for value in values)

    def _values(self) -> list[str]:
        if not self._skip("("):
            return [_text(self._next())]
        values = [_text(self._next())]
        while self._skip("OR"):
            values.append(_text(self._next()))
        self._expect(")")
        return values

    def _next(self) -> str:
        if not self.left:
            raise Refusal(400, "Unparseable filter: it ends too soon")
        return self.left.pop(0)

    def _skip(self, word: str) -> bool:
        if self.left[:1] == [word]:
            self.left.pop(0)
            return True
        return False

    def _expect(self, word: str) -> None:
        if not self._skip(word):
            raise Refusal(400, f"Unparseable filter: {word} is missing")


def _text(token: str) -> str:
    return re.sub(r"\\(.)", r"\1", token[1:-1]) if token.startswith('"') else token


def _found(entry: Document, path: str) -> Any:
    value: Any = entry
    for part in path.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return value


def _compare(found: Any, operator: str, value: str, field: str) -> bool:
    """Of a list it is enough that one item compares so; what is not there compares with nothing."""
    if operator == ":" and value == "*":
        return found is not None
    if isinstance(found, list):
        return any(_compare(item, operator, value, field) for item in found)
    if found is None:
        return operator in ("!=", "!~")
    if operator in (":", "=~", "!~"):
        matched = value in str(found) if operator == ":" else bool(re.search(value, str(found)))
        return matched != (operator == "!~")
    left, right = _comparable(found, field), _comparable(value, field)
    results: dict[str, bool] = {
        "=": left == right, "!=": left != right, ">=": left >= right, "<=": left <= right,
        ">": left > right, "<": left < right,
    }  # fmt: skip
    return results[operator]


def _comparable(value: Any, field: str) -> Any:
    if field in TIMES:
        return seconds_of(value)
    if field == "severity":
        return SEVERITIES.index(value)
    return float(value) if isinstance(value, (int, float)) or re.fullmatch(r"-?\d+(\.\d+)?", value) else value
