"""The journal's entries as a person names and reads them."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import attrs

from ..errors import JournalError
from ..journal import SqliteJournal
from ..models import TaskState
from ..orders import is_url
from ..ports import Entry
from ..texts import clean
from ..urls import shown
from .exits import UsageError

__all__ = [
    "Named",
    "age",
    "entries_of",
    "entry_as_json",
    "found",
    "kept",
    "opened",
    "short_name",
    "state_of",
]

#: The shortest beginning of a task id that may stand for the whole, in characters.
_SHORTEST = 4

#: What the service's task ids look like: 32 hex digits, a UUID, or `task_` and more.
_TASK_ID = re.compile(r"[0-9a-f]{32}|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}|task_\w+", re.I)


@attrs.frozen
class Named:
    """A task that somebody has named, with what the journal knows of it."""

    task_id: str
    entry: Entry | None = None


@asynccontextmanager
async def opened(path: Path | None) -> AsyncIterator[SqliteJournal]:
    """Open a journal, for None one in memory.

    Raises:
        UsageError: It cannot be opened.
    """
    journal = SqliteJournal(path)
    try:
        try:
            await journal.open()
        except JournalError as error:
            raise UsageError(
                f"{error.message} Nothing was billed. "
                "Name another place with --journal, or add --no-journal."
            ) from error
        yield journal
    finally:
        await journal.aclose()


@asynccontextmanager
async def kept(path: Path | None) -> AsyncIterator[SqliteJournal | None]:
    """Open a journal that is there already; None where there is none."""
    if path is None or not await asyncio.to_thread(path.exists):
        yield None
        return
    async with opened(path) as journal:
        yield journal


async def entries_of(path: Path | None, state: str | None = None) -> list[Entry]:
    """Return a journal's entries, oldest first; none of a journal that is not there."""
    async with kept(path) as journal:
        return [] if journal is None else await journal.jobs(state)


def found(entries: Sequence[Entry], name: str) -> Named:
    """Return the task of a task id, the beginning of one, or a reference.

    What the journal does not know may be a task id: it may have been made elsewhere.

    Raises:
        UsageError: The name stands for several tasks, for a submit without one, or is neither
            known nor like a task id.
    """
    name = name.strip()
    same = [entry for entry in entries if name in (entry.task_id, entry.intent.reference)]
    if not same and len(name) >= _SHORTEST:
        same = [entry for entry in entries if (entry.task_id or "").startswith(name)]
        if len({entry.task_id for entry in same}) > 1:
            raise UsageError(f"{clean(name, 80)} begins {len(same)} task ids; type more of it.")
    if not same:
        if _TASK_ID.fullmatch(name) is None:
            raise UsageError(
                f"{clean(name, 80)!r} is no task id, and the journal knows no task of that name; "
                "`topaz-async jobs --all` lists them."
            )
        return Named(name)
    entry = same[-1]
    if entry.task_id is None:
        raise UsageError(
            f"Of {clean(name, 80)} no task is known: its submit is {state_of(entry)}. "
            "Look into the account's task log; `topaz-async bind REFERENCE TASK` binds what you "
            "find there."
        )
    return Named(entry.task_id, entry)


def state_of(entry: Entry) -> str:
    """Return what is known of an entry, in a word or two."""
    if entry.submit != "made":
        return {"intent": "being sent", "refused": "refused"}.get(entry.submit, "unknown")
    state = TaskState(entry.state or "submitted")
    if state.is_success and entry.path is None and entry.intent.output is not None:
        return "not downloaded"
    return clean(state, 20)


def short_name(entry: Entry) -> str:
    """Return what a person knows an entry by: its file, its own reference, or its link."""
    if entry.path or entry.intent.output:
        return clean(Path(entry.path or entry.intent.output or "").name, 200)
    reference = entry.intent.reference or ""
    if reference and not reference.startswith("batch:"):
        return clean(reference, 200)
    link = next(iter(entry.intent.input.values()), "")
    return shown(link) if is_url(link) else clean(link, 200)


def age(moment: datetime) -> str:
    """Return how long ago something was, roughly."""
    seconds = max(0.0, (datetime.now(UTC) - moment).total_seconds())
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{seconds // size:.0f} {unit}"
    return f"{seconds:.0f} s"


def entry_as_json(entry: Entry) -> dict[str, Any]:
    """Return an entry as `--json` tells it."""
    return {
        "event": "job",
        "task_id": entry.task_id,
        "reference": entry.intent.reference,
        "submit": entry.submit,
        "state": entry.state,
        "factor": entry.intent.factor,
        "created_at": entry.created_at.isoformat(),
        "credits": entry.credits_consumed,
        "output": entry.intent.output,
        "path": entry.path,
    }
