"""Send a request over an aiohttp session; again only if it may be repeated."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import ssl as ssl_module
import time
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import attrs
from aiohttp.abc import AbstractStreamWriter
from yarl import URL

from .envelope import Redact, open_envelope
from .errors import (
    ClientClosedError,
    ConfigurationError,
    ConnectError,
    RequestTimeoutError,
    ResponseError,
    TopazError,
    TransportError,
    clean,
)
from .ports import Answer, FilePart, Repeat, Request
from .retries import RetryTokens, asked_pause, pauses
from .sessions import Contact, ProxyFor, make_session
from .settings import RetryPolicy

__all__ = ["Origins", "Transport"]

_log = logging.getLogger("topaz_async")

#: More than any answer needs, in bytes after decompression.
_MAX_ANSWER = 4 * 1024 * 1024


@attrs.frozen
class Origins:
    """The origins that may be handed the key."""

    allowed: frozenset[tuple[str, str, int | None]]

    @classmethod
    def of(cls, *urls: str) -> Origins:
        """Return the origins of these URLs."""
        return cls(frozenset(_origin(url) for url in urls))

    def __contains__(self, url: str) -> bool:
        return _origin(url) in self.allowed


@functools.lru_cache(maxsize=64)
def _origin(url: str) -> tuple[str, str, int | None]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname or "", parts.port


@attrs.define
class _Progress(Contact):
    """How far one exchange has come."""

    #: What failed on this side: the session would only say that something broke off.
    failure: TopazError | None = None
    #: What has been received.  Not the response itself: it knows this object, and thousands of
    #: such rings an hour would wait for the garbage collector.
    status: int | None = None
    headers: Mapping[str, str] = attrs.field(factory=dict)
    body: bytearray = attrs.field(factory=bytearray)

    def answer(self) -> Answer | None:
        """Return what has been received, or None when that is no answer yet."""
        if self.status is None:
            return None
        return Answer(
            status=self.status,
            headers=self.headers,
            body=bytes(self.body),
            received_at=datetime.now(UTC),
        )


class _Body(aiohttp.payload.AsyncIterablePayload):
    """A streamed file whose size is known, so that the form gets a Content-Length."""

    def __init__(self, part: FilePart, stall: float, progress: _Progress) -> None:
        super().__init__(part.open(), content_type=part.content_type)
        self._part = part
        self._stall = stall
        self._progress = progress

    @property
    def size(self) -> int | None:
        return self._part.size

    async def write(self, writer: AbstractStreamWriter) -> None:
        try:
            async for chunk in self._value:
                await self._pass_on(writer, chunk)
        except TopazError as error:
            self._progress.failure = error
            raise
        finally:
            if isinstance(self._value, AsyncGenerator):  # not left to the garbage collector
                await self._value.aclose()

    async def _pass_on(self, writer: AbstractStreamWriter, chunk: bytes) -> None:
        try:
            async with asyncio.timeout(self._stall):
                await writer.write(chunk)
        except TimeoutError:
            raise RequestTimeoutError(
                f"The service took nothing of the upload for {self._stall:g} s.", retryable=True
            ) from None


class Transport:
    """aiohttp sessions of our own, opened on the running loop at the first request.

    Args:
        key: The bearer key, sent to `origins` only.
        origins: Where requests may go at all.
        retry: How often a question is asked.
        tokens: The client's retry tokens.
        stray_id: Returns a task id that stands in an answer that broke off, or None.
        judge: Returns the error that an answer to a request of this name stands for, or None.
        redact: Takes the key out of texts.
        connect_timeout: Seconds for making a connection.
        stall_timeout: Seconds of silence in the middle of a body that is being sent.
        in_flight: Exchanges at once; the clock of an exchange starts when it is admitted.
        fresh: A new connection for every request; what can be read once only gets one anyway.
        ssl: As aiohttp takes it: True, or a context.
        proxy_for: Returns the proxy for a URL, or None.
        local_addr: Local (host, port) to connect from.
    """

    def __init__(
        self,
        *,
        key: str,
        origins: Origins,
        retry: RetryPolicy,
        tokens: RetryTokens,
        judge: Callable[[str, Answer], TopazError | None],
        stray_id: Callable[[Answer], str | None] = lambda answer: None,
        redact: Redact,
        connect_timeout: float,
        stall_timeout: float,
        in_flight: int,
        fresh: bool,
        ssl: ssl_module.SSLContext | bool = True,
        proxy_for: ProxyFor,
        local_addr: tuple[str, int] | None = None,
    ) -> None:
        self._key = key
        self._origins = origins
        self._retry = retry
        self._tokens = tokens
        self._judge = judge
        self._stray_id = stray_id
        self._redact = redact
        self._connect_timeout = connect_timeout
        self._stall_timeout = stall_timeout
        self._in_flight = in_flight
        self._fresh = fresh
        self._ssl = ssl
        self._proxy_for = proxy_for
        self._local_addr = local_addr
        #: By whether each of its requests gets a new connection.
        self._sessions: dict[bool, aiohttp.ClientSession] = {}
        #: Those that are used no more, and how many exchanges each session has under way.
        self._retired: set[aiohttp.ClientSession] = set()
        self._exchanges: Counter[aiohttp.ClientSession] = Counter()
        self._gate = asyncio.Semaphore(in_flight)
        self._closed = False

    async def __call__(self, request: Request) -> Answer:
        """Send a request, a question several times if need be.

        Raises:
            ConnectError: The service has not seen the request.
            TransportError: It may have, and no usable answer came.
        """
        if request.repeat is not Repeat.FREELY:
            return await self.exchange(request)
        next_pause = pauses(self._retry)
        spent, attempt = 0, 0
        while True:
            attempt += 1
            answer: Answer | None = None
            try:
                answer = await self.exchange(request)
                failure = self._judge(request.name, answer)
            except TransportError as error:
                failure = error
            if failure is None:
                self._tokens.give_back(spent)
            price = None
            if (
                failure is not None
                and attempt < self._retry.attempts
                and _may_repeat(request, failure)
            ):
                price = self._tokens.spend(failure)
            if price is None:
                if answer is None:
                    assert failure is not None
                    raise failure
                return answer
            assert failure is not None
            spent += price
            pause = max(next_pause(), asked_pause(failure, self._retry))
            _log.info(
                "%s failed, attempt %d of %d, next in %.1f s: %s",
                request.name, attempt, self._retry.attempts, pause, failure.message,
            )  # fmt: skip
            await asyncio.sleep(pause)

    async def exchange(self, request: Request) -> Answer:
        """Send a request once.

        Raises:
            ConnectError: No connection was made: not a byte of the request has left.
            RequestTimeoutError: A connection was made and no whole answer came in time.
            ResponseError: What came is no HTTP answer, or far too large.
            TransportError: The connection broke.
        """
        async with self._gate:
            progress = _Progress()
            began = time.monotonic()
            try:
                async with asyncio.timeout(request.timeout):
                    await self._send(request, progress)
            except Exception as error:  # whatever a broken peer makes the session raise
                progress.failure = progress.failure or self._translate(request, error, progress)
            answer, failure = progress.answer(), progress.failure
            # A JSON object that parses has come whole, wherever the connection broke after it,
            # and the task id in it may be paid for.
            if failure is not None and (
                answer is None or not open_envelope(answer.status, answer.body).is_object
            ):
                if answer is not None and request.repeat is Repeat.IF_NOTHING_BOUGHT:
                    failure.task_id = self._stray_id(answer)
                # Raised out here, so that neither a foreign error nor a frame that knows the
                # key hangs on it: aiohttp's errors print the request's headers.
                raise failure
            assert answer is not None
            _log.debug(
                "%s answered HTTP %d in %.3f s",
                request.name, answer.status, time.monotonic() - began,
                extra={"topaz_request": request.name, "topaz_status": answer.status},
            )  # fmt: skip
            return answer

    async def _send(self, request: Request, progress: _Progress) -> None:
        if request.url not in self._origins:
            raise ConfigurationError(f"{request.name} would go to an origin that was not set up.")
        headers = {"Authorization": f"Bearer {self._key}"}
        data: Any = request.body
        if request.body is not None:
            headers["Content-Type"] = "application/json"
        if request.file is not None:
            data = aiohttp.FormData(dict(request.fields), default_to_multipart=True)
            data.add_field(
                request.file.field,
                _Body(request.file, self._stall_timeout, progress),
                filename=request.file.name,
                content_type=request.file.content_type,
            )
        is_once = request.file is not None and request.file.once
        async with (
            self._session(fresh=self._fresh or request.fresh or is_once) as session,
            session.request(
                request.method,
                URL(request.url, encoded=True),
                params=dict(request.query) or None,
                data=data,
                headers=headers,
                allow_redirects=False,
                proxy=self._proxy_for(request.url),
                trace_request_ctx=progress,
                middlewares=(progress.once,),
            ) as response,
        ):
            progress.status = response.status
            progress.headers = {name.lower(): value for name, value in response.headers.items()}
            async for chunk in response.content.iter_any():
                progress.body += chunk
                if len(progress.body) > _MAX_ANSWER:
                    progress.failure = ResponseError(
                        f"The answer to {request.name} is larger than {_MAX_ANSWER} bytes.",
                        code=response.status,
                        billed="unknown",
                    )
                    return

    def _translate(self, request: Request, error: Exception, progress: _Progress) -> TopazError:
        """Return our error for a foreign one; nothing of it is kept but the system's words.

        aiohttp's own words name URLs and proxies, with the credentials in them.
        """
        if isinstance(error, TopazError):
            return error
        words = clean(self._redact(_words(error)), 200)
        host = urlsplit(request.url).netloc
        if not progress.connected:
            kind = "in time" if isinstance(error, TimeoutError) else f"({words})"
            return ConnectError(
                f"No connection to {host} could be made {kind}; {request.name} was not sent.",
                retryable=True,
                hint="Check the network, the proxy and base_url.",
            )
        if isinstance(error, TimeoutError):
            return RequestTimeoutError(
                f"{host} did not answer {request.name} within {request.timeout:g} s.",
                retryable=True,
            )
        if isinstance(error, aiohttp.ClientResponseError):
            return ResponseError(
                f"The answer of {host} to {request.name} is no HTTP answer.", retryable=True
            )
        return TransportError(
            f"The connection to {host} broke during {request.name} ({words}).", retryable=True
        )

    def _open(self, *, fresh: bool) -> aiohttp.ClientSession:
        if self._closed:
            raise ClientClosedError("The client is closed.")
        session = self._sessions.get(fresh)
        if session is None:
            session = self._sessions[fresh] = make_session(
                fresh=fresh,
                limit=self._in_flight + 2,
                connect_timeout=self._connect_timeout,
                ssl=self._ssl,
                local_addr=self._local_addr,
            )
        return session

    @contextlib.asynccontextmanager
    async def _session(self, *, fresh: bool) -> AsyncIterator[aiohttp.ClientSession]:
        session = self._open(fresh=fresh)
        self._exchanges[session] += 1
        try:
            yield session
        finally:
            self._exchanges[session] -= 1
            await self._close_idle()

    async def _close_idle(self) -> None:
        """Close the sessions that are used no more, once their exchanges have ended."""
        for session in [each for each in self._retired if not self._exchanges[each]]:
            self._retired.discard(session)
            del self._exchanges[session]
            await session.close()

    async def retire(self) -> None:
        """Use the kept connections no more: one of them has answered another question."""
        self._retired |= set(self._sessions.values())
        self._sessions = {}
        await self._close_idle()

    async def aclose(self) -> None:
        """Close the sessions and their connections; twice is fine."""
        self._closed = True
        await self.retire()
        while self._retired:
            await self._retired.pop().close()


def _may_repeat(request: Request, failure: TopazError) -> bool:
    if request.file is not None and request.file.once and not isinstance(failure, ConnectError):
        return False  # its content has been read
    return failure.retryable


def _words(error: Exception) -> str:
    cause: Any = error.__cause__ or error
    cause = getattr(cause, "certificate_error", None) or getattr(cause, "os_error", None) or cause
    if words := getattr(cause, "strerror", None):
        return str(words)
    return f"{type(cause).__name__} {getattr(cause, 'status', '')}".rstrip()
