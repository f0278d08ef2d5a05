"""The main job against the sandbox: a local clip in, an upscaled clip on disk."""

from __future__ import annotations

import asyncio
import pickle
import time
from pathlib import Path

import pytest

from topaz_async import (
    ClientClosedError,
    ConfigurationError,
    ConnectError,
    ImageUpscaleInput,
    InvalidInputError,
    Job,
    Progress,
    Quotas,
    TaskFailedError,
    TaskNotFoundError,
    TopazClient,
    UpscaleInput,
    WaitTimeoutError,
)
from topaz_async.sandbox import Fault, Sandbox
from topaz_async.sandbox.media import probe

from .conftest import FAST_QUOTAS, client_of, settled
from .virtual_time import run_on_a_loop


@pytest.mark.parametrize("factor", [1, "2", 4])
async def test_a_local_clip_is_upscaled_to_disk(
    topaz: TopazClient, sandbox: Sandbox, clip: Path, tmp_path: Path, factor: int | str
) -> None:
    """One await uploads, submits, waits and downloads; picture grows, frames and sound stay."""
    result = await topaz.upscale(clip, factor=factor, output=tmp_path / "out.mp4")
    before, after = probe(clip), probe(tmp_path / "out.mp4")
    times = int(factor)
    assert (before.width * times, before.height * times) == (after.width, after.height)
    assert (before.frames, before.rate, True) == (after.frames, after.rate, after.has_audio)
    assert tmp_path / "out.mp4" == result.path
    assert [result.task_id] == list(sandbox.books.billed)
    assert [Path("out.mp4")] == [p.relative_to(tmp_path) for p in tmp_path.iterdir()]


async def test_progress_is_told_in_both_directions(
    topaz: TopazClient, clip: Path, tmp_path: Path
) -> None:
    """Uploads and downloads end at their total; states end at success."""
    told: list[Progress] = []
    states: list[str] = []
    result = await topaz.upscale(
        clip,
        output=tmp_path,
        on_progress=told.append,
        on_update=lambda record: states.append(record.state),
    )
    assert result.path == tmp_path / "clip-2x.mp4"
    up, down = clip.stat().st_size, result.path.stat().st_size
    assert {(up, up), (down, down)} <= {(progress.bytes, progress.total) for progress in told}
    assert states[-1] == "success"


async def test_the_task_id_is_told_as_soon_as_it_is_known(
    topaz: TopazClient, sandbox: Sandbox, clip: Path
) -> None:
    """on_submit hears of the job before the wait begins; what it raises ends nothing."""
    told: list[Job] = []

    def note(job: Job) -> None:
        told.append(job)
        assert 0 == sandbox.books.count("recordInfo")
        raise OSError("no disk to write it to")

    result = await topaz.upscale(clip, on_submit=note)
    assert [result.task_id] == [job.task_id for job in told]


async def test_an_on_submit_may_be_a_coroutine_function(
    topaz: TopazClient, sandbox: Sandbox, clip: Path
) -> None:
    """It is awaited before the wait begins, but no longer than the wait may take."""
    told: list[str] = []

    async def note(job: Job) -> None:
        await asyncio.sleep(0.05)
        told.append(job.task_id)
        assert 0 == sandbox.books.count("recordInfo")

    result = await topaz.upscale(clip, on_submit=note)
    assert [result.task_id] == told

    async def hangs(job: Job) -> None:
        told.append(job.task_id)
        await asyncio.sleep(60)

    sandbox.add_fault(Fault("recordInfo", "hang", times=None))
    began = time.monotonic()
    with pytest.raises(WaitTimeoutError) as caught:
        await topaz.upscale(clip, factor=1, on_submit=hangs, timeout=0.2)
    assert told[-1] == caught.value.task_id
    assert time.monotonic() - began < 5.0


async def test_a_key_of_a_few_letters_is_part_of_anything(clip: Path) -> None:
    """A test server's key "k" is not taken out of the links that hold the letter."""
    async with (
        Sandbox(api_key="k", poll_quota=None) as sandbox,
        client_of(sandbox) as topaz,
    ):
        assert (await topaz.upscale(clip)).task_id in sandbox.books.billed


