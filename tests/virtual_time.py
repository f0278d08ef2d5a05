"""Loops for tests that drive their own: a plain one, and one whose clock skips idle time."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import TypeVar

import looptime

T = TypeVar("T")


class VirtualLoop(looptime.LoopTimeEventLoop, asyncio.SelectorEventLoop):
    """A selector loop whose clock jumps to the next timer."""


class VirtualTime(asyncio.DefaultEventLoopPolicy):
    """Gives each test a loop of its own whose clock starts at 0 and never idles.

    looptime's own pytest plugin is switched off: it makes loops in tests that need none, and
    leaves them open.
    """

    def new_event_loop(self) -> VirtualLoop:
        loop = VirtualLoop()
        loop.setup_looptime(start=0.0)
        return loop


def run_in_virtual_time(story: Coroutine[object, object, T]) -> T:
    """Run a coroutine to its end on a clock that starts at 0 and never idles."""
    with asyncio.Runner(loop_factory=VirtualTime().new_event_loop) as runner:
        return runner.run(story)


def run_on_a_loop(story: Coroutine[object, object, T]) -> T:
    """Run a coroutine as `asyncio.run` does, without touching the test runner's own loop."""
    with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
        return runner.run(story)
