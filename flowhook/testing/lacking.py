"""Counts what real events have that the models and samples don't. It shows no value, so it can be shared.

Names of properties may be customers' own words, so an unknown one is shown as its pseudonym. A field that the
platform itself adds is shown by its name.
"""

import json
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from flowhook import samples
from flowhook.categories import OTHER, classify
from flowhook.testing.masking import DATA_FIELDS, ENVELOPE_FIELDS, STATE_FIELDS, Masks

Counts = Counter[tuple[str, str]]
KINDS = {
    str: "a text",
    bool: "a boolean",
    int: "a number",
    float: "a number",
    list: "a list",
    dict: "an object",
    type(None): "null",
}


def sample_properties() -> dict[str, dict[str, Any]]:
    """By category: the properties of the samples, each with a value."""
    found: dict[str, dict[str, Any]] = {}
    for event_type in samples.TYPES:
        data = json.loads(samples.load(event_type))["data"]
        for state in (data["value"], data["oldValue"]):
            found.setdefault(event_type.partition(".")[0], {}).update((state or {}).get("properties", {}))
    return found


def known_names() -> frozenset[str]:
    """Every name of a property that the guide or a sample has."""
    return frozenset(name for properties in sample_properties().values() for name in properties)


class Lacking:
    """Counts, event by event, what the models and samples don't have."""

    def __init__(self, masks: Masks) -> None:
        self._masks = masks
        self._samples = sample_properties()
        self._counts: Counts = Counter()
        self._met: dict[str, set[str]] = {}

    def count(self, document: Mapping[str, Any]) -> None:
        """Count what one valid event has."""
        category = _category(document)
        self._add("Events", f"{category}.{document['operationType']}")
        data = document["data"]
        self._fields("Unknown field of an event", document, ENVELOPE_FIELDS | {"entityComments"})
        self._fields("Unknown field of `data`", data, DATA_FIELDS)
        self._add("Form of `updateMask`", mask_form(data.get("updateMask")))
        for state in (data.get("value"), data.get("oldValue")):
            if isinstance(state, Mapping):
                self._fields("Unknown field of a state", state, STATE_FIELDS)
                self._properties(category, state.get("properties") or {})

    def lines(self) -> Iterator[str]:
        """The report, a line for each count, then what the samples have and no event had."""
        for (what, name), count in sorted(self._counts.items()):
            yield f"{what}: {name} ({count})"
        for category, met in sorted(self._met.items()):
            missing = [name for name in self._samples.get(category, {}) if name not in met]
            if missing:
                yield f"In the samples of {category}, and in no event: {', '.join(missing)}"

    def _properties(self, category: str, properties: Mapping[str, Any]) -> None:
        known = self._samples.get(category, {})
        self._met.setdefault(category, set()).update(properties)
        for name, value in properties.items():
            kind = KINDS[type(value)]
            if name not in known:
                self._add(f"Unknown property of {category}", f"{self._masks.name(name)}, {kind}")
            elif value is not None and known[name] is not None and kind != KINDS[type(known[name])]:
                self._add(f"Another type than the sample's of {category}", f"{name}, {kind}")

    def _fields(self, what: str, found: Mapping[str, Any], known: Collection[str]) -> None:
        for name, value in found.items():
            if name not in known:
                self._add(what, f"{self._masks.field(name)}, {KINDS[type(value)]}")

    def _add(self, what: str, name: str) -> None:
        self._counts[what, name] += 1


def mask_form(mask: object) -> str:
    """The form of an update mask, in words that reveal nothing of what is in it."""
    if mask is None:
        return "none"
    if not isinstance(mask, list) or not all(isinstance(path, str) for path in mask):
        return "no list of texts"
    return ", ".join(sorted({_path_form(path) for path in mask})) or "empty"


def _path_form(path: str) -> str:
    inner = path.removeprefix("properties.")
    if path == "properties":
        return "properties"
    deeper = ".…" if "." in inner else ""
    return f"{'properties.' if inner != path else ''}NAME{deeper}"


def _category(document: Mapping[str, Any]) -> str:
    found = classify(document["entityPath"], document["collectionPath"], document["entityKey"])
    return "other (an unknown category)" if found == OTHER else found
