"""Run a command's story on an event loop, so that Ctrl-C and SIGTERM end it in order."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, TypeVar

from .exits import StoppedError

__all__ = ["run_question", "run_story", "sigterm_as_ctrl_c"]

T = TypeVar("T")

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def sigterm_as_ctrl_c() -> Iterator[None]:
    """Let SIGTERM raise KeyboardInterrupt, as Ctrl-C does outside of a story."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def run_story(story: Callable[[asyncio.Event], Coroutine[Any, Any, T]]) -> T:
    """Run a coroutine function to its end and return what it returns.

    Args:
        story: Called with an event that Ctrl-C or SIGTERM sets; the story is to end soon then.
            A second signal does what it does without us: it ends the program at once.
    """

    async def begin() -> T:
        stop = asyncio.Event()
        with _setting(stop, asyncio.get_running_loop()):
            return await story(stop)

    return asyncio.run(begin())


def run_question(story: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run a coroutine function that buys nothing, so that Ctrl-C and SIGTERM cancel it.

    Raises:
        StoppedError: A signal came.
    """

    async def watched(stop: asyncio.Event) -> T:
        asking = asyncio.ensure_future(story())
        stopping = asyncio.ensure_future(stop.wait())
        try:
            await asyncio.wait((asking, stopping), return_when=asyncio.FIRST_COMPLETED)
            if not asking.done():
                raise StoppedError("Interrupted.")
            return await asking
        finally:
            asking.cancel()
            stopping.cancel()
            await asyncio.wait((asking, stopping))

    return run_story(watched)


@contextmanager
def _setting(stop: asyncio.Event, loop: asyncio.AbstractEventLoop) -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in _SIGNALS}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def on_signal(number: int, frame: FrameType | None) -> None:
        restore()
        loop.call_soon_threadsafe(stop.set)

    # Not loop.add_signal_handler: Windows has none.
    for number in _SIGNALS:
        signal.signal(number, on_signal)
    try:
        yield
    finally:
        restore()
