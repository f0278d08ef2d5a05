"""What one waiter sees of a task, and how its caller is told."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from .errors import TopazError
from .models import TaskRecord

__all__ = ["OnUpdate", "Teller", "Watch"]

_log = logging.getLogger("topaz_async")

#: Called with each changed record: a function or a coroutine function.
OnUpdate = Callable[[TaskRecord], Any]


class Watch:
    """One waiter's view of a task: the newest record, or the error that ended the watch.

    Args:
        record: What is known already.
        on_news: Called with each changed record at once, this one included.
    """

    __slots__ = ("_error", "_on_news", "_timer", "_wake", "is_late", "record")

    def __init__(
        self, record: TaskRecord | None, on_news: Callable[[TaskRecord], None] | None = None
    ) -> None:
        self.record = record
        #: The deadline has passed.
        self.is_late = False
        self._error: TopazError | None = None
        self._on_news = on_news
        self._timer: asyncio.TimerHandle | None = None
        self._wake: asyncio.Future[None] | None = None
        if record is not None and on_news is not None:
            on_news(record)

    @property
    def has_ended(self) -> bool:
        """Whether the newest record is the last one."""
        return self.record is not None and self.record.state.is_terminal

    def tell(self, record: TaskRecord) -> None:
        """Hand in news; what the waiter has not looked at yet is replaced."""
        self.record = record
        if self._on_news is not None:
            self._on_news(record)
        self._rouse()

    def fail(self, error: TopazError) -> None:
        """End the watch with an error."""
        self._error = error
        self._rouse()

    def expire_at(self, deadline: float) -> None:
        """End the watch at a moment of the loop's clock."""
        self._timer = asyncio.get_running_loop().call_at(deadline, self._expire)

    def _expire(self) -> None:
        self.is_late = True
        self._rouse()

    def close(self) -> None:
        """Let go of the timer."""
        if self._timer is not None:
            self._timer.cancel()

    def _rouse(self) -> None:
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)

    async def news(self, seen: TaskRecord | None) -> TaskRecord:
        """Return the newest record as soon as it is another than `seen`.

        Raises:
            TimeoutError: The deadline passed first.
        """
        while self.record is None or self.record is seen:
            await self._woken()
        self._check()
        return self.record

    async def last(self) -> TaskRecord:
        """Return the record with which the task ended; raises as `news` does."""
        while not self.has_ended:
            await self._woken()
        self._check()
        assert self.record is not None
        return self.record

    async def end(self, *, before: float) -> None:
        """Return as soon as the last record is there, or at a moment of the clock."""
        limit = asyncio.timeout_at(before)
        try:
            async with limit:
                await self.last()
        except TimeoutError:
            if not limit.expired():
                raise

    def _check(self) -> None:
        if self._error is not None:
            raise self._error.about()
        if self.is_late and not self.has_ended:
            raise TimeoutError

    def _woken(self) -> asyncio.Future[None]:
        """Return what ends when something happens; no coroutine, for thousands wait here."""
        self._check()
        self._wake = asyncio.get_running_loop().create_future()
        return self._wake


class Teller:
    """Calls an `on_update` beside the wait: the newest record, one call at a time."""

    def __init__(self, on_update: OnUpdate) -> None:
        self._on_update = on_update
        self._news: TaskRecord | None = None
        self._task: asyncio.Task[None] | None = None

    def tell(self, record: TaskRecord) -> None:
        self._news = record
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._call(), name="topaz_async on_update")

    async def _call(self) -> None:
        while self._news is not None:
            record, self._news = self._news, None
            try:
                outcome = self._on_update(record)
                if asyncio.iscoroutine(outcome) or isinstance(outcome, Awaitable):
                    await outcome
            except Exception:  # the caller's function: its failure is no failure of the task
                _log.exception("on_update failed; the wait goes on.")

    async def finish(self, seconds: float) -> None:
        """Let the last call end, within bounds."""
        if self._task is not None:
            await asyncio.wait([self._task], timeout=seconds)
            if not self._task.done():
                _log.warning("on_update did not return within %.0f s and was cancelled.", seconds)

    def cancel(self) -> None:
        if self._task is not None:
            self._task.cancel()
