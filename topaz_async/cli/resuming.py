"""What earlier commands have left: results that are paid for, clips that were not sent."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import attrs

from ..advice import still_unknown
from ..models import TaskState
from ..ports import Entry, Journal
from ..urls import are_apart
from .batches import Batch, Batches
from .entries import opened
from .planning import Planned, plan_of
from .wishes import Wish

__all__ = ["Left", "left_behind"]


@attrs.frozen(kw_only=True)
class Left:
    """What is left to do."""

    plan: list[Planned]
    #: The commands that the plan finishes.
    batches: tuple[Batch, ...] = ()
    #: How many commands are still at it, in other terminals.
    living: int = 0

    def settle(self, keep: Sequence[Planned]) -> None:
        """Let go of the commands once the plan has been carried out.

        What of them is still to be sent has been written down anew by whoever carried it out.

        Args:
            keep: A command with a clip among these that could not be sent is kept: its disk may
                come back.
        """
        stuck = {planned.wish.clip for planned in keep if planned.action == "refuse"}
        for batch in self.batches:
            if not any(wish.clip in stuck for wish, _ in batch.rows):
                batch.path.unlink(missing_ok=True)


async def left_behind(
    path: Path, *, service: str, timeout: float, overwrite: bool, max_bytes: int
) -> Left:
    """Return what the commands beside a journal have left; sends nothing.

    Args:
        path: The journal's file.
        service: Origin of the service; a rehearsal is left to the one where it was.
        timeout: Seconds to wait for each task.
        overwrite: Replace files that are in the way.
        max_bytes: The largest file that is sent.

    Raises:
        UsageError: The journal cannot be opened.
        JournalError: The journal cannot be read.
    """
    batches = Batches(path)
    found = await asyncio.to_thread(batches.all)
    living = [batch for batch in found if batch.is_living]
    dead = tuple(
        batch for batch in found if not batch.is_living and not are_apart(batch.service, service)
    )
    taken = {reference for batch in living for _, reference in batch.rows}
    clips = {reference: wish for batch in dead for wish, reference in batch.rows}
    async with opened(path) as journal:
        plan = [
            _fetch(entry, clips, timeout=timeout, overwrite=overwrite)
            for entry in await journal.jobs("undelivered")
            if entry.intent.reference not in taken
            if not are_apart(entry.intent.service, service)
        ]
        plan += [
            Planned(wish=_wish(entry, clips), action="refuse", error=still_unknown(entry))
            for entry in await journal.jobs("unfinished")
            if entry.submit == "unknown"
            if entry.intent.reference not in taken
            if not are_apart(entry.intent.service, service)
        ]
        rest = [
            attrs.evolve(wish, timeout=timeout, overwrite=wish.overwrite or overwrite)
            for wish in await _unsent(journal, dead, taken, service)
        ]
        plan += await plan_of(rest, journal, service=service, max_bytes=max_bytes)
    return Left(plan=plan, batches=dead, living=len(living))


async def _unsent(
    journal: Journal, dead: Sequence[Batch], taken: set[str], service: str
) -> list[Wish]:
    """Return the wishes of dead commands of which nothing is known to have left to a service."""
    unsent: dict[str, Wish] = {}
    for batch in dead:
        for wish, reference in batch.rows:
            entry = await journal.find(reference)
            if reference in taken:
                continue
            # What was rehearsed was not sent; the plan says that its name is taken.
            if (
                entry is None
                or entry.submit == "refused"
                or are_apart(entry.intent.service, service)
                or _had_failed(entry, batch)
            ):
                unsent[reference] = wish
    return list(unsent.values())


def _had_failed(entry: Entry, batch: Batch) -> bool:
    """Tell whether a task had failed before the command that was to try its clip again."""
    failed = entry.submit == "made" and TaskState(entry.state or "").is_fail
    return failed and entry.created_at.timestamp() < batch.begun


def _fetch(entry: Entry, clips: dict[str, Wish], *, timeout: float, overwrite: bool) -> Planned:
    wish = _wish(entry, clips)
    return Planned(
        wish=attrs.evolve(wish, timeout=timeout, overwrite=wish.overwrite or overwrite),
        action="fetch",
        seconds=entry.intent.seconds,
        size=entry.intent.size,
        task_id=entry.task_id,
    )


def _wish(entry: Entry, clips: dict[str, Wish]) -> Wish:
    """Return what was to become of an entry; its clip's name may be known to nobody."""
    reference = entry.intent.reference
    output = Path(entry.intent.output or f"{entry.task_id or 'unknown'}.mp4")
    known = clips.get(reference or "")
    return Wish(
        clip=str(output) if known is None else known.clip,
        factor=entry.intent.factor or "2",
        output=output,
        reference=reference,
        overwrite=known is not None and known.overwrite,
    )
