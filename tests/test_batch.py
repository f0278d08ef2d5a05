"""Many videos: each has its outcome, none costs a sibling its own."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from topaz_async import (
    BatchReport,
    ClientClosedError,
    ConfigurationError,
    DownloadError,
    InvalidInputError,
    JournalError,
    Outcome,
    PollPolicy,
    Quotas,
    SqliteJournal,
    TaskNotFoundError,
    Timeouts,
    TopazClient,
)
from topaz_async.sandbox import CopyEngine, Fault, Sandbox
from topaz_async.sandbox.media import make_clip

from .byteserver import until
from .conftest import client_of, settled


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Six tiny clips that differ."""
    folder = tmp_path_factory.mktemp("clips")
    paths = [folder / f"clip {number}.mp4" for number in range(6)]
    for number, path in enumerate(paths):
        make_clip(path, seconds=0.2, width=64 + 2 * number, height=36, audio=False)
    return paths


@pytest.fixture
async def quick() -> AsyncIterator[Sandbox]:
    """A sandbox that only copies, at its quotas."""
    async with Sandbox(
        submit_window=0.5, poll_quota=None, credits=1e6, engine=CopyEngine()
    ) as sandbox:
        yield sandbox


async def outcomes_of(batch: object) -> list[Outcome]:
    """Return every outcome of a batch, in the order of the videos."""
    return sorted([outcome async for outcome in batch], key=lambda outcome: outcome.index)  # type: ignore[attr-defined]


async def test_each_video_has_its_outcome_and_its_file(
    topaz: TopazClient, clips: list[Path], tmp_path: Path
) -> None:
    """Outcomes come as they complete; the report counts them, in a table and in JSON."""
    async with topaz.upscale_many(clips, output_dir=tmp_path / "out") as batch:
        outcomes = await outcomes_of(batch)
    assert ["ok"] * 6 == [outcome.status for outcome in outcomes]
    assert [tmp_path / "out" / f"{clip.stem}-2x.mp4" for clip in clips] == [
        outcome.path for outcome in outcomes
    ]
    report = batch.report
    assert ({"ok": 6}, 48.0) == (report.counts, report.credits)
    report.save(tmp_path / "report.json")
    assert report == BatchReport.load(tmp_path / "report.json")
    assert str(report).splitlines()[-1].startswith("6 ok; 48 credits; ")


async def test_one_failure_never_cancels_a_sibling(
    quick: Sandbox, clips: list[Path], tmp_path: Path
) -> None:
    """Refused, unknown, failed and pending each have their status, task id and error."""
    quick.add_fault(Fault("createTask", "answer", code=422, msg="no", only='_factor": "1'))
    text = tmp_path / "text.mp4"
    text.write_text("no video")
    async with client_of(quick) as topaz:
        urls = [(await topaz.upload(clip)).url for clip in clips[:4]]
        quick.faults.clear()
        quick.add_fault(Fault("createTask", "answer", code=422, msg="no", only=urls[0]))
        quick.add_fault(Fault("createTask", "lost_reply", only=urls[1]))
        quick.add_fault(Fault("createTask", "fail", only=urls[2]))
        outcomes = await outcomes_of(topaz.upscale_many([*urls, text, 42, "missing.mp4"]))
    assert ["refused", "unknown", "failed", "ok", "refused", "refused", "refused"] == [
        outcome.status for outcome in outcomes
    ]
    assert [False, False, True, True] == [bool(o.task_id) for o in outcomes[:4]]
    assert ["no", "unknown"] == [o.error.billed for o in outcomes[:2] if o.error]
    assert 3 == len(quick.books.billed)


async def test_a_deadline_that_passes_leaves_the_task_pending(clips: list[Path]) -> None:
    """The outcome names the task that goes on."""
    async with (
        Sandbox(run_seconds=30, poll_quota=None, engine=CopyEngine()) as sandbox,
        client_of(sandbox) as topaz,
    ):
        (outcome,) = await outcomes_of(topaz.upscale_many(clips[:1], timeout=0.2))
    assert ("pending", True) == (outcome.status, outcome.task_id in sandbox.books.billed)


