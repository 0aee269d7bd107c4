"""One JSON object a line, with Cloud Logging's field names; readable text where a person watches.

The deliveries' lines are written by `flowhook.edge`. What is noted about a delivery while it is under way
stands in every line that is written until its end, so the lines of a handler can be found by event id.
"""

import asyncio
import json
import logging
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from contextvars import Context, ContextVar
from datetime import UTC, datetime
from functools import partial
from typing import Any, TextIO

from pydantic_core import to_json

from flowhook import trace
from flowhook.quota import Quota

# What a caller sent and we note may be megabytes long; a log entry may not (256 KiB).
MAX_NOTED = 256
MAX_LIST = 50
MAX_MESSAGE = 2_000
MAX_STACK = 20_000
# The server's loggers. It gives them handlers of its own after `configure`, so that only a filter lasts.
SERVER = ("gunicorn.error", "uvicorn.error")
FRAMEWORK = "functions_framework"

_deliveries = logging.getLogger("flowhook")
_noted: ContextVar[dict[str, Any] | None] = ContextVar("noted", default=None)


def configure(level: str, project: str, stream: TextIO | None = None) -> None:
    """Send every record of the process to `stream` (standard output), replacing what was configured."""
    out = stream or sys.stdout
    handler: logging.StreamHandler[TextIO] = JsonLines(out, project)
    if out.isatty():
        handler = logging.StreamHandler(out)
        handler.setFormatter(TextFormatter())
    logging.basicConfig(level=level, handlers=[handler], force=True)
    logging.root.addFilter(_is_within_quota)
    for name in SERVER:
        logging.getLogger(name).addFilter(_write_as_ours)


def begin(headers: Mapping[bytes, bytes]) -> None:
    """A delivery begins: forget what was noted and take its trace from the headers."""
    _server_lines.settle()
    _noted.set(trace.fields(headers))


def note(**fields: Any) -> None:
    """Note something about the delivery under way. Never a body, a secret or a header's value."""
    noted = _noted.get()
    if noted is not None:
        for name, value in fields.items():
            noted[name] = _short(value)


def write(level: int, message: str, error: BaseException | None = None, **fields: Any) -> None:
    """The line of a delivery, with the traceback of `error` and, in JSON, `fields` beside it."""
    note(**fields)
    lines = logging.root.handlers[0] if logging.root.handlers else None
    if error is None and isinstance(lines, JsonLines):
        # One a delivery: a record's way through `logging` would cost it more than its validation.
        if _deliveries.isEnabledFor(level):
            lines.write(level, message)
    else:
        _deliveries.log(level, message, exc_info=error)


def write_apart(logger: logging.Logger, message: str, **fields: Any) -> None:
    """A warning that belongs to no delivery, though it may be written while one is under way."""

    def warn() -> None:
        _noted.set({})
        note(**fields)
        logger.warning(message)

    Context().run(warn)


class JsonLines(logging.StreamHandler[TextIO]):
    """Writes records as the JSON that Cloud Logging reads from standard output.

    https://cloud.google.com/logging/docs/structured-logging
    """

    def __init__(self, stream: TextIO, project: str) -> None:
        super().__init__(stream)
        self._traces = f"projects/{project}/traces/" if project else ""
        self._waiting: list[Callable[[], dict[str, Any]]] = []

    def write(self, level: int, message: str) -> None:
        """Write the line of a delivery as `emit` would, with all of this turn of the loop at once.

        One by one they cost more than twice as much: in cold caches, and a system call each.
        """
        noted = _noted.get() or {}
        entry = partial(self._entry, logging.getLevelName(level), message, time.time(), "flowhook", noted)
        loop = asyncio.get_running_loop()
        with self.lock or nullcontext():
            self._waiting.append(entry)
            if len(self._waiting) == 1:
                loop.call_soon(self.flush)

    def emit(self, record: logging.LogRecord) -> None:
        """Write the record, after what waits: that is older."""
        try:
            self.flush()
        except Exception:  # noqa: BLE001 - as `logging` does: who writes to the log is not to fail
            self.handleError(record)
        super().emit(record)

    def flush(self) -> None:
        """Write what waits, and see that the stream keeps nothing back."""
        with self.lock or nullcontext():
            waiting, self._waiting = self._waiting, []
            self.stream.write("".join([f"{_encode(entry())}\n" for entry in waiting]))
            super().flush()

    def format(self, record: logging.LogRecord) -> str:
        """The record on one line."""
        noted = _noted.get() or {}
        entry = self._entry(record.levelname, record.getMessage(), record.created, record.name, noted)
        if record.exc_info and record.exc_info[1]:
            entry["stack_trace"] = _stack(record.exc_info[1])
        return _encode(entry)

    def _entry(
        self, severity: str, message: str, created: float, logger: str, noted: Mapping[str, Any]
    ) -> dict[str, Any]:
        entry: dict[str, Any] = {
            "severity": severity,
            "message": _cut(message),
            "time": datetime.fromtimestamp(created, UTC).isoformat(),
            "logger": logger,
            **noted,
        }
        if "logging.googleapis.com/trace" in entry:
            entry["logging.googleapis.com/trace"] = self._traces + entry["logging.googleapis.com/trace"]
        return entry


class TextFormatter(logging.Formatter):
    """A record as a line for a terminal, with nothing in it that a terminal would obey."""

    def format(self, record: logging.LogRecord) -> str:
        """The record, and the traceback below it."""
        moment = datetime.fromtimestamp(record.created).astimezone().strftime("%H:%M:%S")
        noted = _noted.get() or {} if record.name == "flowhook" else {}
        ending = f"  [{noted['status']}, {noted['milliseconds']} ms]" if "status" in noted else ""
        text = f"{moment} {record.levelname:<7} {_printable(_cut(record.getMessage()))}{ending}"
        if record.exc_info and record.exc_info[1]:
            text += "\n" + "\n".join(map(_printable, _stack(record.exc_info[1]).splitlines()))
        return text


def _cut(message: str) -> str:
    return message if len(message) <= MAX_MESSAGE else message[:MAX_MESSAGE] + "…"


def _stack(error: BaseException) -> str:
    return "".join(traceback.format_exception(error))[-MAX_STACK:]


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def _encode(entry: Mapping[str, Any]) -> str:
    """The entry as JSON in ASCII, whatever the encoding of the stream; the slower way where it takes one."""
    try:
        text = to_json(entry, fallback=str, inf_nan_mode="strings")
    except ValueError:
        # Half an emoji, as a handler may cut one.
        return json.dumps(entry, default=str)
    return text.decode() if text.isascii() else json.dumps(entry, default=str)


def _write_as_ours(record: logging.LogRecord) -> bool:
    """Write a record of the server as every other one, and keep it from the server's own handlers."""
    if record.levelno >= logging.root.level and _server_lines.admits(record.name):
        logging.root.handle(record)
    return False


def _is_within_quota(record: logging.LogRecord) -> bool:
    """Whether to write what is logged without a logger's name, as the framework does where sending fails."""
    return FRAMEWORK not in record.pathname or _server_lines.admits(FRAMEWORK)


def _log_left_out(counts: Mapping[str, int]) -> None:
    message = f"{sum(counts.values())} more lines of the server are left out"
    write_apart(logging.getLogger(__name__), message, left_out=dict(counts))


# One for the process, as the loggers are.
_server_lines = Quota(_log_left_out)


def _short(value: Any) -> Any:
    if isinstance(value, str):
        return value if len(value) <= MAX_NOTED else value[:MAX_NOTED] + "…"
    if isinstance(value, (list, tuple)):
        return [_short(item) for item in value[:MAX_LIST]]
    return value
