"""What a process forgets when it dies, and what is put back before each run of a trial.

A handler's memory is its locks and the plain values in its module: numbers, texts, dictionaries, lists and
sets. What the test observes is the world, which a crash doesn't change. Everything else, such as a client,
stays too.
"""

import asyncio
import inspect
import threading
from collections import deque
from collections.abc import Callable, Iterator
from types import FunctionType
from typing import Any

PLAIN = (str, bytes, bool, int, float, type(None))
CONTAINERS = (dict, list, set, deque)
LOCKS = (type(threading.Lock()), asyncio.Lock)


class Kept:
    """The contents of a container, to be put back into the same object."""

    def __init__(self, container: Any) -> None:
        self._container = container
        self._copy = copied(container)

    def restore(self) -> None:
        """Put the contents back."""
        self._container.clear()
        fresh = copied(self._copy)
        if isinstance(self._container, (list, deque)):
            self._container.extend(fresh)
        else:
            self._container.update(fresh)


class Memory:
    """The plain values that a function's module and closure hold.

    `forget` resets the module, as the death of the process does, except for what `world` refers to. `restore`
    resets everything.
    """

    def __init__(self, function: Callable[..., Any], world: Callable[[], Any]) -> None:
        plain_function = inspect.unwrap(function)
        self._module: dict[str, Any] = getattr(plain_function, "__globals__", {})
        # Where the test's module is the handler's, memory can't be told from the world, so nothing is
        # forgotten.
        apart = self._module is not getattr(world, "__globals__", None)
        self._values = {name: v for name, v in self._own() if isinstance(v, PLAIN)}
        containers = {name: value for name, value in self._own() if isinstance(value, CONTAINERS)}
        self._containers = {name: Kept(value) for name, value in containers.items()}
        observed = _named(world)
        self._forgotten = [
            kept
            for name, kept in self._containers.items()
            if apart and not any(containers[name] is value for value in observed)
        ]
        self._forgets_values = apart
        cells = _cells(plain_function)
        self._closure = [Kept(value) for value in cells if isinstance(value, CONTAINERS)]
        self._locks = [v for v in (*self._module.values(), *cells) if isinstance(v, LOCKS)]

    @property
    def locked(self) -> bool:
        """Whether a call holds a lock, so that another one may wait for it."""
        return any(lock.locked() for lock in self._locks)

    def forget(self) -> None:
        """Reset the module, as the death of the process does."""
        for kept in self._forgotten:
            kept.restore()
        if self._forgets_values:
            self._module.update(self._values)
        self._release()

    def restore(self) -> None:
        """Reset everything, in the module and in the function's closure."""
        for kept in (*self._containers.values(), *self._closure):
            kept.restore()
        self._module.update(self._values)
        self._release()

    def _release(self) -> None:
        for lock in self._locks:
            # Its holder has died.
            if lock.locked():
                lock.release()

    def _own(self) -> Iterator[tuple[str, Any]]:
        for name, value in self._module.items():
            if not name.startswith("__"):
                yield name, value


def copied(value: Any) -> Any:
    """A copy of a container and of those in it; any other value stays the same object."""
    if not isinstance(value, CONTAINERS):
        return value
    # `copy` preserves the class, such as Counter.
    fresh: Any = value.copy()
    if isinstance(value, dict):
        fresh.update({name: copied(part) for name, part in value.items()})
    elif isinstance(value, (list, deque)):
        fresh.clear()
        fresh.extend(map(copied, value))
    return fresh


def _named(world: Callable[[], Any]) -> list[Any]:
    """What the function that observes refers to."""
    if not isinstance(world, FunctionType):
        return []
    names = [name for name in world.__code__.co_names if name in world.__globals__]
    return [*(world.__globals__[name] for name in names), *_cells(world)]


def _cells(function: Callable[..., Any]) -> list[Any]:
    cells = getattr(function, "__closure__", None) or ()
    # A cell may be empty: the name is bound later.
    return [found for cell in cells if (found := _content(cell)) is not None]


def _content(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:
        return None
