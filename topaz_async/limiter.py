"""Admit at most N exchanges in any window of T seconds, as the other side sees them arrive."""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections import deque
from types import TracebackType

__all__ = ["SlidingWindow"]

#: After a pause half of the slots are held back, and this share of all returns each window.
_RETURNS = 0.25


class SlidingWindow:
    """A sliding log of exchanges: first come, first served, bursts welcome.

    A slot is taken when a request leaves and is free again one window after its exchange has
    *ended*.  The request arrived at some moment in between, so no window of the other side's
    clock ever holds more than `limit` arrivals, however long they travelled.

    A pause says that the other side counts differently, or that others use the same quota: after
    it half of the slots come back at once and the rest by and by.

        async with limiter:
            answer = await exchange()

    Args:
        limit: Slots; None admits everybody at once.
        window: Seconds.
    """

    def __init__(self, limit: int | None, window: float) -> None:
        self._limit = limit
        self._free = limit
        #: Slots held back when the last pause ends.
        self._held = 0
        self._window = window
        self._cooling: deque[float] = deque()
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._paused_until = float("-inf")
        self._timer: asyncio.TimerHandle | None = None

    async def __aenter__(self) -> None:
        loop = asyncio.get_running_loop()
        self._collect(loop.time())
        if not self._waiting and self._is_open(loop.time()):
            self._take()
            return
        turn = loop.create_future()
        self._waiting.append(turn)
        self._arm(loop)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.cancelled():
                # A slot that became free meanwhile may have passed it over already.
                with contextlib.suppress(ValueError):
                    self._waiting.remove(turn)
            elif self._free is not None:  # admitted in the very moment of the cancellation
                self._free += 1
            self._admit(loop.time())
            raise

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._free is not None:
            self._cooling.append(asyncio.get_running_loop().time() + self._window)
            self._arm(asyncio.get_running_loop())

    def pause(self, seconds: float) -> None:
        """Admit nobody for so many seconds from now; a longer pause under way stays."""
        now = asyncio.get_running_loop().time()
        if self._limit is not None and now >= self._paused_until:  # many learn of it at once
            allowed = self._limit - self._held_at(now)
            self._held = self._limit - max(allowed // 2, 1)
        self._paused_until = max(self._paused_until, now + seconds)

    @property
    def waiting(self) -> int:
        """How many wait for a slot."""
        return len(self._waiting)

    def close(self) -> None:
        """Let go of the timer; whoever still waits is cancelled by its own task."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _is_open(self, now: float) -> bool:
        return now >= self._paused_until and (self._free is None or self._free > self._held_at(now))

    def _held_at(self, now: float) -> int:
        """Return how many slots are still held back."""
        if not self._held or now < self._paused_until:
            return self._held
        assert self._limit is not None
        windows = math.floor((now - self._paused_until) / self._window + 1e-9)
        return max(self._held - windows * math.ceil(_RETURNS * self._limit), 0)

    def _next_return(self, now: float) -> float:
        """Return the moment at which more slots come back; infinite when none are held back."""
        if not self._held_at(now):
            return math.inf
        windows = math.floor((now - self._paused_until) / self._window + 1e-9) + 1
        return self._paused_until + windows * self._window

    def _take(self) -> None:
        if self._free is not None:
            self._free -= 1

    def _collect(self, now: float) -> None:
        while self._cooling and self._cooling[0] <= now:
            self._cooling.popleft()
            assert self._free is not None
            self._free += 1

    def _admit(self, now: float) -> None:
        self.close()
        self._collect(now)
        while self._waiting and self._is_open(now):
            turn = self._waiting.popleft()
            if not turn.done():
                self._take()
                turn.set_result(None)
        self._arm(asyncio.get_running_loop())

    def _arm(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._timer is not None or not self._waiting:
            return
        moment = max(self._paused_until, loop.time())
        if not self._is_open(moment):
            frees = self._cooling[0] if self._cooling else math.inf
            moment = max(moment, min(frees, self._next_return(moment)))
            if math.isinf(moment):
                return  # every slot is in use; the next exit arms
        self._timer = loop.call_at(moment, self._fire, moment)

    def _fire(self, moment: float) -> None:
        # A timer may fire a clock's tick early; its moment has come all the same.
        self._timer = None
        self._admit(max(moment, asyncio.get_running_loop().time()))
