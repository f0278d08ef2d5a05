"""What is written into the journal's rows: intents, their outcomes, and what became of tasks.

What comes by the hundred is written by few statements: `insert_all`, `bind_all` and `note_all`
leave the same rows as one piece after the other does, or raise.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import attrs

from .errors import JournalError, clean
from .journal_rows import chunks
from .models import TaskState
from .ports import Entry, Intent, SubmitState
from .urls import without_query

__all__ = [
    "Bond",
    "BoundError",
    "News",
    "bind_all",
    "insert_all",
    "note_all",
    "note_path",
    "remark",
    "settle",
]

#: How many earlier places of one result are kept.
_PLACES = 100

#: The common case of news: a task that has not ended is in another state.
_NEW_STATE = """
UPDATE jobs SET
    state = :state, state_at = :state_at, ended = :ended,
    result_urls = coalesce(:result_urls, result_urls),
    credits_consumed = coalesce(:credits_consumed, credits_consumed),
    duration = coalesce(:duration, duration)
WHERE task_id = :task_id AND NOT ended AND state IS NOT :state
"""

_INSERT = """
INSERT INTO jobs (
    id, reference, attempt, fingerprint, model, factor, input, seconds, size, content_hash, nonce,
    output, service, owner, submit, created_at
) VALUES {}
"""

_BIND = """
UPDATE jobs SET
    submit = 'made', ended = 0, task_id = made.column2, submitted_at = ?, code = NULL, words = NULL
FROM (VALUES {}) AS made
WHERE jobs.id = made.column1 AND jobs.task_id IS NULL
"""

#: Finds whatever is not the common case.
_OTHERS = """
SELECT 1 FROM (VALUES {}) AS news JOIN jobs ON jobs.task_id = news.column1
WHERE jobs.ended OR jobs.state IS news.column2 LIMIT 1
"""

_NOTE = """
UPDATE jobs SET
    state = news.column2, state_at = news.column3, ended = news.column4,
    result_urls = coalesce(news.column5, result_urls),
    credits_consumed = coalesce(news.column6, credits_consumed),
    duration = coalesce(news.column7, duration)
