"""The rows of the journal: their schema, and how they are read."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Collection, Iterator, Sequence
from datetime import datetime
from typing import TypeVar

from . import journal_uploads
from .models import SUCCESSES, TaskState
from .ports import Entry, Intent

__all__ = ["MARK", "STEPS", "attempts", "chunks", "entry_of", "newest_ended", "select", "standing"]

T = TypeVar("T")

#: The `application_id` of our files: "Topz" in ASCII.
MARK = 0x546F707A

#: The schema's history.  Steps are added, never changed: files in the world have seen them.
STEPS = (
    (
        # Numbers are never used twice (AUTOINCREMENT): an id that comes late must not land in
        # a row that took the place of a forgotten one.
        """
        CREATE TABLE jobs (
            id INTEGER PRIMARY KEY AUTOINCREMENT,
            reference TEXT,
            attempt INTEGER NOT NULL,
            fingerprint TEXT NOT NULL,
            model TEXT NOT NULL,
            factor TEXT,
            input TEXT NOT NULL,
            seconds REAL,
            size INTEGER,
            content_hash TEXT,
            nonce TEXT,
            owner TEXT NOT NULL,
            submit TEXT NOT NULL CHECK (submit IN ('intent', 'made', 'refused', 'unknown')),
            ended INTEGER NOT NULL DEFAULT 0,
            created_at TEXT NOT NULL,
            task_id TEXT,
            submitted_at TEXT,
            code INTEGER,
            words TEXT,
            state TEXT,
            state_at TEXT,
            result_urls TEXT,
            credits_consumed REAL,
            duration REAL,
            path TEXT,
            UNIQUE (reference, attempt),
            CHECK ((submit = 'made') = (task_id IS NOT NULL))
        )
        """,
        "CREATE INDEX jobs_by_task ON jobs (task_id) WHERE task_id IS NOT NULL",
        "CREATE INDEX jobs_open ON jobs (submit) WHERE NOT ended",
        """
        CREATE TABLE states (
            job INTEGER NOT NULL REFERENCES jobs ON DELETE CASCADE,
            at TEXT NOT NULL,
            state TEXT NOT NULL
        )
        """,
        "CREATE INDEX states_by_job ON states (job)",
        """
        CREATE TRIGGER jobs_state AFTER UPDATE OF state ON jobs WHEN NEW.state IS NOT OLD.state
        BEGIN INSERT INTO states VALUES (NEW.id, NEW.state_at, NEW.state); END
        """,
    ),
    journal_uploads.SCHEMA,
    ("ALTER TABLE jobs ADD COLUMN output TEXT",),
    ("ALTER TABLE jobs ADD COLUMN earlier_paths TEXT",),
    ("ALTER TABLE jobs ADD COLUMN service TEXT",),
)

#: The most rows that one statement takes; more would save little.  `UPDATE ... FROM`, which
#: several need, came with SQLite 3.33.
MANY = 64 if sqlite3.sqlite_version_info >= (3, 33) else 1

#: A lost attempt whose reference stands for a later one by now: nobody waits for it any more.
_SUPERSEDED = """
    submit != 'made' AND reference IS NOT NULL AND EXISTS (
        SELECT 1 FROM jobs AS later
        WHERE later.reference = jobs.reference AND later.attempt > jobs.attempt
            AND later.submit = 'made'
    )
"""

#: A success without a link is paid for all the same, and its link may come later.
_WITHOUT_LINK = f"""
    ended AND result_urls IS NULL
    AND lower(trim(state)) IN ({", ".join(f"'{word}'" for word in SUCCESSES)})
