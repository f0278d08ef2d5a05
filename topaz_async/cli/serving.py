"""The sandbox as a program: runs until it is stopped, and says how to reach it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from rich.console import Console

from .display import say
from .service import open_sandbox

if TYPE_CHECKING:
    from ..sandbox import Sandbox

__all__ = ["serve"]


async def serve(
    console: Console,
    stop: asyncio.Event,
    *,
    host: str,
    port: int,
    queue_seconds: float,
    run_seconds: float,
    credits: float,  # noqa: A002  # the service's word
) -> None:
    """Run a sandbox until `stop` is set.

    Raises:
        UsageError: It cannot run as it was asked to.
    """
    async with open_sandbox(
        host=host,
        port=port,
        queue_seconds=queue_seconds,
        run_seconds=run_seconds,
        credits=credits,
    ) as sandbox:
        _introduce(sandbox, console)
        await stop.wait()
        tasks = len(sandbox.books.tasks)
    if console.is_terminal:
        say(console)  # the terminal has shown ^C on this line
    say(console, f"The sandbox has stopped; it made {tasks} task{'' if tasks == 1 else 's'}.")


def _introduce(sandbox: Sandbox, console: Console) -> None:
    say(console, ("The sandbox is running.", "bold"), " It upscales for real; money is play money.")
    say(console)
    for name, value in (
        ("API", sandbox.base_url),
        ("uploads", sandbox.upload_url),
        ("key", sandbox.api_key),
        ("dashboard", f"{sandbox.base_url}/"),
    ):
        say(console, f"  {name:<11}", (value, "cyan"))
    say(console)
    say(console, "Point a Python program at it, which reads no address from the environment:")
    say(console)
    say(
        console,
        f'  TopazClient("{sandbox.api_key}", base_url="{sandbox.base_url}", '
        f'upload_url="{sandbox.upload_url}")',
    )
    say(console)
    say(console, "Point topaz-async at it, in another terminal:")
    say(console)
    say(console, f"  export KIE_API_KEY={sandbox.api_key}")
    say(console, f"  export TOPAZ_ASYNC_BASE_URL={sandbox.base_url}")
    say(console, f"  export TOPAZ_ASYNC_UPLOAD_URL={sandbox.upload_url}")
    say(console, "  topaz-async upscale clip.mp4 -x 4")
    say(console)
    say(console, "Ctrl-C stops it.")
    console.file.flush()
