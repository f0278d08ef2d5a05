"""Tasks by their ids: list, look, wait, download, forget."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from ..errors import ClientClosedError, ConfigurationError, TopazError
from ..models import TaskRecord, TaskState
from ..orders import is_url
from ..ports import Entry
from ..targets import Target
from ..texts import clean
from .batches import Batches
from .display import duration, make_console, say, say_json, show, size
from .entries import age, entries_of, entry_as_json, found, kept, short_name, state_of
from .exits import UsageError, complain, error_as_json, exit_code, joint_code, words
from .options import Telling
from .service import Service
from .upscaling import closed_on

__all__ = ["download", "forget", "jobs", "status", "wait"]

_log = logging.getLogger("topaz_async")

#: Columns of a terminal from which on there is room for ages and costs.
_ROOMY = 72


async def jobs(path: Path | None, telling: Telling, *, every: bool, state: str | None) -> None:
    """List what the journal knows; asks nobody."""
    entries = await entries_of(path, state)
    if not every and state is None:
        entries = [entry for entry in entries if _is_open(entry)]
    console = make_console()
    if telling.json:
        for entry in entries:
            say_json(console, entry_as_json(entry))
        return
    if not entries:
        more = "" if every or state else "; --all lists what has ended"
        say(console, f"Nothing is under way{more}." if not state else f"Nothing is {state}.")
        return
    is_roomy = console.width >= _ROOMY or not console.is_terminal
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("task", overflow="fold", min_width=min(32, console.width // 2))
    table.add_column("state", no_wrap=True)
    if is_roomy:
        table.add_column("age", justify="right", no_wrap=True)
        table.add_column("credits", justify="right", no_wrap=True)
    table.add_column("file", overflow="ellipsis", no_wrap=True)
    for entry in entries:
        figures = (age(entry.created_at), _cost(entry)) if is_roomy else ()
        name = Text(clean(entry.task_id or entry.intent.reference or "", 80))
        table.add_row(name, state_of(entry), *figures, Text(short_name(entry)))
    show(console, table, is_data=True)


def _cost(entry: Entry) -> str:
    """Return what a task cost; the service says 0 while one is running."""
    is_known = entry.credits_consumed is not None and TaskState(entry.state or "").is_terminal
    return f"{entry.credits_consumed:g}" if is_known else ""


def _is_open(entry: Entry) -> bool:
    return state_of(entry) not in ("refused", "fail", "failed", "error", "success", "completed")


async def status(
    names: Sequence[str], path: Path | None, service: Service, telling: Telling, stop: asyncio.Event
) -> int:
    """Ask the service about tasks, say what it says, and return the exit code.

    Raises:
        UsageError: The only name is none of a task.
        TopazError: The only task cannot be asked about, or the client was closed.
    """
    entries = await entries_of(path)
    console = make_console()
    ends: list[Exception | None] = []
    async with service.client() as topaz, closed_on(stop, topaz):
        for name in names:
            try:
                task = found(entries, name)
                _tell(console, telling, await topaz.fetch_task(task.task_id), task.entry)
            except (TopazError, UsageError) as error:
                _unless_alone(error, names)
                _tell_failure(telling, error)
                ends.append(error)
            else:
                ends.append(None)
    return joint_code(None if end is None else exit_code(end) for end in ends)


def _unless_alone(error: Exception, names: Sequence[str]) -> None:
    """Let an error end the command when it leaves nothing to go on with."""
    if len(names) == 1 or isinstance(error, ClientClosedError):
        raise error


def _tell_failure(telling: Telling, error: Exception) -> None:
    _log.debug("This ended the way of a task.", exc_info=error)
    if telling.json:
        say_json(make_console(), {"event": "error", **error_as_json(error)})
    complain(make_console(stderr=True), words(error))


async def wait(
    names: Sequence[str],
    path: Path | None,
    service: Service,
    telling: Telling,
    stop: asyncio.Event,
    *,
    timeout: float,
) -> int:
    """Wait until tasks have ended, all at once, say how, and return the exit code.

    Raises:
        UsageError: One of the names is none of a task.
        TopazError: The only task did not end well, or the client was closed.
    """
    console = make_console()
    async with kept(path) as journal, service.client(journal=journal) as topaz:
        tasks = [found(await entries_of(path), name) for name in names]

        async def ended(task_id: str) -> TaskRecord | TopazError:
            try:
                return (await topaz.wait_for_result(task_id, timeout=timeout)).record
            except TopazError as error:
                return error

        async with closed_on(stop, topaz):
            ends = await asyncio.gather(*(ended(task.task_id) for task in tasks))
    for task, end in zip(tasks, ends, strict=True):
        if not isinstance(end, TopazError):
            _tell(console, telling, end, task.entry)
    failures = [end for end in ends if isinstance(end, TopazError)]
    for failure in failures:
        _unless_alone(failure, names)
    for failure in failures:
        _tell_failure(telling, failure)
    return joint_code(exit_code(end) if isinstance(end, TopazError) else None for end in ends)


async def download(
    name: str,
    output: str | None,
    path: Path | None,
    service: Service,
    telling: Telling,
    stop: asyncio.Event,
    *,
    overwrite: bool,
) -> None:
    """Wait for a task, and bring its result to this disk; or what lies at a result's link.

    Raises:
        UsageError: The name is none of a task.
        ConfigurationError: Nothing may be written there.
        TopazError: The task did not end well, or its result could not be brought.
    """
    console = make_console()
    task = None if is_url(name) else found(await entries_of(path), name)
    place = output
    if place is None and task is not None and task.entry is not None:
        place = task.entry.intent.output
    place = place or ("." if task is None else f"{task.task_id}.mp4")
    # The library would call it a download that failed; as typed, nothing was begun.
    await asyncio.to_thread(Target.of, place, overwrite=overwrite, error=ConfigurationError)
    async with (
        kept(path) as journal,
        service.client(journal=journal) as topaz,
        closed_on(stop, topaz),
    ):
        what = name if task is None else topaz.job(task.task_id)
        file = await topaz.download(what, place, overwrite=overwrite)
    length = (await asyncio.to_thread(file.stat)).st_size
    if telling.json:
        told = {"event": "file", "path": str(file.absolute()), "bytes": length}
        say_json(console, {**told, "task_id": None if task is None else task.task_id})
    elif not telling.quiet:
        say(console, (clean(file, 4096), "bold"), f" ({size(length)})")


async def forget(
    names: Sequence[str], path: Path | None, telling: Telling, *, yes: bool, unsent: bool
) -> None:
    """Drop entries from the journal, and with `unsent` the clips that commands have left.

    Raises:
        UsageError: The journal does not know one of them, or it would lose what is paid for.
    """
    console = make_console()
    async with kept(path) as journal:
        entries = [] if journal is None else await journal.jobs()
        wanted = [_entry_of(entries, name) for name in names]
        for entry in wanted:
            if entry.intent.reference is None:
                raise UsageError(f"Task {entry.task_id} has no reference to forget it by.")
        references = {entry.intent.reference for entry in wanted}
        # A reference is forgotten with all that was ever submitted under it.
        for entry in (each for each in entries if each.intent.reference in references):
            if _is_open(entry) and not yes:
                raise UsageError(
                    f"{short_name(entry)} ({state_of(entry)}) is paid for or may be, and was not "
                    "brought. Forgetting it lets it be bought again; add --yes if you mean it."
                )
        for entry in wanted:
            reference = entry.intent.reference
            assert journal is not None
            assert reference is not None
            await journal.forget(reference)
            if telling.json:
                say_json(
                    console,
                    {"event": "forgotten", "task_id": entry.task_id, "reference": reference},
                )
            elif not telling.quiet:
                say(console, f"Forgotten: {short_name(entry)}")
    if unsent and path is not None:
        count = await asyncio.to_thread(_drop_unsent, path)
        if telling.json:
            say_json(console, {"event": "unsent", "commands": count})
        elif not telling.quiet:
            say(console, f"Forgotten: what {count} command{'' if count == 1 else 's'} had left.")


def _drop_unsent(path: Path) -> int:
    dead = [batch for batch in Batches(path).all() if not batch.is_living]
    for batch in dead:
        batch.path.unlink(missing_ok=True)
    return len(dead)


def _entry_of(entries: Sequence[Entry], name: str) -> Entry:
    same = [entry for entry in entries if name in (entry.task_id, entry.intent.reference)]
    entry = same[-1] if same else found(entries, name).entry
    if entry is None:
        raise UsageError(f"The journal knows nothing of {clean(name, 80)}.")
    return entry


def _tell(console: Console, telling: Telling, record: TaskRecord, entry: Entry | None) -> None:
    if telling.json:
        say_json(console, _record_as_json(record, entry))
        return
    if telling.quiet:
        return
    facts = [("task", clean(record.task_id, 80)), ("state", clean(record.state, 40))]
    if record.progress is not None and not record.state.is_terminal:
        facts.append(("progress", f"{record.progress:.0f} %"))
    if record.fail_message:
        facts.append(("reason", clean(record.fail_message, 400)))
    if record.duration is not None:
        facts.append(("took", duration(record.duration)))
    if record.credits_consumed is not None and record.state.is_terminal:
        facts.append(("cost", f"{record.credits_consumed:g} credits"))
    facts += [("result", clean(url, 2000)) for url in record.result_urls]
    if entry is not None and (entry.path or entry.intent.output):
        facts.append(("file", clean(entry.path or f"{entry.intent.output} (to be brought)", 4096)))
    for name, value in facts:
        say(console, f"{name:<9} ", (value, "bold" if name == "state" else ""))


def _record_as_json(record: TaskRecord, entry: Entry | None) -> dict[str, Any]:
    return {
        "event": "task",
        "task_id": record.task_id,
        "reference": None if entry is None else entry.intent.reference,
        "state": str(record.state),
        "progress": record.progress,
        "fail_code": record.fail_code,
        "fail_message": record.fail_message,
        "credits": record.credits_consumed,
        "seconds": record.duration,
        "urls": list(record.result_urls),
        "path": None if entry is None else entry.path,
    }
