"""A small organization that changes: it proposes the next event and applies events to its state.

The state consists of what events contained: `propose` makes an event from it, `fold` applies an event to
it. So `oldValue` is always the value from the last event, even if a user wrote that event.
"""

import copy
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from random import Random
from typing import Any

from flowhook.categories import OPERATIONS, classify
from flows_emulator.integration import timestamp

ORGANIZATION = "org-acme"

Properties = dict[str, Any]
Entity = dict[str, Any]
"""`key`, `properties`, `createTime` and `updateTime`, as in `data.value`."""
Entities = Mapping[str, Entity]
"""Entities by path."""
Draw = Callable[[Random, Entities], Any]


@dataclass(frozen=True)
class Kind:
    """The entities of a category. `fields` has for each property a function that draws its value.

    `changing` are the properties that an update may change. `weight` is how often the category has events,
    relative to the others.
    """

    category: str
    collection: str
    prefix: str
    fields: Mapping[str, Draw]
    changing: Sequence[str]
    weight: int


def _one(*values: Any) -> Draw:
    return lambda random, _: copy.deepcopy(random.choice(values))


def _ref(category: str) -> Draw:
    def draw(random: Random, entities: Entities) -> str | None:
        known = _paths(entities, category)
        return random.choice(known) if known else None

    return draw


def _labels(random: Random, entities: Entities) -> list[str]:
    known = _paths(entities, "packet_labels")
    return sorted(random.sample(known, random.randint(0, min(2, len(known)))))


def _subject(random: Random, _: Entities) -> str:
    verb = random.choice(("Onboard", "Renew", "Review", "Invoice", "Call back", "Audit", "Migrate"))
    return f"{verb} {random.choice(COMPANIES)}"


def _address(random: Random, _: Entities) -> str:
    return (
        f"{random.choice(('ada', 'grace', 'linus', 'radia', 'barbara'))}.{random.randint(1, 999)}@example.com"
    )


COMPANIES = ("Contoso", "Initech", "Globex", "Umbra", "Acme Süd", "Ōkami", "Hooli", "Vandelay")
PEOPLE = ("Ada Lovelace", "Grace Hopper", "Radia Perlman", "Barbara Liskov", "Ken Thompson", "Đorđe Petrović")
COLOURS = _one("#d93025", "#f9ab00", "#188038", "#1967d2", "#9334e6", "#5f6368")
NOT_REMOVED = _one(False)

KINDS: Mapping[str, Kind] = {
    kind.category: kind
    for kind in (
        Kind(
            "packets",
            "pipelinesPackets",
            "pk",
            {
                "title": _subject,
                "status": _one("open", "in progress", "waiting", "done"),
                "pipelineRef": _ref("pipelines"),
                "assigneeRef": _ref("users"),
                "labels": _labels,
                "softRemoved": NOT_REMOVED,
            },
            ("title", "status", "status", "assigneeRef", "labels"),
            12,
        ),
        Kind(
            "pipelines",
            "pipelines",
            "pl",
            {
                "title": _one("Sales", "Support", "Hiring", "Purchasing", "Legal"),
                "stages": _one(
                    ["Lead", "Offer", "Won"],
                    ["Lead", "Offer", "Negotiation", "Won"],
                    ["New", "Doing", "Done"],
                ),
                "projectRef": _ref("projects"),
                "softRemoved": NOT_REMOVED,
            },
            ("title", "stages"),
            2,
        ),
        Kind(
            "users",
            "users",
            "us",
            {
                "displayName": _one(*PEOPLE),
                "email": _address,
                "role": _one("member", "admin", "guest"),
                "softRemoved": NOT_REMOVED,
            },
            ("role", "email", "displayName"),
            2,
        ),
        Kind(
            "entities",
            "entities",
            "en",
            {
                "name": _one(*(f"{company} Ltd" for company in COMPANIES)),
                "kind": _one("company", "person", "supplier"),
                "website": _one(*(f"https://{n}.example" for n in ("contoso", "initech", "globex", "hooli"))),
                "softRemoved": NOT_REMOVED,
            },
            ("name", "kind", "website"),
            3,
        ),
        Kind(
            "packet_comments",
            "comments",
            "cm",
            {
                "replies": lambda _random, _entities: [],
                "content": _one(
                    "The contract is signed.",
                    "They asked for another week.",
                    "Please have a look at the second page.",
                    "Done. 🎉",
                    "Wer kümmert sich darum?",
                    "I have called them twice.",
                ),
                "parentCommentRef": _one(None),
                "softRemoved": NOT_REMOVED,
                "createdBy": _ref("users"),
                "createdAt": _one(None),
            },
            ("content",),
            8,
        ),
        Kind(
            "projects",
            "pipelinesProjects",
            "pr",
            {
                "title": _one("Growth 2026", "Growth 2027", "Move to the cloud", "New offices"),
                "ownerRef": _ref("users"),
                "softRemoved": NOT_REMOVED,
            },
            ("title", "ownerRef"),
            2,
        ),
        Kind(
            "pipeline_labels",
            "pipelinesLabels",
            "lb",
            {
                "name": _one("Priority", "Internal", "Quarterly", "Archive"),
                "color": COLOURS,
                "softRemoved": NOT_REMOVED,
            },
            ("name", "color"),
            1,
        ),
        Kind(
            "packet_labels",
            "pipelinesPacketsLabels",
            "ll",
            {
                "name": _one("Urgent", "Waiting", "VIP", "Paid", "Blocked"),
                "color": COLOURS,
                "softRemoved": NOT_REMOVED,
            },
            ("name", "color"),
            1,
        ),
    )
}
# How many of each there are at the start, ordered so that each refers only to those before it.
SEED = {
    "users": 3,
    "entities": 2,
    "projects": 1,
    "pipelines": 2,
    "pipeline_labels": 2,
    "packet_labels": 3,
    "packets": 3,
    "packet_comments": 2,
}
WEIGHTS = {"created": 3, "updated": 6, "deleted": 1}
# Random events delete none of a category's last FEW entities, and create none if there are MANY.
FEW = 2
MANY = 40


