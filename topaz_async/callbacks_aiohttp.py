"""Callbacks in an aiohttp.web application, or in a server of their own."""

from __future__ import annotations

import asyncio
import logging
import ssl as ssl_module
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from contextlib import asynccontextmanager, nullcontext

from aiohttp import ClientError, web

from .callbacks_asgi import Taker
from .errors import ConfigurationError
from .ports import CallbackReply
from .texts import clean

__all__ = ["routes", "serve"]

#: Seconds that a sender whose body was not read to its end has to take the answer.
_LINGER = 0.5
#: Bodies that a server of ours reads at once; those that came with their headers do not count.
_MOST = 64

_log = logging.getLogger("topaz_async")
# aiohttp writes a stack trace for each request that it cannot read: anybody could fill the log.
_quiet = logging.getLogger("topaz_async.server")
_quiet.setLevel(logging.CRITICAL)

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


def routes(hub: Taker, path: str) -> list[web.RouteDef]:
    """Return the one route of a hub."""
    return [web.post(path, _handler(hub))]


@asynccontextmanager
async def serve(
    hub: Taker, host: str, port: int, path: str, ssl: ssl_module.SSLContext | None
) -> AsyncIterator[str]:
    """Run a server for as long as the block lasts; gives its URL."""
    if not path.startswith("/"):
        raise ConfigurationError(f"The path {clean(path, 80)!r} does not begin with a slash.")
    take = _handler(hub, asyncio.Semaphore(_MOST))
    busy: set[object] = set()
    #: When each connection has brought its last request.
    heard: dict[object, float] = {}
    clock = asyncio.get_running_loop().time

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        busy.add(request.protocol)
        try:
            # An application of aiohttp's does this by itself; without it the body never comes.
            if request.headers.get("Expect", "").lower() == "100-continue" and request.transport:
                request.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            if request.path != path:
                return _response(hub.refused(404, "There is nothing here."))
            if request.method != "POST":
                response = _response(hub.refused(405, "A callback is a POST."))
                response.headers["Allow"] = "POST"
                return response
            return await take(request)
        except Exception:
            _log.exception("A callback could not be taken.")
            raise
        finally:
            heard[request.protocol] = clock()
            busy.discard(request.protocol)

    # One path needs no router; the service sends nothing packed.
    server = web.Server(answer, access_log=None, logger=_quiet, auto_decompress=False)
    runner = web.ServerRunner(server, handle_signals=False, shutdown_timeout=1.0)
    await runner.setup()
    reaper = asyncio.create_task(_reap(server, busy, heard, hub.timeout))
    try:
        try:
            await web.TCPSite(runner, host, port, ssl_context=ssl).start()
        except (OSError, OverflowError, TypeError) as error:
            reason = getattr(error, "strerror", None) or clean(error, 120)
            raise ConfigurationError(
                f"Callbacks cannot be listened for at {clean(host, 80)}:{port}: {reason}."
            ) from None
        name = f"[{host}]" if ":" in host else host
        scheme = "http" if ssl is None else "https"
        yield f"{scheme}://{name}:{runner.addresses[0][1]}{path}"
    finally:
        reaper.cancel()
        await runner.cleanup()


async def _reap(
    server: web.Server,
    busy: Collection[object],
    heard: dict[object, float],
    seconds: float,
) -> None:
    """Cut connections that bring no request for so long: headers sent drop by drop, or none."""
    idle: dict[web.RequestHandler, float] = {}
    clock = asyncio.get_running_loop().time
    while True:
        await asyncio.sleep(seconds / 4)
        for gone in heard.keys() - set(server.connections):
            del heard[gone]
        idle = {
            connection: idle.get(connection, clock())
            for connection in server.connections
            if connection not in busy
        }
        for connection, since in idle.items():
            if clock() - max(since, heard.get(connection, since)) >= seconds:
                connection.force_close()


def _handler(hub: Taker, room: asyncio.Semaphore | None = None) -> Handler:
    async def take(request: web.BaseRequest) -> web.Response:
        body, refusal = b"", hub.judge(request.raw_headers)
        if refusal is None:
            body, refusal = await _read(hub, request, room)
        elif request.content.is_eof():  # nothing of it is still on its way
            return _response(refusal)
        if refusal is not None:
            response = _response(refusal)
            response.force_close()
            # aiohttp would read on for ten seconds; a reset at once could overtake the answer.
            asyncio.get_running_loop().call_later(_LINGER, _cut, request.protocol)
            return response
        # Raw, so that a header that came twice is seen twice.
        query = request.rel_url.raw_query_string
        return _response(await hub.handle(request.raw_headers, body, query=query))

    return take


async def _read(
    hub: Taker, request: web.BaseRequest, room: asyncio.Semaphore | None
) -> tuple[bytes, CallbackReply | None]:
    """Return the body, or what to answer to one that cannot be had."""
    body = bytearray()
    try:
        if request.content.is_eof():  # all of it came with the headers, as it nearly always does
            return request.content.read_nowait(), None
        if room is not None and room.locked():
            return b"", hub.refused(503, "Too many callbacks are being read.")
        async with room or nullcontext(), asyncio.timeout(hub.timeout):
            async for piece in request.content.iter_any():
                body += piece
                if len(body) > hub.max_body:
                    return b"", hub.refused(413, "The callback's body is too large.")
    except TimeoutError:
        return b"", hub.refused(408, "The callback's body did not arrive in time.")
    except (ClientError, web.RequestPayloadError, OSError, ValueError):
        return b"", hub.refused(400, "The callback's body did not arrive whole.")
    return bytes(body), None


def _cut(connection: web.RequestHandler) -> None:
    if connection.transport is not None:
        connection.force_close()


def _response(reply: CallbackReply) -> web.Response:
    return web.Response(
        status=reply.status, body=reply.body, headers={"Content-Type": reply.content_type}
    )
