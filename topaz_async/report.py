"""What became of a batch, to print, to keep and to read again."""

from __future__ import annotations

import json
import os
from collections import Counter
from pathlib import Path
from typing import Any, Self

import attrs

from .errors import (
    ClientClosedError,
    JournalError,
    ReferenceConflictError,
    SubmitUnknownError,
    TopazError,
    WaitTimeoutError,
)
from .models import Outcome, OutcomeStatus
from .texts import clean

__all__ = ["BatchReport", "ReportRow", "status_of"]


def status_of(error: TopazError, task_id: str | None) -> OutcomeStatus:
    """Return what became of an item that ended with an error.

    Args:
        error: The error.
        task_id: The item's task, if it has one.
    """
    if isinstance(error, ReferenceConflictError):  # a task that it names is other work
        return "refused"
    if isinstance(error, (WaitTimeoutError, ClientClosedError)) and task_id:
        return "pending"
    if isinstance(error, SubmitUnknownError) or (task_id is None and error.billed == "unknown"):
        return "unknown"
    if isinstance(error, ClientClosedError):
        return "not submitted"
    return "failed" if task_id else "refused"


@attrs.frozen(kw_only=True)
class ReportRow:
    """One item of a batch, as its report keeps it."""

    index: int
    video: str
    status: str
    reference: str | None = None
    task_id: str | None = None
    path: str | None = None
    credits: float | None = None
    seconds: float | None = None
    #: What went wrong, whether it cost money, what to do next.
    error: str | None = None
    same_as: int | None = None

    @classmethod
    def of(cls, outcome: Outcome) -> Self:
        """Return the row of an outcome."""
        return cls(
            index=outcome.index,
            video=outcome.video,
            status=outcome.status,
            reference=outcome.reference,
            task_id=outcome.task_id,
            path=None if outcome.path is None else str(outcome.path),
            credits=outcome.credits,
            seconds=outcome.seconds,
            error=None if outcome.error is None else str(outcome.error),
            same_as=outcome.same_as,
        )


@attrs.frozen(kw_only=True)
class BatchReport:
    """A batch at one moment; `print` it for a table."""

    #: Seconds since the batch began.
    seconds: float
    rows: tuple[ReportRow, ...] = ()

    @property
    def counts(self) -> dict[str, int]:
        """How many items have each status."""
        return dict(Counter(row.status for row in self.rows))

    @property
    def credits(self) -> float:
        """What the service says that the tasks cost, in credits; shared tasks count once."""
        costs = {row.task_id: row.credits for row in self.rows if row.credits is not None}
        return sum(costs.values())

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the report as JSON: an object with `seconds` and a list of `rows`."""
        text = json.dumps(attrs.asdict(self), ensure_ascii=False, indent=1)
        Path(path).write_text(text + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Read a report that was saved.

        Raises:
            JournalError: The file holds no report.
        """
        try:
            found: dict[str, Any] = json.loads(Path(path).read_text(encoding="utf-8"))
            rows = tuple(ReportRow(**row) for row in found["rows"])
            return cls(seconds=float(found["seconds"]), rows=rows)
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise JournalError(
                f"{clean(str(path), 200)} holds no report ({type(error).__name__})."
            ) from None

    def __str__(self) -> str:
        table = [("status", "video", "task", "credits", "file or reason")]
        for row in sorted(self.rows, key=lambda row: row.index):
            cost = "" if row.credits is None else f"{row.credits:g}"
            told = row.path or row.error or ""
            table.append((row.status, row.video, row.task_id or "", cost, told))
        widths = [max(len(line[column]) for line in table) for column in range(4)]
        lines = [
            "  ".join(
                [*(cell.ljust(width) for cell, width in zip(line, widths, strict=False)), line[4]]
            ).rstrip()
            for line in table
        ]
        counts = ", ".join(f"{number} {status}" for status, number in sorted(self.counts.items()))
        lines.append(f"{counts or 'nothing yet'}; {self.credits:g} credits; {self.seconds:.1f} s")
        return "\n".join(lines)
