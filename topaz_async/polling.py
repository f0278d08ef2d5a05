"""One schedule for all waiting tasks: ask, back off, stop at the deadline, wake at the doorbell."""

from __future__ import annotations

import asyncio
import heapq
import itertools
import logging
import random
from collections import OrderedDict
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import contextmanager

import backoff

from .errors import (
    AuthenticationError,
    Billed,
    ClientClosedError,
    RateLimitError,
    TaskNotFoundError,
    TopazError,
    WaitTimeoutError,
)
from .models import TaskRecord
from .ports import Limiter
from .settings import PollPolicy
from .watching import OnUpdate, Teller, Watch

__all__ = ["Poller", "cadence"]

_log = logging.getLogger("topaz_async")

#: Seconds that a finished wait grants an `on_update` that has not returned.
_LAST_WORD = 1.0
#: Seconds that all polls pause after a 429 without Retry-After.
_QUOTA_PAUSE = 1.0
_LONGEST_PAUSE = 60.0
#: A look that is due within so many seconds is due: timers may fire a little early.
_SOON = 0.001


def cadence(policy: PollPolicy) -> Iterator[float]:
    """Yield the pauses before each look at one task, in seconds and without jitter."""
    if not policy.steps:
        waits = backoff.expo(base=policy.growth, factor=policy.first, max_value=policy.longest)
        next(waits)  # backoff's generators say nothing at first
        yield from waits
    yield policy.first
    elapsed = 0.0
    while True:
        pause = next((p for until, p in policy.steps if elapsed < until), policy.steps[-1][1])
        elapsed += pause
        yield pause


class _Watched:
    """A task that at least one waiter is looking at."""

    __slots__ = ("failures", "pauses", "poll", "record", "rung", "task_id", "ticket", "watches")

    def __init__(self, task_id: str, policy: PollPolicy) -> None:
        self.task_id = task_id
        self.watches: set[Watch] = set()
        self.pauses = cadence(policy)
        self.record: TaskRecord | None = None
        self.failures = 0
        self.poll: asyncio.Task[None] | None = None
        self.ticket = 0
        self.rung = False


