"""Reach the event loop that something belongs to, from whichever thread."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar

__all__ = ["call_on", "running_loop"]

T = TypeVar("T")


def running_loop() -> asyncio.AbstractEventLoop | None:
    """Return the loop that runs in this thread, or None."""
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def call_on(
    loop: asyncio.AbstractEventLoop | None, function: Callable[..., T], *args: Any
) -> T | None:
    """Call a function on a loop: at once when it runs here, soon when it runs elsewhere.

    Without a loop it is called at once; on a loop that is closed it is not called any more.

    Returns:
        What the function returned, if it was called at once.
    """
    if loop is None or loop is running_loop():
        return function(*args)
    with suppress(RuntimeError):
        loop.call_soon_threadsafe(function, *args)
    return None