def seed(random: Random, now: datetime) -> dict[str, Entity]:
    """The organization at the start."""
    entities: dict[str, Entity] = {}
    for category, count in SEED.items():
        for _ in range(count):
            path, entity = _make(KINDS[category], random, entities, now)
            entities[path] = entity
    return entities


def choose(entities: Entities, types: Sequence[str], random: Random) -> str:
    """Draw the type of the next event, a likely one, from `types`, which must not be empty."""
    counts = Counter(classify(path, "", "") for path in entities)
    weights = [_weight(counts, *name.split(".")) for name in types]
    return random.choices(types, weights if any(weights) else None)[0]


def propose(entities: Entities, event_type: str, random: Random, now: datetime) -> dict[str, Any]:
    """A new event of this type, as the platform would send it. Raises KeyError for an unknown type."""
    category, _, operation = event_type.partition(".")
    kind = KINDS[category]
    if operation not in OPERATIONS:
        raise KeyError(event_type)
    if operation == "created":
        path, value = _make(kind, random, entities, now)
        return _event(entities, path, operation, now, {"value": value, "oldValue": None, "updateMask": None})
    known = _paths(entities, category)
    # If the category is empty, invent an entity that existed before anybody listened.
    path = random.choice(known) if known else ""
    old = entities[path] if known else {}
    if not known:
        path, old = _make(kind, random, entities, now)
    if operation == "deleted":
        return _event(entities, path, operation, now, {"value": None, "oldValue": old, "updateMask": None})
    value, mask = _change(kind, random, entities, old, now)
    return _event(entities, path, operation, now, {"value": value, "oldValue": old, "updateMask": mask})


def fold(entities: Entities, event: object) -> dict[str, Entity]:
    """The organization after an event; a document that is no event of the platform's changes nothing."""
    told: Mapping[str, Any] = event if isinstance(event, dict) else {}
    path, data = told.get("entityPath"), told.get("data")
    # An unusable path must not enter the state, from which later events are made.
    if not isinstance(path, str) or not path or not path.isprintable() or not isinstance(data, dict):
        return dict(entities)
    if told.get("operationType") == "deleted":
        return {p: entity for p, entity in entities.items() if p != path and not p.startswith(f"{path}/")}
    value = data.get("value")
    if not isinstance(value, dict) or not isinstance(value.get("properties"), dict):
        return dict(entities)
    return {**entities, path: value}


def _weight(counts: Mapping[str, int], category: str, operation: str) -> int:
    count = counts[category]
    too_few = (operation == "deleted" and count <= FEW) or (operation == "updated" and not count)
    too_many = operation == "created" and count >= MANY
    return 0 if too_few or too_many else KINDS[category].weight * WEIGHTS[operation]


def _paths(entities: Entities, category: str) -> list[str]:
    return [path for path in entities if classify(path, "", "") == category]


def _make(kind: Kind, random: Random, entities: Entities, now: datetime) -> tuple[str, Entity]:
    identifier = f"{kind.prefix}-{random.getrandbits(32):08x}"
    path = f"{_collection(kind, random, entities)}/{identifier}"
    properties = {name: draw(random, entities) for name, draw in kind.fields.items()}
    moment = timestamp(now)
    if "createdAt" in properties:
        properties["createdAt"] = moment
    return path, {"key": path, "properties": properties, "createTime": moment, "updateTime": moment}


def _collection(kind: Kind, random: Random, entities: Entities) -> str:
    if kind.category != "packet_comments":
        return kind.collection
    packets = _paths(entities, "packets")
    packet = random.choice(packets) if packets else f"pipelinesPackets/pk-{random.getrandbits(32):08x}"
    return f"{packet}/{kind.collection}"


def _change(
    kind: Kind, random: Random, entities: Entities, old: Entity, now: datetime
) -> tuple[Entity, list[str]]:
    """The entity with one of its `changing` properties changed, and the name of that property."""
    before = old["properties"]
    for name in random.sample(kind.changing, len(kind.changing)):
        for _ in range(8):
            drawn = kind.fields[name](random, entities)
            if drawn != before.get(name):
                return {**old, "properties": {**before, name: drawn}, "updateTime": timestamp(now)}, [name]
    # All draws gave the present values, so append a number to the value: an update must change something.
    name = kind.changing[0]
    changed = f"{before.get(name)} ({random.randint(2, 999)})"
    return {**old, "properties": {**before, name: changed}, "updateTime": timestamp(now)}, [name]


def _event(
    entities: Entities, path: str, operation: str, now: datetime, data: Mapping[str, Any]
) -> dict[str, Any]:
    collection, _, identifier = path.rpartition("/")
    name = collection.rpartition("/")[2]
    siblings = sorted({path, *(p for p in entities if p.startswith(f"{collection}/"))})
    return {
        "eventTimestamp": timestamp(now),
        "operationType": operation,
        "entityPath": path,
        "entityId": identifier,
        "entityKey": f"flows/{name}",
        "collectionPath": collection,
        "organizationId": ORGANIZATION,
        **({"entityComments": siblings} if name == "comments" else {}),
        "data": dict(data),
    }
