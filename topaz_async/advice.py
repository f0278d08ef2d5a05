"""What is said where a reference cannot simply be bought: nobody knows, or it is other work's."""

from __future__ import annotations

from .errors import ReferenceConflictError, SubmitUnknownError, clean
from .ports import Entry, Intent
from .texts import usable_id
from .urls import are_apart, shown

__all__ = ["NAMED", "conflict_of", "named_in", "next_step", "still_unknown"]

#: How the words of an unknown submit begin whose broken answer named a task.
NAMED = "The answer named task "

_ASK_FIRST = (
    "Look for it in the account's task log and balance before you submit again: with a journal, "
    "client.bind(reference, task_id) binds what you find; resubmit_unknown=True is your consent "
    "to pay twice if it exists."
)
_NOTHING_HOLDS = (
    "Look for it in the account's task log and balance before you submit again: without a "
    "reference nothing holds a second submit back, and it pays twice if it exists. "
    "wait_for_result(task_id) waits for what you find."
)


def next_step(task_id: str | None, reference: str | None) -> str:
    """Return what to do about a submit of which nobody knows what it made."""
    if task_id is not None and reference is not None:
        return (
            f"fetch_task({task_id!r}) tells whether it is yours, and bind({reference!r}, "
            f"{task_id!r}) binds it to its reference."
        )
    if task_id is not None:
        return (
            f"fetch_task({task_id!r}) tells whether it is yours, and wait_for_result waits for "
            "it; a second submit pays twice if it is."
        )
    return _NOTHING_HOLDS if reference is None else _ASK_FIRST


def named_in(words: str | None) -> str | None:
    """Return the task id that words of an unknown submit were kept with, or None."""
    if words is None or not words.startswith(NAMED):
        return None
    return usable_id(words.removeprefix(NAMED).partition(". ")[0])


def conflict_of(entry: Entry, intent: Intent, *, freed_by: str) -> ReferenceConflictError:
    """Return the error of a reference that stands for other work than it is to stand for now.

    Args:
        entry: What it stands for.
        intent: What was to be submitted.
        freed_by: What makes the reference free again, in words.
    """
    name = f"The reference {clean(entry.intent.reference, 80)!r}"
    if are_apart(entry.intent.service, intent.service):
        what = (
            f"{name} stands for work at {shown(entry.intent.service or '')} already, and this is "
            f"{shown(intent.service or '')}."
        )
        hint = "Keep a journal for each: what a sandbox has rehearsed was not bought."
    else:
        what = f"{name} stands for other work already."
        hint = (
            "Use one reference for one video, model and factor, or pass the fingerprint= that "
            f"tells it from other work; {freed_by} frees it, and the next submit buys anew."
        )
    return ReferenceConflictError(
        what, reference=entry.intent.reference, task_id=entry.task_id, hint=hint
    )


def still_unknown(entry: Entry, told: str | None = None) -> SubmitUnknownError:
    """Return the error of a submit that an earlier call or process left without an answer.

    Args:
        entry: As the journal holds it.
        told: The task that a callback names.
    """
    task_id = told or entry.task_id or named_in(entry.words)
    named = "" if task_id is None else f"; it named task {task_id}"
    error = SubmitUnknownError(
        f"An earlier submit of {clean(entry.intent.reference, 80)!r}, of "
        f"{entry.created_at:%Y-%m-%d %H:%M:%S} UTC, never got a clear answer{named}.",
        code=entry.code,
        reference=entry.intent.reference,
        task_id=task_id,
        billed="unknown",
        hint=next_step(task_id, entry.intent.reference),
    )
    error.fingerprint = entry.intent.fingerprint
    error.sent_at = entry.created_at
    error.words = entry.words
    return error
