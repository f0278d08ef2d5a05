"""Write outcomes of submits down; what the journal cannot take now, as soon as it can."""

from __future__ import annotations

import asyncio
import logging

import attrs

from .advice import NAMED
from .errors import JournalError, clean
from .journal_changes import BoundError, GoneError
from .ports import Entry, Journal
from .wire import Made, Refused, Unknown

__all__ = ["Debts"]

_log = logging.getLogger("topaz_async")

#: Seconds before a journal is tried again: the first pause, its growth, and the longest.
_FIRST, _GROWTH, _LONGEST = 0.5, 2.0, 5.0

#: What became of a submit.
Outcome = Made | Refused | Unknown


@attrs.frozen(eq=False)
class _Debt:
    journal: Journal
    entry: Entry
    outcome: Outcome

    async def pay(self) -> None:
        entry_id, outcome = self.entry.id, self.outcome
        if isinstance(outcome, Made):
            await self.journal.bind(entry_id, outcome.task_id)
        elif isinstance(outcome, Refused):
            await self.journal.refuse(entry_id, outcome.error.code, outcome.error.message)
        else:
            await self.journal.lose(entry_id, outcome.error.code, _words(outcome))


def _words(outcome: Unknown) -> str:
    """Return what is kept of an unknown submit: an id that leaves a doubt stands in the words."""
    words, doubtful = outcome.error.message, outcome.error.task_id
    return words if doubtful is None else f"{NAMED}{doubtful}. {words}"


class Debts:
    """What one client knows of its submits and its journal does not yet.

    A journal that is locked or full for a moment must cost neither the caller the id, nor the
    next process: until it is written down it is tried again and again, in a task of its own.
    """

    def __init__(self) -> None:
        self._debts: list[_Debt] = []
        self._task: asyncio.Task[None] | None = None

    def __bool__(self) -> bool:
        return bool(self._debts)

    def owed(self, reference: str) -> tuple[Entry, Outcome] | None:
        """Return what a reference came to and its journal does not know yet."""
        for debt in reversed(self._debts):  # the last one knows most
            if debt.entry.intent.reference == reference:
                return debt.entry, debt.outcome
        return None

    @staticmethod
    async def remark(journal: Journal, entry: Entry, outcome: Unknown) -> None:
        """Keep what is known so far of a submit that stays under way, where a journal can."""
        keep = getattr(journal, "remark", None)
        if keep is None or outcome.error.task_id is None:
            return
        try:
            await keep(entry.id, _words(outcome))
        except JournalError as error:  # the outcome will be written, or owed
            _log.debug("The journal could not be written: %s", error.message)

    async def write(self, journal: Journal, entry: Entry, outcome: Outcome) -> None:
        """Write an outcome down now, or say that it could not be done and do it later."""
        debt = _Debt(journal, entry, outcome)
        try:
            await debt.pay()
        except (BoundError, GoneError) as error:
            _log.warning("The outcome of a submit could not be written down: %s", error.message)
        except JournalError as error:
            what = f"task {outcome.task_id}" if isinstance(outcome, Made) else "the outcome"
            _log.warning(
                "The journal could not be written; it is tried again until the client closes, "
                "but note %s yourself: %s", what, error.message,
            )  # fmt: skip
            self._debts.append(debt)
            if self._task is None or self._task.done():
                self._task = asyncio.create_task(self._keep_trying(), name="topaz_async debts")

    async def _keep_trying(self) -> None:
        pause = _FIRST
        while self._debts:
            await asyncio.sleep(pause)
            await self.pay()
            pause = min(_GROWTH * pause, _LONGEST)

    async def pay(self) -> None:
        """Write down now what can be; twice at once does no harm."""
        await asyncio.gather(*map(self._pay, list(self._debts)))

    async def _pay(self, debt: _Debt) -> None:
        try:
            await debt.pay()
        except (BoundError, GoneError) as error:  # somebody else has found out, or given up
            _log.debug("Nothing is owed any more: %s", error.message)
        except Exception as error:  # a journal of the caller's own may raise anything
            _log.debug("The journal still could not be written: %s", clean(error))
            return
        if debt in self._debts:
            self._debts.remove(debt)

    async def aclose(self) -> None:
        """Try once more, and no longer."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        await self.pay()
