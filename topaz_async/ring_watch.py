"""Hear the callbacks that other processes of this machine received."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from .rings import RingReader

__all__ = ["RingWatch"]

#: Seconds between two looks at the file.
_INTERVAL = 0.2
#: Looks without a need after which nobody looks any more.
_IDLE = 25


class RingWatch:
    """Looks at a file of rings now and then, for as long as somebody waits.

    Args:
        path: The file, which may not exist yet; None when there is nobody to hear from.
        hear: Called with task id and nonce of each ring.
        is_needed: Tells whether somebody waits.
    """

    def __init__(
        self,
        path: str | None,
        hear: Callable[[str, str | None], object],
        is_needed: Callable[[], bool],
    ) -> None:
        self._reader = None if path is None else RingReader(path)
        self._hear = hear
        self._is_needed = is_needed
        self._reading = asyncio.Lock()
        self._readings: set[asyncio.Task[None]] = set()
        self._task: asyncio.Task[None] | None = None

    def begin(self) -> None:
        """Look from now on; fine while that happens already."""
        if self._reader is not None and (self._task is None or self._task.done()):
            self._task = asyncio.create_task(self._run(), name="topaz_async rings")

    async def catch_up(self) -> None:
        """Hear what has been noted until now."""
        if self._reader is None:
            return
        # In a task of its own: what was read is read only once, and a caller may leave.
        reading = asyncio.create_task(self._read(self._reader), name="topaz_async rings read")
        self._readings.add(reading)
        reading.add_done_callback(self._readings.discard)
        await asyncio.shield(reading)

    async def _read(self, reader: RingReader) -> None:
        async with self._reading:
            for task_id, nonce in await asyncio.to_thread(reader.read):
                self._hear(task_id, nonce)

    async def _run(self) -> None:
        idle = 0
        while idle < _IDLE:
            await self.catch_up()
            idle = 0 if self._is_needed() else idle + 1
            await asyncio.sleep(_INTERVAL)

    async def aclose(self) -> None:
        """Look no longer."""
        tasks = [*self._readings, *([self._task] if self._task is not None else [])]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
