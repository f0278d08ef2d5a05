"""The chapters of which the client's stories are made: order, submit, wait, recover.

Loaded when a client is constructed.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any, Protocol
from weakref import WeakSet

import attrs

from .advice import still_unknown
from .buying import Buyer
from .calls import Call, Calls
from .engine import Engine
from .errors import (
    Billed,
    ConfigurationError,
    DownloadError,
    InvalidInputError,
    TopazError,
    WaitTimeoutError,
)
from .files import Files
from .job import Job, JobClient, known_id
from .models import TaskRecord, UpscaleFactor, UpscaleResult
from .orders import Order, Video, make_order
from .ports import Journal
from .recovery import Recovery
from .results import settle
from .settings import Budget, PollPolicy, Quotas, RetryPolicy, Timeouts
from .targets import Target
from .telling import LAST_WORD, Teller
from .texts import quoted
from .transfers import OnProgress
from .watching import OnUpdate

__all__ = ["Chapters"]

_log = logging.getLogger("topaz_async")

#: Seconds that cancelled calls get to take their temporary files away.
_UNWIND = 1.0

#: Called with the job as soon as its task id is known: a function or a coroutine function.
OnSubmit = Callable[[Job], Any]

StrPath = str | os.PathLike[str]


class Closable(Protocol):
    """Something that ends with the client."""

    async def aclose(self) -> None: ...


def _found_at(target: Target, paths: Sequence[str]) -> Path | None:
    """Return the newest of the paths where a file lies that the target is, or holds."""
    found = map(Path, reversed(paths))
    return next((path for path in found if target.is_at(path) and path.is_file()), None)


class Chapters:
    """What happens in the calls of one client; it owns the client's parts and calls.

    Args:
        client: What jobs are bound to.
        base_url: Origin of the service.
        upload_url: Origin of the upload host; None when there is none.
        callback_url: Where the service shall call when a submit names no place of its own.
        timeouts, retry, polling, quotas: Settings; None stands for the defaults.
        options: What the wired parts need besides.
    """

    def __init__(
        self,
        client: JobClient,
        *,
        base_url: str,
        upload_url: str | None,
        callback_url: str | None,
        timeouts: Timeouts | None,
        retry: RetryPolicy | None,
        polling: PollPolicy | None,
        quotas: Quotas | None,
        **options: Any,
    ) -> None:
        for value, kind in (
            (timeouts, Timeouts),
            (retry, RetryPolicy),
            (polling, PollPolicy),
            (quotas, Quotas),
            (options.get("budget"), Budget),
        ):
            if value is not None and not isinstance(value, kind):
                raise ConfigurationError(f"{quoted(value, 40)} is no {kind.__name__}.")
        self.calls = Calls()
        self._client = client
        self._base_url = base_url
        self._callback_url = callback_url
        self._timeouts = timeouts or Timeouts()
        quotas = quotas or Quotas()
        self._max_upload_bytes = quotas.max_upload_bytes
        self._parts = Engine(
            base_url=base_url,
            upload_url=upload_url,
            timeouts=self._timeouts,
            retry=retry or RetryPolicy(),
            polling=polling or PollPolicy(),
            quotas=quotas,
            **options,
        )
        self._buyer = Buyer(self._parts)
        self._recovery = Recovery(self._parts, callback_url)
        self.files = Files(self._parts)
        self.uploader = self._parts.uploader
        self._result_life = quotas.result_life
        #: Whatever else must end with the client.
        self.batches: WeakSet[Closable] = WeakSet()
        self._closing: asyncio.Future[None] | None = None

    async def aclose(self) -> None:
        if self.calls.is_elsewhere():
            self.calls.closed = True
            await self._parts.outlive_the_loop()
            return
        if self._closing is None:
            self.calls.close()
            self._closing = asyncio.ensure_future(self._close())
        await asyncio.shield(self._closing)

    async def _close(self) -> None:
        batches = asyncio.ensure_future(self._close_batches())
        try:
            await self.calls.ended(_UNWIND)
        finally:
            try:
                await asyncio.gather(
                    self._parts.aclose(self._timeouts.close),
                    asyncio.wait([batches], timeout=self._timeouts.close),
                )
            finally:
                batches.cancel()

    async def _close_batches(self) -> None:
        """Close the batches, whatever the code of their sources does then."""
        closing = (batch.aclose() for batch in list(self.batches))
        for failure in await asyncio.gather(*closing, return_exceptions=True):
            if isinstance(failure, Exception):
                _log.error("The source of a batch failed as it was closed.", exc_info=failure)

    def job(self, task: str | Job) -> Job:
        """Return a handle on a task, bound to the client."""
        job = task if isinstance(task, Job) else Job(task)
        word = job.task_id
        if not job.unknown and (
            not isinstance(word, str) or not word.strip() or not word.isprintable()
        ):
            raise InvalidInputError(f"A task id is a text, not {quoted(word, 60)}.")
        return Job(word.strip() if word else "", job.reference, self._client, unknown=job.unknown)

    def about(self, what: object) -> Call:
        """Return the running task's call about a job, a result or anything else, to be entered."""
        if isinstance(what, Job):
            return self.calls.enter(what.task_id, what.reference, self.billed(what))
        if isinstance(what, UpscaleResult):
            return self.calls.enter(what.task_id, what.reference, "yes")
        return self.calls.enter()

    async def order(
        self,
        video: Video,
        *,
        factor: UpscaleFactor | int | str,
        callback_url: str | None,
        reference: str | None,
        seconds: float | None,
        fingerprint: str | None,
        resubmit_unknown: bool,
        resubmit_failed: bool,
    ) -> Order:
        order = await asyncio.to_thread(
            make_order,
            video,
            factor=factor,
            callback_url=self._callback_url if callback_url is None else callback_url,
            reference=reference,
            seconds=seconds,
            fingerprint=fingerprint,
            service=self._base_url,
            max_bytes=self._max_upload_bytes,
        )
        order.resubmit_unknown = resubmit_unknown
        order.resubmit_failed = resubmit_failed
        return order

    async def submit(self, call: Call, order: Order, on_progress: OnProgress | None = None) -> Job:
        self._parts.learn_soon()
        self._parts.doorbell.listen()
        task_id = await self._buyer.submit(call, order, on_progress)
        call.is_only_trace = not self.keeps_a_journal
        return Job(task_id, order.intent.reference, self._client)

    @staticmethod
    async def tell(on_submit: OnSubmit | None, job: Job, seconds: float | None) -> None:
        """Tell the caller of its task, within so many seconds."""
        if on_submit is None:
            return
        teller = Teller(on_submit, f"on_submit of task {job.task_id}")
        try:
            teller.tell(job)
            await teller.finish(seconds)
        except asyncio.CancelledError:  # it may be writing the id down just now
            asyncio.get_running_loop().call_later(LAST_WORD, teller.cancel)
            raise
        teller.cancel()

    async def wait(
        self, job: Job, seconds: float | None, on_update: OnUpdate | None
    ) -> UpscaleResult:
        self._parts.learn_soon()
        self._listen()
        try:
            record = await self._parts.poller.wait(
                await self._known_id(job), timeout=seconds, on_update=on_update
            )
        except TopazError as error:
            raise error.about(reference=job.reference) from None
        return settle(record, job.reference, life=self._result_life)

    def billed(self, job: Job) -> Billed:
        """What is known of a task's cost before anybody asks for it."""
        return self._parts.poller.billed(job.task_id)

    def _listen(self) -> None:
        """Hear of callbacks, and of those to other processes if that can concern us."""
        self._parts.doorbell.listen()
        if self._callback_url is not None or self._parts.doorbell.is_expected:
            self._parts.rings.begin()

    async def _known_id(self, job: Job) -> str:
        if job.unknown and job.reference is not None and self.keeps_a_journal:
            entry = await self._parts.memory.journal.find(job.reference)
            if entry is not None and entry.task_id is not None:
                return entry.task_id  # it was found again
            if entry is not None and entry.submit == "unknown":
                raise still_unknown(entry)  # it says more: what was sent, and when
        return known_id(job)

    async def fetch(self, job: Job) -> TaskRecord:
        return await self._parts.record(await self._known_id(job))

    async def follow(
        self, job: Job, *, timeout: float | None, min_interval: float
    ) -> AsyncGenerator[TaskRecord, None]:
        self.calls.check_open(job.task_id, job.reference, self.billed(job))
        self._listen()
        records = self._parts.poller.follow(
            await self._known_id(job), timeout=timeout, min_interval=min_interval
        )
        async with contextlib.aclosing(records):
            async for record in records:
                yield record

    async def credits(self) -> float:
        return await self._parts.balance()

    @property
    def journal(self) -> Journal:
        return self._parts.memory.given

    @property
    def keeps_a_journal(self) -> bool:
        return self._parts.memory.is_kept

    async def finished(self, order: Order, target: Target | None) -> UpscaleResult | None:
        """Return the result of work whose file lies in the target's folder already."""
        reference = order.intent.reference
        if reference is None or target is None or not self.keeps_a_journal:
            return None
        entry = await self._parts.memory.journal.find(reference)
        if entry is None or entry.task_id is None or not entry.paths:
            return None
        if not entry.intent.is_same_work(order.intent):
            return None
        path = await asyncio.to_thread(_found_at, target, entry.paths)
        if path is None:
            return None
        record = TaskRecord(
            entry.task_id,
            entry.state or "success",
            result_urls=entry.result_urls,
            credits_consumed=entry.credits_consumed,
        )
        place = target.folder / path.name
        return UpscaleResult(entry.task_id, entry.result_urls, record, place, reference)

    async def unfinished(self) -> list[Job]:
        return [
            Job(
                entry.task_id or "",
                entry.intent.reference,
                self._client,
                unknown=entry.task_id is None,
            )
            for entry in await self._recovery.unfinished()
        ]

    async def bind(self, reference: str, job: Job) -> Job:
        await self._recovery.bind(reference, await self._known_id(job))
        return attrs.evolve(job, reference=reference)

    async def download(
        self,
        call: Call,
        what: UpscaleResult | Job | str,
        path: StrPath,
        on_progress: OnProgress | None,
        overwrite: bool,
    ) -> Path:
        target = await self._place_for(what, path, overwrite)
        if not isinstance(what, (Job, UpscaleResult)):
            return await self.files.fetch(what, target, on_progress, overwrite)
        result = await self._result_of(call, what)
        result = await self.files.bring(result, target, None, on_progress, overwrite)
        assert result.path is not None
        return result.path

    async def download_all(
        self,
        call: Call,
        what: UpscaleResult | Job,
        folder: StrPath,
        on_progress: OnProgress | None,
        overwrite: bool,
    ) -> tuple[Path, ...]:
        if not isinstance(what, (Job, UpscaleResult)):
            raise InvalidInputError(f"{quoted(what)} is no result and no job.")
        if not isinstance(folder, (str, os.PathLike)):
            raise DownloadError(f"{quoted(folder)} is no folder to write to.")
        target = await self._place_for(what, os.path.join(folder, ""), overwrite)
        result = await self._result_of(call, what)
        return await self.files.bring_all(result, target, on_progress, overwrite)

    async def _place_for(
        self, what: UpscaleResult | Job | str, path: StrPath, overwrite: bool
    ) -> Target:
        """Return the place to write to; the error where there is none says what is paid for."""
        try:
            return await self.files.target(path, DownloadError, overwrite)
        except DownloadError as error:
            if not isinstance(what, (Job, UpscaleResult)):
                raise
            billed = "yes" if isinstance(what, UpscaleResult) else self.billed(what)
            raise error.about(
                task_id=what.task_id or None, reference=what.reference, billed=billed
            ) from None

    async def _result_of(self, call: Call, what: UpscaleResult | Job) -> UpscaleResult:
        if isinstance(what, Job):
            what = await self.wait(what, 900.0, None)
        call.task_id, call.billed = what.task_id, "yes"
        return what

    @contextlib.asynccontextmanager
    async def all_within(self, seconds: float | None, call: Call) -> AsyncIterator[None]:
        """Bound a whole call; the error says how far it came and what that cost."""
        limit = asyncio.timeout(seconds)
        try:
            async with limit:
                yield
        except TimeoutError:
            if not limit.expired():
                raise
            where, hint = call.where, None
            if call.task_id:
                where = f"task {call.task_id} goes on"
                hint = f"wait_for_result({call.task_id!r}) waits again."
            elif call.reference is not None and call.billed == "unknown":
                hint = f"Make {call.same_call} again: it waits for its reference's task, if any."
            elif call.billed == "unknown":
                hint = "Its task id goes to the log, and to the journal if there is one."
            raise WaitTimeoutError(
                f"The call did not end within {seconds:g} s; {where}.",
                task_id=call.task_id,
                reference=call.reference,
                retryable=call.billed == "no",
                billed=call.billed,
                hint=hint,
            ) from None
