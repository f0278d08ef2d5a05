"""Many writers, one SQLite connection: whatever is queued shares one transaction and one fsync.

Python's lock is given away and fought for at every statement, while the loop is busy.  So pieces
of one kind that stand next to each other in the queue are handed to their work together.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import operator
import os
import queue
import sqlite3
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from .errors import JournalError, clean

__all__ = ["BUSY", "Together", "Work", "Writer"]

_log = logging.getLogger("topaz_async")

#: Reads or writes over the connection, inside a transaction, on the writer's thread.
Work = Callable[[sqlite3.Connection], Any]

#: The same for one or more pieces of a kind: gets their items, returns an outcome for each.
#: What it raises spoils nobody: the pieces are done again then, one by one.
Together = Callable[[sqlite3.Connection, Sequence[Any]], Sequence[Any]]

#: Seconds for which another process may keep the file locked.
BUSY = 5.0

#: Seconds for which the thread waits for more.  It ends then, so a forgotten journal holds up
#: the interpreter's exit no longer than this; the next call starts another.
LINGER = 0.25

#: The most that shares one transaction: bounds how long the first of them waits.
MOST = 1000

#: Seconds for which a transaction waits for company, where the last one had some and ended just
#: before: a lone write is not held up, and under load many share an fsync.
GATHER = 0.02

#: So many pieces are company; with so many in the queue there is company enough.
COMPANY = 4
ENOUGH = 16

_WORDS = {
    "SQLITE_BUSY": f"is kept locked by another process for more than {BUSY:g} s",
    "SQLITE_LOCKED": f"is kept locked by another process for more than {BUSY:g} s",
    "SQLITE_FULL": "cannot be written: the disk is full",
    "SQLITE_READONLY": "cannot be written: it is read-only",
    "SQLITE_PERM": "may not be opened",
    "SQLITE_AUTH": "may not be opened",
    "SQLITE_CANTOPEN": "cannot be opened",
    "SQLITE_NOTADB": "is no SQLite database; the file was left as it is",
    "SQLITE_CORRUPT": "is damaged",
    "SQLITE_IOERR": "cannot be read or written: the disk is full or failing",
}

#: What is over after a while, without anybody's doing or by making room.
_PASSING = frozenset({"SQLITE_BUSY", "SQLITE_LOCKED", "SQLITE_FULL"})

#: After these the connection stays unusable although the cause may pass: open another.
_STUCK = frozenset({"SQLITE_READONLY", "SQLITE_IOERR", "SQLITE_CORRUPT", "SQLITE_CANTOPEN"})


class Job:
    """One piece of work in the queue.

    `outcome` holds what it returned, or the error, from the moment it ran; it is final once the
    transaction has ended, which is when the future gets it.  Errors are results here, so
    that a caller who went away leaves no "exception was never retrieved" behind.
    """

    __slots__ = ("future", "item", "last", "outcome", "work", "writes")

    def __init__(
        self,
        work: Together,
        item: Any = None,
        *,
        writes: bool = True,
        future: asyncio.Future[Any] | None = None,
        last: bool = False,
    ) -> None:
        self.work = work
        self.item = item
        self.writes = writes
        self.future = future
        self.last = last
        self.outcome: Any = None


class Writer:
    """Owns the connection and the one thread that uses it.

    Constructing it starts nothing and touches nothing.  Safe to call from any thread and any
    event loop.  A forked child finds it as if it had just been made; the queue stays with the
    parent.

    Args:
        path: The database; None for one in memory.
        connect: Called on the thread for a connection; more than once when one breaks, or when
            the process forks.
        closed: Called on the thread when the connection is closed for good.
    """

    def __init__(
        self,
        path: str | None,
        *,
        connect: Callable[[], sqlite3.Connection],
        closed: Callable[[], None],
    ) -> None:
        self.name = "in memory" if path is None else path
        self._path = path
        self._connect = connect
        self._when_closed = closed
        self._closing = self._closed = False
        self._db: sqlite3.Connection | None = None
        self._file = ""
        self._identity: tuple[int, int] | None = None
        self._finalizer: weakref.finalize[..., Writer] | None = None
        self._renew()

    def _renew(self) -> None:
        self._queue: queue.SimpleQueue[Job] = queue.SimpleQueue()
        self._left: deque[Job] = deque()
        self._crowded_until = float("-inf")
        # Held by the thread as long as it runs: who gets it without waiting starts the thread.
        self._baton = threading.Lock()
        self._at_work = threading.Lock()
        self._is_used = False

    def submit(self, work: Work, *, writes: bool) -> Job:
        """Queue work for the thread; its job's future is set on the running loop.

        The work happens even if the caller goes away.

        Raises:
            JournalError: The writer is closed, or no thread can be started.
        """
        return self._submit(_alone(work), None, writes)

    def submit_one(self, work: Together, item: Any) -> Job:
        """Queue one piece of writing; else as `submit`."""
        return self._submit(work, item, True)

    def _submit(self, work: Together, item: Any, writes: bool) -> Job:
        if self._closing:
            raise JournalError(f"The journal {self.name} is closed.")
        future = asyncio.get_running_loop().create_future()
        job = Job(work, item, writes=writes, future=future)
        self._put(job)
        return job

    def post(self, work: Work) -> None:
        """Queue work that nobody waits for, behind all that is queued; dropped once closed."""
        if not self._closing:
            with suppress(JournalError):
                self._put(Job(_alone(work)))

    def leave_one(self, work: Together, item: Any) -> None:
        """Leave a piece of writing for the next transaction, or for `LINGER` seconds.

        It wakes nobody, and is done before anything that is queued later; dropped once closed.
        """
        if not self._closing:
            self._left.append(Job(work, item))
            with suppress(JournalError):
                self._start()

    async def aclose(self) -> None:
        """Do what is queued, then close the connection; happens even when cancelled."""
        self._closing = True
        if self._closed or not self._is_used:
            self._closed = True
            return
        future = asyncio.get_running_loop().create_future()
        self._put(Job(_alone(_nothing), writes=False, future=future, last=True))
        await future

    def _put(self, job: Job) -> None:
        self._queue.put(job)
        self._start()

    def _start(self) -> None:
        if not self._is_used:
            with _forking:
                _used.add(self)
            self._is_used = True
        if not self._baton.acquire(blocking=False):
            return
        try:
            threading.Thread(target=self._run, name="topaz-journal", daemon=False).start()
        except RuntimeError:  # no memory for a stack, or the interpreter is ending
            error = JournalError("The journal's thread cannot be started.")
            self._give_up(error)
            self._baton.release()
            raise error from None

    def _give_up(self, error: JournalError) -> None:
        self._left.clear()
        with suppress(queue.Empty):
            while True:
                job = self._queue.get_nowait()
                job.outcome = error
                _deliver([job])

    def _run(self) -> None:
        while True:
            batch = self._take()
            if batch:
                with self._at_work:
                    self._write(batch)
                    if batch[-1].last:
                        self._drop()
                        self._when_closed()
                        self._closed = True
                if len(batch) >= COMPANY:
                    self._crowded_until = time.monotonic() + GATHER
                _deliver(batch)
            if not batch or self._closed:
                baton = self._baton
                baton.release()
                # What was queued after the last look and before the release started no thread.
                idle = self._queue.empty() and not self._left
                if idle or not baton.acquire(blocking=False):
                    return

    def _take(self) -> list[Job]:
        queued: list[Job] = []
        with suppress(queue.Empty):
            queued.append(self._queue.get(timeout=LINGER))
            crowded = MOST > 1 and time.monotonic() < self._crowded_until
            if crowded and self._queue.qsize() < ENOUGH and not queued[-1].last:
                time.sleep(GATHER)
            while len(queued) < MOST and not queued[-1].last:
                queued.append(self._queue.get_nowait())
        left = [self._left.popleft() for _ in range(len(self._left))]
        return left + queued

    def _write(self, batch: list[Job]) -> None:
        self._transact("BEGIN IMMEDIATE", [job for job in batch if job.writes])
        # Reading takes no lock, so it works while the disk is full or the file read-only.
        self._transact("BEGIN", [job for job in batch if not job.writes and not job.last])

    def _transact(self, begin: str, jobs: list[Job]) -> None:
        try:
            if jobs:
                self._do(self._connection(), begin, jobs)
        except Exception as error:  # whatever it is, nobody may be left waiting
            for job in jobs:
                job.outcome = self._translate(error)

    def _do(self, db: sqlite3.Connection, begin: str, jobs: list[Job]) -> None:
        try:
            db.execute(begin)
            if not self._do_all(db, jobs):
                db.execute("ROLLBACK")
                db.execute(begin)
                self._do_each(db, jobs)
            db.execute("COMMIT")
        except Exception as error:
            try:
                if db.in_transaction:
                    db.execute("ROLLBACK")
            except sqlite3.Error:
                self._drop()
            if self._path is not None and _name(error) in _STUCK:
                self._drop()
            raise

    @staticmethod
    def _do_all(db: sqlite3.Connection, jobs: list[Job]) -> bool:
        """Do the jobs, neighbours of a kind together; False when one failed, which is rare."""
        for work, each in itertools.groupby(jobs, key=operator.attrgetter("work")):
            kin = list(each)
            try:
                outcomes = work(db, [job.item for job in kin])
            except Exception:
                if not db.in_transaction:  # SQLite gave up the whole transaction
                    raise
                return False
            for job, outcome in zip(kin, outcomes, strict=True):
                job.outcome = outcome
        return True

    def _do_each(self, db: sqlite3.Connection, jobs: list[Job]) -> None:
        """Do the jobs again, each so that it can fail alone: twice the statements."""
        for job in jobs:
            db.execute("SAVEPOINT job")
            try:
                [job.outcome] = job.work(db, [job.item])
            except Exception as error:
                if not db.in_transaction:
                    raise
                db.execute("ROLLBACK TO job")
                job.outcome = self._translate(error)
            db.execute("RELEASE job")

    def _translate(self, error: Exception) -> JournalError:
        if isinstance(error, JournalError):
            return error
        if isinstance(error, sqlite3.Error):
            name = _name(error)
            words = _WORDS.get(name) or f"failed ({clean(error, 120)})"
            return JournalError(f"The journal {self.name} {words}.", retryable=name in _PASSING)
        if isinstance(error, OSError):
            words = clean(error.strerror or error, 120)
            return JournalError(f"The journal {self.name} cannot be used: {words}.")
        kind = type(error).__name__
        return JournalError(f"The journal {self.name} cannot hold or read this ({kind}).")

    def _connection(self) -> sqlite3.Connection:
        if self._db is None:
            self._db = db = self._connect()
            # A journal that is forgotten unclosed is still closed, and complains to nobody.
            self._finalizer = weakref.finalize(self, db.close)
            self._file = db.execute("PRAGMA database_list").fetchone()[2]
            self._identity = _identity(self._file)
        elif self._identity != _identity(self._file):
            raise JournalError(
                f"The journal {self.name} was removed or replaced while it was in use.",
                hint="Open the journal anew.",
            )
        return self._db

    def _drop(self) -> None:
        if self._finalizer is not None:
            with suppress(sqlite3.Error):
                self._finalizer()
        self._db = self._finalizer = None

    def _before_fork(self) -> None:
        # SQLite's locks and memory do not survive a fork: none may be in use, and no
        # connection to a file may be open.
        self._at_work.acquire()
        if self._path is not None:
            self._drop()


_used: weakref.WeakSet[Writer] = weakref.WeakSet()
_forking = threading.Lock()
_paused: list[Writer] = []


def _before_fork() -> None:
    _forking.acquire()
    _paused.extend(_used)
    for writer in _paused:
        writer._before_fork()


def _after_fork_in_parent() -> None:
    for writer in _paused:
        writer._at_work.release()
    _paused.clear()
    _forking.release()


def _after_fork_in_child() -> None:
    for writer in _paused:
        writer._renew()
    _paused.clear()
    _used.clear()
    _forking.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_before_fork,
        after_in_parent=_after_fork_in_parent,
        after_in_child=_after_fork_in_child,
    )


def _alone(work: Work) -> Together:
    """Return the work as one piece of a kind of its own."""
    return lambda db, items: [work(db)]


def _nothing(db: sqlite3.Connection) -> None:
    """Do nothing."""


def _deliver(batch: list[Job]) -> None:
    loops: dict[asyncio.AbstractEventLoop, list[Job]] = {}
    for job in batch:
        if job.future is not None:
            loops.setdefault(job.future.get_loop(), []).append(job)
        elif isinstance(job.outcome, JournalError):
            _log.warning("The journal could not be written: %s", job.outcome.message)
    for loop, jobs in loops.items():
        with suppress(RuntimeError):  # the loop was closed; what was written is written
            loop.call_soon_threadsafe(_set_outcomes, jobs)


def _set_outcomes(jobs: list[Job]) -> None:
    for job in jobs:
        if job.future is not None and not job.future.done():
            job.future.set_result(job.outcome)


def _name(error: Exception) -> str:
    """Return SQLite's name for an error without its extension: SQLITE_IOERR, not ..._WRITE."""
    return "_".join(str(getattr(error, "sqlite_errorname", "")).split("_")[:2])


def _identity(path: str) -> tuple[int, int] | None:
    """Return what tells a file from one that took its place; None when there is none."""
    try:
        found = os.stat(path)
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino
