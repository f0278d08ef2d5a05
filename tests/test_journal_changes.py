"""Rows written by the hundred are the rows that one piece after the other leaves."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, strategies as st

from topaz_async import journal_rows
from topaz_async.errors import JournalError
from topaz_async.journal_changes import Bond, News, bind_all, insert_all, note_all, settle
from topaz_async.journal_rows import STEPS, attempts, chunks, entry_of, standing
from topaz_async.ports import Intent

NOW = datetime(2026, 11, 27, tzinfo=UTC)

#: How many entries a base begins with: some are bound, some have ended, some were refused.
ENTRIES = 12

BONDS = st.builds(
    Bond,
    st.integers(1, ENTRIES + 2),
    st.sampled_from([f"task-{n}" for n in range(1, 2 * ENTRIES)]),
)

NEWS = st.builds(
    News,
    st.sampled_from([f"task-{n}" for n in range(1, ENTRIES + 2)]),
    st.sampled_from(["waiting", "generating", "odd", "success", "completed", "fail"]),
    st.sampled_from([(), ("https://files.example/a.mp4",)]),
    st.sampled_from([None, 0.0, 8.5]),
    st.sampled_from([None, 12.0]),
    st.integers(0, 5).map(lambda seconds: NOW + timedelta(seconds=seconds)),
)


def intent(number: int, reference: str | None = None, **more: Any) -> Intent:
    return Intent(reference=reference, fingerprint=f"f{number}", model="model", **more)


_opened: list[sqlite3.Connection] = []


@pytest.fixture(autouse=True)
def _nothing_stays_open() -> Iterator[None]:
    yield
    while _opened:
        _opened.pop().close()


def base() -> sqlite3.Connection:
    """A journal's tables with every kind of row."""
    db = sqlite3.connect(":memory:", isolation_level=None)
    _opened.append(db)
    db.row_factory = sqlite3.Row
    for step in STEPS:
        for statement in step:
            db.execute(statement)
    new = [(intent(n, f"work {n}" if n % 2 else None), 1) for n in range(1, ENTRIES + 1)]
    insert_all(db, new, owner="owner", now=NOW)
    for number in range(1, ENTRIES + 1):
        match number % 4:
            case 0:
                settle(db, number, "refused", code=422, words="no")
            case 1:
                bind_all(db, [Bond(number, f"task-{number}")], now=NOW)
    # Two entries of one task, and two tasks that have ended.
    bind_all(db, [Bond(2, "task-1")], now=NOW)
    note_all(db, [News("task-5", "success", (), None, None, NOW)])
    note_all(db, [News("task-9", "fail", (), None, None, NOW)])
    return db


def rows(db: sqlite3.Connection) -> list[tuple[Any, ...]]:
    return [
        tuple(row)
        for table in ("jobs ORDER BY id", "states ORDER BY rowid")
        for row in db.execute(f"SELECT * FROM {table}")
    ]


def outcome(change: Callable[[], None]) -> str:
    try:
        change()
    except JournalError as error:
        return str(error)
    return "done"


@given(bonds=st.lists(BONDS, max_size=80))
def test_bonds(bonds: Sequence[Bond]) -> None:
    """Bound together or one by one, the rows are the same, and so is what is refused."""
    together, alone = base(), base()

    def one_by_one() -> None:
        for bond in bonds:
            bind_all(alone, [bond], now=NOW)

    expected = outcome(one_by_one)
    assert (expected == "done") == (outcome(lambda: bind_all(together, bonds, now=NOW)) == "done")
    if expected == "done":
        assert rows(alone) == rows(together)


@given(news=st.lists(NEWS, max_size=80))
def test_news(news: Sequence[News]) -> None:
    """Noted together or one by one, jobs and the history of their states are the same."""
    together, alone = base(), base()
    for each in news:
        note_all(alone, [each])
    note_all(together, news)
    assert sorted(rows(alone), key=repr) == sorted(rows(together), key=repr)


def test_hundreds_take_few_statements() -> None:
    """Two hundred intents, ids and successes cost some dozen statements, not six hundred."""
    db = base()
    statements: list[str] = []
    db.set_trace_callback(statements.append)
    entries = insert_all(db, [(intent(n), 1) for n in range(200)], owner="owner", now=NOW)
    bind_all(db, [Bond(entry.id, f"new-{entry.id}") for entry in entries], now=NOW)
    note_all(db, [News(f"new-{entry.id}", "success", (), 8.0, 1.0, NOW) for entry in entries])
    assert len(set(statements)) < 40  # a trigger names the statement that set it off again
    assert db.execute("SELECT count(*) FROM jobs WHERE state = 'success'").fetchone()[0] == 201


def test_an_old_sqlite_gets_one_row_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where SQLite lacks UPDATE ... FROM, no statement with it is ever made."""
    expected = base()
    note_all(expected, [News(f"task-{n}", "waiting", (), None, None, NOW) for n in range(12)])
    monkeypatch.setattr(journal_rows, "MANY", 1)
    db = base()
    statements: list[str] = []
    db.set_trace_callback(statements.append)
    note_all(db, [News(f"task-{n}", "waiting", (), None, None, NOW) for n in range(12)])
    assert not [text for text in statements if "FROM (VALUES" in text]
    assert rows(expected) == rows(db)


@pytest.mark.parametrize("count", [0, 1, 2, 63, 64, 65, 1000])
def test_chunks(count: int) -> None:
    """Nothing is left out, nothing comes twice, and the sizes are few."""
    cut = list(chunks(range(count)))
    assert list(range(count)) == [item for some in cut for item in some]
    assert {len(some) for some in cut} <= {1, 2, 4, 8, 16, 32, 64}


def test_numbers_are_never_given_twice() -> None:
    """An id that comes late must not land in a row that took the place of a forgotten one."""
    db = base()
    db.execute("DELETE FROM jobs")
    [entry] = insert_all(db, [(intent(1), 1)], owner="owner", now=NOW)
    assert ENTRIES + 1 == entry.id


def test_entries_are_what_the_file_holds() -> None:
    """What is told of new entries is what is read back."""
    db = base()
    new = [
        (
            intent(
                n,
                f"new {n}",
                input={"video_url": f"https://a.example/{n}.mp4?key=secret", "n": n},
                seconds=n / 3,
                output=f"/out/{n}.mp4",
            ),
            n,
        )
        for n in range(1, 70)
    ]
    told = insert_all(db, new, owner="owner", now=NOW)
    found = attempts(db, [f"new {n}" for n in range(1, 70)])
    assert told == [entry_of(found[f"new {n}"][0]) for n in range(1, 70)]
    assert all(found[f"new {n}"][0]["attempt"] == n for n in range(1, 70))
    assert "secret" not in repr(rows(db))


@pytest.mark.parametrize(
    ("submits", "expected"),
    [
        ([], None),
        (["refused"], 1),
        (["refused", "refused"], 2),
        (["unknown", "refused"], 1),
        (["made", "unknown", "refused"], 2),
        (["refused", "intent"], 2),
    ],
)
def test_standing(submits: Sequence[str], expected: int | None) -> None:
    """A reference stands for its newest attempt that was not refused."""
    db = base()
    for number, submit in enumerate(submits, 1):
        [entry] = insert_all(db, [(intent(number, "x"), number)], owner="owner", now=NOW)
        if submit == "made":
            bind_all(db, [Bond(entry.id, f"x-{number}")], now=NOW)
        elif submit != "intent":
            settle(db, entry.id, submit, words="")  # type: ignore[arg-type]  # words of ours
    row = standing(attempts(db, ["x", "y"]).get("x", []))
    assert expected == (None if row is None else row["attempt"])
