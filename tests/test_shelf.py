"""Uploads that need not be sent again: kept in the journal, or for the client's life."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import attrs
import pytest

from topaz_async.journal import SqliteJournal
from topaz_async.journal_file import open_database
from topaz_async.journal_rows import MARK, STEPS
from topaz_async.models import UploadedFile
from topaz_async.ports import Intent, KeptUpload
from topaz_async.shelf import Shelf

MOMENT = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
HOST = "https://up.example"
FILE = UploadedFile("https://f.example/a.mp4", "a.mp4", 5, "video/mp4", MOMENT)
KEPT = KeptUpload(
    content_hash="h",
    size=5,
    host=HOST,
    url=FILE.url,
    kept_at=MOMENT,
    name="a.mp4",
    mime_type="video/mp4",
    uploaded_at=MOMENT,
)


class Clock:
    """A clock that stands still until it is set."""

    def __init__(self) -> None:
        self.now = MOMENT

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture(params=["journal", "client"])
async def journal(
    request: pytest.FixtureRequest, tmp_path: Path
) -> AsyncIterator[SqliteJournal | None]:
    made = SqliteJournal(tmp_path / "jobs.sqlite") if request.param == "journal" else None
    yield made
    if made is not None:
        await made.aclose()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def shelf(journal: SqliteJournal | None, clock: Clock) -> Shelf:
    return Shelf(journal, host=HOST, life=100.0, now=clock)


async def test_an_upload_is_found_by_its_size_and_content(shelf: Shelf) -> None:
    """What comes back is what the host said; other sizes find nothing."""
    shelf.keep(FILE, size=5, content_hash="h")
    assert await shelf.of_size(5) == {"h": FILE}
    assert await shelf.of_size(6) == {}


@pytest.mark.parametrize(("age", "found"), [(0, True), (99.9, True), (100, False), (-1, False)])
async def test_an_upload_grows_old(shelf: Shelf, clock: Clock, age: float, found: bool) -> None:
    """Used for so many seconds and no longer; a moment to come tells no age at all."""
    shelf.keep(FILE, size=5, content_hash="h")
    clock.now += timedelta(seconds=age)
    assert bool(await shelf.of_size(5)) is found


async def test_the_newest_of_the_same_bytes_is_used(shelf: Shelf, clock: Clock) -> None:
    """It lives longest."""
    newer = attrs.evolve(FILE, url="https://f.example/b.mp4")
    shelf.keep(FILE, size=5, content_hash="h")
    clock.now += timedelta(seconds=1)
    shelf.keep(newer, size=5, content_hash="h")
    assert await shelf.of_size(5) == {"h": newer}
    shelf.forget(newer.url)
    assert await shelf.of_size(5) == {"h": FILE}


async def test_a_forgotten_upload_is_not_used_again(shelf: Shelf) -> None:
    """Nor does forgetting mind what nobody knows."""
    shelf.forget("https://f.example/unknown.mp4")
    shelf.keep(FILE, size=5, content_hash="h")
    shelf.forget(FILE.url)
    assert await shelf.of_size(5) == {}


async def test_a_signed_link_is_not_kept(shelf: Shelf) -> None:
    """Its query is a secret, which no journal holds."""
    shelf.keep(attrs.evolve(FILE, url=FILE.url + "?sig=1"), size=5, content_hash="h")
    assert await shelf.of_size(5) == {}


async def test_with_a_life_of_nothing_nothing_is_used_again(
    journal: SqliteJournal | None, clock: Clock
) -> None:
    """`Quotas(reuse_uploads=0)` uploads each time."""
    shelf = Shelf(journal, host=HOST, life=0.0, now=clock)
    shelf.keep(FILE, size=5, content_hash="h")
    assert (shelf.is_used, await shelf.of_size(5)) == (False, {})


async def test_another_host_has_files_of_its_own(tmp_path: Path, clock: Clock) -> None:
    """A journal that served the sandbox gives the service no link into it."""
    journal = SqliteJournal(tmp_path / "jobs.sqlite")
    Shelf(journal, host=HOST, life=100.0, now=clock).keep(FILE, size=5, content_hash="h")
    other = Shelf(journal, host="https://other.example", life=100.0, now=clock)
    assert await other.of_size(5) == {}
    await journal.aclose()


async def test_a_journal_that_fails_costs_an_upload(
    tmp_path: Path, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing is found, and the log says why."""
    journal = SqliteJournal(tmp_path)  # a folder
    assert await Shelf(journal, host=HOST, life=100.0, now=clock).of_size(5) == {}
    assert "The journal could not be read" in caplog.text
    await journal.aclose()


async def test_memory_is_bounded(clock: Clock) -> None:
    """Without a journal the newest thousand are remembered."""
    shelf = Shelf(None, host=HOST, life=100.0, now=clock)
    for number in range(1001):
        url = f"https://f.example/{number}.mp4"
        shelf.keep(attrs.evolve(FILE, url=url), size=5, content_hash=str(number))
    kept = await shelf.of_size(5)
    assert (len(kept), "0" in kept, "1" in kept) == (1000, False, True)


async def test_uploads_outlive_the_process(tmp_path: Path) -> None:
    """What one journal wrote the next one reads, every field of it."""
    path = tmp_path / "jobs.sqlite"
    bare = attrs.evolve(KEPT, url="https://f.example/b.mp4", name=None, uploaded_at=None)
    first = SqliteJournal(path)
    first.keep_upload_soon(KEPT)
    first.keep_upload_soon(bare)
    await first.aclose()
    second = SqliteJournal(path)
    assert sorted(await second.uploads(5, HOST), key=lambda k: k.url) == [KEPT, bare]
    second.forget_upload_soon(KEPT.url)
    assert await second.uploads(5, HOST) == [bare]
    await second.aclose()


async def test_what_is_long_gone_is_dropped(tmp_path: Path) -> None:
    """The table does not grow for ever: three days is the longest that anybody promised."""
    journal = SqliteJournal(tmp_path / "jobs.sqlite")
    later = attrs.evolve(KEPT, url="https://f.example/b.mp4", kept_at=MOMENT + timedelta(days=4))
    journal.keep_upload_soon(KEPT)
    journal.keep_upload_soon(later)
    assert await journal.uploads(5, HOST) == [later]
    await journal.aclose()


async def test_a_journal_of_the_first_schema_gets_the_table(tmp_path: Path) -> None:
    """A file from before keeps its rows and takes uploads."""
    path = tmp_path / "jobs.sqlite"
    with closing(open_database(str(path), mark=MARK, steps=STEPS[:1], busy=1.0)) as db:
        assert db.execute("PRAGMA user_version").fetchone() == (1,)
        db.execute(
            "INSERT INTO jobs (reference, attempt, fingerprint, model, input, owner, submit, "
            "created_at, task_id) VALUES ('r', 1, 'f', 'm', '{}', 'o', 'made', ?, 't')",
            (MOMENT.isoformat(),),
        )
    journal = SqliteJournal(path)
    (entry,) = await journal.jobs()
    assert (entry.task_id, entry.intent) == ("t", Intent(reference="r", fingerprint="f", model="m"))
    journal.keep_upload_soon(KEPT)
    assert await journal.uploads(5, HOST) == [KEPT]
    await journal.aclose()
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("PRAGMA user_version").fetchone() == (len(STEPS),)