FROM (VALUES {}) AS news
WHERE jobs.task_id = news.column1
"""


class BoundError(JournalError):
    """An entry has a task already, and keeps it."""


class GoneError(JournalError):
    """There is no such entry: it was forgotten."""


@attrs.frozen
class Bond:
    """Which task the submit of an entry made."""

    entry_id: int
    task_id: str


@attrs.frozen
class News:
    """What was seen of a task; None is nothing new."""

    task_id: str
    state: str
    result_urls: Sequence[str]
    credits_consumed: float | None
    duration: float | None
    now: datetime


def insert_all(
    db: sqlite3.Connection, intents: Sequence[tuple[Intent, int]], *, owner: str, now: datetime
) -> list[Entry]:
    """Write intents down, each with the number of its attempt at its reference."""
    entries, rows = [], []
    moment = now.isoformat()
    for entry_id, (intent, attempt) in enumerate(intents, _newest_id(db) + 1):
        public = {key: _public(value) for key, value in intent.input.items()}
        kept = json.dumps(public)
        if any(type(value) is not str for value in public.values()):
            public = json.loads(kept)  # an entry's input is the same from here and from the file
        rows.append(
            (
                entry_id,
                intent.reference,
                attempt,
                intent.fingerprint,
                intent.model,
                intent.factor,
                kept,
                intent.seconds,
                intent.size,
                intent.content_hash,
                intent.nonce,
                None if intent.output is None else _place(intent.output),
                intent.service,
                owner,
                "intent",
                moment,
            )
        )
        if public != intent.input:
            intent = attrs.evolve(intent, input=public)
        entries.append(Entry(id=entry_id, intent=intent, submit="intent", created_at=now))
    for some in chunks(rows):
        _for_all(db, _INSERT, some)
    return entries


def _newest_id(db: sqlite3.Connection) -> int:
    """Return the highest number that was ever given: none is given twice."""
    row = db.execute("SELECT seq FROM sqlite_sequence WHERE name = 'jobs'").fetchone()
    return 0 if row is None else int(row[0])


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
        raise BoundError(f"Entry {entry_id} stands for task {clean(task_id, 80)} already.")
    # A number that SQLite cannot hold informs nobody.
    number = code if code is not None and abs(code) < 2**63 else None
    db.execute(
        "UPDATE jobs SET submit = ?, ended = ?, code = ?, words = ? WHERE id = ?",
        (submit, submit == "refused", number, clean(words), entry_id),
    )


def remark(db: sqlite3.Connection, entry_id: int, words: str) -> None:
    """Keep words of a submit under way: what is known of it if its process ends now."""
    db.execute(
        "UPDATE jobs SET words = ? WHERE id = ? AND submit = 'intent'", (clean(words), entry_id)
    )


def bind_all(db: sqlite3.Connection, bonds: Sequence[Bond], *, now: datetime) -> None:
    """Write down which tasks submits made, whatever was believed of them before.

    Raises:
        JournalError: An entry does not exist, or has another task.
    """
    for some in chunks(bonds):
        if len(some) > 1:
            pairs = [(bond.entry_id, bond.task_id) for bond in some]
            if _for_all(db, _BIND, pairs, now.isoformat()).rowcount == len(some):
                continue
        for bond in some:
            _bind(db, bond, now)


def _bind(db: sqlite3.Connection, bond: Bond, now: datetime) -> None:
    done = db.execute(
        "UPDATE jobs SET submit = 'made', ended = 0, task_id = ?, submitted_at = ?, "
        "code = NULL, words = NULL WHERE id = ? AND task_id IS NULL",
        (bond.task_id, now.isoformat(), bond.entry_id),
    )
    if not done.rowcount and (known := _task_of(db, bond.entry_id)) != bond.task_id:
        raise BoundError(f"Entry {bond.entry_id} stands for task {clean(known, 80)} already.")


def note_all(db: sqlite3.Connection, news: Sequence[News]) -> None:
    """Write down what is new about tasks.

    A task that has ended stays so; what is left out erases nothing.
    """
    for some in chunks(news):
        if len(some) == 1 or not _note_together(db, some):
            for each in some:
                _note(db, each)


def _note_together(db: sqlite3.Connection, news: Sequence[News]) -> bool:
    """Write down the common case: tasks that have not ended are in other states.

    False when there is any other among them; nothing is written then.
    """
    if len({each.task_id for each in news}) < len(news):
        return False
    seen = [(each.task_id, str(each.state)) for each in news]
    if _for_all(db, _OTHERS, seen).fetchone() is not None:
        return False
    _for_all(db, _NOTE, [tuple(_columns(each).values()) for each in news])
    return True


def _note(db: sqlite3.Connection, news: News) -> None:
    columns = _columns(news)
    if db.execute(_NEW_STATE, columns).rowcount:
        return
    for row in db.execute("SELECT * FROM jobs WHERE task_id = ?", (news.task_id,)).fetchall():
        # What is known already is not written again: that could cost an fsync.
        fresh = {
            name: columns[name]
            for name in ("state", "result_urls", "credits_consumed", "duration")
            if columns[name] is not None and columns[name] != row[name]
        }
        if row["ended"]:
            if not _same_end(row["state"], news.state):
                continue
            fresh.pop("state", None)
        if "state" in fresh:
            fresh |= {"state_at": columns["state_at"], "ended": columns["ended"]}
        if fresh:
            names = ", ".join(f"{name} = :{name}" for name in fresh)
            sql = f"UPDATE jobs SET {names} WHERE id = :id"  # noqa: S608  # names of our own
            db.execute(sql, {**fresh, "id": row["id"]})


def _columns(news: News) -> dict[str, Any]:
    return {
        "task_id": news.task_id,
        "state": str(news.state),
        "state_at": news.now.isoformat(),
        "ended": TaskState(news.state).is_terminal,
        "result_urls": json.dumps(list(news.result_urls)) if news.result_urls else None,
        "credits_consumed": news.credits_consumed,
        "duration": news.duration,
    }


def note_path(db: sqlite3.Connection, task_id: str, path: str | os.PathLike[str]) -> None:
    """Write down where the result of a task lies, beside the places where it was brought before."""
    place = _place(path)
    rows = db.execute(
        "SELECT id, path, earlier_paths FROM jobs WHERE task_id = ? AND path IS NOT ?",
        (task_id, place),
    )
    for row in rows.fetchall():
        paths = json.loads(row["earlier_paths"] or "[]")
        if row["path"] is not None:
            paths.append(os.fsdecode(row["path"]))
        earlier = [each for each in paths if each != os.fsdecode(place)][-_PLACES:]
        db.execute(
            "UPDATE jobs SET path = ?, earlier_paths = ? WHERE id = ?",
            (place, json.dumps(earlier) if earlier else None, row["id"]),
        )


def _for_all(
    db: sqlite3.Connection, sql: str, rows: Sequence[Sequence[Any]], *first: Any
) -> sqlite3.Cursor:
    """Run a statement whose {} stands for rows of parameters; `first` are those before them."""
    row = f"({', '.join('?' * len(rows[0]))})"
    values = [value for row in rows for value in row]
    return db.execute(sql.format(", ".join([row] * len(rows))), [*first, *values])


def _place(path: str | os.PathLike[str]) -> str | bytes:
    name = os.fspath(path)
    try:
        name.encode()
    except UnicodeEncodeError:
        return os.fsencode(name)  # no UTF-8: SQLite holds it as bytes only
    return name


def _public(value: Any) -> Any:
    """Return a part of an input as it may be kept: the query of a URL can hold secrets."""
    is_url = isinstance(value, str) and value.startswith(("http://", "https://"))
    return without_query(value) if is_url else value


def _task_of(db: sqlite3.Connection, entry_id: int) -> str | None:
    row = db.execute("SELECT task_id FROM jobs WHERE id = ?", (entry_id,)).fetchone()
    if row is None:
        raise GoneError(f"The journal holds no entry {entry_id}.")
    task_id: str | None = row["task_id"]
    return task_id


def _same_end(old: str, new: str) -> bool:
    return TaskState(new).is_terminal and TaskState(old).is_fail == TaskState(new).is_fail