class Poller:
    """Asks for all waiting tasks of one client.

    Args:
        fetch: Asks once for one task; raises a `TopazError`.
        limiter: The account's quota for questions.
        policy: Cadence, error budget and bounds.
        on_record: Called with each changed record, waiters or not.
        spread: Returns a random number from 0 to 1, for the jitter.
    """

    def __init__(
        self,
        fetch: Callable[[str], Awaitable[TaskRecord]],
        limiter: Limiter,
        policy: PollPolicy,
        *,
        on_record: Callable[[TaskRecord], None] = lambda record: None,
        spread: Callable[[], float] = random.random,
    ) -> None:
        self._fetch = fetch
        self._limiter = limiter
        self._policy = policy
        self._on_record = on_record
        self._spread = spread
        self._watched: dict[str, _Watched] = {}
        self._schedule: list[tuple[float, int, _Watched]] = []
        self._tickets = itertools.count(1)
        self._permits = asyncio.Semaphore(policy.in_flight)
        #: When each task was last known to exist, oldest first, on the loop's clock.
        self._evidence: OrderedDict[str, float] = OrderedDict()
        self._last_success = float("-inf")
        self._wake: asyncio.Future[None] | None = None
        self._runner: asyncio.Task[None] | None = None
        self._polls: set[asyncio.Task[None]] = set()
        self._strange: set[str] = set()
        self._closed = False

    # -- for waiters ------------------------------------------------------------------------

    async def wait(
        self, task_id: str, *, timeout: float | None, on_update: OnUpdate | None = None
    ) -> TaskRecord:
        """Return the task's last record, whether success or fail.

        Raises:
            WaitTimeoutError: After `timeout` seconds.
            TopazError: What ended the wait.
        """
        teller = Teller(on_update) if on_update is not None else None
        try:
            record: TaskRecord | None = None
            async for record in self.follow(task_id, timeout=timeout):
                if teller is not None:
                    teller.tell(record)
            assert record is not None
            if teller is not None:
                await teller.finish(_LAST_WORD)
            return record
        finally:
            if teller is not None:
                teller.cancel()

    async def follow(
        self, task_id: str, *, timeout: float | None, min_interval: float = 0.0
    ) -> AsyncGenerator[TaskRecord, None]:
        """Yield each changed record, the terminal one last.

        Between two records at least `min_interval` seconds pass; changes in between are left
        out, but the terminal record comes at once.
        """
        loop = asyncio.get_running_loop()
        deadline = None if timeout is None else loop.time() + timeout
        seen: TaskRecord | None = None
        not_before = float("-inf")
        with self._watch(task_id) as watch:
            while True:
                try:
                    async with asyncio.timeout_at(deadline):
                        await watch.news(seen)
                        if loop.time() < not_before and not watch.has_ended:
                            await _before(not_before, watch.end())
                        seen = await watch.news(seen)
                except TimeoutError:
                    if not watch.has_ended:
                        raise self._timed_out(task_id, timeout, watch.record) from None
                    seen = watch.record
                assert seen is not None
                yield seen
                if seen.state.is_terminal:
                    return
                not_before = loop.time() + min_interval

    def exists(self, task_id: str) -> None:
        """Take note that the service has the task: it was just made, or a journal says so."""
        self._evidence[task_id] = asyncio.get_running_loop().time()
        self._evidence.move_to_end(task_id)
        horizon = self._evidence[task_id] - max(self._policy.grace, self._policy.longest)
        while self._evidence and next(iter(self._evidence.values())) < horizon:
            self._evidence.popitem(last=False)

    def ring(self, task_id: str) -> bool:
        """Ask for the task now; False when nobody waits for it."""
        watched = self._watched.get(task_id)
        if watched is None:
            return False
        if watched.poll is not None:
            watched.rung = True
        else:
            self._plan(watched, asyncio.get_running_loop().time())
        return True

    @property
    def waiting(self) -> int:
        """How many tasks are waited for."""
        return len(self._watched)

    async def aclose(self) -> None:
        """End every wait with `ClientClosedError` and leave nothing behind; twice is fine."""
        self._closed = True
        for watched in list(self._watched.values()):
            self._end(watched, self._closed_error(watched.task_id))
        tasks = [task for task in (self._runner, *self._polls) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # -- the schedule -----------------------------------------------------------------------

    @contextmanager
    def _watch(self, task_id: str) -> Iterator[Watch]:
        if self._closed:
            raise self._closed_error(task_id)
        now = asyncio.get_running_loop().time()
        watched = self._watched.get(task_id)
        if watched is None:
            if not self._watched:
                self._last_success = now
            watched = self._watched[task_id] = _Watched(task_id, self._policy)
            first = next(watched.pauses)
            self._plan(watched, max(now, self._evidence.get(task_id, now - first) + first))
        watch = Watch(watched.record)
        watched.watches.add(watch)
        if self._runner is None or self._runner.done():
            self._runner = asyncio.create_task(self._run(), name="topaz_async poller")
        try:
            yield watch
        finally:
            watched.watches.discard(watch)
            if not watched.watches and self._watched.get(task_id) is watched:
                self._drop(watched)
                if watched.poll is not None:
                    watched.poll.cancel()

    def _plan(self, watched: _Watched, due: float) -> None:
        watched.ticket = next(self._tickets)
        heapq.heappush(self._schedule, (due, watched.ticket, watched))
        self._nudge()

    def _drop(self, watched: _Watched) -> None:
        del self._watched[watched.task_id]
        watched.ticket = 0
        self._nudge()

    def _nudge(self) -> None:
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)

    async def _run(self) -> None:
        """Start polls, earliest due first, as quota and bounds allow."""
        while self._watched:
            await self._until_due()
            if not self._watched:
                break
            await self._permits.acquire()
            try:
                await self._limiter.__aenter__()
            except BaseException:
                self._permits.release()
                raise
            watched = self._take_due()
            if watched is None:  # its waiters left while the slot was awaited
                await self._limiter.__aexit__(None, None, None)
                self._permits.release()
                continue
            watched.poll = asyncio.create_task(self._look(watched), name="topaz_async poll")
            self._polls.add(watched.poll)
            watched.poll.add_done_callback(self._polls.discard)

    async def _until_due(self) -> None:
        loop = asyncio.get_running_loop()
        while self._watched:
            while self._schedule and self._schedule[0][1] != self._schedule[0][2].ticket:
                heapq.heappop(self._schedule)
            if self._schedule and self._schedule[0][0] <= loop.time() + _SOON:
                return
            self._wake = loop.create_future()
            timer = loop.call_at(self._schedule[0][0], self._nudge) if self._schedule else None
            try:
                await self._wake
            finally:
                self._wake = None
                if timer is not None:
                    timer.cancel()

    def _take_due(self) -> _Watched | None:
        soon = asyncio.get_running_loop().time() + _SOON
        while self._schedule and self._schedule[0][0] <= soon:
            _, ticket, watched = heapq.heappop(self._schedule)
            if ticket == watched.ticket:
                return watched
        return None

    # -- one look ---------------------------------------------------------------------------

    async def _look(self, watched: _Watched) -> None:
        try:
            try:
                record = await self._fetch(watched.task_id)
            finally:
                watched.poll = None
                await self._limiter.__aexit__(None, None, None)
                self._permits.release()
        except TopazError as error:
            self._failed(watched, error)
        except Exception as error:  # a defect of ours must end the wait, not hang it
            _log.exception("Polling failed in an unforeseen way.")
            unforeseen = TopazError(f"Polling failed: {type(error).__name__}.", billed="unknown")
            self._end(watched, unforeseen.about(task_id=watched.task_id))
        else:
            self._seen(watched, record)

    def _seen(self, watched: _Watched, record: TaskRecord) -> None:
        self._last_success = asyncio.get_running_loop().time()
        self.exists(watched.task_id)
        watched.failures = 0
        if not record.state.is_known and record.state not in self._strange:
            self._strange.add(record.state)
            _log.warning("Unknown task state %r; polling goes on.", str(record.state))
        if record != watched.record:
            watched.record = record
            self._on_record(record)
            for watch in tuple(watched.watches):
                watch.tell(record)
        if self._watched.get(watched.task_id) is not watched:
            return
        if record.state.is_terminal:
            self._drop(watched)
        else:
            self._plan_next(watched)

    def _failed(self, watched: _Watched, error: TopazError) -> None:
        if self._watched.get(watched.task_id) is not watched:
            return
        now = asyncio.get_running_loop().time()
        known_at = self._evidence.get(watched.task_id)
        if isinstance(error, TaskNotFoundError):
            if known_at is None or now - known_at > self._policy.grace:
                self._end(watched, error)
                return
        else:
            watched.failures += 1
            spent = (
                watched.failures >= self._policy.failures
                and now - self._last_success >= self._policy.outage
            )
            fatal = isinstance(error, AuthenticationError) and error.code == 401
            if spent or fatal:
                self._end(
                    watched,
                    error.about(task_id=watched.task_id, billed=self._billed(watched.task_id)),
                )
                return
        if isinstance(error, RateLimitError):
            asked = _QUOTA_PAUSE if error.retry_after is None else error.retry_after
            self._limiter.pause(min(asked, _LONGEST_PAUSE))
        _log.info("A poll of task %s failed and will be repeated: %s", watched.task_id, error)
        self._plan_next(watched)

    def _plan_next(self, watched: _Watched) -> None:
        pause = next(watched.pauses)
        if watched.rung:
            watched.rung, pause = False, 0.0
        jitter = 1.0 + self._policy.jitter * (2.0 * self._spread() - 1.0)
        self._plan(watched, asyncio.get_running_loop().time() + pause * jitter)

    def _end(self, watched: _Watched, error: TopazError) -> None:
        self._drop(watched)
        for watch in tuple(watched.watches):
            watch.tell(None, error)

    def _billed(self, task_id: str) -> Billed:
        return "yes" if task_id in self._evidence else "unknown"

    def _closed_error(self, task_id: str) -> ClientClosedError:
        return ClientClosedError(
            "The client was closed while a task was waited for.",
            task_id=task_id,
            billed=self._billed(task_id),
            hint=f"The task goes on: a new client's wait_for_result({task_id!r}) gets its result.",
        )

    def _timed_out(
        self, task_id: str, timeout: float | None, record: TaskRecord | None
    ) -> WaitTimeoutError:
        state = f"was {str(record.state)!r}" if record is not None else "was not seen yet"
        error = WaitTimeoutError(
            f"Task {task_id} did not end within {timeout:g} s; it {state}.",
            task_id=task_id,
            retryable=True,
            billed=self._billed(task_id),
            hint=f"It goes on at the service: wait_for_result({task_id!r}) waits again.",
        )
        error.record = record
        return error


async def _before(moment: float, until: Awaitable[None]) -> None:
    """Await something at most until a moment of the loop's clock."""
    limit = asyncio.timeout_at(moment)
    try:
        async with limit:
            await until
    except TimeoutError:
        if not limit.expired():
            raise
