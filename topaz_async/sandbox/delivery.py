"""Put an answer on the wire: properly, or as badly as a fault wants it."""

from __future__ import annotations

import asyncio
import gzip
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import cache
from typing import Final

import attrs
from aiohttp import web

from .answers import API_JSON, HTML, Answer, dump, html_page
from .faults import Fault
from .threads import PIECE, Threads, read_at

#: Seconds between looks whether the peer of a hanging exchange has gone.
GONE_CHECK: Final = 0.2


class Delivery:
    """Sends answers, and spoils them."""

    def __init__(self, disk: Threads, elsewhere: str) -> None:
        #: Where redirects point by default: another host than the sandbox's own.
        self._disk, self._elsewhere = disk, elsewhere
        self._faulty: dict[
            str, Callable[[web.Request, Answer, Fault], Awaitable[web.StreamResponse]]
        ]
        self._faulty = {
            "reset": self._reset,
            "lost_reply": self._reset,
            "close": self._close,
            "lost_reply_close": self._close,
            "hang": self._hang,
            "act_then_hang": self._hang,
            "garbage": self._garbage,
            "slow": self._slow,
            "cut": self._part,
            "cut_close": self._part,
            "stall": self._part,
            "drip": self._drip,
            "endless": self._endless,
        }

    async def send(
        self, request: web.Request, answer: Answer, fault: Fault | None
    ) -> web.StreamResponse:
        """Send ``answer``, already `altered`, over a wire that ``fault`` may break."""
        if fault is None:
            return await self._whole(request, answer)
        if (spoil := self._faulty.get(fault.action)) is not None:
            return await spoil(request, answer, fault)
        return await self._whole(request, answer)

    def altered(self, answer: Answer, fault: Fault) -> Answer:
        """Return the answer that a fault gives instead; the same where it only spoils the wire."""
        match fault.action:
            case "answer" | "act_then_answer":
                return scripted(fault)
            case "empty" | "act_then_empty":
                return Answer(fault.status or 200, b"", API_JSON, fault.headers)
            case "bomb":
                return Answer(200, _bomb(), API_JSON, {"Content-Encoding": "gzip"})
            case "redirect":
                return self._redirect(fault)
            case "truncate" if answer.file is None:
                return attrs.evolve(answer, body=answer.body[: int(answer.length * fault.fraction)])
            case "truncate" if answer.file is not None:
                less = int(answer.length * fault.fraction)
                return attrs.evolve(answer, file=attrs.evolve(answer.file, length=less))
            case "no_content_type":
                return attrs.evolve(answer, content_type=None)
            case "html_type":
                return attrs.evolve(answer, content_type=HTML)
        return answer

    def _redirect(self, fault: Fault) -> Answer:
        headers = {**fault.headers, "Location": fault.location or self._elsewhere}
        return Answer(fault.status or 307, b"", HTML, headers)

    async def _whole(self, request: web.Request, answer: Answer) -> web.StreamResponse:
        if answer.file is None:
            response = web.Response(status=answer.status, body=answer.body)
            _fill(response, answer)
            return response
        stream = await self._begin(request, answer)
        async for piece in self._pieces(request, answer):
            await stream.write(piece)
        await stream.write_eof()
        return stream

    async def _begin(self, request: web.Request, answer: Answer) -> web.StreamResponse:
        response = web.StreamResponse(status=answer.status)
        _fill(response, answer)
        response.content_length = answer.length
        await response.prepare(request)
        return response

    async def _pieces(self, request: web.Request, answer: Answer) -> AsyncIterator[bytes]:
        if request.method == "HEAD":
            return
        if answer.file is None:
            yield answer.body
            return
        part, sent = answer.file, 0
        while sent < part.length:
            more = min(PIECE, part.length - sent)
            piece = await self._disk.run(read_at, part.path, part.start + sent, more)
            if not piece:
                return
            sent += len(piece)
            yield piece

    async def _reset(self, request: web.Request, _: Answer, __: Fault) -> web.StreamResponse:
        return _hang_up(request, reset=True)

    async def _close(self, request: web.Request, _: Answer, __: Fault) -> web.StreamResponse:
        return _hang_up(request, reset=False)

    async def _hang(self, request: web.Request, _: Answer, fault: Fault) -> web.StreamResponse:
        await _silence(request, fault.seconds)
        return _hang_up(request, reset=True)

    async def _garbage(self, request: web.Request, _: Answer, fault: Fault) -> web.StreamResponse:
        body = fault.body if fault.body is not None else b"\x16\x03\x01 this is not HTTP\r\n\r\n"
        return await _raw(request, body.encode() if isinstance(body, str) else body)

    async def _slow(self, request: web.Request, answer: Answer, fault: Fault) -> web.StreamResponse:
        await asyncio.sleep(1.0 if fault.seconds is None else fault.seconds)
        return await self._whole(request, answer)

    async def _part(self, request: web.Request, answer: Answer, fault: Fault) -> web.StreamResponse:
        stream = await self._begin(request, answer)
        left = int(answer.length * fault.fraction)
        async for piece in self._pieces(request, answer):
            await stream.write(piece[:left])
            left -= len(piece)
            if left <= 0:
                break
        if fault.action == "stall":
            await _silence(request, fault.seconds)
        else:
            # What was written is to arrive before the connection goes.
            await _flushed(request)
        _hang_up(request, reset=fault.action != "cut_close")
        return stream

    async def _drip(self, request: web.Request, answer: Answer, fault: Fault) -> web.StreamResponse:
        stream = await self._begin(request, answer)
        pause = 0.05 if fault.seconds is None else fault.seconds
        async for piece in self._pieces(request, answer):
            for at in range(len(piece)):
                await stream.write(piece[at : at + 1])
                await asyncio.sleep(pause)
        await stream.write_eof()
        return stream

    async def _endless(self, request: web.Request, answer: Answer, _: Fault) -> web.StreamResponse:
        stream = web.StreamResponse(status=answer.status)
        _fill(stream, answer)
        # Without a length: aiohttp sends it in chunks, or bare to a client of HTTP/1.0.
        await stream.prepare(request)
        while request.method != "HEAD":
            await stream.write(b" " * 65536)
        return stream


