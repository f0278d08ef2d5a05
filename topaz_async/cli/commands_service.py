"""What may be typed to try the service out: demo and sandbox."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from .display import make_console
from .options import amount, port
from .running import run_story

__all__ = ["demo", "sandbox"]

_SECONDS = Parameter(metavar="SECONDS", validator=amount)


def demo(
    *,
    output_dir: Annotated[Path, Parameter(name=["--output-dir", "-o"])] = Path("topaz-demo"),
) -> None:
    """See the whole way of a clip, on this machine alone.

      topaz-async demo
      topaz-async demo --output-dir ~/Videos/topaz

    Makes a short clip with sound, starts a sandbox of the service, uploads the
    clip, waits, downloads the result, and compares the two. No key is needed and
    nothing is billed. Running it again replaces its files.

    Args:
        output_dir: The folder for the two clips; topaz-demo by default.
    """
    from .demo import demo as story

    console = make_console()
    run_story(lambda stop: story(output_dir, console, stop))


def sandbox(
    *,
    host: str = "127.0.0.1",
    port: Annotated[int, Parameter(validator=port)] = 0,
    queue_seconds: Annotated[float, _SECONDS] = 1.0,
    run_seconds: Annotated[float, _SECONDS] = 2.0,
    credits: Annotated[float, Parameter(validator=amount)] = 1000.0,  # noqa: A002  # the service's word
) -> None:
    """Run the service on this machine, to try programs on.

      topaz-async sandbox
      topaz-async sandbox --port 8080 --queue-seconds 5 --run-seconds 20

    It upscales for real, bills play money, and shows what arrives on a page of
    its own. Only programs on this machine can reach it. Ctrl-C stops it.

    Args:
        host: A loopback address; 127.0.0.1 by default.
        port: The port of the API; a free one by default. Uploads have a free one of their own.
        queue_seconds: How long a task stays "waiting"; 1 by default.
        run_seconds: How long a task stays "generating"; 2 by default.
        credits: Play money on the account; 1000 by default.
    """
    from .serving import serve

    console = make_console()
    run_story(
        lambda stop: serve(
            console,
            stop,
            host=host,
            port=port,
            queue_seconds=queue_seconds,
            run_seconds=run_seconds,
            credits=credits,
        )
    )
