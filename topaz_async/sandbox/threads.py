"""Run blocking calls off the event loop, in threads that end with the sandbox."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final, ParamSpec, TypeVar

#: Bytes moved by one call.
PIECE: Final = 1 << 18

P = ParamSpec("P")
T = TypeVar("T")


class Threads:
    """A pool of threads of the sandbox's own; the loop's default pool would outlive it."""

    def __init__(self, count: int, name: str) -> None:
        self._threads: set[threading.Thread] = set()
        self._pool = ThreadPoolExecutor(
            count, thread_name_prefix=f"sandbox-{name}", initializer=self._enter
        )

    def _enter(self) -> None:
        self._threads.add(threading.current_thread())

    async def run(self, call: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Return what ``call`` returns; a cancelled caller leaves the call to end by itself."""
        return await asyncio.wrap_future(self._pool.submit(call, *args, **kwargs))

    async def aclose(self, seconds: float) -> None:
        """End the threads, waiting at most ``seconds`` for the calls under way."""
        self._pool.shutdown(wait=False, cancel_futures=True)
        clock = asyncio.get_running_loop().time
        end = clock() + seconds
        # Joining would hold the loop up, and a thread tells no loop when it ends.
        while any(thread.is_alive() for thread in self._threads) and clock() < end:  # noqa: ASYNC110
            await asyncio.sleep(0.001)


def append(path: Path, data: bytes) -> None:
    """Add ``data`` to the end of a file.

    Opens and closes it each time: a handle kept between two calls would be lost when the coroutine
    that holds it is cancelled in between.
    """
    with path.open("ab") as file:
        file.write(data)


def read_at(path: Path, start: int, length: int) -> bytes:
    """Return up to ``length`` bytes of a file, from ``start``."""
    with path.open("rb") as file:
        file.seek(start)
        return file.read(length)
