"""Bring results to this disk, through another link where one is dead."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncGenerator, Callable, Container
from datetime import UTC, datetime
from pathlib import Path

import attrs

from .engine import Engine
from .errors import FileError, ResultError, TopazError, UnsafeUrlError
from .models import UpscaleResult
from .names import result_name
from .targets import Target
from .transfers import OnProgress, Together
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
        """Bring the first file of a result, in a folder under a name like `name`."""
        if not result.urls:
            raise ResultError(
                f"The result of task {result.task_id} names no link.",
                task_id=result.task_id,
                reference=result.reference,
                billed="yes",
            )
        place = await self._bring(result, 0, target, name, on_progress, overwrite, set())
        self._parts.memory.downloaded(result.task_id, place)
        return attrs.evolve(result, path=place)

    async def bring_all(
        self,
        result: UpscaleResult,
        folder: Target,
        on_progress: OnProgress | None,
        overwrite: bool,
    ) -> tuple[Path, ...]:
        """Bring all files of a result, one after another; those that come stay."""
        places: dict[int, Path] = {}
        failures: list[TopazError] = []
        together = None if on_progress is None else Together(on_progress)
        for index in range(len(result.urls)):
            if together is not None:
                together.is_last = index + 1 == len(result.urls)
            try:
                places[index] = await self._bring(
                    result, index, folder, None, together, overwrite, set(places.values())
                )
            except FileError as error:
                failures.append(error)
        if 0 in places:
            self._parts.memory.downloaded(result.task_id, places[0])
        if failures:
            raise failures[0]
        return tuple(places.values())

    async def _bring(
        self,
        result: UpscaleResult,
        index: int,
        target: Target,
        name: str | None,
        on_progress: OnProgress | Together | None,
        overwrite: bool,
        taken: set[Path],
    ) -> Path:
        def place(disposition: str | None = None) -> Path:
            if name:
                suggestion = f"{name}{Path(result_name(path)).suffix}"
                return target.place(suggestion, overwrite=overwrite, taken=taken)
            return _place(target, path, disposition, overwrite, taken)

        url = result.urls[index]
        renewals = self._renewals(result, index)
        try:
            path = check_url(url, "The result's URL", UnsafeUrlError).path
            async with contextlib.aclosing(renewals):
                first = url
                if _is_old(result):
                    url = await anext(renewals, url)
                return await self._parts.downloader.fetch(
                    url,
                    await _chosen(target, place),
                    key=f"{result.task_id}/{index}",
                    overwrite=overwrite,
                    on_progress=on_progress,
                    renewals=renewals,
                    is_renewed=url != first,
                    rename=None if target.name else place,
                )
        except TopazError as error:
            raise error.about(
                task_id=result.task_id, reference=result.reference, billed="yes"
            ) from None

    async def _renewals(self, result: UpscaleResult, index: int) -> AsyncGenerator[str, None]:
        """Iterate over other links to a file whose link is dead or old; buys nothing."""
        with contextlib.suppress(TopazError):
            yield await self.fresh_link(result.urls[index])
        with contextlib.suppress(TopazError):
            urls = (await self._parts.record(result.task_id)).result_urls
            if len(urls) > index and urls[index] not in result.urls:
                yield urls[index]
        if _is_old(result):  # it was not tried: the clock that says so may be wrong
            yield result.urls[index]

    async def fresh_link(self, url: str) -> str:
        request = self._parts.wire.fresh_link(url)
        return self._parts.wire.renewed(await self._parts.ask(request))

    async def fetch(
        self, url: str, target: Target, on_progress: OnProgress | None, overwrite: bool
    ) -> Path:
        """Bring what lies at a URL."""
        path = check_url(url, "The URL to download").path

        def place(disposition: str | None = None) -> Path:
            return _place(target, path, disposition, overwrite)

        try:
            return await self._parts.downloader.fetch(
                url,
                await _chosen(target, place),
                overwrite=overwrite,
                on_progress=on_progress,
                rename=None if target.name else place,
            )
        except TopazError as error:  # a link says nothing about what it cost
            raise error.about(billed="no") from None


async def _chosen(target: Target, place: Callable[[], Path]) -> Path:
    """Return the path to write; only for a name in a folder one has to look at the disk."""
    return place() if target.name else await asyncio.to_thread(place)


def _place(
    target: Target,
    path: str,
    disposition: str | None,
    overwrite: bool,
    taken: Container[Path] = frozenset(),
) -> Path:
    """Return where to write what a link leads to; a name that the host says replaces nothing."""
    name = result_name(path, disposition)
    may_replace = overwrite and name == result_name(path)
    return target.place(name, overwrite=may_replace, taken=taken)


def _is_old(result: UpscaleResult) -> bool:
    """Tell whether a result's links have outlived what the service promises of them."""
    return result.expires_hint is not None and datetime.now(UTC) > result.expires_hint
