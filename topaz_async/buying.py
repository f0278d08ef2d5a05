"""Buying what an order asks for: found again if it can be, else sent once and paid for."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from weakref import WeakValueDictionary

from .advice import still_unknown
from .calls import Call
from .engine import Engine
from .errors import NotFoundError, SubmitUnknownError, TopazError, ValidationError
from .models import UpscaleInput
from .orders import Order
from .purse import Purse
from .transfers import OnProgress

__all__ = ["Buyer"]


def _when_ended(order: Order, work: Callable[[], None]) -> None:
    """Do it when the order's exchange has ended: a caller that is cancelled leaves before that."""
    if order.exchange is None or order.exchange.done():
        work()
    else:
        order.exchange.add_done_callback(lambda exchange: work())


def _settle_cost(purse: Purse, order: Order, cost: float) -> None:
    (purse.spent if order.may_have_bought else purse.release)(cost)


class Buyer:
    """Brings orders to their tasks; submits of one reference queue, so that one of them uploads.

    Args:
        parts: Of the client that buys.
    """

    def __init__(self, parts: Engine) -> None:
        self._parts = parts
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def submit(self, call: Call, order: Order, on_progress: OnProgress | None) -> str:
        """Return the id of the order's task; the call learns what is known of the cost.

        Raises:
            TopazError: There is none, or nobody knows.
        """
        reference = order.intent.reference
        lock = self._lock_of(reference)
        order.is_open = reference is not None
        try:
            await self._parts.submitter.weigh_consent(order)
            async with lock:
                task_id = await self._known(order)
                order.is_open = False
                if task_id is None:
                    task_id = await self._bought(order, on_progress)
        except asyncio.CancelledError:
            call.asks_for(reference)
            call.task_id, call.billed = order.task_id, order.billed
            if order.sent:
                call.where = "its createTask is under way"
            elif not order.is_open:
                call.where = "nothing was submitted"
            raise
        except TopazError as error:
            raise error.about(reference=reference) from None
        call.task_id, call.billed = task_id, "yes"
        return task_id

    def _lock_of(self, reference: str | None) -> asyncio.Lock:
        """Return the lock under which submits of one reference queue."""
        if reference is None:
            return asyncio.Lock()
        return self._locks.setdefault(reference, asyncio.Lock())

    async def _known(self, order: Order) -> str | None:
        """Return the task that the order's reference stands for already, or None."""
        reference = order.intent.reference
        if order.resubmit_unknown and reference is not None:  # for what nobody knows, and no more
            await self._check_consent(order, await self._parts.find_again(reference))
            order.passed_over = self._parts.doorbell.task_of(order.consented_nonce or "")
        try:
            return await self._parts.submitter.known(order)
        except SubmitUnknownError:
            await self._parts.find_again(reference)
            return await self._parts.submitter.known(order)

    async def _check_consent(self, order: Order, told: Mapping[str, str]) -> None:
        """Raise when a callback names the task, and only the service could not be asked."""
        journal = self._parts.memory.journal_of(order.intent)
        if journal is None or order.intent.reference is None or not told:
            return
        entry = await journal.find(order.intent.reference)
        if entry is None or entry.submit != "unknown" or entry.intent.nonce not in told:
            return
        raise still_unknown(entry, told[entry.intent.nonce or ""])

    async def _bought(self, order: Order, on_progress: OnProgress | None) -> str:
        """Buy, and prepare for the callback."""
        task_id = await self._buy(order, on_progress)
        if order.callback_url is not None:
            self._parts.doorbell.expects(task_id, order.callback_url)
        return task_id

    async def _buy(self, order: Order, on_progress: OnProgress | None) -> str:
        purse = self._parts.purse
        cost = 0.0 if purse is None else await purse.reserve(order.intent)
        try:
            if order.media is not None:
                content = order.intent.content_hash
                sent = await self._parts.uploader.once(order.media, content, on_progress)
                order.uploaded_to(sent.url)
            return await self._submitted(order)
        finally:
            if purse is not None:
                _when_ended(order, lambda: _settle_cost(purse, order, cost))

    async def _submitted(self, order: Order) -> str:
        try:
            return await self._parts.submitter.submit(order)
        except (ValidationError, NotFoundError, SubmitUnknownError):
            if order.media is not None and isinstance(order.input, UpscaleInput):
                # The service may have found nothing there: the next attempt uploads anew.
                self._parts.shelf.forget(order.input.video_url)
            raise