async def test_a_close_that_is_cut_short_leaves_nothing_open(clip: Path) -> None:
    """aclose() cancelled in its grace still closes every connection, without a warning."""
    async with Sandbox(poll_quota=None) as sandbox:
        sandbox.add_fault(Fault("createTask", "hang"))
        topaz = client_of(sandbox)
        submit = asyncio.create_task(topaz.submit(clip))
        await sandbox.books.until(lambda books: books.count("createTask") == 1)
        closing = asyncio.create_task(topaz.aclose())
        await settled()
        assert topaz._chapters._closing is not None
        topaz._chapters._closing.cancel()  # as the end of the loop would
        with pytest.raises(asyncio.CancelledError):
            await closing
        with pytest.raises(ClientClosedError) as caught:
            await submit
        assert "unknown" == caught.value.billed


async def test_two_hundred_submits_at_once_meet_no_429(tiny_clip: Path) -> None:
    """gather over 200 submits keeps the service's quota, also when requests arrive unevenly."""
    async with (
        Sandbox(
            submit_quota=20,
            submit_window=0.5,
            arrival_jitter=0.05,
            poll_quota=None,
            credits=1e6,
            workers=2,
        ) as sandbox,
        client_of(sandbox, quotas=FAST_QUOTAS) as topaz,
    ):
        uploaded = await topaz.upload(tiny_clip)
        results = await asyncio.gather(
            *(topaz.upscale(uploaded.url, factor=1, timeout=50) for _ in range(200))
        )
        assert len({result.task_id for result in results}) == 200
        assert len(sandbox.books.billed) == 200
        assert {k: n for k, n in sandbox.books.refused_429.items() if n} == {}
        assert sandbox.books.busiest_window("createTask", 0.5) <= 20


async def test_a_wait_of_one_second_ends_in_time_and_can_be_resumed(clip: Path) -> None:
    """WaitTimeoutError comes within 1.1 s with the task id; waiting again gets the result."""
    async with (
        Sandbox(run_seconds=1.6, poll_quota=None) as sandbox,
        client_of(sandbox) as topaz,
    ):
        job = await topaz.submit(clip)
        began = time.monotonic()
        with pytest.raises(TimeoutError) as caught:
            await topaz.wait_for_result(job, timeout=1)
        assert time.monotonic() - began < 1.1
        assert isinstance(caught.value, WaitTimeoutError)
        assert (job.task_id, "yes") == (caught.value.task_id, caught.value.billed)
        result = await topaz.wait_for_result(job.task_id, timeout=30)
        assert job.task_id == result.task_id
        assert len(sandbox.books.billed) == 1


async def test_a_job_is_awaited_followed_fetched_and_downloaded(
    topaz: TopazClient, clip: Path, tmp_path: Path
) -> None:
    """The handle does all that its task allows, and so does a handle made from a bare id."""
    job = await topaz.submit(clip)
    states = [update.state async for update in job.updates(min_interval=0.01)]
    result = await job
    again = await topaz.job(job.task_id).fetch()
    path = await job.download(tmp_path / "new" / "out.mp4")
    assert states[-1] == "success"
    assert (result.urls, "success") == (again.result_urls, again.state)
    assert probe(path).width == 320


async def test_a_job_pickles_without_its_client(topaz: TopazClient, clip: Path) -> None:
    """A pickled job is plain data; it must be bound before it is awaited."""
    job = await topaz.submit(clip)
    loose: Job = pickle.loads(pickle.dumps(job))
    assert (job, f"Job(task_id={job.task_id!r}, reference=None)") == (loose, repr(loose))
    with pytest.raises(ConfigurationError):
        await loose
    assert job.task_id == (await topaz.job(loose)).task_id


