"""The public calls under way on a client, and how closing it ends them."""

from __future__ import annotations

import asyncio
from types import TracebackType

from .errors import Billed, ClientClosedError, ConfigurationError

__all__ = ["Call", "Calls"]


class Call:
    """One public call, with what its error would have to say if the client were closed now.

    Entered for as long as the call is under way.
    """

    __slots__ = (
        "_calls", "_cancelling", "_closed", "_task", "billed", "reference", "task_id", "where"
    )  # fmt: skip

    def __init__(self, calls: Calls, task: asyncio.Task[object]) -> None:
        self._calls = calls
        self._task = task
        self._cancelling = task.cancelling()
        self._closed = False
        self.task_id: str | None = None
        self.reference: str | None = None
        self.billed: Billed = "no"
        #: How far it is.
        self.where = "nothing was submitted"

    def asks_for(self, reference: str | None) -> None:
        """What its reference stands for is not known yet: it may be a task that is paid for."""
        if reference is not None:
            self.reference, self.billed = reference, "unknown"
            self.where = "whether its reference has a task already was not known yet"

    def __enter__(self) -> Call:
        self._calls.begin(self)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        # Taken back in any case: a call that failed for another reason in that very moment must
        # not leave its task half cancelled, or the caller's own timeouts would go astray.
        ours = self._take_back()
        self._calls.end(self)
        if ours and isinstance(error, asyncio.CancelledError):
            raise ClientClosedError(
                "The client was closed while this call was under way.",
                task_id=self.task_id,
                reference=self.reference,
                billed=self.billed,
                hint=self.task_id
                and f"The task goes on: wait_for_result({self.task_id!r}) of a new client gets it.",
            ) from None

    def close(self) -> None:
        """End the call with `ClientClosedError`."""
        if not self._closed:
            self._closed = True
            self._task.cancel("the client was closed")

    def _take_back(self) -> bool:
        """Take our cancellation back, once; True when nobody else cancels the task as well."""
        if not self._closed:
            return False
        self._closed = False
        return self._task.uncancel() <= self._cancelling


class Calls:
    """The calls of one client: all on one event loop, until it is closed."""

    def __init__(self) -> None:
        self._calls: set[Call] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._idle: asyncio.Future[None] | None = None
        self.closed = False

    def check_open(self) -> None:
        """Raise unless a call may begin on the running loop."""
        if self.closed:
            raise ClientClosedError("The client is closed.", hint="Make a new TopazClient.")
        loop = asyncio.get_running_loop()
        if self._loop is None:
            self._loop = loop
        elif self._loop is not loop:
            raise ConfigurationError(
                "This client belongs to another event loop.",
                hint="Make one TopazClient for each asyncio.run().",
            )

    def is_elsewhere(self) -> bool:
        """Tell whether the calls' own loop is over and another one runs.

        Raises:
            ConfigurationError: Their own loop still runs, somewhere else.
        """
        if self._loop is None or self._loop is asyncio.get_running_loop():
            return False
        if not self._loop.is_closed():
            raise ConfigurationError(
                "This client belongs to another event loop.", hint="Close it on its own loop."
            )
        return True

    def enter(self) -> Call:
        """Return the running task's call, to be entered until it ends."""
        self.check_open()
        task = asyncio.current_task()
        assert task is not None
        return Call(self, task)

    def begin(self, call: Call) -> None:
        """Count a call in."""
        self._calls.add(call)

    def end(self, call: Call) -> None:
        """Count a call out."""
        self._calls.discard(call)
        if not self._calls and self._idle is not None and not self._idle.done():
            self._idle.set_result(None)

    def close(self) -> None:
        """Begin no further call, and end every call under way."""
        self.closed = True
        for call in tuple(self._calls):
            call.close()

    async def ended(self, seconds: float) -> None:
        """Return when no call is under way any more, after `seconds` at the latest."""
        if self._calls:
            self._idle = asyncio.get_running_loop().create_future()
            await asyncio.wait([self._idle], timeout=seconds)
