"""Integrations, deliveries and the organization in one SQLite file, which survives a restart and a kill.

A delivery is stored before it is sent, and the result of an attempt before the next one is made. Times are
seconds since the epoch. Every call is a short transaction on the caller's thread.
"""

import json
import sqlite3
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from flows_emulator.integration import Integration
from flows_emulator.organization import Entity

# `user_version` of a file is how many of these have been applied to it.
MIGRATIONS = (
    """
    CREATE TABLE integrations (id TEXT PRIMARY KEY, document TEXT NOT NULL);
    CREATE TABLE entities (path TEXT PRIMARY KEY, document TEXT NOT NULL);
    CREATE TABLE deliveries (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        integration TEXT NOT NULL,
        created REAL NOT NULL,
        type TEXT NOT NULL,
        entity TEXT NOT NULL,
        manner TEXT NOT NULL,
        body BLOB NOT NULL,
        follows INTEGER,
        state TEXT NOT NULL DEFAULT 'pending',
        due REAL NOT NULL,
        attempts INTEGER NOT NULL DEFAULT 0,
        status INTEGER NOT NULL DEFAULT 0,
        milliseconds REAL NOT NULL DEFAULT 0,
        error TEXT NOT NULL DEFAULT ''
    );
    CREATE INDEX deliveries_due ON deliveries (due) WHERE state = 'pending';
    CREATE INDEX deliveries_state ON deliveries (state);
    CREATE TABLE attempts (
        delivery INTEGER NOT NULL REFERENCES deliveries (id) ON DELETE CASCADE,
        number INTEGER NOT NULL,
        document TEXT NOT NULL,
        PRIMARY KEY (delivery, number)
    ) WITHOUT ROWID;
    """,
)
# How many finished deliveries are stored, the newest ones, so that the file stays small.
KEPT = 10_000
SUMMARY = (
    "id, integration, created, type, entity, manner, follows, state, due, attempts, status, milliseconds, "
    "error, length(body) AS size"
)
SELECTED = (
    "(:state = '' OR state = :state) AND (:type = '' OR type GLOB :type) "
    "AND (:entity = '' OR instr(lower(entity), lower(:entity))) "
    "AND (:low < 0 OR (attempts > 0 AND status BETWEEN :low AND :high))"
)
READY = (
    "state = 'pending' AND (follows IS NULL OR NOT EXISTS "
    "(SELECT 1 FROM deliveries AS first WHERE first.id = deliveries.follows AND first.state = 'pending'))"
)


class StoreError(Exception):
    """The file can't be used; the message says why."""


@dataclass(frozen=True)
class New:
    """A delivery to store; `manner` names its fault. It waits for the one at index `follows` of its batch."""

    integration: str
    type: str
    entity: str
    body: bytes
    manner: str = ""
    follows: int | None = None


@dataclass(frozen=True)
class Selection:
    """A filter for deliveries; an empty field matches all.

    `type` is a pattern of event types, `entity` a part of the path in any case, `answer` the lowest and the
    highest status of the last answer, where 0 means that none came.
    """

    state: str = ""
    type: str = ""
    entity: str = ""
    answer: tuple[int, int] | None = None

    def parameters(self) -> dict[str, object]:
        """The values of the named parameters in SELECTED."""
        low, high = self.answer or (-1, -1)
        return {"state": self.state, "type": self.type, "entity": self.entity, "low": low, "high": high}


@dataclass(frozen=True)
class Due:
    """A delivery to be attempted now, for the `attempt`-th time."""

    id: int
    integration: str
    manner: str
    body: bytes
    attempt: int


@dataclass(frozen=True)
class Attempt:
    """What was sent and what came back; `status` 0 where nothing did, and then `error` says why.

    Headers are pairs of name and value as they were sent, except for masked secrets.
    """

    at: float
    milliseconds: float
    url: str
    request_headers: list[tuple[str, str]]
    status: int = 0
    error: str = ""
    response_headers: list[tuple[str, str]] = field(default_factory=list)
    response_body: str = ""

    def header(self, name: str) -> str:
        """A header of the response; empty if there is none."""
        return next((value for told, value in self.response_headers if told.lower() == name), "")


EVERYTHING = Selection()


