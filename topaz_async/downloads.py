"""Bring a result to this disk, whole or not at all."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Protocol
from urllib.parse import urljoin

import aiohttp
from yarl import URL

from .direct import pages
from .errors import (
    DownloadError,
    IntegrityError,
    LinkExpiredError,
    TooLargeError,
    TopazError,
)
from .framing import check_framing, may_be_cut, unfit
from .hosts import Hosts, RefusedAddressError, refused
from .marks import Mark
from .parts import Part
from .ranges import asking_for, is_rest_of, validator_of
from .retries import asked_pause, pauses
from .sessions import Contact, ProxyFor
from .settings import Quotas, RetryPolicy, Timeouts
from .signed_urls import named_by
from .transfers import Meter, OnProgress, Together
from .urls import shown
from .writing import ROOM, Disk, Writer

__all__ = ["Downloader", "SessionFor"]

_log = logging.getLogger("topaz_async")

_REDIRECTS = 5
#: Bytes with which an attempt has got further, so that attempts are counted anew.
_FURTHER = 1 << 20
_GONE = {403, 404, 410}


class SessionFor(Protocol):
    """Returns the session for results, without key, cookies or credentials."""

    def __call__(self, *, proxied: bool) -> aiohttp.ClientSession: ...


class _OtherBytesError(Exception):
    """What the host would add to the bytes that are there is not their rest."""


class Downloader:
    """Brings results to this disk, from hosts nobody vouches for.

    Args:
        session_for: Returns the session for a request: one whose connector checks each address
            that it connects to, or, for proxies, one that connects to the proxy.
        hosts: The rule for hosts.
        timeouts: Silence and whole transfers, in seconds.
        quotas: The largest result, in bytes, and transfers at once.
        retry: How often a transfer is begun, or gone on with, without getting further; and the
            pauses between.
        proxy_for: Returns the proxy for a URL, or None.
    """

    def __init__(
        self,
        session_for: SessionFor,
        *,
        hosts: Hosts,
        timeouts: Timeouts,
        quotas: Quotas,
        retry: RetryPolicy,
        proxy_for: ProxyFor,
    ) -> None:
        self._session_for = session_for
        self._hosts = hosts
        self._timeouts = timeouts
        self._max_bytes = quotas.max_download_bytes
        self._gate = asyncio.Semaphore(quotas.downloads)
        self._retry = retry
        self._proxy_for = proxy_for
        #: Memory that the last transfer wrote from: new memory is several times as slow.
        self._memory: list[memoryview] = []

    async def fetch(
        self,
        url: str,
        target: Path,
        *,
        key: str | None = None,
        overwrite: bool = False,
        on_progress: OnProgress | Together | None = None,
        renewals: AsyncIterator[str] | None = None,
        is_renewed: bool = False,
        rename: Callable[[str | None], Path] | None = None,
    ) -> Path:
        """Bring a file; at its final name it is whole, and what was there survives a failure.

        Args:
            url: Where it lies.
            target: Its final name.
            key: Tells this file from all others, whichever link leads to it; None for the
                URL without what only lets one in.
            overwrite: Whether a file called `target` is replaced; under another name that
                `rename` gives none is.
            on_progress: Told of every step.
            renewals: Other links to the same file, one after another, for when one is dead.
            is_renewed: Whether `url` is one of them already: where such a one leads nowhere, the
                next is tried.
            rename: Returns the final name when `target` is a mere suggestion; handed the host's
                Content-Disposition, and called again when that name was taken meanwhile.

        Returns:
            The final name.

        Raises:
            FileError: What went wrong. Nothing is left on the disk but, when it was a cut and
                the host can go on where it was, the part that had come.
        """
        part, keep = Part(target, key or named_by(url)), False
        async with self._gate, Meter(on_progress) as meter, self._lent() as disk:
            limit = asyncio.timeout(self._timeouts.download)
            try:
                async with limit:
                    await disk.do(part.find)
                    said = await self._often(url, part, disk, meter, renewals, is_renewed)
                # Outside of the limit: a file that has got its name is no failure any more.
                name = (lambda: target) if rename is None else (lambda: rename(said))
                return await disk.do(
                    lambda: part.publish(name, overwrite=overwrite, again=rename is not None)
                )
            except DownloadError as error:
                keep = error.retryable
                raise
            except TimeoutError:
                if not limit.expired():
                    raise
                await disk.end()  # what failed there is the reason then
                keep = True
            finally:
                if part.is_open or not disk.is_idle:
                    if not keep:
                        disk.drop()
                    await disk.do(lambda: part.leave(keep=keep))
            raise DownloadError(
                f"The download took longer than {self._timeouts.download:g} s.",
                retryable=True,
                billed="yes",
            )

    @contextlib.asynccontextmanager
    async def _lent(self) -> AsyncIterator[Disk]:
        """Lend what one transfer needs to write; its memory is kept for the next one."""
        try:
            memory = self._memory.pop() if self._memory else pages(ROOM)
        except OSError as error:
            reason = error.strerror
        else:
            disk = Disk(memory)
            del memory
            try:
                yield disk
            finally:
                if disk.is_idle:  # with a loop that was closed it may not be
                    self._memory = [disk.memory]
                    disk.memory = memoryview(b"")  # frames of an error may hold it for long
            return
        raise DownloadError(
            f"There is no memory to write from: {reason}.", retryable=True, billed="yes"
        )

    def close(self) -> None:
        """Let go of the memory that is kept."""
        self._memory.clear()

    async def _often(
        self,
        url: str,
        part: Part,
        disk: Disk,
        meter: Meter,
        renewals: AsyncIterator[str] | None,
        is_renewed: bool,
    ) -> str | None:
        """Fill the part, in as many attempts as it takes; return the Content-Disposition."""
        next_pause, attempt, furthest = pauses(self._retry), 1, part.size
        while True:
            try:
                return await self._once(url, part, disk, meter)
            except LinkExpiredError:
                other = None if renewals is None else await anext(renewals, None)
                if other is None:
                    raise
                url, is_renewed, attempt = other, True, 1
                continue
            except _OtherBytesError:
                part.mark = None  # so that this cannot come twice in a row
                continue
            except DownloadError as error:
                if part.size - furthest >= _FURTHER:
                    attempt, furthest = 1, part.size
                if not error.retryable or attempt >= self._retry.attempts:
                    # The first link is the service's own word; of a renewed one that brought
                    # nothing nobody knows whether it leads anywhere.
                    other = None
                    if renewals is not None and is_renewed and not part.size:
                        other = await anext(renewals, None)
                    if other is None:
                        raise
                    url, attempt = other, 1
                    continue
                pause = max(next_pause(), asked_pause(error, self._retry))
                _log.info(
                    "A download failed, attempt %d of %d, next in %.1f s: %s",
                    attempt, self._retry.attempts, pause, error,
                )  # fmt: skip
            attempt += 1
            await asyncio.sleep(pause)

    async def _once(self, url: str, part: Part, disk: Disk, meter: Meter) -> str | None:
        offset = _offset(part)
        headers = {"Accept-Encoding": "identity"}
        if offset and part.mark is not None:
            headers |= asking_for(offset, part.mark)
        try:
            async with self._get(url, headers) as response:
                writer = Writer(part, disk, response.headers.get("Content-Type", ""))
                total = await self._begin(response, url, part, writer, offset)
                done = await self._save(response, writer, total, meter)
                if may_be_cut(response) and await disk.do(part.is_cut):
                    raise IntegrityError(
                        f"{done} bytes came, and then the film ends in its middle.",
                        retryable=True,
                        billed="yes",
                    )
                meter.end(done)
                return response.headers.get("Content-Disposition")
        except (aiohttp.ClientError, OSError, ValueError) as error:
            reason = type(error).__name__
        # Raised out here, for the session's errors print whole URLs, with signatures in them.
        raise DownloadError(
            f"The download from {shown(url)} broke off ({reason}).", retryable=True, billed="yes"
        )

    @contextlib.asynccontextmanager
    async def _get(
        self, url: str, headers: dict[str, str]
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        for _ in range(_REDIRECTS + 1):
            self._hosts.check(url)
            response = await self._reach(url, headers)
            async with response:
                if response.status in (301, 302, 303, 307, 308):
                    url = _joined(url, response.headers.get("Location", ""))
                    continue
                yield response
                return
        raise DownloadError(f"{shown(url)}: more than {_REDIRECTS} redirects.", billed="yes")

    async def _reach(self, url: str, headers: dict[str, str]) -> aiohttp.ClientResponse:
        contact = Contact()
        proxy = self._proxy_for(url)
        try:
            async with self._unless_still():
                return await self._session_for(proxied=proxy is not None).get(
                    # As it was given: some hosts sign a link letter by letter.
                    URL(url, encoded=url.isascii()),
                    allow_redirects=False,
                    trace_request_ctx=contact,
                    middlewares=(contact.once,),
                    headers=headers,
                    proxy=proxy,
                )
        except (aiohttp.ClientConnectionError, OSError) as error:
            cause = error.__cause__ or error
        if isinstance(cause, RefusedAddressError):
            raise refused(url)
        raise DownloadError(
            f"{shown(url)} could not be reached ({type(cause).__name__}).",
            retryable=True,
            billed="yes",
        )

    async def _begin(
        self, response: aiohttp.ClientResponse, url: str, part: Part, writer: Writer, offset: int
    ) -> int | None:
        """Begin to write what comes; return the bytes of the whole, if they are known."""
        headers = response.headers
        if response.status in _GONE:
            raise LinkExpiredError(
                f"The link {shown(url)} is dead (HTTP {response.status}).",
                code=response.status,
                billed="yes",
                hint="Results live for about 24 hours; fetch_task may give a fresh link.",
            )
        if offset and response.status == 206 and part.mark is not None:
            rest = is_rest_of(headers, offset, part.mark)
            if rest is None:
                raise _OtherBytesError
            await writer.go_on(offset)
            return self._fitting(rest)
        if offset and response.status == 416:
            raise _OtherBytesError
        if response.status != 200:
            raise unfit(response, url)
        check_framing(headers, url)
        total = self._fitting(response.content_length)
        mark, validator = None, validator_of(headers)
        if "Content-Encoding" in headers:  # a length of what is packed, and so would ranges be
            total = None
        elif validator is not None:
            mark = Mark(part.key, validator, total)
        await writer.begin(mark)
        return total

    async def _save(
        self,
        response: aiohttp.ClientResponse,
        writer: Writer,
        total: int | None,
        meter: Meter,
    ) -> int:
        """Write all that comes; return the bytes that are there in the end."""
        done = writer.offset
        meter.begin(total, done)
        try:
            async with self._unless_still() as still:
                while chunk := await response.content.readany():
                    done += len(chunk)
                    if done > self._max_bytes:
                        raise self._too_large(done)
                    if len(chunk) < writer.room:
                        writer.keep(chunk)
                    else:
                        still.reschedule(None)  # a slow disk is no silence of the host
                        await writer.put(chunk)
                    self._put_off(still)
                    meter(done)
        except (aiohttp.ClientError, OSError, ValueError, DownloadError):
            await writer.flush(cut=True)  # the next attempt goes on from here
            raise
        await writer.flush()
        if total is not None and done != total:
            raise IntegrityError(f"{done} of {total} bytes came.", retryable=True, billed="yes")
        return done

    @contextlib.asynccontextmanager
    async def _unless_still(self) -> AsyncIterator[asyncio.Timeout]:
        limit = asyncio.timeout_at(self._silence_ends())
        try:
            async with limit:
                yield limit
        except TimeoutError:
            if not limit.expired():
                raise
            raise DownloadError(
                f"The download stood still for {self._timeouts.stall:g} s.",
                retryable=True,
                billed="yes",
            ) from None

    def _silence_ends(self) -> float:
        return asyncio.get_running_loop().time() + self._timeouts.stall

    def _put_off(self, still: asyncio.Timeout) -> None:
        """Move the end of the silence on; by a little too much, for each move costs time."""
        ends, soonest = still.when(), self._silence_ends()
        if ends is None or ends < soonest:
            still.reschedule(soonest + self._timeouts.stall / 4)

    def _fitting(self, size: int | None) -> int | None:
        """Return the bytes of the whole, as announced, once it is certain that they may come."""
        if (size or 0) > self._max_bytes:
            raise self._too_large(size)
        return size

    def _too_large(self, size: int | None) -> TopazError:
        return TooLargeError(
            f"The result has {size} bytes or more; the limit is {self._max_bytes}.",
            billed="yes",
            hint="Raise Quotas(max_download_bytes=...).",
        )


def _joined(url: str, location: str) -> str:
    """Return where a redirect leads to; its spaces are encoded, as they are in results."""
    return urljoin(url, location.strip().replace(" ", "%20"))


def _offset(part: Part) -> int:
    """Return how many of the bytes that are there count.

    When all are there and yet the transfer was cut, the last one is asked for again: the host
    then says whether the others are still the same.
    """
    if part.mark is None:
        return 0
    return part.size if part.mark.total is None else min(part.size, part.mark.total - 1)
