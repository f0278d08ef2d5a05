"""The rows of the journal: their schema, how they are written and read."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import attrs

from . import journal_uploads
from .errors import JournalError, clean
from .models import TaskState
from .ports import Entry, Intent, SubmitState
from .urls import without_query

__all__ = [
    "MARK",
    "STEPS",
    "bind_task",
    "entry_of",
    "insert",
    "note_path",
    "note_task",
    "select",
    "settle",
    "standing",
]

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
)

#: SQL for the words of `Journal.jobs`.  An intent is always looked at: its owner may be dead.
_LISTS = {
    None: "1",
    "intent": "submit = 'intent' AND NOT ended",
    "made": "submit = 'made'",
    "refused": "submit = 'refused'",
    "unknown": "submit IN ('intent', 'unknown') AND NOT ended",
    "pending": "submit = 'made' AND NOT ended",
    "unfinished": "submit IN ('intent', 'made', 'unknown') AND NOT ended",
    "undelivered": "submit = 'made' AND output IS NOT NULL AND path IS NULL",
}

_INSERT = """
INSERT INTO jobs (
    reference, attempt, fingerprint, model, factor, input, seconds, size, content_hash, nonce,
    output, owner, submit, created_at
) VALUES (
    ?1, (SELECT coalesce(max(attempt), 0) + 1 FROM jobs WHERE reference = ?1),
    ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, 'intent', ?12
)
"""

#: The common case of a note: a task that has not ended is in another state.
_NEW_STATE = """
UPDATE jobs SET
    state = :state, state_at = :now, ended = :ended,
    result_urls = coalesce(:result_urls, result_urls),
    credits_consumed = coalesce(:credits_consumed, credits_consumed),
    duration = coalesce(:duration, duration)
WHERE task_id = :task_id AND NOT ended AND state IS NOT :state
"""


def standing(db: sqlite3.Connection, reference: str | None) -> sqlite3.Row | None:
    """Return the row that a reference stands for: the newest that was not refused.

    Only where all were refused it is the newest of them.
    """
    row: sqlite3.Row | None = db.execute(
        "SELECT * FROM jobs WHERE reference = ? ORDER BY submit = 'refused', attempt DESC LIMIT 1",
        (reference,),
    ).fetchone()
    return row


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


def insert(db: sqlite3.Connection, intent: Intent, *, owner: str, now: datetime) -> Entry:
    """Write an intent down as the next attempt at its reference."""
    public = {key: _public(value) for key, value in intent.input.items()}
    kept = json.dumps(public)
    if any(type(value) is not str for value in public.values()):
        public = json.loads(kept)  # an entry's input is the same from here and from the file
    values = (
        intent.reference,
        intent.fingerprint,
        intent.model,
        intent.factor,
        kept,
        intent.seconds,
        intent.size,
        intent.content_hash,
        intent.nonce,
        None if intent.output is None else _place(intent.output),
        owner,
        now.isoformat(),
    )
    done = db.execute(_INSERT, values)
    assert done.lastrowid is not None
    if public != intent.input:
        intent = attrs.evolve(intent, input=public)
    return Entry(id=done.lastrowid, intent=intent, submit="intent", created_at=now)


def settle(
    db: sqlite3.Connection,
    entry_id: int,
    submit: SubmitState,
    *,
    code: int | None = None,
    words: str,
) -> None:
    """Write down that a submit was refused or that nobody knows.

    Raises:
        JournalError: There is no such entry, or it has a task.
    """
    task_id = _task_of(db, entry_id)
    if task_id is not None:
        raise JournalError(f"Entry {entry_id} stands for task {clean(task_id, 80)} already.")
    # A number that SQLite cannot hold informs nobody.
    number = code if code is not None and abs(code) < 2**63 else None
    db.execute(
        "UPDATE jobs SET submit = ?, ended = ?, code = ?, words = ? WHERE id = ?",
        (submit, submit == "refused", number, clean(words), entry_id),
    )


def bind_task(db: sqlite3.Connection, entry_id: int, task_id: str, *, now: datetime) -> None:
    """Write down which task a submit made, whatever was believed of it before.

    Raises:
        JournalError: There is no such entry, or it has another task.
    """
    done = db.execute(
        "UPDATE jobs SET submit = 'made', ended = 0, task_id = ?, submitted_at = ?, "
        "code = NULL, words = NULL WHERE id = ? AND task_id IS NULL",
        (task_id, now.isoformat(), entry_id),
    )
    if not done.rowcount and (known := _task_of(db, entry_id)) != task_id:
        raise JournalError(f"Entry {entry_id} stands for task {clean(known, 80)} already.")


def note_task(
    db: sqlite3.Connection,
    task_id: str,
    *,
    state: str,
    result_urls: Sequence[str],
    credits_consumed: float | None,
    duration: float | None,
    now: datetime,
) -> None:
    """Write down what is new about a task.

    A task that has ended stays so; what is left out erases nothing.
    """
    news = {
        "state": str(state),
        "result_urls": json.dumps(list(result_urls)) if result_urls else None,
        "credits_consumed": credits_consumed,
        "duration": duration,
    }
    ended = TaskState(state).is_terminal
    moment = {"task_id": task_id, "now": now.isoformat(), "ended": ended}
    if db.execute(_NEW_STATE, {**news, **moment}).rowcount:
        return
    for row in db.execute("SELECT * FROM jobs WHERE task_id = ?", (task_id,)).fetchall():
        # What is known already is not written again: that could cost an fsync.
        fresh = {name: new for name, new in news.items() if new is not None and new != row[name]}
        if row["ended"]:
            if not _same_end(row["state"], state):
                continue
            fresh.pop("state", None)
        if "state" in fresh:
            fresh |= {"state_at": now.isoformat(), "ended": TaskState(state).is_terminal}
        if fresh:
            names = ", ".join(f"{name} = :{name}" for name in fresh)
            db.execute(f"UPDATE jobs SET {names} WHERE id = :id", {**fresh, "id": row["id"]})  # noqa: S608


def note_path(db: sqlite3.Connection, task_id: str, path: str | os.PathLike[str]) -> None:
    """Write down where the result of a task lies."""
    place = _place(path)
    db.execute(
        "UPDATE jobs SET path = ? WHERE task_id = ? AND path IS NOT ?", (place, task_id, place)
    )


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
    )


def _place(path: str | os.PathLike[str]) -> str | bytes:
    name = os.fspath(path)
    try:
        name.encode()
    except UnicodeEncodeError:
        return os.fsencode(name)  # no UTF-8: SQLite holds it as bytes only
    return name


def _at(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)


def _public(value: Any) -> Any:
    """Return a part of an input as it may be kept: the query of a URL can hold secrets."""
    is_url = isinstance(value, str) and value.startswith(("http://", "https://"))
    return without_query(value) if is_url else value


def _task_of(db: sqlite3.Connection, entry_id: int) -> str | None:
    row = db.execute("SELECT task_id FROM jobs WHERE id = ?", (entry_id,)).fetchone()
    if row is None:
        raise JournalError(f"The journal holds no entry {entry_id}.")
    task_id: str | None = row["task_id"]
    return task_id


def _same_end(old: str, new: str) -> bool:
    return TaskState(new).is_terminal and TaskState(old).is_fail == TaskState(new).is_fail
