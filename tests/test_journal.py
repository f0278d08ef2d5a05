"""The journal: what a reference stands for, and that no paid id is ever dropped."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import sys
from collections.abc import AsyncIterator
from contextlib import closing
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import attrs
import pytest
from blockbuster import blockbuster_ctx

from topaz_async.errors import ConfigurationError, JournalError
from topaz_async.journal import SqliteJournal, decide
from topaz_async.journal_file import open_database
from topaz_async.journal_rows import MARK, STEPS
from topaz_async.models import TaskState, UpscaleFactor
from topaz_async.ports import Claim, Entry, Intent, Journal

MOMENT = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
DIED = "The process that was sending it ended before the answer was written down."


class Clock:
    """A clock that is one second later at each look."""

    def __init__(self) -> None:
        self.looks = -1

    def __call__(self) -> datetime:
        self.looks += 1
        return MOMENT + timedelta(seconds=self.looks)


def intent(reference: str | None = "a", fingerprint: str = "f", **more: Any) -> Intent:
    return Intent(reference=reference, fingerprint=fingerprint, model="topaz/video-upscale", **more)


@pytest.fixture(params=["file", "memory"])
async def journal(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[SqliteJournal]:
    path = tmp_path / "jobs.sqlite" if request.param == "file" else None
    made = SqliteJournal(path, now=Clock())
    yield made
    await made.aclose()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "jobs.sqlite"


async def granted(journal: Journal, wanted: Intent, **consent: bool) -> Entry:
    claim = await journal.claim(wanted, **consent)
    assert claim.verdict == "granted"
    return claim.entry


async def left_open(path: Path, *wanted: Intent) -> list[Entry]:
    """Intents whose owner has died."""
    journal = SqliteJournal(path, now=Clock())
    entries = [await granted(journal, each) for each in wanted]
    await journal.aclose()
    return entries


def entry(submit: str, state: str | None = None) -> Entry:
    task_id = "t" if submit == "made" else None
    return Entry(
        id=1, intent=intent(), submit=submit, created_at=MOMENT, task_id=task_id, state=state
    )  # type: ignore[arg-type]


# What a second submit gets: for the same work without consent, with resubmit_unknown, with
# resubmit_failed, and for other work.
TABLE = [
    (None, False, "granted", "granted", "granted", "granted"),
    (entry("refused"), False, "granted", "granted", "granted", "granted"),
    (entry("intent"), True, "in flight", "in flight", "in flight", "conflict"),
    (entry("intent"), False, "existing", "granted", "existing", "conflict"),
    (entry("unknown"), False, "existing", "granted", "existing", "conflict"),
    (entry("made"), False, "existing", "existing", "existing", "conflict"),
    (entry("made", "generating"), False, "existing", "existing", "existing", "conflict"),
    (entry("made", "a new word"), False, "existing", "existing", "existing", "conflict"),
    (entry("made", "success"), False, "existing", "existing", "existing", "conflict"),
    (entry("made", "completed"), False, "existing", "existing", "existing", "conflict"),
    (entry("made", "fail"), False, "existing", "existing", "granted", "conflict"),
    (entry("made", "failed"), False, "existing", "existing", "granted", "conflict"),
    (entry("made", "error"), False, "existing", "existing", "granted", "conflict"),
]


@pytest.mark.parametrize(("known", "alive", "plain", "unknown", "failed", "other"), TABLE)
def test_decide(
    known: Entry | None, alive: bool, plain: str, unknown: str, failed: str, other: str
) -> None:
    """The table of what a known reference gets, every row, every consent, other work too."""
    same, other_work = intent(), intent(fingerprint="else")
    assert (
        decide(known, same, owner_alive=alive),
        decide(known, same, owner_alive=alive, resubmit_unknown=True),
        decide(known, same, owner_alive=alive, resubmit_failed=True),
        decide(known, other_work, owner_alive=alive, resubmit_unknown=True, resubmit_failed=True),
    ) == (plain, unknown, failed, other)


@pytest.mark.parametrize(
    ("there", "here", "expected"),
    [
        ("http://127.0.0.1:8080", "https://api.kie.ai", "conflict"),
        ("https://api.kie.ai", "http://localhost:1", "conflict"),
        ("http://127.0.0.1:8080", "http://[::1]:9", "existing"),
        ("https://api.kie.ai", "https://gateway.example", "existing"),
        (None, "https://api.kie.ai", "existing"),
        ("http://127.0.0.1:8080", None, "existing"),
    ],
)
def test_rehearsed_work_is_other_work(there: str | None, here: str | None, expected: str) -> None:
    """Neither what a sandbox made is taken for bought, nor what was bought for a rehearsal."""
    made = entry("made", "success")
    made = attrs.evolve(made, intent=attrs.evolve(made.intent, service=there))
    assert decide(made, intent(service=here), owner_alive=False) == expected


async def test_is_a_journal(journal: SqliteJournal) -> None:
    """It is what the rest of the package takes for a journal, and says how durable it is."""
    taken: Journal = journal
    assert taken.durable == (journal.path is not None)


async def test_life_of_an_entry(journal: SqliteJournal) -> None:
    """An entry comes back as it was written at every step from intent to downloaded file."""
    full = intent(
        factor=UpscaleFactor.X4,
        input={"video_url": "https://host/clip.mp4?secret=1#x", "upscale_factor": "4", "n": [1]},
        seconds=12.5,
        size=1_000_000,
        content_hash="00ff",
        nonce="n0nce",
        service="https://api.kie.ai",
    )
    kept = attrs.evolve(full, input={**full.input, "video_url": "https://host/clip.mp4"})
    expected = Entry(id=1, intent=kept, submit="intent", created_at=MOMENT)
    assert await journal.claim(full) == Claim("granted", expected)
    assert await journal.find("a") == expected

    await journal.bind(1, "task-1")
    expected = attrs.evolve(
        expected, submit="made", task_id="task-1", submitted_at=MOMENT + timedelta(seconds=1)
    )
    assert await journal.find("a") == expected

    await journal.note("task-1", state=TaskState("generating"))
    expected = attrs.evolve(expected, state="generating", state_at=MOMENT + timedelta(seconds=2))
    assert await journal.find("a") == expected

    urls = ("https://result/1.mp4?sign=1",)
    await journal.note(
        "task-1", state="success", result_urls=urls, credits_consumed=0.19, duration=30.5
    )
    expected = attrs.evolve(
        expected,
        state="success",
        state_at=MOMENT + timedelta(seconds=3),
        result_urls=urls,
        credits_consumed=0.19,
        duration=30.5,
    )
    assert await journal.find("a") == expected

    await journal.downloaded("task-1", "out/clip.mp4")
    expected = attrs.evolve(expected, path="out/clip.mp4")
    assert await journal.find("a") == expected
    assert await journal.claim(full) == Claim("existing", expected)


async def test_refused_reference_is_free(journal: SqliteJournal) -> None:
    """After a refusal the reference may be claimed again, for other work too; both are kept."""
    first = await granted(journal, intent())
    await journal.refuse(first.id, 402, "Not enough\x1b[31m credits " + "x" * 1000)
    kept = await journal.find("a")
    assert kept is not None
    assert (kept.submit, kept.code) == ("refused", 402)
    assert kept.words is not None
    assert ("\x1b" in kept.words, len(kept.words)) == (False, 500)
    second = await granted(journal, intent(fingerprint="other"))
    assert [each.id for each in await journal.jobs()] == [first.id, second.id]
    assert await journal.find("a") == second


async def test_unknown_needs_consent(journal: SqliteJournal) -> None:
    """Unknown work is handed out as it is, and sent again only with consent, as a new row."""
    first = await granted(journal, intent())
    await journal.lose(first.id, 502, "Bad gateway")
    lost = attrs.evolve(first, submit="unknown", code=502, words="Bad gateway")
    assert await journal.claim(intent()) == Claim("existing", lost)
    assert await journal.claim(intent(), resubmit_failed=True) == Claim("existing", lost)
    second = await granted(journal, intent(), resubmit_unknown=True)
    assert await journal.jobs() == [lost, second]


async def test_consent_is_for_one_entry(journal: SqliteJournal) -> None:
    """What another process has made of it since then, nobody has consented to pay again."""
    intent = Intent(reference="r", fingerprint="f", model="m")
    first = (await journal.claim(intent)).entry.id
    await journal.lose(first, None, "nobody knows")
    verdicts = []
    for consented_to in (first + 7, first, first):
        claim = await journal.claim(intent, resubmit_unknown=True, consented_to=consented_to)
        verdicts.append(claim.verdict)
        if claim.verdict == "granted":
            await journal.lose(claim.entry.id, None, "nobody knows that either")
    assert ["existing", "granted", "existing"] == verdicts


async def test_failed_needs_consent(journal: SqliteJournal) -> None:
    """Failed work is handed out as it is, and tried again only with consent; its id is kept."""
    first = await granted(journal, intent())
    await journal.bind(first.id, "t1")
    await journal.note("t1", state="fail", credits_consumed=0)
    assert (await journal.claim(intent(), resubmit_unknown=True)).verdict == "existing"
    await granted(journal, intent(), resubmit_failed=True)
    assert [each.task_id for each in await journal.jobs()] == ["t1", None]


async def test_refused_second_attempt_hides_nothing(journal: SqliteJournal) -> None:
    """When a second attempt is refused, the reference stands for the unknown first again."""
    first = await granted(journal, intent())
    await journal.lose(first.id, None, "reset")
    second = await granted(journal, intent(), resubmit_unknown=True)
    await journal.refuse(second.id, 422, "no")
    claim = await journal.claim(intent())
    assert (claim.verdict, claim.entry.id, claim.entry.submit) == ("existing", first.id, "unknown")
    assert await journal.find("a") == claim.entry
    assert (await journal.claim(intent(fingerprint="other"))).verdict == "conflict"


async def test_a_found_task_of_other_work_stands_for_nothing_newer(journal: SqliteJournal) -> None:
    """A reference freed by a refusal was taken for other work; then the first id came late."""
    first = await granted(journal, intent(fingerprint="one"))
    await journal.refuse(first.id, 402, "no credits")
    second = await granted(journal, intent(fingerprint="other"))
    await journal.lose(second.id, None, "reset")
    await journal.bind(first.id, "task-1")
    found = await journal.find("a")
    assert found is not None
    assert (second.id, "unknown") == (found.id, found.submit)


async def test_in_flight_and_conflict(journal: SqliteJournal) -> None:
    """While it is being sent, the same work is in flight and other work a conflict."""
    first = await granted(journal, intent())
    consent = {"resubmit_unknown": True, "resubmit_failed": True}
    assert await journal.claim(intent(), **consent) == Claim("in flight", first)
    assert await journal.claim(intent(fingerprint="other"), **consent) == Claim("conflict", first)


async def test_forty_at_once(journal: SqliteJournal) -> None:
    """Of forty who claim one reference at once exactly one is granted."""
    claims = await asyncio.gather(*(journal.claim(intent()) for _ in range(40)))
    assert sorted(claim.verdict for claim in claims) == ["granted", *["in flight"] * 39]
    assert len({claim.entry.id for claim in claims}) == 1


async def test_without_reference(journal: SqliteJournal) -> None:
    """Work without a reference is always granted, each time in a row of its own."""
    entries = [await granted(journal, intent(None)) for _ in range(3)]
    assert await journal.jobs("intent") == entries


async def test_two_journals_of_one_file(path: Path) -> None:
    """Two journals in one process, over one file, see each other's claims and lives."""
    one, other = SqliteJournal(path), SqliteJournal(path)
    first = await granted(one, intent())
    assert await other.claim(intent()) == Claim("in flight", first)
    await other.bind(first.id, "t1")
    assert (await one.claim(intent())).entry.task_id == "t1"
    second = await granted(one, intent("b"))
    await one.aclose()
    lost = attrs.evolve(second, submit="unknown", words=DIED)
    assert await other.find("b") == lost
    assert await other.claim(intent("b")) == Claim("existing", lost)
    await other.aclose()


