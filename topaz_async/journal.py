"""Durable intents and task ids in SQLite."""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, Literal

import attrs

from . import journal_uploads
from .errors import Billed, ConfigurationError, JournalError
from .journal_changes import Bond, News, bind_all, insert_all, note_all, note_path, remark, settle
from .journal_file import open_database
from .journal_rows import MARK, STEPS, attempts, entry_of, newest_ended, select, standing
from .journal_writer import BUSY, Job, Work, Writer
from .models import TaskState
from .owners import Owner
from .ports import Claim, Entry, Intent, KeptUpload

__all__ = ["SqliteJournal", "decide"]

_DIED = "The process that was sending it ended before the answer was written down."
_NEVER_SENT = "Cancelled before it was sent."

Verdict = Literal["granted", "existing", "in flight", "conflict"]


def decide(
    entry: Entry | None,
    intent: Intent,
    *,
    owner_alive: bool,
    resubmit_unknown: bool = False,
    resubmit_failed: bool = False,
) -> Verdict:
    """Say what a second submit of a reference gets.

    A refused attempt bought nothing, so its reference is free again, for other work too.

    Args:
        entry: What the reference stands for; None for a new one.
        intent: What is to be submitted now.
        owner_alive: Whether the owner of an intent lives; an intent whose owner is dead is
            unknown.
        resubmit_unknown: The caller takes it upon himself that unknown work is paid twice.
        resubmit_failed: The caller wants failed work tried again.
    """
    if entry is None or entry.submit == "refused":
        return "granted"
    if not entry.intent.is_same_work(intent):
        return "conflict"
    if entry.submit == "intent" and owner_alive:
        return "in flight"
    if entry.submit != "made":
        return "granted" if resubmit_unknown else "existing"
    failed = entry.state is not None and TaskState(entry.state).is_fail
    return "granted" if failed and resubmit_failed else "existing"


def _utc_now() -> datetime:
    return datetime.now(UTC)


@attrs.frozen
class _Wish:
    """What a caller asks `claim` for."""

    intent: Intent
    resubmit_unknown: bool
    consented_to: int | None
    resubmit_failed: bool


