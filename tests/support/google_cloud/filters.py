"""Pub/Sub's filter language: https://cloud.google.com/pubsub/docs/subscription-message-filter."""

import re
from collections.abc import Mapping

from tests.support.google_cloud.exchange import Refusal

LONGEST = 256
TERM = re.compile(
    r'(NOT )?(attributes\.[\w-]+ != "[^"]*"|attributes[.:][\w-]+( = "[^"]*")?'
    r'|hasPrefix\(attributes\.[\w-]+, "[^"]*"\))'
)
EQUAL = re.compile(r'attributes\.([\w-]+) = "([^"]*)"')


def check(text: str) -> None:
    """Raises Refusal for what the language doesn't allow."""
    if len(text.encode()) > LONGEST:
        raise Refusal(400, "The filter is too long.")
    rest = TERM.sub("T", text)
    while True:
        shorter = re.sub(r"\(T\)|T AND T(?: AND T)*(?! AND)|T OR T(?: OR T)*(?! OR)", "T", rest)
        if shorter == rest:
            break
        rest = shorter
    if rest not in ("", "T"):
        raise Refusal(400, f"The filter is not valid: {text}")


def matches(text: str, attributes: Mapping[str, str]) -> bool:
    """Whether a filter of equalities, AND, OR and brackets selects these attributes."""
    if not text:
        return True
    expression = EQUAL.sub(lambda found: str(attributes.get(found[1]) == found[2]), text)
    words = expression.replace("AND", "and").replace("OR", "or").replace("NOT", "not")
    assert re.fullmatch(r"[()\s]*((True|False|and|or|not)[()\s]*)+", words), text
    return bool(eval(words, {"__builtins__": {}}))
