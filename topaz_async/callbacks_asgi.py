"""Callbacks as an ASGI application, for FastAPI, Starlette, Quart, or a server alone."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any, Protocol

from .ports import CallbackReply

__all__ = ["AsgiFace", "Taker"]

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


class Taker(Protocol):
    """What takes callbacks."""

    @property
    def max_body(self) -> int: ...

    @property
    def timeout(self) -> float: ...

    def judge(self, headers: Iterable[tuple[bytes, bytes]]) -> CallbackReply | None: ...

    async def handle(
        self, headers: Iterable[tuple[bytes, bytes]], body: bytes, *, query: str | bytes
    ) -> CallbackReply: ...

    def refused(self, status: int, words: str) -> CallbackReply: ...


class AsgiFace:
    """An ASGI application that answers POST on every path.

    Args:
        hub: Takes the callbacks.
    """

    def __init__(self, hub: Taker) -> None:
        self._hub = hub

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer one connection, as ASGI 3 says."""
        if scope["type"] == "lifespan":
            await _live(receive, send)
        elif scope["type"] == "http":
            reply, extra = await self._answer(scope, receive)
            if reply is not None:
                await _say(send, reply, extra)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1003})

    async def _answer(
        self, scope: Message, receive: Receive
    ) -> tuple[CallbackReply | None, tuple[tuple[bytes, bytes], ...]]:
        if scope["method"] != "POST":
            return self._hub.refused(405, "A callback is a POST."), ((b"allow", b"POST"),)
        # What is still on its way would be taken for the next request.
        cut = ((b"connection", b"close"),)
        if (refusal := self._hub.judge(scope["headers"])) is not None:
            return refusal, cut
        body = bytearray()
        try:
            async with asyncio.timeout(self._hub.timeout):
                more = True
                while more:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        return None, ()
                    body += message.get("body", b"")
                    if len(body) > self._hub.max_body:
                        return self._hub.refused(413, "The callback's body is too large."), cut
                    more = message.get("more_body", False)
        except TimeoutError:
            return self._hub.refused(408, "The callback's body did not arrive in time."), cut
        query = scope.get("query_string", b"")
        return await self._hub.handle(scope["headers"], bytes(body), query=query), ()


async def _say(send: Send, reply: CallbackReply, extra: tuple[tuple[bytes, bytes], ...]) -> None:
    headers = [
        (b"content-type", reply.content_type.encode()),
        (b"content-length", str(len(reply.body)).encode()),
        *extra,
    ]
    await send({"type": "http.response.start", "status": reply.status, "headers": headers})
    await send({"type": "http.response.body", "body": reply.body})


async def _live(receive: Receive, send: Send) -> None:
    """Follow a server's start and stop; there is nothing to open or close."""
    while True:
        message = await receive()
        if message["type"] == "lifespan.startup":
            await send({"type": "lifespan.startup.complete"})
        elif message["type"] == "lifespan.shutdown":
            await send({"type": "lifespan.shutdown.complete"})
            return
