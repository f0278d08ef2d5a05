"""The bytes of an upload, read off the event loop and counted."""

from __future__ import annotations

import asyncio
import hashlib
import os
import threading
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Iterator
from contextlib import aclosing
from functools import partial
from pathlib import Path
from typing import IO

from .errors import ConnectError, TopazError, TransportError, UploadError
from .ports import FilePart
from .transfers import Meter

__all__ = ["UploadSource"]

_CHUNK = 1 << 20

#: Returns the chunk at a place, and what tells whether the next one is of the same file.
_Read = Callable[[int], tuple[bytes, object]]


class UploadSource:
    """The bytes of one upload, opened anew for each attempt.

    `error` holds what went wrong on this side while they were read last: whoever sends them
    may know no more than that the body broke off.

    Args:
        source: A path, bytes, an open file, or an async iterable of bytes.
        size: Bytes; None when nobody knows: then they can be sent once only.
        meter: Is told of every chunk that has left.
        start: Where in an open file the bytes begin.
        is_hashed: Whether the `digest` of what is sent is wanted.
        content_hash: The digest that a hashed file must have; None takes it as it is.
    """

    def __init__(
        self,
        source: Path | bytes | IO[bytes] | AsyncIterable[bytes],
        size: int | None,
        meter: Meter,
        *,
        start: int = 0,
        is_hashed: bool = False,
        content_hash: str | None = None,
    ) -> None:
        self._source = source
        self._size = size
        self._meter = meter
        self._start = start
        self._is_hashed = is_hashed
        self._content_hash = content_hash
        self._lock = threading.Lock()
        #: Bytes of the last attempt, and their SHA-256 in hex when they all have left.
        self.sent = 0
        self.digest: str | None = None
        #: Whether the last attempt handed out all bytes, to the end.
        self.is_whole = False
        self.error: UploadError | None = None

    def part(self, name: str, content_type: str) -> FilePart:
        """Return the file part of a multipart request."""
        return FilePart(
            field="file",
            name=name,
            content_type=content_type,
            size=self._size,
            once=self._size is None,
            open=self._read,
        )

    def explained(self, error: TopazError) -> TopazError:
        """Return the error that tells all about an upload that ended in this one."""
        if self.error is not None and isinstance(error, TransportError | UploadError):
            return self.error
        if self._size is None and error.retryable and not isinstance(error, ConnectError):
            return UploadError(
                f"{error.message} A stream cannot be sent twice.",
                code=error.code,
                hint="Hand in a path or bytes, or open the stream again.",
            )
        return error

    async def _read(self) -> AsyncGenerator[bytes, None]:
        self.error, self.sent, self.is_whole = None, 0, False
        self._meter.begin(self._size)
        seen = hashlib.sha256()
        try:
            async with aclosing(self._chunks(seen)) as chunks:
                async for chunk in chunks:
                    self.sent += len(chunk)
                    if self._size is not None and self.sent > self._size:
                        break
                    yield chunk
                    self._meter(self.sent)
            self._check_size()
            self._check_content(seen)
            self.is_whole = True
        except UploadError as error:
            self.error = error
            raise

    def _check_size(self) -> None:
        if self._size is None:
            if not self.sent:
                raise UploadError("The stream is empty, or was read before.")
        elif self.sent != self._size:
            more = "more" if self.sent > self._size else self.sent
            raise _changed(f"it had {self._size} bytes, now it has {more}")

    def _check_content(self, seen: hashlib._Hash) -> None:
        if self._is_hashed:
            self.digest = seen.hexdigest()
            if self._content_hash not in (None, self.digest):
                raise _changed("its bytes are others than before")

    def _chunks(self, seen: hashlib._Hash) -> AsyncGenerator[bytes, None]:
        source = self._source
        if isinstance(source, bytes):
            return _of_bytes(source)
        if isinstance(source, AsyncIterable):
            return _of_stream(source)
        read = partial(_read_at, source) if isinstance(source, Path) else self._read_open
        return _of_file(_hashing(read, seen) if self._is_hashed else read)

    def _read_open(self, at: int) -> tuple[bytes, object]:
        assert not isinstance(self._source, Path | bytes | AsyncIterable)
        with self._lock:  # a thread of an attempt that broke off may be reading still
            stamp = _stamp(self._source)
            if self._size is not None:
                self._source.seek(self._start + at)
            return bytes(memoryview(self._source.read(_CHUNK))), stamp


async def _of_bytes(content: bytes) -> AsyncGenerator[bytes, None]:
    for piece in _pieces(content):
        yield piece


def _pieces(content: bytes) -> Iterator[bytes]:
    return (content[at : at + _CHUNK] for at in range(0, len(content), _CHUNK))


async def _of_stream(stream: AsyncIterable[bytes]) -> AsyncGenerator[bytes, None]:
    try:
        async for chunk in stream:
            for piece in _pieces(chunk if isinstance(chunk, bytes) else bytes(memoryview(chunk))):
                yield piece
    except Exception as error:  # the caller's code, or a chunk that is no bytes
        raise UploadError(f"The stream failed: {type(error).__name__}.") from error
    finally:
        if isinstance(stream, AsyncGenerator):  # what it holds open is of no use any more
            await stream.aclose()


async def _of_file(read: _Read) -> AsyncGenerator[bytes, None]:
    """Yield what a blocking function reads, one chunk ahead of whoever sends them."""
    loop = asyncio.get_running_loop()
    at, before = 0, None
    ahead = loop.run_in_executor(None, read, at)
    try:
        while True:
            try:
                chunk, stamp = await ahead
            except OSError as error:
                reason = error.strerror or type(error).__name__
                raise UploadError(f"The file could not be read to its end: {reason}.") from None
            except Exception as error:  # closed meanwhile, or an object of the caller's own
                name = type(error).__name__
                raise UploadError(f"The file could not be read to its end: {name}.") from error
            if before not in (None, stamp):
                raise _changed("something wrote to it")
            if not chunk:
                return
            at, before = at + len(chunk), stamp
            ahead = loop.run_in_executor(None, read, at)
            yield chunk
    finally:
        # A thread that reads just now ends by itself; what it says then is heard by nobody.
        if not ahead.cancel() and not ahead.cancelled():
            ahead.exception()


def _hashing(read: _Read, seen: hashlib._Hash) -> _Read:
    def read_and_hash(at: int) -> tuple[bytes, object]:
        chunk, stamp = read(at)
        seen.update(chunk)
        return chunk, stamp

    return read_and_hash


def _read_at(path: Path, at: int) -> tuple[bytes, object]:
    """Read a chunk of a file that is opened for it.

    A reader that is cancelled cannot stop its thread, and would leave the file open.
    """
    with path.open("rb", buffering=0) as file:
        stamp = _stamp(file)
        file.seek(at)
        return file.read(_CHUNK), stamp


def _stamp(file: IO[bytes]) -> object:
    """Return what is another as soon as somebody writes to the file; None when nothing tells."""
    try:
        status = os.fstat(file.fileno())
    except (OSError, ValueError, AttributeError):  # in memory, or an object of the caller's own
        return None
    return status.st_ino, status.st_mtime_ns


def _changed(how: str) -> UploadError:
    return UploadError(
        f"The file changed while it was sent: {how}.",
        retryable=True,
        hint="Upload it again when nobody writes to it.",
    )
