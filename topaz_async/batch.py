"""Many videos, bounded, reported one by one."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import time
from collections import Counter, OrderedDict
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    Callable,
    Generator,
    Iterable,
)
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import attrs

from .calls import Call
from .chapters import Chapters
from .errors import (
    ClientClosedError,
    InsufficientCreditsError,
    InvalidInputError,
    TopazError,
)
from .models import Outcome, TaskInput, TaskRecord, UpscaleFactor, UpscaleResult
from .names import own_name
from .orders import Order, Video
from .report import BatchReport, ReportRow, status_of
from .targets import Target
from .texts import quoted
from .urls import shown

__all__ = ["Batch"]

_log = logging.getLogger("topaz_async")

Videos = Iterable[Video] | AsyncIterable[Video]

#: How many inputs are remembered, to know an identical one again.
_REMEMBERED = 100_000
#: Outcomes after which the same video may come again as if for the first time.
_NOTHING_BOUGHT = ("refused", "not submitted")


class Batch:
    """Upscales what an iterable gives; yields `Outcome`s in order of completion.

        async with topaz.upscale_many(videos, output_dir="out") as batch:
            async for outcome in batch: ...
        print(batch.report)

    Made by `TopazClient.upscale_many`.  Leaving early submits nothing more; submits under way
    end and are written down, and submitted tasks go on at the service.
    """

    def __init__(
        self,
        story: Chapters,
        videos: Videos,
        *,
        factor: UpscaleFactor | int | str,
        output_dir: str | os.PathLike[str] | None,
        reference: Callable[[Any], str | None] | None,
        concurrency: int,
        timeout: float | None,
        overwrite: bool,
        on_update: Callable[[Any, TaskRecord], Any] | None,
        submit: dict[str, Any],
    ) -> None:
        if isinstance(concurrency, bool) or not isinstance(concurrency, int) or concurrency < 1:
            raise InvalidInputError(f"concurrency is {concurrency!r}; it must be 1 or more.")
        if isinstance(videos, (str, bytes, os.PathLike, TaskInput)):
            raise InvalidInputError("upscale_many takes an iterable of videos; this is one video.")
        if not isinstance(videos, (Iterable, AsyncIterable)):
            raise InvalidInputError(f"{quoted(videos)} is no iterable of videos.")
        if reference is not None and not callable(reference):
            raise InvalidInputError(f"reference is called with each video; {quoted(reference)}.")
        if output_dir is not None and not isinstance(output_dir, (str, os.PathLike)):
            raise InvalidInputError(f"{quoted(output_dir)} is no folder to write to.")
        self._story = story
        self._videos = _each(videos)
        self._factor = factor
        self._output_dir = output_dir
        self._reference = reference
        self._timeout = timeout
        self._overwrite = overwrite
        self._on_update = on_update
        self._submit = submit
        self._room = asyncio.Semaphore(concurrency)
        #: Outcomes that nobody has taken; None is the last one, for everybody.
        self._done: asyncio.Queue[Outcome | None] = asyncio.Queue()
        self._unread = asyncio.Semaphore(concurrency)
        self._starting = asyncio.Lock()
        self._is_left = self._is_whole = False
        self._items: set[asyncio.Task[None]] = set()
        self._feeder: asyncio.Task[None] | None = None
        self._target: Target | None = None
        self._titles: Counter[str] = Counter()
        #: Names in the folder, and the contents that they belong to.
        self._names: dict[str, str] = {}
        #: Fingerprints of this batch and what became of them, oldest first.
        self._seen: OrderedDict[str, asyncio.Future[Outcome]] = OrderedDict()
        #: Those that are not done, and for which a consent to pay again has been used up.
        self._consented: set[str] = set()
        #: Orders that may not have been sent yet, by index.
        self._orders: dict[int, Order] = {}
        self._out_of_credits = False
        self._failure: BaseException | None = None
        self._rows: list[ReportRow] = []
        self._began: float | None = None
        self._ended: float | None = None

    @property
    def report(self) -> BatchReport:
        """The batch so far; grows by a short row for each item."""
        seconds = 0.0
        if self._began is not None:
            seconds = (self._ended or time.monotonic()) - self._began
        return BatchReport(seconds=seconds, rows=tuple(self._rows))

    async def __aenter__(self) -> Self:
        await self._start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    def __aiter__(self) -> AsyncGenerator[Outcome, None]:
        return self._outcomes()

    async def _outcomes(self) -> AsyncGenerator[Outcome, None]:
        # A generator, for only a generator is told when its loop is left.
        try:
            await self._start()
            while (outcome := await self._done.get()) is not None:
                self._unread.release()
                yield outcome
            self._done.put_nowait(None)  # others may wait for it too
        finally:
            await self.aclose()
        failure, self._failure = self._failure, None
        if failure is not None:
            raise failure
        if self._story.calls.closed and not self._is_whole:
            raise ClientClosedError(
                "The client was closed before the batch had ended.",
                billed="unknown",
                hint="batch.report says what became of each video that was begun.",
            )

    def __await__(self) -> Generator[Any, None, BatchReport]:
        return self._run().__await__()

    async def _run(self) -> BatchReport:
        async for _ in self:
            pass
        return self.report

    async def aclose(self) -> None:
        """Begin nothing more and let go of what is under way; twice is fine."""
        if self._ended is None and self._began is not None:
            self._ended = time.monotonic()
        is_first, self._is_left = not self._is_left, True
        tasks = [task for task in (self._feeder, *self._items) if task is not None]
        for task in tasks:
            task.cancel()
        try:
            await asyncio.gather(*tasks, return_exceptions=True)
            with contextlib.suppress(RuntimeError):  # somebody else is closing it just now
                await self._videos.aclose()
        finally:
            if is_first:
                self._done.put_nowait(None)  # for whoever else waits for an outcome

    # -- the pipeline -----------------------------------------------------------------------

    async def _start(self) -> None:
        async with self._starting:  # of several workers the first one starts it
            if self._feeder is not None or self._is_left:
                return
            self._story.calls.check_open()
            self._story.batches.add(self)
            self._began = time.monotonic()
            if self._output_dir is not None:
                folder = os.path.join(os.fspath(self._output_dir), "")
                self._target = await self._story.files.target(
                    folder, InvalidInputError, self._overwrite
                )
            if not self._is_left:
                self._feeder = asyncio.create_task(self._feed(), name="topaz_async batch")

    async def _feed(self) -> None:
        """Begin an item whenever there is room, until the iterable ends or raises."""
        index = 0
        try:
            while True:
                await self._room.acquire()
                if self._story.calls.closed:
                    break
                try:
                    video = await anext(self._videos)
                except StopAsyncIteration:
                    self._is_whole = True
                    break
                item = asyncio.create_task(self._item(index, video), name="topaz_async item")
                self._items.add(item)
                item.add_done_callback(self._items.discard)
                index += 1
        except Exception as error:  # the caller's iterable; told after the outcomes
            self._failure = error
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            self._failure = error  # it came from the iterable, not from whoever closes us
        while self._items:
            await asyncio.wait(self._items)
        self._done.put_nowait(None)

    async def _item(self, index: int, video: Video) -> None:
        try:
            began = asyncio.get_running_loop().time()
            blank = Outcome(index=index, video="", status="not submitted")
            cut: asyncio.CancelledError | None = None
            try:
                blank = attrs.evolve(blank, video=_told(video))
                outcome = await self._outcome(blank, video)
            except _LeftError as error:
                outcome, cut = error.outcome, error.cut
            except asyncio.CancelledError as error:
                outcome, cut = blank, error
            except Exception as error:  # the caller's own objects, or a defect of ours
                _log.exception("Item %d of a batch failed in an unforeseen way.", index)
                unforeseen = InvalidInputError(
                    f"The video cannot be looked at: {type(error).__name__}."
                )
                outcome = attrs.evolve(blank, status="refused", error=unforeseen)
            seconds = asyncio.get_running_loop().time() - began
            outcome = attrs.evolve(outcome, seconds=seconds)
            self._rows.append(ReportRow.of(outcome))
            try:
                if cut is None:
                    await self._unread.acquire()
            finally:
                self._done.put_nowait(outcome)
            if cut is not None:
                raise cut
        finally:
            self._room.release()

    async def _outcome(self, blank: Outcome, video: Video) -> Outcome:
        if self._out_of_credits:
            return blank
        try:
            order = await self._story.order(
                video, factor=self._factor, reference=self._named(video), **self._submit
            )
        except TopazError as error:
            return attrs.evolve(blank, status="refused", error=error)
        if self._story.keeps_a_journal:
            order.name_by_content()
        if self._target is not None:
            order.deliver_to(self._target.folder, None)
        twin = self._seen.get(order.content)
        if twin is not None:
            first = await asyncio.shield(twin)
            return attrs.evolve(first, index=blank.index, video=blank.video, same_as=first.index)
        ours: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self._seen[order.content] = ours
        if order.content in self._consented:
            order.resubmit_unknown = order.resubmit_failed = False
        consents = order.resubmit_unknown or order.resubmit_failed
        self._orders[blank.index] = order
        while len(self._seen) > _REMEMBERED:
            self._seen.popitem(last=False)
        try:
            outcome = await self._upscale(blank, order, video)
        except BaseException:
            ours.cancel()
            raise
        finally:
            self._orders.pop(blank.index, None)
        ours.set_result(outcome)
        if consents and outcome.status not in ("ok", *_NOTHING_BOUGHT):
            self._consented.add(order.content)
        if not self._keeps(order, outcome):
            self._seen.pop(order.content, None)
        return outcome

    @staticmethod
    def _keeps(order: Order, outcome: Outcome) -> bool:
        """Whether another video of the same content gets this outcome, however late it comes.

        Where nothing was bought it is tried anew; and where its reference tells what was.
        """
        if outcome.status in _NOTHING_BOUGHT:
            return False
        return outcome.status not in ("pending", "unknown") or order.intent.reference is None

    async def _upscale(self, blank: Outcome, order: Order, video: Video) -> Outcome:
        outcome = attrs.evolve(blank, reference=order.intent.reference)
        on_update = self._on_update
        call: Call | None = None
        try:
            with self._story.calls.enter(reference=order.intent.reference) as call:
                consents = order.resubmit_unknown or order.resubmit_failed
                call.asks_for(order.intent.reference, may_pay_again=consents)
                done = await self._story.finished(order, self._target)
                if done is not None and done.path and not self._claims(done.path, order):
                    done = None  # this batch has replaced it, or is about to: it is brought anew
                if done is None:
                    if self._out_of_credits:
                        return outcome
                    job = await self._story.submit(call, order)
                    outcome = attrs.evolve(outcome, task_id=job.task_id)
                    done = await self._story.wait(
                        job,
                        self._timeout,
                        None if on_update is None else lambda record: on_update(video, record),
                    )
                    if self._target is not None:
                        done = await self._bring(order, done)
                return _ok(outcome, done)
        except TopazError as error:
            failure = error
        except asyncio.CancelledError as error:
            raise _LeftError(_left(outcome, call), error) from None
        except Exception as error:  # the caller's own objects, or a defect of ours
            _log.exception("Item %d of a batch failed in an unforeseen way.", blank.index)
            failure = TopazError(
                f"It failed in an unforeseen way: {type(error).__name__}.",
                reference=order.intent.reference,
                task_id=order.task_id or outcome.task_id,
                billed="yes" if outcome.task_id else order.billed,
            )
        task_id = outcome.task_id or failure.task_id
        if order.is_given_back:
            return outcome  # it was not sent, for the credits had run out
        # Of a task that was made the service asks for no more credits.
        out_of_credits = isinstance(failure, InsufficientCreditsError) and outcome.task_id is None
        if out_of_credits:
            self._out_of_credits = True
            for other in self._orders.values():
                if other is not order:
                    other.abandoned = True  # unless it has left
        record = getattr(failure, "record", None)
        return attrs.evolve(
            outcome,
            status=status_of(failure, task_id),
            task_id=task_id,
            credits=None if record is None else record.credits_consumed,
            error=failure,
        )

    async def _bring(self, order: Order, result: UpscaleResult) -> UpscaleResult:
        assert self._target is not None
        title = f"{order.title}-{order.factor}x"
        while True:
            self._titles[title.casefold()] += 1
            number = self._titles[title.casefold()]
            name = title if number == 1 else f"{title} ({number})"
            if self._claims(Path(own_name(f"{name}.mp4")), order):
                break
        return await self._story.files.bring(result, self._target, name, None, self._overwrite)

    def _claims(self, path: Path, order: Order) -> bool:
        """Keep a name for a video, whatever its ending; False when it is another one's."""
        # Some file systems take "Clip" and "clip" for one.
        ours = order.content
        return self._names.setdefault(path.stem.casefold(), ours) == ours

    def _named(self, video: Video) -> str | None:
        return None if self._reference is None else self._reference(video)