async def test_identical_inputs_are_submitted_once(quick: Sandbox, clips: list[Path]) -> None:
    """Twins share the task and its cost."""
    async with client_of(quick) as topaz:
        outcomes = await outcomes_of(topaz.upscale_many([clips[0], clips[1], clips[0]]))
    assert 2 == len(quick.books.billed)
    assert outcomes[0].task_id == outcomes[2].task_id != outcomes[1].task_id
    assert {outcomes[0].same_as, outcomes[2].same_as} in ({None, 0}, {None, 2})


async def test_without_credits_nothing_more_is_submitted(quick: Sandbox, clips: list[Path]) -> None:
    """After a 402 the rest is reported as not submitted, and the service is left alone."""
    quick.add_fault(Fault("createTask", "answer", code=402, msg="insufficient", times=None))
    async with client_of(quick) as topaz:
        outcomes = await outcomes_of(topaz.upscale_many(clips, concurrency=1))
    assert ["refused", *["not submitted"] * 5] == [outcome.status for outcome in outcomes]
    assert 1 == quick.books.count("createTask")


async def test_an_iterable_is_taken_as_there_is_room(quick: Sandbox, clips: list[Path]) -> None:
    """Of an endless iterable no more is taken than is under way or waits to be read."""
    taken = 0

    def endless() -> Iterator[Path]:
        nonlocal taken
        while True:
            taken += 1
            yield clips[taken % 6]

    async with client_of(quick) as topaz, topaz.upscale_many(endless(), concurrency=2) as batch:
        seen = 0
        async for _ in batch:
            seen += 1
            assert taken <= seen + 5
            if seen == 10:
                break
    assert len(quick.books.billed) <= 6


async def test_what_an_iterable_raises_comes_after_what_it_gave(
    quick: Sandbox, clips: list[Path]
) -> None:
    """Submitted videos are still reported, then the caller's own error comes out."""

    async def breaks() -> AsyncIterator[Path]:
        yield clips[0]
        yield clips[1]
        raise LookupError("my list is broken")

    seen: list[str] = []

    async def read(topaz: TopazClient) -> None:
        async for outcome in topaz.upscale_many(breaks()):
            seen.append(outcome.status)

    async with client_of(quick) as topaz:
        with pytest.raises(LookupError):
            await read(topaz)
    assert ["ok", "ok"] == seen


async def test_run_again_only_what_is_missing_is_done(
    sandbox: Sandbox, clips: list[Path], tmp_path: Path
) -> None:
    """On the same journal and folder a second run buys nothing and brings what was deleted."""
    for run in range(2):
        async with client_of(sandbox, journal=tmp_path / "jobs.sqlite") as topaz:
            report = await topaz.upscale_many(clips, output_dir=tmp_path / "out")
        assert {"ok": 6} == report.counts
        assert 6 == len(list((tmp_path / "out").iterdir()))
        if run == 0:
            async with client_of(sandbox, journal=tmp_path / "jobs.sqlite") as topaz:
                outputs = {entry.intent.output for entry in await topaz.journal.jobs()}
            assert {str(path) for path in (tmp_path / "out").iterdir()} == outputs
            served = sandbox.books.count("files")
            (tmp_path / "out" / "clip 3-2x.mp4").unlink()
    assert 6 == len(sandbox.books.billed)
    assert 1 == sandbox.books.count("files") - served


@pytest.mark.parametrize("is_first", [True, False])
async def test_run_again_no_finished_result_is_replaced(
    quick: Sandbox, clips: list[Path], tmp_path: Path, is_first: bool
) -> None:
    """Two clips of one name stay two files, also when one was finished by an earlier run."""
    one, two = tmp_path / "one" / "clip.mp4", tmp_path / "two" / "clip.mp4"
    for clip, place in zip(clips, (one, two), strict=False):
        place.parent.mkdir()
        shutil.copy(clip, place)
    wanted: dict[str, bytes] = {}
    videos = [one, two] if is_first else [two, one]
    for run in ([one], videos, videos):
        async with client_of(quick, journal=tmp_path / "jobs.sqlite") as topaz:
            batch = topaz.upscale_many(
                run, output_dir=tmp_path / "out", overwrite=True, concurrency=1
            )
            outcomes = await outcomes_of(batch)
        assert ["ok"] * len(run) == [outcome.status for outcome in outcomes]
        for outcome in outcomes:
            assert outcome.path is not None
            content = outcome.path.read_bytes()
            assert wanted.setdefault(outcome.video, content) == content
    assert 2 == len(set(wanted.values())) == len({outcome.path for outcome in outcomes})
    assert {"clip-2x.mp4", "clip-2x (2).mp4"} == {p.name for p in (tmp_path / "out").iterdir()}
    assert 2 == len(quick.books.billed)


