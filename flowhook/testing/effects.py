"""Compares a handler's effects with the expected ones: twice, lost, unexpected or out of order."""

from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from typing import Any, NamedTuple

# Characters of an effect that are shown.
SHOWN = 160
_ABSENT = object()


class Difference(NamedTuple):
    """`kind` is `twice`, `lost`, `unexpected`, `order` or `differs`; `words` describe it to a person."""

    kind: str
    words: str


def differences(expected: Any, actual: Any, *, ordered: bool) -> list[Difference]:
    """How the observation `actual` differs from `expected`; the order of a list counts only if `ordered`."""
    if isinstance(expected, Mapping) and isinstance(actual, Mapping):
        return [*_of_mappings(expected, actual)]
    if _is_list(expected) and _is_list(actual):
        return [*_of_items(expected, actual)] or [*(_of_order(expected, actual) if ordered else ())]
    if isinstance(expected, Set) and isinstance(actual, Set):
        return [*_of_items([*expected], [*actual])]
    if expected == actual:
        return []
    return [Difference("differs", f"{show(actual)} instead of {show(expected)}")]


def show(effect: object) -> str:
    """An effect on one line, as Python writes it."""
    text = repr(effect)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}…"


def _is_list(value: object) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, (str, bytes))


def _of_items(expected: Sequence[Any], actual: Sequence[Any]) -> Iterator[Difference]:
    for effect in _distinct((*expected, *actual)):
        # Compared by equality: an effect may have no hash, such as a dictionary.
        wanted, found = expected.count(effect), actual.count(effect)
        if found > wanted > 0:
            yield Difference("twice", f"came {_times(found)} instead of {_times(wanted)}: {show(effect)}")
        elif found > wanted:
            yield Difference("unexpected", f"came, and never in the plain story: {show(effect)}")
        elif found < wanted:
            often = f" ({_times(found)} instead of {_times(wanted)})" if found else ""
            yield Difference("lost", f"was lost{often}: {show(effect)}")


def _of_order(expected: Sequence[Any], actual: Sequence[Any]) -> Iterator[Difference]:
    for wanted, found in zip(expected, actual, strict=True):
        if wanted != found:
            yield Difference("order", f"came out of order: {show(found)} before {show(wanted)}")
            return


def _of_mappings(expected: Mapping[Any, Any], actual: Mapping[Any, Any]) -> Iterator[Difference]:
    for name in _distinct((*expected, *actual)):
        wanted, found = expected.get(name, _ABSENT), actual.get(name, _ABSENT)
        if found is _ABSENT:
            yield Difference("lost", f"[{show(name)}] was lost: {show(wanted)}")
        elif wanted is _ABSENT:
            yield Difference(
                "unexpected", f"[{show(name)}] came, and never in the plain story: {show(found)}"
            )
        elif wanted != found:
            yield Difference("differs", f"[{show(name)}] is {show(found)} instead of {show(wanted)}")


def _distinct(effects: Iterable[Any]) -> list[Any]:
    found: list[Any] = []
    for effect in effects:
        if effect not in found:
            found.append(effect)
    return found


def _times(count: int) -> str:
    return {0: "never", 1: "once", 2: "twice"}.get(count, f"{count} times")
