"""Which tasks a callback has spoken of, and how far callbacks may be relied on.

Trust is kept for each origin of callback URLs.  It is won by a signed callback for a task of
ours, and lost when a task's end was seen by asking and no callback has followed.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Callable
from urllib.parse import urlsplit

from .heard import Heard
from .loops import call_on, running_loop

__all__ = ["Doorbell", "NoDoorbell"]

_log = logging.getLogger("topaz_async")

#: How many submits with a callback URL are remembered, and how many callbacks; the oldest are
#: forgotten first.
_EXPECTED, _HEARD = 50_000, 10_000
#: This share of the slow pause is a callback's time to follow the end that was seen by asking.
_PATIENCE = 1 / 6


class NoDoorbell:
    """The doorbell of those who get no callbacks."""

    def has_rung(self, task_id: str) -> bool:
        return False

    def rest(self, task_id: str) -> float:
        return 0.0

    def ended(self, task_id: str) -> None:
        pass


class Doorbell:
    """One client's doorbell; `hear` may be called from any thread, the rest on the client's loop.

    Args:
        reconcile: Seconds between looks at a task whose callback is relied on.
    """

    def __init__(self, reconcile: float) -> None:
        self._reconcile = reconcile
        self._heard = Heard(_HEARD)
        self._expected: OrderedDict[str, str] = OrderedDict()
        self._proven: set[str] = set()
        self._overdue: dict[str, asyncio.TimerHandle] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        #: Called with each task that a callback speaks of for the first time; returns whether
        #: somebody waits for it.
        self.on_ring: Callable[[str], bool] = lambda task_id: False
        #: Called with task id and nonce of each callback for a task that is not known as ours.
        self.on_nonce: Callable[[str, str], object] = lambda task_id, nonce: None
        #: Called when callbacks can be relied on no longer.
        self.on_missed: Callable[[], object] = lambda: None

    # -- told by hubs -----------------------------------------------------------------------

    def hear(self, task_id: str, nonce: str | None, *, is_signed: bool = True) -> bool:
        """Take note of a callback; one without a signature rings, and proves nothing.

        Returns:
            Whether somebody waits for the task on the loop that runs here.
        """
        return bool(call_on(self._loop, self._hear, task_id, nonce, is_signed))

    def _hear(self, task_id: str, nonce: str | None, is_signed: bool) -> bool:
        if not self._heard.add(task_id, nonce if is_signed else None):
            return False
        overdue = self._overdue.pop(task_id, None)
        if overdue is not None:
            overdue.cancel()
        origin = self._expected.get(task_id)
        if is_signed and origin is not None:
            self._proven.add(origin)
        has_rung = self.on_ring(task_id)
        # A client that has done nothing yet has no loop to look on; it finds the nonce later.
        if is_signed and origin is None and nonce is not None and self._loop is not None:
            self.on_nonce(task_id, nonce)
        return has_rung

    # -- told by the client -----------------------------------------------------------------

    @property
    def is_expected(self) -> bool:
        """Whether a callback has been asked for since this client was made."""
        return bool(self._expected)

    def listen(self) -> None:
        """Hear what other threads and loops tell on the loop that runs now."""
        self._loop = running_loop()

    def expects(self, task_id: str, callback_url: str) -> None:
        """Take note that the service was asked to call this URL when the task ends."""
        origin = _origin(callback_url)
        self._expected[task_id] = origin
        self._expected.move_to_end(task_id)
        while len(self._expected) > _EXPECTED:
            self._expected.popitem(last=False)
        if task_id in self._heard:  # it came before createTask's answer
            self._proven.add(origin)

    def task_of(self, nonce: str) -> str | None:
        """Return the task whose signed callback came with a nonce, or None."""
        return self._heard.task_of(nonce)

    def close(self) -> None:
        """Expect nothing more."""
        for overdue in self._overdue.values():
            overdue.cancel()
        self._overdue.clear()

    # -- asked by the poller ----------------------------------------------------------------

    def has_rung(self, task_id: str) -> bool:
        """Whether a callback has spoken of the task."""
        return task_id in self._heard

    def rest(self, task_id: str) -> float:
        """Return the seconds for which the next look may be put off; 0 for none."""
        is_relied_on = self._expected.get(task_id) in self._proven and task_id not in self._heard
        return self._reconcile if is_relied_on else 0.0

    def ended(self, task_id: str) -> None:
        """Take note that a look saw the task's end; its callback is due by now."""
        if self.rest(task_id) and task_id not in self._overdue:
            self._overdue[task_id] = asyncio.get_running_loop().call_later(
                self._reconcile * _PATIENCE, self._miss, task_id
            )

    def _miss(self, task_id: str) -> None:
        self._overdue.pop(task_id, None)
        origin = self._expected.get(task_id, "")
        if origin in self._proven:
            self._proven.discard(origin)
            _log.warning("No callback came for task %s at %s; polling takes over.", task_id, origin)
            self.on_missed()


def _origin(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"