async def test_dead_owner(path: Path) -> None:
    """An intent whose owner died reads as unknown, and is written down so by the next claim."""
    lost, nameless = await left_open(path, intent(), intent(None))
    unknown = [attrs.evolve(each, submit="unknown", words=DIED) for each in (lost, nameless)]
    journal = SqliteJournal(path)
    assert await journal.find("a") == unknown[0]
    assert await journal.jobs() == unknown
    assert await journal.jobs("unknown") == unknown
    assert await journal.jobs("unfinished") == unknown
    assert await journal.jobs("intent") == []
    assert rows(path) == [("a", "intent"), (None, "intent")]
    assert await journal.claim(intent()) == Claim("existing", unknown[0])
    assert rows(path) == [("a", "unknown"), (None, "intent")]
    assert (await journal.claim(intent(), resubmit_unknown=True)).verdict == "granted"
    await journal.aclose()


def rows(path: Path) -> list[tuple[str | None, str]]:
    with closing(sqlite3.connect(path)) as db:
        return db.execute("SELECT reference, submit FROM jobs ORDER BY id").fetchall()


async def test_words_of_a_submit_under_way_outlive_its_process(path: Path) -> None:
    """It stays under way while its process lives; afterwards they say more than its end."""
    one, other = SqliteJournal(path), SqliteJournal(path)
    entry = await granted(one, intent())
    await one.remark(entry.id, "The answer named task t1.")
    assert await other.find("a") == attrs.evolve(entry, words="The answer named task t1.")
    assert (await other.claim(intent())).verdict == "in flight"
    await one.aclose()
    lost = attrs.evolve(entry, submit="unknown", words="The answer named task t1.")
    assert await other.find("a") == lost
    assert await other.claim(intent()) == Claim("existing", lost)
    await other.bind(entry.id, "t1")
    await other.remark(entry.id, "too late")
    assert (await other.jobs())[0].words is None
    await other.aclose()


