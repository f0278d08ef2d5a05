"""Callbacks as tests send them, and the servers that take them, on real sockets."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress
from typing import Any
from urllib.parse import urlsplit

import pytest
from aiohttp import web

from topaz_async import CallbackHub
from topaz_async.sandbox import sign

KEY = "example-hmac-key"
ID = "0123456789abcdef0123456789abcdef"

#: The servers of the tests; each takes the hub's callbacks at `/kie`.
SERVERS = ("aiohttp", "serve", "uvicorn")

Pairs = list[tuple[str, str]]


class Ear:
    """Hears what a hub tells."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, str | None, bool]] = []

    def hear(self, task_id: str, nonce: str | None, *, is_signed: bool) -> bool:
        self.heard.append((task_id, nonce, is_signed))
        return True


def signed(task_id: str = ID, *, key: str = KEY, at: float | None = None) -> Pairs:
    """Return the headers of a signed callback."""
    timestamp = str(int(time.time() if at is None else at))
    return [
        ("Content-Type", "application/json"),
        ("X-Webhook-Timestamp", timestamp),
        ("X-Webhook-Signature", sign(key, task_id, timestamp)),
    ]


def body_of(task_id: str = ID, state: str = "success") -> bytes:
    """Return a body as the market pages have it."""
    return json.dumps(
        {"code": 200, "msg": "", "data": {"taskId": task_id, "state": state}}
    ).encode()


@asynccontextmanager
async def receiving(server: str, hub: CallbackHub) -> AsyncIterator[str]:
    """Run one of the servers; gives the URL of its callbacks."""
    if server == "serve":
        async with hub.serve(port=0, path="/kie") as url:
            yield url
    elif server == "aiohttp":
        app = web.Application()
        app.add_routes(hub.routes("/kie"))
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/kie"
        await runner.cleanup()
    else:
        async with under_uvicorn(hub.asgi) as origin:
            yield f"{origin}/kie"


@asynccontextmanager
async def under_uvicorn(app: Any) -> AsyncIterator[str]:
    """Run an ASGI application under uvicorn; gives its origin."""
    uvicorn = pytest.importorskip("uvicorn")
    sock = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(
        app, log_config=None, lifespan="on", loop="none", timeout_graceful_shutdown=1
    )
    server = uvicorn.Server(config)
    running = asyncio.create_task(server.serve(sockets=[sock]))
    while not server.started:
        await asyncio.sleep(0.005)
    yield f"http://127.0.0.1:{sock.getsockname()[1]}"
    server.should_exit = True
    await running
    sock.close()


async def post(
    url: str,
    body: bytes = b"",
    headers: Iterable[tuple[str, str]] = (),
    *,
    method: str = "POST",
    length: int | None = None,
    drip: float | None = None,
) -> tuple[int, bytes]:
    """Send one request byte by byte as it is described, and return status and body.

    Args:
        url: Where to.
        body: Sent as it stands.
        headers: Sent in this order, also when one comes twice.
        method: Of the request.
        length: The Content-Length that is claimed; None claims the true one.
        drip: Seconds between two bytes of the body; None sends all at once.
    """
    parts = urlsplit(url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    target = parts.path + (f"?{parts.query}" if parts.query else "")
    lines = [f"{method} {target} HTTP/1.1", "Host: localhost"]
    lines += [f"{name}: {value}" for name, value in headers]
    lines += [f"Content-Length: {len(body) if length is None else length}", "", ""]
    try:
        writer.write("\r\n".join(lines).encode("latin-1"))
        async with asyncio.timeout(5):
            answer = asyncio.create_task(_answer(reader))
            with suppress(ConnectionError):  # the answer may have come, and the end with it
                await _send(writer, body, drip, answer)
            return await answer
    finally:
        writer.close()


async def _send(
    writer: asyncio.StreamWriter, body: bytes, drip: float | None, answer: asyncio.Task[Any]
) -> None:
    if drip is None:
        writer.write(body)
        await writer.drain()
        return
    for at in range(len(body)):
        if answer.done():
            return
        writer.write(body[at : at + 1])
        await asyncio.wait([answer], timeout=drip)


async def _answer(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
    length = next(
        (line.split(":")[1] for line in head.split("\r\n") if line.startswith("content-length:")),
        "0",
    )
    return int(head.split(" ")[1]), await reader.readexactly(int(length))
