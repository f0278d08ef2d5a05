"""What may be typed about tasks: jobs, status, wait, download, bind, forget."""

from __future__ import annotations

from typing import Annotated, Literal

from cyclopts import Parameter

from .options import HERE, PLAINLY, Telling, Where
from .running import run_story

__all__ = ["bind", "download", "forget", "jobs", "status", "wait"]

_State = Literal[
    "pending", "unknown", "refused", "success", "fail",
    "waiting", "queuing", "generating", "intent", "made", "unfinished", "undelivered",
]  # fmt: skip


def jobs(
    *,
    every: Annotated[bool, Parameter(name="--all")] = False,
    state: _State | None = None,
    telling: Telling = PLAINLY,
    where: Where = HERE,
) -> None:
    """List the tasks that were bought from this machine.

      topaz-async jobs
      topaz-async jobs --all
      topaz-async jobs --state fail --json

    Lists what is under way, unknown or not downloaded yet, as it was last seen;
    nobody is asked. "topaz-async resume" finishes it.

    Args:
        every: List what has ended as well.
        state: Only those in this state: pending, unknown, refused, success, fail.
    """
    from .places import journal_path
    from .service import named_url
    from .tasks import jobs as story

    path = journal_path(where, named_url(where.base_url))
    run_story(lambda stop: story(path, telling, every=every, state=state))


def status(*tasks: str, telling: Telling = PLAINLY, where: Where = HERE) -> int:
    """Ask the service about tasks.

      topaz-async status 3303e50d
      topaz-async status order-17

    A task is named by its id, the beginning of it, or its reference.

    Args:
        tasks: Task ids, beginnings of them, or references.
    """
    from .places import journal_path
    from .service import named
    from .tasks import status as story

    service = named(where.base_url, where.upload_url)
    path = journal_path(where, service.base_url)
    return run_story(lambda stop: story(_some(tasks), path, service, telling, stop))


def wait(
    *tasks: str,
    timeout: Annotated[float, Parameter(metavar="SECONDS")] = 900.0,
    telling: Telling = PLAINLY,
    where: Where = HERE,
) -> int:
    """Wait until tasks have ended.

      topaz-async wait 3303e50d
      topaz-async wait 3303e50d 45d8b727 --timeout 3600

    Several are waited for at once. Nothing is downloaded: "topaz-async download"
    waits as well, and "topaz-async resume" does both for all.

    Args:
        tasks: Task ids, beginnings of them, or references.
        timeout: How long to wait, in seconds; 900 by default.
    """
    from .places import journal_path
    from .service import named
    from .tasks import wait as story

    service = named(where.base_url, where.upload_url)
    path = journal_path(where, service.base_url)
    names = _some(tasks)
    return run_story(lambda stop: story(names, path, service, telling, stop, timeout=timeout))


def download(
    task: str,
    /,
    *,
    output: Annotated[str | None, Parameter(name=["--output", "-o"], metavar="PATH")] = None,
    overwrite: bool = False,
    telling: Telling = PLAINLY,
    where: Where = HERE,
) -> None:
    """Download the result of a task, and wait for it if need be.

      topaz-async download 3303e50d
      topaz-async download 3303e50d -o out/

    Costs nothing. Results stay at the service for about 24 hours.

    Args:
        task: A task id, the beginning of one, a reference, or a result's link.
        output: The file to write, or a folder; by default where it was to go.
        overwrite: Replace a file that is there already.
    """
    from .places import journal_path
    from .service import named
    from .tasks import download as story

    service = named(where.base_url, where.upload_url)
    path = journal_path(where, service.base_url)
    run_story(lambda stop: story(task, output, path, service, telling, stop, overwrite=overwrite))


def bind(
    reference: str,
    task: str,
    /,
    *,
    telling: Telling = PLAINLY,
    where: Where = HERE,
) -> None:
    """Say which task a submit has made whose answer was lost.

      topaz-async bind order-17 3303e50d10da15c19d44fa14487d9640

    Look for it in the account's task log. The service is asked whether it is the
    same work; then "topaz-async resume" brings its result, and nothing is paid
    for twice. If there is none, "topaz-async forget REFERENCE --yes" clears it.

    Args:
        reference: The submit's, as "topaz-async jobs" lists it.
        task: The whole id of the task.
    """
    from .binding import bind as story
    from .exits import UsageError
    from .places import journal_path
    from .service import named

    service = named(where.base_url, where.upload_url)
    path = journal_path(where, service.base_url)
    if path is None:
        raise UsageError(
            "Without a journal there is nothing to bind a task to; "
            "`topaz-async download TASK` brings its result."
        )
    run_story(lambda stop: story(reference, task, path, service, telling, stop, where=where))


def forget(
    *tasks: str,
    unsent: bool = False,
    yes: Annotated[bool, Parameter(name=["--yes", "-y"])] = False,
    telling: Telling = PLAINLY,
    where: Where = HERE,
) -> None:
    """Drop tasks from the journal of this machine.

      topaz-async forget 3303e50d
      topaz-async forget --unsent

    The same clip is bought anew after that. The task itself stays at the
    service: nothing there can be cancelled.

    Args:
        tasks: Task ids, beginnings of them, or references.
        unsent: Forget the clips that broken-off commands have not sent.
        yes: Also what is paid for and not downloaded.
    """
    from .exits import UsageError
    from .places import journal_path
    from .service import named_url
    from .tasks import forget as story

    path = journal_path(where, named_url(where.base_url))
    if not tasks and not unsent:
        raise UsageError("Which task? Name its id or reference; `topaz-async jobs --all` lists.")
    run_story(lambda stop: story(tasks, path, telling, yes=yes, unsent=unsent))


def _some(tasks: tuple[str, ...]) -> tuple[str, ...]:
    from .exits import UsageError

    if not tasks:
        raise UsageError("Which task? Name its id or reference; `topaz-async jobs` lists them.")
    return tasks
