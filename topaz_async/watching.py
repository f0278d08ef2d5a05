"""What one waiter sees of a task."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from .errors import TopazError
from .models import TaskRecord

__all__ = ["OnUpdate", "Watch"]

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