class _LeftError(Exception):
    """The batch was left while an item was under way."""

    def __init__(self, outcome: Outcome, cut: asyncio.CancelledError) -> None:
        super().__init__()
        self.outcome = outcome
        self.cut = cut


def _left(outcome: Outcome, call: Call | None) -> Outcome:
    """Return the outcome of an item that was under way when its batch was left."""
    if call is None or (call.task_id is None and call.billed == "no"):
        return outcome
    if call.task_id is None:
        hint = f"With a journal, {call.same_call} finds out."
    else:
        hint = f"The task goes on: wait_for_result({call.task_id!r}) gets its result."
    error = ClientClosedError(
        "The batch was left while this was under way.",
        task_id=call.task_id,
        reference=outcome.reference,
        billed=call.billed,
        hint=hint,
    )
    return attrs.evolve(
        outcome,
        status=status_of(error, call.task_id),
        task_id=call.task_id,
        error=error,
    )


def _ok(outcome: Outcome, result: UpscaleResult) -> Outcome:
    return attrs.evolve(
        outcome,
        status="ok",
        task_id=result.task_id,
        result=result,
        credits=result.credits_consumed,
    )


def _told(video: Video) -> str:
    if isinstance(video, TaskInput):
        links = [value for value in attrs.asdict(video).values() if "://" in str(value)]
        return shown(str(links[0])) if links else video.model
    text = os.fspath(video) if isinstance(video, (str, os.PathLike)) else repr(video)
    return shown(text) if "://" in text else text[:200]


async def _each(videos: Videos) -> AsyncGenerator[Video, None]:
    """Yield what an iterable of either kind gives; a generator is closed when it is left."""
    try:
        if isinstance(videos, AsyncIterable):
            async for video in videos:
                yield video
        else:
            for video in videos:
                yield video
    finally:
        if isinstance(videos, AsyncGenerator):
            await videos.aclose()
        elif isinstance(videos, Generator):
            videos.close()
