"""The public types as a user meets them: checked by mypy and pyright, never run."""

from __future__ import annotations

import asyncio
import io
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, assert_type

from topaz_async import (
    ApiError,
    AuthenticationError,
    Batch,
    BatchReport,
    Billed,
    Budget,
    BudgetError,
    CallbackError,
    CallbackEvent,
    CallbackHub,
    CallbackReply,
    ClientClosedError,
    ConfigurationError,
    ConnectError,
    DownloadError,
    EdgeBlockedError,
    Entry,
    FeatureDisabledError,
    FileError,
    GenerationError,
    ImageUpscaleInput,
    InsufficientCreditsError,
    IntegrityError,
    Intent,
    InvalidInputError,
    Job,
    Journal,
    JournalError,
    KeyQuotaError,
    LinkExpiredError,
    MaintenanceError,
    MalformedCallbackError,
    NotFoundError,
    OnProgress,
    OnSubmit,
    OnUpdate,
    Outcome,
    PollPolicy,
    Progress,
    Quotas,
    RateLimitError,
    ReferenceConflictError,
    RequestTimeoutError,
    ResponseError,
    ResultError,
    RetryPolicy,
    ServerError,
    SignatureError,
    SqliteJournal,
    StaleCallbackError,
    SubmitUnknownError,
    TaskFailedError,
    TaskInput,
    TaskNotFoundError,
    TaskRecord,
    TaskState,
    Timeouts,
    TooLargeError,
    TopazClient,
    TopazError,
    TransportError,
    UnsafeUrlError,
    UploadedFile,
    UploadError,
    UpscaleFactor,
    UpscaleInput,
    UpscaleResult,
    ValidationError,
    Video,
    WaitTimeoutError,
)

EVERY_ERROR: list[type[TopazError]] = [
    ApiError,
    AuthenticationError,
    BudgetError,
    CallbackError,
    ClientClosedError,
    ConfigurationError,
    ConnectError,
    DownloadError,
    EdgeBlockedError,
    FeatureDisabledError,
    FileError,
    GenerationError,
    InsufficientCreditsError,
    IntegrityError,
    InvalidInputError,
    JournalError,
    KeyQuotaError,
    LinkExpiredError,
    MaintenanceError,
    MalformedCallbackError,
    NotFoundError,
    RateLimitError,
    ReferenceConflictError,
    RequestTimeoutError,
    ResponseError,
    ResultError,
    ServerError,
    SignatureError,
    StaleCallbackError,
    SubmitUnknownError,
    TaskFailedError,
    TaskNotFoundError,
    TooLargeError,
    TransportError,
    UnsafeUrlError,
    UploadError,
    ValidationError,
    WaitTimeoutError,
]


def told(record: TaskRecord) -> None:
    """Stand for an `on_update`."""


async def told_later(record: TaskRecord) -> None:
    """Stand for an `on_update` that is a coroutine function."""


def seen(progress: Progress) -> None:
    """Stand for an `on_progress`."""
    assert_type(progress.bytes, int)
    assert_type(progress.total, int | None)
    assert_type(progress.rate, float)


async def seen_later(progress: Progress) -> None:
    """Stand for an `on_progress` that is a coroutine function."""


async def noted(job: Job) -> None:
    """Stand for an `on_submit` that is a coroutine function."""


async def the_main_job() -> None:
    """One await, with all that it takes."""
    async with TopazClient() as topaz:
        assert_type(topaz, TopazClient)
        assert_type(await topaz.upscale("clip.mp4"), UpscaleResult)
        result = await topaz.upscale(
            Path("clip.mp4"),
            factor=UpscaleFactor.X4,
            output="out/",
            timeout=None,
            total_timeout=3600,
            callback_url="https://app.example/kie",
            reference="order-17",
            fingerprint="v1",
            seconds=12.5,
            resubmit_unknown=False,
            resubmit_failed=True,
            on_submit=noted,
            on_update=told_later,
            on_progress=seen_later,
            overwrite=True,
        )
        assert_type(result.url, str)
        assert_type(result.urls, tuple[str, ...])
        assert_type(result.path, Path | None)
        assert_type(result.record, TaskRecord)
        assert_type(result.task_id, str)
        assert_type(result.reference, str | None)
        assert_type(result.credits_consumed, float | None)
        assert_type(result.expires_hint, datetime | None)
        results = await asyncio.gather(*(topaz.upscale(name, factor="4") for name in ("a", "b")))
        assert_type(results, list[UpscaleResult])
        ends = await asyncio.gather(topaz.upscale("a"), return_exceptions=True)
        for end in ends:
            match end:
                case UpscaleResult():
                    assert_type(end.path, Path | None)
                case error:
                    assert_type(error, BaseException)


