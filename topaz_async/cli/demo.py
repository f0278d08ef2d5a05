"""The demo: a clip is made, upscaled in a sandbox, and laid side by side with the result."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ..errors import ClientClosedError
from ..texts import clean
from .display import duration, is_live, say, show, size
from .exits import StoppedError, UsageError
from .picture import watched
from .service import MISSING_SANDBOX, Service, embedded
from .upscaling import closed_on
from .wishes import Wish

if TYPE_CHECKING:
    from ..sandbox import MediaInfo

__all__ = ["demo"]


#: Lies in a folder whose files a demo may replace.
_MARK = ".topaz-demo"


async def demo(folder: Path, console: Console, stop: asyncio.Event) -> None:
    """Make a clip in a folder, upscale it 4x, and show both.

    Args:
        folder: Where the two files go; it is made if it is missing.
        console: Where everything is shown.
        stop: Ends the demo early.

    Raises:
        UsageError: PyAV is missing, the folder cannot be written, or files that no demo made
            are in the way.
    """
    try:
        from ..sandbox.media import make_clip, probe
    except ImportError:
        raise UsageError(MISSING_SANDBOX) from None
    clip, output = folder / "clip.mp4", folder / "clip-4x.mp4"
    say(console, "No key, no network: a sandbox on this machine plays the service.")
    try:
        await asyncio.to_thread(_claim, folder, clip, output)
        await asyncio.to_thread(make_clip, clip)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise UsageError(f"{clean(folder, 4096)} cannot be written: {reason}.") from None
    wish = Wish(clip=str(clip), factor="4", output=output, overwrite=True)
    # Long enough for the eye to follow each stage.
    async with embedded(queue_seconds=0.4, run_seconds=0.6) as service:
        seconds = await _bring_through(service, wish, console, stop)
    before = await asyncio.to_thread(probe, clip)
    after = await asyncio.to_thread(probe, output)
    say(console)
    show(console, _side_by_side(console, (clip, before), (output, after)))
    say(console)
    say(
        console,
        f"upscaled {before.width}x{before.height} to {after.width}x{after.height} "
        f"in {duration(seconds)}: ",
        (clean(output, 4096), "bold"),
    )


def _claim(folder: Path, *files: Path) -> None:
    """Make the folder ours, unless somebody else's files are in the way."""
    folder.mkdir(parents=True, exist_ok=True)
    mark = folder / _MARK
    for file in files:
        if os.path.lexists(file) and not mark.exists():
            raise UsageError(
                f"{clean(file, 4096)} is there already, and no demo made it: "
                "name another folder, as in -o topaz-demo/."
            )
    mark.touch()


async def _bring_through(
    service: Service, wish: Wish, console: Console, stop: asyncio.Event
) -> float:
    """Bring one clip through, watched, and return the seconds it took."""
    heading = Text.assemble(
        "upscaling ",
        (wish.name, "bold"),
        f" {wish.factor}x in the sandbox, to ",
        (clean(wish.output, 4096), "bold"),
    )
    topaz = service.client()
    try:
        with watched(console, heading, is_local=True) as stages:
            async with topaz, closed_on(stop, topaz, stages.stopping):
                await topaz.upscale(
                    wish.clip,
                    factor=wish.factor,
                    output=wish.output,
                    on_submit=stages.submitted,
                    on_update=stages.update,
                    on_progress=stages.progress,
                    overwrite=wish.overwrite,
                )
            return stages.seconds
    except ClientClosedError:
        raise StoppedError("Interrupted. The sandbox has ended. Nothing was billed.") from None


def _side_by_side(console: Console, *files: tuple[Path, MediaInfo]) -> Table:
    table = Table(box=box.SIMPLE_HEAD if is_live(console) else None, pad_edge=is_live(console))
    table.add_column("")
    for heading in ("pixels", "frames", "seconds", "sound", "size"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("file", overflow="fold")
    for name, (path, info) in zip(("before", "after"), files, strict=True):
        table.add_row(
            name,
            f"{info.width}x{info.height}",
            str(info.frames),
            f"{info.seconds:.2f}",
            info.audio_codec or "none",
            size(path.stat().st_size),
            Text(clean(path.name, 200)),
            style="bold" if name == "after" else "",
        )
    return table