async def test_late_id_is_never_dropped(journal: SqliteJournal) -> None:
    """An id that comes late is bound whatever was believed before, beside a later attempt too."""
    lost = await granted(journal, intent())
    await journal.lose(lost.id, None, "reset")
    again = await granted(journal, intent(), resubmit_unknown=True)
    refused = await granted(journal, intent("b"))
    await journal.refuse(refused.id, 429, "wait")
    for task_id, each in (("t1", lost), ("t2", again), ("t3", refused)):
        await journal.bind(each.id, task_id)
    assert [(each.submit, each.task_id, each.words) for each in await journal.jobs("pending")] == [
        ("made", "t1", None),
        ("made", "t2", None),
        ("made", "t3", None),
    ]


async def test_bound_is_final(journal: SqliteJournal) -> None:
    """One entry has one task: the same id again is fine, another id or a refusal is an error."""
    first = await granted(journal, intent())
    await journal.bind(first.id, "t1")
    before = await journal.find("a")
    await journal.bind(first.id, "t1")
    with pytest.raises(JournalError, match="stands for task t1 already") as caught:
        await journal.bind(first.id, "t2")
    assert (caught.value.task_id, caught.value.billed) == ("t2", "yes")
    with pytest.raises(JournalError, match="stands for task t1 already"):
        await journal.refuse(first.id, None, "no")
    with pytest.raises(JournalError, match="stands for task t1 already"):
        await journal.lose(first.id, None, "no")
    assert await journal.find("a") == before


