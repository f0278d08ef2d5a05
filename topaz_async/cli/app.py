"""The commands: what may be typed, and which story it starts.

Each command imports its story when it is called: `--help` needs none of them, and no command
needs what the others load.
"""

from __future__ import annotations

import logging
import math
import os
import sys
from pathlib import Path
from typing import Annotated

from cyclopts import App, CycloptsError, Group, Parameter, UnusedCliTokensError
from rich.console import Console

from ..texts import clean
from . import pages
from .display import make_console
from .exits import complain, report
from .running import run_story

__all__ = ["app", "run"]


def _amount(kind: object, value: float | None) -> None:
    if value is not None and not 0 <= value < math.inf:
        raise ValueError("It must be a number from 0 on.")


def _port(kind: object, value: int) -> None:
    if not 0 <= value <= 65535:
        raise ValueError("A port is a number from 0 to 65535.")


_ADVANCED = Group("Advanced", sort_key=2)
_SECONDS = Parameter(metavar="SECONDS", validator=_amount)

app = App(
    name="topaz-async",
    usage=pages.TOP,
    help_format="plaintext",
    help_formatter=pages.Page(),
    help_epilogue=pages.CODES,
    group_commands=Group("Commands", sort_key=0),
    group_arguments=Group("What", sort_key=0),
    group_parameters=Group("Options", sort_key=1),
    default_parameter=Parameter(negative=(), show_default=False, show_env_var=False),
    result_action="return_value",
    suppress_keyboard_interrupt=False,
)
app["--help"].group = app["--version"].group = Group("Options", sort_key=1)


@app.command(usage=pages.DEMO, help_epilogue="", sort_key=2)
def demo(
    *,
    output_dir: Annotated[Path, Parameter(name=["--output-dir", "-o"])] = Path("topaz-demo"),
) -> None:
    """See it work on this machine: no key, no cost.

    Args:
        output_dir: The folder for the two clips; topaz-demo by default.
    """
    from .demo import demo as story

    console = make_console()
    run_story(lambda stop: story(output_dir, console, stop))


@app.command(usage=pages.UPSCALE, help_epilogue=pages.CODES, sort_key=1)
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
        float | None, Parameter(group=_ADVANCED, metavar="MB", validator=_amount)
    ] = None,
    base_url: Annotated[str | None, Parameter(group=_ADVANCED, metavar="URL")] = None,
    upload_url: Annotated[str | None, Parameter(group=_ADVANCED, metavar="URL")] = None,
) -> None:
    """Upscale one clip.

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


@app.command(usage=pages.SANDBOX, help_epilogue="", sort_key=3)
def sandbox(
    *,
    host: str = "127.0.0.1",
    port: Annotated[int, Parameter(validator=_port)] = 0,
    queue_seconds: Annotated[float, _SECONDS] = 1.0,
    run_seconds: Annotated[float, _SECONDS] = 2.0,
    credits: Annotated[float, Parameter(validator=_amount)] = 1000.0,  # noqa: A002  # the service's word
) -> None:
    """Run the service on this machine, to try programs on.

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


def run(arguments: list[str]) -> int:
    """Run a command line and return its exit code; errors become words on standard error."""
    debug = os.environ.get("TOPAZ_ASYNC_DEBUG", "") not in ("", "0")
    options, rest = _before_delimiter(arguments)
    if "--debug" in options:
        debug, options = True, [option for option in options if option != "--debug"]
    errors = make_console(stderr=True)
    notes = _Notes(debug=debug)
    log = logging.getLogger("topaz_async")
    level = log.level
    log.addHandler(notes)
    if debug:
        log.setLevel(logging.DEBUG)
    else:  # what a second Ctrl-C tears apart is of interest to nobody at a terminal
        logging.getLogger("asyncio").addHandler(logging.NullHandler())
    try:
        app(
            [*options, *rest],
            console=make_console(),
            exit_on_error=False,
            print_error=False,
            help_on_error=False,
        )
    except CycloptsError as error:
        return _misused(error, errors, options)
    except (Exception, KeyboardInterrupt) as error:
        return report(error, errors, debug=debug)
    finally:
        log.removeHandler(notes)
        log.setLevel(level)
    return 0


def _before_delimiter(arguments: list[str]) -> tuple[list[str], list[str]]:
    cut = arguments.index("--") if "--" in arguments else len(arguments)
    return arguments[:cut], arguments[cut:]


def _misused(error: CycloptsError, console: Console, options: list[str]) -> int:
    if isinstance(error, UnusedCliTokensError):
        what = (
            f"{clean(' '.join(error.unused_tokens or ()), 200)!r} is more than the command takes."
        )
    else:
        what = clean(error, 400)
    command = next((f"{name} " for name in options if name in app), "")
    complain(console, f"{what}\nSee: topaz-async {command}--help")
    return 2


class _Notes(logging.Handler):
    """Shows the library's warnings as single lines, above whatever is being drawn."""

    def __init__(self, *, debug: bool) -> None:
        super().__init__(logging.DEBUG if debug else logging.WARNING)
        self._debug = debug

    def emit(self, record: logging.LogRecord) -> None:
        # Not through a console: what is being drawn takes in sys.stderr, and rich goes around it.
        print(f"Note: {clean(record.getMessage(), 2000)}", file=sys.stderr)
        if self._debug and record.exc_info:
            print(logging.Formatter().formatException(record.exc_info), file=sys.stderr)
