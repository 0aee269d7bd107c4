"""flowhook: a webhook receiver for Flows. This is what the author of a handler imports.

Each name is loaded when it is first used: `on` costs nothing, `Event` and `Change` load pydantic's models.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flowhook.errors import Reject
    from flowhook.events import Change, CommentEvent, Event
    from flowhook.handler import on
    from flowhook.variables import variable

__all__ = ["Change", "CommentEvent", "Event", "Reject", "on", "variable"]

_HOMES = {
    "Change": "events",
    "CommentEvent": "events",
    "Event": "events",
    "Reject": "errors",
    "on": "handler",
    "variable": "variables",
}


def __getattr__(name: str) -> object:
    """Load a name from the module where it is defined (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