async def test_no_such_entry(journal: SqliteJournal) -> None:
    """An answer for an entry that is not there is an error that still carries the id."""
    with pytest.raises(JournalError, match="no entry 7") as caught:
        await journal.bind(7, "t1")
    assert caught.value.task_id == "t1"
    with pytest.raises(JournalError, match="no entry 7"):
        await journal.lose(7, None, "x")


@pytest.mark.parametrize("late", ["generating", "fail", "a new word"])
async def test_terminal_is_sticky(journal: SqliteJournal, late: str) -> None:
    """A task that has ended stays so, whatever is seen later."""
    first = await granted(journal, intent())
    await journal.bind(first.id, "t1")
    await journal.note("t1", state="success", result_urls=["https://r/1"])
    before = await journal.find("a")
    await journal.note("t1", state=late, result_urls=["https://r/2"], credits_consumed=9)
    assert await journal.find("a") == before


async def test_note_adds_and_never_erases(journal: SqliteJournal) -> None:
    """What a note leaves out stays; a renewed link of the same end replaces the old one."""
    first = await granted(journal, intent())
    await journal.bind(first.id, "t1")
    await journal.note("t1", state="success", result_urls=["https://r/1"], duration=3)
    before = await journal.find("a")
    assert before is not None
    await journal.note("t1", state="success")
    assert await journal.find("a") == before
    await journal.note("t1", state="completed", result_urls=["https://r/2"])
    assert await journal.find("a") == attrs.evolve(before, result_urls=("https://r/2",))


