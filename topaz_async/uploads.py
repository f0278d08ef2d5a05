"""The bytes of an upload, read off the event loop and counted."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, AsyncIterable, Iterator
from contextlib import aclosing
from pathlib import Path

from .errors import UploadError
from .ports import FilePart
from .transfers import Meter

__all__ = ["UploadSource"]

_CHUNK = 1 << 20


class UploadSource:
    """The bytes of one upload, opened anew for each attempt.

    `error` holds what went wrong on this side while they were read last: whoever sends them
    may know no more than that the body broke off.

    Args:
        source: A path, bytes, or an async iterable of bytes (which can be sent once only).
        size: Bytes; None when nobody knows.
        meter: Is told of every chunk that has left.
    """

    def __init__(
        self,
        source: Path | bytes | AsyncIterable[bytes],
        size: int | None,
        meter: Meter,
    ) -> None:
        self._source = source
        self._size = size
        self._meter = meter
        self._opened = 0
        #: Bytes of the last attempt.
        self.sent = 0
        self.error: UploadError | None = None

    def part(self, name: str, content_type: str) -> FilePart:
        """Return the file part of a multipart request."""
        return FilePart(
            field="file", name=name, content_type=content_type, size=self._size, open=self._read
        )

    async def _read(self) -> AsyncGenerator[bytes, None]:
        self._opened += 1
        self.error = None
        self._meter.begin(self._size)
        self.sent = 0
        try:
            async with aclosing(self._chunks()) as chunks:
                async for chunk in chunks:
                    self.sent += len(chunk)
                    if self._size is not None and self.sent > self._size:
                        break
                    yield chunk
                    self._meter(self.sent)
            if self._size is not None and self.sent != self._size:
                more = "more" if self.sent > self._size else self.sent
                raise _changed(f"it had {self._size} bytes, now it has {more}")
        except UploadError as error:
            self.error = error
            raise

    def _chunks(self) -> AsyncGenerator[bytes, None]:
        if isinstance(self._source, Path):
            return _of_path(self._source)
        if isinstance(self._source, bytes):
            return _of_bytes(self._source)
        return self._of_stream(self._source)

    async def _of_stream(self, stream: AsyncIterable[bytes]) -> AsyncGenerator[bytes, None]:
        if self._opened > 1:
            raise UploadError(
                "The upload broke off, and a stream cannot be sent twice.",
                retryable=True,
                hint="Hand in a path or bytes, or open the stream again.",
            )
        try:
            async for chunk in stream:
                for piece in _pieces(bytes(memoryview(chunk))):
                    yield piece
        except Exception as error:  # the caller's code, or a chunk that is no bytes
            raise UploadError(f"The stream failed: {type(error).__name__}.") from error
        finally:
            if isinstance(stream, AsyncGenerator):  # what it holds open is of no use any more
                await stream.aclose()


async def _of_bytes(content: bytes) -> AsyncGenerator[bytes, None]:
    for piece in _pieces(content):
        yield piece


def _pieces(content: bytes) -> Iterator[bytes]:
    return (content[at : at + _CHUNK] for at in range(0, len(content), _CHUNK))


async def _of_path(path: Path) -> AsyncGenerator[bytes, None]:
    at, before = 0, None
    while True:
        try:
            chunk, stamp = await asyncio.to_thread(_read_at, path, at)
        except OSError as error:
            reason = error.strerror or type(error).__name__
            raise UploadError(f"The file could not be read to its end: {reason}.") from None
        if not chunk:
            return
        if before not in (None, stamp):
            raise _changed("something wrote to it")
        at, before = at + len(chunk), stamp
        yield chunk


def _read_at(path: Path, at: int) -> tuple[bytes, tuple[int, int]]:
    """Return a chunk, with what tells whether the next one is of the same file.

    The file is opened for each chunk: a reader that is cancelled cannot stop its thread, and
    would leave the file open.
    """
    with path.open("rb") as file:
        status = os.fstat(file.fileno())
        file.seek(at)
        return file.read(_CHUNK), (status.st_ino, status.st_mtime_ns)


def _changed(how: str) -> UploadError:
    return UploadError(
        f"The file changed while it was sent: {how}.",
        retryable=True,
        hint="Upload it again when nobody writes to it.",
    )
