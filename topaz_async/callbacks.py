"""Take callbacks, verify them, drop duplicates, ring the doorbells."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from weakref import ref

from .callbacks_asgi import AsgiFace
from .callbacks_events import CallbackEvent, Events
from .durations import check_timeout
from .errors import (
    CallbackError,
    ConfigurationError,
    MalformedCallbackError,
    SignatureError,
)
from .heard import Heard
from .models import TaskState
from .notices import read_notice
from .orders import nonce_in
from .ports import CallbackReply, Journal, Listener
from .rings import RingWriter, rings_beside
from .signature import SIGNATURE_HEADER, TIMESTAMP_HEADER, WINDOW, check_headers, verify
from .texts import quoted

if TYPE_CHECKING:
    import ssl as ssl_module

    from aiohttp import web

__all__ = ["CallbackHub"]

_log = logging.getLogger("topaz_async")

Text = str | bytes
#: Header names and values, as any framework has them.
Headers = Mapping[Any, Any] | Iterable[tuple[Text, Text]]

#: Tasks whose callbacks are remembered: later ones of the same task have no effect.  An account
#: that makes 20 tasks in 10 s has made so many in 83 minutes; a callback is repeated for one.
_REMEMBERED = 10_000
#: Turns of the loop after which a poll that was rung for has left: its runner, its task, the
#: request.
_TURNS = 3
#: Seconds between two log lines about callbacks that were refused.
_QUIET = 60.0


class CallbackHub:
    """Receives the service's callbacks, behind any web framework or with a server of its own.

    A callback is a doorbell: one that is signed makes the clients that were given this hub
    (`TopazClient(callbacks=hub)`) ask the service now.  Its body decides nothing.

    May be made anywhere, before any event loop runs, and may be shared by clients.

    Args:
        secret: The webhook HMAC key of the account's settings; several while one takes another's
            place, all of which are accepted.
        max_body: Largest body in bytes; more is answered 413. A callback has a few thousand.
        timeout: Seconds for a body to arrive; slower senders are answered 408 and cut off.
        window: Seconds that a signature may be old, or ahead of this machine's clock.
        journal: The journal's path, or a `SqliteJournal`: callbacks then also reach the clients
            of other processes on this machine that keep the same journal.
        accept_unsigned: Takes callbacks without looking for a signature; `secret` must be None
            then.  Anybody who knows the URL can make clients ask once for each task id.
        clock: Returns seconds since 1970.

    Raises:
        ConfigurationError: No secret, an empty one, or an option out of range.
    """

    def __init__(
        self,
        secret: str | Iterable[str] | None,
        *,
        max_body: int = 64 * 1024,
        timeout: float = 10.0,
        window: float = WINDOW,
        journal: Journal | str | os.PathLike[str] | None = None,
        accept_unsigned: bool = False,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._secrets = _usable_secrets(secret, accept_unsigned=accept_unsigned)
        if accept_unsigned:
            _log.warning(
                "This CallbackHub accepts callbacks without a signature: anybody who knows its "
                "URL can send them."
            )
        if isinstance(max_body, bool) or not isinstance(max_body, int) or max_body < 1:
            raise ConfigurationError(f"max_body is {quoted(max_body)}; it must be 1 or more.")
        seconds = check_timeout(timeout)
        span = check_timeout(window, "window")
        if seconds is None or span is None:
            raise ConfigurationError("A hub's timeout and window are numbers of seconds.")
        self.max_body = max_body
        self.timeout = seconds
        self._window = span
        self._clock = clock
        rings = rings_beside(journal)
        if journal is not None and not rings:
            raise ConfigurationError(f"{quoted(journal, 40)} is no journal on disk and no path.")
        self._rings = None if rings is None else RingWriter(rings)
        self._lock = threading.Lock()
        self._heard = Heard(_REMEMBERED)
        # Whoever forgets to detach is forgotten.
        self._listeners: tuple[ref[Listener], ...] = ()
        self._readers: tuple[ref[Events], ...] = ()
        self._refused = 0
        self._told = float("-inf")

    def __repr__(self) -> str:
        known = f"{len(self._secrets)} secret(s)" if self._secrets else "accept_unsigned=True"
        return f"CallbackHub({known})"

    # -- for web servers --------------------------------------------------------------------

    async def handle(
        self, headers: Headers, body: bytes, *, query: str | bytes = ""
    ) -> CallbackReply:
        """Take one callback, whoever received it, and say what to answer.

        Never raises for what a sender can do, and takes no longer than to verify it.

        Args:
            headers: A mapping, or pairs if the framework has them; names in any case.
            body: The body as it came in.
            query: The URL's query, without "?".

        Returns:
            The status and the body of the answer. 200 says that it was taken, also when it
            came before or speaks of a task nobody waits for; 400 that it is no callback; 401
            that the signature is missing, wrong or old; 413 that it is too large.
        """
        reply, has_rung = self._take(headers, body, query)
        if has_rung:  # whoever waits asks before this answer is on its way
            for _ in range(_TURNS):
                await asyncio.sleep(0)
        return reply

    def routes(self, path: str) -> list[web.RouteDef]:
        """Return routes for an aiohttp.web application: `app.add_routes(hub.routes(path))`."""
        from .callbacks_aiohttp import routes  # aiohttp.web takes a quarter of a second to load

        return routes(self, path)

    @property
    def asgi(self) -> AsgiFace:
        """An ASGI application, for FastAPI, Starlette, Quart, or a server alone.

        It answers every path that it is given, and POST only.
        """
        return AsgiFace(self)

    def serve(
        self,
        host: str = "127.0.0.1",
        port: int = 8080,
        *,
        path: str = "/",
        ssl: ssl_module.SSLContext | None = None,
    ) -> AbstractAsyncContextManager[str]:
        """Run a web server for callbacks alone: `async with hub.serve() as url:`.

        Args:
            host: The address to listen at.
            port: 0 picks a free one.
            path: The one path that is answered.
            ssl: A context with a certificate; None speaks plain http, as behind a proxy.

        Returns:
            A context manager that gives the URL on this machine, and stops the server.

        Raises:
            ConfigurationError: On entering, when the address cannot be listened at.
        """
        from .callbacks_aiohttp import serve

        return serve(self, host, port, path, ssl)

    # -- for whoever waits ------------------------------------------------------------------

    def events(self) -> AsyncIterator[CallbackEvent]:
        """Iterate over verified callbacks as they come, each task once, without a client.

        They are kept from this call on, up to 10,000 unread ones, and every iterator gets all of
        them.  The iteration ends when it is left or cancelled.
        """
        reader = Events()
        with self._lock:
            self._readers = (*(each for each in self._readers if each()), ref(reader))
        return reader

    def attach(self, listener: Listener) -> None:
        """Tell somebody of each callback, until it is detached or forgotten."""
        with self._lock:
            self._listeners = (*(each for each in self._listeners if each()), ref(listener))
            # What came while nobody listened may be about a submit that is unknown since.
            for task_id, nonce in self._heard.with_nonces():
                listener.hear(task_id, nonce, is_signed=bool(self._secrets))

    def detach(self, listener: Listener) -> None:
        """Tell somebody no longer."""
        with self._lock:
            self._listeners = tuple(e for e in self._listeners if e() not in (None, listener))

    # -- one callback -----------------------------------------------------------------------

    def _take(
        self, headers: Headers, body: bytes, query: str | bytes
    ) -> tuple[CallbackReply, bool]:
        """Return the answer to a callback, and whether somebody waits for its task."""
        if (refusal := self.judge(headers)) is not None:
            return refusal, False
        if len(body) > self.max_body:
            return self.refused(413, "The callback's body is too large."), False
        try:
            timestamp, signature = _signed_with(headers)
            notice = read_notice(bytes(body))
            if self._secrets:
                verify(
                    self._secrets,
                    task_id=notice.task_id,
                    timestamp=timestamp,
                    signature=signature,
                    now=self._clock(),
                    window=self._window,
                )
        except MalformedCallbackError as error:
            return self.refused(400, error.message), False
        except CallbackError as error:
            return self.refused(401, error.message), False
        return _TAKEN, self._accept(notice.task_id, notice.state, nonce_in(_text(query)))

    def judge(self, headers: Headers) -> CallbackReply | None:
        """Return the refusal of a callback whose body is not worth reading, else None.

        Whoever has no secret may try: only what looks signed, and of about now, costs more.
        """
        if not self._secrets:
            return None
        try:
            timestamp, signature = _signed_with(headers)
            check_headers(timestamp, signature, now=self._clock(), window=self._window)
        except CallbackError as error:
            return self.refused(401, error.message)
        return None

    def refused(self, status: int, words: str) -> CallbackReply:
        """Return the answer to what is no callback of the service, and log some of them."""
        self._refused += 1
        now = time.monotonic()
        if now - self._told >= _QUIET:
            _log.warning(
                "A callback was refused with %d: %s (%d since the last such line)",
                status, words, self._refused,
            )  # fmt: skip
            self._told, self._refused = now, 0
        return CallbackReply(status, json.dumps({"code": status, "msg": words}).encode())

    def _accept(self, task_id: str, state: TaskState | None, nonce: str | None) -> bool:
        with self._lock:  # frameworks with threads may share a hub
            if not self._heard.add(task_id, nonce):
                return False
        is_signed, has_rung = bool(self._secrets), False
        for listening in self._listeners:
            if (listener := listening()) is not None:
                has_rung |= listener.hear(task_id, nonce, is_signed=is_signed)
        if self._readers:
            event = CallbackEvent(task_id, state, datetime.now(UTC))
            for reading in self._readers:
                if (reader := reading()) is not None:
                    reader.put(event)
        if self._rings is not None and is_signed:
            try:
                self._rings.ring(task_id, nonce)
            except OSError as error:  # the poll of the other process finds the result as well
                _log.warning("A callback could not be handed on: %s", error.strerror)
        return has_rung


#: Source: docs.kie.ai, callback sections of the market pages, read 2026-11-22.
_TAKEN = CallbackReply(200, b'{"code":200,"msg":"success"}')


def _usable_secrets(
    secret: str | Iterable[str] | None, *, accept_unsigned: bool
) -> tuple[str, ...]:
    if accept_unsigned:
        if secret is not None:
            raise ConfigurationError("accept_unsigned=True takes no secret: pass None.")
        return ()
    given = [secret] if isinstance(secret, str) else secret
    try:
        secrets = tuple(given if given is not None else ())
    except TypeError:
        raise ConfigurationError("A callback secret is a text, or several.") from None
    for each in secrets:
        if not isinstance(each, str) or not each or each != each.strip() or not each.isprintable():
            raise ConfigurationError(
                "A callback secret is empty, no text, or has blanks around it.",
                hint="Copy the webhook HMAC key from the account's settings.",
            )
    if not secrets:
        raise ConfigurationError(
            "There is no callback secret.",
            hint="Pass the webhook HMAC key of the account's settings.",
        )
    return secrets


def _signed_with(headers: Headers) -> tuple[str | None, str | None]:
    """Return the two headers of a signature.

    Raises:
        SignatureError: One of them came twice: two readers would read two different things.
    """
    pairs: Any = headers.items() if isinstance(headers, Mapping) else headers
    found: dict[str, str] = {}
    for name, value in pairs:
        word = _WANTED.get(name.lower())
        if word is not None:
            if word in found:
                raise SignatureError(f"The callback has two headers {word}.")
            found[word] = _text(value)
    return found.get(TIMESTAMP_HEADER), found.get(SIGNATURE_HEADER)


#: The names of the headers, as texts and as bytes.
_WANTED = {
    spelling: name
    for name in (TIMESTAMP_HEADER, SIGNATURE_HEADER)
    for spelling in (name, name.encode())
}


def _text(value: str | bytes) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else str(value)
