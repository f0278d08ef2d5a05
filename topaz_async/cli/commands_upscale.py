"""What may be typed to upscale clips."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from .display import make_console
from .options import ADVANCED, amount
from .running import run_story

__all__ = ["upscale"]


def upscale(
    clip: str,
    /,
    *,
    factor: Annotated[str, Parameter(name=["--factor", "-x"], metavar="1|2|4")] = "2",
    output: Annotated[str | None, Parameter(name=["--output", "-o"], metavar="PATH")] = None,
    timeout: Annotated[float, Parameter(metavar="SECONDS")] = 900.0,
    overwrite: bool = False,
    sandbox: bool = False,
    max_mb: Annotated[
        float | None, Parameter(group=ADVANCED, metavar="MB", validator=amount)
    ] = None,
    base_url: Annotated[str | None, Parameter(group=ADVANCED, metavar="URL")] = None,
    upload_url: Annotated[str | None, Parameter(group=ADVANCED, metavar="URL")] = None,
) -> None:
    """Upscale one clip: upload it, wait for the service, download the result.

      topaz-async upscale clip.mp4 -x 4
      topaz-async upscale clip.mp4 -x 4 -o out/big.mp4
      topaz-async upscale https://example.com/clip.mp4 -o out/
      topaz-async upscale clip.mp4 --sandbox

    The clip is an mp4, mov or mkv file, or an https address the service can
    reach. This costs credits, unless --sandbox is given. Ctrl-C stops waiting,
    not the task: its id is printed, with the lines that fetch its result.

    Args:
        clip: A video file or an https address.
        factor: By how much width and height grow; 2 by default.
        output: The file to write, or a folder; by default CLIP-2x.mp4 in this folder.
        timeout: How long to wait for the task, in seconds; 900 by default.
        overwrite: Replace a file that is there already.
        sandbox: Rehearse on this machine: no key, no cost.
        max_mb: Largest file that is sent, in MB of 1048576 bytes; 10 by default.
        base_url: Another service than kie.ai, or a sandbox that runs (TOPAZ_ASYNC_BASE_URL).
        upload_url: Where its uploads go (TOPAZ_ASYNC_UPLOAD_URL).
    """
    from .upscaling import upscale as story
    from .wishes import Wish, output_file

    console = make_console()
    wish = Wish(
        clip=clip,
        factor=factor,
        output=output_file(clip, factor, output),
        timeout=timeout,
        overwrite=overwrite,
        max_upload_bytes=None if max_mb is None else int(max_mb * 1024 * 1024),
    )
    run_story(
        lambda stop: story(
            wish, console, stop, sandbox=sandbox, base_url=base_url, upload_url=upload_url
        )
    )