async def test_what_is_no_video_fails_at_the_service_with_its_words(
    topaz: TopazClient, sandbox: Sandbox, tmp_path: Path
) -> None:
    """A broken clip passes the local check, ends in fail and raises TaskFailedError."""
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"\0\0\0\x18ftypisom" + b"\0" * 5000)
    job = await topaz.submit(broken)
    with pytest.raises(TaskFailedError) as caught:
        await job
    assert caught.value.fail_message
    assert (job.task_id, "fail") == (caught.value.task_id, caught.value.record.state)
    assert [update.state async for update in job.updates()][-1] == "fail"


async def test_an_image_goes_through_the_same_submit(
    topaz: TopazClient, tmp_path: Path, clip: Path
) -> None:
    """topaz/image-upscale is one more input class."""
    picture = _picture(clip, tmp_path / "still.png")
    uploaded = await topaz.upload(picture)
    result = await (await topaz.submit(ImageUpscaleInput(uploaded.url, factor=4)))
    path = await topaz.download(result, tmp_path / "big.png")
    assert probe(path).width == 640


def _picture(clip: Path, path: Path) -> Path:
    import av

    with av.open(str(clip)) as container:
        frame = next(container.decode(video=0))
    with av.open(str(path), "w", format="image2") as target:
        stream = target.add_stream("png", rate=1)
        stream.width, stream.height, stream.pix_fmt = frame.width, frame.height, "rgb24"
        for packet in (*stream.encode(frame.reformat(format="rgb24")), *stream.encode(None)):
            target.mux(packet)
    return path


async def test_bytes_and_streams_are_uploaded_too(
    topaz: TopazClient, clip: Path, tmp_path: Path
) -> None:
    """What an upload returns is what submit takes."""
    content = clip.read_bytes()

    async def stream():  # type: ignore[no-untyped-def]
        yield content[:1000]
        yield content[1000:]

    for source in (content, stream()):
        uploaded = await topaz.upload(source)
        assert len(content) == uploaded.size
        result = await topaz.upscale(uploaded.url, factor=1, output=tmp_path, overwrite=True)
        assert probe(result.path).width == 160


async def test_the_balance_falls_by_what_a_task_costs(topaz: TopazClient, clip: Path) -> None:
    """credits() tells the balance; the result tells the cost."""
    before = await topaz.credits()
    result = await topaz.upscale(clip, factor=4)
    assert result.credits_consumed is not None
    assert before - result.credits_consumed == pytest.approx(await topaz.credits())


async def test_an_unknown_id_is_not_found(topaz: TopazClient) -> None:
    """A well-formed id that nobody made is TaskNotFoundError, asked or waited for."""
    for ask in (topaz.fetch_task, topaz.wait_for_result):
        with pytest.raises(TaskNotFoundError):
            await ask("0" * 32)


@pytest.mark.parametrize(
    ("video", "factor", "words"),
    [
        ("https://a.b/c.mp4", 3, "knows 1, 2 and 4"),
        ("https://a.b/c.mp4", True, "knows 1, 2 and 4"),
        ("https://a.b/c.mp4", "4x", "knows 1, 2 and 4"),
        ("http://a.b/c.mp4", 2, "https"),
        ("file:///etc/passwd", 2, "https"),
        ("https://user:word@a.b/c.mp4", 2, "user name or password"),
        ("", 2, "empty"),
        ("missing.mp4", 2, "does not exist"),
        (".", 2, "folder"),
        (42, 2, "int"),
    ],
)
async def test_bad_input_is_refused_before_any_network(
    topaz: TopazClient, sandbox: Sandbox, video: object, factor: object, words: str
) -> None:
    """InvalidInputError says what is wrong, and the service has seen nothing."""
    with pytest.raises(InvalidInputError, match=words) as caught:
        await topaz.submit(video, factor=factor)  # type: ignore[arg-type]
    assert caught.value.billed == "no"
    assert list(sandbox.books.requests) == []


