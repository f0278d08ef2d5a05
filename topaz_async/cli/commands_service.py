"""What may be typed about the service: its account and files, and how to try it out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from .display import make_console
from .options import ADVANCED, HERE, PLAINLY, Telling, Where, amount, port
from .running import run_story

__all__ = ["credits", "demo", "listen", "sandbox", "upload"]

_SECONDS = Parameter(metavar="SECONDS", validator=amount)


def credits(  # noqa: A001  # the service's word
    *, telling: Telling = PLAINLY, where: Where = HERE
) -> None:
    """Show the balance of the account.

      topaz-async credits
      topaz-async credits --json

    A second of video costs about 8 credits at 1x and 2x, and 14 at 4x.
    """
    from .account import credits as story
    from .service import named

    service = named(where.base_url, where.upload_url)
    run_story(lambda stop: story(service, telling, stop))


def upload(
    file: str,
    /,
    *,
    max_mb: Annotated[
        float | None, Parameter(group=ADVANCED, metavar="MB", validator=amount)
    ] = None,
    telling: Telling = PLAINLY,
    where: Where = HERE,
) -> None:
    """Send a file to the service's upload host, and print its address.

      topaz-async upload clip.mp4

    Uploads are free, and are kept for about 24 hours. The address is good for
    "topaz-async upscale"; whoever has it can see the file. The same content again
    is not sent for 12 hours: the journal has its address.

    Args:
        file: A video or an image.
        max_mb: Largest file that is sent, in MB of 1048576 bytes; 10 by default.
    """
    from ..settings import Quotas
    from .account import upload as story
    from .places import journal_path
    from .service import named

    service = named(where.base_url, where.upload_url)
    quotas = Quotas() if max_mb is None else Quotas(max_upload_bytes=int(max_mb * 1024 * 1024))
    path = journal_path(where, service.base_url)
    run_story(lambda stop: story(file, path, service, telling, stop, quotas=quotas))


def listen(
    *,
    host: str = "127.0.0.1",
    port: Annotated[int, Parameter(validator=port)] = 8080,
    path: str = "/",
    accept_unsigned: bool = False,
    where: Where = HERE,
) -> None:
    """Receive the service's callbacks, and show each task that has ended.

      topaz-async listen
      topaz-async listen --port 9000 --path /kie --journal topaz.sqlite

    Put it behind a reverse proxy that speaks https, and give its public address
    to submits as callback URL. The webhook key of your account is read from the
    environment variable KIE_WEBHOOK_KEY. Commands and programs on this machine
    that keep the same journal hear of each callback at once. Ctrl-C stops it.

    Args:
        host: The address to listen at; 127.0.0.1 by default.
        port: The port; 8080 by default, 0 for a free one.
        path: The one path that is answered; / by default.
        accept_unsigned: Take callbacks without looking for a signature, from anybody.
    """
    from .listening import listen as story
    from .places import journal_path
    from .sources import base_url

    journal = journal_path(where, base_url(where.base_url).value or "")
    console = make_console()
    run_story(
        lambda stop: story(
            console,
            stop,
            host=host,
            port=port,
            path=path,
            journal=journal,
            accept_unsigned=accept_unsigned,
        )
    )


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
