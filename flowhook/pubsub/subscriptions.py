"""Which subscriptions the handlers need: one each, filtered by its patterns, so that none delays another."""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from urllib.parse import quote

from flowhook.categories import CATEGORIES, OPERATIONS, OTHER, Pattern
from flowhook.handler import Handler

# https://cloud.google.com/pubsub/quotas and /docs/pubsub-basics#resource_names
MAX_FILTER = 256
MAX_NAME = 255
# The attempts of a handler that declares none: about 15 hours, as the pauses between them grow to 10 minutes.
ATTEMPTS = 100


@dataclass(frozen=True)
class Subscription:
    """A push subscription; an empty filter selects every message, and `consume` checks the patterns again.

    After `attempts` a message is a dead letter. `timeout` is the handler's own, None where it declares none:
    the acknowledgement deadline has to be longer than that, or than DELIVERY_TIMEOUT.
    """

    name: str
    topic: str
    handler: str
    path: str
    filter: str
    attempts: int
    timeout: float | None


def needed(handlers: Sequence[Handler], topic: str, prefix: str) -> list[Subscription]:
    """The subscriptions of `handlers`, one for each topic where `topic` contains `{category}`."""
    return [subscription for handler in handlers for subscription in _subscriptions(handler, topic, prefix)]


def _subscriptions(handler: Handler, topic: str, prefix: str) -> Iterator[Subscription]:
    if "{category}" not in topic:
        yield _subscription(handler, topic, handler.patterns, prefix, handler.name)
        return
    for category in (*CATEGORIES, OTHER):
        # A category that has its own topic needs no filter.
        patterns = [Pattern("*", p.operation) for p in handler.patterns if p.category in ("*", category)]
        if patterns:
            own = topic.replace("{category}", category)
            yield _subscription(handler, own, patterns, prefix, handler.name, category)


def _subscription(handler: Handler, topic: str, patterns: Iterable[Pattern], *name: str) -> Subscription:
    return Subscription(
        _name(*name),
        topic,
        handler.name,
        f"/{quote(handler.name)}",
        _filter(patterns),
        handler.attempts or ATTEMPTS,
        handler.timeout,
    )


def _name(*parts: str) -> str:
    """The parts, as Pub/Sub allows: percent-encoded; where too long, cut, with a hash to be unique."""
    name = quote("-".join(parts), safe="~+")
    digest = hashlib.sha256(name.encode()).hexdigest()[:16]
    return name if len(name) <= MAX_NAME else f"{name[: MAX_NAME - 17]}-{digest}"


def _filter(patterns: Iterable[Pattern]) -> str:
    """The patterns in Pub/Sub's filter language; empty where they select everything or it would be too long.

    https://cloud.google.com/pubsub/docs/subscription-message-filter
    """
    wanted = {category: _operations(patterns, category) for category in (*CATEGORIES, OTHER)}
    everywhere = set.intersection(*wanted.values())
    if everywhere == set(OPERATIONS):
        return ""
    terms = [_is("operation", operation) for operation in OPERATIONS if operation in everywhere]
    for category, operations in wanted.items():
        rest = [operation for operation in OPERATIONS if operation in operations - everywhere]
        if operations == set(OPERATIONS):
            terms.append(_is("category", category))
        elif rest:
            terms.append(f"({_is('category', category)} AND {_any(rest)})")
    text = " OR ".join(terms)
    return text if len(text.encode()) <= MAX_FILTER else ""


def _operations(patterns: Iterable[Pattern], category: str) -> set[str]:
    return {o for o in OPERATIONS if any(pattern.matches(f"{category}.{o}") for pattern in patterns)}


def _any(operations: Sequence[str]) -> str:
    terms = [_is("operation", operation) for operation in operations]
    return f"({' OR '.join(terms)})" if len(terms) > 1 else terms[0]


def _is(attribute: str, value: str) -> str:
    return f'attributes.{attribute} = "{value}"'