async def test_unchanged_note_writes_nothing(path: Path) -> None:
    """Noting what is known already costs no write, and so no fsync."""
    journal = SqliteJournal(path)
    first = await granted(journal, intent())
    await journal.bind(first.id, "t1")
    await journal.note("t1", state="waiting")
    await journal.downloaded("t1", "x")
    log = path.with_name("jobs.sqlite-wal")
    before = log.read_bytes()
    for _ in range(5):
        await journal.note("t1", state="waiting")
        await journal.downloaded("t1", "x")
        await journal.bind(first.id, "t1")
    assert log.read_bytes() == before
    await journal.note("t1", state="generating")
    assert log.read_bytes() != before
    await journal.aclose()


async def test_unknown_tasks_are_ignored(journal: SqliteJournal) -> None:
    """States and paths of tasks that are not in the journal are ignored."""
    await journal.note("t9", state="success")
    await journal.downloaded("t9", "x")
    assert await journal.jobs() == []


async def test_each_state_change_is_kept(path: Path) -> None:
    """The file keeps every state a task was seen in, with its time, until it is forgotten."""
    journal = SqliteJournal(path, now=Clock())
    first = await granted(journal, intent())
    await journal.bind(first.id, "t1")
    for state in ("waiting", "waiting", "generating", "success", "success"):
        await journal.note("t1", state=state)
    with closing(sqlite3.connect(path)) as db:
        seen = db.execute("SELECT at, state FROM states ORDER BY at").fetchall()
        assert [state for _, state in seen] == ["waiting", "generating", "success"]
        assert datetime.fromisoformat(seen[0][0]) == MOMENT + timedelta(seconds=2)
        assert await journal.forget("a")
        assert db.execute("SELECT count(*) FROM states").fetchone() == (0,)
    await journal.aclose()


async def test_lists(journal: SqliteJournal) -> None:
    """Lists hold what their word says, oldest first."""
    entries = [await granted(journal, intent(name)) for name in "abcdefg"]
    await journal.refuse(entries[1].id, 422, "no")
    await journal.lose(entries[2].id, None, "reset")
    for number, state in ((3, None), (4, "generating"), (5, "success"), (6, "fail")):
        await journal.bind(entries[number].id, f"t{number}")
        if state is not None:
            await journal.note(f"t{number}", state=state, result_urls=["https://x.example/a.mp4"])
    submits = ("intent", "made", "refused", "unknown")
    states = ("generating", "success", "fail", "nonsense")
    listed = {
        word: "".join(each.intent.reference or "" for each in await journal.jobs(word))
        for word in (None, *submits, "pending", "unfinished", *states)
    }
    assert listed == {
        None: "abcdefg",
        "intent": "a",
        "made": "defg",
        "refused": "b",
        "unknown": "c",
        "pending": "de",
        "unfinished": "cde",
        "generating": "e",
        "success": "f",
        "fail": "g",
        "nonsense": "",
    }


