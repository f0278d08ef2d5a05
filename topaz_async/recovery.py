"""Taking up what earlier runs have bought: what is unfinished, and lost tasks found by hand."""

from __future__ import annotations

import asyncio

import attrs

from .advice import conflict_of
from .engine import Engine, since, traits_of
from .errors import JournalError, ReferenceConflictError, clean
from .models import TaskRecord
from .orders import nonce_in
from .ports import Entry, Journal
from .rescue import agrees
from .urls import are_apart

__all__ = ["Recovery"]


class Recovery:
    """What the journal still has to tell a client.

    Args:
        parts: Of the client that goes on.
        callback_url: Where the service was told to call, if anywhere.
    """

    def __init__(self, parts: Engine, callback_url: str | None) -> None:
        self._parts = parts
        self._callback_url = callback_url
        self._binding = asyncio.Lock()

    @property
    def _journal(self) -> Journal:
        return self._parts.memory.journal

    async def unfinished(self) -> list[Entry]:
        """Return what is paid for and not known to have ended, and what may be; expect it again.

        Raises:
            JournalError: It cannot be read.
        """
        await self._parts.submitter.catch_up()
        await self._parts.find_again()
        entries = await self._parts.memory.jobs("unfinished")
        for entry in entries:
            if entry.task_id is not None:
                self._parts.poller.made(entry.task_id, traits_of(entry.intent), ago=since(entry))
                if self._callback_url is not None and entry.intent.nonce is not None:
                    self._parts.doorbell.expects(entry.task_id, self._callback_url)
        return entries

    async def bind(self, reference: str, task_id: str) -> None:
        """Write down that this task is what the reference bought.

        Raises:
            ReferenceConflictError: It is another's, or other work.
            JournalError: No submit of the reference is known, or it cannot be written.
        """
        entry = await self._journal.find(reference)
        if entry is None:
            raise JournalError(
                f"No submit of the reference {clean(reference, 80)!r} is known.",
                reference=reference,
            )
        self._check_service(entry)
        record = await self._parts.record(task_id)
        entry = await self._attempt(record, entry)
        wire = self._parts.wire
        if entry.intent.reference != reference or not agrees(record, entry.intent, wire):
            model, sent = wire.sent_input(record)
            raise _conflict(
                task_id,
                reference,
                f"is not what {clean(reference, 80)!r} submitted: it is {clean(model, 80)} with "
                f"{clean(sent, 200)}",
            )
        async with self._binding:  # of two references only one gets it
            for other in await self._journal.jobs("made"):
                if other.task_id == task_id and other.intent.reference != reference:
                    whose = clean(other.intent.reference, 80)
                    raise _conflict(task_id, reference, f"is that of {whose!r} already")
            await self._journal.bind(entry.id, task_id)

    def _check_service(self, entry: Entry) -> None:
        """Raise when it was submitted elsewhere: what was rehearsed was not bought."""
        here = attrs.evolve(entry.intent, service=self._parts.memory.service)
        if not entry.intent.is_same_work(here):
            raise conflict_of(entry, here, freed_by="client.journal.forget(reference)")

    async def _attempt(self, record: TaskRecord, last: Entry) -> Entry:
        """Return the attempt whose task it is: of several the nonce tells which one it was."""
        nonce = nonce_in(self._parts.wire.sent_callback(record) or "")
        if nonce is None or nonce == last.intent.nonce:
            return last
        attempts = [
            each
            for each in await self._journal.jobs()
            if each.intent.nonce == nonce
            if not are_apart(each.intent.service, last.intent.service)
        ]
        # An attempt that was refused and repeated has the nonce of the one that was lost.
        attempts.sort(key=lambda each: each.submit not in ("unknown", "intent"))
        return attempts[0] if attempts else last


def _conflict(task_id: str, reference: str, why: str) -> ReferenceConflictError:
    return ReferenceConflictError(
        f"Task {task_id} {why}.", task_id=task_id, reference=reference, billed="unknown"
    )
