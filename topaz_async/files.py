"""Bring results to this disk, with a fresh link where the old one is dead."""

from __future__ import annotations

import asyncio
import contextlib
import os
from pathlib import Path
from urllib.parse import urlsplit

import attrs

from .engine import Engine
from .errors import (
    LinkExpiredError,
    ResultError,
    TopazError,
    UnsafeUrlError,
)
from .models import UpscaleResult
from .targets import Target
from .transfers import OnProgress
from .urls import check_url

__all__ = ["Files"]

StrPath = str | os.PathLike[str]


class Files:
    """The files of one client.

    Args:
        parts: The wired parts.
    """

    def __init__(self, parts: Engine) -> None:
        self._parts = parts

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
