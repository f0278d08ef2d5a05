"""A command that upscales, from its plan to its last word."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import attrs
from rich.text import Text

from ..settings import Budget, Quotas
from ..texts import clean
from .aftermath import Aftermath, learn
from .batches import Batches
from .chorus import chorus_of
from .display import make_console
from .entries import opened
from .exits import StoppedError
from .options import Telling, Where
from .planning import Planned, Totals, plan_of
from .service import Service, named_url
from .tally import Tally
from .upscaling import carry_out
from .wishes import Wish

__all__ = ["Command", "finish", "look"]


@attrs.frozen(kw_only=True)
class Command:
    """What was typed, besides the clips."""

    where: Where
    telling: Telling
    #: None for a journal in memory, which ends with the command.
    journal: Path | None
    concurrency: int = 100
    max_credits: float | None = None
    max_upload_bytes: int | None = None

    @property
    def quotas(self) -> Quotas:
        """What may be sent."""
        if self.max_upload_bytes is None:
            return Quotas()
        return Quotas(max_upload_bytes=self.max_upload_bytes)


async def look(wishes: Sequence[Wish], command: Command, stop: asyncio.Event) -> list[Planned]:
    """Look at each clip and at what the journal knows of it; sends nothing.

    Raises:
        StoppedError: `stop` was set.
        UsageError: The journal cannot be opened.
        JournalError: The journal cannot be read.
    """
    async with opened(command.journal) as journal:
        looking = asyncio.create_task(
            plan_of(
                wishes,
                journal,
                service=named_url(command.where.base_url),
                max_bytes=command.quotas.max_upload_bytes,
            )
        )
        stopping = asyncio.create_task(stop.wait())
        try:
            await asyncio.wait([looking, stopping], return_when=asyncio.FIRST_COMPLETED)
            if not looking.done():
                raise StoppedError("Interrupted before anything was submitted. Nothing was billed.")
            return looking.result()
        finally:
            for task in (looking, stopping):
                task.cancel()
            await asyncio.wait([looking, stopping])


async def finish(
    plan: Sequence[Planned],
    command: Command,
    service: AbstractAsyncContextManager[Service],
    stop: asyncio.Event,
) -> int:
    """Carry a plan out, tell of it, and return the exit code.

    Args:
        plan: What is to be done with each clip.
        command: What was typed.
        service: Where it is sent.
        stop: Ends everything early.

    Raises:
        TopazError: Nothing could be begun.
    """
    batches = None if command.journal is None else Batches(command.journal)
    async with service as place, opened(command.journal) as journal:
        batch = None
        if batches is not None:
            batch = await asyncio.to_thread(batches.remember, plan, place.base_url)
        bound = command.max_credits
        budget = None if bound is None else Budget(max_credits=bound)
        tally = Tally(len(plan), is_play=place.is_embedded)
        is_idle = all(planned.action == "refuse" for planned in plan)  # errors say it all
        telling = attrs.evolve(command.telling, quiet=command.telling.quiet or is_idle)
        topaz = place.client(journal=journal, budget=budget, quotas=command.quotas)
        with chorus_of(telling, tally, _heading(plan, place)) as watcher:
            async with topaz:
                ways = await carry_out(plan, topaz, stop, watcher, concurrency=command.concurrency)
            for way in ways:
                await learn(way, journal)
                if not way.is_told:
                    watcher.ended(way)
    aftermath = Aftermath(ways, command.where, place, is_kept=command.journal is not None)
    if batches is not None:
        if batch is not None and aftermath.is_over:
            await asyncio.to_thread(batch.unlink, missing_ok=True)
        batches.release()
    return aftermath.tell(make_console(stderr=True), stopped=stop.is_set())


def _heading(plan: Sequence[Planned], service: Service) -> Text:
    """Say what is going to happen, and where."""
    where = "" if service.is_the_real_one else f" at {service.base_url}"
    if service.is_embedded:
        where = " in the sandbox"
    factor = plan[0].wish.factor
    if len(plan) == 1:
        wish = plan[0].wish
        target = (clean(wish.output, 4096), "bold")
        return Text.assemble("upscaling ", (wish.name, "bold"), f" {factor}x{where}, to ", target)
    totals = Totals.of(plan)
    figures = (
        (totals.send, "to send"),
        (totals.fetch, "paid for"),
        (totals.done, "there already"),
        (totals.refuse, "not possible"),
    )
    parts = ", ".join(f"{count} {word}" for count, word in figures if count)
    parts = "" if totals.send == len(plan) else f": {parts}"
    verb = "upscaling " if totals.send else "finishing "
    return Text.assemble(verb, (f"{len(plan)} clips", "bold"), f"{where}{parts}")
