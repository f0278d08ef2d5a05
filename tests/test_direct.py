"""Writing past the system's cache: the same bytes, wherever that is possible and where not."""

from __future__ import annotations

import asyncio
import errno
import io
import itertools
import math
import os
import random
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from topaz_async import parts, writing
from topaz_async.direct import PAGE, pages, set_direct
from topaz_async.errors import DownloadError
from topaz_async.marks import Mark
from topaz_async.media import is_cut
from topaz_async.parts import Part
from topaz_async.writing import ROOM, Disk, Writer

from .byteserver import until

#: Bytes of a batch, at first and when they come quickly.
LEAST, BATCH = 1 << 20, 4 << 20
HEAD = b"\x00\x00\x00\x18ftypisom"
FILM = HEAD + random.Random(1).randbytes(2 * BATCH + 12345)


@pytest.fixture
def part(tmp_path: Path) -> Iterator[Part]:
    made = Part(tmp_path / "film.mp4", "key")
    made.begin(Mark("key", '"1"'))
    yield made
    made.leave(keep=False)


def publish(part: Part) -> bytes:
    target = part._target
    return part.publish(lambda: target, overwrite=False, again=False).read_bytes()


def direct_works(folder: Path) -> bool:
    handle = os.open(folder / "probe", os.O_RDWR | os.O_CREAT)
    try:
        return set_direct(handle, True)
    finally:
        os.close(handle)


async def write(part: Part, sizes: Iterator[int], data: bytes, begin: int = 0) -> None:
    """Write the data in pieces of these sizes, behind so many bytes."""
    writer = Writer(part, Disk(pages(ROOM)))
    if begin:
        await writer.go_on(begin)
    rest = memoryview(data)
    while rest:
        size = next(sizes)
        await writer.put(bytes(rest[:size]))
        rest = rest[size:]
    await writer.flush()


@pytest.mark.parametrize("begin", [0, 1, PAGE + 1, BATCH - 1, BATCH, BATCH + 77])
@pytest.mark.parametrize("size", [1, PAGE - 1, 65536, BATCH + 1])
async def test_the_same_bytes(part: Part, begin: int, size: int) -> None:
    """Whatever the pieces, and wherever a part goes on, the file holds what came."""
    if begin:
        part.write(memoryview(FILM[:begin]))
    sizes = itertools.cycle([size, 100_000, size])
    await write(part, sizes, FILM[begin:], begin)
    assert FILM == publish(part)


