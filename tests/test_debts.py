"""What a journal could not take when it was known is written down as soon as it can."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from topaz_async import SqliteJournal, debts, journal as journal_module
from topaz_async.debts import Debts
from topaz_async.errors import JournalError, SubmitUnknownError, TopazError
from topaz_async.ports import Entry, Intent, Journal
from topaz_async.sandbox import Sandbox
from topaz_async.wire import Made, Refused, Unknown

from .byteserver import until
from .conftest import client_of


class Shy:
    """A journal that takes nothing until it is told to; keeps what it took."""

    durable = True

    def __init__(self) -> None:
        self.is_open = False
        self.tries = 0
        self.taken: list[tuple[Any, ...]] = []

    def _take(self, *what: Any) -> None:
        self.tries += 1
        if not self.is_open:
            raise JournalError("The journal is kept locked.", retryable=True)
        self.taken.append(what)

    async def bind(self, entry_id: int, task_id: str) -> None:
        self._take("bind", entry_id, task_id)

    async def refuse(self, entry_id: int, code: int | None, words: str) -> None:
        self._take("refuse", entry_id, code, words)

    async def lose(self, entry_id: int, code: int | None, words: str) -> None:
        self._take("lose", entry_id, code, words)


def entry(number: int) -> Entry:
    intent = Intent(reference=f"r{number}", fingerprint="f", model="m")
    return Entry(id=number, intent=intent, submit="intent", created_at=None)  # type: ignore[arg-type]


async def owing(journal: Journal) -> Debts:
    """Three outcomes that could not be written down."""
    owed = Debts()
    lost = SubmitUnknownError("Nobody knows.", code=502, task_id="t3")
    await owed.write(journal, entry(1), Made("t1"))
    await owed.write(journal, entry(2), Refused(TopazError("No.", code=422)))
    await owed.write(journal, entry(3), Unknown(lost))
    return owed


PAID = [
    ("bind", 1, "t1"),
    ("refuse", 2, 422, "No."),
    ("lose", 3, 502, "The answer named task t3. Nobody knows."),
]


async def test_it_is_tried_until_it_works(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """By itself, without another submit; each debt is told once, and with it the paid id."""
    caplog.set_level(logging.WARNING)
    monkeypatch.setattr(debts, "_FIRST", 0.01)
    monkeypatch.setattr(debts, "_LONGEST", 0.02)
    journal: Any = Shy()
    owed = await owing(journal)
    await until(lambda: journal.tries > 9)
    assert [] == journal.taken
    journal.is_open = True
    await until(lambda: not owed)
    assert PAID == sorted(journal.taken, key=lambda what: int(what[1]))
    assert 3 == len(caplog.records)
    assert "note task t1 yourself" in caplog.text
    await owed.aclose()
    assert 3 == len(journal.taken)


async def test_closing_tries_once_more() -> None:
    """What could not be written by then has one more chance, and nothing goes on after it."""
    for is_open in (False, True):
        journal: Any = Shy()
        owed = await owing(journal)
        journal.is_open = is_open
        await owed.aclose()
        assert (PAID if is_open else []) == journal.taken
        assert [] == [task for task in asyncio.all_tasks() if "debts" in task.get_name()]


@pytest.mark.parametrize("error", [OSError("no disk"), JournalError("It is read-only.")])
async def test_whatever_a_journal_raises_is_tried_again(
    monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """A journal of the caller's own may raise anything, once; it is asked again all the same."""
    monkeypatch.setattr(debts, "_FIRST", 0.01)
    journal: Any = Shy()
    owed = await owing(journal)
    usual = journal._take

    def once(*what: Any) -> None:
        journal._take, journal.is_open = usual, True
        raise error

    journal._take = once
    await until(lambda: not owed)
    assert PAID == sorted(journal.taken, key=lambda what: int(what[1]))
    await owed.aclose()


async def test_what_somebody_else_has_found_out_is_owed_no_more(tmp_path: Path) -> None:
    """An outcome that nobody knew is dropped when the entry has got its task meanwhile."""
    journal = SqliteJournal(tmp_path / "jobs.sqlite")
    claim = await journal.claim(Intent(reference="r", fingerprint="f", model="m"))
    owed = Debts()
    shy: Any = Shy()
    await owed.write(shy, claim.entry, Unknown(SubmitUnknownError("Nobody knows.")))
    shy.lose = journal.lose
    await journal.bind(claim.entry.id, "t1")
    await owed.pay()
    assert not owed
    found = await journal.find("r")
    assert found is not None
    assert "t1" == found.task_id
    await owed.aclose()
    await journal.aclose()


async def test_an_id_is_on_disk_soon_after_the_lock_is_gone(
    sandbox: Sandbox, clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A backup that locks the file as the answer comes costs no id, although nobody submits
    again and the process is killed later.
    """
    monkeypatch.setattr(journal_module, "BUSY", 0.05)
    monkeypatch.setattr(debts, "_FIRST", 0.01)
    path = tmp_path / "jobs.sqlite"

    def stored() -> list[Any]:
        with closing(sqlite3.connect(path)) as db:
            return db.execute("SELECT submit, task_id FROM jobs").fetchall()

    class Locked(SqliteJournal):
        async def bind(self, entry_id: int, task_id: str) -> None:
            if self.lock is None:
                self.lock = sqlite3.connect(path, isolation_level=None)
                self.lock.execute("BEGIN IMMEDIATE")
            await super().bind(entry_id, task_id)

        lock: sqlite3.Connection | None = None

    journal = Locked(path)
    async with client_of(sandbox, journal=journal) as client:
        job = await client.submit(clip, reference="order-17")
        assert [("intent", None)] == stored()
        assert journal.lock is not None
        journal.lock.close()
        await until(lambda: stored() == [("made", job.task_id)])
    await journal.aclose()


async def test_recover_tells_what_is_owed(
    sandbox: Sandbox, clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What could not be written down is tried again before the journal is asked."""
    monkeypatch.setattr(debts, "_FIRST", 3600.0)

    class Once(SqliteJournal):
        failures = 1

        async def bind(self, entry_id: int, task_id: str) -> None:
            self.failures -= 1
            if self.failures >= 0:
                raise JournalError("The journal is kept locked.", retryable=True)
            await super().bind(entry_id, task_id)

    journal = Once(tmp_path / "jobs.sqlite")
    async with client_of(sandbox, journal=journal) as client:
        job = await client.submit(clip, reference="order-17")
        assert [job.task_id] == [found.task_id async for found in client.recover()]
    await journal.aclose()
