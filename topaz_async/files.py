"""Send files to the upload host, bring results to this disk."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
from collections.abc import AsyncIterable
from pathlib import Path
from urllib.parse import urlsplit

import attrs

from . import media
from .engine import Engine
from .errors import (
    ConfigurationError,
    InvalidInputError,
    LinkExpiredError,
    ResultError,
    TopazError,
    TransportError,
    UnsafeUrlError,
)
from .models import UploadedFile, UpscaleResult
from .targets import Target
from .texts import quoted
from .transfers import Meter, OnProgress, safe_name
from .uploads import UploadSource
from .urls import check_url

__all__ = ["Files"]

#: Where uploads go at the upload host.
_FOLDER = "topaz-async"

StrPath = str | os.PathLike[str]


class Files:
    """The files of one client.

    Args:
        parts: The wired parts.
        max_upload_bytes: The largest local file.
        can_upload: Whether an upload host is known.
    """

    def __init__(self, parts: Engine, *, max_upload_bytes: int, can_upload: bool) -> None:
        self._parts = parts
        self._max_upload_bytes = max_upload_bytes
        self._can_upload = can_upload

    async def upload(
        self,
        source: StrPath | bytes | AsyncIterable[bytes],
        name: str | None,
        on_progress: OnProgress | None,
    ) -> UploadedFile:
        limit = self._max_upload_bytes
        if isinstance(source, (str, os.PathLike)):
            found = await asyncio.to_thread(
                media.inspect, source, max_bytes=limit, kinds=media.KINDS
            )
            return await self.send(found.path, found.size, found.kind, name, on_progress)
        if isinstance(source, (bytes, bytearray, memoryview)):
            content = bytes(source)
            kind = media.check_bytes(content, max_bytes=limit, kinds=media.KINDS)
            return await self.send(content, len(content), kind, name, on_progress)
        if isinstance(source, AsyncIterable):
            return await self.send(source, None, "mp4", name, on_progress)
        raise InvalidInputError(
            f"A source is a path, bytes or an async iterable, not {type(source).__name__}."
        )

    async def send(
        self,
        source: Path | bytes | AsyncIterable[bytes],
        size: int | None,
        kind: str,
        name: str | None,
        on_progress: OnProgress | None,
    ) -> UploadedFile:
        if name is not None and not isinstance(name, str):
            raise InvalidInputError(f"The name of an upload is a text, not {quoted(name)}.")
        if not self._can_upload:
            raise ConfigurationError(
                "base_url was set and upload_url was not, so there is no place to upload to."
            )
        unique = f"{secrets.token_hex(16)}.{kind}"
        wire = self._parts.wire
        async with Meter(on_progress) as meter:
            upload = UploadSource(source, size, meter)
            place = unique if name is None else safe_name(name, unique)
            part = upload.part(place, media.KINDS[kind])
            try:
                file = wire.uploaded(await self._parts.send_file(wire.upload(part, _FOLDER)))
            except TransportError:
                if upload.error is not None:
                    raise upload.error from None
                raise
            meter.end(upload.sent)
            return file

    async def target(self, path: StrPath, error: type[TopazError], overwrite: bool) -> Target:
        return await asyncio.to_thread(Target.of, path, overwrite=overwrite, error=error)

    async def bring(
        self,
        result: UpscaleResult,
        target: Target,
        name: str | None,
        on_progress: OnProgress | None,
        overwrite: bool,
    ) -> UpscaleResult:
        if not result.urls:
            raise ResultError(
                f"The result of task {result.task_id} names no link.", task_id=result.task_id
            )
        check_url(result.url, "The result's URL", UnsafeUrlError)
        linked = Path(urlsplit(result.url).path)
        suggestion = f"{name or linked.stem or 'video'}{linked.suffix or '.mp4'}"
        place = await asyncio.to_thread(target.place, suggestion, overwrite=overwrite)

        async def fetch(url: str) -> None:
            await self._parts.downloader.fetch(
                url, place, overwrite=overwrite, on_progress=on_progress
            )

        try:
            try:
                await fetch(result.url)
            except LinkExpiredError:
                url = await self._renewed(result)
                if url is None:
                    raise
                await fetch(url)
        except TopazError as error:
            raise error.about(
                task_id=result.task_id, reference=result.reference, billed="yes"
            ) from None
        self._parts.memory.downloaded(result.task_id, place)
        return attrs.evolve(result, path=place)

    async def _renewed(self, result: UpscaleResult) -> str | None:
        """Return another link to a result whose link is dead, or None; buys nothing."""
        with contextlib.suppress(TopazError):
            return await self.fresh_link(result.url)
        with contextlib.suppress(TopazError):
            urls = (await self._parts.record(result.task_id)).result_urls
            return next((url for url in urls if url not in result.urls), None)
        return None

    async def fresh_link(self, url: str) -> str:
        request = self._parts.wire.fresh_link(url)
        return self._parts.wire.renewed(await self._parts.ask(request))

    async def fetch(
        self, url: str, target: Target, on_progress: OnProgress | None, overwrite: bool
    ) -> Path:
        """Bring what lies at a URL."""
        parts = check_url(url, "The URL to download")
        place = await asyncio.to_thread(
            target.place, Path(parts.path).name or "video.mp4", overwrite=overwrite
        )
        try:
            return await self._parts.downloader.fetch(
                url, place, overwrite=overwrite, on_progress=on_progress
            )
        except TopazError as error:  # a link says nothing about what it cost
            raise error.about(billed="no") from None