async def wrapped(
    topaz: TopazClient,
    video: Video,
    *,
    on_submit: OnSubmit | None = None,
    on_update: OnUpdate | None = None,
    on_progress: OnProgress | None = None,
) -> UpscaleResult:
    """A wrapper of a caller's own takes what the library takes."""
    return await topaz.upscale(
        video, on_submit=on_submit, on_update=on_update, on_progress=on_progress
    )


async def step_by_step(topaz: TopazClient) -> None:
    """Submit, follow, wait, fetch, download."""
    job = await topaz.submit(UpscaleInput("https://a.example/c.mp4", factor=4), reference="r")
    assert_type(job, Job)
    assert_type(job.task_id, str)
    assert_type(job.reference, str | None)
    assert_type(job.unknown, bool)
    assert_type(await topaz.submit(ImageUpscaleInput("https://a.example/p.png", 2)), Job)
    assert_type(topaz.job("0123"), Job)
    assert_type(topaz.job(job), Job)
    assert_type(await job, UpscaleResult)
    assert_type(job.updates(), AsyncIterator[TaskRecord])
    async for update in job.updates(min_interval=2.0, timeout=None):
        assert_type(update, TaskRecord)
    assert_type(topaz.updates("0123", min_interval=1.0), AsyncGenerator[TaskRecord, None])
    assert_type(await job.fetch(), TaskRecord)
    assert_type(await job.download("out.mp4", on_progress=seen, overwrite=True), Path)
    result = await topaz.wait_for_result(job, timeout=900, on_update=told)
    assert_type(result, UpscaleResult)
    assert_type(await topaz.wait_for_result("0123", timeout=None), UpscaleResult)
    assert_type(await topaz.fetch_task("0123"), TaskRecord)
    for what in (result, job, result.url):
        assert_type(await topaz.download(what, Path("out"), on_progress=seen), Path)
    for source in (result, job):
        assert_type(await topaz.download_all(source, "out", on_progress=seen), tuple[Path, ...])
    assert_type(await topaz.fresh_link(result.url), str)
    assert_type(await topaz.credits(), float)
    await topaz.aclose()


async def chunks() -> AsyncIterator[bytes]:
    """Stand for a stream of a caller's own."""
    yield b""


async def uploads(topaz: TopazClient) -> None:
    """A path, bytes or a stream."""
    for source in (
        "clip.mp4",
        Path("clip.mp4"),
        b"",
        chunks(),
        io.BytesIO(),
    ):
        assert_type(await topaz.upload(source, name="a.mp4", on_progress=seen), UploadedFile)
    with open("clip.mp4", "rb") as opened:
        assert_type(await topaz.upload(opened), UploadedFile)
    file = await topaz.upload("clip.mp4")
    assert_type(file.url, str)
    assert_type(file.name, str | None)
    assert_type(file.size, int | None)
    assert_type(file.mime_type, str | None)
    assert_type(file.uploaded_at, datetime | None)
    assert_type(file.expires_hint, datetime | None)
    assert_type(file.raw, Mapping[str, Any])
    assert_type(await topaz.upload_from_url("https://a.example/c.mp4", name="c.mp4"), UploadedFile)


async def after_a_crash() -> None:
    """The journal and what it holds."""
    journal = SqliteJournal("jobs.sqlite")
    as_protocol: Journal = journal
    topaz = TopazClient(journal=journal, budget=Budget(max_tasks=5, max_credits=100.0))
    async for job in topaz.recover():
        assert_type(job, Job)
    assert_type(await topaz.bind("order-17", "0123"), Job)
    assert_type(topaz.journal, Journal)
    entries = await as_protocol.jobs("unfinished")
    assert_type(entries, list[Entry])
    assert_type(entries[0].intent, Intent)
    assert_type(entries[0].task_id, str | None)
    assert_type(await topaz.journal.forget("order-17"), bool)


async def callbacks() -> None:
    """A hub behind any framework, with a server of its own, and without a client."""
    hub = CallbackHub(
        ["old", "new"], max_body=10_000, timeout=5, window=60, journal=Path("a.sqlite")
    )
    CallbackHub(None, accept_unsigned=True)
    headers: Mapping[str, str] = {}
    assert_type(await hub.handle(headers, b"", query="a=1"), CallbackReply)
    reply = await hub.handle([(b"x-name", b"value")], b"")
    assert_type(reply.status, int)
    assert_type(reply.body, bytes)
    assert_type(reply.content_type, str)
    async with hub.serve("127.0.0.1", 0, path="/kie") as url:
        assert_type(url, str)
    async for event in hub.events():
        assert_type(event, CallbackEvent)
        assert_type(event.task_id, str)
        assert_type(event.state, TaskState | None)
        assert_type(event.received_at, datetime)


