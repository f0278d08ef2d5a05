"""Uploads: the bytes that arrive are the bytes of the file, or the caller is told."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import io
import os
import re
import sys
import time
import tracemalloc
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from blockbuster import blockbuster_ctx

from topaz_async.errors import (
    ConnectError,
    RequestTimeoutError,
    TopazError,
    TransportError,
    UploadError,
)
from topaz_async.models import UploadedFile
from topaz_async.names import safe_name
from topaz_async.retries import RetryTokens
from topaz_async.settings import RetryPolicy, Timeouts
from topaz_async.transfers import Meter, OnProgress, Progress
from topaz_async.transport import Origins, Transport
from topaz_async.uploads import UploadSource
from topaz_async.wire import Wire

from .byteserver import (
    KEY,
    ByteServer,
    Peer,
    Seen,
    answer,
    cancel_at_every_step,
    everything_said,
    hang,
    http,
    no_traces,
    refused_port,
    reset,
    say,
    shut,
    until,
)

LINK = "https://files.example/kieai/1/clip.mp4"
TAKEN = say({"success": True, "fileName": "clip.mp4", "downloadUrl": LINK})
FILM = bytes(range(256)) * 4096 * 3 + b"the end"  # three chunks and a bit


@pytest.fixture(autouse=True)
async def _nothing_stays() -> AsyncIterator[None]:
    async with no_traces():
        yield


@pytest.fixture
def film(tmp_path: Path) -> Path:
    path = tmp_path / "film.mp4"
    path.write_bytes(FILM)
    return path


def of(source: Any, size: int | None, on_progress: OnProgress | None = None) -> UploadSource:
    """Return the source of an upload."""
    return UploadSource(source, size, Meter(on_progress))


async def send(
    url: str,
    source: UploadSource,
    *,
    name: str = "clip.mp4",
    attempts: int = 3,
    stall: float = 5.0,
    timeout: float = 10.0,
) -> UploadedFile:
    """Send as a client does, over a transport of its own."""
    wire = Wire(base_url=url, upload_url=url, timeouts=Timeouts(upload=timeout))
    transport = Transport(
        key=KEY,
        origins=Origins.of(url),
        retry=RetryPolicy(attempts=attempts, first=0.001, longest=0.002),
        tokens=RetryTokens(500),
        judge=wire.failure,
        redact=lambda text: text.replace(KEY, "[key]"),
        connect_timeout=1.0,
        stall_timeout=stall,
        in_flight=4,
        fresh=False,
        proxy_for=lambda url: None,
    )
    try:
        return wire.uploaded(await transport(wire.upload(source.part(name, "video/mp4"), "folder")))
    except TopazError as error:
        told = source.explained(error)
        raise told from told.__cause__
    finally:
        await transport.aclose()


def form(seen: Seen) -> dict[str, tuple[str, bytes]]:
    """Return each part of a multipart body: its headers and its content."""
    boundary = re.fullmatch(r"multipart/form-data; boundary=(\w+)", seen.headers["content-type"])
    assert boundary is not None
    mark = b"--" + boundary[1].encode()
    assert seen.body.startswith(mark + b"\r\n")
    assert seen.body.endswith(b"\r\n" + mark + b"--\r\n")
    parts = {}
    for part in seen.body[: -len(mark) - 6].split(mark + b"\r\n")[1:]:
        head, content = part.split(b"\r\n\r\n", 1)
        name = re.search(rb'form-data; name="(\w+)"', head)
        assert name is not None
        parts[name[1].decode()] = (head.decode(), content.removesuffix(b"\r\n"))
    return parts


async def stream(*chunks: Any) -> AsyncIterator[Any]:
    for chunk in chunks:
        yield chunk


# -- in fair weather ----------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["path", "bytes"])
async def test_known_size(film: Path, kind: str) -> None:
    """A file or bytes arrive whole, in a form whose length was announced."""
    source = of(film if kind == "path" else FILM, len(FILM))
    async with ByteServer(answer(TAKEN)) as server:
        assert (await send(server.url, source)).url == LINK
        (seen,) = server.requests
    assert int(seen.headers["content-length"]) == len(seen.body)
    assert "transfer-encoding" not in seen.headers
    assert seen.headers["authorization"] == f"Bearer {KEY}"
    parts = form(seen)
    assert {name: content for name, (_, content) in parts.items()} == {
        "uploadPath": b"folder",
        "fileName": b"clip.mp4",
        "file": FILM,
    }
    assert 'filename="clip.mp4"' in parts["file"][0]
    assert "Content-Type: video/mp4" in parts["file"][0]


async def test_stream() -> None:
    """A stream of unknown size arrives whole, in chunks, whatever kind of bytes it is made of."""
    source = of(stream(b"ab", bytearray(b"cd"), memoryview(b"ef"), b"", FILM), None)
    async with ByteServer(answer(TAKEN)) as server:
        await send(server.url, source)
        (seen,) = server.requests
    assert "content-length" not in seen.headers
    assert seen.headers["transfer-encoding"] == "chunked"
    assert form(seen)["file"][1] == b"abcdef" + FILM


@pytest.mark.parametrize(
    "name",
    [
        'a"b.mp4',
        "a\r\nX-Evil: 1\r\n\r\n.mp4",
        "电影.mp4",
        "😀.mp4",
        "a; filename=b.mp4",
        "a\\b%22.mp4",
        "a\x00b.mp4",
        "a\u202e4pm.mp4",
        "x" * 10_000,
    ],
    ids=lambda name: ascii(name[:12]),
)
async def test_harmless_names(name: str) -> None:
    """A name, cleaned as a client does, makes no header, no field and no part of its own."""
    name = safe_name(name)
    async with ByteServer(answer(TAKEN)) as server:
        await send(server.url, of(FILM, len(FILM)), name=name)
        (seen,) = server.requests
    parts = form(seen)
    assert list(parts) == ["uploadPath", "fileName", "file"]
    assert parts["fileName"][1].decode() == name
    assert parts["file"][1] == FILM
    for head, _ in parts.values():
        assert {line.split(":")[0].lower() for line in head.split("\r\n") if line} <= {
            "content-disposition",
            "content-type",
            "content-length",
        }
    assert "x-evil" not in seen.headers


async def test_progress(film: Path) -> None:
    """Progress begins early, and the bytes of a second attempt are counted anew."""
    told: list[Progress] = []
    source = of(film, len(FILM), told.append)
    async with ByteServer(answer(say(None, 500, "busy"), TAKEN)) as server:
        await send(server.url, source)
    assert (told[0].bytes, told[0].total) == (1 << 20, len(FILM))
    assert source.sent == len(FILM)


@pytest.mark.parametrize("kind", ["path", "open file", "stream"])
async def test_constant_memory(tmp_path: Path, kind: str) -> None:
    """200 MB leave through less than 8 MB of memory, and what a stream itself needs."""
    size, path = 200 << 20, tmp_path / "long.mp4"
    with path.open("wb") as file:
        file.truncate(size)

    async def swallow(peer: Peer) -> None:
        end = b""
        while not end.endswith(b"--\r\n") and not end.endswith(b"0\r\n\r\n"):
            end = (end + await peer.skip())[-8:]
        await peer.send(TAKEN)

    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(40):
            yield bytes(5 << 20)

    async with ByteServer(swallow) as server:
        with path.open("rb") as opened:
            sources = {"path": of(path, size), "open file": of(opened, size)}
            source = sources.get(kind) or of(pieces(), None)
            tracemalloc.start()
            try:
                await send(server.url, source)
                assert tracemalloc.get_traced_memory()[1] < (13 if kind == "stream" else 8) << 20
            finally:
                tracemalloc.stop()
        assert source.sent == size


async def test_loop_is_never_blocked(film: Path) -> None:
    """The file is read off the event loop."""
    async with ByteServer(answer(TAKEN)) as server:
        with blockbuster_ctx("topaz_async"):
            await send(server.url, of(film, len(FILM)))


# -- when the connection breaks -----------------------------------------------------------------


async def _breaks_off(peer: Peer) -> None:
    await peer.head()
    await peer.some()
    peer.rst()


@pytest.mark.parametrize("kind", ["path", "bytes"])
async def test_from_the_start(film: Path, kind: str) -> None:
    """After a connection that broke the whole file is sent again, within the policy."""
    source = of(film if kind == "path" else FILM, len(FILM))
    async with ByteServer(_breaks_off, shut, answer(TAKEN)) as server:
        await send(server.url, source)
        assert server.connections == 3
        assert [form(seen)["file"][1] == FILM for seen in server.requests] == [True, True]
    async with ByteServer(_breaks_off) as server:
        with pytest.raises(TransportError) as caught:
            await send(server.url, source)
        assert server.connections == 3
    assert KEY not in everything_said(caught.value)


async def test_stream_is_not_sent_twice() -> None:
    """A stream whose connection broke is not sent again, and the error says why."""
    async with ByteServer(_breaks_off, answer(TAKEN)) as server:
        with pytest.raises(UploadError, match="A stream cannot be sent twice"):
            await send(server.url, of(stream(FILM, FILM, FILM), None))
        assert server.requests == []


async def test_stream_waits_for_a_connection(caplog: pytest.LogCaptureFixture) -> None:
    """A stream of which nothing was read is kept for the attempt that gets a connection."""
    source = of(stream(b"abc"), None)
    caplog.set_level("INFO", "topaz_async")
    with refused_port() as url, pytest.raises(ConnectError):
        await send(url, source)
    assert [message.split(",")[1] for message in caplog.messages] == [
        " attempt 1 of 3",
        " attempt 2 of 3",
    ]
    async with ByteServer(answer(TAKEN)) as server:
        await send(server.url, source)
        assert form(server.requests[0])["file"][1] == b"abc"


@pytest.mark.parametrize("script", [reset(), hang])
async def test_nobody_takes_it(script: Any) -> None:
    """A host that resets or never answers is an error of ours, in time."""
    async with ByteServer(script) as server:
        with pytest.raises(TransportError):
            await send(server.url, of(FILM, len(FILM)), attempts=1, timeout=0.3)


async def test_stall() -> None:
    """A host that stops reading in the middle is given up after the time for silence."""

    async def deaf(peer: Peer) -> None:
        await peer.head()
        await asyncio.sleep(5)

    content = bytes(64 << 20)
    async with ByteServer(deaf) as server:
        began = asyncio.get_running_loop().time()
        with pytest.raises(RequestTimeoutError, match=r"nothing of the upload for 0\.2 s"):
            await send(server.url, of(content, len(content)), attempts=2, stall=0.2)
        assert asyncio.get_running_loop().time() - began < 2.0
        assert server.connections == 2


@pytest.mark.parametrize(
    "said", [http(b"<html>", "502 Bad"), http(), say(None), say({"success": False})]
)
async def test_no_link(said: bytes) -> None:
    """An answer without a link is an error of ours."""
    async with ByteServer(answer(said)) as server:
        with pytest.raises(Exception, match=r"file-stream-upload|no link") as caught:
            await send(server.url, of(FILM, len(FILM)))
    assert type(caught.value).__module__ == "topaz_async.errors"


# -- when the file does not hold still ----------------------------------------------------------


def _shrink(film: Path) -> None:
    os.truncate(film, 2 << 20)


def _grow(film: Path) -> None:
    with film.open("ab") as file:
        file.write(b"more")


def _vanish(film: Path) -> None:
    film.unlink()


def _replace(film: Path) -> None:
    other = film.with_name("other")
    other.write_bytes(FILM[::-1])
    other.replace(film)


def _rewrite(film: Path) -> None:
    film.write_bytes(FILM[::-1])
    os.utime(film, (1, 1))  # clocks of file systems are coarse


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (_shrink, "changed while it was sent"),
        (_grow, "changed while it was sent"),
        (_vanish, "could not be read to its end: No such file"),
        (_replace, "changed while it was sent"),
        (_rewrite, "changed while it was sent"),
    ],
)
async def test_changed_while_sent(film: Path, change: Callable[[Path], None], words: str) -> None:
    """A file that is touched while it is sent is an error of ours; the host never has a whole."""
    touched: list[int] = []

    def after_the_first_chunk(progress: Progress) -> None:
        if not touched:
            touched.append(progress.bytes)
            change(film)

    source = of(film, len(FILM), after_the_first_chunk)
    async with ByteServer(answer(TAKEN)) as server:
        with pytest.raises(UploadError, match=words) as caught:
            await send(server.url, source)
        assert (server.requests, server.connections) == ([], 1)
    assert source.error is caught.value
    assert KEY not in everything_said(caught.value)


@pytest.mark.parametrize("size", [len(FILM) - 1, len(FILM) + 1, 1 << 20, 0])
async def test_other_size(film: Path, size: int) -> None:
    """A file of another size than it had when it was looked at is never sent whole."""
    async with ByteServer(answer(TAKEN)) as server:
        with pytest.raises(UploadError, match="changed while it was sent"):
            await send(server.url, of(film, size))
        assert server.requests == []


async def test_error_of_the_last_attempt(film: Path) -> None:
    """What went wrong in one attempt is forgotten when the next one begins."""
    source = of(film, len(FILM))
    film.rename(film.with_name("elsewhere"))
    async with ByteServer(answer(TAKEN)) as server:
        with pytest.raises(UploadError):
            await send(server.url, source)
        film.with_name("elsewhere").rename(film)
        await send(server.url, source)
    assert source.error is None


async def test_an_attempt_that_was_given_up_does_not_move_the_file() -> None:
    """Its thread may be reading still when the next attempt reads the same open file."""
    film = b"".join(bytes([number]) * (1 << 20) for number in range(3))
    pauses = [0.0, 0.35, 0.1]  # the second read outlasts the first attempt

    class Slow(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            time.sleep(pauses.pop(0) if pauses else 0.0)
            return super().read(size)

    async with ByteServer(hang, answer(TAKEN)) as server:
        await send(server.url, of(Slow(film), len(film)), timeout=0.3)
        assert form(server.requests[0])["file"][1] == film


async def test_a_reader_that_is_left_complains_to_nobody() -> None:
    """What went wrong in a chunk that nobody wanted any more is no news."""
    complaints: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, about: complaints.append(about))
    reads: list[int] = []

    class Broken(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            reads.append(self.tell())
            if self.tell():
                raise OSError("bad sector")
            return super().read(size)

    content: Any = of(Broken(FILM), len(FILM)).part("a.mp4", "video/mp4").open()
    assert await anext(content) == FILM[: 1 << 20]
    await until(lambda: len(reads) == 2)
    await asyncio.sleep(0.01)  # the thread's word reaches the loop
    await content.aclose()
    gc.collect()
    assert complaints == []


@contextlib.contextmanager
def left_to_the_collector() -> Iterator[list[object]]:
    """Generators that nobody closed before they were thrown away."""
    left: list[object] = []
    hooks = sys.get_asyncgen_hooks()

    def finalize(generator: Any) -> None:
        left.append(generator)
        if hooks.finalizer is not None:
            hooks.finalizer(generator)

    sys.set_asyncgen_hooks(hooks.firstiter, finalize)
    try:
        yield left
    finally:
        sys.set_asyncgen_hooks(*hooks)


@pytest.mark.parametrize("kind", ["path", "bytes"])
async def test_source_is_closed(tmp_path: Path, kind: str) -> None:
    """What reads a source is closed when the connection breaks, not when memory is swept."""
    size, path = 32 << 20, tmp_path / "long.mp4"  # more than sockets take unseen
    with path.open("wb") as file:
        file.truncate(size)
    async with ByteServer(_breaks_off) as server:
        source = of(path if kind == "path" else path.read_bytes(), size)
        with left_to_the_collector() as left:
            with pytest.raises(TransportError):
                await send(server.url, source, attempts=1)
            await until(lambda: server.open == 0)
            gc.collect()
    assert left == []


async def test_stream_is_closed() -> None:
    """A stream that was cut is closed, though its caller still holds it."""
    closed = asyncio.Event()

    async def held() -> AsyncIterator[bytes]:
        try:
            while True:
                yield FILM
        finally:
            closed.set()

    chunks = held()
    async with ByteServer(_breaks_off) as server:
        with pytest.raises(UploadError):
            await send(server.url, of(chunks, None), attempts=1)
        async with asyncio.timeout(2.0):
            await closed.wait()


async def _fails() -> AsyncIterator[bytes]:
    yield FILM
    raise ValueError("the caller's own")


@pytest.mark.parametrize(
    ("chunks", "reason"),
    [
        (_fails, "ValueError"),
        (lambda: stream("text"), "TypeError"),
        (lambda: stream(5), "TypeError"),
    ],
)
async def test_stream_fails(chunks: Callable[[], AsyncIterator[Any]], reason: str) -> None:
    """A stream that raises, or gives no bytes, is an error of ours with the stream's as cause."""
    async with ByteServer(answer(TAKEN)) as server:
        with pytest.raises(UploadError, match=f"The stream failed: {reason}") as caught:
            await send(server.url, of(chunks(), None))
        assert server.requests == []
    assert type(caught.value.__cause__).__name__ == reason


# -- cancelled ----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["path", "bytes", "stream"])
async def test_cancelled_at_every_step(film: Path, kind: str) -> None:
    """Cancelled at any step, an upload leaves no task, no connection and no open file."""
    async with ByteServer(answer(TAKEN)) as server:

        async def call() -> UploadedFile:
            if kind == "stream":
                return await send(server.url, of(stream(FILM, FILM), None))
            source = of(film if kind == "path" else FILM, len(FILM))
            return await send(server.url, source)

        async def afterwards(victim: asyncio.Task[Any]) -> None:
            assert victim.cancelled() or victim.result().url == LINK
            await until(lambda: server.open == 0)

        assert await cancel_at_every_step(call, afterwards) > 10
