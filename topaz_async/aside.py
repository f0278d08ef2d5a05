"""Do pieces of work in a thread, one after the other, while the loop brings more."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable
from contextlib import suppress

__all__ = ["Aside"]

#: Seconds for which the thread waits for more.  It ends then, and the next piece starts another.
LINGER = 0.05


class Aside:
    """One thread for one stream of work; it starts with the first piece.

    A call to a thread costs a way there and a way back, and both wait for Python's lock.  Here
    the thread stays as long as work comes, and wakes the loop only when the loop waits for it.

    Args:
        most: Pieces that may be undone when `put` returns.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._queue: queue.SimpleQueue[Callable[[], object]] = queue.SimpleQueue()
        # Held by the thread as long as it runs: who gets it without waiting starts the thread.
        self._baton = threading.Lock()
        self._sent = self._done = 0
        self._wake: asyncio.Future[None] | None = None
        #: What the first piece that failed raised; nothing is done after it.
        self.failure: Exception | None = None

    async def put(self, work: Callable[[], object]) -> None:
        """Let a piece be done after all others; return when few enough are undone.

        Raises:
            RuntimeError: No thread can be started.
        """
        self._queue.put(work)
        if self._baton.acquire(blocking=False):
            try:
                threading.Thread(target=self._run, name="topaz-aside").start()
            except RuntimeError:
                self._queue.get_nowait()
                self._baton.release()
                raise
        self._sent += 1
        await self._until(self._sent - self._most)

    async def end(self) -> None:
        """Return when all is done; a cancelled caller too, for a thread cannot be stopped."""
        cancelled: asyncio.CancelledError | None = None
        while self._done < self._sent:
            try:
                await self._until(self._sent)
            except asyncio.CancelledError as error:
                cancelled = error
        if cancelled is not None:
            raise cancelled

    async def _until(self, count: int) -> None:
        loop = asyncio.get_running_loop()
        while self._done < count:
            self._wake = wake = loop.create_future()
            if self._done < count:  # else it was done before there was anybody to wake
                await wake

    def _run(self) -> None:
        while True:
            try:
                work = self._queue.get(timeout=LINGER)
            except queue.Empty:
                self._baton.release()
                # What came after the last look and before the release started no thread.
                if self._queue.empty() or not self._baton.acquire(blocking=False):
                    return
                continue
            if self.failure is None:
                try:
                    work()
                except Exception as error:
                    self.failure = error.with_traceback(None)  # its frames hold all of this
            self._done += 1
            wake = self._wake
            if wake is not None and not wake.done():
                with suppress(RuntimeError):  # the loop was closed
                    wake.get_loop().call_soon_threadsafe(_rouse, wake)


def _rouse(wake: asyncio.Future[None]) -> None:
    if not wake.done():
        wake.set_result(None)
