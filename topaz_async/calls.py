"""The public calls under way on a client, and how closing it ends them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from .errors import Billed, ClientClosedError

__all__ = ["Call", "Calls"]


class Call:
    """One public call, with what its error would have to say if the client were closed now."""

    __slots__ = ("_cancelling", "_task", "billed", "closed", "task_id")

    def __init__(self, task: asyncio.Task[object]) -> None:
        self._task = task
        self._cancelling = task.cancelling()
        self.task_id: str | None = None
        self.billed: Billed = "no"
        self.closed = False

    def close(self) -> None:
        """End the call with `ClientClosedError`."""
        if not self.closed:
            self.closed = True
            self._task.cancel("the client was closed")

    def was_cancelled_by_close_alone(self) -> bool:
        """Take the cancellation back; False when somebody else cancels the task as well."""
        return self.closed and self._task.uncancel() <= self._cancelling


class Calls:
    """The calls of one client."""

    def __init__(self) -> None:
        self._calls: set[Call] = set()

    @contextmanager
    def enter(self) -> Iterator[Call]:
        """Count the running task's call in, until it ends."""
        task = asyncio.current_task()
        assert task is not None
        call = Call(task)
        self._calls.add(call)
        try:
            yield call
        except asyncio.CancelledError:
            if not call.was_cancelled_by_close_alone():
                raise
            raise ClientClosedError(
                "The client was closed while this call was under way.",
                task_id=call.task_id,
                billed=call.billed,
                hint=call.task_id
                and f"The task goes on: wait_for_result({call.task_id!r}) of a new client gets it.",
            ) from None
        finally:
            self._calls.discard(call)

    def close(self) -> None:
        """End every call under way."""
        for call in tuple(self._calls):
            call.close()
