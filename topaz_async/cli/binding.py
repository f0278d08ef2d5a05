"""Say which task a submit made whose answer was lost."""

from __future__ import annotations

import asyncio
from pathlib import Path

from ..texts import clean
from .display import make_console, say, say_json
from .entries import kept, short_name, state_of
from .exits import UsageError
from .options import Telling, Where
from .service import Service
from .upscaling import closed_on

__all__ = ["bind"]


async def bind(
    reference: str,
    task_id: str,
    path: Path | None,
    service: Service,
    telling: Telling,
    stop: asyncio.Event,
    *,
    where: Where,
) -> None:
    """Write a task down as that of a submit, once the service says that it fits.

    Args:
        reference: The submit's.
        task_id: What its person has found in the account's task log.
        path: The journal; None when there is none.
        service: Where the task is.
        telling: How to tell.
        stop: Set when all shall end.
        where: What was typed about the place.

    Raises:
        UsageError: The journal knows no submit of that reference, or knows its task already.
        TopazError: The task is other work, is not known, or could not be asked for.
    """
    async with kept(path) as journal:
        entry = None if journal is None else await journal.find(reference)
        if entry is None:
            raise UsageError(
                f"The journal knows no submit of the reference {clean(reference, 80)!r}; "
                "`topaz-async jobs` lists them."
            )
        if entry.submit == "made" and entry.task_id != task_id:
            raise UsageError(
                f"The task of {short_name(entry)} is known: {clean(entry.task_id, 80)} "
                f"({state_of(entry)})."
            )
        async with service.client(journal=journal) as topaz, closed_on(stop, topaz):
            job = await topaz.bind(reference, task_id)
    console = make_console()
    if telling.json:
        say_json(console, {"event": "bound", "task_id": job.task_id, "reference": reference})
    elif not telling.quiet:
        words = ("resume",) if entry.intent.output else ("download", job.task_id)
        say(console, f"Bound: {short_name(entry)} is task {clean(job.task_id, 80)}.")
        say(console, f"Bring the result with: {where.command(*words)}")