class Store:
    """The SQLite file at `path`, created if missing. Raises StoreError if it can't be used."""

    def __init__(self, path: Path) -> None:
        try:
            # The file contains secrets, so only its owner may read it.
            path.touch(mode=0o600)
            self._database = sqlite3.connect(path, timeout=1.0, isolation_level=None)
        except (OSError, sqlite3.Error) as error:
            raise StoreError(f"{path} can't be used: {error}") from None
        self._database.row_factory = sqlite3.Row
        try:
            self._prepare()
        except sqlite3.Error as error:
            self.close()
            raise StoreError(f"{path} can't be used: {error}") from None

    def close(self) -> None:
        """Close the file."""
        self._database.close()

    def integrations(self) -> list[Integration]:
        """All of them, the removed ones too, the oldest first."""
        rows = self._database.execute("SELECT document FROM integrations ORDER BY rowid")
        return [_read_integration(row["document"]) for row in rows]

    def integration(self, identifier: str) -> Integration | None:
        """The integration with this id; None if there is none."""
        query = "SELECT document FROM integrations WHERE id = ?"
        row = self._database.execute(query, (identifier,)).fetchone()
        return _read_integration(row["document"]) if row else None

    def save(self, integration: Integration) -> None:
        """Insert an integration, or update it."""
        document = integration.model_dump(mode="json")
        document["settings"]["secret"] = integration.secret.decode() or None
        self._database.execute(
            "INSERT INTO integrations VALUES (?, ?) "
            "ON CONFLICT (id) DO UPDATE SET document = excluded.document",
            (integration.id, json.dumps(document)),
        )

    def entities(self) -> dict[str, Entity]:
        """The organization, by path."""
        rows = self._database.execute("SELECT path, document FROM entities ORDER BY rowid")
        return {row["path"]: json.loads(row["document"]) for row in rows}

    def happen(
        self,
        deliveries: Iterable[New],
        changed: Mapping[str, Entity],
        removed: Collection[str],
        now: float,
    ) -> list[int]:
        """Store what changed and the deliveries that follow, both or neither; return the deliveries' ids."""
        identifiers: list[int] = []
        with self._transaction():
            self._database.executemany(
                "INSERT INTO entities VALUES (?, ?) "
                "ON CONFLICT (path) DO UPDATE SET document = excluded.document",
                [(path, json.dumps(entity)) for path, entity in changed.items()],
            )
            self._database.executemany("DELETE FROM entities WHERE path = ?", [(path,) for path in removed])
            for new in deliveries:
                follows = None if new.follows is None else identifiers[new.follows]
                identifiers.append(self._insert(new, follows, now))
        return identifiers

    def due(self, now: float, limit: int, under_way: Collection[int]) -> list[Due]:
        """The deliveries to attempt now, without those under way; the longest due first."""
        rows = self._database.execute(
            f"SELECT id, integration, manner, body, attempts FROM deliveries WHERE {READY} AND due <= ? "  # noqa: S608
            "ORDER BY due, id LIMIT ?",
            (now, limit + len(under_way)),
        )
        found = [
            Due(row["id"], row["integration"], row["manner"], row["body"], row["attempts"] + 1)
            for row in rows
            if row["id"] not in under_way
        ]
        return found[:limit]

    def next_due(self, after: float) -> float | None:
        """The earliest time after `after` at which an attempt is due; None if there is none."""
        query = f"SELECT min(due) AS due FROM deliveries WHERE {READY} AND due > ?"  # noqa: S608
        due: float | None = self._database.execute(query, (after,)).fetchone()["due"]
        return due

    def record(self, delivery: int, attempt: Attempt, state: str, due: float) -> None:
        """Store an attempt; the delivery is then `pending` until `due`, `delivered` or `failed`."""
        with self._transaction():
            row = self._database.execute(
                "UPDATE deliveries SET attempts = attempts + 1, state = ?, due = ?, status = ?, "
                "milliseconds = ?, error = ? WHERE id = ? RETURNING attempts",
                (state, due, attempt.status, attempt.milliseconds, attempt.error, delivery),
            ).fetchone()
            if row:
                self._database.execute(
                    "INSERT INTO attempts VALUES (?, ?, ?)",
                    (delivery, row["attempts"], json.dumps(attempt.__dict__)),
                )

    def hasten(self, delivery: int, now: float) -> None:
        """Make a pending delivery due now."""
        query = "UPDATE deliveries SET due = ? WHERE id = ? AND state = 'pending'"
        self._database.execute(query, (now, delivery))

    def summaries(
        self, limit: int, before: int | None = None, selection: Selection = EVERYTHING
    ) -> list[dict[str, Any]]:
        """Deliveries without their bodies and attempts, the newest first; those before an id, if given."""
        rows = self._database.execute(
            f"SELECT {SUMMARY} FROM deliveries WHERE (:before IS NULL OR id < :before) AND {SELECTED} "  # noqa: S608
            "ORDER BY id DESC LIMIT :limit",
            {**selection.parameters(), "before": before, "limit": limit},
        )
        return [dict(row) for row in rows]

    def total(self, selection: Selection) -> int:
        """How many deliveries are selected."""
        query = f"SELECT count(*) AS count FROM deliveries WHERE {SELECTED}"  # noqa: S608
        count: int = self._database.execute(query, selection.parameters()).fetchone()["count"]
        return count

    def latest(self) -> int:
        """The highest id that a delivery ever had; 0 where nothing was ever sent."""
        query = "SELECT seq FROM sqlite_sequence WHERE name = 'deliveries'"
        row = self._database.execute(query).fetchone()
        return row["seq"] if row else 0

    def summary(self, delivery: int) -> dict[str, Any] | None:
        """One delivery without its body and attempts; None if there is none."""
        query = f"SELECT {SUMMARY} FROM deliveries WHERE id = ?"  # noqa: S608
        row = self._database.execute(query, (delivery,)).fetchone()
        return dict(row) if row else None

    def body(self, delivery: int) -> bytes | None:
        """The exact body of a delivery; None if there is none."""
        row = self._database.execute("SELECT body FROM deliveries WHERE id = ?", (delivery,)).fetchone()
        return row["body"] if row else None

    def attempts(self, delivery: int) -> list[dict[str, Any]]:
        """The attempts at a delivery, the first one first."""
        query = "SELECT document FROM attempts WHERE delivery = ? ORDER BY number"
        return [json.loads(row["document"]) for row in self._database.execute(query, (delivery,))]

    def counts(self) -> dict[str, int]:
        """How many deliveries there are in each state."""
        rows = self._database.execute("SELECT state, count(*) AS count FROM deliveries GROUP BY state")
        return {"pending": 0, "delivered": 0, "failed": 0, **{row["state"]: row["count"] for row in rows}}

    def pending(self) -> int:
        """How many deliveries are pending."""
        query = "SELECT count(*) AS count FROM deliveries WHERE state = 'pending'"
        count: int = self._database.execute(query).fetchone()["count"]
        return count

    def prune(self, kept: int = KEPT) -> None:
        """Delete all finished deliveries but the newest `kept`."""
        self._database.execute(
            "DELETE FROM deliveries WHERE state <> 'pending' AND id <= "
            "(SELECT id FROM deliveries WHERE state <> 'pending' ORDER BY id DESC LIMIT 1 OFFSET ?)",
            (kept,),
        )

    def clear(self) -> None:
        """Delete all finished deliveries."""
        self._database.execute("DELETE FROM deliveries WHERE state <> 'pending'")

    def _prepare(self) -> None:
        # Lock the file for one emulator: two would send everything twice.
        self._database.execute("PRAGMA locking_mode = EXCLUSIVE")
        # In this mode a committed transaction survives the end of the process; a power failure may undo it.
        self._database.execute("PRAGMA journal_mode = WAL")
        self._database.execute("PRAGMA synchronous = NORMAL")
        self._database.execute("PRAGMA foreign_keys = ON")
        version = self._database.execute("PRAGMA user_version").fetchone()[0]
        if version > len(MIGRATIONS):
            raise sqlite3.DatabaseError("a newer flowhook made it")
        for number, script in enumerate(MIGRATIONS[version:], version + 1):
            self._database.executescript(f"BEGIN; {script} PRAGMA user_version = {number}; COMMIT;")

    def _insert(self, new: New, follows: int | None, now: float) -> int:
        row = self._database.execute(
            "INSERT INTO deliveries (integration, created, type, entity, manner, body, follows, due) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?) RETURNING id",
            (new.integration, now, new.type, new.entity, new.manner, new.body, follows, now),
        ).fetchone()
        identifier: int = row["id"]
        return identifier

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._database.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._database.execute("ROLLBACK")
            raise
        self._database.execute("COMMIT")


def _read_integration(text: str) -> Integration:
    return Integration.model_validate_json(text)
