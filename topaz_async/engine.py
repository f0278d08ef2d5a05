"""The parts of one client, wired together.

Loaded when a client is constructed, for it brings aiohttp and cattrs along.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import ssl as ssl_module
from datetime import UTC, datetime
from urllib.parse import urlsplit

import aiohttp

from .doorbell import Doorbell
from .downloads import Downloader
from .errors import ClientClosedError, ResponseError, TopazError
from .hosts import Hosts
from .limiter import SlidingWindow
from .memory import Memory
from .models import TaskRecord
from .polling import Poller
from .ports import Answer, Entry, Hub, Intent, Journal, Repeat
from .purse import Purse
from .rescue import Found, Rescue
from .retries import RetryTokens
from .ring_watch import RingWatch
from .rings import rings_beside
from .sessions import make_session, proxies
from .settings import Budget, PollPolicy, Quotas, RetryPolicy, Timeouts
from .shelf import Shelf
from .submission import Submitter
from .survival import Durations, Traits
from .texts import Redact
from .transport import Origins, Transport
from .uploader import Uploader
from .urls import is_loopback
from .wire import Wire

__all__ = ["Engine", "since", "traits_of"]


#: Keys shorter than this are not taken out of texts, in characters.
_SHORTEST_SECRET = 8

#: Submits at once where no quota bounds them, and after how many seconds the next one may begin.
_SUBMITS, _AT_ONCE = 100, 0.001


class Engine:
    """Sessions, limiters, poller and submitter of one client.

    Nothing here touches the network or an event loop before its first use.
    """

    def __init__(
        self,
        *,
        api_key: str,
        base_url: str,
        upload_url: str | None,
        timeouts: Timeouts,
        retry: RetryPolicy,
        polling: PollPolicy,
        quotas: Quotas,
        ssl: ssl_module.SSLContext | bool,
        proxy: str | None,
        local_addr: tuple[str, int] | None,
        allow_private_hosts: bool | None,
        journal: Journal | str | os.PathLike[str] | None,
        budget: Budget | None,
        callbacks: Hub | None = None,
    ) -> None:
        self.wire = Wire(
            base_url=base_url,
            upload_url=upload_url or "",
            timeouts=timeouts,
            redact=_redact(api_key),
        )
        self._timeouts = timeouts
        self._ssl = ssl
        self._local_addr = local_addr
        self._proxy_for = proxies(proxy)
        tokens = RetryTokens(retry.tokens)
        origins = Origins.of(base_url, *([upload_url] if upload_url else []))

        def transport(in_flight: int, *, fresh: bool = False) -> Transport:
            return Transport(
                key=api_key,
                origins=origins,
                retry=retry,
                tokens=tokens,
                judge=self.wire.failure,
                stray_id=self.wire.stray_id,
                redact=self.wire.redact,
                connect_timeout=timeouts.connect,
                stall_timeout=timeouts.stall,
                in_flight=in_flight,
                fresh=fresh,
                ssl=ssl,
                proxy_for=self._proxy_for,
                local_addr=local_addr,
            )

        self._submit = transport(quotas.submits or _SUBMITS, fresh=True)
        self.ask = transport(polling.in_flight)
        self._send_file = transport(quotas.uploads)
        self._is_closed = False
        self._learning: asyncio.Task[None] | None = None
        if allow_private_hosts is None:
            allow_private_hosts = is_loopback(urlsplit(base_url).hostname)
        self._hosts = Hosts(allow_private=allow_private_hosts)
        #: By whether they are for requests through a proxy.
        self._files_sessions: dict[bool, aiohttp.ClientSession] = {}
        self._polls = SlidingWindow(quotas.polls, quotas.poll_window)
        # Without a quota there are as many at once as there are connections: who waits for one
        # has not begun yet, and can still leave.
        self._submits = SlidingWindow(
            quotas.submits or _SUBMITS, quotas.submit_window if quotas.submits else _AT_ONCE
        )
        self.memory = Memory(journal, service=base_url)
        self.shelf = Shelf(
            self.memory.journal if self.memory.is_kept else None,
            host=upload_url or "",
            life=quotas.reuse_uploads,
        )
        self.uploader = Uploader(self._send_file, wire=self.wire, shelf=self.shelf, quotas=quotas)
        self._durations = Durations()
        self.doorbell = Doorbell(polling.reconcile)
        self.poller = Poller(
            self._look,
            self._polls,
            polling,
            rate=None if quotas.polls is None else quotas.polls / quotas.poll_window,
            durations=self._durations,
            doorbell=self.doorbell,
            on_record=self._noted,
        )
        self.rings = RingWatch(
            rings_beside(journal), self.doorbell.hear, lambda: self.poller.waiting > 0
        )
        self.rescue = Rescue(
            self.wire,
            journals=self.memory.journals,
            task_of=self.doorbell.task_of,
            record=self.record,
            on_bound=self._made,
            grace=polling.grace,
        )
        self.doorbell.on_ring = self.poller.ring
        self.doorbell.on_missed = self.poller.wake
        self.doorbell.on_nonce = self.rescue.soon
        self._hub = callbacks
        if callbacks is not None:
            callbacks.attach(self.doorbell)
        self.purse = None if budget is None else Purse(budget, self.balance)
        self.submitter = Submitter(
            self._submit,
            wire=self.wire,
            limiter=self._submits,
            window=quotas.submit_window,
            retry=retry,
            tokens=tokens,
            journal_of=self.memory.journal_of,
            on_made=self._made,
            found=self._found_again,
            told=self.doorbell.task_of,
        )
        self.downloader = Downloader(
            self._files,
            hosts=self._hosts,
            timeouts=timeouts,
            quotas=quotas,
            retry=retry,
            proxy_for=self._proxy_for,
        )

    async def _look(self, task_id: str, last: TaskRecord | None) -> TaskRecord:
        """Ask once for a task; the poller has its own way with failures."""
        request = self.wire.record_info(task_id, repeat=Repeat.NEVER)
        return await self._read(await self.ask(request), task_id, last)

    async def _read(
        self, answer: Answer, task_id: str, last: TaskRecord | None = None
    ) -> TaskRecord:
        try:
            return self.wire.record(answer, task_id, last)
        except ResponseError as error:
            if error.is_stray:
                await self.ask.retire()
            raise

    def _noted(self, record: TaskRecord) -> None:
        self.memory.note(record)
        if record.state.is_fail:
            # It may have failed because its input was gone from the host.
            for value in self.wire.sent_input(record)[1].values():
                self.shelf.forget(value)

    async def _found_again(self, intent: Intent) -> Found | None:
        """Return the task of a submit whose answer was lost, if its callback has come by now."""
        await self.rings.catch_up()
        return await self.rescue.task_for(intent)

    async def find_again(self, reference: str | None = None) -> dict[str, str]:
        """Bind unknown submits whose callback has come, wherever it was received.

        Args:
            reference: Only those of this one; None for all.

        Returns:
            The nonces of those of which the service could not be asked, with their tasks.
        """
        await self.rings.catch_up()
        return await self.rescue.all_heard(reference)

    def _made(self, task_id: str, intent: Intent) -> None:
        self.poller.made(task_id, traits_of(intent))

    def learn_soon(self) -> None:
        """Begin to learn from the journal how long tasks take, once; nobody waits for it."""
        if self._learning is None:
            self._learning = asyncio.create_task(self._learn(), name="topaz_async learning")

    async def _learn(self) -> None:
        history, now = await self.memory.history(), asyncio.get_running_loop().time()
        for entry in history:
            if entry.duration is not None:
                born = now - since(entry)
                self._durations.add(entry.duration, traits_of(entry.intent), born=born)

    async def balance(self) -> float:
        """Return the account's balance, in credits."""
        return self.wire.balance(await self.ask(self.wire.credits()))

    async def record(self, task_id: str) -> TaskRecord:
        """Ask for a task, again if need be."""
        try:
            answer = await self.ask(self.wire.record_info(task_id))
        except TopazError as error:
            raise error.about(task_id=task_id, billed="unknown") from None
        return await self._read(answer, task_id)

    def _files(self, *, proxied: bool) -> aiohttp.ClientSession:
        """Return the session for results: it has never seen the key.

        A proxy may stand at any address, and looks up and connects by itself: through one, no
        address is checked.
        """
        if self._is_closed:
            raise ClientClosedError("The client is closed.")
        if proxied not in self._files_sessions:
            self._files_sessions[proxied] = make_session(
                fresh=False,
                limit=0,
                connect_timeout=self._timeouts.connect,
                ssl=self._ssl,
                local_addr=self._local_addr,
                socket_factory=None if proxied else self._hosts.socket_to,
            )
        return self._files_sessions[proxied]

    async def aclose(self, grace: float) -> None:
        """End the waits, let a createTask under way end within `grace`, close every session."""
        self._is_closed = True
        if self._learning is not None:
            self._learning.cancel()
            await asyncio.wait([self._learning])
        try:
            try:
                await self.poller.aclose()
                # A callback may tell until then what a createTask under way came to.
                await self.submitter.aclose(grace)
            finally:
                await self._hear_no_more()
            await self.memory.aclose(grace)
        finally:  # also when the closing itself is cut short
            self.downloader.close()
            await self._close_sessions()

    async def _hear_no_more(self) -> None:
        if self._hub is not None:
            self._hub.detach(self.doorbell)
        self.doorbell.close()
        await self.rings.aclose()
        await self.rescue.aclose()

    async def outlive_the_loop(self) -> None:
        """Close what can be closed although the loop of the client's calls is over."""
        self._is_closed = True
        if self._hub is not None:
            self._hub.detach(self.doorbell)
        with contextlib.suppress(RuntimeError):  # what waited on that loop died with it
            await self._close_sessions()
        await self.memory.outlive_the_loop()

    async def _close_sessions(self) -> None:
        self._polls.close()
        self._submits.close()
        for transport in (self._submit, self.ask, self._send_file):
            await transport.aclose()
        while self._files_sessions:
            await self._files_sessions.popitem()[1].close()
        # aiohttp closes TLS transports one turn of the loop later.
        await asyncio.sleep(0)


def since(entry: Entry) -> float:
    """Return the seconds since an entry's task was made."""
    made_at = entry.submitted_at or entry.created_at
    return max(0.0, (datetime.now(UTC) - made_at).total_seconds())


def traits_of(intent: Intent) -> Traits:
    """Return what an intent tells about how long its task takes."""
    return Traits(
        model=intent.model, factor=intent.factor, seconds=intent.seconds, size=intent.size
    )


def _redact(key: str) -> Redact:
    """Return a function that takes the key out of a text.

    A key of a few letters, as test servers have them, is no secret and may be part of anything.
    """
    if len(key) < _SHORTEST_SECRET:
        return str
    return lambda text: text.replace(key, "[key]")
