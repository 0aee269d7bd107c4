"""Changes to an event of the platform: other properties, other fields, or what an update has changed."""

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

Document = dict[str, Any]


@dataclass(frozen=True)
class Overlay:
    """What to lay over an event; an empty one changes nothing.

    `properties` are those of the entity as it is, or as it last was where it has been deleted. `became` are
    properties with their old and new values, and makes exactly that update. `fields` are the event's own, by
    the platform's names; a dot leads into an object, e.g. `data.updateMask`. Later ones win in this order.
    """

    properties: Mapping[str, Any] = field(default_factory=dict)
    became: Mapping[str, tuple[Any, Any]] = field(default_factory=dict)
    fields: Mapping[str, Any] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.properties or self.became or self.fields)

    def apply(self, event: Mapping[str, Any]) -> Document:
        """A changed copy of `event`, one of the platform's. Raises ValueError where that is impossible."""
        changed = deepcopy(dict(event))
        if self.properties:
            self._set(changed["data"])
        if self.became:
            self._become(changed)
        for path, value in self.fields.items():
            _put(changed, path.split("."), value)
        return changed

    def _set(self, data: Document) -> None:
        current = data.get("value") or data["oldValue"]
        current["properties"] = {**current["properties"], **self.properties}
        if data.get("updateMask") is not None:
            # The mask of an update names every property that it sets.
            data["updateMask"] = list(dict.fromkeys([*data["updateMask"], *self.properties]))

    def _become(self, event: Document) -> None:
        operation, data = event["operationType"], event["data"]
        if operation != "updated":
            raise ValueError(f"only an update becomes something, and this event is of the kind {operation}")
        old = {name: values[0] for name, values in self.became.items()}
        new = {name: values[1] for name, values in self.became.items()}
        properties = data["value"]["properties"]
        data["oldValue"] = {**data["oldValue"], "properties": {**properties, **old}}
        data["value"] = {**data["value"], "properties": {**properties, **new}}
        data["updateMask"] = list(self.became)


def _put(document: Document, path: list[str], value: Any) -> None:
    *above, last = path
    for name in above:
        below = document.get(name)
        if not isinstance(below, dict):
            raise ValueError(f"{'.'.join(path)} leads into {name}, which is no object here")
        document = below
    document[last] = value