@pytest.mark.parametrize("quick", [math.inf, 1, 9, 11, 13])
async def test_the_same_bytes_in_batches_of_every_size(
    part: Part, monkeypatch: pytest.MonkeyPatch, quick: float
) -> None:
    """Batches grow when they come quickly and shrink when they do not; no byte is lost by it."""
    moments = itertools.count()  # a pause after so many: an odd number, for each batch asks twice
    usual, sizes = Part.write, list[int]()

    def note(part: Part, data: memoryview) -> None:
        time.sleep(random.random() / 200)  # so that batches wait for each other
        sizes.append(len(data))
        usual(part, data)

    monkeypatch.setattr(writing, "_now", lambda: 10.0 * (next(moments) // quick))
    monkeypatch.setattr(writing, "_OFTEN", 3)
    monkeypatch.setattr(Part, "write", note)
    film = HEAD + random.Random(2).randbytes(40 << 20)
    await write(part, itertools.cycle([200_000, 300_001]), film)
    assert film == publish(part)
    assert {LEAST, BATCH} >= set(sizes[:-1])
    assert (LEAST in sizes, BATCH in sizes[:-1]) == (True, quick > 1)


async def test_whole_pages_go_past_the_cache(part: Part, monkeypatch: pytest.MonkeyPatch) -> None:
    """The middle of a film does, from its first page to its last; only the two ends do not."""
    if not direct_works(part._target.parent):
        pytest.skip("this file system knows no direct I/O")
    usual, written = parts.FileIO.write, list[tuple[bool, int]]()

    class Noted(parts.FileIO):
        def write(self, data: Any) -> int:
            written.append((part._is_direct, usual(self, data)))
            return written[-1][1]

    part.write(memoryview(FILM[:100]))
    assert part._file is not None
    part._file, old = Noted(os.dup(part._file.fileno()), "r+b"), part._file
    old.close()
    await write(part, itertools.repeat(65536), FILM[100:], 100)
    past = sum(size for is_past, size in written if is_past)
    assert PAGE - 100 + len(FILM) % PAGE == len(FILM) - 100 - past
    assert FILM == publish(part)


async def test_what_went_past_the_cache_is_read_back(part: Part) -> None:
    """A film of whole pages only is looked at as any other: does it end where it should?"""
    await write(part, itertools.repeat(65536), FILM[: 2 * BATCH])
    assert part.is_cut() is is_cut(io.BytesIO(FILM[: 2 * BATCH]), 2 * BATCH)


async def test_who_refuses_gets_it_the_usual_way(
    part: Part, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file system that takes the wish and then refuses the write is asked once."""
    asked: list[bool] = []

    def pretend(handle: int, on: bool) -> bool:
        asked.append(on)
        return on

    real: Callable[[Any, memoryview], int] = parts.FileIO.write

    class Picky(parts.FileIO):
        def write(self, data: Any) -> int:
            if asked[-1]:
                raise OSError(errno.EINVAL, "Invalid argument")
            return real(self, data)

    assert part._file is not None
    monkeypatch.setattr(parts, "set_direct", pretend)
    picky = Picky(os.dup(part._file.fileno()), "r+b")
    part._file.close()
    part._file = picky
    await write(part, itertools.repeat(65536), FILM)
    assert [True, False] == asked
    assert FILM == publish(part)


async def test_short_writes_are_gone_on_with(part: Part, monkeypatch: pytest.MonkeyPatch) -> None:
    """A write that takes only some of the bytes, as on a disk that fills up, loses none."""

    class Short(parts.FileIO):
        def write(self, data: Any) -> int:
            return super().write(memoryview(data)[: len(data) // 3 + 1])

    assert part._file is not None
    part._file, full = Short(os.dup(part._file.fileno()), "r+b"), part._file
    full.close()
    await write(part, itertools.repeat(65536), FILM)
    assert FILM == publish(part)


async def test_a_failure_ends_the_writing(part: Part) -> None:
    """What the thread meets is raised in the words of the SDK, and nothing is written after it."""

    class Full(parts.FileIO):
        def write(self, data: Any) -> int:
            if part.size:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return super().write(data)

    assert part._file is not None
    part._file, empty = Full(os.dup(part._file.fileno()), "r+b"), part._file
    empty.close()
    with pytest.raises(DownloadError, match="could not be written: No space left on device"):
        await write(part, itertools.repeat(65536), FILM)
    assert LEAST == part.size


@pytest.mark.parametrize("cut", [False, True])
async def test_a_cancelled_flush_leaves_nobody_writing(
    part: Part, monkeypatch: pytest.MonkeyPatch, cut: bool
) -> None:
    """What is being written ends before the file is taken away; what is not is not begun."""
    usual, ended = Part.write, list[int]()
    begun, free = threading.Event(), threading.Event()

    def slowly(part: Part, data: memoryview) -> None:
        begun.set()
        assert free.wait(10)
        usual(part, data)
        ended.append(part.size)

    monkeypatch.setattr(Part, "write", slowly)
    disk = Disk(pages(ROOM))
    writer = Writer(part, disk)
    await writer.put(FILM[: LEAST + 1000])
    flushing = asyncio.ensure_future(writer.flush(cut=cut))
    await until(begun.is_set)
    flushing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await flushing
    assert [] == ended
    disk.drop()
    free.set()
    await disk.do(lambda: ended.append(0))
    assert [LEAST, 0] == ended


async def test_no_thread(part: Part, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that may start no thread writes all the same."""

    def refuse(*args: object, **kwargs: object) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr("threading.Thread.start", refuse)
    writer = Writer(part, Disk(pages(ROOM)))
    await writer.put(FILM)
    await writer.flush()
    assert FILM == publish(part)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux is asked")
def test_on_and_off(tmp_path: Path) -> None:
    """The file says what it was told, and who cannot is not told."""
    handle = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT)
    try:
        if not set_direct(handle, True):
            pytest.skip("this file system knows no direct I/O")
        assert PAGE == os.write(handle, pages(PAGE))
        assert not set_direct(handle, False)
        assert 3 == os.write(handle, b"odd")
    finally:
        os.close(handle)
