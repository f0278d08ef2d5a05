"""The writer: one thread, shared commits, and nobody left waiting."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Coroutine, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, TypeVar

import pytest

from topaz_async import journal_writer
from topaz_async.errors import JournalError
from topaz_async.journal_writer import Writer

T = TypeVar("T")

ROOT = Path(__file__).parents[1]


class Base:
    """A writer over one small table, and all that SQLite was told to do."""

    def __init__(self, path: Path | None) -> None:
        self.statements: list[str] = []
        self.connections: list[sqlite3.Connection] = []
        self.closed = 0
        self.path = None if path is None else str(path)
        self.writer = Writer(self.path, connect=self.connect, closed=self.on_closed)

    def connect(self) -> sqlite3.Connection:
        db = sqlite3.connect(
            self.path or ":memory:", timeout=0.2, isolation_level=None, check_same_thread=False
        )
        db.execute("PRAGMA journal_mode = WAL").fetchone()
        db.execute("CREATE TABLE IF NOT EXISTS words (word UNIQUE)")
        db.set_trace_callback(self.statements.append)
        self.connections.append(db)
        return db

    def on_closed(self) -> None:
        self.closed += 1

    async def do(self, work: Callable[[sqlite3.Connection], Any], *, writes: bool = True) -> Any:
        outcome = await self.writer.submit(work, writes=writes).future
        if isinstance(outcome, JournalError):
            raise outcome
        return outcome

    async def add(self, word: str) -> None:
        await self.do(lambda db: db.execute("INSERT INTO words VALUES (?)", (word,)) and None)

    async def words(self) -> list[str]:
        rows = await self.do(
            lambda db: db.execute("SELECT word FROM words ORDER BY 1").fetchall(), writes=False
        )
        return [word for (word,) in rows]


@pytest.fixture
async def base(tmp_path: Path):
    made = Base(tmp_path / "words.sqlite")
    yield made
    await made.writer.aclose()


def left(db: sqlite3.Connection, words: Sequence[str]) -> list[None]:
    """Write what was left down, all of it together."""
    db.execute(f"INSERT INTO words VALUES {', '.join(['(?)'] * len(words))}", words)
    return [None] * len(words)


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run on a loop of its own, without a trace in the test runner's loops."""
    loop = asyncio.new_event_loop()
    try:
        return loop.run_until_complete(coroutine)
    finally:
        loop.close()


def stored(base: Base) -> list[str]:
    """What another connection sees."""
    assert base.path is not None
    with closing(sqlite3.connect(base.path)) as db:
        return [word for (word,) in db.execute("SELECT word FROM words ORDER BY 1")]


def threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "topaz-journal"]


def wait_for_threads() -> None:
    for thread in threads():
        thread.join(5)
    assert threads() == []


async def hold(base: Base) -> Callable[[], None]:
    """Keep the thread busy until the returned function is called; what follows queues up."""
    gate, reached = threading.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()

    def work(db: sqlite3.Connection) -> None:
        loop.call_soon_threadsafe(reached.set)
        gate.wait(10)

    base.writer.submit(work, writes=False)
    await reached.wait()
    return gate.set


async def test_all_that_is_queued_shares_one_commit(base: Base) -> None:
    """A hundred writers who wait together cost one transaction, begun with the write lock."""
    release = await hold(base)
    tasks = [asyncio.create_task(base.add(str(n))) for n in range(100)]
    await asyncio.sleep(0)
    base.statements.clear()
    release()
    await asyncio.gather(*tasks)
    ends = [text for text in base.statements if text.split()[0] in ("BEGIN", "COMMIT")]
    assert ends == ["COMMIT", "BEGIN IMMEDIATE", "COMMIT"]
    assert len(stored(base)) == 100


async def test_what_is_left_shares_the_next_commit(base: Base) -> None:
    """Work that nobody waits for wakes nobody; it is done before what is queued after it."""
    await base.add("first")
    base.writer.leave_one(left, "left")
    base.statements.clear()
    assert ["first", "left"] == await base.words()
    base.writer.leave_one(left, "left again")
    base.statements.clear()
    await base.add("second")
    assert 1 == base.statements.count("COMMIT")


async def test_what_is_left_alone_is_written_soon(base: Base) -> None:
    """Without any other work it is on disk after the thread's next look, and its thread ends."""
    base.writer.leave_one(left, "left")
    assert base.path is not None
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        await asyncio.sleep(0.02)
        with closing(sqlite3.connect(base.path)) as db, suppress(sqlite3.OperationalError):
            if db.execute("SELECT word FROM words").fetchall() == [("left",)]:
                return
    pytest.fail("what was left was never written")


