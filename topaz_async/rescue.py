"""Find a submit whose answer was lost again, by the callback of the task that it made.

A submit's callback URL holds a nonce that only the service and the journal know.  So a signed
callback with the nonce of an unknown submit names its task; it is believed once recordInfo
tells of the same model and input.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple

from .errors import JournalError, TaskNotFoundError, TopazError, clean
from .models import TaskRecord
from .orders import described, nonce_in
from .ports import Entry, Intent, Journal
from .wire import Wire

__all__ = ["Rescue", "agrees"]

_log = logging.getLogger("topaz_async")

#: Seconds before the service is asked again about tasks that could not be asked about: the
#: first pause, its growth, and the longest.
_FIRST, _GROWTH, _LONGEST = 1.0, 3.0, 600.0
#: Nonces that are looked for at once; the oldest are left to `recover()`.
_MOST = 1000
#: Questions about such tasks at once.
_AT_ONCE = 8


def agrees(record: TaskRecord, intent: Intent, wire: Wire) -> bool:
    """Tell whether a task is what was submitted: model, input and, where it is told, the nonce."""
    told = nonce_in(wire.sent_callback(record) or "")
    if told is not None and told != intent.nonce:
        return False
    return wire.sent_input(record) == (intent.model, described(intent.input))


class Found(NamedTuple):
    """The task that a callback names for a submit, and whether recordInfo agrees."""

    task_id: str
    is_certain: bool


class Rescue:
    """Binds unknown submits of one client's journals.

    Args:
        wire: Reads what a record tells of its submit.
        journals: Returns where submits are written down.
        task_of: Returns the task whose callback came with a nonce, or None.
        record: Asks about a task, again if need be.
        on_bound: Called with each task that was found again, and its intent.
        grace: Seconds for which the service may not know a task yet that a callback named.
    """

    def __init__(
        self,
        wire: Wire,
        *,
        journals: Callable[[], Sequence[Journal]],
        task_of: Callable[[str], str | None],
        record: Callable[[str], Awaitable[TaskRecord]],
        on_bound: Callable[[str, Intent], None],
        grace: float,
    ) -> None:
        self._wire = wire
        self._journals = journals
        self._task_of = task_of
        self._record = record
        self._on_bound = on_bound
        self._grace = grace
        self._few = asyncio.Semaphore(_AT_ONCE)
        #: Nonces that are being settled; whether they came to be is what these return.
        self._settling: dict[str, asyncio.Task[bool]] = {}
        #: Since when the service is known to have no record of the task of a nonce.
        self._missed: dict[str, float] = {}
        self._is_closed = False
        self._news: dict[str, str] = {}
        self._stir = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def soon(self, task_id: str, nonce: str) -> None:
        """Look beside everything else whether a callback's nonce is that of an unknown submit."""
        if self._is_closed or not self._journals():
            return
        self._news[nonce] = task_id
        if len(self._news) > _MOST:
            del self._news[next(iter(self._news))]
        self._stir.set()
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._look(), name="topaz_async rescue")

    async def _look(self) -> None:
        pause = _FIRST
        while self._news:
            self._stir.clear()
            news = dict(self._news)
            unsettled = await self._bind_all(news.get)
            if unsettled is None:
                unsettled = news
            for nonce in news.keys() - unsettled.keys():
                self._news.pop(nonce, None)
            if unsettled:
                try:
                    async with asyncio.timeout(pause):
                        await self._stir.wait()
                    pause = _FIRST  # there is news
                except TimeoutError:
                    pause = min(_GROWTH * pause, _LONGEST)

    async def all_heard(self, reference: str | None = None) -> dict[str, str]:
        """Bind every unknown submit whose callback has been heard, or those of one reference.

        Returns:
            The nonces of those of which the service could not be asked, with their tasks.
        """
        return await self._bind_all(self._task_of, reference) or {}

    async def _bind_all(
        self, task_of: Callable[[str], str | None], reference: str | None = None
    ) -> dict[str, str] | None:
        """Bind the unknown submits whose task is told.

        Returns:
            The nonces of those that are not settled yet, with their tasks; None when a journal
            could not be read, and nobody knows which they are.
        """
        unknown, is_all = await self._unknown()
        told = {
            nonce: task_id
            for _, entry in unknown
            if reference is None or entry.intent.reference == reference
            if (nonce := entry.intent.nonce) is not None
            if (task_id := task_of(nonce)) is not None
        }
        asked = [(j, entry) for j, entry in unknown if entry.intent.nonce in told]
        # Who wants one of them waits for no others.
        settle = self._settled_soon if reference is None else self._settled
        settled = await asyncio.gather(
            *(settle(j, entry, told[entry.intent.nonce or ""]) for j, entry in asked)
        )
        for (_, entry), is_settled in zip(asked, settled, strict=True):
            if is_settled:
                told.pop(entry.intent.nonce or "", None)
        return told if is_all else None

    async def _settled_soon(self, journal: Journal, entry: Entry, task_id: str) -> bool:
        async with self._few:
            return await self._settled(journal, entry, task_id)

    async def _settled(self, journal: Journal, entry: Entry, task_id: str) -> bool:
        """Settle an entry, once for all who ask at the same time; False when it cannot be yet."""
        if entry.submit == "intent" or self._is_closed:  # its answer may still come
            return False
        nonce = entry.intent.nonce or ""
        settling = self._settling.get(nonce)
        if settling is None:
            settling = asyncio.create_task(
                self._settle(journal, entry, task_id), name="topaz_async rescue of one"
            )
            self._settling[nonce] = settling
            settling.add_done_callback(lambda task: self._settling.pop(nonce))
        # Who leaves does not cut it: what was learnt would be lost.
        return await asyncio.shield(settling)

    async def _settle(self, journal: Journal, entry: Entry, task_id: str) -> bool:
        try:
            await self._bind(journal, entry, await self._record(task_id))
        except TaskNotFoundError:
            # By the monotonic clock: no jump of the other one may decide about money.
            now = asyncio.get_running_loop().time()
            if len(self._missed) > _MOST:
                del self._missed[next(iter(self._missed))]
            if now - self._missed.setdefault(entry.intent.nonce or "", now) < self._grace:
                return False
            _log.warning(
                "A callback of task %s came with the nonce of an unknown submit, but the "
                "service knows no such task; nothing was bound.", task_id,
            )  # fmt: skip
        except TopazError as error:
            _log.warning(
                "Task %s may be that of an unknown submit, but could not be asked about: %s",
                task_id, error,
            )  # fmt: skip
            return False
        return True

    async def task_for(self, intent: Intent) -> Found | None:
        """Return the task of a submit that has just lost its answer, if its callback was heard."""
        task_id = self._task_of(intent.nonce or "")
        if task_id is None:
            return None
        try:
            record = await self._record(task_id)
        except TopazError as error:
            _log.warning(
                "Task %s is probably that of a submit whose answer was lost, but could not be "
                "asked about: %s", task_id, error.message,
            )  # fmt: skip
            self.soon(task_id, intent.nonce or "")
            return Found(task_id, is_certain=False)
        if not agrees(record, intent, self._wire):
            return None
        _log.warning("Its callback tells what the lost answer would have: task %s.", task_id)
        return Found(task_id, is_certain=True)

    async def _unknown(self) -> tuple[list[tuple[Journal, Entry]], bool]:
        """Return the unknown submits that a callback may tell of, and whether these are all."""
        found: list[tuple[Journal, Entry]] = []
        is_all = True
        for journal in self._journals():
            try:
                # In this order: what becomes unknown in between is in both, and not in neither.
                under_way = await journal.jobs("intent")
                entries = {each.id: each for each in (*under_way, *await journal.jobs("unknown"))}
            except JournalError as error:
                is_all = False
                _log.warning("The journal could not be read: %s", error.message)
            else:
                found += [(journal, entry) for entry in entries.values() if entry.intent.nonce]
        return found, is_all

    async def _bind(self, journal: Journal, entry: Entry, record: TaskRecord) -> None:
        if not agrees(record, entry.intent, self._wire):
            _log.warning(
                "A callback of task %s came with the nonce of an unknown submit, but the task is "
                "other work; nothing was bound.", record.task_id,
            )  # fmt: skip
            return
        await journal.bind(entry.id, record.task_id)
        name = f" of {clean(entry.intent.reference, 80)!r}" if entry.intent.reference else ""
        _log.warning("Its callback tells the unknown submit%s: task %s.", name, record.task_id)
        self._on_bound(record.task_id, entry.intent)

    async def aclose(self) -> None:
        """Look no longer."""
        self._is_closed = True
        tasks = list(self._settling.values()) + ([self._task] if self._task is not None else [])
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
