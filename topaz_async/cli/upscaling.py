"""Bring one clip through a service, watched, and stoppable without losing what was paid for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from rich.console import Console
from rich.text import Text

from ..client import TopazClient
from ..errors import TopazError
from ..models import UpscaleResult
from ..texts import clean
from .aftermath import aftermath
from .display import duration, say, size, watched
from .exits import UsageError
from .service import Service, embedded, named
from .stages import Stages
from .wishes import Wish

__all__ = ["bring_through", "upscale"]


async def upscale(
    wish: Wish,
    console: Console,
    stop: asyncio.Event,
    *,
    sandbox: bool,
    base_url: str | None = None,
    upload_url: str | None = None,
) -> None:
    """Upscale a clip and say where it is.

    Args:
        wish: What is to be done.
        console: Where everything is shown.
        stop: Ends the wait early.
        sandbox: Do it in a sandbox of its own.
        base_url: Another service than kie.ai, or None.
        upload_url: Where its uploads go, or None.

    Raises:
        TopazError: As the library does.
        UsageError: The options do not fit together, or there is no key.
        StoppedError: `stop` was set.
    """
    if not sandbox:
        service = named(base_url, upload_url)
        result, seconds = await bring_through(service, wish, console, stop)
    else:
        if base_url or upload_url:
            raise UsageError("--sandbox has its own addresses; leave out --base-url and the like.")
        if not wish.is_local:
            raise UsageError("The sandbox never leaves this machine: give it a local file.")
        async with embedded(queue_seconds=0.3, run_seconds=0.5) as service:
            result, seconds = await bring_through(service, wish, console, stop)
    assert result.path is not None
    facts = [size(result.path.stat().st_size)]
    if result.credits_consumed is not None:
        play = " of play money" if service.is_embedded else ""
        facts.append(f"{result.credits_consumed:g} credits{play}")
    say(
        console,
        f"upscaled {wish.name} {wish.factor}x in {duration(seconds)}: ",
        (clean(result.path, 4096), "bold"),
        f" ({', '.join(facts)})",
    )


async def bring_through(
    service: Service, wish: Wish, console: Console, stop: asyncio.Event
) -> tuple[UpscaleResult, float]:
    """Upload, submit, wait and download one clip, and show it.

    Returns:
        The result, whose `path` is the file, and the seconds it took.

    Raises:
        TopazError: As the library does.
        StoppedError: `stop` was set; says what goes on and how to get at it.
    """
    topaz = service.client(max_upload_bytes=wish.max_upload_bytes)
    try:
        with watched(console, _heading(service, wish), is_local=wish.is_local) as stages:
            async with topaz, _closed_on(stop, topaz, stages):
                result = await topaz.upscale(
                    wish.clip,
                    factor=wish.factor,
                    output=wish.output,
                    timeout=wish.timeout,
                    on_submit=stages.submitted,
                    on_update=stages.update,
                    on_progress=stages.progress,
                    overwrite=wish.overwrite,
                )
            return result, stages.seconds
    except TopazError as error:
        raise aftermath(error, service, wish, stopped=stop.is_set()) from error


@asynccontextmanager
async def _closed_on(
    stop: asyncio.Event, topaz: TopazClient, stages: Stages
) -> AsyncIterator[None]:
    """Close the client when `stop` is set: unlike a cancellation, its error names the task."""

    async def close() -> None:
        await stop.wait()
        stages.stopping()
        await topaz.aclose()

    closing = asyncio.create_task(close())
    try:
        yield
    finally:
        closing.cancel()
        await asyncio.wait([closing])


def _heading(service: Service, wish: Wish) -> Text:
    where = "" if service.is_the_real_one else f" at {service.base_url}"
    if service.is_embedded:
        where = " in the sandbox"
    return Text.assemble(
        "upscaling ",
        (wish.name, "bold"),
        f" {wish.factor}x{where}, to ",
        (clean(wish.output, 4096), "bold"),
    )
