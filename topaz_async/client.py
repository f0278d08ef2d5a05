"""`TopazClient`: each public call is a short story told in the modules below."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import ssl as ssl_module
from collections.abc import AsyncIterable, AsyncIterator, Iterator
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

import attrs

from . import media
from .calls import Call, Calls
from .errors import (
    ClientClosedError,
    ConfigurationError,
    DownloadError,
    InvalidInputError,
    TopazError,
    TransportError,
    WaitTimeoutError,
    clean,
)
from .job import Job
from .models import TaskRecord, UploadedFile, UpscaleFactor, UpscaleResult
from .orders import Order, Video, check_callback_url, make_order
from .results import settle
from .settings import PollPolicy, Quotas, RetryPolicy, Timeouts, check_timeout
from .targets import Target
from .transfers import OnProgress, safe_name
from .uploads import UploadSource
from .urls import check_url
from .watching import OnUpdate

__all__ = ["BASE_URL", "UPLOAD_URL", "TopazClient"]

#: Source: docs.kie.ai, read 2026-11-22.
BASE_URL = "https://api.kie.ai"
#: Another host than the API's: the upload routes do not exist there.
#: Source: docs.kie.ai/file-upload-api and recorded answers, read 2026-11-22.
UPLOAD_URL = "https://kieai.redpandaai.co"

#: Where uploads go at the upload host.
_FOLDER = "topaz-async"

StrPath = str | os.PathLike[str]


class TopazClient:
    """A client of the service: submits, waits, uploads and downloads on one event loop.

    It may be constructed anywhere, before any loop runs; it belongs to the loop of its first
    call. Use it as `async with TopazClient() as topaz`, or call `aclose()`.

    Args:
        api_key: The bearer key; None reads the environment variable KIE_API_KEY.
        base_url: Origin of the jobs API.
        upload_url: Origin of the upload host; None means the service's own, when `base_url`
            is the service's own.
        timeouts: Bounds of single exchanges.
        retry: Attempts and pauses.
        polling: When waiting tasks are asked for.
        quotas: What the service allows the account.
        ssl: True, or a context of your own; certificates are always checked.
        proxy: `http://host:port` for https targets; None reads HTTPS_PROXY, ALL_PROXY and
            NO_PROXY. HTTP_PROXY is never used: it would see the key.
        local_addr: Local (host, port) to connect from.

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
    ) -> None:
        from .engine import Engine  # aiohttp and cattrs load here, not with the package

        base_url = _origin_url(base_url, "base_url")
        if upload_url is None and base_url == BASE_URL:
            upload_url = UPLOAD_URL
        self._has_upload_url = upload_url is not None
        if ssl is False:
            raise ConfigurationError(
                "ssl=False would send the key to anybody.",
                hint="Pass an ssl.SSLContext that knows your certificate.",
            )
        self._timeouts = timeouts or Timeouts()
        self._quotas = quotas or Quotas()
        self._engine = Engine(
            api_key=_usable_key(api_key),
            base_url=base_url,
            upload_url=None if upload_url is None else _origin_url(upload_url, "upload_url"),
            base_host=urlsplit(base_url).hostname,
            timeouts=self._timeouts,
            retry=retry or RetryPolicy(),
            polling=polling or PollPolicy(),
            quotas=self._quotas,
            ssl=ssl,
            proxy=proxy,
            local_addr=local_addr,
        )
        self._base_url = base_url
        self._calls = Calls()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closing: asyncio.Future[None] | None = None
        self._closed = False

    def __repr__(self) -> str:
        return f"TopazClient(base_url={self._base_url!r}{', closed' if self._closed else ''})"

    async def __aenter__(self) -> Self:
        self._check_open()
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
        if self._closing is None:
            self._closed = True
            self._closing = asyncio.ensure_future(self._close())
        await asyncio.shield(self._closing)

    async def _close(self) -> None:
        self._calls.close()
        await self._engine.aclose(self._timeouts.close)

    # -- tasks ------------------------------------------------------------------------------

    async def submit(
        self,
        video: Video,
        *,
        factor: UpscaleFactor | int | str = 2,
        callback_url: str | None = None,
    ) -> Job:
        """Upload the video if it is a local file, and make a task: this costs money.

        One createTask leaves; it is repeated only when it is certain that nothing was bought
        (never connected, code 429 or 455). Cancelling the call before the request has left
        buys nothing; cancelling it later does not take the task back, and its id is logged.

        Args:
            video: An https URL, a path to an mp4, mov or mkv file, or an input such as
                `UpscaleInput` or `ImageUpscaleInput` (which holds its own factor).
            factor: 1, 2 or 4; 1 enhances at the original size.
            callback_url: Where the service shall send a POST when the task ends.

        Returns:
            The handle on the task; await it for the result.

        Raises:
            InvalidInputError: The input is not fit; nothing was sent.
            ApiError: The service refused; `billed == "no"`.
            SubmitUnknownError: The task may exist and be billed.

        Source:
            docs.kie.ai/market/topaz/video-upscale, read 2026-11-22.
        """
        with self._enter() as call:
            order = await self._order(video, factor=factor, callback_url=callback_url)
            return await self._submit(call, order)

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
        with self._enter() as call:
            call.task_id, call.billed = job.task_id, "unknown"
            return await self._wait(job, seconds, on_update)

    async def upscale(
        self,
        video: Video,
        *,
        factor: UpscaleFactor | int | str = 2,
        output: StrPath | None = None,
        timeout: float | None = 900.0,
        total_timeout: float | None = None,
        callback_url: str | None = None,
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
            on_update: As for `wait_for_result`.
            on_progress: Called with (bytes done, bytes in all) of the upload, then of the
                download.
            overwrite: Whether a file at `output` may be replaced; it stays if anything fails.

        Returns:
            The result; its `path` is the file if `output` was given.

        Raises:
            TopazError: As `upload`, `submit`, `wait_for_result` and `download` do; from
                createTask's answer on, every error carries the task id.
        """
        seconds = check_timeout(timeout)
        total = check_timeout(total_timeout, "total_timeout")
        with self._enter() as call:
            async with _all_within(total, call):
                target = None
                if output is not None:  # a place that cannot be written must cost nothing
                    target = await self._target(output, InvalidInputError, overwrite)
                order = await self._order(video, factor=factor, callback_url=callback_url)
                job = await self._submit(call, order, on_progress)
                result = await self._wait(job, seconds, on_update)
                if target is None:
                    return result
                name = f"{order.title}-{order.factor}x"
                return await self._bring(result, target, name, on_progress, overwrite)

    async def fetch_task(self, task_id: str) -> TaskRecord:
        """Ask the service once about a task.

        Raises:
            TaskNotFoundError: The service does not know the id.
            TopazError: The question could not be asked or answered.
        """
        job = self.job(task_id)
        with self._enter():
            request = self._engine.wire.record_info(job.task_id)
            return self._engine.wire.record(await self._engine.ask(request), job.task_id)

    def job(self, task: str | Job) -> Job:
        """Return a handle on a task, bound to this client; asks nobody."""
        if isinstance(task, Job):
            return attrs.evolve(task, client=self)
        if not isinstance(task, str) or not task.strip() or not task.isprintable():
            raise InvalidInputError(f"A task id is a text, not {clean(repr(task), 60)}.")
        return Job(task.strip(), client=self)

    async def updates(
        self, task: str | Job, *, min_interval: float = 0.0, timeout: float | None = 900.0
    ) -> AsyncIterator[TaskRecord]:
        """Iterate over each changed record of a task; see `Job.updates`."""
        job = self.job(task)
        self._check_open()
        seconds = check_timeout(timeout)
        follow = self._engine.poller.follow(
            job.task_id, timeout=seconds, min_interval=float(min_interval)
        )
        async with contextlib.aclosing(follow) as records:
            async for record in records:
                yield record

    async def credits(self) -> float:
        """Return the account's balance in credits, with fractions (one is about 0.005 USD).

        Source:
            docs.kie.ai/common-api/get-account-credits, read 2026-11-22.
        """
        with self._enter():
            wire = self._engine.wire
            return wire.balance(await self._engine.ask(wire.credits()))

    # -- files ------------------------------------------------------------------------------

    async def upload(
        self,
        source: StrPath | bytes | AsyncIterable[bytes],
        *,
        name: str | None = None,
        on_progress: OnProgress | None = None,
    ) -> UploadedFile:
        """Send a file to the service's upload host, which is free.

        It is streamed in constant memory, and sent again from its start when the connection
        breaks (an async iterable cannot be).

        Args:
            source: A path, bytes, or an async iterable of bytes.
            name: The name at the host; None makes a unique one, and the same name twice
                overwrites.
            on_progress: Called with (bytes sent, bytes in all or None).

        Raises:
            InvalidInputError: No video or image, empty, or too large; nothing was sent.
            UploadError: The file could not be read to its end, or the host gave no link.
            TopazError: The host refused, or could not be reached.

        Source:
            docs.kie.ai/file-upload-api, read 2026-11-22.
        """
        with self._enter():
            limit = self._quotas.max_upload_bytes
            if isinstance(source, (str, os.PathLike)):
                found = await asyncio.to_thread(
                    media.inspect, source, max_bytes=limit, kinds=media.KINDS
                )
                return await self._send_file(found.path, found.size, found.kind, name, on_progress)
            if isinstance(source, (bytes, bytearray, memoryview)):
                content = bytes(source)
                kind = media.check_bytes(content, max_bytes=limit, kinds=media.KINDS)
                return await self._send_file(content, len(content), kind, name, on_progress)
            if isinstance(source, AsyncIterable):
                return await self._send_file(source, None, "mp4", name, on_progress)
            raise InvalidInputError(
                f"A source is a path, bytes or an async iterable, not {type(source).__name__}."
            )

    async def download(
        self,
        what: UpscaleResult | Job | str,
        path: StrPath,
        *,
        on_progress: OnProgress | None = None,
        overwrite: bool = False,
    ) -> Path:
        """Bring a result to this disk, whole or not at all.

        Args:
            what: A result, a job (its result is waited for), or a result's URL.
            path: The file to write; for a folder, a name is made from the URL.
            on_progress: Called with (bytes written, bytes in all or None).
            overwrite: Whether a file there may be replaced; it stays if anything fails.

        Returns:
            Where the file is.

        Raises:
            LinkExpiredError: The link is dead.
            IntegrityError: What came is cut, or no video.
            FileError: It could not be brought or written; nothing of it is left on the disk.
        """
        with self._enter() as call:
            target = await self._target(path, DownloadError, overwrite)
            if isinstance(what, Job):
                call.task_id, call.billed = what.task_id, "unknown"
                what = await self._wait(what, 900.0, None)
            if isinstance(what, UpscaleResult):
                call.task_id, call.billed = what.task_id, "yes"
                result = await self._bring(what, target, None, on_progress, overwrite)
                assert result.path is not None
                return result.path
            parts = check_url(what, "The URL to download")
            place = await asyncio.to_thread(
                target.place, Path(parts.path).name or "video.mp4", overwrite=overwrite
            )
            return await self._engine.downloader.fetch(
                what, place, overwrite=overwrite, on_progress=on_progress
            )

    # -- the stories' chapters ----------------------------------------------------------------

    @contextlib.contextmanager
    def _enter(self) -> Iterator[Call]:
        self._check_open()
        with self._calls.enter() as call:
            yield call

    def _check_open(self) -> None:
        if self._closed:
            raise ClientClosedError("The client is closed.", hint="Make a new TopazClient.")
        loop = asyncio.get_running_loop()
        if self._loop is None:
            self._loop = loop
        elif self._loop is not loop:
            raise ConfigurationError(
                "This client belongs to another event loop.",
                hint="Make one TopazClient for each asyncio.run().",
            )

    async def _order(
        self, video: Video, *, factor: UpscaleFactor | int | str, callback_url: str | None
    ) -> Order:
        check_callback_url(callback_url)
        order = await asyncio.to_thread(
            make_order, video, factor=factor, max_bytes=self._quotas.max_upload_bytes
        )
        order.callback_url = callback_url
        return order

    async def _submit(self, call: Call, order: Order, on_progress: OnProgress | None = None) -> Job:
        try:
            if order.media is not None:
                found = order.media
                sent = await self._send_file(found.path, found.size, found.kind, None, on_progress)
                order.uploaded_to(sent.url)
            task_id = await self._engine.submitter.submit(order)
        except asyncio.CancelledError:
            call.task_id = order.task_id
            call.billed = "yes" if order.task_id else "unknown" if order.sent else "no"
            raise
        call.task_id, call.billed = task_id, "yes"
        return Job(task_id, order.intent.reference, self)

    async def _wait(
        self, job: Job, seconds: float | None, on_update: OnUpdate | None
    ) -> UpscaleResult:
        try:
            record = await self._engine.poller.wait(
                job.task_id, timeout=seconds, on_update=on_update
            )
        except TopazError as error:
            raise error.about(reference=job.reference) from None
        return settle(record, job.reference)

    async def _send_file(
        self,
        source: Path | bytes | AsyncIterable[bytes],
        size: int | None,
        kind: str,
        name: str | None,
        on_progress: OnProgress | None,
    ) -> UploadedFile:
        if not self._has_upload_url:
            raise ConfigurationError(
                "base_url was set and upload_url was not, so there is no place to upload to."
            )
        unique = f"{secrets.token_hex(16)}.{kind}"
        upload = UploadSource(source, size, on_progress)
        part = upload.part(unique if name is None else safe_name(name, unique), media.KINDS[kind])
        wire = self._engine.wire
        try:
            return wire.uploaded(await self._engine.send_file(wire.upload(part, _FOLDER)))
        except TransportError:
            if upload.error is not None:
                raise upload.error from None
            raise

    async def _target(self, path: StrPath, error: type[TopazError], overwrite: bool) -> Target:
        return await asyncio.to_thread(Target.of, path, overwrite=overwrite, error=error)

    async def _bring(
        self,
        result: UpscaleResult,
        target: Target,
        name: str | None,
        on_progress: OnProgress | None,
        overwrite: bool,
    ) -> UpscaleResult:
        linked = Path(urlsplit(result.url).path)
        suggestion = f"{name or linked.stem or 'video'}{linked.suffix or '.mp4'}"
        place = await asyncio.to_thread(target.place, suggestion, overwrite=overwrite)
        try:
            await self._engine.downloader.fetch(
                result.url, place, overwrite=overwrite, on_progress=on_progress
            )
        except TopazError as error:
            raise error.about(
                task_id=result.task_id, reference=result.reference, billed="yes"
            ) from None
        return attrs.evolve(result, path=place)


@contextlib.asynccontextmanager
async def _all_within(seconds: float | None, call: Call) -> AsyncIterator[None]:
    """Bound a whole call; the error says how far it came and what that cost."""
    try:
        async with asyncio.timeout(seconds) as limit:
            yield
    except TimeoutError:
        if not limit.expired():
            raise
        where = f"task {call.task_id} goes on" if call.task_id else "no task is known"
        raise WaitTimeoutError(
            f"The call did not end within {seconds:g} s; {where}.",
            task_id=call.task_id,
            retryable=call.billed == "no",
            billed=call.billed,
            hint=f"wait_for_result({call.task_id!r}) waits again." if call.task_id else None,
        ) from None


def _usable_key(key: str | None) -> str:
    """Return the key, once it is certain that it can stand in a header."""
    source = "api_key"
    if key is None:
        key, source = os.environ.get("KIE_API_KEY"), "KIE_API_KEY"
    if key is None:
        raise ConfigurationError(
            "There is no API key.",
            hint="Pass api_key=..., or set the environment variable KIE_API_KEY.",
        )
    if not isinstance(key, str) or not key:
        raise ConfigurationError(f"{source} is empty.", hint="Set it to the key of your account.")
    if not key.isascii() or not key.isprintable() or " " in key:
        raise ConfigurationError(
            f"{source} holds line breaks, spaces or letters that no key has.",
            hint="Copy the key again, without what stood around it.",
        )
    return key


def _origin_url(url: str, what: str) -> str:
    parts = check_url(url, what, ConfigurationError)
    if parts.query or parts.fragment:
        raise ConfigurationError(f"{what} has a query or a fragment; name the origin alone.")
    return url.rstrip("/")
