"""The receiver of callbacks as a program: shows them, and hands them on to who waits."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

from rich.console import Console

from ..callbacks import CallbackHub
from ..callbacks_events import CallbackEvent
from .display import say
from .exits import UsageError
from .sources import lookup

__all__ = ["listen"]

_NO_KEY = (
    "There is no webhook key. Set KIE_WEBHOOK_KEY to the webhook HMAC key of your kie.ai account "
    "(old and new with a blank between them while you exchange them), or add --accept-unsigned "
    "to take callbacks from anybody."
)


async def listen(
    console: Console,
    stop: asyncio.Event,
    *,
    host: str,
    port: int,
    path: str,
    journal: Path | None,
    accept_unsigned: bool,
) -> None:
    """Receive callbacks until `stop` is set.

    Raises:
        UsageError: There is no webhook key, and nobody wants to do without.
    """
    secrets = (lookup("KIE_WEBHOOK_KEY").value or "").split()
    if not secrets and not accept_unsigned:
        raise UsageError(_NO_KEY)
    hub = CallbackHub(
        None if accept_unsigned else secrets, journal=journal, accept_unsigned=accept_unsigned
    )
    await _receive(hub, console, stop, host=host, port=port, path=path)


async def _receive(
    hub: CallbackHub, console: Console, stop: asyncio.Event, *, host: str, port: int, path: str
) -> None:
    """Show callbacks until `stop` is set."""
    events = hub.events()  # from before the first can come
    async with hub.serve(host, port, path=path) as url:
        say(console, "Callbacks are received at ", (url, "cyan"))
        say(console, "Ctrl-C stops it.")
        console.file.flush()
        showing = asyncio.create_task(_show(events, console))
        await stop.wait()
        showing.cancel()
    if console.is_terminal:
        say(console)  # the terminal has shown ^C on this line
    say(console, "No more callbacks are received.")


async def _show(events: AsyncIterator[CallbackEvent], console: Console) -> None:
    async for event in events:
        moment = f"{event.received_at:%Y-%m-%d %H:%M:%S} UTC"
        say(console, f"{moment}  task {event.task_id}  {event.state or 'ended'}")
        console.file.flush()
