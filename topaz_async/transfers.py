"""What uploads and downloads have in common: progress."""

from __future__ import annotations

import asyncio
import inspect
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

import attrs

from .telling import Teller

__all__ = ["Meter", "OnProgress", "Progress", "Together"]

#: Calls a second at most, the last one included.
_CALLS = 20
#: Seconds over which the rate is taken.
_WINDOW = 3.0

_PLACED = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


@attrs.frozen
class Progress:
    """How far an upload or a download is."""

    #: Bytes moved so far; the last call says the whole.
    bytes: int
    #: Bytes in all; None while nobody knows.
    total: int | None
    #: Bytes a second, over the last three seconds; 0 as long as there is nothing to tell it by.
    rate: float = 0.0


#: Called with the `Progress` of a transfer, at most 20 times a second: a function or a
#: coroutine function.  One that asks for two arguments gets (bytes, total).
OnProgress = Callable[[Progress], Any] | Callable[[int, int | None], Any]


@attrs.define
class Together:
    """One caller's function for transfers that follow each other; it is not called more often."""

    on_progress: OnProgress
    #: Whether the transfer is the last of them, of which the end is told in any case.
    is_last: bool = False
    #: The moment from which on it may be called again.
    next: float = float("-inf")


class Meter:
    """Tells a caller how far a transfer is, not more often than anybody can look.

    `async with` it around all attempts at the transfer; `begin` each of them, and call `end` when
    the transfer as a whole is done.
    """

    _INTERVAL = 1 / (_CALLS - 1)

    def __init__(self, told: OnProgress | Together | None) -> None:
        self._teller: Teller[Progress] | None = None
        if told is not None:
            told = told if isinstance(told, Together) else Together(told, is_last=True)
            self._together = told
            self._teller = Teller(_of_progress(told.on_progress), "on_progress")
        self._total: int | None = None
        self._told: int | None = None
        #: Moments and bytes, oldest first.
        self._marks: deque[tuple[float, int]] = deque()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._teller is not None:
            try:
                if kind is None:
                    await self._teller.finish()
            finally:
                self._teller.cancel()

    def begin(self, total: int | None, done: int = 0) -> None:
        """Begin an attempt, with so many bytes there already."""
        if self._teller is not None:
            self._total, self._told = total, None
            self._marks = deque([(_now(), done)])

    def __call__(self, done: int) -> None:
        """So many bytes have been moved."""
        if self._teller is not None and (now := _now()) >= self._together.next:
            self._tell(self._teller, now, done)

    def end(self, done: int) -> None:
        """The transfer is done, with so many bytes."""
        self._total = done
        if self._teller is not None and self._told != done:
            now = _now()
            if self._together.is_last or now >= self._together.next:
                self._tell(self._teller, now, done)

    def _tell(self, teller: Teller[Progress], now: float, done: int) -> None:
        self._together.next = now + self._INTERVAL
        marks = self._marks
        # One mark that is older than the window stays: a rate is taken over no less.
        while len(marks) > 1 and marks[1][0] <= now - _WINDOW:
            marks.popleft()
        since, before = marks[0] if marks else (now, done)
        marks.append((now, done))
        self._told = None if self._total is None else done
        rate = (done - before) / (now - since) if now > since else 0.0
        teller.tell(Progress(done, self._total, rate))


def _of_progress(on_progress: Any) -> Callable[[Progress], Any]:
    """Return a function of one `Progress` for whatever the caller handed in."""
    try:
        parameters = list(inspect.signature(on_progress).parameters.values())
    except (TypeError, ValueError):  # a function of C without a signature
        parameters = []
    required = [each for each in parameters if each.kind in _PLACED and each.default is each.empty]
    if len(required) != 2:
        return on_progress  # type: ignore[no-any-return]
    return lambda progress: on_progress(progress.bytes, progress.total)


def _now() -> float:
    return asyncio.get_running_loop().time()
