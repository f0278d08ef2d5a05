"""Do pieces of work in a thread, one after the other, while the loop brings more."""

from __future__ import annotations

import asyncio
import functools
import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from typing import TypeVar

__all__ = ["Aside"]

T = TypeVar("T")

#: Seconds for which the thread waits for more.  It ends then, and the next piece starts another.
LINGER = 0.05


class Aside:
    """One thread for one stream of work; it starts with the first piece.

    A call to a thread costs a way there and a way back, and both wait for Python's lock.  Here
    the thread stays as long as work comes, and wakes the loop only when the loop waits for it.
    Where no thread can be started, work is done at once by whoever brings it.
    """

    def __init__(self) -> None:
        self._queue: queue.SimpleQueue[Callable[[], object]] = queue.SimpleQueue()
        # Held by the thread as long as it runs: who gets it without waiting starts the thread.
        self._baton = threading.Lock()
        self._sent = self._done = 0
        self._wake: asyncio.Future[None] | None = None
        #: What the first piece that failed raised; no other piece is done after it.
        self.failure: Exception | None = None
        self._is_dropped = False

    async def put(self, work: Callable[[], object], most: int = 0) -> None:
        """Let a piece be done after all others; return when no more than `most` are undone."""
        self._bring(functools.partial(self._try, work))
        await self._until(self._sent - most)

    async def do(self, work: Callable[[], T]) -> T:
        """Return what comes of work after all others, failed or not; or raise what it raises.

        A cancelled caller leaves when it has ended: a thread cannot be stopped, and what it makes
        can be taken away only once it is made.
        """
        outcome = Future[T]()
        self._bring(functools.partial(_fulfil, outcome, work))
        cancelled: asyncio.CancelledError | None = None
        while not self.is_idle:
            try:
                await self.end()
            except asyncio.CancelledError as error:
                cancelled = error
        try:
            if cancelled is not None:
                raise cancelled
            return outcome.result()
        finally:
            del outcome, cancelled  # an error's frames would hold it, and it them

    async def end(self) -> None:
        """Return when all is done."""
        await self._until(self._sent)

    def drop(self) -> None:
        """Do no piece any more that has not begun, for nobody needs what comes of them."""
        self._is_dropped = True

    @property
    def is_idle(self) -> bool:
        """Whether all is done."""
        return self._done == self._sent

    def _bring(self, work: Callable[[], object]) -> None:
        self._sent += 1
        self._queue.put(work)
        if self._baton.acquire(blocking=False):
            try:
                threading.Thread(target=self._run, name="topaz-aside").start()
            except RuntimeError:
                self._run(0.0)

    def _try(self, work: Callable[[], object]) -> None:
        if self.failure is None and not self._is_dropped:
            try:
                work()
            except Exception as error:
                self.failure = error.with_traceback(None)  # its frames hold all of this

    async def _until(self, count: int) -> None:
        loop = asyncio.get_running_loop()
        while self._done < count:
            self._wake = wake = loop.create_future()
            if self._done < count:  # else it was done before there was anybody to wake
                await wake

    def _run(self, linger: float | None = None) -> None:
        while True:
            try:
                work = self._queue.get(timeout=LINGER if linger is None else linger)
            except queue.Empty:
                self._baton.release()
                # What came after the last look and before the release started no thread.
                if self._queue.empty() or not self._baton.acquire(blocking=False):
                    return
                continue
            try:
                work()
            except BaseException:  # such as Ctrl-C, where there is no thread
                self._baton.release()
                raise
            finally:
                del work  # what it holds is not needed while the thread waits for more
                self._tell()

    def _tell(self) -> None:
        self._done += 1
        wake = self._wake
        if wake is not None and not wake.done():
            with suppress(RuntimeError):  # the loop was closed
                wake.get_loop().call_soon_threadsafe(_rouse, wake)


def _fulfil(outcome: Future[T], work: Callable[[], T]) -> None:
    try:
        outcome.set_result(work())
    except Exception as error:
        outcome.set_exception(error)
        del outcome, work


def _rouse(wake: asyncio.Future[None]) -> None:
    if not wake.done():
        wake.set_result(None)
