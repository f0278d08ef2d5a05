"""A service that programs of many tests share, and a count of what they buy."""

from __future__ import annotations

import asyncio
import threading

from topaz_async.sandbox import CopyEngine, Fault, Sandbox

__all__ = ["Bought", "Service"]


class Service:
    """A sandbox in a thread of its own, so that the program can run in the test's."""

    def __init__(self) -> None:
        #: How long each new task takes.
        self.run_seconds = 0.0
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()))
        self._thread.start()
        self._ready.wait()

    async def _serve(self) -> None:
        self._loop, self._end = asyncio.get_running_loop(), asyncio.Event()
        async with Sandbox(
            engine=CopyEngine(),
            submit_quota=None,
            poll_quota=None,
            credits=1e9,
            run_seconds=lambda number: self.run_seconds,
        ) as self.sandbox:
            self._ready.set()
            await self._end.wait()

    def add(self, fault: Fault) -> None:
        """Let something go wrong."""
        self._loop.call_soon_threadsafe(self.sandbox.add_fault, fault)

    def settle(self) -> None:
        """Let nothing go wrong any more, and be quick again."""
        self.run_seconds = 0.0
        self._loop.call_soon_threadsafe(self.sandbox.faults.clear)

    def close(self) -> None:
        """End it."""
        self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join()


class Bought:
    """Counts the tasks that are made within a block."""

    def __init__(self, service: Service) -> None:
        self._tasks = service.sandbox.books.tasks
        self.count = 0

    def __enter__(self) -> Bought:
        self._before = len(self._tasks)
        return self

    def __exit__(self, *error: object) -> None:
        self.count = len(self._tasks) - self._before
