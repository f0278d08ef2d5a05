"""A task's last record to its result, or to the error that says why there is none."""

from __future__ import annotations

import re

from .durations import moment_after
from .errors import Billed, ResultError, TaskFailedError
from .models import TaskRecord, UpscaleResult
from .texts import clean

__all__ = ["settle"]

#: Words of failures that a new task may well not meet again, seen in recorded answers.
_PASSING = re.compile(
    r"internal|server (is )?busy|try again|upload failed|task id is blank|timed? ?out",
    re.IGNORECASE,
)
#: Words of failures that every new task of this input would meet again.
_FOR_GOOD = re.compile(
    r"flagged|sensitive|safety|policy|unsupported|invalid|too (large|long)", re.I
)


def settle(
    record: TaskRecord, reference: str | None = None, *, life: float | None = None
) -> UpscaleResult:
    """Return what a task made.

    Args:
        record: A terminal record.
        reference: The caller's own name for the work.
        life: Seconds for which links live after the task's completion; None when nobody knows.

    Raises:
        TaskFailedError: The task ended in fail.
        ResultError: It ended in success without a usable link.
    """
    if record.state.is_fail:
        raise _failed(record, reference)
    if not record.result_urls:
        error = ResultError(
            f"Task {clean(record.task_id, 80)} succeeded and names no usable link.",
            task_id=record.task_id,
            reference=reference,
            billed="yes",
            hint="The record holds what the service said; fetch_task may give more later.",
        )
        error.record = record
        raise error
    return UpscaleResult(
        task_id=record.task_id,
        urls=record.result_urls,
        record=record,
        reference=reference,
        expires_hint=moment_after(record.completed_at, life),
    )


def _failed(record: TaskRecord, reference: str | None) -> TaskFailedError:
    words = record.fail_message or "the service gave no reason"
    code = f" with code {record.fail_code}" if record.fail_code else ""
    billed: Billed = "unknown"
    if record.credits_consumed is not None and record.credits_consumed >= 0:
        billed = "yes" if record.credits_consumed else "no"
    hint, passing = "This task will not change any more; a new submit makes a new one.", False
    if _FOR_GOOD.search(words):
        hint = "Change the input first: a new task of this one would fail as well."
    elif _PASSING.search(words):
        hint, passing = "A new submit makes a new task, which may well succeed.", True
        if reference is not None:
            hint += " Its reference needs resubmit_failed=True for that."
    error = TaskFailedError(
        f"Task {clean(record.task_id, 80)} failed{code}: {words}",
        code=_number(record.fail_code),
        task_id=record.task_id,
        reference=reference,
        retryable=passing and billed != "yes",
        billed=billed,
        hint=hint,
    )
    error.fail_code = record.fail_code
    error.fail_message = record.fail_message
    error.record = record
    return error


def _number(fail_code: str | None) -> int | None:
    return int(fail_code) if fail_code and re.fullmatch(r"[0-9]{1,9}", fail_code) else None
