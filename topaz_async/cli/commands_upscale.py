"""What may be typed to upscale clips, and to go on with what was begun."""

from __future__ import annotations

import io
import sys
from contextlib import nullcontext
from typing import Annotated

from cyclopts import Parameter

from .options import ADVANCED, HERE, PLAINLY, Telling, Where, amount, whole
from .running import run_story

__all__ = ["resume", "upscale"]

_MB = 1024 * 1024

_Credits = Annotated[float | None, Parameter(metavar="CREDITS", validator=amount)]
_MaxMb = Annotated[float | None, Parameter(group=ADVANCED, metavar="MB", validator=amount)]
_Timeout = Annotated[float, Parameter(metavar="SECONDS")]


def upscale(
    *videos: str,
    factor: Annotated[str, Parameter(name=["--factor", "-x"], metavar="1|2|4")] = "2",
    output: Annotated[str | None, Parameter(name=["--output", "-o"], metavar="PATH")] = None,
    dry_run: bool = False,
    yes: Annotated[bool, Parameter(name=["--yes", "-y"])] = False,
    max_credits: _Credits = None,
    timeout: _Timeout = 900.0,
    overwrite: bool = False,
    sandbox: bool = False,
    telling: Telling = PLAINLY,
    concurrency: Annotated[int, Parameter(group=ADVANCED, metavar="N", validator=whole)] = 100,
    reference: Annotated[str | None, Parameter(group=ADVANCED, metavar="NAME")] = None,
    callback_url: Annotated[str | None, Parameter(group=ADVANCED, metavar="URL")] = None,
    resubmit_unknown: Annotated[bool, Parameter(group=ADVANCED)] = False,
    max_mb: _MaxMb = None,
    where: Where = HERE,
) -> int:
    """Upscale clips: upload them, wait for the service, download the results.

      topaz-async upscale clip.mp4 -x 4
      topaz-async upscale *.mp4 -x 4 -o out/
      topaz-async upscale holiday/ -o holiday/big/ --dry-run
      topaz-async upscale https://example.com/clip.mp4 -o out/
      find . -name '*.mov' -print0 | topaz-async upscale - -o out/
      topaz-async upscale clip.mp4 --sandbox

    Clips are mp4, mov or mkv files, folders of them, patterns, https addresses
    that the service can reach, or - for a list on standard input.

    This costs credits, unless --sandbox is given: at a terminal you are asked
    first. The same command typed again does only what is missing, and pays for
    nothing twice. Ctrl-C stops waiting, not the tasks: "topaz-async resume"
    brings their results, also after a crash.

    Args:
        videos: Files, folders, patterns, https addresses, or - for a list.
        factor: By how much width and height grow; 2 by default.
        output: The file to write, or a folder; by default CLIP-2x.mp4 in this folder.
        dry_run: Show what would be sent and its estimated cost; send nothing.
        yes: Do not ask before something is bought.
        max_credits: Send nothing if it may cost more.
        timeout: How long to wait for each task, in seconds; 900 by default.
        overwrite: Replace files that are there already.
        sandbox: Rehearse on this machine: no key, no cost.
        concurrency: Clips under way at once; 100 by default, as the service allows.
        reference: Your own name for the work; of several clips each has its path added.
        callback_url: Where the service shall POST when a task ends.
        resubmit_unknown: Send again what may have been bought: it may be paid twice.
        max_mb: Largest file that is sent, in MB of 1048576 bytes; 10 by default.
    """
    from ..durations import check_timeout
    from ..models import UpscaleFactor
    from .agreeing import agree, rehearse
    from .display import make_console, say
    from .exits import UsageError
    from .finishing import Command, finish, look
    from .inputs import spelt_out
    from .places import journal_path
    from .service import embedded, named, named_url
    from .wishes import wishes_of

    if sandbox and (where.base_url or where.upload_url):
        raise UsageError("--sandbox has its own addresses; leave out --base-url and the like.")
    if sandbox and where.journal is not None:
        raise UsageError(
            "--sandbox ends with the command and writes nothing down; leave out --journal."
        )
    factor = str(UpscaleFactor.parse(factor))
    check_timeout(timeout, "--timeout")
    # `<&-` leaves a program without standard input.
    inputs = spelt_out(videos, io.BytesIO() if sys.stdin is None else sys.stdin.buffer)
    wishes = wishes_of(
        inputs.clips,
        is_many=inputs.is_many,
        factor=factor,
        output=output,
        reference=reference,
        timeout=timeout,
        overwrite=overwrite,
        callback_url=callback_url,
        resubmit_unknown=resubmit_unknown,
    )
    if sandbox and not all(wish.is_local for wish in wishes):
        raise UsageError("The sandbox never leaves this machine: give it a local file.")
    service = None
    if not (sandbox or dry_run):
        service = named(where.base_url, where.upload_url, can_rehearse=True)
    command = Command(
        where=where,
        telling=telling,
        journal=None if sandbox else journal_path(where, named_url(where.base_url)),
        concurrency=concurrency,
        max_credits=max_credits,
        max_upload_bytes=None if max_mb is None else int(max_mb * _MB),
    )
    if inputs.left_out and not telling.quiet:
        names = ", ".join(inputs.left_out[:3]) + (", …" if len(inputs.left_out) > 3 else "")
        console = make_console(stderr=True)
        say(console, f"Note: {names}: results of other clips, left out; name them alone to go on.")
    plan = run_story(lambda stop: look(wishes, command, stop))
    if dry_run:
        return rehearse(plan, max_credits=max_credits, json=telling.json, quiet=telling.quiet)
    if service is None:
        place = embedded(queue_seconds=0.3, run_seconds=0.5)
        return run_story(lambda stop: finish(plan, command, place, stop))
    agree(plan, service.name, max_credits=max_credits, yes=yes)
    return run_story(lambda stop: finish(plan, command, nullcontext(service), stop))


