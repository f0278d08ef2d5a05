"""The bytes of an upload, read off the event loop and counted."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator
from pathlib import Path

from .errors import UploadError
from .ports import FilePart
from .transfers import OnProgress, Progress

__all__ = ["UploadSource"]

_CHUNK = 1 << 20


class UploadSource:
    """The bytes of one upload, opened anew for each attempt.

    `error` holds what went wrong on this side while they were read: the session that sends
    them only says that the body broke off.

    Args:
        source: A path, bytes, or an async iterable of bytes (which can be sent once only).
        size: Bytes; None when nobody knows.
        on_progress: Called with (bytes sent, bytes in all).
    """

    def __init__(
        self,
        source: Path | bytes | AsyncIterable[bytes],
        size: int | None,
        on_progress: OnProgress | None = None,
    ) -> None:
        self._source = source
        self._size = size
        self._on_progress = on_progress
        self._opened = 0
        self.error: UploadError | None = None

    def part(self, name: str, content_type: str) -> FilePart:
        """Return the file part of a multipart request."""
        return FilePart(
            field="file", name=name, content_type=content_type, size=self._size, open=self._read
        )

    async def _read(self) -> AsyncIterator[bytes]:
        self._opened += 1
        progress = Progress(self._on_progress, self._size)
        done = 0
        try:
            async for chunk in self._chunks():
                done += len(chunk)
                if self._size is not None and done > self._size:
                    break
                yield chunk
                progress(done, last=done == self._size)
        except OSError as error:
            reason = error.strerror or type(error).__name__
            self.error = UploadError(f"The file could not be read to its end: {reason}.")
            raise
        if self._size is not None and done != self._size:
            self.error = UploadError(
                f"The file changed while it was sent: it had {self._size} bytes, now it has "
                f"{'more' if done > self._size else done}.",
                retryable=True,
                hint="Upload it again when nobody writes to it.",
            )
            raise OSError("the file changed while it was sent")

    async def _chunks(self) -> AsyncIterator[bytes]:
        if isinstance(self._source, bytes):
            for at in range(0, len(self._source), _CHUNK):
                yield self._source[at : at + _CHUNK]
        elif isinstance(self._source, Path):
            file = await asyncio.to_thread(self._source.open, "rb")
            try:
                while chunk := await asyncio.to_thread(file.read, _CHUNK):
                    yield chunk
            finally:
                file.close()
        else:
            if self._opened > 1:
                self.error = UploadError(
                    "The upload broke off, and a stream cannot be sent twice.",
                    retryable=True,
                    hint="Hand in a path or bytes, or open the stream again.",
                )
                raise OSError("a stream cannot be sent twice")
            async for chunk in self._source:
                yield bytes(chunk)
