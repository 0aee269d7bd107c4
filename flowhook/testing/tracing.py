"""Stops a call at a place in the handler's code: for a crash there, or for another call meanwhile."""

import linecache
import sys
from collections.abc import Callable, Generator
from types import CodeType, FrameType
from typing import Any

Act = Callable[[str], None]


class Died(BaseException):
    """The process dies here. No handler may catch it, so it is no Exception."""


class Tracer:
    """Counts the lines of a handler that a call runs, and calls `act` before the one with the index `at`.

    `watches` returns whether a function's code is the handler's.
    """

    def __init__(self, watches: Callable[[CodeType], bool], at: int | None = None, act: Act | None = None):
        self.lines = 0
        self._watches = watches
        self._at = at
        self._act = act

    def run(self, call: Callable[[], Any]) -> Any:
        """What the call returns. Raises what it raises, and what `act` raises, from within the call."""
        before = sys.gettrace()
        sys.settrace(self._enter)
        try:
            return call()
        finally:
            # The tracer of a debugger or of a coverage measurement, for example.
            sys.settrace(before)

    def _enter(self, frame: FrameType, _event: str, _argument: Any) -> Any:
        return self._step if self._watches(frame.f_code) else None

    def _step(self, frame: FrameType, event: str, _argument: Any) -> Any:
        if event == "line":
            self.lines += 1
            if self._act and self.lines - 1 == self._at:
                self._act(place(frame))
        return self._step


def place(frame: FrameType) -> str:
    """`line 12, return x`: where a call stands."""
    code = linecache.getline(frame.f_code.co_filename, frame.f_lineno).strip()
    return f"line {frame.f_lineno}" + (f", {code}" if code else "")


class Paced:
    """A coroutine that counts its waits, and runs `meanwhile` at the end of the one with the index `at`."""

    def __init__(self, coroutine: Any, at: int | None = None, meanwhile: Callable[[], Any] | None = None):
        self.waits = 0
        self._coroutine = coroutine
        self._at = at
        self._meanwhile = meanwhile

    def __await__(self) -> Generator[Any, Any, Any]:
        inner = self._coroutine.__await__()
        while True:
            try:
                waits_for = inner.send(None)
            except StopIteration as end:
                return end.value
            self.waits += 1
            yield waits_for
            if self._meanwhile and self.waits - 1 == self._at:
                yield from self._meanwhile().__await__()
