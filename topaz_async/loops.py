"""Reach the event loop that something belongs to, from whichever thread."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any

__all__ = ["call_on", "running_loop"]


def running_loop() -> asyncio.AbstractEventLoop | None:
    """Return the loop that runs in this thread, or None."""
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def call_on(
    loop: asyncio.AbstractEventLoop | None, function: Callable[..., object], *args: Any
) -> None:
    """Call a function on a loop: at once when it runs here, soon when it runs elsewhere.

    Without a loop it is called at once; on a loop that is closed it is not called any more.
    """
    if loop is None or loop is running_loop():
        function(*args)
        return
    with suppress(RuntimeError):
        loop.call_soon_threadsafe(function, *args)