async def test_a_success_without_a_link_is_not_finished(journal: SqliteJournal) -> None:
    """It is paid for: its task is asked for again until there is a link, or for ever."""
    entry = await granted(journal, intent("a"))
    await journal.bind(entry.id, "t1")
    await journal.note("t1", state="Success")
    assert [entry.id] == [each.id for each in await journal.jobs("unfinished")]
    await journal.note("t1", state="success", result_urls=["https://x.example/a.mp4"])
    assert [] == await journal.jobs("unfinished")


async def test_a_lost_attempt_is_finished_once_a_later_one_is_made(journal: SqliteJournal) -> None:
    """Whoever consented to pay again waits for that; a callback may still name the lost task."""
    lost = await granted(journal, intent("a"))
    other = await granted(journal, intent("b"))
    for each in (lost, other):
        await journal.lose(each.id, None, "reset")
    again = await journal.claim(intent("a"), resubmit_unknown=True)
    assert [lost.id, other.id] == [each.id for each in await journal.jobs("unfinished")]
    await journal.bind(again.entry.id, "t1")
    assert [other.id, again.entry.id] == [each.id for each in await journal.jobs("unfinished")]
    assert [lost.id, other.id] == [each.id for each in await journal.jobs("unknown")]
    await journal.bind(lost.id, "t2")
    unfinished = [lost.id, other.id, again.entry.id]
    assert unfinished == [each.id for each in await journal.jobs("unfinished")]


async def test_undelivered(path: Path) -> None:
    """A paid result that was to be brought is listed until it has been, wherever it was to go."""
    journal = SqliteJournal(path, now=Clock())
    outputs = ["/out/a b.mp4", os.fsdecode(b"/out/\xff.mp4"), "/out/c.mp4", "/out/d.mp4", None]
    entries = [
        await granted(journal, intent(name, output=output))
        for name, output in zip("abcde", outputs, strict=True)
    ]
    for number, each in enumerate(entries):
        await journal.bind(each.id, f"t{number}")
        await journal.note(f"t{number}", state="fail" if number == 2 else "success")
    await journal.downloaded("t3", "/out/d.mp4")
    listed = [entry.intent.output for entry in await journal.jobs("undelivered")]
    await journal.aclose()
    assert listed == outputs[:2]


async def test_a_result_in_several_places(journal: SqliteJournal) -> None:
    """All are known, the newest last, each once, in any encoding; only so many are kept."""
    entry = await granted(journal, intent("a"))
    await journal.bind(entry.id, "t1")
    odd = os.fsdecode(b"/out/\xff.mp4")
    for path in ("/a.mp4", odd, "/c.mp4", "/a.mp4", "/a.mp4"):
        await journal.downloaded("t1", path)
    found = await journal.find("a")
    assert found is not None
    assert (odd, "/c.mp4", "/a.mp4") == found.paths
    for number in range(150):
        await journal.downloaded("t1", f"/{number}.mp4")
    found = await journal.find("a")
    assert found is not None
    assert ("/49.mp4", "/149.mp4", 101) == (found.paths[0], found.paths[-1], len(found.paths))


async def test_a_journal_of_the_first_schema_is_read_on(path: Path) -> None:
    """A file that was written before outputs were kept opens, and its entries have none."""
    with closing(open_database(str(path), mark=MARK, steps=STEPS[:1], busy=1.0)) as db:
        db.execute(
            "INSERT INTO jobs (reference, attempt, fingerprint, model, input, owner, submit, "
            "created_at, task_id) VALUES ('a', 1, 'f', 'm', '{}', 'o', 'made', ?, 't')",
            (MOMENT.isoformat(),),
        )
    journal = SqliteJournal(path)
    (entry,) = await journal.jobs()
    await journal.aclose()
    assert (entry.task_id, entry.intent.output) == ("t", None)


