"""Send files to the upload host, the same bytes once."""

from __future__ import annotations

import asyncio
import inspect
import logging
import secrets
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable
from os import PathLike
from pathlib import Path
from typing import IO, Any, Protocol, cast
from weakref import WeakValueDictionary

import attrs

from . import media
from .durations import moment_after
from .errors import ConfigurationError, InvalidInputError, TopazError, UploadError
from .models import UploadedFile
from .names import safe_name
from .ports import Answer, Request
from .settings import Quotas
from .shelf import Shelf
from .texts import quoted
from .transfers import Meter, OnProgress
from .uploads import UploadSource
from .urls import check_url
from .wire import Wire

__all__ = ["Source", "Uploader"]

_log = logging.getLogger("topaz_async")

#: Where uploads go at the upload host.
_FOLDER = "topaz-async"

#: Bytes that an object with an asynchronous `read` is asked for.
_CHUNK = 1 << 20


class AsyncReadable(Protocol):
    """An object with an asynchronous `read`, such as a web framework's uploaded file."""

    def read(self, size: int, /) -> Awaitable[bytes]: ...


#: What can be uploaded.
Source = str | PathLike[str] | bytes | IO[bytes] | AsyncIterable[bytes] | AsyncReadable


class Uploader:
    """Uploads of one client.

    Each goes to a place of its own at the host: the same name twice never overwrites what a task
    may be about to read.

    Args:
        send: Sends a request, again if it may be repeated.
        wire: The service's language.
        shelf: The uploads that need not be sent again.
        quotas: The largest file, in bytes, and how long the host keeps it.
    """

    def __init__(
        self,
        send: Callable[[Request], Awaitable[Answer]],
        *,
        wire: Wire,
        shelf: Shelf,
        quotas: Quotas,
    ) -> None:
        self._send_request = send
        self._wire = wire
        self._shelf = shelf
        self._max_bytes = quotas.max_upload_bytes
        self._life = quotas.upload_life
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def upload(
        self, source: Source, name: str | None, on_progress: OnProgress | None
    ) -> UploadedFile:
        """Upload anything; a path without a name of its own may be there already."""
        _check_name(name)
        if isinstance(source, (str, PathLike)):
            found = await asyncio.to_thread(
                media.inspect, source, max_bytes=self._max_bytes, kinds=media.KINDS
            )
            if name is None:
                return await self.once(found, None, on_progress)
            return await self._send(found.path, found.size, found.kind, name, on_progress)
        if isinstance(source, (bytes, bytearray, memoryview)):
            content = bytes(source)
            kind = self._kind(content, len(content))
            return await self._send(content, len(content), kind, name, on_progress)
        if isinstance(source, AsyncIterable):
            return await self._send(source, None, "mp4", name, on_progress)
        read = getattr(source, "read", None)
        if inspect.iscoroutinefunction(read):
            return await self._send(_read_on(read), None, "mp4", name, on_progress)
        if callable(read):
            start, size, head = await asyncio.to_thread(_looked_at, cast(IO[bytes], source))
            kind = "mp4" if size is None else self._kind(head, size)
            return await self._send(source, size, kind, name, on_progress, start=start)
        raise InvalidInputError(
            "A source is a path, bytes, a file opened for bytes or an async iterable of bytes, "
            f"not {type(source).__name__}."
        )

    async def once(
        self, found: media.Media, content_hash: str | None, on_progress: OnProgress | None
    ) -> UploadedFile:
        """Upload a local file unless its bytes are at the host already.

        Args:
            found: The file.
            content_hash: Of its bytes, where it is known: other bytes are not sent then.
            on_progress: Told at once of the whole when nothing has to be sent.
        """
        if content_hash is None:
            return await self._once(found, None, on_progress)
        # Those who want the same bytes at the same time wait for whoever came first.
        async with self._locks.setdefault(content_hash, asyncio.Lock()):
            return await self._once(found, content_hash, on_progress)

    async def _once(
        self, found: media.Media, content_hash: str | None, on_progress: OnProgress | None
    ) -> UploadedFile:
        known = await self._shelf.of_size(found.size)
        if known and content_hash is None:
            content_hash = await asyncio.to_thread(media.content_hash, found.path)
        file = known.get(content_hash or "")
        if file is None:
            return await self._send(
                found.path,
                found.size,
                found.kind,
                None,
                on_progress,
                is_hashed=self._shelf.is_used or content_hash is not None,
                content_hash=content_hash,
            )
        async with Meter(on_progress) as meter:
            meter.end(found.size)
        return self._with_hint(file)

    async def from_url(self, url: str, name: str | None) -> UploadedFile:
        """Let the host fetch a file."""
        _check_name(name)
        ending = Path(check_url(url, "The URL to upload").path).suffix.lower()
        kind = ending[1:] if ending[1:] in {*media.KINDS, "jpg"} else "mp4"
        folder, place = _place(name, kind)
        request = self._wire.upload_from_url(url, place, folder)
        return self._with_hint(self._wire.uploaded(await self._sent(request), request.name))

    async def _send(
        self,
        source: Any,
        size: int | None,
        kind: str,
        name: str | None,
        on_progress: OnProgress | None,
        *,
        start: int = 0,
        is_hashed: bool = False,
        content_hash: str | None = None,
    ) -> UploadedFile:
        folder, place = _place(name, kind)
        async with Meter(on_progress) as meter:
            content = UploadSource(
                source,
                size,
                meter,
                start=start,
                is_hashed=is_hashed,
                content_hash=content_hash,
            )
            request = self._wire.upload(content.part(place, media.KINDS[kind]), folder)
            try:
                file = self._wire.uploaded(await self._sent(request), request.name)
                if not content.is_whole:
                    raise UploadError(
                        "The host said that it had the file before all of it was sent.",
                        retryable=True,
                    )
            except TopazError as error:
                told = content.explained(error)
                raise told from told.__cause__
            meter.end(content.sent)
        is_doubtful = file.size not in (None, content.sent)
        if is_doubtful:  # all was sent and taken: a field that only informs fails nobody
            _log.warning(
                "The upload host took %d bytes, and says that it has %d.", content.sent, file.size
            )
        if content.digest is not None and not is_doubtful:
            self._shelf.keep(file, size=content.sent, content_hash=content.digest)
        return self._with_hint(file)

    async def _sent(self, request: Request) -> Answer:
        if not self._wire.upload_url:
            raise ConfigurationError(
                "base_url was set and upload_url was not, so there is no place to upload to."
            )
        return await self._send_request(request)

    def _kind(self, head: bytes, size: int) -> str:
        return media.check_head(head, size, max_bytes=self._max_bytes, kinds=media.KINDS)

    def _with_hint(self, file: UploadedFile) -> UploadedFile:
        return attrs.evolve(file, expires_hint=moment_after(file.uploaded_at, self._life))


