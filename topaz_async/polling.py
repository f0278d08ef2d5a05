"""One schedule for all waiting tasks: ask, back off, stop at the deadline, wake at the doorbell."""

from __future__ import annotations

import asyncio
import logging
import math
import random
from collections.abc import AsyncGenerator, Awaitable, Callable

from .doorbell import NoDoorbell
from .errors import (
    AuthenticationError,
    Billed,
    ClientClosedError,
    RateLimitError,
    TaskNotFoundError,
    TopazError,
    WaitTimeoutError,
)
from .experience import Experience
from .models import TaskRecord
from .ports import Doorbell, Limiter
from .schedule import AT_ONCE, Age, Agenda, Pause, Schedule, plain_pauses
from .settings import PollPolicy
from .survival import Durations, Traits
from .telling import Teller
from .watching import OnUpdate, Watch

__all__ = ["Poller"]

_log = logging.getLogger("topaz_async")

#: Seconds that all polls pause after a 429 without Retry-After.
_QUOTA_PAUSE = 1.0
_LONGEST_PAUSE = 60.0
#: Looks that are due within this share of the policy's longest pause leave together: a loop that
#: wakes for eight at once spends about two thirds of the time on each.
_TOGETHER = 0.02
#: Timers may fire a little early, in seconds.
_TICK = 0.001


class _Watched:
    """A task that at least one waiter is looking at."""

    __slots__ = (
        "age", "failures", "pauses", "poll", "record", "rested", "rung", "task_id", "watches",
    )  # fmt: skip

    def __init__(self, task_id: str, age: Age) -> None:
        self.task_id = task_id
        self.age = age
        self.watches: list[Watch] = []
        #: How many pauses of the plain cadence lie behind it.
        self.pauses = 0
        self.record: TaskRecord | None = None
        self.failures = 0
        self.poll: asyncio.Task[None] | None = None
        self.rung = False
        #: Whether its next look was put off, for its callback is relied on.
        self.rested = False