class SqliteJournal:
    """The journal in one SQLite file, or in memory.

    May be made anywhere, before any event loop runs: the file is opened and the thread started
    at the first call.  One object may serve several clients, and one event loop after another;
    several processes may share the file.  A forked child opens it anew by itself.

    Each fresh attempt at a reference is a new row, so the id of an earlier one is never dropped.
    A reference stands for its newest attempt that was not refused: one refused attempt does not
    make an earlier unknown or paid one forgotten.  Where nobody knows what that one made, it
    stands for an earlier attempt whose task has been found, and has not failed.

    A cancelled call has its effect all the same, except that an intent which nobody was told
    to send is written down as refused.

    Args:
        path: The file, on a local disk; missing folders are made.  A relative path is taken from
            the folder that is current at the first call.  None keeps everything in memory, for
            this process only.
        now: What time it is, aware UTC.

    Raises:
        ConfigurationError: `path` is no path of a file.
    """

    def __init__(
        self,
        path: str | os.PathLike[str] | None,
        *,
        now: Callable[[], datetime] = _utc_now,
    ) -> None:
        self.path = None if path is None else _checked(path)
        #: Whether what is written outlives the process.
        self.durable = path is not None
        self._now = now
        self._owner = Owner(self.path)
        self._writer = Writer(self.path, connect=self._connect, closed=self._owner.release)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.path!r})"

    async def open(self) -> None:
        """Open the file now, to learn early whether it can be used.

        Raises:
            JournalError: It cannot.
        """
        await self._result(self._writer.submit(lambda db: None, writes=False))

    async def find(self, reference: str) -> Entry | None:
        """Return what a reference stands for, or None.

        An entry whose sender died between intent and answer is returned as "unknown".
        """

        def work(db: sqlite3.Connection) -> Entry | None:
            row = _stands_for(db, reference)
            return None if row is None else self._seen(row)

        entry: Entry | None = await self._read(work)
        return entry

    async def claim(
        self,
        intent: Intent,
        *,
        resubmit_unknown: bool = False,
        consented_to: int | None = None,
        resubmit_failed: bool = False,
    ) -> Claim:
        """Write the intent down unless its reference forbids it, in one transaction.

        See `decide`; an intent without a reference is always granted.  `consented_to` is the
        entry that the two consents are about; None is any.
        """
        wish = _Wish(intent, resubmit_unknown, consented_to, resubmit_failed)
        job = self._writer.submit_one(self._claim_all, wish)
        try:
            claim: Claim = await self._result(job, reference=intent.reference)
        except asyncio.CancelledError:
            self._writer.post(lambda db: _give_back(db, job.outcome))
            raise
        return claim

    def _claim_all(self, db: sqlite3.Connection, wishes: Sequence[_Wish]) -> list[Claim]:
        names = [wish.intent.reference for wish in wishes if wish.intent.reference is not None]
        if len(set(names)) < len(names):  # the first of a name decides for the others
            return [claim for wish in wishes for claim in self._claim_all(db, [wish])]
        tried = attempts(db, names)
        claims: list[Claim | None] = []
        granted: list[tuple[Intent, int]] = []
        for wish in wishes:
            name = wish.intent.reference
            rows = [] if name is None else tried.get(name, [])
            claim = self._forbidden(db, wish, standing(rows))
            if claim is None:
                granted.append((wish.intent, rows[-1]["attempt"] + 1 if rows else 1))
            claims.append(claim)
        entries: Iterator[Entry] = iter(())
        if granted:
            entries = iter(insert_all(db, granted, owner=self._owner.take(), now=self._moment()))
        return [claim or Claim("granted", next(entries)) for claim in claims]

    def _forbidden(
        self, db: sqlite3.Connection, wish: _Wish, row: sqlite3.Row | None
    ) -> Claim | None:
        """Say why the work of a reference may not be submitted now; None when it may."""
        if row is None:
            return None
        entry = entry_of(row)
        alive = entry.submit == "intent" and self._owner.lives(row["owner"])
        if entry.submit == "intent" and not alive:
            entry = _left_over(entry)
            settle(db, entry.id, "unknown", words=entry.words or _DIED)
        is_meant = wish.consented_to in (None, entry.id)
        verdict = decide(
            entry,
            wish.intent,
            owner_alive=alive,
            resubmit_unknown=wish.resubmit_unknown and is_meant,
            resubmit_failed=wish.resubmit_failed and is_meant,
        )
        return None if verdict == "granted" else Claim(verdict, entry)

    async def bind(self, entry_id: int, task_id: str) -> None:
        """The submit made this task.

        Fitting for an entry in any state, for an answer may come late; twice is fine.

        Raises:
            JournalError: The journal cannot be written, or the entry has another task.
        """
        job = self._writer.submit_one(self._bind_all, Bond(entry_id, task_id))
        await self._result(job, task_id=task_id, billed="yes")

    def _bind_all(self, db: sqlite3.Connection, bonds: Sequence[Bond]) -> list[None]:
        bind_all(db, bonds, now=self._moment())
        return [None] * len(bonds)

    async def refuse(self, entry_id: int, code: int | None, words: str) -> None:
        """The submit was refused: nothing was bought."""
        await self._write(lambda db: settle(db, entry_id, "refused", code=code, words=words))

    async def lose(self, entry_id: int, code: int | None, words: str) -> None:
        """Nobody knows what became of the submit."""
        await self._write(
            lambda db: settle(db, entry_id, "unknown", code=code, words=words),
            billed="unknown",
        )

    async def remark(self, entry_id: int, words: str) -> None:
        """Something is known of a submit under way: its words, if this process ends now."""
        await self._write(lambda db: remark(db, entry_id, words), billed="unknown")

    async def note(
        self,
        task_id: str,
        *,
        state: str,
        result_urls: Sequence[str] = (),
        credits_consumed: float | None = None,
        duration: float | None = None,
    ) -> None:
        """The task was seen in this state; unknown task ids are ignored.

        A task that has ended stays so, and what is left out erases nothing.
        """
        news = News(task_id, state, result_urls, credits_consumed, duration, self._moment())
        job = self._writer.submit_one(_note_all, news)
        await self._result(job, task_id=task_id, billed="yes")

    def note_soon(
        self,
        task_id: str,
        *,
        state: str,
        result_urls: Sequence[str] = (),
        credits_consumed: float | None = None,
        duration: float | None = None,
    ) -> None:
        """As `note`, for whoever does not wait for it; what cannot be written is logged."""
        news = News(task_id, state, result_urls, credits_consumed, duration, self._moment())
        self._writer.leave_one(_note_all, news)

    async def downloaded(self, task_id: str, path: str) -> None:
        """The result was brought to this path; unknown task ids are ignored."""
        await self._write(lambda db: note_path(db, task_id, path), task_id=task_id, billed="yes")

    async def jobs(self, state: str | None = None) -> list[Entry]:
        """List entries, oldest first, all of them or those of one `state`.

        `state` is a word of `SubmitState`, "pending" (made and not yet ended), "unfinished"
        (pending, a success that named no link, or unknown unless its reference stands for a later
        task), "undelivered" (pending or a success, with an output that was not brought) or a
        task's state as the service spells it ("success", "fail").
        """

        def work(db: sqlite3.Connection) -> list[Entry]:
            entries = [self._seen(row) for row in select(db, state)]
            if state in ("intent", "unknown"):
                return [entry for entry in entries if entry.submit == state]
            if state == "unfinished":
                return [entry for entry in entries if entry.submit != "intent"]
            if state == "undelivered":
                return [entry for entry in entries if not TaskState(entry.state or "").is_fail]
            return entries

        entries: list[Entry] = await self._read(work)
        return entries

    async def ended(self, limit: int) -> list[Entry]:
        """List the newest entries that tell how long their task took, oldest first."""
        rows: list[Entry] = await self._read(
            lambda db: [entry_of(row) for row in newest_ended(db, limit)]
        )
        return rows

    async def forget(self, reference: str) -> bool:
        """Drop every entry of a reference; False when there is none.

        Raises:
            JournalError: The journal cannot be written, or the reference is being sent just
                now, so that an id may still come for it.
        """

        def work(db: sqlite3.Connection) -> bool:
            row = _stands_for(db, reference)
            if row is not None and self._seen(row).submit == "intent":
                raise JournalError("The reference is being sent just now; it is kept.")
            return db.execute("DELETE FROM jobs WHERE reference = ?", (reference,)).rowcount > 0

        dropped: bool = await self._write(work, reference=reference)
        return dropped

    async def uploads(self, size: int, host: str) -> list[KeptUpload]:
        """List the uploads of so many bytes to a host, newest first."""
        kept: list[KeptUpload] = await self._read(
            lambda db: journal_uploads.of_size(db, size, host)
        )
        return kept

    def keep_upload_soon(self, upload: KeptUpload) -> None:
        """Write an upload down, for whoever does not wait for it."""
        self._writer.post(lambda db: journal_uploads.keep(db, upload))

    def forget_upload_soon(self, url: str) -> None:
        """Drop an upload, for whoever does not wait for it; an unknown one is fine."""
        self._writer.post(lambda db: journal_uploads.drop(db, url))

    async def aclose(self) -> None:
        """Write what is queued and let go of the file; twice is fine.

        Intents that are open by then are unknown from now on.
        """
        await self._writer.aclose()

    async def _read(self, work: Work) -> Any:
        return await self._result(self._writer.submit(work, writes=False))

    async def _write(self, work: Work, **about: Any) -> Any:
        return await self._result(self._writer.submit(work, writes=True), **about)

    async def _result(
        self,
        job: Job,
        *,
        task_id: str | None = None,
        reference: str | None = None,
        billed: Billed | None = None,
    ) -> Any:
        assert job.future is not None
        outcome = await job.future
        if isinstance(outcome, JournalError):
            raise outcome.about(task_id=task_id, reference=reference, billed=billed)
        return outcome

    def _connect(self) -> sqlite3.Connection:
        if self.path is not None:
            # Here and not sooner: asking for the current folder is a call to the system.
            self.path = self._owner.beside = os.path.abspath(self.path)
        db = open_database(self.path, mark=MARK, steps=STEPS, busy=BUSY)
        db.row_factory = sqlite3.Row
        db.execute("PRAGMA foreign_keys = ON")
        self._owner.sweep()
        return db

    def _moment(self) -> datetime:
        return self._now().astimezone(UTC)

    def _seen(self, row: sqlite3.Row) -> Entry:
        """Return the entry of a row; an intent whose owner is dead is unknown."""
        entry = entry_of(row)
        if entry.submit == "intent" and not self._owner.lives(row["owner"]):
            return _left_over(entry)
        return entry


def _left_over(entry: Entry) -> Entry:
    """Return what an intent of a dead owner is; words that it left say more than its end."""
    return attrs.evolve(entry, submit="unknown", words=entry.words or _DIED)


def _checked(path: str | os.PathLike[str]) -> str:
    try:
        text = os.fsdecode(path)
        if not text or "\0" in text or text == ":memory:":
            raise ValueError
        return text
    except (TypeError, ValueError):
        raise ConfigurationError(
            f"journal is {path!r:.80}; it must be the path of a file, or None for memory."
        ) from None


def _stands_for(db: sqlite3.Connection, reference: str) -> sqlite3.Row | None:
    return standing(attempts(db, [reference]).get(reference, []))


def _note_all(db: sqlite3.Connection, news: Sequence[News]) -> list[None]:
    note_all(db, news)
    return [None] * len(news)


def _give_back(db: sqlite3.Connection, outcome: object) -> None:
    """Refuse an intent that was granted to a caller who had gone."""
    if isinstance(outcome, Claim) and outcome.verdict == "granted":
        settle(db, outcome.entry.id, "refused", words=_NEVER_SENT)
