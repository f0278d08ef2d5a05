"""What a command would do with each clip: send it, go on with it, or leave it alone."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable, Sequence
from typing import Literal

import attrs

from ..advice import conflict_of, still_unknown
from ..errors import InvalidInputError, TopazError
from ..models import TaskState
from ..orders import Order, make_order
from ..ports import Entry, Journal
from ..purse import estimate
from ..settings import PRICES
from ..targets import Target
from .wishes import Wish

__all__ = ["Action", "Planned", "Totals", "plan_of"]

#: What a command does with a clip:
#:
#: - "send": upload it and buy a task, which costs;
#: - "fetch": its task is paid for, so wait for it and download the result;
#: - "done": its result lies where it should be;
#: - "refuse": it cannot be sent.
Action = Literal["send", "fetch", "done", "refuse"]

#: Files that are looked at at once.
_AT_ONCE = 4


@attrs.frozen(kw_only=True)
class Planned:
    """One clip, looked at."""

    wish: Wish
    action: Action
    #: Of the clip, where known.
    seconds: float | None = None
    size: int | None = None
    #: Estimated credits that it will cost from now on; None when nobody can say.
    credits: float | None = 0.0
    #: Of what is paid for; None while another clip of the same command is buying it.
    task_id: str | None = None
    #: Of the local file, as it was looked at: SHA-256 in hex.
    content_hash: str | None = None
    error: TopazError | None = None
    #: Whether a callback may have named the task of a clip that is refused as unknown.
    may_be_heard_of: bool = False


@attrs.frozen
class Totals:
    """A plan in figures."""

    send: int
    fetch: int
    done: int
    refuse: int
    #: Estimated credits, of those whose length is known.
    credits: float
    #: How many are sent whose cost nobody can tell.
    unpriced: int

    @classmethod
    def of(cls, plan: Iterable[Planned]) -> Totals:
        """Return the figures of a plan."""
        plan = tuple(plan)
        actions = [each.action for each in plan]
        return cls(
            send=actions.count("send"),
            fetch=actions.count("fetch"),
            done=actions.count("done"),
            refuse=actions.count("refuse"),
            credits=sum(each.credits or 0.0 for each in plan),
            unpriced=sum(each.credits is None for each in plan),
        )


async def plan_of(
    wishes: Sequence[Wish], journal: Journal, *, service: str, max_bytes: int
) -> list[Planned]:
    """Look at each clip and at what the journal knows of it; sends nothing.

    Args:
        wishes: What is to be done.
        journal: What was bought before.
        service: Origin of the service.
        max_bytes: The largest file that is sent.

    Raises:
        JournalError: The journal cannot be read.
    """
    room = asyncio.Semaphore(_AT_ONCE)
    names = await _bought_as(journal, {wish.typed for wish in wishes if wish.typed is not None})

    async def look(wish: Wish) -> Planned:
        async with room:
            try:
                return await _planned(wish, journal, names, service, max_bytes)
            except InvalidInputError as error:
                return Planned(wish=wish, action="refuse", error=error)

    return _once_each(await asyncio.gather(*map(look, wishes)))


def _once_each(plan: Iterable[Planned]) -> list[Planned]:
    """Of clips that are the same work only the first is sent; the others get its result too."""
    seen: set[str | None] = set()
    told = []
    for planned in plan:
        reference = planned.wish.reference
        if planned.action == "send" and reference in seen:
            planned = attrs.evolve(planned, action="fetch", credits=0.0)
        elif planned.action == "send":
            seen.add(reference)
        told.append(planned)
    return told


#: The references under which work was bought, by the name that was typed and the fingerprint.
_Names = dict[tuple[str, str], str]


async def _bought_as(journal: Journal, typed: set[str]) -> _Names:
    """Return under which references clips of these names were bought.

    Of one clip the reference is the name, and of many each has its path added: how many there
    are, and how their paths are spelt, may be another time another.
    """
    names: _Names = {}
    if not typed:
        return names
    for entry in await journal.jobs():
        reference, failed = entry.intent.reference, TaskState(entry.state or "").is_fail
        if reference is None or entry.submit == "refused" or failed:
            continue
        for name in {reference, *_beginnings(reference)} & typed:
            names[name, entry.intent.fingerprint] = reference
    return names


def _beginnings(reference: str) -> Iterable[str]:
    parts = reference.split("/")
    return ("/".join(parts[:count]) for count in range(1, len(parts)))


async def _planned(
    wish: Wish, journal: Journal, names: _Names, service: str, max_bytes: int
) -> Planned:
    order = await asyncio.to_thread(
        make_order,
        wish.clip,
        factor=wish.factor,
        callback_url=wish.callback_url,
        reference=wish.reference,
        service=service,
        max_bytes=max_bytes,
    )
    if order.intent.content_hash is not None and wish.typed is not None:
        found = names.get((wish.typed, order.intent.fingerprint))
        if found is not None:
            order.intent = attrs.evolve(order.intent, reference=found)
    order.name_by_content()
    planned = Planned(
        wish=attrs.evolve(wish, reference=order.intent.reference),
        action="send",
        seconds=order.intent.seconds,
        size=order.intent.size,
        content_hash=order.intent.content_hash,
        credits=estimate(order.intent, PRICES),
    )
    planned = await _known(planned, order, journal)
    if planned.action in ("send", "fetch"):
        await asyncio.to_thread(
            Target.of, wish.output, overwrite=wish.overwrite, error=InvalidInputError
        )
    return planned


async def _known(planned: Planned, order: Order, journal: Journal) -> Planned:
    """Return what is left to do, as the journal knows of the same work."""
    entry = await journal.find(order.intent.reference or "")
    if entry is None or entry.submit == "refused":
        return planned
    if not entry.intent.is_same_work(order.intent):
        error = conflict_of(entry, order.intent, freed_by="`topaz-async forget REFERENCE`")
        return attrs.evolve(planned, action="refuse", credits=0.0, error=error)
    if entry.submit == "unknown" and not planned.wish.resubmit_unknown:
        return attrs.evolve(
            planned,
            action="refuse",
            credits=0.0,
            error=still_unknown(entry),
            may_be_heard_of=entry.intent.nonce is not None,
        )
    if entry.submit != "made" or TaskState(entry.state or "").is_fail:
        return planned
    there = await asyncio.to_thread(_lies_there, entry, planned.wish)
    action: Action = "done" if there else "fetch"
    return attrs.evolve(planned, action=action, credits=0.0, task_id=entry.task_id)


def _lies_there(entry: Entry, wish: Wish) -> bool:
    if wish.overwrite:
        return False
    return os.path.abspath(wish.output) in entry.paths and wish.output.is_file()