async def test_leaving_early_loses_no_task(clips: list[Path], tmp_path: Path) -> None:
    """What was submitted is in the journal and can be recovered; nothing more is submitted."""
    async with (
        Sandbox(run_seconds=0.3, submit_window=0.5, poll_quota=None, engine=CopyEngine()) as box,
        client_of(box, journal=tmp_path / "jobs.sqlite") as topaz,
    ):
        async for outcome in topaz.upscale_many(clips, concurrency=3):
            assert "ok" == outcome.status
            break
        await asyncio.sleep(0)
        billed = len(box.books.billed)
        known = await topaz.journal.jobs("made")
        assert set(box.books.billed) == {entry.task_id for entry in known}
        assert known[0].intent.output is None
        pending = [job async for job in topaz.recover()]
        await asyncio.gather(*pending)
        assert billed == len(box.books.billed) < 6


async def test_closing_the_client_ends_the_batch(clips: list[Path]) -> None:
    """The loop over it ends, and no task is left behind."""
    async with Sandbox(run_seconds=30, poll_quota=None, engine=CopyEngine()) as sandbox:
        topaz = client_of(sandbox)
        batch = topaz.upscale_many(clips[:3])
        reading = asyncio.create_task(outcomes_of(batch))
        await sandbox.books.until(lambda books: len(books.billed) == 3)
        await topaz.aclose()
        outcomes = await asyncio.wait_for(reading, 2)
        assert {"pending", "unknown"} >= {outcome.status for outcome in outcomes}
        with pytest.raises(ClientClosedError):
            await outcomes_of(topaz.upscale_many(clips))
        names = {task.get_name() for task in asyncio.all_tasks()}
        assert not {name for name in names if name.startswith("topaz_async")}


async def test_names_that_collide_are_made_unique(
    topaz: TopazClient, clips: list[Path], tmp_path: Path
) -> None:
    """Two videos of one name become two files; what was there before stays."""
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "clip 0-2x.mp4").write_bytes(b"mine")
    other = tmp_path / clips[0].name
    other.write_bytes(clips[1].read_bytes())
    report = await topaz.upscale_many([clips[0], other], output_dir=tmp_path / "out")
    paths = {row.path for row in report.rows}
    assert ({"ok": 2}, 2) == (report.counts, len(paths))
    assert b"mine" == (tmp_path / "out" / "clip 0-2x.mp4").read_bytes()


async def test_on_update_hears_of_each_video(topaz: TopazClient, clips: list[Path]) -> None:
    """It is called with the video as it was handed in, and the record."""
    heard: set[Path] = set()
    await topaz.upscale_many(clips[:2], on_update=lambda video, record: heard.add(video))
    assert set(clips[:2]) == heard


async def test_a_reference_of_ones_own(quick: Sandbox, clips: list[Path], tmp_path: Path) -> None:
    """reference= names each video; the journal holds it."""
    async with client_of(quick, journal=tmp_path / "jobs.sqlite") as topaz:
        outcomes = await outcomes_of(topaz.upscale_many(clips[:2], reference=lambda v: v.stem))
    assert ["clip 0", "clip 1"] == [outcome.reference for outcome in outcomes]


async def test_bad_options_are_refused(topaz: TopazClient, tmp_path: Path) -> None:
    """One video is no iterable of videos; a folder must be one; concurrency is 1 or more."""
    (tmp_path / "file").touch()
    for wrong in (
        lambda: topaz.upscale_many("clip.mp4"),
        lambda: topaz.upscale_many([], concurrency=0),
    ):
        with pytest.raises(InvalidInputError):
            wrong()
    with pytest.raises(InvalidInputError, match="file, not a folder"):
        await topaz.upscale_many([], output_dir=tmp_path / "file")
    assert {} == (await topaz.upscale_many([])).counts