async def test_forget(journal: SqliteJournal) -> None:
    """Forgetting drops every attempt of one reference, and its numbers are not used again."""
    first = await granted(journal, intent())
    await journal.refuse(first.id, None, "no")
    again = await granted(journal, intent())
    await journal.bind(again.id, "t1")
    kept = await granted(journal, intent("b"))
    assert await journal.forget("a")
    assert not await journal.forget("a")
    assert await journal.jobs() == [kept]
    newest = await granted(journal, intent())
    await journal.refuse(newest.id, None, "no")
    assert await journal.forget("a")
    assert (await granted(journal, intent())).id > newest.id


async def test_forget_keeps_what_is_being_sent(journal: SqliteJournal) -> None:
    """A reference in flight is not forgotten: an id may still come for it."""
    first = await granted(journal, intent())
    with pytest.raises(JournalError, match="being sent just now") as caught:
        await journal.forget("a")
    assert caught.value.reference == "a"
    await journal.bind(first.id, "t1")
    assert await journal.forget("a")


async def test_cancelled_claim_is_given_back(journal: SqliteJournal) -> None:
    """An intent granted to a caller who had gone is refused: nothing was sent, nothing bought."""
    await journal.open()
    for turns in range(4):
        task = asyncio.create_task(journal.claim(intent(f"r{turns}")))
        for _ in range(turns):
            await asyncio.sleep(0.001)
        task.cancel()
        try:
            await task
        except asyncio.CancelledError:
            found = await journal.find(f"r{turns}")
            assert found is None or (found.submit, found.words) == (
                "refused",
                "Cancelled before it was sent.",
            )
    task = asyncio.create_task(journal.claim(intent("last")))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await granted(journal, intent("last"))


async def test_cancelled_bind_still_happens(journal: SqliteJournal) -> None:
    """A cancelled caller's id is written all the same."""
    first = await granted(journal, intent())
    task = asyncio.create_task(journal.bind(first.id, "t1"))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    found = await journal.find("a")
    assert found is not None
    assert found.task_id == "t1"


async def test_numbers_and_names_of_any_size(journal: SqliteJournal) -> None:
    """A code that no database holds is left out; a path that is no UTF-8 comes back as it was."""
    first = await granted(journal, intent())
    await journal.lose(first.id, 10**30, "odd")
    found = await journal.find("a")
    assert found is not None
    assert (found.submit, found.code) == ("unknown", None)
    await journal.bind(first.id, "t1")
    if sys.platform != "win32":
        odd = os.fsdecode(b"caf\xe9.mp4")
        await journal.downloaded("t1", odd)
        found = await journal.find("a")
        assert found is not None
        assert found.path == odd


async def test_what_cannot_be_held_is_an_error_of_ours(journal: SqliteJournal) -> None:
    """An intent that cannot be written is refused with an error of ours, and harms nobody."""
    with pytest.raises(JournalError) as caught:
        await journal.claim(intent("lone \ud800 surrogate"))
    assert (caught.value.__cause__, caught.value.__context__) == (None, None)
    with pytest.raises(JournalError):
        await journal.claim(intent("b", input={"video": object()}))
    assert await journal.jobs() == []


async def test_times_are_aware_utc(path: Path) -> None:
    """Whatever zone the clock keeps, times come back in UTC."""
    east = timezone(timedelta(hours=5))
    journal = SqliteJournal(path, now=lambda: MOMENT.astimezone(east))
    first = await granted(journal, intent())
    assert (first.created_at, first.created_at.tzinfo) == (MOMENT, UTC)
    await journal.aclose()


