"""`TopazClient`: each public call is a short story told in the modules below."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from .access import local_address, origin_url, usable_key
from .durations import check_pause, check_timeout
from .errors import ConfigurationError, InvalidInputError
from .texts import quoted
from .urls import check_url

if TYPE_CHECKING:  # all of these load when a client is constructed
    import ssl as ssl_module
    from collections.abc import AsyncGenerator, AsyncIterable, Callable, Iterable
    from pathlib import Path
    from types import TracebackType
    from typing import Any, Self

    from .batch import Batch
    from .callbacks import CallbackHub
    from .chapters import OnSubmit
    from .job import Job
    from .models import TaskRecord, UploadedFile, UpscaleFactor, UpscaleResult
    from .orders import Video
    from .ports import Journal
    from .settings import Budget, PollPolicy, Quotas, RetryPolicy, Timeouts
    from .transfers import OnProgress
    from .uploader import Source
    from .watching import OnUpdate

    StrPath = str | os.PathLike[str]

__all__ = ["BASE_URL", "UPLOAD_URL", "TopazClient"]

#: Source: docs.kie.ai, read 2026-11-22.
BASE_URL = "https://api.kie.ai"
#: Another host than the API's: the upload routes do not exist there.
#: Source: docs.kie.ai/file-upload-api and recorded answers, read 2026-11-22.
UPLOAD_URL = "https://kieai.redpandaai.co"


class TopazClient:
    """A client of the service: submits, waits, uploads and downloads on one event loop.

    It may be constructed anywhere, before any loop runs; it belongs to the loop of its first
    call. Use it as `async with TopazClient() as topaz`, or call `aclose()`.

    Args:
        api_key: The bearer key; None reads the environment variable KIE_API_KEY.
        base_url: Origin of the jobs API; no variable is read for it.
        upload_url: Origin of the upload host; None means the service's own, when `base_url`
            is the service's own. No variable is read for it.
        timeouts: Bounds of single exchanges.
        retry: Attempts and pauses.
        polling: When waiting tasks are asked for.
        quotas: What the service allows the account.
        ssl: True, or a context of your own; certificates are always checked.
        proxy: `http://host:port` for https targets; None reads HTTPS_PROXY, ALL_PROXY and
            NO_PROXY. HTTP_PROXY is never used: it would see the key.
        local_addr: Local (host, port) to connect from; port 0 takes a free one.
        journal: Where submits and task ids are written down before and after each POST: a path
            on a local disk (opened and closed by the client), or a `SqliteJournal` of your own.
            None keeps nothing: then ids travel in jobs, results and errors only.
        budget: What may be spent; None sets no bound.
        callbacks: What receives the service's callbacks: each makes the client ask at once.  Once
            they have been seen to arrive, it asks by itself every `PollPolicy.reconcile` seconds
            only, until one fails to come.
        callback_url: The https URL at which the service reaches `callbacks`, sent with each
            submit; `submit(callback_url=...)` sends another.
        allow_private_hosts: Whether results may be fetched from private and loopback addresses;
            None allows it only while `base_url` itself is loopback. Link-local and other
            special addresses are refused always.

    Raises:
        ConfigurationError: No key, a key that cannot be sent, or an option out of range.
    """

    def __init__(
        self,
        api_key: str | None = None,
        *,
        base_url: str = BASE_URL,
        upload_url: str | None = None,
        timeouts: Timeouts | None = None,
        retry: RetryPolicy | None = None,
        polling: PollPolicy | None = None,
        quotas: Quotas | None = None,
        ssl: ssl_module.SSLContext | bool = True,
        proxy: str | None = None,
        local_addr: tuple[str, int] | None = None,
        journal: Journal | StrPath | None = None,
        budget: Budget | None = None,
        callbacks: CallbackHub | None = None,
        callback_url: str | None = None,
        allow_private_hosts: bool | None = None,
    ) -> None:
        from .batch import Batch  # aiohttp and cattrs load here, not with the package
        from .chapters import Chapters

        base_url = origin_url(base_url, "base_url")
        if upload_url is None and base_url == BASE_URL:
            upload_url = UPLOAD_URL
        if ssl is False:
            raise ConfigurationError(
                "ssl=False would send the key to anybody.",
                hint="Pass an ssl.SSLContext that knows your certificate.",
            )
        if callback_url is not None:
            check_url(callback_url, "callback_url", ConfigurationError)
        if callbacks is not None and not hasattr(callbacks, "attach"):
            raise ConfigurationError(f"{quoted(callbacks, 40)} is no CallbackHub.")
        if not isinstance(allow_private_hosts, (bool, type(None))):
            raise ConfigurationError("allow_private_hosts is True, False or None.")
        self._base_url = base_url
        self._chapters = Chapters(
            self,
            api_key=usable_key(api_key),
            base_url=base_url,
            upload_url=None if upload_url is None else origin_url(upload_url, "upload_url"),
            timeouts=timeouts,
            retry=retry,
            polling=polling,
            quotas=quotas,
            ssl=ssl,
            proxy=proxy,
            local_addr=local_address(local_addr),
            journal=journal,
            budget=budget,
            callbacks=callbacks,
            callback_url=callback_url,
            allow_private_hosts=allow_private_hosts,
        )
        self._enter = self._chapters.calls.enter
        self._batch = Batch

    def __repr__(self) -> str:
        closed = ", closed" if self._chapters.calls.closed else ""
        return f"TopazClient(base_url={self._base_url!r}{closed})"

    async def __aenter__(self) -> Self:
        self._chapters.calls.check_open()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """End every wait with `ClientClosedError` and close the connections; twice is fine.

        A createTask that is under way may end within `Timeouts.close` seconds, so that its task
        id is not lost. Tasks at the service go on.
        """
        await self._chapters.aclose()

    # -- tasks ------------------------------------------------------------------------------

    async def submit(
        self,
        video: Video,
        *,
        factor: UpscaleFactor | int | str = 2,
        callback_url: str | None = None,
        reference: str | None = None,
        fingerprint: str | None = None,
        seconds: float | None = None,
        resubmit_unknown: bool = False,
        resubmit_failed: bool = False,
        on_progress: OnProgress | None = None,
    ) -> Job:
        """Upload the video if it is a local file, and make a task: this costs money.

        One createTask leaves; it is repeated only when it is certain that nothing was bought
        (never connected, code 429 or 455). Cancelling the call before its exchange with the
        service has begun buys nothing; cancelling it later does not take the task back, and its
        id still reaches the journal and the log.

        Args:
            video: An https URL, a path to an mp4, mov or mkv file, or an input such as
                `UpscaleInput` or `ImageUpscaleInput` (which holds its own factor).
            factor: 1, 2 or 4; 1 enhances at the original size.
            callback_url: Where the service shall send a POST when the task ends; an opaque
                word is added to its query, which proves later that a callback is about this
                submit.  None takes the client's own, if it has one.
            reference: Your own name for this piece of work, 1 to 500 characters. The same
                reference with the same video, model and factor is one task, however many
                callers, processes or restarts; without a journal it holds for this client only.
            fingerprint: What tells this work from other work of the same reference; None makes
                one of the model, the options and the file's bytes (or the URL without query).
            seconds: The clip's length, for the budget's estimate; None reads it from a local
                file.
            resubmit_unknown: Your consent to submit although an earlier submit of this
                reference may have made a task; it holds for what is unknown as the call begins.
            resubmit_failed: Submit again when the reference's task has failed at the service, as
                far as is known when the call begins.
            on_progress: Called with the `Progress` of the upload, at most 20 times a second;
                a function or a coroutine function. What it raises is logged once.

        Returns:
            The handle on the task; await it for the result. For a known reference, the handle
            on the task that it made.

        Raises:
            InvalidInputError: The input is not fit; nothing was sent.
            BudgetError: The budget does not cover it; nothing was sent.
            JournalError: The journal cannot be written; nothing was sent.
            ReferenceConflictError: The reference stands for other work; nothing was sent.
            ApiError: The service refused; `billed == "no"`.
            SubmitUnknownError: The task may exist and be billed.

        Source:
            docs.kie.ai/market/topaz/video-upscale, read 2026-11-22.
        """
        with self._enter(reference=reference) as call:
            call.asks_for(reference, may_pay_again=resubmit_unknown or resubmit_failed)
            order = await self._chapters.order(
                video,
                factor=factor,
                callback_url=callback_url,
                reference=reference,
                fingerprint=fingerprint,
                seconds=seconds,
                resubmit_unknown=resubmit_unknown,
                resubmit_failed=resubmit_failed,
            )
            return await self._chapters.submit(call, order, on_progress)

    async def wait_for_result(
        self,
        task: str | Job,
        *,
        timeout: float | None = 900.0,
        on_update: OnUpdate | None = None,
    ) -> UpscaleResult:
        """Wait until the task has ended and return what it made.

        All waits of a client share one schedule and the account's quota. Cancelling the wait
        does not cancel the task; it may be waited for again.

        Args:
            task: A task id or a `Job`.
            timeout: Seconds from now to the deadline, above 0; None waits without one. The
                service's recorded video tasks took 56 to 785 s, hence the 15 minutes.
            on_update: Called with each changed `TaskRecord`; a function or a coroutine
                function. It runs beside the wait, and what it raises is logged.

        Returns:
            The result, with at least one URL.

        Raises:
            TaskFailedError: The task ended in fail; carries the service's code and words.
            WaitTimeoutError: The deadline passed; carries `task_id` and the last record.
            TaskNotFoundError: The service does not know the id.
            ResultError: The task succeeded without a usable URL.
            ClientClosedError: The client was closed meanwhile.

        Source:
            docs.kie.ai/market/common/get-task-detail, read 2026-11-22.
        """
        job = self.job(task)
        seconds = check_timeout(timeout)
        with self._chapters.about(job):
            return await self._chapters.wait(job, seconds, on_update)

    async def upscale(
        self,
        video: Video,
        *,
        factor: UpscaleFactor | int | str = 2,
        output: StrPath | None = None,
        timeout: float | None = 900.0,
        total_timeout: float | None = None,
        callback_url: str | None = None,
        reference: str | None = None,
        fingerprint: str | None = None,
        seconds: float | None = None,
        resubmit_unknown: bool = False,
        resubmit_failed: bool = False,
        on_submit: OnSubmit | None = None,
        on_update: OnUpdate | None = None,
        on_progress: OnProgress | None = None,
        overwrite: bool = False,
    ) -> UpscaleResult:
        """Do the whole job: upload, submit, wait, and download if `output` is given.

        Args:
            video: As for `submit`.
            factor: As for `submit`.
            output: A file to write, or a folder to write into; None downloads nothing.
            timeout: Seconds from createTask's answer to the deadline of the wait, so that a
                long queue for the account's quota fails nobody; None waits without one.
            total_timeout: Seconds for everything; None sets no bound of its own.
            callback_url: As for `submit`.
            reference: As for `submit`; with a journal the whole call may be repeated after a
                crash, and what was paid for is only waited for and downloaded, or returned when
                its file lies in the folder `output` already.
            fingerprint, seconds, resubmit_unknown, resubmit_failed: As for `submit`.
            on_submit: Called with the `Job` as soon as its task id is known: the place to
                write the id down when there is no journal. A function or a coroutine function:
                the wait and its `timeout` begin when it has returned, after `timeout` seconds
                at the latest. What it raises is logged.
            on_update: As for `wait_for_result`.
            on_progress: Called with the `Progress` of the upload, then of the download; a
                function or a coroutine function.
            overwrite: Whether a file at `output` may be replaced; it stays if anything fails.

        Returns:
            The result; its `path` is the file if `output` was given.

        Raises:
            TopazError: As `upload`, `submit`, `wait_for_result` and `download` do; from
                createTask's answer on, every error carries the task id.
        """
        wait = check_timeout(timeout)
        total = check_timeout(total_timeout, "total_timeout")
        with self._enter(reference=reference) as call:
            call.asks_for(reference, may_pay_again=resubmit_unknown or resubmit_failed)
            story = self._chapters
            async with story.all_within(total, call):
                # A place that cannot be written must cost nothing.
                target = None
                if output is not None:
                    target = await story.files.target(output, InvalidInputError, overwrite)
                order = await story.order(
                    video,
                    factor=factor,
                    callback_url=callback_url,
                    reference=reference,
                    fingerprint=fingerprint,
                    seconds=seconds,
                    resubmit_unknown=resubmit_unknown,
                    resubmit_failed=resubmit_failed,
                )
                if target is not None:
                    order.deliver_to(target.folder, target.name)
                done = await story.finished(order, target)
                if done is not None:
                    return done
                job = await story.submit(call, order, on_progress)
                await story.tell(on_submit, job, wait)
                result = await story.wait(job, wait, on_update)
                if target is None:
                    return result
                name = f"{order.title}-{order.factor}x"
                return await story.files.bring(result, target, name, on_progress, overwrite)

    def upscale_many(
        self,
        videos: Iterable[Video] | AsyncIterable[Video],
        *,
        factor: UpscaleFactor | int | str = 2,
        output_dir: StrPath | None = None,
        reference: Callable[[Any], str | None] | None = None,
        concurrency: int = 100,
        timeout: float | None = 900.0,
        overwrite: bool = False,
        callback_url: str | None = None,
        on_update: Callable[[Any, TaskRecord], Any] | None = None,
        resubmit_unknown: bool = False,
        resubmit_failed: bool = False,
    ) -> Batch:
        """Upscale many videos; one failure never cancels a sibling.

        `async with` the batch and `async for` over it for `Outcome`s in order of completion, or
        `await` it for its `BatchReport`.  Identical inputs are submitted once.  With a journal,
        the same call over the same folder does only what is missing.  When the credits run out
        (code 402), nothing more is submitted.  Leaving early submits nothing more; submits
        under way end and are written down, and submitted tasks go on at the service.

        Args:
            videos: An iterable or async iterable of any length; taken one by one, as there is
                room.
            factor: As for `submit`.
            output_dir: A folder for the results; None downloads nothing.
            reference: Returns your own name for a video; None names it by its content, if the
                client keeps a journal.
            concurrency: Videos under way at once, 1 or more; the service typically allows 100
                running tasks.
            timeout: Seconds from each createTask's answer to the deadline of its wait.
            overwrite: Whether files in the folder may be replaced; otherwise names are made
                unique.
            callback_url, resubmit_unknown, resubmit_failed: As for `submit`.
            on_update: Called with (video, record) for each changed record.

        Raises:
            InvalidInputError: An option is out of range, or the folder cannot be written; from
                the first step of the iteration. What the iterable raises comes after the
                outcomes of what it gave before.
        """
        return self._batch(
            self._chapters,
            videos,
            factor=factor,
            output_dir=output_dir,
            reference=reference,
            concurrency=concurrency,
            timeout=check_timeout(timeout),
            overwrite=overwrite,
            on_update=on_update,
            submit={
                "callback_url": callback_url,
                "seconds": None,
                "fingerprint": None,
                "resubmit_unknown": resubmit_unknown,
                "resubmit_failed": resubmit_failed,
            },
        )

    async def fetch_task(self, task_id: str | Job) -> TaskRecord:
        """Ask the service once about a task.

        Raises:
            TaskNotFoundError: The service does not know the id.
            TopazError: The question could not be asked or answered.
        """
        job = self.job(task_id)
        with self._chapters.about(job):
            return await self._chapters.fetch(job)

    def job(self, task: str | Job) -> Job:
        """Return a handle on a task, bound to this client; asks nobody."""
        return self._chapters.job(task)

    def updates(
        self, task: str | Job, *, min_interval: float = 0.0, timeout: float | None = 900.0
    ) -> AsyncGenerator[TaskRecord, None]:
        """Iterate over each changed record of a task; see `Job.updates`."""
        return self._chapters.follow(
            self.job(task),
            timeout=check_timeout(timeout),
            min_interval=check_pause(min_interval, "min_interval"),
        )

    async def recover(self) -> AsyncGenerator[Job, None]:
        """Iterate over the journal's unfinished jobs: after a crash, a restart, a power cut.

        Nothing is submitted. A job whose task is known is ready to be awaited; a job with
        `unknown == True` has no task id, for nobody knows whether it made one: awaiting it
        raises `SubmitUnknownError`, which says how to go on.

        Raises:
            ConfigurationError: The client keeps no journal.
            JournalError: It cannot be read.
        """
        with self._enter():
            jobs = await self._chapters.unfinished()
        for job in jobs:
            yield job

    async def bind(self, reference: str, task_id: str) -> Job:
        """Say which task an unknown submit made, for instance found in the account's log.

        Args:
            reference: The unknown submit's.
            task_id: The task's; recordInfo must agree with the submit on model and input.

        Raises:
            ReferenceConflictError: The task is another piece of work.
            JournalError: No submit of that reference is known.
            ConfigurationError: The client keeps no journal.
        """
        job = self.job(task_id)
        with self._enter(job.task_id, reference):
            return await self._chapters.bind(reference, job)

    @property
    def journal(self) -> Journal:
        """The client's journal, for `await journal.jobs("unfinished")` or `journal.forget(...)`.

        Raises:
            ConfigurationError: The client keeps none.
        """
        return self._chapters.journal

    async def credits(self) -> float:
        """Return the account's balance in credits, with fractions (one is about 0.005 USD).

        Source:
            docs.kie.ai/common-api/get-account-credits, read 2026-11-22.
        """
        with self._enter():
            return await self._chapters.credits()

    # -- files ------------------------------------------------------------------------------

    async def upload(
        self,
        source: Source,
        *,
        name: str | None = None,
        on_progress: OnProgress | None = None,
    ) -> UploadedFile:
        """Send a file to the service's upload host, which is free.

        It is streamed in constant memory, and sent again from its start when the connection
        breaks. What can be read only once (an async iterable, a pipe) is sent once.

        A path whose bytes were uploaded within `Quotas.reuse_uploads` seconds, by this client or
        another with the same journal, is not sent again: it is answered from memory.

        Args:
            source: A path, bytes, a file opened for bytes (from where it stands), or an async
                iterable of bytes.
            name: The name at the host, made harmless: what no system minds in a name stays. It
                never overwrites another upload, and is always sent. None makes a name.
            on_progress: Called with the `Progress`, at most 20 times a second, the last time
                with the whole; a function or a coroutine function. What it raises is logged
                once.

        Raises:
            InvalidInputError: No video or image, empty, or too large; nothing was sent.
            UploadError: The file changed while it was sent, could not be read to its end, or
                can be sent only once and was not taken; or the host gave no link.
            TopazError: The host refused, or could not be reached.

        Source:
            docs.kie.ai/file-upload-api, read 2026-11-22.
        """
        with self._enter():
            return await self._chapters.uploader.upload(source, name, on_progress)

    async def upload_from_url(self, url: str, *, name: str | None = None) -> UploadedFile:
        """Let the service's upload host fetch a file itself, which is free.

        Args:
            url: An https URL that anybody can read, of at most 100 MB; the host gives itself 30
                seconds to fetch it.
            name: As for `upload`.

        Raises:
            InvalidInputError: No https URL; nothing was sent.
            UploadError: The host gave no link.
            TopazError: The host refused, could not fetch the file, or could not be reached.

        Source:
            docs.kie.ai/file-upload-api, read 2026-11-22.
        """
        with self._enter():
            return await self._chapters.uploader.from_url(url, name)

    async def download(
        self,
        what: UpscaleResult | Job | str,
        path: StrPath,
        *,
        on_progress: OnProgress | None = None,
        overwrite: bool = False,
    ) -> Path:
        """Bring a result to this disk, whole or not at all.

        A download that was cut goes on where it was, also in a later process, as long as the
        host can prove that the file is still the same. A dead link is renewed.

        Args:
            what: A result (its first file), a job (its result is waited for), or a result's URL.
            path: The file to write; for a folder, a name is made from the URL.
            on_progress: As for `upload`.
            overwrite: Whether a file there may be replaced; it stays if anything fails.

        Returns:
            Where the file is.

        Raises:
            LinkExpiredError: The link is dead, and so is every other that the service gives.
            UnsafeUrlError: The link leads to no https URL, or to a private address.
            IntegrityError: What came is cut, or no video.
            FileError: It could not be brought or written. Nothing of it is left on the disk; of
                a cut download that can be gone on with, a hidden `.part` file is.
        """
        with self._chapters.about(what) as call:
            return await self._chapters.download(call, what, path, on_progress, overwrite)

    async def download_all(
        self,
        what: UpscaleResult | Job,
        folder: StrPath,
        *,
        on_progress: OnProgress | None = None,
        overwrite: bool = False,
    ) -> tuple[Path, ...]:
        """Bring all files of one result into a folder, each whole or not at all.

        They come one after another; one that cannot be brought does not stop the others.

        Args:
            what: A result, or a job (its result is waited for).
            folder: The folder to write into, made if it is missing; the names are made from the
                URLs, and no two are the same.
            on_progress: Called with the `Progress` of each file in turn: a function or a
                coroutine function.
            overwrite: Whether files there may be replaced; otherwise names get a number.

        Returns:
            Where the files are, in the order of `UpscaleResult.urls`.

        Raises:
            FileError: The first failure, as of `download`; the files that could be brought stay.
        """
        with self._chapters.about(what) as call:
            return await self._chapters.download_all(call, what, folder, on_progress, overwrite)

    async def fresh_link(self, url: str) -> str:
        """Return a link of 20 minutes for a result's URL whose own link has died.

        Args:
            url: A URL of a result of this service.

        Raises:
            ValidationError: The URL is not one of the service's.
            TopazError: The question could not be asked or answered.

        Source:
            docs.kie.ai/common-api/download-url, read 2026-11-22.
        """
        check_url(url, "The URL to renew")
        with self._enter():
            return await self._chapters.files.fresh_link(url)