async def test_closing_writes_what_is_left(tmp_path: Path) -> None:
    """Nothing that was left before the close is lost."""
    base = Base(tmp_path / "words.sqlite")
    await base.add("first")
    base.writer.leave_one(left, "left")
    await base.writer.aclose()
    with closing(sqlite3.connect(base.path or "")) as db:
        assert [("first",), ("left",)] == db.execute("SELECT word FROM words").fetchall()


async def test_reading_goes_on_while_writing_fails(base: Base) -> None:
    """A write that cannot be done does not take the reads beside it along."""
    await base.add("first")
    base.connections[0].execute("PRAGMA query_only = ON")
    base.writer.leave_one(left, "left")
    assert ["first"] == await base.words()


async def test_a_busy_writer_waits_for_company(base: Base, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where writes came in a crowd, those that come one by one just after it share a commit."""
    monkeypatch.setattr(journal_writer, "GATHER", 0.5)
    release = await hold(base)
    crowd = [asyncio.ensure_future(base.add(str(n))) for n in range(journal_writer.COMPANY)]
    await asyncio.sleep(0)
    release()
    await asyncio.gather(*crowd)
    base.statements.clear()
    adding = [asyncio.ensure_future(base.add("second"))]
    await asyncio.sleep(0.02)
    adding.append(asyncio.ensure_future(base.add("third")))
    await asyncio.gather(*adding)
    assert 1 == base.statements.count("COMMIT")


async def test_a_lone_write_waits_for_nobody(base: Base, monkeypatch: pytest.MonkeyPatch) -> None:
    """Writes that come one after the other, as those of one submit do, are not held up."""
    monkeypatch.setattr(journal_writer, "GATHER", 60.0)
    for word in ("first", "second", "third"):
        await asyncio.wait_for(base.add(word), 30)
    assert ["first", "second", "third"] == stored(base)


async def test_neighbours_of_a_kind_are_done_together(base: Base) -> None:
    """What stands next to each other is handed over at once; each gets its own outcome."""
    calls: list[list[str]] = []

    def work(db: sqlite3.Connection, words: Sequence[str]) -> list[str]:
        calls.append(list(words))
        left(db, words)
        return [f"{word}!" for word in words]

    release = await hold(base)
    jobs = [base.writer.submit_one(work, word) for word in "abc"]
    between = base.writer.submit(lambda db: "between", writes=True)
    jobs += [base.writer.submit_one(work, word) for word in "de"]
    release()
    outcomes = await asyncio.gather(*(job.future for job in [*jobs, between] if job.future))
    assert ["a!", "b!", "c!", "d!", "e!", "between"] == outcomes
    assert [["a", "b", "c"], ["d", "e"]] == calls


async def test_one_of_a_kind_fails_alone(base: Base) -> None:
    """When what is done together fails, each is done again alone, and the others are written."""

    def work(db: sqlite3.Connection, words: Sequence[str]) -> list[None]:
        left(db, words)
        if "bad" in words:
            raise JournalError("That one is bad.")
        return [None] * len(words)

    release = await hold(base)
    jobs = [base.writer.submit_one(work, word) for word in ("a", "bad", "c")]
    release()
    outcomes = await asyncio.gather(*(job.future for job in jobs if job.future))
    assert ["None", "That one is bad.", "None"] == [
        getattr(each, "message", str(each)) for each in outcomes
    ]
    assert ["a", "c"] == stored(base)


async def test_returns_after_the_commit(base: Base) -> None:
    """When a write returns, every other connection sees it."""
    for n in range(10):
        await base.add(str(n))
        assert len(stored(base)) == n + 1


async def test_one_failure_spoils_nobody(base: Base) -> None:
    """An item that fails is undone alone; the others of its transaction are kept."""
    release = await hold(base)

    def half(db: sqlite3.Connection) -> None:
        db.execute("INSERT INTO words VALUES ('half')")
        db.execute("INSERT INTO words VALUES ('a')")

    async def odd() -> None:
        await base.do(lambda db: 1 / 0)

    tasks = [
        asyncio.create_task(each) for each in (base.add("a"), base.do(half), odd(), base.add("b"))
    ]
    await asyncio.sleep(0)
    release()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(result) for result in results] == [
        type(None),
        JournalError,
        JournalError,
        type(None),
    ]
    assert stored(base) == ["a", "b"]


async def test_failed_commit_fails_all_and_leaves_nothing(base: Base) -> None:
    """When the commit fails, every item of it fails, nothing is written, and it goes on after."""
    await base.do(lambda db: db.execute("PRAGMA defer_foreign_keys") and None)
    await base.do(
        lambda db: (
            db.execute(
                "CREATE TABLE child (word REFERENCES words (word) DEFERRABLE INITIALLY DEFERRED)"
            )
            and None
        )
    )
    base.connections[0].execute("PRAGMA foreign_keys = ON")
    release = await hold(base)
    orphan = base.do(lambda db: db.execute("INSERT INTO child VALUES ('none')") and None)
    tasks = [asyncio.create_task(each) for each in (base.add("a"), orphan)]
    await asyncio.sleep(0)
    release()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(result) for result in results] == [JournalError, JournalError]
    assert stored(base) == []
    await base.add("b")
    assert stored(base) == ["b"]


async def test_errors_are_ours_alone(base: Base) -> None:
    """A SQLite error comes out as words, without a trace of the exception itself."""
    await base.add("a")
    job = base.writer.submit(lambda db: db.execute("INSERT INTO words VALUES ('a')"), writes=True)
    error = await job.future
    assert isinstance(error, JournalError)
    assert (error.__cause__, error.__context__) == (None, None)
    assert "UNIQUE" in str(error)


async def test_constructing_starts_nothing(tmp_path: Path) -> None:
    """A writer that was made and closed unused has started no thread and made no file."""
    wait_for_threads()
    base = Base(tmp_path / "words.sqlite")
    await base.writer.aclose()
    assert (base.connections, list(tmp_path.iterdir()), threads()) == ([], [], [])


async def test_close_flushes_and_ends(base: Base) -> None:
    """Closing does what is queued, closes the file, ends the thread; twice is fine."""
    release = await hold(base)
    tasks = [asyncio.create_task(base.add(str(n))) for n in range(3)]
    await asyncio.sleep(0)
    closings = [asyncio.create_task(base.writer.aclose()) for _ in range(2)]
    await asyncio.sleep(0)
    release()
    await asyncio.gather(*tasks, *closings)
    await base.writer.aclose()
    assert stored(base) == ["0", "1", "2"]
    assert base.closed >= 1
    wait_for_threads()
    assert base.path is not None
    assert [each.name for each in Path(base.path).parent.iterdir()] == ["words.sqlite"]
    with pytest.raises(JournalError, match="closed"):
        await base.add("late")
    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        base.connections[0].execute("SELECT 1")


async def test_cancelled_close_still_closes(base: Base) -> None:
    """A close whose caller goes away happens all the same."""
    release = await hold(base)
    closing_task = asyncio.create_task(base.writer.aclose())
    await asyncio.sleep(0)
    closing_task.cancel()
    release()
    with pytest.raises(asyncio.CancelledError):
        await closing_task
    wait_for_threads()
    assert base.closed == 1


async def test_cancelled_caller_still_writes(base: Base) -> None:
    """A write whose caller was cancelled happens, and complains to nobody when it fails."""
    complaints: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
    release = await hold(base)
    tasks = [asyncio.create_task(base.add(word)) for word in ("a", "a")]
    await asyncio.sleep(0)
    for task in tasks:
        task.cancel()
    release()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert await base.words() == ["a"]
    del tasks
    await asyncio.sleep(0)
    assert complaints == []


async def test_thread_ends_when_idle(base: Base) -> None:
    """The thread ends by itself when nothing is left to do, and comes back when there is."""
    wait_for_threads()
    await base.add("a")
    assert len(threads()) == 1
    wait_for_threads()
    await base.add("b")
    assert await base.words() == ["a", "b"]
    assert len(base.connections) == 1


def test_one_loop_after_another(tmp_path: Path) -> None:
    """One writer serves one event loop after another."""
    base = Base(tmp_path / "words.sqlite")
    for word in ("a", "b", "c"):
        run(base.add(word))
    assert run(base.words()) == ["a", "b", "c"]
    run(base.writer.aclose())


def test_loop_closed_in_the_meantime(tmp_path: Path) -> None:
    """A loop that is gone when its write is done harms neither the write nor the next loop."""
    base = Base(tmp_path / "words.sqlite")
    gate = threading.Event()

    async def leave() -> None:
        base.writer.submit(lambda db: gate.wait(10), writes=False)
        base.writer.submit(lambda db: db.execute("INSERT INTO words VALUES ('a')"), writes=True)

    run(leave())
    gate.set()
    assert run(base.words()) == ["a"]
    run(base.writer.aclose())


def test_two_loops_at_once(tmp_path: Path) -> None:
    """Two event loops in two threads share a writer."""
    base = Base(tmp_path / "words.sqlite")

    async def write(name: str) -> None:
        await asyncio.gather(*(base.add(f"{name}{n}") for n in range(50)))

    runners = [threading.Thread(target=run, args=(write(name),)) for name in "ab"]
    for each in runners:
        each.start()
    for each in runners:
        each.join()
    assert len(run(base.words())) == 100
    run(base.writer.aclose())


async def test_no_wakeup_is_lost(base: Base, monkeypatch: pytest.MonkeyPatch) -> None:
    """Work queued at the very moment the thread ends is done."""
    monkeypatch.setattr(journal_writer, "LINGER", 0.0)
    async with asyncio.timeout(20):
        for _ in range(300):
            await base.do(lambda db: None, writes=False)


async def test_locked_by_another_process(base: Base) -> None:
    """A file that another keeps locked too long is an error that says so; it passes."""
    await base.add("a")
    assert base.path is not None
    with closing(sqlite3.connect(base.path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        begun = time.monotonic()
        with pytest.raises(JournalError, match="locked by another process") as caught:
            await base.add("b")
        assert time.monotonic() - begun < 3
        assert caught.value.retryable
        assert await base.words() == ["a"]  # reading waits for nobody
        other.execute("ROLLBACK")
    await base.add("b")
    assert await base.words() == ["a", "b"]


async def test_open_that_fails_is_tried_again(base: Base) -> None:
    """A failure to open fails the calls that wait for it; the next call tries again."""
    assert base.path is not None
    Path(base.path).mkdir()
    with pytest.raises(JournalError, match="cannot be opened"):
        await base.add("a")
    Path(base.path).rmdir()
    await base.add("a")
    assert stored(base) == ["a"]


async def test_read_only_connection_is_replaced(base: Base) -> None:
    """After "read-only" the file is opened anew, so that rights given back are noticed."""
    await base.add("a")
    base.connections[0].execute("PRAGMA query_only = ON")
    with pytest.raises(JournalError, match="read-only"):
        await base.add("b")
    await base.add("c")
    assert (await base.words(), len(base.connections)) == (["a", "c"], 2)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows removes no open file")
async def test_removed_file_is_noticed(base: Base) -> None:
    """A file that is removed while in use is an error: writes to it would be lost."""
    await base.add("a")
    assert base.path is not None
    os.rename(base.path, base.path + ".gone")
    with pytest.raises(JournalError, match="removed or replaced"):
        await base.add("b")
    os.rename(base.path + ".gone", base.path)
    await base.add("c")
    assert stored(base) == ["a", "c"]


async def test_no_thread_to_be_had(base: Base, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the system gives no thread the call fails at once, and a later one works."""

    def refuse(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        with pytest.raises(JournalError, match="thread cannot be started"):
            await base.add("a")
    await base.add("b")
    assert await base.words() == ["b"]


def test_forgotten_writer_is_closed(tmp_path: Path) -> None:
    """A writer that is dropped unclosed closes its connection, without a warning."""
    db = sqlite3.connect(tmp_path / "words.sqlite", check_same_thread=False)
    writer = Writer(str(tmp_path / "words.sqlite"), connect=lambda: db, closed=lambda: None)

    async def use(writer: Writer) -> None:
        await writer.submit(lambda db: None, writes=False).future

    run(use(writer))
    wait_for_threads()
    del writer
    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        db.execute("SELECT 1")


FORGET = """
import asyncio, sys
from topaz_async.journal import SqliteJournal
from topaz_async.ports import Intent
journal = SqliteJournal(sys.argv[1])
asyncio.run(journal.claim(Intent(reference="a", fingerprint="f", model="m")))
"""


def test_forgotten_journal_lets_the_interpreter_end(tmp_path: Path) -> None:
    """A program that closes nothing ends by itself, soon, silently, and leaves a closed file."""
    begun = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", FORGET, str(tmp_path / "jobs.sqlite")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=20,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert time.monotonic() - begun < 10
    assert [each.name for each in tmp_path.iterdir()] == ["jobs.sqlite"]


async def test_failed_item_after_sqlite_gave_up_fails_all(base: Base) -> None:
    """When SQLite itself ends the transaction within an item, every item of it fails."""
    await base.add("a")
    release = await hold(base)

    def end_it(db: sqlite3.Connection) -> None:
        db.execute("INSERT OR ROLLBACK INTO words VALUES ('a')")

    tasks = [asyncio.create_task(each) for each in (base.add("b"), base.do(end_it), base.add("c"))]
    await asyncio.sleep(0)
    release()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(result) for result in results] == [JournalError] * 3
    assert stored(base) == ["a"]
    with suppress(JournalError):
        await base.add("a")
    await base.add("d")
    assert stored(base) == ["a", "d"]