async def many(topaz: TopazClient) -> None:
    """A batch is entered and iterated, or awaited for its report."""
    async with topaz.upscale_many(["a.mp4", Path("b.mp4")], output_dir="out") as batch:
        assert_type(batch, Batch)
        async for outcome in batch:
            assert_type(outcome, Outcome)
            assert_type(outcome.path, Path | None)
            assert_type(outcome.error, TopazError | None)
        assert_type(batch.report, BatchReport)
    report = await topaz.upscale_many(chunked_videos(), reference=lambda video: str(video))
    assert_type(report, BatchReport)
    assert_type(report.counts, dict[str, int])
    assert_type(BatchReport.load("report.json"), BatchReport)


async def chunked_videos() -> AsyncIterator[str]:
    yield "https://a.example/c.mp4"


def settings() -> None:
    """Every option of the constructor."""
    TopazClient(
        "key",
        base_url="https://api.example",
        upload_url="https://up.example",
        timeouts=Timeouts(poll=5),
        retry=RetryPolicy(attempts=1),
        polling=PollPolicy(first=1, steps=((30, 2.5), (60, 5))),
        quotas=Quotas(submits=None, max_upload_bytes=50 * 1024 * 1024, reuse_uploads=3600),
        ssl=ssl.create_default_context(),
        proxy="http://proxy.example:3128",
        local_addr=("127.0.0.1", 0),
        journal=Path("jobs.sqlite"),
        budget=Budget(min_balance=10),
        callbacks=CallbackHub("secret"),
        callback_url="https://app.example/kie",
    )
    assert_type(PollPolicy.documented(), PollPolicy)
    assert_type(PollPolicy().steps, tuple[tuple[float, float], ...])
    assert_type(Quotas().polls, int | None)


def records(record: TaskRecord) -> None:
    """What one answer says."""
    assert_type(record.state, TaskState)
    assert_type(record.state == "waiting", bool)
    assert_type(record.state.is_terminal, bool)
    assert_type(record.state.is_success, bool)
    assert_type(record.state.is_fail, bool)
    assert_type(record.state.is_known, bool)
    assert_type(record.model, str | None)
    assert_type(record.result_urls, tuple[str, ...])
    assert_type(record.fail_code, str | None)
    assert_type(record.fail_message, str | None)
    assert_type(record.created_at, datetime | None)
    assert_type(record.completed_at, datetime | None)
    assert_type(record.updated_at, datetime | None)
    assert_type(record.cost_time, float | None)
    assert_type(record.credits_consumed, float | None)
    assert_type(record.progress, float | None)
    assert_type(record.duration, float | None)
    assert_type(record.result, Mapping[str, Any])
    assert_type(record.raw, Mapping[str, Any])


def inputs(task_input: TaskInput) -> None:
    """What a task is made of."""
    assert_type(task_input.model, str)
    assert_type(UpscaleInput("https://a.example/c.mp4", "2").factor, UpscaleFactor)
    assert_type(UpscaleInput("https://a.example/c.mp4").video_url, str)
    assert_type(ImageUpscaleInput("https://a.example/p.png").image_url, str)
    assert_type(UpscaleFactor.parse(4), UpscaleFactor)


async def failures(topaz: TopazClient) -> None:
    """Each error is caught by its class and carries plain values."""
    try:
        await topaz.upscale("clip.mp4")
    except TimeoutError as timeout:
        assert_type(timeout, TimeoutError)
    except SubmitUnknownError as unknown:
        assert_type(unknown.words, str | None)
        assert_type(unknown.fingerprint, str | None)
        assert_type(unknown.sent_at, datetime | None)
    except TaskFailedError as failed:
        assert_type(failed.fail_code, str | None)
        assert_type(failed.fail_message, str | None)
    except RateLimitError as busy:
        assert_type(busy.retry_after, float | None)
    except TopazError as error:
        assert_type(error.message, str)
        assert_type(error.code, int | None)
        assert_type(error.task_id, str | None)
        assert_type(error.reference, str | None)
        assert_type(error.retryable, bool)
        assert_type(error.billed, Billed)
        assert_type(error.hint, str | None)
        assert_type(error.about(billed="yes"), TopazError)
    late = WaitTimeoutError("late", task_id="0123", billed="yes")
    assert_type(late.about(reference="r"), WaitTimeoutError)
    as_builtin: TimeoutError = late
    assert_type(str(as_builtin), str)


def wrong_uses(topaz: TopazClient) -> None:
    """What a type checker must complain about."""
    topaz.submit("clip.mp4", 4)  # type: ignore[call-arg, unused-coroutine]  # pyright: ignore
    topaz.submit(42)  # type: ignore[arg-type, unused-coroutine]  # pyright: ignore
    TopazError("x", billed="maybe")  # type: ignore[arg-type]  # pyright: ignore
