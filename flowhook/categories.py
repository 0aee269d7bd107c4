"""Where an event belongs: paths and keys to categories, and the patterns that select event types."""

import difflib
from collections.abc import Iterator
from dataclasses import dataclass

OPERATIONS = ("created", "updated", "deleted")
OTHER = "other"

# Collection, the collection it must lie below (None: any), category. The comment path and the last
# three names are documented by the platform; the others follow its naming.
COLLECTIONS: tuple[tuple[str, str | None, str], ...] = (
    ("pipelinesPackets", None, "packets"),
    ("pipelines", None, "pipelines"),
    ("users", None, "users"),
    ("entities", None, "entities"),
    ("comments", "pipelinesPackets", "packet_comments"),
    ("pipelinesProjects", None, "projects"),
    ("pipelinesLabels", None, "pipeline_labels"),
    ("pipelinesPacketsLabels", None, "packet_labels"),
)
CATEGORIES = tuple(category for _, _, category in COLLECTIONS)
_BY_COLLECTION = {name: (parent, category) for name, parent, category in COLLECTIONS}


def classify(entity_path: str, collection_path: str, entity_key: str) -> str:
    """The category of an event; `other` where nothing in the table fits.

    The last collection of `entity_path` decides where the table knows it, else that of
    `collection_path`, else the last segment of `entity_key` (which tells no parent).
    """
    for name, parent in _candidates(entity_path, collection_path, entity_key):
        if name in _BY_COLLECTION:
            below, category = _BY_COLLECTION[name]
            return category if parent is None or below in (None, parent) else OTHER
    return OTHER


def _candidates(entity_path: str, collection_path: str, entity_key: str) -> Iterator[tuple[str, str | None]]:
    """Each (collection, the collection above it); an unknown collection above is None."""
    for path in (entity_path, collection_path):
        # A path alternates collection/document, so its collections are the even segments.
        *_, above, last = "", "", *_last_segments(path)[::-2][::-1]
        if last:
            yield last, above
    yield entity_key.rsplit("/", 1)[-1], None


def _last_segments(path: str) -> list[str]:
    """The last three segments or fewer, the last of them a collection. A path may have millions."""
    while "//" in path:
        path = path.replace("//", "/")
    path = path.strip("/")
    if path.count("/") % 2:
        path = path.rpartition("/")[0]
    return path.rsplit("/", 3)[-3:]


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
