"""Write what comes to the disk while more is coming, off the loop."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable
from typing import TypeVar

from .aside import Aside
from .contents import check_content
from .direct import PAGE
from .errors import DownloadError, TopazError
from .marks import Mark
from .media import HEAD
from .parts import Part

__all__ = ["ROOM", "Disk", "Writer"]

T = TypeVar("T")

#: Bytes of a batch and how many of them there is memory for: what comes slowly is written soon,
#: for a process that is killed loses what is not; what comes quickly in large pieces, for each is
#: a way to the thread and to the disk.
_SLOW, _FAST = (1 << 20, 4), (4 << 20, 2)
#: Seconds within which a megabyte must have come, and how often in a row, to be quick.
_QUICK, _OFTEN = 0.05, 16

#: Bytes of memory to write from.
ROOM = max(size * count for size, count in (_SLOW, _FAST))


class Disk:
    """A thread and memory to write from, for one transfer.

    Args:
        memory: So many bytes as ROOM says, beginning with a page.
    """

    def __init__(self, memory: memoryview) -> None:
        self.memory = memory
        self._aside = Aside()

    async def put(self, work: Callable[[], object], most: int) -> None:
        """Let work be done after all other, unless one has failed; raise what failed by now.

        Args:
            work: What to do.
            most: Pieces that may be undone when this returns.
        """
        await self._aside.put(work, most)
        self.check()

    async def end(self) -> None:
        """Return when all is done; raise what failed."""
        await self._aside.end()
        self.check()

    def drop(self) -> None:
        """Write nothing any more that is not being written: the file is to be taken away."""
        self._aside.drop()

    async def do(self, work: Callable[[], T]) -> T:
        """Return what comes of work after all other; a cancelled caller leaves when it is done."""
        try:
            return await self._aside.do(work)
        except TopazError:
            raise
        except Exception as error:  # a defect of ours as well: no other error may come out
            failure = _unwritten(error)
        raise failure  # out here, for a failure's frames hold much

    @property
    def is_idle(self) -> bool:
        """Whether all is done."""
        return self._aside.is_idle

    def check(self) -> None:
        """Raise what has failed by now."""
        if self._aside.failure is not None:
            raise _unwritten(self._aside.failure)


class Writer:
    """Writes what has come while more is coming, if it is a video as far as its head tells.

    What comes is copied at once: to hold on to it until it is written costs more, for then the
    memory of every piece is new.

    Args:
        part: Where to write.
        disk: Who does it.
        content_type: What the host says that comes.
    """

    def __init__(self, part: Part, disk: Disk, content_type: str = "") -> None:
        self._part, self._disk = part, disk
        self._content_type = content_type
        #: Bytes of the file that were there before.
        self.offset = 0
        self._is_begun = False
        self._size = _SLOW[0]
        # Where in the memory the batch begins that is being filled, and ends so far.
        self._begin = self._end = 0
        self._since, self._quick = _now(), 0

    async def begin(self, mark: Mark | None) -> None:
        """Begin with the first byte of what `mark` says."""
        await self._disk.put(functools.partial(self._part.begin, mark), _SLOW[1])

    async def go_on(self, offset: int) -> None:
        """Go on behind so many bytes that are there."""
        self.offset, self._is_begun = offset, offset > 0
        # The disk wants pages of the memory to begin where those of the file do.
        self._begin = self._end = offset % PAGE
        await self._disk.put(functools.partial(self._part.go_on, offset), _SLOW[1])

    @property
    def room(self) -> int:
        """Bytes for which there is room before anybody has to wait."""
        return self._size - self._end % self._size

    def keep(self, chunk: bytes | memoryview) -> None:
        """Take bytes for which there is room; raise what failed at the disk."""
        self._disk.check()
        end = self._end + len(chunk)
        self._disk.memory[self._end : end] = chunk
        self._end = end

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
        size = self._end - self._begin
        if size if self._is_begun else size >= HEAD or not cut:
            await self._write()
        await self._disk.end()

    async def _write(self) -> None:
        begin, end = self._begin, self._end
        if not self._is_begun:
            head = bytes(self._disk.memory[begin : min(end, begin + HEAD)])
            check_content(head, self._content_type)
            self._is_begun = True
        most = self._turn()
        # Where it lies and not the memory itself, which a failure's frames would hold.
        await self._disk.put(functools.partial(self._write_out, begin, end), most)
        self._since = _now()

    def _write_out(self, begin: int, end: int) -> None:
        self._part.write(self._disk.memory[begin:end])

    def _turn(self) -> int:
        """Go to the memory of the next batch; return how many may be unwritten for it."""
        is_quick = _now() - self._since < _QUICK * self._size / _SLOW[0]
        self._quick = self._quick + 1 if is_quick else 0
        size, count = _FAST if self._quick >= _OFTEN else _SLOW
        most = count - 1
        if size > self._size:  # the second half is free: small batches lie in the first
            self._end, most = size, _SLOW[1] - 1
        elif size < self._size:  # large ones lie anywhere
            self._end = most = 0
        elif self._end == size * count:
            self._end = 0
        self._begin, self._size = self._end, size
        return most


def _now() -> float:
    return asyncio.get_running_loop().time()


def _unwritten(failure: Exception) -> DownloadError:
    reason = getattr(failure, "strerror", None) or type(failure).__name__
    return DownloadError(
        f"The file could not be written: {reason}.",
        billed="yes",
        hint="Choose another place or make room, then download it again: that costs nothing.",
    )
