"""One JSON object a line, with Cloud Logging's field names; readable text on a terminal.

`flowhook.edge` writes the line of each delivery. What is noted about a delivery is added to every line that
is logged until it ends, so that a handler's lines can be found by event id.
"""

import asyncio
import json
import logging
import sys
import time
import traceback
from collections.abc import Mapping
from contextlib import nullcontext
from contextvars import Context, ContextVar
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any, TextIO

from pydantic_core import to_json

from flowhook import trace
from flowhook.quota import Quota

# What a caller sent may be megabytes long; a log entry may have 256 KiB.
MAX_NOTED = 256
MAX_LIST = 50
MAX_MESSAGE = 2_000
MAX_STACK = 20_000
NUMBERS = frozenset((int, float, dict))
NOTHING: Mapping[str, Any] = MappingProxyType({})
# The server's loggers. It replaces their handlers after `configure`, so only a filter stays.
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


def note(fields: Mapping[str, Any]) -> None:
    """Note something about the delivery under way. Never a body, a secret or a header's value."""
    noted = _noted.get()
    if noted is not None:
        for name, value in fields.items():
            kind = value.__class__
            short = kind in NUMBERS or (kind is str and len(value) <= MAX_NOTED)
            noted[name] = value if short else _short(value)


def note_event(event_id: str, event_type: str, entity_path: str) -> None:
    """Note which event is being delivered."""
    noted = _noted.get()
    if noted is not None:
        noted["event_id"], noted["event_type"], noted["entity_path"] = (
            event_id,
            event_type,
            _short(entity_path),
        )


def write(
    level: int, message: str, error: BaseException | None = None, fields: Mapping[str, Any] = NOTHING
) -> None:
    """Write the line of a delivery, with the traceback of `error` and, in JSON, `fields` beside it."""
    note(fields)
    lines = logging.root.handlers[0] if logging.root.handlers else None
    if error is None and isinstance(lines, JsonLines):
        # Each delivery writes one, and a record's way through `logging` costs more than validating the event.
        if _deliveries.isEnabledFor(level):
            lines.write(level, message)
    else:
        _deliveries.log(level, message, exc_info=error)


def write_apart(logger: logging.Logger, message: str, fields: Mapping[str, Any]) -> None:
    """Log a warning that belongs to no delivery, though one may be under way."""

    def warn() -> None:
        _noted.set({})
        note(fields)
        logger.warning(message)

    Context().run(warn)


class JsonLines(logging.StreamHandler[TextIO]):
    """Writes records as the JSON that Cloud Logging reads from standard output.

    https://cloud.google.com/logging/docs/structured-logging
    """

    def __init__(self, stream: TextIO, project: str) -> None:
        super().__init__(stream)
        self._traces = f"projects/{project}/traces/" if project else ""
        self._waiting: list[tuple[int, str, Mapping[str, Any]]] = []
        self._turn = ""

    def write(self, level: int, message: str) -> None:
        """Write the line of a delivery, together with all others of this iteration of the loop.

        One by one they cost more than twice as much: each with cold caches and a system call. They share one
        timestamp.
        """
        noted = _noted.get() or NOTHING
        with self.lock or nullcontext():
            if not self._waiting:
                self._turn = _iso(time.time())
                asyncio.get_running_loop().call_soon(self.flush)
            self._waiting.append((level, message, noted))

    def emit(self, record: logging.LogRecord) -> None:
        """Write the record, after the older lines that wait."""
        try:
            self.flush()
        except Exception:  # noqa: BLE001 - as `logging` does: who writes to the log is not to fail
            self.handleError(record)
        super().emit(record)

    def flush(self) -> None:
        """Write the lines that wait, and flush the stream."""
        with self.lock or nullcontext():
            waiting, self._waiting = self._waiting, []
            entries = [self._entry(*line, self._turn, "flowhook") for line in waiting]
            self.stream.write("".join([f"{_encode(entry)}\n" for entry in entries]))
            super().flush()

    def format(self, record: logging.LogRecord) -> str:
        """The record on one line."""
        noted = _noted.get() or {}
        moment = _iso(record.created)
        entry = self._entry(record.levelno, record.getMessage(), noted, moment, record.name)
        if record.exc_info and record.exc_info[1]:
            entry["stack_trace"] = _stack(record.exc_info[1])
        return _encode(entry)

    def _entry(
        self, level: int, message: str, noted: Mapping[str, Any], moment: str, logger: str
    ) -> dict[str, Any]:
        entry: dict[str, Any] = {
            "severity": logging.getLevelName(level),
            "message": _cut(message),
            "time": moment,
            "logger": logger,
            **noted,
        }
        if "logging.googleapis.com/trace" in entry:
            entry["logging.googleapis.com/trace"] = self._traces + entry["logging.googleapis.com/trace"]
        return entry


class TextFormatter(logging.Formatter):
    """A record as a line for a terminal, without characters that a terminal would act on."""

    def format(self, record: logging.LogRecord) -> str:
        """The record, and the traceback below it."""
        noted = _noted.get() or {} if record.name == "flowhook" else {}
        text = terminal_line(record.created, record.levelname, record.getMessage(), noted)
        if record.exc_info and record.exc_info[1]:
            text += "\n" + "\n".join(map(_printable, _stack(record.exc_info[1]).splitlines()))
        return text


def terminal_line(created: float, level: str, message: str, noted: Mapping[str, Any]) -> str:
    """A record in one line for a terminal; `created` is in seconds since 1970."""
    moment = datetime.fromtimestamp(created).astimezone().strftime("%H:%M:%S")
    tried = noted.get("headers_tried")
    ending = f"  headers tried: {_printable(', '.join(map(str, tried)))}" if tried else ""
    ending += f"  [{noted['status']}, {noted['milliseconds']} ms]" if "status" in noted else ""
    return f"{moment} {level:<7} {_printable(_cut(message))}{ending}"


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat()


def _cut(message: str) -> str:
    return message if len(message) <= MAX_MESSAGE else message[:MAX_MESSAGE] + "…"


def _stack(error: BaseException) -> str:
    return "".join(traceback.format_exception(error))[-MAX_STACK:]


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def _encode(entry: Mapping[str, Any]) -> str:
    """The entry as JSON in ASCII, whatever the stream takes; by `json` where the faster encoder can't."""
    try:
        text = to_json(entry, fallback=str, inf_nan_mode="strings")
    except ValueError:
        # A lone surrogate: a handler may have cut an emoji in half.
        return json.dumps(entry, default=str)
    return text.decode() if text.isascii() else json.dumps(entry, default=str)


def _write_as_ours(record: logging.LogRecord) -> bool:
    """Write a record of the server like any other; False keeps it from the server's own handlers."""
    if record.levelno >= logging.root.level and _server_lines.admits(record.name):
        logging.root.handle(record)
    return False


def _is_within_quota(record: logging.LogRecord) -> bool:
    """Whether to write a record of the root logger, which the framework uses where sending fails."""
    return FRAMEWORK not in record.pathname or _server_lines.admits(FRAMEWORK)


def _log_left_out(counts: Mapping[str, int]) -> None:
    message = f"{sum(counts.values())} more lines of the server are left out"
    write_apart(logging.getLogger(__name__), message, {"left_out": dict(counts)})


# One for the process, because loggers are shared.
_server_lines = Quota(_log_left_out)


def _short(value: Any) -> Any:
    if isinstance(value, str):
        return value if len(value) <= MAX_NOTED else value[:MAX_NOTED] + "…"
    if isinstance(value, (list, tuple)):
        return [_short(item) for item in value[:MAX_LIST]]
    return value