def _check_name(name: object) -> None:
    if name is not None and not isinstance(name, str):
        raise InvalidInputError(f"The name of an upload is a text, not {quoted(name)}.")


def _place(name: str | None, kind: str) -> tuple[str, str]:
    """Return a folder and a name in it that nobody else has together."""
    token = secrets.token_hex(16)
    if name is None:
        return _FOLDER, f"{token}.{kind}"
    return f"{_FOLDER}/{token}", safe_name(name, f"video.{kind}")


async def _read_on(read: Callable[[int], Awaitable[bytes]]) -> AsyncIterator[bytes]:
    """Yield what an object reads that is read by a coroutine function."""
    while chunk := await read(_CHUNK):
        yield chunk


def _looked_at(file: IO[bytes]) -> tuple[int, int | None, bytes]:
    """Return where an open file stands, how much follows, and how that begins.

    Nobody knows how much follows when the file cannot go back.
    """
    try:
        try:
            start = file.tell()
            size = file.seek(0, 2) - start
            file.seek(start)
        except (OSError, AttributeError):  # a pipe, or an object that can only be read
            return 0, None, b""
        head = file.read(media.HEAD)
        file.seek(start)
        return start, size, bytes(memoryview(head))
    except Exception as error:  # closed, opened for text, or an object of the caller's own
        raise InvalidInputError(
            f"The file object cannot be read: {type(error).__name__}.",
            hint="Open it for bytes: open(path, 'rb').",
        ) from error
