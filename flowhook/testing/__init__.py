"""For the tests of handlers: valid events of any type, trials, captured events, the emulated platform.

Each name is loaded when it is first used, so that none costs what it doesn't need.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flowhook.testing.captures import captured
    from flowhook.testing.emulated import flows
    from flowhook.testing.making import make_event
    from flowhook.testing.trying import Counterexample, Trial, TrialError, trials
    from flows_emulator.client import Emulator

__all__ = ["Counterexample", "Emulator", "Trial", "TrialError", "captured", "flows", "make_event", "trials"]

# No module has the name of an object that is loaded from here: importing it would replace the object.
_HOMES = {
    "Counterexample": "flowhook.testing.trying",
    "Emulator": "flows_emulator.client",
    "Trial": "flowhook.testing.trying",
    "TrialError": "flowhook.testing.trying",
    "captured": "flowhook.testing.captures",
    "flows": "flowhook.testing.emulated",
    "make_event": "flowhook.testing.making",
    "trials": "flowhook.testing.trying",
}


def __getattr__(name: str) -> object:
    """Load a name from the module where it is defined (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
