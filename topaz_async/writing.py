"""Write what comes to the disk while more is coming, off the loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

from .errors import DownloadError, IntegrityError, clean
from .media import HEAD, kind_of
from .parts import Part

__all__ = ["BATCH", "Writer", "check_content", "ended", "on_disk"]

T = TypeVar("T")

#: Bytes that are written at once, and after how many the disk is told to begin with its part.
BATCH = 1 << 20
_SYNC = 32 << 20


class Writer:
    """Writes what has come while more is coming, out of two buffers in turn.

    What comes is copied at once: to hold on to it until it is written costs more, for then
    the memory of every piece is new.
    """

    def __init__(self, part: Part) -> None:
        self._part = part
        self._buffer = bytearray(BATCH)
        self._other: bytearray | None = None
        self._size = 0
        self._work: asyncio.Future[None] | None = None
        self._sync: asyncio.Future[None] | None = None
        self._synced = part.size

    async def put(self, chunk: bytes) -> None:
        rest = memoryview(chunk)
        while rest:
            piece = rest[: BATCH - self._size]
            self._buffer[self._size : self._size + len(piece)] = piece
            self._size += len(piece)
            rest = rest[len(piece) :]
            if self._size == BATCH:
                await self._write()

    async def flush(self, *, cut: bool = False) -> None:
        """Write what is left; of a cut, not what is too little to tell a film from a page."""
        await self.idle()
        if self._part.size or self._size >= HEAD or not cut:
            await self._write()
            await self.idle()

    async def idle(self) -> None:
        """Wait until nothing is being written."""
        await self._written()
        sync, self._sync = self._sync, None
        if sync is not None:
            await ended(sync)

    async def _written(self) -> None:
        work, self._work = self._work, None
        if work is not None:
            await ended(work)
        if self._part.size - self._synced >= _SYNC and (self._sync is None or self._sync.done()):
            self._synced = self._part.size
            self._sync = asyncio.get_running_loop().run_in_executor(None, self._part.sync)

    async def _write(self) -> None:
        await self._written()
        batch = memoryview(self._buffer)[: self._size]
        if self._part.size == 0:
            check_content(bytes(batch[:HEAD]))
        self._buffer, self._other = self._other or bytearray(BATCH), self._buffer
        self._size = 0
        self._work = asyncio.get_running_loop().run_in_executor(None, self._part.write, batch)


def check_content(head: bytes) -> None:
    """Raise when the first bytes are a page or a text: the host's excuse, not the video.

    Other kinds than the known ones pass: which containers the service makes is not documented,
    and a paid result must not be thrown away for a new one.
    """
    if not head:
        raise IntegrityError("The result is empty.", retryable=True, billed="yes")
    if kind_of(head) is not None:
        return
    try:
        head[:512].decode()
        is_text = b"\0" not in head[:512]
    except UnicodeDecodeError as error:
        is_text = error.start > len(head[:512]) - 4 and b"\0" not in head[:512]
    if is_text:
        raise IntegrityError(
            f"What came is a text, not a video: {clean(head[:80].decode(errors='replace'))}",
            retryable=True,
            billed="yes",
        )


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
    if isinstance(failure, OSError):
        reason = failure.strerror or type(failure).__name__
        raise DownloadError(
            f"The file could not be written: {reason}.",
            billed="yes",
            hint="Choose another place or make room, then download it again: that costs nothing.",
        )
    return work.result()