async def leave_untyped(_: web.Request, response: web.StreamResponse) -> None:
    """Take out an empty Content-Type; had there been none, aiohttp would have filled one in."""
    if response.headers.get("Content-Type") == "":
        del response.headers["Content-Type"]


@cache
def _bomb() -> bytes:
    # A gzip file may consist of many members, and 1 MB of spaces packs to 1 KB.
    return gzip.compress(b" " * 1024**2) * 1024


def scripted(fault: Fault) -> Answer:
    """Return the answer that is written in a fault: a JSON envelope, a body, or a proxy's page."""
    headers = dict(fault.headers)
    if fault.retry_after is not None:
        headers["Retry-After"] = f"{fault.retry_after}"
    if fault.code is not None:
        body = dump({"code": fault.code, "msg": fault.msg or "", "data": None}).encode()
        return Answer(fault.status or 200, body, API_JSON, headers, fault.code)
    status = fault.status or 502
    if fault.body is None:
        return attrs.evolve(html_page(status, "Bad Gateway"), headers=headers)
    body = fault.body.encode() if isinstance(fault.body, str) else fault.body
    kind = API_JSON if body[:1] in b"{[" and body else HTML
    return Answer(status, body, kind, headers)


def _fill(response: web.StreamResponse, answer: Answer) -> None:
    response.headers["Content-Type"] = answer.content_type or ""
    response.headers["Server"] = "topaz-sandbox"
    response.headers.update(answer.headers)


def _hang_up(request: web.Request, *, reset: bool) -> web.StreamResponse:
    transport = request.transport
    if transport is not None:
        if reset:
            sock = transport.get_extra_info("socket")
            # Lingering for zero seconds makes the kernel send RST instead of FIN.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            transport.abort()
        else:
            transport.close()
    return web.Response()


async def _raw(request: web.Request, data: bytes) -> web.StreamResponse:
    transport = request.transport
    if transport is not None:
        transport.write(data)
        transport.close()
    return web.Response()


async def _silence(request: web.Request, seconds: float | None) -> None:
    clock = asyncio.get_running_loop().time
    end = None if seconds is None else clock() + seconds
    while request.transport is not None and not request.transport.is_closing():
        pause = GONE_CHECK if end is None else min(GONE_CHECK, end - clock())
        if pause <= 0:
            return
        await asyncio.sleep(pause)


async def _flushed(request: web.Request) -> None:
    # A transport tells nobody when its buffer is empty.
    while (transport := request.transport) is not None and transport.get_write_buffer_size():  # noqa: ASYNC110
        await asyncio.sleep(0.005)
    # The kernel drops what it has not sent yet when a reset follows at once.
    await asyncio.sleep(0.02)
