"""Verified callbacks on their way to whoever reads them."""

from __future__ import annotations

import asyncio
from collections import deque
from datetime import datetime
from typing import Self

import attrs

from .loops import call_on
from .models import TaskState

__all__ = ["CallbackEvent", "Events"]

#: Events that wait for a slow reader; the oldest go first.
_WAITING = 10_000


@attrs.frozen
class CallbackEvent:
    """A verified callback: the service says that a task has ended.

    The signature covers the task id and the time alone, so `state` is a claim: ask the service
    (`TopazClient.fetch_task`) before anything depends on it.
    """

    task_id: str
    #: The state that the body claims; None when it names none.
    state: TaskState | None
    #: Aware UTC, by this machine's clock.
    received_at: datetime


class Events:
    """The callbacks that one reader has not read yet."""

    def __init__(self) -> None:
        self._unread: deque[CallbackEvent] = deque(maxlen=_WAITING)
        self._wakes: set[asyncio.Future[None]] = set()

    def put(self, event: CallbackEvent) -> None:
        self._unread.append(event)
        for wake in tuple(self._wakes):
            call_on(wake.get_loop(), _set, wake)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> CallbackEvent:
        while not self._unread:
            wake = asyncio.get_running_loop().create_future()
            self._wakes.add(wake)
            try:
                if not self._unread:  # another thread may have put one meanwhile
                    await wake
            finally:
                self._wakes.discard(wake)
        return self._unread.popleft()


def _set(wake: asyncio.Future[None]) -> None:
    if not wake.done():
        wake.set_result(None)
