"""The stories that a handler is tried with: what happens to one or two entities, made up or captured.

A story is a few moves and the function that makes its events of them. Without one of its moves it is a
shorter story that is still consistent: the old state of an event is always what the event before it left.
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from random import Random
from types import CodeType, FunctionType
from typing import Any, NamedTuple

from flowhook import events, samples
from flowhook.events import Event
from flowhook.handler import Handler

ENTITIES = 2
BEGIN = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
# Longer texts in a handler's code are messages, not values that it waits for.
LONGEST = 40


class Move(NamedTuple):
    """What happens to one entity of a category: a property becomes a value, in an event of this type."""

    entity: int
    event_type: str
    name: str
    value: Any


@dataclass(frozen=True)
class Story:
    """Made-up moves or captured events, and the function that makes the story's events of them."""

    moves: tuple[Any, ...]
    build: Callable[[Sequence[Any]], tuple[Event, ...]]

    @property
    def events(self) -> tuple[Event, ...]:
        """The events, in order."""
        return self.build(self.moves)

    def shorter(self) -> Iterable["Story"]:
        """The stories with one move less."""
        for index in range(len(self.moves)):
            rest = (*self.moves[:index], *self.moves[index + 1 :])
            if rest:
                yield Story(rest, self.build)


def made_up(handler: Handler, length: int, random: Random) -> Story:
    """A story of events that the handler wants. Raises ValueError where the platform sends none of them."""
    types = [name for name in samples.TYPES if handler.wants(name)]
    if not types:
        raise ValueError("the samples have no event that it wants: give some, events=[…]")
    # One category: what happens to a packet seldom matters to a user.
    category = random.choice(types).partition(".")[0]
    own = [name for name in types if name.startswith(f"{category}.")]
    words = _words(handler.function)
    entities = random.randint(1, min(ENTITIES, length))
    moves = [_move(random, handler, words, random.randrange(entities), own) for _ in range(length)]
    return Story(tuple(moves), _events)


def told(found: Sequence[Event], length: int, random: Random) -> Story:
    """A part of the given events, in their order; more often of one entity than of several."""
    ordered = sorted(found, key=lambda event: event.event_timestamp)
    path = random.choice(ordered).entity_path
    same = [event for event in ordered if event.entity_path == path]
    pool = same if len(same) >= length and random.random() < 0.7 else ordered
    chosen = sorted(random.sample(range(len(pool)), min(length, len(pool))))
    return Story(tuple(pool[index] for index in chosen), tuple)


def _move(random: Random, handler: Handler, words: Sequence[str], entity: int, types: Sequence[str]) -> Move:
    event_type = random.choice(types)
    properties = _sample_properties(event_type)
    candidates = [name for name in properties if name in (*handler.changed, *words)]
    texts = [name for name, value in properties.items() if isinstance(value, str)]
    name = random.choice(candidates or texts or [*properties])
    # A value that the handler's code names, one that nobody waits for, or the one in the sample.
    made = [f"{name} {random.randint(1, 3)}"]
    named = [word for word in words if word not in properties] or made
    value = random.choice(random.choices((named, made, [properties[name]]), weights=(6, 2, 2))[0])
    return Move(entity, event_type, name, value)


def _words(function: Any) -> list[str]:
    """The short texts in the code of a handler's module: the names and the values that it may wait for."""
    codes = [getattr(function, "__code__", None)]
    codes += [
        value.__code__
        for value in getattr(function, "__globals__", {}).values()
        if isinstance(value, FunctionType) and value.__module__ == function.__module__
    ]
    # The handler's own code first, because a module of tests has many words.
    own = [*_constants(codes[0])] if codes[0] else []
    return own or [word for code in codes[1:] if code for word in _constants(code)]


def _constants(code: CodeType) -> Iterable[str]:
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _constants(constant)
        elif isinstance(constant, tuple):
            yield from (part for part in constant if isinstance(part, str))
        elif isinstance(constant, str) and 0 < len(constant) <= LONGEST and "\n" not in constant:
            yield constant


def _sample_properties(event_type: str) -> Mapping[str, Any]:
    data = json.loads(samples.load(event_type))["data"]
    found: Mapping[str, Any] = (data["oldValue"] or data["value"])["properties"]
    return found


def _events(moves: Sequence[Move]) -> tuple[Event, ...]:
    """The events of the moves, one a minute."""
    states: dict[int, dict[str, Any]] = {}
    return tuple(_event(move, states, number) for number, move in enumerate(moves, 1))


def _event(move: Move, states: dict[int, dict[str, Any]], number: int) -> Event:
    """One move as an event; `states` has the present state of each entity, and is updated."""
    document = _of_entity(json.loads(samples.load(move.event_type)), move.entity)
    moment = (BEGIN + timedelta(minutes=number)).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    document["eventTimestamp"] = moment
    data = document["data"]
    if data["oldValue"]:
        data["oldValue"] = states.pop(move.entity, data["oldValue"])
    if data["value"]:
        # The new state is the old one but for the move, whatever else the sample changes.
        old = data["oldValue"] or data["value"]
        properties = {**old["properties"], move.name: _other(old["properties"].get(move.name), move.value)}
        data["value"] = {**old, "properties": properties, "updateTime": moment}
        data["updateMask"] = data["updateMask"] and [move.name]
        states[move.entity] = data["value"]
    return events.parse(json.dumps(document).encode())


def _other(old: Any, value: Any) -> Any:
    """The value, in the property's type; another one where the property has it already."""
    if isinstance(old, bool):
        return not old
    if isinstance(old, list):
        return [*old, value]
    return f"{value} again" if value == old else value


def _of_entity(document: dict[str, Any], entity: int) -> dict[str, Any]:
    """The sample as an event of the entity with this number."""
    identifier: str = document["entityId"]
    numbered = f"{identifier.partition('-')[0]}-{entity + 1}"
    text = json.dumps(document).replace(json.dumps(identifier)[1:-1], numbered)
    renamed: dict[str, Any] = json.loads(text)
    return renamed
