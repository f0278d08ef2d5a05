"""What concerns the account and its files: the balance, and uploads."""

from __future__ import annotations

import asyncio
from pathlib import Path

from ..settings import CREDIT_DOLLARS, Quotas
from .display import make_console, say, say_json
from .entries import opened
from .options import Telling
from .service import Service
from .upscaling import closed_on

__all__ = ["credits", "upload"]


async def credits(  # noqa: A001  # the service's word
    service: Service, telling: Telling, stop: asyncio.Event
) -> None:
    """Say how many credits the account has."""
    async with service.client() as topaz, closed_on(stop, topaz):
        balance = await topaz.credits()
    console = make_console()
    if telling.json:
        say_json(console, {"event": "credits", "credits": balance})
    elif not telling.quiet:
        say(console, f"{balance:g} credits (about {balance * CREDIT_DOLLARS:.2f} USD)")


async def upload(
    file: str,
    path: Path | None,
    service: Service,
    telling: Telling,
    stop: asyncio.Event,
    *,
    quotas: Quotas,
) -> None:
    """Send a file to the service's upload host, and say under which address it lies there.

    Args:
        file: The file.
        path: The journal, which remembers what was sent; None remembers nothing.
        service: Where the file is sent.
        telling: How to tell.
        stop: Set when all shall end.
        quotas: How large the file may be.

    Raises:
        UsageError: The journal cannot be opened.
        TopazError: The file could not be sent.
    """
    async with (
        opened(path) as journal,
        service.client(journal=journal, quotas=quotas) as topaz,
        closed_on(stop, topaz),
    ):
        sent = await topaz.upload(file)
    console = make_console()
    if telling.json:
        say_json(console, {"event": "upload", "url": sent.url, "bytes": sent.size})
    else:  # its only word: quiet commands say it as well
        say(console, sent.url)