"""

#: SQL for the words of `Journal.jobs`.  An intent is always looked at: its owner may be dead.
_LISTS = {
    None: "1",
    "intent": "submit = 'intent' AND NOT ended",
    "made": "submit = 'made'",
    "refused": "submit = 'refused'",
    "unknown": "submit IN ('intent', 'unknown') AND NOT ended",
    "pending": "submit = 'made' AND NOT ended",
    "unfinished": (
        "submit IN ('intent', 'made', 'unknown') "
        f"AND (NOT ended OR {_WITHOUT_LINK}) AND NOT ({_SUPERSEDED})"
    ),
    "undelivered": "submit = 'made' AND output IS NOT NULL AND path IS NULL",
}


def chunks(items: Sequence[T]) -> Iterator[Sequence[T]]:
    """Cut items into pieces that one statement takes, of few sizes, so that few are compiled."""
    done, size = 0, MANY
    while done < len(items):
        while size > len(items) - done:
            size //= 2
        yield items[done : done + size]
        done += size


def attempts(db: sqlite3.Connection, references: Collection[str]) -> dict[str, list[sqlite3.Row]]:
    """Return the attempts at each reference that is known, oldest first."""
    found: dict[str, list[sqlite3.Row]] = {}
    for some in chunks(list(references)):
        marks = ", ".join("?" * len(some))
        rows = db.execute(
            f"SELECT * FROM jobs WHERE reference IN ({marks}) ORDER BY attempt",  # noqa: S608
            some,
        )
        for row in rows.fetchall():
            found.setdefault(row["reference"], []).append(row)
    return found


def standing(rows: Sequence[sqlite3.Row]) -> sqlite3.Row | None:
    """Return, of the attempts at a reference, the one it stands for: the newest not refused.

    Where nobody knows what that one made, it is the newest task of the same work that has not
    failed; and only where all were refused it is the newest of them.
    """
    bought = [row for row in rows if row["submit"] != "refused"]
    newest = next(reversed(bought or rows), None)
    if newest is None or newest["submit"] not in ("intent", "unknown"):
        return newest
    found = [
        row
        for row in bought
        if row["submit"] == "made" and row["fingerprint"] == newest["fingerprint"]
        if row["state"] is None or not TaskState(row["state"]).is_fail
    ]
    return next(reversed(found), newest)


def select(db: sqlite3.Connection, state: str | None) -> list[sqlite3.Row]:
    """Return the rows that `Journal.jobs` may list, oldest first, intents of the dead included."""
    where = _LISTS.get(state, "state = :state")
    return db.execute(
        f"SELECT * FROM jobs WHERE {where} ORDER BY id",  # noqa: S608  # our own words
        {"state": state},
    ).fetchall()


def newest_ended(db: sqlite3.Connection, limit: int) -> list[sqlite3.Row]:
    """Return the newest rows whose task has ended and whose duration is known, oldest first."""
    rows = db.execute(
        "SELECT * FROM jobs WHERE duration IS NOT NULL ORDER BY id DESC LIMIT ?", (limit,)
    ).fetchall()
    return rows[::-1]


def entry_of(row: sqlite3.Row) -> Entry:
    """Return the entry that a row holds, as it is written."""
    return Entry(
        id=row["id"],
        intent=Intent(
            reference=row["reference"],
            fingerprint=row["fingerprint"],
            model=row["model"],
            factor=row["factor"],
            input=json.loads(row["input"]),
            seconds=row["seconds"],
            size=row["size"],
            content_hash=row["content_hash"],
            nonce=row["nonce"],
            output=None if row["output"] is None else os.fsdecode(row["output"]),
            service=row["service"],
        ),
        submit=row["submit"],
        created_at=datetime.fromisoformat(row["created_at"]),
        task_id=row["task_id"],
        submitted_at=_at(row["submitted_at"]),
        code=row["code"],
        words=row["words"],
        state=row["state"],
        state_at=_at(row["state_at"]),
        result_urls=() if row["result_urls"] is None else tuple(json.loads(row["result_urls"])),
        credits_consumed=row["credits_consumed"],
        duration=row["duration"],
        path=None if row["path"] is None else os.fsdecode(row["path"]),
        earlier_paths=tuple(json.loads(row["earlier_paths"] or "[]")),
    )


def _at(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)
