"""A peer on loopback that does to a socket what each test scripts, byte by byte.

A script is a coroutine function that is handed the `Peer` of one connection. It ends with the
connection: what it left open is closed. Everything the client sent is kept.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import gc
import itertools
import json
import os
import pickle
import socket
import struct
import traceback
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from types import TracebackType
from typing import Any, Self

import attrs

__all__ = [
    "BROKEN",
    "KEY",
    "PAGE",
    "ByteServer",
    "Peer",
    "Script",
    "Seen",
    "accepted",
    "answer",
    "cancel_at_every_step",
    "drip",
    "everything_said",
    "flood",
    "full_backlog",
    "hang",
    "http",
    "no_traces",
    "refused_port",
    "reset",
    "say",
    "service",
    "shut",
    "then",
    "until",
]

#: The key that must never be seen where it does not belong.
KEY = "sk-0123456789-never-to-be-seen"


@attrs.frozen
class Seen:
    """One request as it arrived."""

    method: str
    path: str
    #: Lower-case names.
    headers: dict[str, str]
    #: Without the framing of chunks.
    body: bytes = attrs.field(repr=False)


class Peer:
    """The server's end of one connection."""

    def __init__(
        self, server: ByteServer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._server = server
        self._reader = reader
        self._writer = writer

    async def head(self) -> tuple[str, str, dict[str, str]]:
        """Read up to the empty line after the headers."""
        lines = self._heard(await self._reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        method, path, _ = lines[0].split(" ", 2)
        pairs = (line.split(": ", 1) for line in lines[1:] if line)
        return method, path, {name.lower(): value for name, value in pairs}

    async def request(self) -> Seen:
        """Read one whole request."""
        method, path, headers = await self.head()
        if headers.get("transfer-encoding") == "chunked":
            body = b"".join([chunk async for chunk in self._chunks()])
        else:
            length = int(headers.get("content-length", 0))
            body = self._heard(await self._reader.readexactly(length))
        seen = Seen(method, path, headers, body)
        self._server.requests.append(seen)
        return seen

    async def _chunks(self) -> AsyncIterator[bytes]:
        while size := int(self._heard(await self._reader.readuntil(b"\r\n")), 16):
            yield self._heard(await self._reader.readexactly(size + 2))[:-2]
        self._heard(await self._reader.readexactly(2))

    def _heard(self, data: bytes) -> bytes:
        self._server.received += data
        return data

    async def some(self) -> bytes:
        """Read what is there; empty when the client has closed."""
        return self._heard(await self._reader.read(65536))

    async def skip(self) -> bytes:
        """Read what is there and keep nothing of it."""
        return await self._reader.read(1 << 20)

    async def send(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()

    async def gone(self) -> None:
        """Wait until the client has closed."""
        while await self.some():
            pass

    def rst(self) -> None:
        """End the connection the hard way."""
        self._writer.get_extra_info("socket").setsockopt(
            socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
        )
        self._writer.transport.abort()


Script = Callable[[Peer], Awaitable[None]]


class ByteServer:
    """Listens on loopback and plays one script for each connection; the last one repeats."""

    def __init__(self, *scripts: Script) -> None:
        self._scripts = scripts
        self._peers: set[asyncio.Task[Any]] = set()
        self.connections = 0
        self.requests: list[Seen] = []
        #: Every byte that scripts have read, in one piece.
        self.received = bytearray()

    def play(self, *scripts: Script) -> None:
        """Begin anew with other scripts."""
        self._scripts = scripts
        self.connections = 0
        self.requests.clear()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._play, "127.0.0.1", 0, limit=1 << 20)
        self.port: int = self._server.sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._server.close()
        for peer in tuple(self._peers):
            peer.cancel()
        await asyncio.gather(*self._peers, return_exceptions=True)

    @property
    def open(self) -> int:
        """How many connections are being played."""
        return len(self._peers)

    @property
    def tasks(self) -> set[asyncio.Task[Any]]:
        return set(self._peers)

    async def _play(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._peers.add(task)
        script = self._scripts[min(self.connections, len(self._scripts) - 1)]
        self.connections += 1
        try:
            await script(Peer(self, reader, writer))
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # the client has left, or the test is over
        finally:
            writer.transport.abort() if task.cancelling() else writer.close()
            with contextlib.suppress(ConnectionError, asyncio.CancelledError):
                await writer.wait_closed()
            self._peers.discard(task)


# -- what a server says ---------------------------------------------------------------------


def http(
    body: bytes = b"", status: str = "200 OK", *headers: str, length: int | None = None
) -> bytes:
    """Return the bytes of an answer, with a Content-Length that may lie."""
    size = len(body) if length is None else length
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {size}", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


def say(
    data: Any = None, code: int = 200, msg: str = "success", *headers: str, status: str = "200 OK"
) -> bytes:
    """Return an answer in the service's envelope."""
    body = json.dumps({"code": code, "msg": msg, "data": data}).encode()
    return http(body, status, "Content-Type: application/json", *headers)


def accepted(task_id: str = "task-1") -> bytes:
    """Return the answer to a createTask that made a task."""
    return say({"taskId": task_id, "recordId": task_id})


# -- what a server does ---------------------------------------------------------------------


def answer(*answers: bytes) -> Script:
    """Read requests and answer them, on one connection; the last answer repeats."""

    async def script(peer: Peer) -> None:
        for number in range(1_000_000):
            await peer.request()
            await peer.send(answers[min(number, len(answers) - 1)])

    return script


def service(files: bytes, *states: str, deaf_to: str | None = None) -> Script:
    """Play the whole service: each look at a task gives the next of these states, then success.

    Results and uploads lie at the same origin; whatever is fetched there is `files`. A request
    with `deaf_to` in its path is never answered.
    """
    left = list(states)

    async def script(peer: Peer) -> None:
        while True:
            seen = await peer.request()
            here = f"http://{seen.headers['host']}"
            if deaf_to is not None and deaf_to in seen.path:
                await peer.gone()
            elif seen.path.endswith("/createTask"):
                await peer.send(accepted())
            elif "/recordInfo" in seen.path:
                record: dict[str, Any] = {"taskId": "task-1", "state": "success"}
                if left:
                    record["state"] = left.pop(0)
                else:
                    record["resultJson"] = json.dumps({"resultUrls": [f"{here}/result.mp4"]})
                await peer.send(say(record))
            elif seen.path.endswith("/file-stream-upload"):
                await peer.send(say({"downloadUrl": f"{here}/upload.mp4"}))
            else:
                await peer.send(http(files))

    return script


def drip(first: bytes, rest: bytes = b"", pause: float = 0.002) -> Script:
    """Read a request, send the first bytes, then the rest byte by byte, over and over."""

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(first)
        while True:
            for byte in rest:
                await peer.send(bytes([byte]))
                await asyncio.sleep(pause)

    return script


def reset(after: int = 0) -> Script:
    """Reset the connection after so many requests were read."""

    async def script(peer: Peer) -> None:
        for _ in range(after):
            await peer.request()
        peer.rst()

    return script


async def hang(peer: Peer) -> None:
    """Read a request and say nothing."""
    await peer.request()
    await peer.gone()


async def shut(peer: Peer) -> None:
    """Read a request and close without an answer."""
    await peer.request()


def then(data: bytes, *, stay: bool = False) -> Script:
    """Read a request, send these bytes, then close, or stay without a word."""

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(data)
        if stay:
            await peer.gone()

    return script


def flood(first: bytes, rest: bytes) -> Script:
    """Read a request, send the first bytes, then the rest as fast as can be, for ever."""

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(first)
        while True:
            await peer.send(rest)

    return script


@functools.cache
def _packed_zeros() -> bytes:
    packer = zlib.compressobj(1, wbits=31)
    return b"".join(packer.compress(bytes(1 << 20)) for _ in range(320)) + packer.flush()


async def bomb(peer: Peer) -> None:
    """Read a request and answer with little that unpacks to 320 MB."""
    await peer.request()
    await peer.send(http(_packed_zeros(), "200 OK", _GZIPPED))


PAGE = b"<!doctype html><title>Oops</title><h1>Sorry</h1>"
_CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
_GZIPPED = "Content-Encoding: gzip"

#: What a peer may do once it has read a request, with none of it an answer. Beside each script
#: stands whether the clock alone ends it.
BROKEN: dict[str, tuple[Script, bool]] = {
    "reset": (reset(after=1), False),
    "closed without a word": (shut, False),
    "silence": (hang, True),
    "half a status line": (then(b"HTTP/1.1 20"), False),
    "half a head and silence": (then(b"HTTP/1.1 200 OK\r\nServer: x", stay=True), True),
    "a status line that drips": (drip(b"HTTP/1.1 200 ", b"O"), True),
    "a body that drips": (drip(http(length=10**6), b" "), True),
    "half a body": (then(http(b'{"code":200,"data":{"ta', length=99)), False),
    "half a body and silence": (then(http(b'{"code":200,', length=99), stay=True), True),
    "half a chunk": (then(_CHUNKED + b'20\r\n{"code":200,'), False),
    "a chunk of no size": (then(_CHUNKED + b"zz\r\n{}\r\n"), False),
    "a chunk of all sizes": (then(_CHUNKED + b"f" * 5000), False),
    "an endless body": (flood(_CHUNKED, b"10000\r\n" + b" " * 65536 + b"\r\n"), False),
    "endless headers": (flood(b"HTTP/1.1 200 OK\r\n", b"X-Page: 1\r\n" * 1000), False),
    "an endless header": (flood(b"HTTP/1.1 200 OK\r\nX: ", b"x" * 65536), False),
    "endless patience": (drip(b"", b"HTTP/1.1 100 Continue\r\n\r\n", pause=0.0), True),
    "no HTTP": (then(b"SSH-2.0-OpenSSH_9.2\r\n"), False),
    "another HTTP": (then(b"\x00\x00\x12\x04\x00\x00\x00\x00\x00", stay=True), False),
    "no gzip": (then(http(b'{"code":200}', "200 OK", _GZIPPED)), False),
    "a bomb": (bomb, False),
    "two lengths": (
        then(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}"),
        False,
    ),
    "a negative length": (then(http(b"{}", length=-2)), False),
}

# -- where there is no server ---------------------------------------------------------------


@contextlib.contextmanager
def refused_port() -> Iterator[str]:
    """Hold a port where nobody listens."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{held.getsockname()[1]}"


@contextlib.contextmanager
def full_backlog() -> Iterator[str]:
    """Listen, and let connections neither be made nor be refused."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(4):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


# -- what tests ask afterwards --------------------------------------------------------------


async def until(condition: Callable[[], object], seconds: float = 5.0) -> None:
    """Wait for a condition, looking often."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.001)


def everything_said(error: BaseException) -> str:
    """Return all that an error, its pickle, its causes, suppressed ones too, and those of our
    frames that a debugger would show could ever print.
    """
    said = [repr(pickle.dumps(error))]
    queue: list[tuple[BaseException | None, bool]] = [(error, True)]
    while queue:
        member, is_shown = queue.pop()
        if member is None:
            continue
        said += [str(member), repr(member), repr(vars(member))]
        said += traceback.format_exception(member, chain=False)
        for frame, _ in traceback.walk_tb(member.__traceback__ if is_shown else None):
            if "/tests/" not in frame.f_code.co_filename:
                said.append(repr(frame.f_locals))
        queue.append((member.__cause__, is_shown))
        if member.__context__ is not member.__cause__:
            queue.append((member.__context__, is_shown and not member.__suppress_context__))
    return "\n".join(said)


def _descriptors() -> int:
    return len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0


@contextlib.asynccontextmanager
async def no_traces() -> AsyncIterator[None]:
    """Fail when the block leaves a task or a file descriptor behind."""
    before, descriptors = asyncio.all_tasks(), _descriptors()

    def strangers() -> set[asyncio.Task[Any]]:
        return asyncio.all_tasks() - before - {asyncio.current_task()}  # type: ignore[arg-type]

    yield
    if strangers() or _descriptors() > descriptors:
        gc.collect()  # costs more than most tests
    try:
        await until(lambda: not strangers() and _descriptors() <= descriptors)
    except TimeoutError:
        more = _descriptors() - descriptors
        raise AssertionError(f"left behind: {strangers()}, {more} descriptors") from None


class _Stepped(Coroutine[Any, Any, Any]):
    """A coroutine that tells before each of its steps."""

    def __init__(self, inner: Coroutine[Any, Any, Any], tell: Callable[[], None]) -> None:
        self._inner = inner
        self._tell = tell

    def send(self, value: Any) -> Any:
        self._tell()
        return self._inner.send(value)

    def throw(self, *error: Any) -> Any:
        self._tell()
        return self._inner.throw(*error)

    def close(self) -> None:
        self._inner.close()

    def __await__(self) -> Any:
        return self._inner.__await__()


async def cancel_at_every_step(
    call: Callable[[], Coroutine[Any, Any, Any]],
    afterwards: Callable[[asyncio.Task[Any]], Awaitable[None]],
) -> int:
    """Run a call again and again, cancelled at the first step of any task, at the second, ...

    Ends with the run that was over before its step came, and returns the number of runs.
    """
    loop = asyncio.get_running_loop()
    for last in itertools.count(1):
        steps, hit, hit_at = 0, False, 0.0
        victim: asyncio.Task[Any] | None = None

        def step() -> None:
            nonlocal steps, hit, hit_at
            steps += 1
            if steps == last and victim is not None:  # noqa: B023  # used within its round only
                hit, hit_at = victim.cancel(), loop.time()  # noqa: B023

        loop.set_task_factory(
            lambda loop, inner, **more: asyncio.Task(_Stepped(inner, step), loop=loop, **more)
        )
        try:
            victim = asyncio.create_task(call(), name="victim")
            await asyncio.wait([victim])
            assert not hit or loop.time() - hit_at < 1.0, "the cancellation was not answered"
            await afterwards(victim)
        finally:
            loop.set_task_factory(None)
        if not hit:
            return last
    raise AssertionError("unreachable")
