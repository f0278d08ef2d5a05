"""Write what comes to the disk while more is coming, off the loop."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable
from typing import TypeVar

from .aside import Aside
from .contents import check_content
from .direct import PAGE, pages
from .errors import DownloadError
from .media import HEAD
from .parts import Part

__all__ = ["BATCH", "Writer", "ended", "on_disk", "unwritten"]

T = TypeVar("T")

#: Bytes that are written at once: few at first and over a slow line, so that a process which is
#: killed loses few; more where they come quickly, for each batch is a way to the thread and to
#: the disk.
_LEAST, BATCH = 1 << 20, 4 << 20
#: Seconds within which a batch must have come for the next one to be larger.
_QUICK = 0.05
#: Batches for which there is memory: one is filled while the other is written.
_BATCHES = 2


class Writer:
    """Writes what has come while more is coming, if it is a video as far as its head tells.

    What comes is copied at once: to hold on to it until it is written costs more, for then
    the memory of every piece is new.
    """

    def __init__(self, part: Part, content_type: str = "") -> None:
        self._part = part
        self._content_type = content_type
        self._aside = Aside(_BATCHES - 1)
        self._memory = pages(BATCH * _BATCHES)
        self._number = self._size = 0
        self._is_begun = part.size > 0
        # The first batch ends with a page of the file, so that the others begin with one.
        self._most = _LEAST - part.size % PAGE
        self._since = _now()

    @property
    def room(self) -> int:
        """Bytes for which there is room before anybody has to wait."""
        return self._most - self._size

    def keep(self, chunk: bytes | memoryview) -> None:
        """Take bytes for which there is room."""
        begin = self._number * BATCH + self._size
        self._memory[begin : begin + len(chunk)] = chunk
        self._size += len(chunk)

    async def put(self, chunk: bytes) -> None:
        """Take bytes, however many; return when there is room for more."""
        rest = memoryview(chunk)
        while len(rest) >= self.room:
            piece, rest = rest[: self.room], rest[self.room :]
            self.keep(piece)
            await self._write()
        self.keep(rest)

    async def flush(self, *, cut: bool = False) -> None:
        """Write what is left; of a cut, not what is too little to tell a film from a page."""
        is_enough = self._is_begun or self._size >= HEAD or not cut
        try:
            if is_enough and (self._size or not self._is_begun):
                await self._write()
        finally:  # cancelled or not, nobody may take the file away while it is written
            await self._aside.end()
        self._check()

    async def idle(self) -> None:
        """Wait until nothing is being written."""
        await self._aside.end()
        self._check()

    async def _write(self) -> None:
        begin = self._number * BATCH
        batch = self._memory[begin : begin + self._size]
        if not self._is_begun:
            check_content(bytes(batch[:HEAD]), self._content_type)
            self._is_begun = True
        self._number = (self._number + 1) % _BATCHES
        now, last = _now(), self._most
        self._size, self._most = 0, _LEAST
        if now - self._since < _QUICK:
            self._most = min(BATCH, _LEAST * (1 + last // _LEAST))
        try:
            await self._aside.put(functools.partial(self._part.write, batch))
        except RuntimeError:
            raise DownloadError(
                "The file could not be written: no thread can be started.", billed="yes"
            ) from None
        self._check()
        self._since = _now()

    def _check(self) -> None:
        if self._aside.failure is not None:
            raise unwritten(self._aside.failure)


def _now() -> float:
    return asyncio.get_running_loop().time()


async def on_disk(function: Callable[..., T], *args: object) -> T:
    """Run a function in a thread; a cancelled caller leaves when it has ended.

    A thread cannot be stopped, and what it makes can be taken away only once it is made.
    """
    return await ended(asyncio.get_running_loop().run_in_executor(None, function, *args))


async def ended(work: asyncio.Future[T]) -> T:
    """Return the outcome of work in a thread, once it has ended, cancelled or not."""
    cancelled: asyncio.CancelledError | None = None
    while not work.done():
        try:
            await asyncio.wait([work])
        except asyncio.CancelledError as error:
            cancelled = error
    failure = work.exception()
    if cancelled is not None:
        raise cancelled
    if failure is not None:
        raise unwritten(failure)
    return work.result()


def unwritten(failure: BaseException) -> BaseException:
    """Return what to raise for what went wrong in a thread."""
    if not isinstance(failure, OSError):
        return failure
    reason = failure.strerror or type(failure).__name__
    return DownloadError(
        f"The file could not be written: {reason}.",
        billed="yes",
        hint="Choose another place or make room, then download it again: that costs nothing.",
    )
