"""One createTask: written down before it is sent, sent once, and never forgotten."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from datetime import UTC, datetime
from typing import Any

from .advice import conflict_of, next_step, still_unknown
from .debts import Debts
from .errors import (
    ConnectError,
    RateLimitError,
    ReferenceConflictError,
    SubmitUnknownError,
    TopazError,
    TransportError,
    clean,
)
from .models import TaskState
from .orders import Order
from .ports import Answer, Claim, Entry, Intent, Journal, Limiter, Request
from .rescue import Found
from .retries import RetryTokens, asked_pause, pauses
from .settings import RetryPolicy
from .wire import Made, Refused, Unknown, Wire

__all__ = ["Submitter"]

_log = logging.getLogger("topaz_async")


class Submitter:
    """Sends createTask for one client.

    Args:
        exchange: Sends a request once over a fresh connection.
        wire: The service's language.
        limiter: The account's quota for submits.
        window: The quota's window in seconds: the least pause after a 429.
        retry: Attempts and pauses, for what bought nothing for certain.
        tokens: The client's retry tokens.
        journal_of: Returns where an intent and its id are kept; None keeps nothing.
        on_made: Called with each task id and its intent as soon as it is known.
        found: Returns the task of a submit whose answer was lost, if a callback told it.
        told: Returns the task that a callback with a nonce has named, as far as it was heard.
    """

    def __init__(
        self,
        exchange: Callable[[Request], Awaitable[Answer]],
        *,
        wire: Wire,
        limiter: Limiter,
        window: float,
        retry: RetryPolicy,
        tokens: RetryTokens,
        journal_of: Callable[[Intent], Journal | None] = lambda intent: None,
        on_made: Callable[[str, Intent], None] = lambda task_id, intent: None,
        found: Callable[[Intent], Awaitable[Found | None]] | None = None,
        told: Callable[[str], str | None] = lambda nonce: None,
    ) -> None:
        self._exchange = exchange
        self._wire = wire
        self._limiter = limiter
        self._window = window
        self._retry = retry
        self._tokens = tokens
        self._journal_of = journal_of
        self._on_made = on_made
        self._found = found
        self._told = told
        self._exchanges: set[asyncio.Task[Any]] = set()
        self._debts = Debts()

    async def submit(self, order: Order) -> str:
        """Return the id of the task that the order made.

        The exchange runs in a task of its own: a caller that is cancelled while it is under way
        gets `CancelledError` at once, and the answer still reaches the journal and the log.

        Raises:
            TopazError: Refused, with `billed == "no"`; nothing was bought.
            SubmitUnknownError: The task may exist.
            ReferenceConflictError: The reference stands for other work.
        """
        next_pause = pauses(self._retry)
        spent, attempt = 0, 0
        while True:
            attempt += 1
            outcome = await self._attempt(order)
            if isinstance(outcome, Claim):
                known = await self._settle(outcome, order)
                if known is not None:
                    return known
                attempt -= 1
                continue
            if isinstance(outcome, Made):
                self._tokens.give_back(spent)
                return outcome.task_id
            if isinstance(outcome, Unknown):
                raise outcome.error
            refusal = outcome.error.about(reference=order.intent.reference)
            pause = self._pause_after(refusal, next_pause)
            price = None
            if outcome.repeatable and attempt < self._retry.attempts:
                price = self._tokens.spend(refusal)
            if price is None:
                raise refusal
            spent += price
            _log.info(
                "createTask was not accepted (attempt %d of %d) and bought nothing; "
                "next in %.1f s: %s",
                attempt, self._retry.attempts, pause, refusal.message,
            )  # fmt: skip
            await asyncio.sleep(pause)

    async def weigh_consent(self, order: Order) -> None:
        """Hold the consent to pay again to what is unknown, or has failed, as the call begins.

        Of forty callers with one reference and the consent of each, one submits then.
        """
        journal = self._journal_of(order.intent)
        may_pay_again = order.resubmit_unknown or order.resubmit_failed
        if not may_pay_again or journal is None or order.intent.reference is None:
            return
        await self.catch_up()
        owed = self._debts.owed(order.intent.reference)
        if owed is not None and isinstance(owed[1], Made):  # the journal still cannot be written
            order.resubmit_unknown = order.resubmit_failed = False
            return
        entry = await journal.find(order.intent.reference)
        is_unknown = entry is not None and entry.submit == "unknown"
        order.resubmit_unknown &= is_unknown
        order.resubmit_failed &= entry is not None and _has_failed(entry)
        if entry is not None and (order.resubmit_unknown or order.resubmit_failed):
            order.consented_to = entry.id
            order.consented_nonce = entry.intent.nonce

    async def _check_news(self, order: Order, journal: Journal) -> None:
        """Raise when a callback has named the task since the consent to pay again was weighed."""
        nonce, reference = order.consented_nonce, order.intent.reference
        task_id = None if nonce is None else self._told(nonce)
        if not order.resubmit_unknown or reference is None or task_id in (None, order.passed_over):
            return
        entry = await journal.find(reference)
        if entry is not None and entry.submit == "unknown":
            raise still_unknown(entry, task_id)

    async def known(self, order: Order) -> str | None:
        """Return the task that the order's reference stands for already, or None.

        Looks before a file is uploaded for nothing; `submit` looks again, for certain.

        Raises:
            ReferenceConflictError: The reference stands for other work.
        """
        await self.catch_up()
        journal = self._journal_of(order.intent)
        if journal is None or order.intent.reference is None:
            return None
        owed = self._debts.owed(order.intent.reference)
        if owed is not None and not isinstance(owed[1], Refused):
            self._check_work(owed[0], order)
            if isinstance(owed[1], Made):
                return owed[1].task_id
            raise owed[1].error
        entry = await journal.find(order.intent.reference)
        if entry is None or entry.submit == "refused":
            return None
        self._check_work(entry, order)
        entry = await self._answered(entry, journal)
        if entry is None or entry.submit == "refused":
            return None
        self._check_work(entry, order)  # it may be another attempt by now
        if entry.id == order.consented_to and (entry.submit == "unknown" or _has_failed(entry)):
            return None
        if entry.submit == "unknown":
            raise still_unknown(entry)
        return entry.task_id

    async def catch_up(self) -> None:
        """Write down what could not be written when it was known, if it can be now."""
        if self._debts:
            await asyncio.shield(self._keep(self._debts.pay(), "debts"))

    async def _settle(self, claim: Claim, order: Order) -> str | None:
        """Return the task of a reference that is taken; None when it has become free."""
        if claim.verdict == "conflict":
            raise self._conflict(claim.entry, order)
        journal = self._journal_of(order.intent)
        assert journal is not None
        order.is_open = True
        await self.catch_up()  # it may be this very submit that could not be written down
        entry = await self._answered(claim.entry, journal)
        if entry is None or entry.submit == "refused":
            order.is_open = False
            return None
        self._check_work(entry, order)
        if entry.submit == "unknown":
            raise still_unknown(entry)
        return entry.task_id

    async def _answered(self, entry: Entry, journal: Journal) -> Entry | None:
        """Return an entry once its submit is no longer under way; None when it was dropped."""
        current: Entry | None = entry
        pause, waited = 0.02, 0.0
        while current is not None and current.submit == "intent":
            if waited > self._wire.timeouts.submit + self._window:
                raise still_unknown(current)
            await asyncio.sleep(pause)
            waited += pause
            pause = min(1.0, pause * 1.5)
            current = await journal.find(entry.intent.reference or "")
        return current

    def _check_work(self, entry: Entry, order: Order) -> None:
        if not entry.intent.is_same_work(order.intent):
            raise self._conflict(entry, order)

    def _conflict(self, entry: Entry, order: Order) -> ReferenceConflictError:
        journal = self._journal_of(entry.intent)
        is_kept = journal is not None and journal.durable
        freed_by = "client.journal.forget(reference)" if is_kept else "a new client"
        return conflict_of(entry, order.intent, freed_by=freed_by)

    def _pause_after(self, refusal: TopazError, next_pause: Callable[[], float]) -> float:
        if not isinstance(refusal, RateLimitError):
            return max(next_pause(), asked_pause(refusal, self._retry))
        # The service's window is over only when it has passed as a whole; until then every
        # other submit of this client would be refused as well.
        pause = max(self._window, asked_pause(refusal, self._retry))
        self._limiter.pause(pause)
        return pause

    async def _attempt(self, order: Order) -> Made | Refused | Unknown | Claim:
        await self._limiter.__aenter__()
        order.exchange = exchange = self._keep(self._one_exchange(order))
        try:
            return await asyncio.shield(exchange)
        except asyncio.CancelledError:
            order.abandoned = True
            exchange.add_done_callback(lambda task: _tell_late(task, order))
            raise

    def _keep(
        self, coroutine: Coroutine[Any, Any, Any], what: str = "createTask"
    ) -> asyncio.Task[Any]:
        task = asyncio.create_task(coroutine, name=f"topaz_async {what}")
        self._exchanges.add(task)
        task.add_done_callback(self._exchanges.discard)
        return task

    async def _one_exchange(self, order: Order) -> Made | Refused | Unknown | Claim:
        try:
            outcome, entry = await self._write_send_write(order)
        finally:
            await self._limiter.__aexit__(None, None, None)
        if isinstance(outcome, Unknown):
            found = await self._found_again(order, outcome, entry)
            await self._write(order, entry, found)
            return found
        return outcome

    async def _write_send_write(
        self, order: Order
    ) -> tuple[Made | Refused | Unknown | Claim, Entry | None]:
        assert order.input is not None
        request = self._wire.create_task(order.input, order.callback_url)
        entry: Entry | None = None
        journal = self._journal_of(order.intent)
        if journal is not None:
            await self._check_news(order, journal)
            claim = await journal.claim(
                order.intent,
                resubmit_unknown=order.resubmit_unknown,
                consented_to=order.consented_to,
                resubmit_failed=order.resubmit_failed,
            )
            if claim.verdict != "granted":
                return claim, None
            entry = claim.entry
        outcome: Made | Refused | Unknown
        if order.abandoned:
            order.is_given_back = True
            outcome = Refused(TopazError("The caller left before the request was sent."))
        else:
            try:
                outcome = await self._send(order, request)
            except BaseException:
                # Cut off, by aclose() or with the loop.  A journal that lives on would wait for
                # an answer that nobody can write down any more.
                cut = SubmitUnknownError("It was cut off before an answer came.")
                await self._write(order, entry, self._as_told(order, Unknown(cut)))
                raise
        if not isinstance(outcome, Unknown):  # that is looked for first, and stays under way
            await self._write(order, entry, outcome)
        return outcome, entry

    async def _write(
        self, order: Order, entry: Entry | None, outcome: Made | Refused | Unknown
    ) -> None:
        """Write an outcome down where its intent stands, and tell of a task that was made."""
        journal = self._journal_of(order.intent)
        if isinstance(outcome, Made):
            order.task_id = outcome.task_id
        try:
            if journal is not None and entry is not None:
                await self._debts.write(journal, entry, outcome)
        finally:
            if isinstance(outcome, Made):
                self._on_made(outcome.task_id, order.intent)

    async def _found_again(
        self, order: Order, lost: Unknown, entry: Entry | None
    ) -> Made | Unknown:
        """Return what a callback tells of a lost answer; it stays under way until then."""
        named = self._as_told(order, lost)
        journal = self._journal_of(order.intent)
        try:
            if journal is not None and entry is not None:
                await self._debts.remark(journal, entry, named)
            found = None if self._found is None else await self._found(order.intent)
        except asyncio.CancelledError:
            return self._as_told(order, lost)  # aclose() waits no longer
        except Exception as error:  # threads may have run out, for one
            _log.warning("The callback of a lost answer could not be looked for: %s", clean(error))
            return named
        if found is None:
            return lost
        if lost.error.task_id not in (None, found.task_id):
            _log.warning(
                "A createTask's answer that broke off named task %s, and a callback names %s.",
                lost.error.task_id, found.task_id,
            )  # fmt: skip
        return Made(found.task_id) if found.is_certain else _naming(lost, found.task_id)

    def _as_told(self, order: Order, lost: Unknown) -> Unknown:
        """Return the outcome with the task that a callback names, as far as it was heard."""
        told = self._told(order.intent.nonce or "")
        return lost if told is None else _naming(lost, told)

    async def _send(self, order: Order, request: Request) -> Made | Refused | Unknown:
        order.sent = True
        sent_at = datetime.now(UTC)
        try:
            answer = await self._exchange(request)
        except ConnectError as error:
            order.sent = False
            return Refused(error, repeatable=True)
        except TransportError as error:
            lost = SubmitUnknownError(
                error.message, code=error.code, task_id=error.task_id, billed="unknown"
            )
            outcome: Made | Refused | Unknown = Unknown(lost)
        except TopazError as error:  # refused on this side: closed client, wrong origin
            order.sent = False
            return Refused(error)
        else:
            outcome = self._wire.created(answer)
        if isinstance(outcome, Refused):
            order.sent = False
        elif isinstance(outcome, Unknown):
            unknown = outcome.error.about(reference=order.intent.reference)
            unknown.fingerprint = order.intent.fingerprint
            unknown.sent_at = sent_at
            unknown.hint = next_step(unknown.task_id, unknown.reference)
            outcome = Unknown(unknown)
        return outcome

    async def aclose(self, grace: float) -> None:
        """Let exchanges under way end, for at most `grace` seconds."""
        if self._exchanges:
            _, late = await asyncio.wait(self._exchanges, timeout=grace)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)
        await self._debts.aclose()


def _naming(outcome: Unknown, task_id: str) -> Unknown:
    """Return the outcome with the task that it probably made, unless it names one."""
    named = outcome.error.task_id or task_id
    error = outcome.error.about(task_id=named)
    error.hint = next_step(named, error.reference)
    return Unknown(error)


def _has_failed(entry: Entry) -> bool:
    return entry.state is not None and TaskState(entry.state).is_fail


def _tell_late(task: asyncio.Task[Any], order: Order) -> None:
    """Log what became of an exchange that nobody waits for any more."""
    name = f" (reference {clean(order.intent.reference, 80)})" if order.intent.reference else ""
    if order.task_id is not None:  # also when writing it down failed or was cut off
        _log.warning("Task %s was made after its caller had left%s.", order.task_id, name)
    elif task.cancelled() and not order.sent:
        return  # while it was written down: nothing has left
    elif task.cancelled():
        _log.warning("A createTask was cut off; whether it made a task is unknown%s.", name)
    elif (error := task.exception()) is not None:
        _log.warning("A createTask whose caller had left failed%s: %s", name, error)
    elif isinstance(outcome := task.result(), Unknown):
        named = f"; task {outcome.error.task_id} may be its" if outcome.error.task_id else ""
        _log.warning("A createTask whose caller had left is unknown%s%s.", name, named)
