"""What a handler is: a function, and what its author declares about it with `@on`.

Nothing here is found or run, so importing it costs next to nothing; `discovery` and `routing` do that.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from flowhook.categories import Pattern

MARK = "__flowhook_patterns__"

Function = Callable[[Any], Awaitable[None] | None]
F = TypeVar("F", bound=Function)


@dataclass(frozen=True)
class Handler:
    """A function that wants events, with the patterns that say which; named `module.function`."""

    name: str
    patterns: tuple[Pattern, ...]
    function: Function

    def wants(self, event_type: str) -> bool:
        """Whether one of the patterns selects this type."""
        return any(pattern.matches(event_type) for pattern in self.patterns)


def on(*patterns: str) -> Callable[[F], F]:
    """Mark a function as the handler of the events that a pattern selects; the function stays as it is.

    Raises ValueError for a pattern that can't select anything, TypeError without any.
    """
    if not patterns or not all(isinstance(pattern, str) for pattern in patterns):
        raise TypeError('@on needs the events to handle, e.g. @on("packets.updated")')
    parsed = tuple(map(Pattern.parse, patterns))

    def mark(function: F) -> F:
        setattr(function, MARK, (*parsed, *getattr(function, MARK, ())))
        return function

    return mark
