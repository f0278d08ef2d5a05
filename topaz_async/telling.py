"""Call a caller's function about the work under way, and never let it disturb the work."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Final, Generic, TypeVar

__all__ = ["LAST_WORD", "Teller"]

_log = logging.getLogger("topaz_async")

#: Seconds that work which has ended grants a coroutine function that has not.
LAST_WORD: Final = 1.0

News = TypeVar("News")


class Teller(Generic[News]):
    """Calls a plain function at once, and a coroutine function beside the work.

    A coroutine function is called again when its last call has ended, with the newest news:
    what came in between is left out.  What the function raises is logged, once.

    Args:
        function: The caller's.
        name: What the caller knows it by, for the log: "on_update".
    """

    def __init__(self, function: Callable[[News], Any], name: str) -> None:
        self._function = function
        self._name = name
        self._waiting: list[News] = []
        self._task: asyncio.Task[None] | None = None
        self._has_failed = False

    def tell(self, news: News) -> None:
        """Hand in news; never raises."""
        if self._task is not None and not self._task.done():
            self._waiting = [news]
        elif (outcome := self._call(news)) is not None:
            self._task = asyncio.create_task(self._await(outcome), name=f"topaz_async {self._name}")

    def _call(self, news: News) -> Awaitable[Any] | None:
        try:
            outcome = self._function(news)
        except (Exception, asyncio.CancelledError):  # nobody can cancel a plain function
            self._failed()
            return None
        # Not whatever can be awaited: a function may return the very job that it was told of.
        return outcome if isinstance(outcome, Coroutine | asyncio.Future) else None

    async def _await(self, outcome: Awaitable[Any] | None) -> None:
        while True:
            if outcome is not None:
                try:
                    await outcome
                except asyncio.CancelledError:
                    task = asyncio.current_task()
                    if task is not None and task.cancelling():
                        raise
                    self._failed()  # what it awaited was cancelled, not this
                except Exception:
                    self._failed()
            if not self._waiting:
                return
            outcome = self._call(self._waiting.pop())

    def _failed(self) -> None:
        if not self._has_failed:
            self._has_failed = True
            _log.exception("%s failed; the work goes on.", self._name)

    async def finish(self, seconds: float | None = LAST_WORD) -> None:
        """Let the last call end, within so many seconds; None sets no bound.  Then `cancel`."""
        if self._task is not None:
            await asyncio.wait([self._task], timeout=seconds)
            if not self._task.done():
                _log.warning(
                    "%s did not return within %g s and was cancelled.", self._name, seconds
                )

    def cancel(self) -> None:
        """Cut short what is still being called."""
        if self._task is not None:
            self._task.cancel()
