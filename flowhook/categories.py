"""Where an event belongs: paths and keys to categories, and the patterns that select event types."""

import difflib
from dataclasses import dataclass
from typing import NamedTuple

OPERATIONS = ("created", "updated", "deleted")
OTHER = "other"


class Category(NamedTuple):
    """A group of events that the platform's guide names, and how its entities are recognized.

    `label` is what the guide calls the group. `parent` is the collection that `collection` must lie below;
    None is any. `model` names the class in `flowhook.events` that an event becomes.
    """

    name: str
    label: str
    collection: str
    parent: str | None = None
    model: str = "Event"


# The collections of comments and of the last three are documented by the platform; the others follow its
# naming. Everything else about categories derives from these rows; their samples lie in `samples/`.
TABLE = (
    Category("packets", "Packet events", "pipelinesPackets"),
    Category("pipelines", "Pipeline events", "pipelines"),
    Category("users", "Users events", "users"),
    Category("entities", "Entity events", "entities"),
    Category("packet_comments", "Packet comments events", "comments", "pipelinesPackets", "CommentEvent"),
    Category("projects", "Projects events", "pipelinesProjects"),
    Category("pipeline_labels", "Pipeline labels events", "pipelinesLabels"),
    Category("packet_labels", "Packet labels events", "pipelinesPacketsLabels"),
)
CATEGORIES = tuple(category.name for category in TABLE)
# Every event type that the platform sends.
TYPES = tuple(f"{category}.{operation}" for category in CATEGORIES for operation in OPERATIONS)
_BY_COLLECTION = {category.collection: category for category in TABLE}
_BY_NAME = {category.name: category for category in TABLE}


def model_name(category: str) -> str:
    """The name of the class in `flowhook.events` for the events of a category."""
    return _BY_NAME[category].model if category in _BY_NAME else "Event"


def classify(entity_path: str, collection_path: str, entity_key: str) -> str:
    """The category of an event; `other` where nothing in the table fits.

    The last collection of `entity_path` decides where the table knows it, else that of `collection_path`,
    else the last segment of `entity_key` (which names no parent).
    """
    name, parent = _last_collections(entity_path)
    if name not in _BY_COLLECTION:
        name, parent = _last_collections(collection_path)
    if name not in _BY_COLLECTION:
        name, parent = entity_key.rpartition("/")[2], None
    category = _BY_COLLECTION.get(name)
    if category is None:
        return OTHER
    return category.name if parent is None or category.parent in (None, parent) else OTHER


def _last_collections(path: str) -> tuple[str, str | None]:
    """The last collection of a path and the one above it; empty where there is none.

    A path alternates collection and document. It may have millions of segments, so it is not split into a
    list.
    """
    while "//" in path:
        path = path.replace("//", "/")
    path = path.strip("/")
    if path.count("/") % 2:
        path = path.rpartition("/")[0]
    above, _, last = path.rpartition("/")
    return last, above.rpartition("/")[0].rpartition("/")[2]


@dataclass(frozen=True)
class Pattern:
    """An event type in which either half may be `*`; a lone `*` is everything."""

    category: str
    operation: str

    @classmethod
    def parse(cls, text: str) -> "Pattern":
        """Read `packets.updated`, `packets.*`, `*.deleted` or `*`. Raises ValueError, saying why."""
        category, dot, operation = text.partition(".")
        if text == "*":
            return cls("*", "*")
        if not dot:
            raise ValueError(f"{text!r} is not CATEGORY.OPERATION, e.g. packets.updated or packets.*")
        _require(category, (*CATEGORIES, OTHER), "category")
        _require(operation, OPERATIONS, "operation")
        return cls(category, operation)

    def matches(self, event_type: str) -> bool:
        """Whether `event_type` (`CATEGORY.OPERATION`) is one that this pattern selects."""
        category, _, operation = event_type.partition(".")
        return self.category in ("*", category) and self.operation in ("*", operation)

    def __str__(self) -> str:
        return "*" if self == Pattern("*", "*") else f"{self.category}.{self.operation}"


def _require(word: str, known: tuple[str, ...], kind: str) -> None:
    if word == "*" or word in known:
        return
    near = difflib.get_close_matches(word, known, n=1)
    hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(known)} and *"
    raise ValueError(f"{word!r} is not a known {kind}; {hint}")
