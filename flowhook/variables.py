"""The environment variables that handlers need: declared in a module, checked before handlers are run.

Declaring never raises, so that commands, deployments and tests import handlers without any of the values.
"""

import os
import re
from collections.abc import Callable, Mapping
from typing import Any, Generic, TypeVar, cast, overload

from flowhook.errors import MissingVariable

T = TypeVar("T")
D = TypeVar("D")

NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
# Variables that the process itself reads, and
# https://cloud.google.com/functions/docs/configuring/env-var#reserved_names
GOOGLES = frozenset(
    {"PORT", "PATH", "HOME", "PYTHONPATH", "FUNCTION_TARGET", "FUNCTION_SIGNATURE_TYPE", "ENTRY_POINT"}
)
GOOGLES_PREFIXES = ("K_", "X_GOOGLE_", "CLOUD_RUN_")
_REQUIRED = object()


class Variable(Generic[T]):
    """An environment variable that a handler needs. Made by `variable`."""

    def __init__(self, name: str, default: object, secret: bool, convert: Callable[[str], T]) -> None:
        self.name = name
        self.default = default
        self.secret = secret
        self._cast = convert

    @property
    def value(self) -> T:
        """The current value. Raises MissingVariable without one, ValueError where it can't be cast."""
        text = os.environ.get(self.name, "").strip()
        if text:
            return self._read(text)
        if self.required:
            raise MissingVariable(f"{self.name} is not set")
        return cast(T, self.default)

    @property
    def required(self) -> bool:
        """Whether there has to be a value."""
        return self.default is _REQUIRED

    @property
    def optional(self) -> bool:
        """Whether the handlers of its module are off without a value."""
        return self.default is None

    def is_set(self, environment: Mapping[str, str]) -> bool:
        """Whether there is a value; an empty one counts as none."""
        return bool(environment.get(self.name, "").strip())

    def name_mistake(self, reserved: frozenset[str]) -> str:
        """What is wrong with its name, whatever its value; empty where nothing is."""
        if not isinstance(self.name, str) or not NAME.fullmatch(self.name):
            return f"{self.name!r} can't be the name of a variable"
        if self.name in reserved:
            return f"{self.name} is a setting of flowhook, so a handler can't have it: take another name"
        if self.name in GOOGLES or self.name.startswith(GOOGLES_PREFIXES):
            return f"{self.name} belongs to the platform, so a handler can't have it: take another name"
        return ""

    def value_mistake(self, environment: Mapping[str, str]) -> str:
        """What is wrong with its value, without showing it; empty where nothing is."""
        if not self.is_set(environment):
            return f"{self.name} is not set" if self.required else ""
        try:
            self._read(environment[self.name].strip())
        except ValueError as mistake:
            return str(mistake)
        return ""

    def _read(self, text: str) -> T:
        try:
            return self._cast(text)
        except Exception as error:  # noqa: BLE001 - whatever an author's function raises, the value stays unseen
            kind = getattr(self._cast, "__name__", repr(self._cast))
            # The error may quote the value, and a value may be a secret.
            raise ValueError(f"{self.name} can't be read as {kind}: {type(error).__name__}") from None

    def __repr__(self) -> str:
        return f"<Variable {self.name}>"


@overload
def variable(name: str, *, secret: bool = False) -> Variable[str]: ...


@overload
def variable(name: str, *, default: D, secret: bool = False) -> Variable[str | D]: ...


@overload
def variable(name: str, *, secret: bool = False, cast: Callable[[str], T]) -> Variable[T]: ...


@overload
def variable(name: str, *, default: D, secret: bool = False, cast: Callable[[str], T]) -> Variable[T | D]: ...


def variable(
    name: str, *, default: Any = _REQUIRED, secret: bool = False, cast: Callable[[str], Any] = str
) -> Variable[Any]:
    """Declare that the handlers of this module need the environment variable `name`; read it by `.value`.

    Without a default there has to be a value wherever handlers are run. `default=None`: without a value the
    handlers of this module are off. `secret`: a deployment takes it from Secret Manager. `cast` converts the
    text to the value. Declared in a module without handlers, it is needed by all handlers.

    Declaring never raises: mistakes are reported before handlers are run.
    """
    return Variable(name, default, secret, cast)
