"""The public calls under way on a client, and how closing it ends them."""

from __future__ import annotations

import asyncio
import logging
from types import TracebackType

from .errors import Billed, ClientClosedError, ConfigurationError, TopazError

__all__ = ["Call", "Calls"]

_log = logging.getLogger("topaz_async")


class Call:
    """One public call, with what its error would have to say if the client were closed now.

    Entered for as long as the call is under way.
    """

    __slots__ = (
        "_calls", "_cancelling", "_closed", "_task",
        "billed", "is_only_trace", "may_pay_again", "reference", "task_id", "where",
    )  # fmt: skip

    def __init__(self, calls: Calls, task: asyncio.Task[object]) -> None:
        self._calls = calls
        self._task = task
        self._cancelling = task.cancelling()
        self._closed = False
        self.task_id: str | None = None
        self.reference: str | None = None
        self.billed: Billed = "no"
        #: It has paid for its task, and nothing else holds the id.
        self.is_only_trace = False
        #: It was made with a consent to submit again.
        self.may_pay_again = False
        #: How far it is.
        self.where = "nothing was submitted"

    @property
    def same_call(self) -> str:
        """What pays for nothing twice, in words."""
        but = " without resubmit_unknown and resubmit_failed" if self.may_pay_again else ""
        return f"the same call{but}"

    def asks_for(self, reference: str | None, *, may_pay_again: bool = False) -> None:
        """What its reference stands for is not known yet: it may be a task that is paid for."""
        self.may_pay_again |= may_pay_again
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
        if not isinstance(error, asyncio.CancelledError):
            return
        if self.is_only_trace:
            _log.warning("Task %s goes on, though its caller has left.", self.task_id)
        if ours:
            raise ClientClosedError(
                "The client was closed while this call was under way.",
                task_id=self.task_id,
                reference=self.reference,
                billed=self.billed,
                hint=self._how_to_go_on(),
            ) from None

    def _how_to_go_on(self) -> str | None:
        if self.task_id:
            return f"The task goes on: wait_for_result({self.task_id!r}) of a new client gets it."
        if self.billed != "unknown":
            return None
        if self.reference is not None:
            return (
                f"On a new client with a journal, {self.same_call} finds out what its reference "
                "stands for, and pays for nothing twice."
            )
        return "What becomes of its createTask goes to the log, and to the journal if there is one."

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

    def check_open(
        self,
        task_id: str | None = None,
        reference: str | None = None,
        billed: Billed | None = None,
    ) -> None:
        """Raise unless a call may begin on the running loop.

        Args:
            task_id, reference: What the call is about; an error names them.
            billed: What is known of its cost; None for unknown if it is about anything.
        """
        failure: TopazError | None = None
        loop = asyncio.get_running_loop()
        if self.closed:
            failure = ClientClosedError("The client is closed.", hint="Make a new TopazClient.")
        elif self._loop is None:
            self._loop = loop
        elif self._loop is not loop:
            failure = ConfigurationError(
                "This client belongs to another event loop.",
                hint="Make one TopazClient for each asyncio.run().",
            )
        if failure is not None:
            known = billed or ("unknown" if task_id or reference else "no")
            raise failure.about(task_id=task_id or None, reference=reference, billed=known)

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

    def enter(
        self,
        task_id: str | None = None,
        reference: str | None = None,
        billed: Billed | None = None,
    ) -> Call:
        """Return the running task's call, to be entered until it ends.

        Args:
            task_id, reference, billed: As for `check_open`.
        """
        self.check_open(task_id, reference, billed)
        task = asyncio.current_task()
        assert task is not None
        call = Call(self, task)
        if task_id or billed:
            call.task_id, call.reference = task_id or None, reference
            call.billed = billed or "unknown"
        return call

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