async def test_files_that_are_unfit_are_refused_with_the_figure_and_the_limit(
    topaz: TopazClient, sandbox: Sandbox, tmp_path: Path
) -> None:
    """Empty, wrong kind and too large: each says so before a byte is sent."""
    empty, text, large = (tmp_path / name for name in ("empty.mp4", "text.mp4", "large.mp4"))
    empty.touch()
    text.write_text("no video at all")
    with large.open("wb") as file:
        file.write(b"\0\0\0\x18ftypisom")
        file.truncate(11 * 1024 * 1024)
    for path, words in ((empty, "empty"), (text, "no video"), (large, r"11\.0 MB.*10\.0 MB")):
        with pytest.raises(InvalidInputError, match=words):
            await topaz.upscale(path)
    assert list(sandbox.books.requests) == []


async def test_an_output_that_cannot_be_written_costs_nothing(
    topaz: TopazClient, sandbox: Sandbox, clip: Path, tmp_path: Path
) -> None:
    """An existing file, or a file in place of a folder, is found before the submit."""
    taken = tmp_path / "taken.mp4"
    taken.write_bytes(b"mine")
    for output in (taken, taken / "out.mp4"):
        with pytest.raises(InvalidInputError):
            await topaz.upscale(clip, output=output)
    assert taken.read_bytes() == b"mine"
    assert list(sandbox.books.requests) == []


async def test_an_input_holds_its_own_factor(topaz: TopazClient, sandbox: Sandbox) -> None:
    """UpscaleInput's factor is the one that counts; two that differ are refused."""
    given = UpscaleInput("https://a.b/c.mp4", factor=4)
    with pytest.raises(InvalidInputError, match="which one"):
        await topaz.submit(given, factor=1)
    assert sandbox.books.count("createTask") == 0


@pytest.mark.parametrize(
    ("key", "words"),
    [
        (None, "KIE_API_KEY"),
        ("", "empty"),
        (5, "api_key is a text, not int"),
        ("abc\r\nX-Evil: 1", "line breaks"),
        ("abc ", "spaces"),
        ("schlüssel", "letters"),
    ],
)
def test_a_key_that_cannot_be_sent_is_refused(key: object, words: str) -> None:
    """ConfigurationError comes from the constructor and does not quote the key."""
    with pytest.raises(ConfigurationError, match=words) as caught:
        TopazClient(key)  # type: ignore[arg-type]
    assert "Evil" not in str(caught.value)


def test_the_key_is_read_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """KIE_API_KEY is enough, and neither repr nor str shows it."""
    monkeypatch.setenv("KIE_API_KEY", "sk-secret")
    assert "sk-secret" not in repr(TopazClient())


def test_a_client_can_be_made_before_any_loop_runs() -> None:
    """Constructed at module level, used and closed on a loop that began later."""
    client = TopazClient("key", base_url="http://127.0.0.1:9", upload_url="http://127.0.0.1:9")

    async def use() -> None:
        async with client:
            with pytest.raises(ConnectError):
                await client.credits()

    run_on_a_loop(use())


async def test_a_client_belongs_to_the_loop_of_its_first_call(topaz: TopazClient) -> None:
    """On another loop it says what is wrong instead of hanging."""
    await topaz.credits()
    with pytest.raises(ConfigurationError, match="another event loop"):
        await asyncio.to_thread(asyncio.run, topaz.credits())


async def test_total_timeout_before_the_submit_costs_nothing(tiny_clip: Path) -> None:
    """A queue for the quota that outlasts total_timeout ends with billed "no"."""
    async with (
        Sandbox(submit_window=5.0, submit_quota=1, poll_quota=None) as sandbox,
        client_of(sandbox, quotas=Quotas(submits=1, submit_window=5.0)) as topaz,
    ):
        uploaded = await topaz.upload(tiny_clip)
        await topaz.upscale(uploaded.url)
        with pytest.raises(WaitTimeoutError) as caught:
            await topaz.upscale(uploaded.url, total_timeout=0.2)
        assert (caught.value.billed, caught.value.task_id) == ("no", None)
        assert len(sandbox.books.billed) == 1
