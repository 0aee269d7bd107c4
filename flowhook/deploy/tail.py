"""Deliveries as they happen, one line each, from Cloud Logging.

`entries:list` is asked again and again. `entries:tail` would push them, but over gRPC alone, which nothing
here needs otherwise, and it may leave entries out when many come.
https://cloud.google.com/logging/docs/reference/v2/rest/v2/entries/list
"""

import json
import math
from collections.abc import Iterator, Sequence
from typing import NoReturn

from flowhook.deploy import deployed, kept, metrics, moments
from flowhook.deploy.errors import DeployError
from flowhook.deploy.kinds import LOGGING
from flowhook.deploy.resources import CONSUME, RECEIVE
from flowhook.deploy.rest import Document
from flowhook.deploy.run import Deployment

# Seconds between two questions; a project may ask 60 times in a minute: https://cloud.google.com/logging/quotas
EVERY = 3.0
AT_ONCE = 1000
# Seconds: what happened just before is shown too.
BEFORE = 60
# An entry may be found this much later than it was received, and so than entries that are shown already.
OVERLAP = 30
# How late an entry may be received: what is older is not looked through, which would take long.
LATEST = 3600
# While nothing comes, what is asked for begins this long ago, so that it doesn't grow for ever.
IDLE = 600
# The fields of a line that name handlers.
NAMING = ("handlers", "failed", "rejected", "duplicate")


class Cursor:
    """Up to where entries have been shown: by the time at which Google received them, and their ids.

    An entry is known by its timestamp and insertId, as Cloud Logging itself tells doubles.
    """

    def __init__(self, since: float) -> None:
        self._newest = since
        self._shown: dict[tuple[str, str], float] = {}

    @property
    def start(self) -> int:
        """From when on to ask for."""
        return math.floor(self._newest) - OVERLAP

    def fresh(self, entries: Sequence[Document]) -> list[Document]:
        """Those that were not given before."""
        new = []
        for entry in entries:
            key = (str(entry.get("timestamp")), str(entry.get("insertId")))
            if key not in self._shown:
                self._shown[key] = moments.stamped(str(entry.get("receiveTimestamp", "")))
                new.append(entry)
        return new

    def advance(self, asked_at: float) -> None:
        """Everything that there was has been seen: forget what won't be asked for again."""
        self._newest = max([self._newest, asked_at - IDLE, *self._shown.values()])
        self._shown = {key: at for key, at in self._shown.items() if at >= self.start}


def tail(run: Deployment) -> NoReturn:
    """Show deliveries until somebody ends it. Raises DeployError, and KeyboardInterrupt at that end."""
    which = filter_of(run)
    run.tell(f"Deliveries of {run.place.name} as they happen; Ctrl-C ends it.")
    cursor = Cursor(run.api.clock.now() - BEFORE + OVERLAP)
    while True:
        asked_at = run.api.clock.now()
        for page in _pages(run, f"{which} AND {_since(cursor.start)}"):
            for entry in cursor.fresh(page):
                run.around.show(line(entry))
        cursor.advance(asked_at)
        run.api.clock.sleep(EVERY)


def filter_of(run: Deployment) -> str:
    """What Cloud Logging is asked for. Raises DeployError where an option means nothing that there is."""
    options = run.options
    wanted = [metrics.lines_of(run.place, RECEIVE, CONSUME)]
    # What was too much to have a line each is one line without an outcome, of no event and no handler.
    summed_up = not options.handler and options.type in ("", "*")
    wanted.append(f"(jsonPayload.outcome:*{' OR jsonPayload.left_out:*' if summed_up else ''})")
    if options.handler:
        _check_handler(run)
        name = json.dumps(options.handler, ensure_ascii=False)
        wanted.append(f"({' OR '.join(f'jsonPayload.{field}={name}' for field in NAMING)})")
    if options.type:
        deployed.matching(options.type)
        wanted += _halves(options.type)
    if options.failed:
        wanted.append("severity>=WARNING")
    return " AND ".join(wanted)


def line(entry: Document) -> str:
    """A delivery's line, as `receive` itself would write it on a terminal."""
    payload = entry.get("jsonPayload") or {}
    at = moments.stamped(str(entry.get("timestamp", "")))
    return deployed.terminal_line(
        at, str(entry.get("severity", "DEFAULT")), str(payload.get("message", "")), payload
    )


def _halves(pattern: str) -> Iterator[str]:
    """Each half of a pattern of event types that is no `*`."""
    category, _, operation = pattern.partition(".")
    if category != "*":
        yield f'jsonPayload.event_type=~"^{category}[.]"'
    if operation not in ("", "*"):
        yield f'jsonPayload.event_type=~"[.]{operation}$"'


def _check_handler(run: Deployment) -> None:
    """Raise DeployError where nothing would ever be shown."""
    known = kept.handlers_of_consume(run)
    if known is not None and run.options.handler not in known:
        raise DeployError(f"no handler {run.options.handler} is deployed; these are: {', '.join(known)}")


def _since(start: int) -> str:
    received, written = (moments.stamp(moment) for moment in (start, start - LATEST))
    return f'receiveTimestamp>="{received}" AND timestamp>="{written}"'


def _pages(run: Deployment, filter_: str) -> Iterator[list[Document]]:
    """The entries, the oldest first; a page may be empty though others follow."""
    body = {
        "resourceNames": [f"projects/{run.place.project}"],
        "filter": filter_,
        "orderBy": "timestamp asc",
        "pageSize": AT_ONCE,
    }
    token = None
    while token != "":
        page = run.api.request(
            "POST", f"{LOGGING}/entries:list", body | ({"pageToken": token} if token else {})
        )
        yield page.get("entries", [])
        token = page.get("nextPageToken", "")
