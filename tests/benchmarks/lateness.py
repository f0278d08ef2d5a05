"""How long a loop keeps others waiting: a clock outside rings, and the loop notes how late.

A sleeping coroutine is no measure of that.  The system counts a loop's sleep in whole
milliseconds, so in any loop that has to wait now and then timers are up to one late, whatever runs
in it; and a loop that is held up for long misses most of its own looks.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import subprocess
import sys
import time
from collections.abc import AsyncIterator

__all__ = ["lateness"]

#: Seconds between two rings.
_TICK = 0.002
_MOMENT = struct.Struct("d")


@contextlib.asynccontextmanager
async def lateness() -> AsyncIterator[list[float]]:
    """Note, as long as this lasts, after how many seconds the running loop hears each ring."""
    late, loop, started = list[float](), asyncio.get_running_loop(), asyncio.Event()
    ears, bell = socket.socketpair()
    ears.setblocking(False)

    def hear() -> None:
        now = time.perf_counter()
        late.extend(now - rung for (rung,) in _MOMENT.iter_unpack(ears.recv(_MOMENT.size * 1000)))
        started.set()

    loop.add_reader(ears, hear)
    handle = bell.fileno()
    clock = subprocess.Popen([sys.executable, __file__, str(handle)], pass_fds=[handle])
    bell.close()
    try:
        await started.wait()
        late.clear()
        yield late
    finally:
        with contextlib.suppress(BlockingIOError):
            hear()  # what rang while the loop was held up to the very end
        loop.remove_reader(ears)
        ears.close()
        clock.wait()


def ring(handle: int) -> None:
    """Ring until nobody listens."""
    with socket.socket(fileno=handle) as bell, contextlib.suppress(OSError):
        due = time.perf_counter()
        while True:
            due += _TICK
            time.sleep(max(0.0, due - time.perf_counter()))
            bell.send(_MOMENT.pack(time.perf_counter()))


if __name__ == "__main__":
    ring(int(sys.argv[1]))