class Poller:
    """Asks for all waiting tasks of one client.

    Args:
        fetch: Asks once for one task; raises a `TopazError`.  It gets the last record as well,
            and may return that very one when nothing has changed.
        limiter: The account's quota for questions.
        policy: Cadence, error budget and bounds.
        rate: Looks a second that the quota allows; None for any number.
        durations: What is known of how long tasks take; learns from each task that ends.
        doorbell: Knows of callbacks; None when none come.
        on_record: Called with each changed record, waiters or not.
        spread: Returns a random number from 0 to 1, for the jitter.
    """

    def __init__(
        self,
        fetch: Callable[[str, TaskRecord | None], Awaitable[TaskRecord]],
        limiter: Limiter,
        policy: PollPolicy,
        *,
        rate: float | None = None,
        durations: Durations | None = None,
        doorbell: Doorbell | None = None,
        on_record: Callable[[TaskRecord], None] = lambda record: None,
        spread: Callable[[], float] = random.random,
    ) -> None:
        self._fetch = fetch
        self._limiter = limiter
        self._policy = policy
        self._on_record = on_record
        self._spread = spread
        self._watched: dict[str, _Watched] = {}
        self._plain = plain_pauses(policy)
        self._together = max(_TICK, _TOGETHER * policy.longest)
        self._schedule = Schedule(policy=policy, rate=rate)
        self._agenda: Agenda[_Watched] = Agenda(self._schedule.patience)
        self._experience = Experience(Durations() if durations is None else durations)
        self._doorbell: Doorbell = NoDoorbell() if doorbell is None else doorbell
        self._permits = asyncio.Semaphore(policy.in_flight)
        self._last_success = float("-inf")
        self._wake: asyncio.Future[None] | None = None
        self._wakes_at = math.inf
        self._runner: asyncio.Task[None] | None = None
        self._polls: set[asyncio.Task[None]] = set()
        self._strange: set[str] = set()
        self._closed = False
        #: Questions asked so far.
        self.looks = 0

    # -- for waiters ------------------------------------------------------------------------

    async def wait(
        self, task_id: str, *, timeout: float | None, on_update: OnUpdate | None = None
    ) -> TaskRecord:
        """Return the task's last record, whether success or fail.

        Raises:
            WaitTimeoutError: After `timeout` seconds.
            TopazError: What ended the wait.
        """
        teller = Teller(on_update, "on_update") if on_update is not None else None
        watch = self._join(task_id, timeout, None if teller is None else teller.tell)
        try:
            record = await watch.last()
            if teller is not None:
                await teller.finish()
            return record
        except TimeoutError:
            if not watch.is_late:
                raise
            raise self._timed_out(task_id, timeout, watch.record) from None
        finally:
            self._leave(task_id, watch)
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
        watch = self._join(task_id, timeout)
        try:
            record = await watch.news(None)
            while not record.state.is_terminal:
                yield record
                if min_interval > 0:
                    await watch.end(before=loop.time() + min_interval)
                record = await watch.news(record)
            yield record
        except TimeoutError:
            if not watch.is_late:
                raise
            raise self._timed_out(task_id, timeout, watch.record) from None
        finally:
            self._leave(task_id, watch)

    def exists(self, task_id: str) -> None:
        """Take note that the service has the task: it was just made, or a journal says so."""
        self._experience.exists(task_id, asyncio.get_running_loop().time())

    def made(self, task_id: str, traits: Traits, *, ago: float = 0.0) -> None:
        """Take note of a task of our own: what is known of it, and that it was made just now.

        Args:
            task_id: The task's id.
            traits: What may tell how long it takes.
            ago: Seconds since it was made.
        """
        now = asyncio.get_running_loop().time()
        self._experience.made(task_id, traits, born=now - ago, now=now)

    def ring(self, task_id: str) -> bool:
        """Ask for the task now; False when nobody waits for it."""
        watched = self._watched.get(task_id)
        if watched is None:
            return False
        self.exists(task_id)
        watched.pauses = 0
        if watched.poll is not None:
            watched.rung = True
        else:
            self._plan(watched, AT_ONCE)
        return True

    def wake(self) -> None:
        """Look at every task that rests: callbacks are relied on no longer."""
        for watched in self._watched.values():
            if watched.rested and watched.poll is None:
                self._plan(watched, Pause(0.0, 0.0))

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

    def _join(
        self,
        task_id: str,
        timeout: float | None,
        on_news: Callable[[TaskRecord], None] | None = None,
    ) -> Watch:
        if self._closed:
            raise self._closed_error(task_id)
        now = asyncio.get_running_loop().time()
        end = self._experience.end_of(task_id, now)
        if end is not None:
            return Watch(end, on_news)
        watched = self._watched.get(task_id)
        if watched is None:
            if not self._watched:
                self._last_success = now
            watched = self._watched[task_id] = self._begin(task_id, now)
        watch = Watch(watched.record, on_news)
        watched.watches.append(watch)
        if timeout is not None:
            watch.expire_at(now + timeout)
        if self._runner is None or self._runner.done():
            self._runner = asyncio.create_task(self._run(), name="topaz_async poller")
        return watch

    def _leave(self, task_id: str, watch: Watch) -> None:
        watch.close()
        watched = self._watched.get(task_id)
        if watched is None or watch not in watched.watches:
            return
        watched.watches.remove(watch)
        if not watched.watches:
            self._drop(watched)
            if watched.poll is not None:
                # Not at once: a task that is cancelled before its first step never runs, and
                # would keep the permit and the slot that were taken for it.
                asyncio.get_running_loop().call_soon(watched.poll.cancel)

    def _begin(self, task_id: str, now: float) -> _Watched:
        known = self._experience.of(task_id)
        born = now if known is None or known.born is None else known.born
        watched = _Watched(task_id, Age(born))
        plain = self._next_plain(watched)
        if self._doorbell.has_rung(task_id) or (known is not None and known.has_ended):
            self._plan(watched, AT_ONCE)
        elif known is None:  # it may have ended long ago
            self._plan(watched, Pause(0.0, 0.0))
        else:
            pause = self._pause(watched, plain, known.seen, 0.5)
            if known.seen == known.born:  # it was made just now: nobody can have missed its end
                pause = self._rest(watched, pause)
            self._plan(watched, pause, since=known.seen)
        return watched

    def _next_plain(self, watched: _Watched) -> float:
        """Return the next pause of the plain cadence."""
        plain = self._plain[min(watched.pauses, len(self._plain) - 1)]
        watched.pauses += 1
        return plain

    def _plan(self, watched: _Watched, pause: Pause, *, since: float | None = None) -> None:
        now = asyncio.get_running_loop().time()
        if since is not None and since < now:
            ago = now - since
            pause = Pause(max(pause.soonest - ago, 0.0), pause.due - ago, pause.rests)
        self._agenda.plan(watched, pause, now=now)
        self._nudge()

    def _pause(self, watched: _Watched, plain: float, now: float, spread: float) -> Pause:
        """Return the pause after a look (or submit) at `now`."""
        known = self._experience.of(watched.task_id)
        traits = Traits() if known is None else known.traits
        estimate, is_of_work = self._experience.estimate(watched.age, traits)
        if self._doorbell.has_rung(watched.task_id):
            estimate = None  # it has ended, however long its like take
        return self._schedule.pause(
            watched.age.elapsed(now, working=is_of_work),
            plain=plain,
            pending=len(self._watched),
            estimate=estimate,
            spread=spread,
        )

    def _rest(self, watched: _Watched, pause: Pause) -> Pause:
        """Return a longer pause while the task's callback is relied on."""
        seconds = self._doorbell.rest(watched.task_id)
        watched.rested = seconds > 0.0
        if not watched.rested:
            return pause
        return self._schedule.rest(pause, seconds, spread=self._spread())

    def _drop(self, watched: _Watched) -> None:
        del self._watched[watched.task_id]
        self._agenda.drop(watched)
        self._nudge()

    def _nudge(self) -> None:
        """Wake the runner if it would sleep longer than it may now."""
        if self._wake is None or self._wake.done():
            return
        turn = self._agenda.next(len(self._watched))
        if not self._watched or (turn is not None and turn < self._wakes_at):
            self._wake.set_result(None)

    def _rouse(self) -> None:
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
            self.looks += 1
            watched.poll = asyncio.create_task(self._look(watched), name="topaz_async poll")
            self._polls.add(watched.poll)
            watched.poll.add_done_callback(self._polls.discard)

    async def _until_due(self) -> None:
        loop = asyncio.get_running_loop()
        while self._watched:
            turn = self._agenda.next(len(self._watched))
            if turn is not None and turn <= loop.time() + self._together:
                return
            self._wake = loop.create_future()
            self._wakes_at = math.inf if turn is None else turn
            timer = loop.call_at(turn, self._rouse) if turn is not None else None
            try:
                await self._wake
            finally:
                self._wake = None
                if timer is not None:
                    timer.cancel()

    def _take_due(self) -> _Watched | None:
        soon = asyncio.get_running_loop().time() + self._together
        return self._agenda.take(soon, len(self._watched))

    # -- one look ---------------------------------------------------------------------------

    async def _look(self, watched: _Watched) -> None:
        try:
            try:
                record = await self._fetch(watched.task_id, watched.record)
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
        if record is not watched.record and record != watched.record:
            watched.record = record
            self._on_record(record)
            for watch in tuple(watched.watches):
                watch.tell(record)
        if self._watched.get(watched.task_id) is not watched:
            return
        now = self._last_success
        if record.state.is_terminal:
            self._experience.ended(record, watched.age, now)
            self._doorbell.ended(watched.task_id)
            self._drop(watched)
        else:
            watched.age.saw(now, queued=record.state.is_queued)
            self._plan_next(watched, may_rest=True)

    def _failed(self, watched: _Watched, error: TopazError) -> None:
        if self._watched.get(watched.task_id) is not watched:
            return
        now = asyncio.get_running_loop().time()
        if watched.rested:  # nobody has looked for long: grace and outage count from now
            watched.rested = False
            self._last_success = now
            self.exists(watched.task_id)
        known = self._experience.of(watched.task_id)
        if isinstance(error, TaskNotFoundError):
            if known is None or now - known.seen > self._policy.grace:
                self._end(watched, error.about(billed=self.billed(watched.task_id)))
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
                    error.about(task_id=watched.task_id, billed=self.billed(watched.task_id)),
                )
                return
        if isinstance(error, RateLimitError):
            asked = _QUOTA_PAUSE if error.retry_after is None else error.retry_after
            self._limiter.pause(min(asked, _LONGEST_PAUSE))
        _log.info("A poll of task %s failed and will be repeated: %s", watched.task_id, error)
        self._plan_next(watched)

    def _plan_next(self, watched: _Watched, *, may_rest: bool = False) -> None:
        plain = self._next_plain(watched)
        if watched.rung:
            watched.rung = False
            self._plan(watched, AT_ONCE)
            return
        now = asyncio.get_running_loop().time()
        pause = self._pause(watched, plain, now, self._spread())
        self._plan(watched, self._rest(watched, pause) if may_rest else pause)

    def _end(self, watched: _Watched, error: TopazError) -> None:
        self._drop(watched)
        for watch in tuple(watched.watches):
            watch.fail(error)

    def billed(self, task_id: str) -> Billed:
        """Whether a task certainly exists: this client made it, or has seen it."""
        return "unknown" if self._experience.of(task_id) is None else "yes"

    def _closed_error(self, task_id: str) -> ClientClosedError:
        return ClientClosedError(
            "The client was closed while a task was waited for.",
            task_id=task_id,
            billed=self.billed(task_id),
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
            billed=self.billed(task_id),
            hint=f"It goes on at the service: wait_for_result({task_id!r}) waits again.",
        )
        error.record = record
        return error
