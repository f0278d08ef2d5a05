"""The chapters of which the client's stories are made: order, submit, wait, recover.

Loaded when a client is constructed.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol
from weakref import WeakSet, WeakValueDictionary

import attrs

from .calls import Call, Calls
from .engine import Engine, since, traits_of
from .errors import (
    Billed,
    ConfigurationError,
    DownloadError,
    InvalidInputError,
    JournalError,
    NotFoundError,
    ReferenceConflictError,
    SubmitUnknownError,
    TopazError,
    ValidationError,
    WaitTimeoutError,
    clean,
)
from .files import Files
from .job import Job, JobClient, known_id
from .models import TaskRecord, UpscaleFactor, UpscaleInput, UpscaleResult
from .orders import Order, Video, make_order, nonce_in
from .ports import Journal
from .purse import Purse
from .rescue import agrees
from .results import settle
from .settings import Budget, PollPolicy, Quotas, RetryPolicy, Timeouts
from .submission import next_step, still_unknown
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


def _when_ended(order: Order, work: Callable[[], None]) -> None:
    """Do it when the order's exchange has ended: a caller that is cancelled leaves before that."""
    if order.exchange is None or order.exchange.done():
        work()
    else:
        order.exchange.add_done_callback(lambda exchange: work())


def _settle_cost(purse: Purse, order: Order, cost: float) -> None:
    (purse.spent if order.may_have_bought else purse.release)(cost)


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
        self.files = Files(self._parts)
        self.uploader = self._parts.uploader
        self._result_life = quotas.result_life
        #: Whatever else must end with the client.
        self.batches: WeakSet[Closable] = WeakSet()
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._binding = asyncio.Lock()
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
            await asyncio.gather(
                self._parts.aclose(self._timeouts.close),
                asyncio.wait([batches], timeout=self._timeouts.close),
            )
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
        reference = order.intent.reference
        lock = self._lock_of(reference)
        order.is_open = reference is not None
        try:
            await self._parts.submitter.weigh_consent(order)
            async with lock:
                task_id = await self._known(order)
                order.is_open = False
                if task_id is None:
                    task_id = await self._bought(order, on_progress)
        except asyncio.CancelledError:
            call.asks_for(reference)
            call.task_id, call.billed = order.task_id, order.billed
            if order.sent:
                call.where = "its createTask is under way"
            elif not order.is_open:
                call.where = "nothing was submitted"
            raise
        except TopazError as error:
            raise error.about(reference=reference) from None
        call.task_id, call.billed = task_id, "yes"
        call.is_only_trace = not self.keeps_a_journal
        return Job(task_id, reference, self._client)

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

    def _lock_of(self, reference: str | None) -> asyncio.Lock:
        """Return the lock under which submits of one reference queue, so that one uploads."""
        if reference is None:
            return asyncio.Lock()
        return self._locks.setdefault(reference, asyncio.Lock())

    async def _known(self, order: Order) -> str | None:
        """Return the task that the order's reference stands for already, or None."""
        if order.resubmit_unknown:  # the consent is for what nobody knows
            await self._check_consent(order, await self._find_again())
        try:
            return await self._parts.submitter.known(order)
        except SubmitUnknownError:
            await self._find_again()
            return await self._parts.submitter.known(order)

    async def _check_consent(self, order: Order, told: Mapping[str, str]) -> None:
        """Raise when a callback names the task, and only the service could not be asked."""
        journal = self._parts.memory.journal_of(order.intent)
        if journal is None or order.intent.reference is None or not told:
            return
        entry = await journal.find(order.intent.reference)
        if entry is None or entry.submit != "unknown" or entry.intent.nonce not in told:
            return
        error = still_unknown(entry)
        error.task_id = told.get(entry.intent.nonce or "")
        error.hint = next_step(error.task_id, error.reference)
        raise error

    async def _find_again(self) -> dict[str, str]:
        """Bind unknown submits whose callback has come, wherever it was received.

        Returns:
            The nonces of those of which the service could not be asked, with their tasks.
        """
        await self._parts.rings.catch_up()
        return await self._parts.rescue.all_heard()

    async def _bought(self, order: Order, on_progress: OnProgress | None) -> str:
        """Buy, and prepare for the callback."""
        task_id = await self._buy(order, on_progress)
        if order.callback_url is not None:
            self._parts.doorbell.expects(task_id, order.callback_url)
        return task_id

    async def _buy(self, order: Order, on_progress: OnProgress | None) -> str:
        purse = self._parts.purse
        cost = 0.0 if purse is None else await purse.reserve(order.intent)
        try:
            if order.media is not None:
                content = order.intent.content_hash
                sent = await self.uploader.once(order.media, content, on_progress)
                order.uploaded_to(sent.url)
            return await self._submitted(order)
        finally:
            if purse is not None:
                _when_ended(order, lambda: _settle_cost(purse, order, cost))

    async def _submitted(self, order: Order) -> str:
        try:
            return await self._parts.submitter.submit(order)
        except (ValidationError, NotFoundError, SubmitUnknownError):
            if order.media is not None and isinstance(order.input, UpscaleInput):
                # The service may have found nothing there: the next attempt uploads anew.
                self._parts.shelf.forget(order.input.video_url)
            raise

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
        await self._parts.submitter.catch_up()
        await self._find_again()
        jobs = []
        for entry in await self._parts.memory.jobs("unfinished"):
            if entry.task_id is not None:
                self._parts.poller.made(entry.task_id, traits_of(entry.intent), ago=since(entry))
                if self._callback_url is not None and entry.intent.nonce is not None:
                    self._parts.doorbell.expects(entry.task_id, self._callback_url)
            jobs.append(
                Job(
                    entry.task_id or "",
                    entry.intent.reference,
                    self._client,
                    unknown=entry.task_id is None,
                )
            )
        return jobs

    async def bind(self, reference: str, job: Job) -> Job:
        entry = await self._parts.memory.journal.find(reference)
        if entry is None:
            raise JournalError(
                f"No submit of the reference {clean(reference, 80)!r} is known.",
                reference=reference,
            )
        record = await self.fetch(job)
        wire = self._parts.wire
        # Of several attempts the nonce tells which one it was.
        nonce = nonce_in(wire.sent_callback(record) or "")
        if nonce is not None and nonce != entry.intent.nonce:
            attempts = [
                each
                for each in await self._parts.memory.journal.jobs()
                if each.intent.nonce == nonce
            ]
            # An attempt that was refused and repeated has the nonce of the one that was lost.
            attempts.sort(key=lambda each: each.submit not in ("unknown", "intent"))
            entry = attempts[0] if attempts else entry
        if entry.intent.reference != reference or not agrees(record, entry.intent, wire):
            model, sent = wire.sent_input(record)
            raise ReferenceConflictError(
                f"Task {job.task_id} is not what {clean(reference, 80)!r} submitted: it is "
                f"{clean(model, 80)} with {clean(sent, 200)}.",
                task_id=job.task_id,
                reference=reference,
                billed="unknown",
            )
        async with self._binding:  # of two references only one gets it
            for other in await self._parts.memory.journal.jobs("made"):
                if other.task_id == job.task_id and other.intent.reference != reference:
                    raise ReferenceConflictError(
                        f"Task {job.task_id} is that of {clean(other.intent.reference, 80)!r} "
                        "already.",
                        task_id=job.task_id,
                        reference=reference,
                        billed="unknown",
                    )
            await self._parts.memory.journal.bind(entry.id, job.task_id)
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
                hint = "The same call again waits for the task of its reference, if there is one."
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