async def test_survives_a_restart(path: Path) -> None:
    """What was written is there for the next journal, and nothing but the file is left."""
    journal = SqliteJournal(path)
    first = await granted(journal, intent())
    await journal.bind(first.id, "t1")
    before = await journal.jobs()
    await journal.aclose()
    await journal.aclose()
    assert [each.name for each in path.parent.iterdir()] == ["jobs.sqlite"]
    journal = SqliteJournal(path)
    assert await journal.jobs() == before
    await journal.aclose()


async def test_nothing_secret_in_the_file(path: Path) -> None:
    """What stands in a query of an input's URL is not in the file."""
    journal = SqliteJournal(path)
    await granted(journal, intent(input={"video_url": "https://h/v.mp4?X-Signature=s3cret"}))
    assert b"s3cret" not in path.with_name("jobs.sqlite-wal").read_bytes()
    await journal.aclose()
    assert b"s3cret" not in path.read_bytes()


async def test_closed(journal: SqliteJournal) -> None:
    """After closing every call is an error that says so."""
    await journal.aclose()
    calls = [
        journal.open(),
        journal.find("a"),
        journal.claim(intent()),
        journal.bind(1, "t"),
        journal.refuse(1, None, ""),
        journal.lose(1, None, ""),
        journal.note("t", state="success"),
        journal.downloaded("t", "p"),
        journal.jobs(),
        journal.forget("a"),
    ]
    results = await asyncio.gather(*calls, return_exceptions=True)
    assert {(type(each), "is closed" in str(each)) for each in results} == {(JournalError, True)}


def test_constructed_anywhere(tmp_path: Path) -> None:
    """Making a journal needs no event loop and touches nothing."""
    assert repr(SqliteJournal(None)) == "SqliteJournal(None)"
    assert SqliteJournal(tmp_path / "deep" / "jobs.sqlite").durable
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("wrong", ["", ":memory:", "a\0b", 3, object()])
def test_wrong_paths(wrong: Any) -> None:
    """What is no path of a file is refused at once."""
    with pytest.raises(ConfigurationError, match="path of a file"):
        SqliteJournal(wrong)


async def test_relative_path_stays_put(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A relative path means the folder that was current at the first call, ever after."""
    monkeypatch.chdir(tmp_path)
    journal = SqliteJournal("jobs.sqlite")
    await journal.open()
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    await granted(journal, intent())
    await journal.aclose()
    names = sorted(each.name for each in tmp_path.iterdir())
    assert names == ["elsewhere", "jobs.sqlite"]
    assert os.listdir(tmp_path / "elsewhere") == []


async def test_never_blocks_the_loop(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No call does file, lock or database work on the event loop."""
    monkeypatch.chdir(path.parent)
    with blockbuster_ctx():
        journal = SqliteJournal(path.name)
        await journal.open()

        async def one(number: int) -> None:
            first = await granted(journal, intent(f"r{number}"))
            assert (await journal.claim(intent(f"r{number}"))).verdict == "in flight"
            await journal.bind(first.id, f"t{number}")
            await journal.note(f"t{number}", state="success")
            await journal.downloaded(f"t{number}", "x")
            await journal.find(f"r{number}")

        await asyncio.gather(*(one(number) for number in range(100)))
        lost = [await granted(journal, intent(name)) for name in ("x", "y")]
        await journal.lose(lost[0].id, None, "x")
        await journal.refuse(lost[1].id, None, "y")
        assert len(await journal.jobs()) == 102
        await journal.forget("x")
        task = asyncio.create_task(journal.claim(intent("z")))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await journal.aclose()


async def test_damaged_row_is_an_error_of_ours(path: Path) -> None:
    """A row that somebody spoiled is an error of ours, and the others can still be used."""
    journal = SqliteJournal(path)
    await granted(journal, intent("spoiled"))
    await granted(journal, intent("fine"))
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("UPDATE jobs SET input = '{' WHERE reference = 'spoiled'")
    with pytest.raises(JournalError, match="cannot hold or read"):
        await journal.find("spoiled")
    assert await journal.find("fine") is not None
    await journal.aclose()
