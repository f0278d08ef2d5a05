"""Bring a task's input to disk and say what it holds."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import aiohttp
import attrs

from .credits import IMAGE_MODEL
from .engine import IMAGE_ENDINGS, Engine, MediaError, MediaInfo
from .files import FileStore, StoredFile
from .loopback import fetch
from .threads import Threads


@attrs.frozen
class Input:
    """An input on the disk of the sandbox."""

    path: Path
    info: MediaInfo
    #: Whether it was fetched for one task, and goes with it.
    fetched: bool


class Inputs:
    """Reads the sandbox's own uploads where they lie, and fetches other loopback URLs."""

    def __init__(
        self,
        *,
        engine: Engine,
        files: FileStore,
        session: aiohttp.ClientSession,
        disk: Threads,
        max_bytes: Mapping[str, int],
    ) -> None:
        self._engine, self._files, self._session = engine, files, session
        self._disk = disk
        #: Bytes of an input, by model.
        self._max_bytes = max_bytes
        self._known: dict[Path, Input] = {}

    def upload(self, source: str) -> StoredFile | None:
        """Return the upload behind ``source``, if it is one of the sandbox's own."""
        return self._files.find(source)

    async def bring(self, source: str, model: str) -> Input:
        """Return the input behind a URL.

        Raises:
            MediaError: It is not what ``model`` works on, or too large.
            UnreachableError: It is not on loopback, or could not be fetched.
        """
        stored = self.upload(source)
        if stored is None:
            return await self._fetch(source, model)
        limit = self._max_bytes[model]
        if stored.size > limit:
            raise MediaError(f"{stored.size} bytes are more than the {limit} allowed")
        if stored.disk not in self._known:
            info = await self._disk.run(self._engine.probe, stored.disk)
            self._known[stored.disk] = Input(stored.disk, info, fetched=False)
        _check(self._known[stored.disk].info, model)
        return self._known[stored.disk]

    async def release(self, given: Input) -> None:
        """Remove what was fetched for one task."""
        if given.fetched:
            await self._disk.run(given.path.unlink, missing_ok=True)

    async def _fetch(self, source: str, model: str) -> Input:
        path = self._files.scratch()
        try:
            limit = self._max_bytes[model]
            await fetch(self._session, source, path, self._disk, limit=limit)
            info = await self._disk.run(self._engine.probe, path)
            _check(info, model)
            return Input(path, info, fetched=True)
        except BaseException:
            await self._disk.run(path.unlink, missing_ok=True)
            raise


def _check(info: MediaInfo, model: str) -> None:
    # An engine that does not say what the container is takes anything.
    if not info.container:
        return
    if (info.container in IMAGE_ENDINGS) != (model == IMAGE_MODEL):
        raise MediaError(f"{info.container} is no input of {model}")
