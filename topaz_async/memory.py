"""What one client remembers of its submits and tasks, and where."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Coroutine, Sequence
from typing import Any, cast

from .errors import ConfigurationError, JournalError
from .guard import Guarded
from .journal import SqliteJournal
from .models import TaskRecord
from .ports import Entry, Intent, Journal
from .texts import quoted
from .urls import are_apart, shown

__all__ = ["Memory"]

_log = logging.getLogger("topaz_async")


#: How many ended tasks teach how long tasks take.
_HISTORY = 1000


class Memory:
    """The journal of a client: the caller's, one of its own, or none.

    Without a journal references still hold, for the life of this client.

    Args:
        journal: A path (the client opens and closes it), a journal (the caller closes it), or
            None.
        service: Origin of the service; what a journal holds of a rehearsal does not concern
            the real one.
    """

    def __init__(
        self, journal: Journal | str | os.PathLike[str] | None, *, service: str | None = None
    ) -> None:
        self._given: Journal | None
        self._journal: Journal | None
        self._is_ours = isinstance(journal, (str, os.PathLike))
        if isinstance(journal, (str, os.PathLike)):
            self._given = self._journal = SqliteJournal(journal)
        elif journal is None or type(journal) is SqliteJournal:
            self._given = self._journal = journal
        elif hasattr(journal, "claim"):
            self._given, self._journal = journal, cast(Journal, Guarded(journal))
        else:
            raise ConfigurationError(f"{quoted(journal, 40)} is no journal and no path.")
        self.service = service
        self._fleeting: SqliteJournal | None = None
        self._has_told = False
        self._notes: set[asyncio.Task[None]] = set()

    @property
    def journal(self) -> Journal:
        """The journal that outlives the client.

        Raises:
            ConfigurationError: There is none.
        """
        if self._journal is None:
            raise ConfigurationError(
                "This client keeps no journal, so nothing outlives it.",
                hint='Pass TopazClient(journal="topaz.sqlite").',
            )
        return self._journal

    @property
    def given(self) -> Journal:
        """The same, as the caller handed it in."""
        return self.journal if self._given is None else self._given

    @property
    def is_kept(self) -> bool:
        """Whether there is a journal that outlives the client."""
        return self._journal is not None

    def journal_of(self, intent: Intent) -> Journal | None:
        """Return where an intent is written down; None for nowhere."""
        if self._journal is not None or intent.reference is None:
            return self._journal
        if self._fleeting is None:
            self._fleeting = SqliteJournal(None)
            _log.warning(
                "Without a journal a reference holds for this client only; "
                'pass TopazClient(journal="topaz.sqlite") to keep it through a restart.'
            )
        return self._fleeting

    def journals(self) -> list[Journal]:
        """Return all places where submits are written down."""
        return [journal for journal in (self._journal, self._fleeting) if journal is not None]

    async def jobs(self, state: str) -> list[Entry]:
        """List what the journal holds in one state of this service's, as `Journal.jobs` does."""
        found = await self.journal.jobs(state)
        ours = self._ours(found)
        if len(ours) < len(found):
            _log.warning(
                "Left out: what the journal holds of submits elsewhere than at %s (%d in all).",
                shown(self.service or ""), len(found) - len(ours),
            )  # fmt: skip
        return ours

    def _ours(self, entries: Sequence[Entry]) -> list[Entry]:
        return [each for each in entries if not are_apart(each.intent.service, self.service)]

    async def history(self) -> list[Entry]:
        """Return the newest entries of tasks that have ended, oldest first; once, then none."""
        if self._journal is None or self._has_told:
            return []
        self._has_told = True
        try:
            return self._ours(await self._journal.ended(_HISTORY))
        except JournalError as error:  # what it would have taught is a help, no more
            _log.warning("The journal could not be read: %s", error.message)
            return []

    def note(self, record: TaskRecord) -> None:
        """Write a task's new state down, beside the wait."""
        for journal in self.journals():
            journal.note_soon(
                record.task_id,
                state=record.state,
                result_urls=record.result_urls,
                credits_consumed=record.credits_consumed,
                duration=record.duration,
            )

    def downloaded(self, task_id: str, path: os.PathLike[str]) -> None:
        """Write down where a result was brought to."""
        for journal in self.journals():
            self._begin(journal.downloaded(task_id, os.path.abspath(path)))

    def _begin(self, write: Coroutine[Any, Any, None]) -> None:
        note = asyncio.create_task(_write(write), name="topaz_async journal note")
        self._notes.add(note)
        note.add_done_callback(self._notes.discard)

    async def outlive_the_loop(self) -> None:
        """Close what is ours although the loop of the client's calls is over."""
        self._notes.clear()
        await self.aclose(0.0)

    async def aclose(self, grace: float) -> None:
        """Let notes under way end, and close what is ours."""
        if self._notes:
            await asyncio.wait(self._notes, timeout=grace)
            for note in self._notes:
                note.cancel()
        if self._journal is not None and self._is_ours:
            await self._journal.aclose()
        if self._fleeting is not None:
            await self._fleeting.aclose()


async def _write(write: Coroutine[Any, Any, None]) -> None:
    try:
        await write
    except JournalError as error:  # a note lost costs one more question, no money
        _log.warning("The journal could not be written: %s", error.message)
