"""Bring a result to this disk, whole or not at all."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import secrets
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import BinaryIO
from urllib.parse import urljoin

import aiohttp

from .errors import (
    DownloadError,
    IntegrityError,
    LinkExpiredError,
    TooLargeError,
    TopazError,
    UnsafeUrlError,
    clean,
)
from .media import HEAD, kind_of
from .sessions import Contact, ProxyFor
from .settings import Quotas, Timeouts
from .transfers import Meter, OnProgress
from .urls import check_url, is_loopback, shown

__all__ = ["Downloader"]

_log = logging.getLogger("topaz_async")

_CHUNK = 1 << 20
_REDIRECTS = 5
_GONE = {403, 404, 410}
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)


class Downloader:
    """Brings results to this disk, from hosts nobody vouches for.

    Args:
        session: Returns the session for results: without key, cookies or credentials.
        timeouts: Silence and whole transfers, in seconds.
        quotas: The largest result, in bytes, and transfers at once.
        attempts: How often a transfer is begun.
        pauses: Returns the next pause between two attempts, in seconds, for a new transfer.
        proxy_for: Returns the proxy for a URL, or None.
        allow_loopback: Whether results may lie on this machine (a sandbox's do).
    """

    def __init__(
        self,
        session: Callable[[], aiohttp.ClientSession],
        *,
        timeouts: Timeouts,
        quotas: Quotas,
        attempts: int,
        pauses: Callable[[], Callable[[], float]],
        proxy_for: ProxyFor,
        allow_loopback: bool,
    ) -> None:
        self._session = session
        self._timeouts = timeouts
        self._max_bytes = quotas.max_download_bytes
        self._gate = asyncio.Semaphore(quotas.downloads)
        self._attempts = attempts
        self._pauses = pauses
        self._proxy_for = proxy_for
        self._allow_loopback = allow_loopback

    async def fetch(
        self,
        url: str,
        target: Path,
        *,
        overwrite: bool = False,
        on_progress: OnProgress | None = None,
    ) -> Path:
        """Bring a file; at its final name it is whole, and what was there survives a failure.

        Raises:
            FileError: What went wrong; nothing of it is left on the disk.
        """
        async with self._gate, Meter(on_progress) as meter:
            limit = asyncio.timeout(self._timeouts.download)
            try:
                async with limit:
                    return await self._often(url, target, overwrite, meter)
            except TimeoutError:
                if not limit.expired():
                    raise
            raise DownloadError(
                f"The download took longer than {self._timeouts.download:g} s.",
                retryable=True,
                billed="yes",
            )

    async def _often(self, url: str, target: Path, overwrite: bool, meter: Meter) -> Path:
        pause, attempt = self._pauses(), 1
        while True:
            try:
                return await self._once(url, target, overwrite, meter)
            except DownloadError as error:
                if not error.retryable or attempt >= self._attempts:
                    raise
                _log.info("A download failed, attempt %d of %d: %s", attempt, self._attempts, error)
            attempt += 1
            await asyncio.sleep(pause())

    async def _once(self, url: str, target: Path, overwrite: bool, meter: Meter) -> Path:
        part = _Part(target)
        try:
            async with self._get(url) as response:
                await _on_disk(part.create)
                await self._save(response, part, meter)
            await _on_disk(part.publish, overwrite)
            return target
        except (aiohttp.ClientError, OSError, ValueError) as error:
            reason = type(error).__name__
        finally:
            await _on_disk(part.drop)
        # Raised out here, for the session's errors print whole URLs, with signatures in them.
        raise DownloadError(
            f"The download from {shown(url)} broke off ({reason}).", retryable=True, billed="yes"
        )

    @contextlib.asynccontextmanager
    async def _get(self, url: str) -> AsyncIterator[aiohttp.ClientResponse]:
        for _ in range(_REDIRECTS + 1):
            self._check(url)
            response = await self._reach(url)
            async with response:
                if response.status in (301, 302, 303, 307, 308):
                    url = urljoin(url, response.headers.get("Location", ""))
                    continue
                self._accept(response, url)
                yield response
                return
        raise DownloadError(f"{shown(url)}: more than {_REDIRECTS} redirects.", billed="yes")

    async def _reach(self, url: str) -> aiohttp.ClientResponse:
        contact = Contact()
        try:
            async with self._unless_still():
                return await self._session().get(
                    url,
                    allow_redirects=False,
                    trace_request_ctx=contact,
                    middlewares=(contact.once,),
                    headers={"Accept-Encoding": "identity"},
                    proxy=self._proxy_for(url),
                )
        except (aiohttp.ClientConnectionError, OSError) as error:
            reason = type(error.__cause__ or error).__name__
        raise DownloadError(
            f"{shown(url)} could not be reached ({reason}).", retryable=True, billed="yes"
        )

    def _check(self, url: str) -> None:
        parts = check_url(url, "The result's URL", UnsafeUrlError)
        if is_loopback(parts.hostname) and not self._allow_loopback:
            raise UnsafeUrlError("The result's URL leads to this machine itself.", billed="yes")

    def _accept(self, response: aiohttp.ClientResponse, url: str) -> None:
        if response.status in _GONE:
            raise LinkExpiredError(
                f"The link {shown(url)} is dead (HTTP {response.status}).",
                code=response.status,
                billed="yes",
                hint="Results live for about 24 hours; fetch_task may give a fresh link.",
            )
        if response.status != 200:
            raise DownloadError(
                f"{shown(url)} answered HTTP {response.status}.",
                code=response.status,
                retryable=response.status >= 500 or response.status == 429,
                billed="yes",
            )
        if (response.content_length or 0) > self._max_bytes:
            raise self._too_large(response.content_length)

    async def _save(
        self,
        response: aiohttp.ClientResponse,
        part: _Part,
        meter: Meter,
    ) -> None:
        total = response.content_length if "Content-Encoding" not in response.headers else None
        meter.begin(total)
        done, buffer, looked = 0, bytearray(), False
        chunks = response.content.iter_any()
        while True:
            async with self._unless_still():
                chunk = await anext(chunks, b"")
            if not chunk:
                break
            done += len(chunk)
            if done > self._max_bytes:
                raise self._too_large(done)
            buffer += chunk
            if not looked and len(buffer) >= HEAD:
                _check_content(bytes(buffer[:HEAD]))
                looked = True
            if len(buffer) >= _CHUNK:
                await _on_disk(part.write, bytes(buffer))
                buffer.clear()
            meter(done)
        if not looked:
            _check_content(bytes(buffer[:HEAD]))
        await _on_disk(part.write, bytes(buffer))
        if total is not None and done != total:
            raise IntegrityError(f"{done} of {total} bytes came.", retryable=True, billed="yes")
        meter.end(done)

    @contextlib.asynccontextmanager
    async def _unless_still(self) -> AsyncIterator[None]:
        limit = asyncio.timeout(self._timeouts.stall)
        try:
            async with limit:
                yield
        except TimeoutError:
            if not limit.expired():
                raise
            raise DownloadError(
                f"The download stood still for {self._timeouts.stall:g} s.",
                retryable=True,
                billed="yes",
            ) from None

    def _too_large(self, size: int | None) -> TopazError:
        return TooLargeError(
            f"The result has {size} bytes or more; the limit is {self._max_bytes}.",
            billed="yes",
            hint="Raise Quotas(max_download_bytes=...).",
        )


def _check_content(head: bytes) -> None:
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


async def _on_disk(function: Callable[..., object], *args: object) -> None:
    """Run a function in a thread; a cancelled caller leaves when it has ended.

    A thread cannot be stopped, and what it makes can be taken away only once it is made.
    """
    work = asyncio.get_running_loop().run_in_executor(None, function, *args)
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
    if failure is not None:
        raise failure


class _Part:
    """The file beside the target that becomes the target when it is whole.

    Its methods block: they are for `_on_disk`.
    """

    def __init__(self, target: Path) -> None:
        hint = target.name.encode(errors="ignore")[:80].decode(errors="ignore")
        self._path = target.with_name(f".{hint}.{secrets.token_hex(6)}.part")
        self._target = target
        self._file: BinaryIO | None = None

    def create(self) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._file = os.fdopen(os.open(self._path, _CREATE, 0o666), "wb")

    def write(self, chunk: bytes) -> None:
        assert self._file is not None
        self._file.write(chunk)

    def publish(self, overwrite: bool) -> None:
        """Give the file its final name, when every byte of it is on the disk."""
        assert self._file is not None
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()  # some systems rename no open file
        if overwrite:
            os.replace(self._path, self._target)
        else:
            self._link()
        _sync_folder(self._target.parent)

    def _link(self) -> None:
        try:
            os.link(self._path, self._target)  # unlike a rename it never replaces anything
        except FileExistsError:
            raise
        except OSError:  # a file system without hard links
            if os.path.lexists(self._target):
                raise FileExistsError(17, "the file exists already") from None
            os.replace(self._path, self._target)

    def drop(self) -> None:
        """Leave nothing behind but what was published."""
        if self._file is not None:
            with contextlib.suppress(OSError):  # on a full disk closing fails as writing did
                self._file.close()
            with contextlib.suppress(OSError):
                self._path.unlink()


def _sync_folder(folder: Path) -> None:
    """Make the new name as durable as the file; not every file system can."""
    if os.name == "posix":
        with contextlib.suppress(OSError):
            descriptor = os.open(folder, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
