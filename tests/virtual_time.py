"""Loops for tests that drive their own: a plain one, and one whose clock skips idle time.

looptime's own pytest plugin is switched off: it makes loops in tests that need none, and leaves
them open.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Coroutine
from typing import ParamSpec, TypeVar

import looptime

P = ParamSpec("P")
T = TypeVar("T")


class VirtualLoop(looptime.LoopTimeEventLoop, asyncio.SelectorEventLoop):
    """A selector loop whose clock jumps to the next timer."""


def _virtual_loop() -> VirtualLoop:
    loop = VirtualLoop()
    loop.setup_looptime(start=0.0)
    return loop


def run_in_virtual_time(story: Coroutine[object, object, T]) -> T:
    """Run a coroutine to its end on a clock that starts at 0 and never idles."""
    with asyncio.Runner(loop_factory=_virtual_loop) as runner:
        return runner.run(story)


def run_on_a_loop(story: Coroutine[object, object, T]) -> T:
    """Run a coroutine as `asyncio.run` does, without touching the test runner's own loop."""
    with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
        return runner.run(story)


def in_virtual_time(test: Callable[P, Coroutine[object, object, T]]) -> Callable[P, T]:
    """Make a test of a coroutine function, on a clock that starts at 0 and never idles."""

    @functools.wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> T:
        return run_in_virtual_time(test(*args, **kwargs))

    return run
