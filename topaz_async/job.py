"""Our handle on one task."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Generator
from pathlib import Path
from typing import Any, Protocol

import attrs

from .advice import next_step
from .errors import ConfigurationError, SubmitUnknownError
from .models import TaskRecord, UpscaleResult
from .transfers import OnProgress

__all__ = ["Job", "JobClient", "known_id"]


class JobClient(Protocol):
    """What a job asks of the client that it is bound to."""

    async def wait_for_result(self, task: Job) -> UpscaleResult: ...

    def updates(
        self, task: Job, *, min_interval: float, timeout: float | None
    ) -> AsyncIterator[TaskRecord]: ...

    async def fetch_task(self, task_id: Job) -> TaskRecord: ...

    async def download(
        self,
        what: Job,
        path: str | os.PathLike[str],
        *,
        on_progress: OnProgress | None,
        overwrite: bool,
    ) -> Path: ...


@attrs.frozen
class Job:
    """A task that was submitted, or an id to look after.

    Awaiting it gives the `UpscaleResult`.  It pickles as plain data without its client;
    `client.job(job)` binds it again.
    """

    task_id: str
    #: The caller's own name for the work.
    reference: str | None = None
    _client: JobClient | None = attrs.field(default=None, repr=False, eq=False)
    #: True for a recovered submit of which nobody knows whether it made a task; its `task_id`
    #: is empty.
    unknown: bool = attrs.field(default=False, kw_only=True, repr=False)

    def __await__(self) -> Generator[Any, None, UpscaleResult]:
        return self._bound().wait_for_result(self).__await__()

    def updates(
        self, *, min_interval: float = 0.0, timeout: float | None = 900.0
    ) -> AsyncIterator[TaskRecord]:
        """Iterate over each changed record of the task, the terminal one last.

        Never raises for a failed task: its last record says so.  Leaving the loop early
        cancels nothing at the service.

        Args:
            min_interval: Least seconds between two records, for chats that limit edits; what
                happens in between is left out, but the terminal record comes at once.
            timeout: Seconds from the first step to the deadline; None waits without one.

        Raises:
            WaitTimeoutError: The deadline passed.
        """
        return self._bound().updates(self, min_interval=min_interval, timeout=timeout)

    async def fetch(self) -> TaskRecord:
        """Ask the service once; see `TopazClient.fetch_task`."""
        return await self._bound().fetch_task(self)

    async def download(
        self,
        path: str | os.PathLike[str],
        *,
        on_progress: OnProgress | None = None,
        overwrite: bool = False,
    ) -> Path:
        """Wait for the result and bring it to this disk; see `TopazClient.download`."""
        return await self._bound().download(
            self, path, on_progress=on_progress, overwrite=overwrite
        )

    def _bound(self) -> JobClient:
        if self._client is None:
            raise ConfigurationError(
                f"The job of task {self.task_id} belongs to no client (any more).",
                task_id=self.task_id,
                reference=self.reference,
                billed="unknown",
                hint="Bind it with client.job(job).",
            )
        return self._client

    def __reduce__(self) -> tuple[Any, ...]:
        return _unpickled, (self.task_id, self.reference, self.unknown)


def known_id(job: Job) -> str:
    """Return a job's task id; raise `SubmitUnknownError` when nobody knows whether it has one."""
    if not job.unknown:
        return job.task_id
    whose = "a submit without a reference"
    if job.reference is not None:
        whose = f"the submit of {job.reference!r}"
    raise SubmitUnknownError(
        f"Nobody knows whether {whose} made a task.",
        reference=job.reference,
        billed="unknown",
        hint=next_step(None, job.reference),
    )


def _unpickled(task_id: str, reference: str | None, unknown: bool) -> Job:
    return Job(task_id, reference, unknown=unknown)
