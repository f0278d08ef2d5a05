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
    """One waiter's view of a task: the newest record, or the error that ended the watch."""

    __slots__ = ("_error", "_wake", "record")

    def __init__(self, record: TaskRecord | None) -> None:
        self.record = record
        self._error: TopazError | None = None
        self._wake: asyncio.Future[None] | None = None

    @property
    def has_ended(self) -> bool:
        """Whether the newest record is the last one."""
        return self.record is not None and self.record.state.is_terminal

    def tell(self, record: TaskRecord | None, error: TopazError | None = None) -> None:
        """Hand in news; what the waiter has not looked at yet is replaced."""
        self.record = record if record is not None else self.record
        self._error = error
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)

    async def news(self, seen: TaskRecord | None) -> TaskRecord:
        """Return the newest record as soon as it is another than `seen`."""
        while True:
            if self._error is not None:
                raise self._error.about()
            if self.record is not None and self.record is not seen:
                return self.record
            await self._woken()

    async def end(self, *, before: float) -> None:
        """Return as soon as the last record or an error is there, or at a moment of the clock."""
        limit = asyncio.timeout_at(before)
        try:
            async with limit:
                while self._error is None and not self.has_ended:
                    await self._woken()
        except TimeoutError:
            if not limit.expired():
                raise

    async def _woken(self) -> None:
        self._wake = asyncio.get_running_loop().create_future()
        try:
            await self._wake
        finally:
            self._wake = None


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