def test_what_is_no_report_says_so(tmp_path: Path) -> None:
    """Loading another file is a typed error."""
    (tmp_path / "x.json").write_text("[1]")
    with pytest.raises(JournalError):
        BatchReport.load(tmp_path / "x.json")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk with room for a few of the clips."""
    folder = tmp_path / "small"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=16k", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("mounting a small disk needs a user who may")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


async def test_a_full_folder_costs_no_task(
    quick: Sandbox, clips: list[Path], tmp_path: Path, small_disk: Path
) -> None:
    """What no longer fits is reported with its task, and fetched later without another one."""
    async with client_of(quick, journal=tmp_path / "jobs.sqlite") as topaz:
        outcomes = await outcomes_of(topaz.upscale_many(clips, output_dir=small_disk))
        failed = [outcome for outcome in outcomes if outcome.status != "ok"]
        assert failed
        assert {"ok", "failed"} == {outcome.status for outcome in outcomes}
        for outcome in failed:
            assert isinstance(outcome.error, DownloadError)
            assert outcome.task_id is not None
            assert outcome.task_id == outcome.error.task_id
            assert "no" != outcome.error.billed
        assert {o.path for o in outcomes if o.path} == set(small_disk.iterdir())
        again = await outcomes_of(topaz.upscale_many(clips, output_dir=tmp_path / "big"))
    assert ["ok"] * 6 == [outcome.status for outcome in again]
    assert 6 == len(quick.books.billed)


@pytest.mark.parametrize("timeout", [0, -1.0, float("nan")])
async def test_a_deadline_that_is_none_is_refused(topaz: TopazClient, timeout: float) -> None:
    """Zero, less, and what is no number are told before anything is taken from the iterable."""
    with pytest.raises(ConfigurationError, match="above 0 seconds"):
        topaz.upscale_many(["https://a.example/clip.mp4"], timeout=timeout)


async def test_a_task_that_vanishes_is_reported_with_its_id(
    quick: Sandbox, clips: list[Path]
) -> None:
    """After the grace for "recordInfo is null" the item has failed; it may have been billed."""
    quick.add_fault(Fault("recordInfo", "null_record", times=None))
    polling = PollPolicy(first=0.05, longest=0.1, grace=0.2)
    async with client_of(quick, polling=polling) as topaz:
        (lost,) = await outcomes_of(topaz.upscale_many(clips[:1]))
    assert isinstance(lost.error, TaskNotFoundError)
    assert "failed" == lost.status
    assert "no" != lost.error.billed
    assert [lost.task_id] == list(quick.books.tasks)


async def test_an_on_update_that_hangs_holds_up_no_item(
    topaz: TopazClient, clips: list[Path]
) -> None:
    """Each item ends all the same, a second later at most."""

    async def hangs(video: object, record: object) -> None:
        await asyncio.Event().wait()

    async with asyncio.timeout(20):
        outcomes = await outcomes_of(topaz.upscale_many(clips[:2], on_update=hangs))
    assert ["ok", "ok"] == [outcome.status for outcome in outcomes]


@pytest.fixture
async def slow() -> AsyncIterator[Sandbox]:
    """A sandbox whose third and later tasks take long."""
    async with Sandbox(
        run_seconds=lambda number: 0.0 if number <= 2 else 60.0,
        submit_window=0.5,
        poll_quota=None,
        engine=CopyEngine(),
    ) as sandbox:
        yield sandbox


async def test_closing_ends_the_loop_of_a_slow_reader_too(slow: Sandbox, clips: list[Path]) -> None:
    """Outcomes that wait to be taken are taken, and then the loop ends; others are pending."""
    topaz = client_of(slow)
    batch = topaz.upscale_many(clips[:4])
    taken: list[str] = []
    may_go_on = asyncio.Event()

    async def read() -> None:
        async for outcome in batch:
            taken.append(outcome.status)
            await may_go_on.wait()

    reading = asyncio.create_task(read())
    await until(lambda: len(batch.report.rows) == 2 and len(slow.books.billed) == 4)
    await topaz.aclose()
    may_go_on.set()
    await asyncio.wait_for(reading, 2)
    assert ["ok", "ok", "pending", "pending"] == taken
    assert {"ok": 2, "pending": 2} == batch.report.counts
    told = {row.task_id for row in batch.report.rows}
    assert set(slow.books.billed) == told


async def test_what_was_left_can_be_read_on(slow: Sandbox, clips: list[Path]) -> None:
    """A second loop over a batch that was left gets what was under way, and ends."""
    async with client_of(slow) as topaz, topaz.upscale_many(clips[:4]) as batch:
        async for _ in batch:
            await until(lambda: len(batch.report.rows) == 2 and len(slow.books.billed) == 4)
            break
        rest = await asyncio.wait_for(outcomes_of(batch), 2)
        assert ["ok", "pending", "pending"] == sorted(outcome.status for outcome in rest)
        assert [] == await asyncio.wait_for(outcomes_of(batch), 2)
    assert 4 == len(slow.books.billed)


async def test_a_client_closed_in_the_middle_of_the_videos_says_so(
    slow: Sandbox, clips: list[Path]
) -> None:
    """A loop that has not seen every video does not end as if it had."""
    topaz = client_of(slow)
    batch = topaz.upscale_many(clips, concurrency=2)
    reading = asyncio.create_task(outcomes_of(batch))
    await slow.books.until(lambda books: len(books.billed) == 4)
    await topaz.aclose()
    with pytest.raises(ClientClosedError, match="batch") as caught:
        await asyncio.wait_for(reading, 2)
    assert "unknown" == caught.value.billed
    assert set(slow.books.billed) >= {row.task_id for row in batch.report.rows} - {None}


@pytest.mark.parametrize("folder", [False, True])
async def test_several_workers_share_a_batch(
    quick: Sandbox, clips: list[Path], tmp_path: Path, folder: bool
) -> None:
    """Each video goes to one of them, and all of them end."""

    async def videos() -> AsyncIterator[Path]:
        for clip in clips:
            await asyncio.sleep(0)
            yield clip

    async with client_of(quick) as topaz:
        batch = topaz.upscale_many(videos(), output_dir=tmp_path / "out" if folder else None)

        async def work() -> list[int]:
            return [outcome.index async for outcome in batch]

        shares = await asyncio.wait_for(asyncio.gather(work(), work(), work()), 10)
    assert list(range(6)) == sorted(index for share in shares for index in share)
    assert 6 == len(quick.books.billed)


@pytest.mark.parametrize("cleanup", ["raises", "hangs"])
async def test_a_source_that_does_not_close_harms_nobody_else(
    slow: Sandbox,
    clips: list[Path],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    cleanup: str,
) -> None:
    """Whatever its own cleanup does, the client closes whole and no task is lost."""
    for_ever = asyncio.Event()

    async def videos() -> AsyncIterator[Path]:
        try:
            for clip in clips[:4]:
                yield clip
            await for_ever.wait()
        finally:
            if cleanup == "raises":
                raise ConnectionError("the queue is gone")
            await for_ever.wait()

    topaz = client_of(slow, journal=tmp_path / "jobs.sqlite", timeouts=Timeouts(close=0.5))
    reading = asyncio.create_task(outcomes_of(topaz.upscale_many(videos(), concurrency=4)))
    await slow.books.until(lambda books: len(books.billed) >= 4)
    slow.add_fault(Fault("createTask", "slow", seconds=0.2))
    other = asyncio.create_task(topaz.submit(clips[5], reference="order-17", factor=4))
    await slow.books.until(lambda books: books.count("createTask") >= 5)
    await asyncio.wait_for(topaz.aclose(), 5)
    await topaz.aclose()
    done = await asyncio.wait_for(asyncio.gather(reading, other, return_exceptions=True), 5)
    assert {ClientClosedError} >= {type(each) for each in done} - {list, ConnectionError}
    journal = SqliteJournal(tmp_path / "jobs.sqlite")
    known = {entry.task_id for entry in await journal.jobs("made")}
    await journal.aclose()
    assert set(slow.books.billed) == known
    for_ever.set()
    await settled()


async def test_after_402_what_waits_for_the_quota_is_not_sent(
    quick: Sandbox, clips: list[Path]
) -> None:
    """However many were under way, what had not left yet stays here."""
    quick.add_fault(Fault("createTask", "answer", code=402, msg="no credits", times=None))
    quotas = Quotas(submits=1, submit_window=0.2)
    async with client_of(quick, quotas=quotas) as topaz:
        outcomes = await outcomes_of(topaz.upscale_many(clips))
    assert 1 == quick.books.count("createTask")
    assert ["not submitted"] * 5 + ["refused"] == sorted(each.status for each in outcomes)


@pytest.mark.parametrize("kept", [False, True])
async def test_a_refused_video_that_comes_again_is_tried_anew(
    quick: Sandbox, clips: list[Path], tmp_path: Path, kept: bool
) -> None:
    """It is no task that another could share; one that goes on is waited for again."""
    quick.add_fault(Fault("createTask", "answer", code=433, msg="key quota", times=1))
    queue: asyncio.Queue[Path | None] = asyncio.Queue()

    async def videos() -> AsyncIterator[Path]:
        while (clip := await queue.get()) is not None:
            yield clip

    seen = []
    async with client_of(quick, journal=tmp_path / "j.sqlite" if kept else None) as topaz:
        queue.put_nowait(clips[0])
        async for outcome in topaz.upscale_many(videos()):
            seen.append(outcome.status)
            queue.put_nowait(clips[0] if len(seen) < 3 else None)
    assert ["refused", "ok", "ok"] == seen
    assert 1 == len(quick.books.billed)


async def test_no_video_is_taken_before_there_is_room(slow: Sandbox, clips: list[Path]) -> None:
    """A video that comes out of a queue has a place in the batch, and an outcome."""
    pulled = []

    async def videos() -> AsyncIterator[Path]:
        for clip in clips[2:]:
            pulled.append(clip)
            yield clip

    async with client_of(slow) as topaz, topaz.upscale_many(videos(), concurrency=3) as batch:
        await slow.books.until(lambda books: len(books.billed) == 3)
    assert 3 == len(pulled) == len(batch.report.rows)


@pytest.mark.parametrize("earlier", [False, True])
@pytest.mark.parametrize("concurrency", [1, 100])
@pytest.mark.parametrize("way", ["unknown", "failed"])
async def test_a_consent_to_pay_again_buys_one_clip_once(
    quick: Sandbox, tmp_path: Path, way: str, concurrency: int, earlier: bool
) -> None:
    """What the batch itself has lost or seen fail was not what the consent was given for."""
    video = "http://127.0.0.1:9/clip.mp4"  # fails at the service
    if way == "unknown":
        quick.add_fault(Fault("createTask", "lost_reply", times=None))
    async with client_of(quick, journal=tmp_path / "jobs.sqlite") as topaz:
        if earlier:
            await topaz.upscale_many([video])
        before = len(quick.books.tasks)
        consent = {f"resubmit_{way}": True}
        outcomes = await outcomes_of(
            topaz.upscale_many([video] * 4, concurrency=concurrency, **consent)
        )
    assert 1 == len(quick.books.tasks) - before
    assert [way] * 4 == [outcome.status for outcome in outcomes]


async def test_a_consent_that_bought_nothing_still_holds(quick: Sandbox, tmp_path: Path) -> None:
    """The copy of a clip that was refused before it was sent may be bought."""
    video = "http://127.0.0.1:9/clip.mp4"
    quick.add_fault(Fault("createTask", "lost_reply"))
    async with client_of(quick, journal=tmp_path / "jobs.sqlite") as topaz:
        await topaz.upscale_many([video])
        quick.add_fault(Fault("createTask", "answer", code=422, msg="no"))
        batch = topaz.upscale_many([video] * 2, concurrency=1, resubmit_unknown=True)
        outcomes = await outcomes_of(batch)
    assert ["refused", "failed"] == [outcome.status for outcome in outcomes]
    assert 2 == len(quick.books.tasks)