def resume(
    *,
    dry_run: bool = False,
    yes: Annotated[bool, Parameter(name=["--yes", "-y"])] = False,
    paid_only: bool = False,
    max_credits: _Credits = None,
    timeout: _Timeout = 900.0,
    overwrite: bool = False,
    telling: Telling = PLAINLY,
    max_mb: _MaxMb = None,
    where: Where = HERE,
) -> int:
    """Finish what earlier commands have left.

      topaz-async resume
      topaz-async resume --paid-only
      topaz-async resume --dry-run

    Waits for the tasks that are paid for, downloads their results to where they
    were to go, and sends the clips that were not sent yet: after Ctrl-C, a crash
    or a power cut. Nothing is paid for twice. What another terminal is at is
    left alone.

    Args:
        dry_run: Show what is left; send nothing.
        yes: Do not ask before something is bought.
        paid_only: Send nothing more, now or later: only bring what is paid for.
        max_credits: Send nothing if it may cost more.
        timeout: How long to wait for each task, in seconds; 900 by default.
        overwrite: Replace files that are there already.
        max_mb: Largest file that is sent, in MB of 1048576 bytes; 10 by default.
    """
    from ..durations import check_timeout
    from .agreeing import agree, rehearse
    from .display import make_console, say, say_json
    from .exits import UsageError
    from .finishing import Command, finish
    from .places import journal_path
    from .resuming import left_behind
    from .service import named, named_url
    from .tally import Tally

    check_timeout(timeout, "--timeout")
    address = named_url(where.base_url)
    journal = journal_path(where, address)
    if journal is None:
        raise UsageError("Without a journal there is nothing to resume; leave out --no-journal.")
    service = None if dry_run else named(where.base_url, where.upload_url)
    command = Command(
        where=where,
        telling=telling,
        journal=journal,
        max_credits=max_credits,
        max_upload_bytes=None if max_mb is None else int(max_mb * _MB),
    )
    left = run_story(
        lambda stop: left_behind(
            journal,
            service=address,
            timeout=timeout,
            overwrite=overwrite,
            max_bytes=command.quotas.max_upload_bytes,
        )
    )
    plan = [each for each in left.plan if not paid_only or each.action != "send"]
    console = make_console(stderr=telling.json)
    if left.living and not telling.quiet:
        others = "another command is" if left.living == 1 else f"{left.living} commands are"
        say(console, f"Left alone: what {others} at just now.")
    if not plan and not telling.quiet:
        say(console, "Nothing is left to do.")
    if dry_run:
        return rehearse(plan, max_credits=max_credits, json=telling.json, quiet=telling.quiet)
    code = 0
    if not plan and telling.json:
        say_json(make_console(), Tally(0).as_json())
    if plan and service is not None:
        agree(plan, service.name, max_credits=max_credits, yes=yes)
        code = run_story(lambda stop: finish(plan, command, nullcontext(service), stop))
    left.settle(keep=() if paid_only else plan)
    forgotten = len(left.plan) - len(plan)
    if forgotten and not telling.quiet and not telling.json:
        clips = "1 clip that was" if forgotten == 1 else f"{forgotten} clips that were"
        say(console, f"Forgotten: {clips} not sent.")
    return code
