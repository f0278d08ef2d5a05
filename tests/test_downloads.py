"""Downloads: a file is whole at its name or not there, whatever the host does."""

from __future__ import annotations

import asyncio
import bz2
import errno
import gzip
import logging
import lzma
import mmap
import os
import subprocess
import sys
import threading
import time
import tracemalloc
import weakref
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from blockbuster import blockbuster_ctx

from topaz_async import downloads
from topaz_async.downloads import Downloader
from topaz_async.errors import (
    DownloadError,
    FileError,
    IntegrityError,
    LinkExpiredError,
    TooLargeError,
    UnsafeUrlError,
)
from topaz_async.hosts import Hosts
from topaz_async.parts import Part
from topaz_async.sessions import USER_AGENT, make_session
from topaz_async.settings import Quotas, RetryPolicy, Timeouts
from topaz_async.transfers import Progress

from .byteserver import (
    BROKEN,
    PAGE,
    ByteServer,
    Peer,
    Script,
    answer,
    cancel_at_every_step,
    hang,
    http,
    no_traces,
    refused_port,
    shut,
    then,
    until,
)

ROOT = Path(__file__).parents[1]
FILM = b"\x00\x00\x00\x18ftypisom" + bytes(12) + b"\0\0\0\x08moov" + bytes(range(256)) * 40
#: A film of one box of 30 000 bytes, of which 10 000 are in the packing.
#: Nobody unpacks this.
_PACKED = "Content-Encoding: x-unheard-of"
CUT_PACKING = gzip.compress(FILM[:24] + (30_000).to_bytes(4) + b"mdat" + bytes(10_000))
CHUNKED = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.fixture(autouse=True)
async def _nothing_stays() -> AsyncIterator[None]:
    async with no_traces():
        yield


def files_session(hosts: Hosts | None = None) -> aiohttp.ClientSession:
    return make_session(
        fresh=False,
        limit=0,
        connect_timeout=1.0,
        ssl=True,
        local_addr=None,
        socket_factory=(hosts or Hosts(allow_private=True)).socket_to,
    )


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with files_session() as made:
        yield made


def downloader(
    session: aiohttp.ClientSession,
    *,
    hosts: Hosts | None = None,
    attempts: int = 1,
    **changes: Any,
) -> Downloader:
    values: dict[str, Any] = {
        "hosts": hosts or Hosts(allow_private=True),
        "timeouts": Timeouts(),
        "quotas": Quotas(),
        "retry": RetryPolicy(attempts=attempts, first=0.001, longest=0.001),
        "proxy_for": lambda url: None,
    }
    return Downloader(lambda *, proxied: session, **{**values, **changes})


# -- in fair weather ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "said",
    [
        http(FILM),
        CHUNKED.encode() + b"%x\r\n%b\r\n0\r\n\r\n" % (len(FILM), FILM),
        b"HTTP/1.0 200 OK\r\n\r\n" + FILM,
        http(gzip.compress(FILM), "200 OK", "Content-Encoding: gzip"),
    ],
    ids=["length", "chunks", "until the end", "packed"],
)
async def test_whole(session: aiohttp.ClientSession, tmp_path: Path, said: bytes) -> None:
    """A file comes whole, into folders that are made for it; nothing else is written."""
    target = tmp_path / "a" / "b" / "film.mp4"
    async with ByteServer(then(said)) as server:
        url = f"{server.url}/film.mp4?signature=1"
        assert await downloader(session).fetch(url, target) == target
        assert target.read_bytes() == FILM
        assert list(target.parent.iterdir()) == [target]
        (seen,) = server.requests
        assert (seen.method, seen.path) == ("GET", "/film.mp4?signature=1")
        assert seen.headers["user-agent"] == USER_AGENT
        assert seen.headers["accept-encoding"] == "identity"
        assert not {"authorization", "cookie", "referer"} & seen.headers.keys()


async def test_half_a_film_until_the_end(
    session: aiohttp.ClientSession, tmp_path: Path, clip: Path
) -> None:
    """Where only the end of the connection ends a film, half of one is no file; a whole one is."""
    film, target = clip.read_bytes(), tmp_path / "film.mp4"
    head = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n"
    half = then(head + film[: len(film) // 2])
    async with ByteServer(half) as server:
        with pytest.raises(IntegrityError, match="ends in its middle") as caught:
            await downloader(session).fetch(server.url, target)
        assert (caught.value.retryable, caught.value.billed) == (True, "yes")
    assert list(tmp_path.iterdir()) == []
    async with ByteServer(half, then(head + film)) as server:
        await downloader(session, attempts=2).fetch(server.url, target)
        assert len(server.requests) == 2
    assert target.read_bytes() == film


async def test_looks_at_the_beginning(session: aiohttp.ClientSession, tmp_path: Path) -> None:
    """A film that ends in a megabyte of text is a film."""
    film = FILM + b"text " * 250_000
    async with ByteServer(answer(http(film))) as server:
        path = await downloader(session).fetch(server.url, tmp_path / "film.mp4")
    assert path.read_bytes() == film


async def test_progress(session: aiohttp.ClientSession, tmp_path: Path) -> None:
    """Progress ends with every byte, and a listener that fails does not fail the download."""
    told: list[Progress] = []

    def listen(progress: Progress) -> None:
        told.append(progress)
        raise ValueError("the listener's own")

    async with ByteServer(answer(http(FILM))) as server:
        await downloader(session).fetch(server.url, tmp_path / "a.mp4", on_progress=listen)
    assert (told[-1].bytes, told[-1].total) == (len(FILM), len(FILM))


async def test_kept_by_default(session: aiohttp.ClientSession, tmp_path: Path) -> None:
    """A file that came to the name meanwhile is left alone, unless it may be replaced."""
    target = tmp_path / "film.mp4"

    async def somebody_else(peer: Peer) -> None:
        await peer.request()
        target.write_bytes(b"theirs")
        await peer.send(http(FILM))

    async with ByteServer(somebody_else) as server:
        with pytest.raises(DownloadError, match="File exists"):
            await downloader(session).fetch(server.url, target)
        assert target.read_bytes() == b"theirs"
        await downloader(session).fetch(server.url, target, overwrite=True)
        assert target.read_bytes() == FILM
    assert list(tmp_path.iterdir()) == [target]


async def test_link_is_replaced(session: aiohttp.ClientSession, tmp_path: Path) -> None:
    """A symbolic link at the name is replaced, not followed."""
    other, target = tmp_path / "other", tmp_path / "film.mp4"
    other.write_bytes(b"old")
    target.symlink_to(other)
    async with ByteServer(answer(http(FILM))) as server:
        with pytest.raises(DownloadError, match="File exists"):
            await downloader(session).fetch(server.url, target)
        await downloader(session).fetch(server.url, target, overwrite=True)
    assert (other.read_bytes(), target.is_symlink(), target.read_bytes()) == (b"old", False, FILM)


async def test_long_name(session: aiohttp.ClientSession, tmp_path: Path) -> None:
    """A name as long as names may be is no hindrance, in any script."""
    target = tmp_path / ("电" * 83 + ".mp4")
    async with ByteServer(answer(http(FILM))) as server:
        await downloader(session).fetch(server.url, target)
    assert target.read_bytes() == FILM


async def test_constant_memory(session: aiohttp.ClientSession, tmp_path: Path) -> None:
    """200 MB pass through less than 20 MB of memory."""
    size, piece = 200 << 20, bytes(1 << 20)

    async def long(peer: Peer) -> None:
        await peer.request()
        await peer.send(http(FILM[:16], length=16 + size))
        for _ in range(size // len(piece)):
            await peer.send(piece)

    target = tmp_path / "film.mp4"
    async with ByteServer(long) as server:
        tracemalloc.start()
        try:
            await downloader(session).fetch(server.url, target)
            assert tracemalloc.get_traced_memory()[1] < 20 << 20
        finally:
            tracemalloc.stop()
    assert target.stat().st_size == 16 + size
    target.unlink()


async def test_loop_is_never_blocked(session: aiohttp.ClientSession, tmp_path: Path) -> None:
    """Everything that touches the disk runs off the event loop."""
    async with ByteServer(answer(http(FILM))) as server:
        brings = downloader(session)
        with blockbuster_ctx("topaz_async"):
            await brings.fetch(server.url, tmp_path / "a" / "film.mp4")
            await brings.fetch(server.url, tmp_path / "a" / "film.mp4", overwrite=True)
            with pytest.raises(DownloadError):
                await brings.fetch(server.url, tmp_path / "a" / "film.mp4")


async def test_so_many_at_once(session: aiohttp.ClientSession, tmp_path: Path) -> None:
    """No more downloads run at once than the quota says."""
    most = 0

    async def count(peer: Peer) -> None:
        nonlocal most
        await peer.request()
        most = max(most, server.open)
        await asyncio.sleep(0.01)
        await peer.send(http(FILM, "200 OK", "Connection: close"))

    async with ByteServer(count) as server:
        brings = downloader(session, quotas=Quotas(downloads=2))
        await asyncio.gather(
            *(brings.fetch(server.url, tmp_path / f"{number}.mp4") for number in range(8))
        )
    assert most == 2
    assert len(list(tmp_path.iterdir())) == 8


# -- what a host may do -------------------------------------------------------------------------

BAD: dict[str, tuple[Script, type[FileError], str]] = {
    "a page": (answer(http(PAGE)), IntegrityError, "a text, not a video: <!doctype html>"),
    "a long page": (answer(http(PAGE * 200)), IntegrityError, "a text, not a video"),
    "XML": (answer(http(b"<?xml version='1.0'?><Error/>")), IntegrityError, "a text"),
    "an answer of the API": (answer(http(b'{"code":404}')), IntegrityError, '{"code":404}'),
    "Chinese": (answer(http("文件不存在".encode() * 300)), IntegrityError, "文件不存在"),
    "GBK": (
        answer(
            http("文件不存在，链接已经过期了。".encode("gbk"), "200 OK", "Content-Type: text/html")
        ),
        IntegrityError,
        "a text",
    ),
    "a GBK page": (
        answer(http("<!DOCTYPE html><title>文件已过期".encode("gbk"))),
        IntegrityError,
        "a text",
    ),
    "a Latin page": (answer(http("<html>Accès refusé".encode("latin-1"))), IntegrityError, "text"),
    "a UTF-16 page": (answer(http(PAGE.decode().encode("utf-16"))), IntegrityError, "a text"),
    "a page with a NUL": (answer(http(b"\n<html>\0" + PAGE)), IntegrityError, "a text"),
    "a problem in JSON": (
        answer(http(b'{"\xff": 1}', "200 OK", "Content-Type: application/problem+json")),
        IntegrityError,
        "a text",
    ),
    "a packed page": (answer(http(gzip.compress(PAGE))), IntegrityError, "a gzip archive"),
    **{
        f"packed by {name}": (answer(http(packed, "200 OK", _PACKED)), IntegrityError, "archive")
        for name, packed in {
            "bzip2": bz2.compress(FILM),
            "xz": lzma.compress(FILM),
            "zstd": b"\x28\xb5\x2f\xfd\x04\x00\x99\xff",
        }.items()
    },
    "a PDF": (answer(http(b"%PDF-1.7\n\xff\xff")), IntegrityError, "a PDF document"),
    "nothing": (answer(http()), IntegrityError, "is empty"),
    "a part said to be all": (
        answer(http(FILM[:1000], "200 OK", f"Content-Range: bytes 0-999/{len(FILM)}")),
        DownloadError,
        "a part of the file as if it were all",
    ),
    "a range without sense": (
        answer(http(FILM, "200 OK", "Content-Range: pages 1-2")),
        DownloadError,
        "a part of the file",
    ),
    "a cut inside a packing, as long as it says": (
        answer(http(CUT_PACKING, "200 OK", "Content-Encoding: gzip")),
        IntegrityError,
        "ends in its middle",
    ),
    "a cut inside a packing, with a last chunk": (
        answer(
            CHUNKED.replace("\r\n\r\n", "\r\nContent-Encoding: gzip\r\n\r\n").encode()
            + b"%x\r\n%b\r\n0\r\n\r\n" % (len(CUT_PACKING), CUT_PACKING)
        ),
        IntegrityError,
        "ends in its middle",
    ),
    "a coding nobody asked for": (
        then(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: xchunked\r\n\r\n" + FILM),
        DownloadError,
        "in the coding 'xchunked'",
    ),
    "a cut": (then(http(FILM, length=len(FILM) + 1)), DownloadError, "broke off"),
    "a cut in a chunk": (then(CHUNKED.encode() + b"ffff\r\n" + FILM), DownloadError, "broke off"),
    "no last chunk": (
        then(CHUNKED.encode() + b"%x\r\n%b\r\n" % (len(FILM), FILM)),
        DownloadError,
        "broke off",
    ),
    "403": (answer(http(PAGE, "403 Forbidden")), LinkExpiredError, "is dead (HTTP 403)"),
    "404": (answer(http(PAGE, "404 Not Found")), LinkExpiredError, "is dead (HTTP 404)"),
    "410": (answer(http(PAGE, "410 Gone")), LinkExpiredError, "is dead (HTTP 410)"),
    "401": (answer(http(PAGE, "401 No")), DownloadError, "answered HTTP 401"),
    "429": (answer(http(PAGE, "429 Later")), DownloadError, "answered HTTP 429"),
    "500": (answer(http(PAGE, "500 Oops")), DownloadError, "answered HTTP 500"),
    "a part": (answer(http(FILM, "206 Partial")), DownloadError, "answered HTTP 206"),
    "no content": (then(b"HTTP/1.1 204 No\r\n\r\n"), DownloadError, "answered HTTP 204"),
    "too much, as announced": (
        answer(http(FILM, length=1 << 40)),
        TooLargeError,
        "1099511627776 bytes or more; the limit is 20000",
    ),
    "too much": (
        then(CHUNKED.encode() + b"5000\r\n" + FILM[:16] + bytes(0x5000 - 16), stay=True),
        TooLargeError,
        "the limit is 20000",
    ),
    "too much when unpacked": (
        answer(http(gzip.compress(FILM + bytes(1 << 20)), "200 OK", "Content-Encoding: gzip")),
        TooLargeError,
        "the limit is 20000",
    ),
    "a packing nobody knows": (
        answer(http(FILM, "200 OK", "Content-Encoding: gzip")),
        DownloadError,
        "broke off",
    ),
}


@pytest.mark.parametrize("name", BAD)
async def test_bad_content(session: aiohttp.ClientSession, tmp_path: Path, name: str) -> None:
    """What is no whole film is refused in words; the old file stays, and nothing beside it."""
    script, expected, words = BAD[name]
    target = tmp_path / "film.mp4"
    target.write_bytes(b"old")
    async with ByteServer(script) as server:
        brings = downloader(session, quotas=Quotas(max_download_bytes=20_000))
        with pytest.raises(expected) as caught:
            await brings.fetch(f"{server.url}/f?signature=secret", target, overwrite=True)
        assert type(caught.value) is expected
        assert words in caught.value.message
        assert caught.value.billed == "yes"
        assert "secret" not in str(caught.value)
        await until(lambda: server.open == 0 or server.connections == len(server.requests))
    assert {place: place.read_bytes() for place in tmp_path.iterdir()} == {target: b"old"}


@pytest.mark.parametrize("name", ["reset before the request", *BROKEN])
async def test_broken_peer(session: aiohttp.ClientSession, tmp_path: Path, name: str) -> None:
    """Whatever a host does byte by byte, a download ends in time and leaves the old file."""
    script, by_the_clock = BROKEN.get(name, (shut, False))
    target = tmp_path / "film.mp4"
    target.write_bytes(b"old")
    timeouts = Timeouts(stall=0.2, download=0.4) if by_the_clock else Timeouts()
    async with ByteServer(script) as server:
        brings = downloader(session, timeouts=timeouts, quotas=Quotas(max_download_bytes=1 << 20))
        began = asyncio.get_running_loop().time()
        with pytest.raises(FileError) as caught:
            await brings.fetch(f"{server.url}/f?signature=secret", target, overwrite=True)
        assert asyncio.get_running_loop().time() - began < 2.0
        if by_the_clock:
            words = (
                "took longer than 0.4 s" if name == "a body that drips" else "stood still for 0.2 s"
            )
            assert words in str(caught.value)
        assert server.connections == 1
        assert "secret" not in str(caught.value)
        assert not isinstance(caught.value.__context__, aiohttp.ClientError)
    assert {place: place.read_bytes() for place in tmp_path.iterdir()} == {target: b"old"}


async def test_drip_in_the_middle(session: aiohttp.ClientSession, tmp_path: Path) -> None:
    """A film that drips for ever ends with the time for a whole download, all attempts in it."""

    async def slowly(peer: Peer) -> None:
        await peer.request()
        await peer.send(http(FILM, length=10**9))
        while True:
            await peer.send(b"\x00")
            await asyncio.sleep(0.005)

    async with ByteServer(slowly) as server:
        timeouts = Timeouts(stall=5.0, download=0.3)
        with pytest.raises(DownloadError, match=r"took longer than 0\.3 s"):
            await downloader(session, timeouts=timeouts, attempts=3).fetch(
                server.url, tmp_path / "film.mp4"
            )
        assert server.connections == 1
    assert list(tmp_path.iterdir()) == []


async def test_begun_again(session: aiohttp.ClientSession, tmp_path: Path) -> None:
    """A download that broke is begun again, and again only so often."""
    cut = then(http(FILM, length=len(FILM) + 1))
    async with ByteServer(shut, cut, answer(http(FILM))) as server:
        target = tmp_path / "film.mp4"
        await downloader(session, attempts=3).fetch(server.url, target)
        assert target.read_bytes() == FILM
        assert len(server.requests) == 3
    async with ByteServer(cut) as server:
        with pytest.raises(DownloadError):
            await downloader(session, attempts=3).fetch(server.url, tmp_path / "other.mp4")
        assert len(server.requests) == 3
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize("status", ["408 Timeout", "425 Early", "429 Later", "503 Busy"])
async def test_what_passes_is_tried_again(
    session: aiohttp.ClientSession, tmp_path: Path, status: str
) -> None:
    """What a host will do later is asked for later."""
    async with ByteServer(answer(http(PAGE, status), http(FILM))) as server:
        target = tmp_path / "film.mp4"
        await downloader(session, attempts=2).fetch(server.url, target)
        assert target.read_bytes() == FILM
        assert len(server.requests) == 2


async def test_a_host_is_given_the_time_it_asks_for(
    session: aiohttp.ClientSession, tmp_path: Path
) -> None:
    """`Retry-After` is waited for, within reason and within the time for the whole download."""
    moments: list[float] = []

    async def busy(peer: Peer) -> None:
        await peer.request()
        moments.append(asyncio.get_running_loop().time())
        await peer.send(http(PAGE, "503 Busy", "Retry-After: 0.25"))

    async with ByteServer(busy) as server:
        with pytest.raises(DownloadError) as caught:
            await downloader(session, attempts=2).fetch(server.url, tmp_path / "film.mp4")
        assert caught.value.retry_after == 0.25
        assert moments[1] - moments[0] >= 0.25
    later = answer(http(PAGE, "503 Busy", "Retry-After: 99999"))
    async with ByteServer(later) as server:
        with pytest.raises(DownloadError, match=r"took longer than 0\.1 s"):
            await downloader(session, attempts=2, timeouts=Timeouts(download=0.1)).fetch(
                server.url, tmp_path / "film.mp4"
            )


async def test_a_slow_disk_is_no_silence(
    session: aiohttp.ClientSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The time in which this side cannot take what comes is not counted against the host."""
    usual = Part.write

    def slowly(part: Part, data: memoryview) -> None:
        time.sleep(0.4)
        usual(part, data)

    monkeypatch.setattr(Part, "write", slowly)
    film = FILM + bytes(5 << 20)
    async with ByteServer(answer(http(film))) as server:
        target = tmp_path / "film.mp4"
        await downloader(session, timeouts=Timeouts(stall=0.2)).fetch(server.url, target)
    assert target.stat().st_size == len(film)


async def test_a_file_that_has_its_name_is_no_failure(
    session: aiohttp.ClientSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When the time runs out while the whole file gets its name, it is there, and said to be."""
    usual = Part.publish

    def slowly(part: Part, *args: Any, **kwargs: Any) -> Path:
        time.sleep(0.4)
        return usual(part, *args, **kwargs)

    monkeypatch.setattr(Part, "publish", slowly)
    async with ByteServer(answer(http(FILM))) as server:
        target = tmp_path / "film.mp4"
        brings = downloader(session, timeouts=Timeouts(download=0.2))
        assert target == await brings.fetch(server.url, target)
    assert target.read_bytes() == FILM


async def test_a_link_is_sent_letter_by_letter(
    session: aiohttp.ClientSession, tmp_path: Path
) -> None:
    """Some hosts sign a link as it is written: nothing in it is encoded anew."""
    paths = [
        "/a%21b/./c.mp4?sig=a%2Fb%2Bc%3D%2C%7E%27&x=1+2",
        "/%E6%96%87.mp4?q=%25~'!",
        "/a%20b.mp4",
    ]
    steps = [
        http(b"", "302 Found", f"Location: {path}".replace("a%20b", "a b")) for path in paths[1:]
    ]
    async with ByteServer(answer(*steps, http(FILM))) as server:
        await downloader(session).fetch(f"{server.url}{paths[0]}", tmp_path / "film.mp4")
        assert paths == [seen.path for seen in server.requests]


@pytest.mark.parametrize("name", ["404", "a part", "too much, as announced"])
async def test_not_begun_again(session: aiohttp.ClientSession, tmp_path: Path, name: str) -> None:
    """What would end alike is not tried again."""
    async with ByteServer(BAD[name][0]) as server:
        brings = downloader(session, attempts=3, quotas=Quotas(max_download_bytes=20_000))
        with pytest.raises(FileError):
            await brings.fetch(server.url, tmp_path / "film.mp4")
        assert len(server.requests) == 1


async def test_unreachable(session: aiohttp.ClientSession, tmp_path: Path) -> None:
    """A host that is not there is an error of ours, without the link's signature."""
    with refused_port() as url, pytest.raises(DownloadError, match="could not be reached") as e:
        await downloader(session).fetch(f"{url}/f?signature=secret", tmp_path / "film.mp4")
    assert "secret" not in str(e.value)
    assert e.value.__context__ is None
    assert list(tmp_path.iterdir()) == []


# -- where a link may lead ----------------------------------------------------------------------


async def test_redirects(session: aiohttp.ClientSession, tmp_path: Path) -> None:
    """Five redirects are followed, relative ones too; the sixth is not."""
    for count in (5, 6):
        async with ByteServer(answer(http(FILM))) as other:
            steps = [
                http(b"", f"30{1 + n % 3} X", f"Location: /{n}" if n < count - 1 else
                     f"Location: {other.url}/film")
                for n in range(count)
            ]  # fmt: skip
            async with ByteServer(answer(*steps)) as server:
                fetch = downloader(session).fetch(server.url, tmp_path / f"{count}.mp4")
                if count == 5:
                    assert (await fetch).read_bytes() == FILM
                else:
                    with pytest.raises(DownloadError, match="more than 5 redirects"):
                        await fetch
                assert len(other.requests) == (count == 5)
    assert [place.name for place in tmp_path.iterdir()] == ["5.mp4"]


@pytest.mark.parametrize(
    "location",
    [
        "http://films.example/film.mp4",
        "ftp://127.0.0.1/film.mp4",
        "file:///etc/passwd",
        "data:video/mp4;base64,AAAA",
        "https://user:word@films.example/film.mp4",
        "https:///film.mp4",
        "//films.example/film.mp4",
    ],
)
async def test_unsafe_redirect(
    session: aiohttp.ClientSession, tmp_path: Path, location: str
) -> None:
    """A redirect to anything but https, or http on this machine, is refused."""
    there = http(b"", "302 Found", f"Location: {location}")
    async with ByteServer(answer(there)) as server:
        with pytest.raises(UnsafeUrlError):
            await downloader(session, attempts=3).fetch(server.url, tmp_path / "film.mp4")
        assert len(server.requests) == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("location", ["", "http://[", "http://127.0.0.1:99999/"])
async def test_redirect_to_nowhere(
    session: aiohttp.ClientSession, tmp_path: Path, location: str
) -> None:
    """A redirect that is no place ends in an error of ours."""
    there = http(b"", "302 Found", f"Location: {location}")
    async with ByteServer(answer(there)) as server:
        with pytest.raises(DownloadError):
            await downloader(session).fetch(server.url, tmp_path / "film.mp4")


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]", "127.9.9.9", "LOCALHOST."])
async def test_this_machine(session: aiohttp.ClientSession, tmp_path: Path, host: str) -> None:
    """A link to this machine is refused before it is followed, unless that is allowed."""
    async with ByteServer(hang) as server:
        brings = downloader(session, hosts=Hosts(allow_private=False))
        for scheme in ("http", "https"):
            with pytest.raises(UnsafeUrlError):
                await brings.fetch(f"{scheme}://{host}:{server.port}/", tmp_path / "film.mp4")
        assert server.connections == 0


# -- what a disk may do -------------------------------------------------------------------------


async def test_folder_vanishes(session: aiohttp.ClientSession, tmp_path: Path) -> None:
    """A folder that vanishes in the middle is an error of ours."""
    target = tmp_path / "folder" / "film.mp4"
    big = FILM + bytes(3 << 20)

    async def removes(peer: Peer) -> None:
        await peer.request()
        await peer.send(http(big)[:-1])
        await until(lambda: target.parent.exists() and list(target.parent.iterdir()))
        for place in target.parent.iterdir():
            place.unlink()
        target.parent.rmdir()
        await peer.send(big[-1:])

    async with ByteServer(removes) as server:
        with pytest.raises(DownloadError, match="could not be written: No such file"):
            await downloader(session, attempts=3).fetch(server.url, target)
        assert len(server.requests) == 1
    assert list(tmp_path.iterdir()) == []


async def test_no_folder(session: aiohttp.ClientSession, tmp_path: Path) -> None:
    """A file in place of the folder, and a folder in place of the file, are errors of ours."""
    (tmp_path / "file").write_bytes(b"old")
    (tmp_path / "film.mp4").mkdir()
    async with ByteServer(answer(http(FILM))) as server:
        for target in (tmp_path / "file" / "film.mp4", tmp_path / "film.mp4"):
            with pytest.raises(DownloadError, match="could not be written") as caught:
                await downloader(session).fetch(server.url, target, overwrite=True)
            assert (caught.value.retryable, caught.value.billed) == (False, "yes")
    assert sorted(place.name for place in tmp_path.iterdir()) == ["file", "film.mp4"]
    assert list((tmp_path / "film.mp4").iterdir()) == []


FULL = """
import asyncio, resource, sys
from pathlib import Path
from tests.test_downloads import FILM, downloader, files_session
from tests.byteserver import ByteServer, answer, http
from topaz_async.errors import DownloadError

async def main():
    target = Path(sys.argv[1]) / "film.mp4"
    target.write_bytes(b"old")
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]),) * 2)
    session = files_session()
    async with session, ByteServer(answer(http(FILM[:16] + bytes(int(sys.argv[3]))))) as server:
        try:
            await downloader(session, attempts=3).fetch(server.url, target, overwrite=True)
        except DownloadError as error:
            print(error.message, len(server.requests))
    print([place.name for place in target.parent.iterdir()], target.read_bytes())

asyncio.run(main())
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX")
@pytest.mark.parametrize(("room", "size"), [(1 << 20, 3 << 20), (1000, 2000)])
def test_full_disk(tmp_path: Path, room: int, size: int) -> None:
    """A disk without room for the whole is an error of ours, and the old file stays."""
    child = subprocess.run(
        [sys.executable, "-W", "error", "-c", FULL, str(tmp_path), str(room), str(size)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert child.stderr == ""
    assert child.stdout.splitlines() == [
        "The file could not be written: File too large. 1",
        "['film.mp4'] b'old'",
    ]


# -- cancelled ----------------------------------------------------------------------------------


@pytest.mark.parametrize("overwrite", [False, True])
async def test_cancelled_at_every_step(tmp_path: Path, overwrite: bool) -> None:
    """Cancelled at any step, a download leaves the old file or the new one, and nothing else."""
    target = tmp_path / "film.mp4"
    big = FILM + bytes(3 << 20)
    there = http(b"", "302 Found", "Location: /film.mp4")

    async with ByteServer(answer(there, http(big))) as server:

        async def call() -> None:
            target.unlink(missing_ok=True)
            if overwrite:
                target.write_bytes(b"old")
            async with files_session() as session:
                await downloader(session).fetch(server.url, target, overwrite=overwrite)

        async def afterwards(victim: asyncio.Task[Any]) -> None:
            left = {place.name: place.read_bytes() for place in tmp_path.iterdir()}
            wanted = [{"film.mp4": big}, {"film.mp4": b"old"} if overwrite else {}]
            assert left in wanted if victim.cancelled() else left == wanted[0]
            await until(lambda: server.open == 0)

        assert await cancel_at_every_step(call, afterwards) > 20


@pytest.mark.parametrize("step", ["find", "begin", "write"])
async def test_cancelled_while_the_disk_is_busy(
    session: aiohttp.ClientSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """A caller cancelled, even twice, while a thread is making the file leaves none."""
    usual, free, busy = getattr(Part, step), threading.Event(), threading.Event()

    def slowly(part: Part, *args: Any) -> None:
        busy.set()
        assert free.wait(10)
        usual(part, *args)

    monkeypatch.setattr(Part, step, slowly)
    target = tmp_path / "new" / "film.mp4"
    length = len(FILM) + (step != "write")  # a byte that never comes
    async with ByteServer(answer(http(FILM, "200 OK", 'ETag: "1"', length=length))) as server:
        caller = asyncio.create_task(downloader(session).fetch(server.url, target))
        try:
            await until(busy.is_set)
            caller.cancel()
            await asyncio.sleep(0)
            caller.cancel()
            await asyncio.sleep(0.01)
            assert not caller.done()
        finally:
            free.set()
        with pytest.raises(asyncio.CancelledError):
            await caller
        assert [place for place in tmp_path.rglob("*") if place.is_file()] == []


async def test_memory_is_used_again(
    session: aiohttp.ClientSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Transfers after each other share memory, transfers beside each other never do."""
    usual, made = downloads.pages, list[int]()

    def note(size: int) -> memoryview:
        made.append(size)
        return usual(size)

    monkeypatch.setattr(downloads, "pages", note)
    films = [FILM[:12] + bytes([number]) * 9_000_000 for number in range(3)]

    async def answers(peer: Peer) -> None:
        request = await peer.request()
        await peer.send(http(films[int(request.path[1:])]))

    brings = downloader(session)
    async with ByteServer(answers) as server:
        for number in (0, 1, 2):
            await brings.fetch(f"{server.url}/{number}", tmp_path / f"{number}.mp4")
        assert len(made) == 1
        await asyncio.gather(
            *(brings.fetch(f"{server.url}/{n}", tmp_path / f"{n}-2.mp4") for n in range(3))
        )
        assert len(made) == 3
        await brings.fetch(f"{server.url}/0", tmp_path / "0-3.mp4")
        assert len(made) == 3
    for place in tmp_path.iterdir():
        assert place.read_bytes() == films[int(place.name[0])]


async def test_a_connection_that_breaks_in_an_odd_way(
    session: aiohttp.ClientSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever ends an attempt, all bytes that came are written before the next one goes on."""
    film, usual = FILM + bytes(3_000_000), aiohttp.StreamReader.readany
    come, begins = [0], list[int]()

    async def breaks(reader: aiohttp.StreamReader) -> bytes:
        if len(begins) == 1 and come[0] > 1_200_000:
            raise OSError(errno.ENOTCONN, "odd")
        chunk = await usual(reader)
        come[0] += len(chunk)
        return chunk

    async def answers(peer: Peer) -> None:
        asked = (await peer.request()).headers.get("range", "bytes=0-")
        begin = int(asked.removeprefix("bytes=").removesuffix("-"))
        span = f"Content-Range: bytes {begin}-{len(film) - 1}/{len(film)}"
        status = ["206 Partial Content", 'ETag: "1"', span] if begin else ["200 OK", 'ETag: "1"']
        begins.append(begin)
        await peer.send(http(film[begin:], *status))

    monkeypatch.setattr(aiohttp.StreamReader, "readany", breaks)
    async with ByteServer(answers) as server:
        path = await downloader(session, attempts=2).fetch(server.url, tmp_path / "film.mp4")
        assert path.read_bytes() == film
    assert begins[0] == 0
    assert 1_200_000 < begins[1] <= come[0] - (len(film) - begins[1])


def drips(film: bytes, size: int, pause: float) -> Script:
    """Send a film in small pieces."""

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(http(b"", "200 OK", 'ETag: "1"', length=len(film)))
        for at in range(0, len(film), size):
            await peer.send(film[at : at + size])
            await asyncio.sleep(pause)

    return script


@pytest.mark.parametrize("failure", [OSError(errno.EDQUOT, "Disk quota exceeded"), ValueError()])
async def test_a_disk_that_fails_while_a_slow_host_sends(
    session: aiohttp.ClientSession,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    failure: Exception,
) -> None:
    """Nobody waits for more of what cannot be written, and no other attempt is made."""

    def fail(part: Part, mark: object) -> None:
        raise failure

    monkeypatch.setattr(Part, "begin", fail)
    async with ByteServer(drips(FILM, 100, 0.05)) as server:
        began = time.monotonic()
        with pytest.raises(DownloadError, match="could not be written") as caught:
            await downloader(session, attempts=3).fetch(server.url, tmp_path / "film.mp4")
        assert time.monotonic() - began < 2  # the film takes five
        assert (len(server.requests), caught.value.retryable) == (1, False)
    assert list(tmp_path.iterdir()) == []


def goes_still_after(size: int) -> Script:
    """Send so much of a film."""
    film = FILM + bytes(9 << 20)

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(http(film[:size], "200 OK", 'ETag: "1"', length=len(film)))
        await peer.gone()

    return script


async def test_whoever_is_cancelled_waits_for_one_write(
    session: aiohttp.ClientSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a slow disk has not begun to write is not written for a file that is taken away."""
    free, writes = threading.Event(), list[int]()

    def slowly(part: Part, data: memoryview) -> None:
        writes.append(len(data))
        assert free.wait(10)

    monkeypatch.setattr(Part, "write", slowly)
    async with ByteServer(goes_still_after(3 << 20)) as server:
        caller = asyncio.create_task(downloader(session).fetch(server.url, tmp_path / "film.mp4"))
        await until(lambda: writes)
        await asyncio.sleep(0.2)  # two more have come
        caller.cancel()
        await asyncio.sleep(0.01)
        free.set()
        with pytest.raises(asyncio.CancelledError):
            await caller
    assert len(writes) == 1
    assert list(tmp_path.iterdir()) == []


async def test_a_disk_that_failed_is_the_reason_when_the_time_is_over(
    session: aiohttp.ClientSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bytes that could not be made durable are not gone on with."""

    def fail(part: Part, data: memoryview) -> None:
        time.sleep(0.1)  # by then nothing comes any more
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(Part, "write", fail)
    async with ByteServer(goes_still_after(1 << 20)) as server:
        brings = downloader(session, timeouts=Timeouts(download=0.5))
        with pytest.raises(DownloadError, match="could not be written: Input/output") as caught:
            await brings.fetch(server.url, tmp_path / "film.mp4")
    assert not caught.value.retryable
    assert list(tmp_path.iterdir()) == []


async def test_no_memory(
    session: aiohttp.ClientSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A machine that is full says so in our words."""

    def refuse(size: int) -> memoryview:
        raise OSError(errno.ENOMEM, "Cannot allocate memory")

    monkeypatch.setattr(downloads, "pages", refuse)
    async with ByteServer(answer(http(FILM))) as server:
        with pytest.raises(DownloadError, match=r"no memory .*: Cannot allocate") as caught:
            await downloader(session).fetch(server.url, tmp_path / "film.mp4")
        assert (caught.value.retryable, server.requests) == (True, [])


async def test_errors_hold_no_memory(
    session: aiohttp.ClientSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many downloads fail, and whoever keeps their errors, one memory stays."""
    made: list[weakref.ref[mmap.mmap]] = []

    def note(size: int) -> memoryview:
        memory = mmap.mmap(-1, size)
        made.append(weakref.ref(memory))
        return memoryview(memory)

    monkeypatch.setattr(downloads, "pages", note)
    (tmp_path / "there.mp4").write_bytes(b"old")
    page, cut = http(PAGE + bytes(2 << 20)), http(FILM, length=len(FILM) + 1)
    errors: list[BaseException] = []
    brings = downloader(session)
    for said in (page, cut, http(FILM)):

        async def says(peer: Peer, said: bytes = said) -> None:
            await peer.request()
            await peer.send(said)

        async with ByteServer(says) as server:
            fetches = [brings.fetch(server.url, tmp_path / "there.mp4") for _ in range(4)]
            found = await asyncio.gather(*fetches, return_exceptions=True)
            errors += [error for error in found if isinstance(error, DownloadError)]
    assert len(errors) == 12
    assert len(made) > 3
    assert 1 == sum(memory() is not None for memory in made)


async def test_a_disk_that_does_not_take_the_beginning(
    session: aiohttp.ClientSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What fails while more is coming ends the download, in words, with nothing left."""

    def fail(part: Part, mark: object) -> None:
        raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))

    monkeypatch.setattr(Part, "begin", fail)
    async with ByteServer(answer(http(FILM))) as server:
        with pytest.raises(DownloadError, match="not be written: Disk quota exceeded") as caught:
            await downloader(session, attempts=3).fetch(server.url, tmp_path / "film.mp4")
        assert (len(server.requests), caught.value.retryable) == (1, False)
    assert list(tmp_path.iterdir()) == []


async def test_a_program_that_keeps_its_threads_busy(
    session: aiohttp.ClientSession, tmp_path: Path
) -> None:
    """A transfer has a thread of its own, so work of the loop's own threads does not hold it up."""
    loop, free = asyncio.get_running_loop(), threading.Event()
    busy = [loop.run_in_executor(None, free.wait) for _ in range(64)]
    try:
        async with ByteServer(answer(http(FILM))) as server:
            fetch = downloader(session).fetch(server.url, tmp_path / "film.mp4")
            assert FILM == (await asyncio.wait_for(fetch, 10)).read_bytes()
    finally:
        free.set()
    await asyncio.gather(*busy)
    await loop.shutdown_default_executor()


async def test_logs(
    session: aiohttp.ClientSession, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A repeated download is logged without the link's signature."""
    caplog.set_level(logging.DEBUG)
    async with ByteServer(shut, answer(http(FILM))) as server:
        await downloader(session, attempts=2).fetch(
            f"{server.url}/f?signature=secret", tmp_path / "film.mp4"
        )
    assert "A download failed, attempt 1 of 2" in caplog.text
    assert not [r for r in caplog.records if r.name == "topaz_async" and "secret" in r.getMessage()]


async def test_a_rest_without_the_etag_is_glued_to_nothing(
    session: aiohttp.ClientSession, tmp_path: Path
) -> None:
    """A host that ignores If-Range and sends a part of another version: it begins anew."""
    old, new = FILM + b"a" * 3_000_000, FILM + b"b" * 3_000_000
    begins = []

    async def answers(peer: Peer) -> None:
        asked = (await peer.request()).headers.get("range")
        begins.append(asked)
        if len(begins) == 1:
            await peer.send(http(b"", "200 OK", 'ETag: "a"', length=len(old)) + old[:2_000_000])
            await asyncio.sleep(0.05)
        elif asked is not None:
            begin = int(asked.removeprefix("bytes=").removesuffix("-"))
            span = f"Content-Range: bytes {begin}-{len(new) - 1}/{len(new)}"
            await peer.send(http(new[begin:], "206 Partial Content", span))
        else:
            await peer.send(http(new, "200 OK", 'ETag: "b"'))

    async with ByteServer(answers) as server:
        path = await downloader(session, attempts=3).fetch(server.url, tmp_path / "film.mp4")
        assert path.read_bytes() == new
    assert (None, None) == (begins[0], begins[-1])
    assert 3 == len(begins)


@pytest.mark.parametrize("is_renewed", [False, True])
async def test_a_renewed_link_that_leads_nowhere_is_not_the_last_one(
    session: aiohttp.ClientSession, tmp_path: Path, is_renewed: bool
) -> None:
    """Whatever is wrong with a link that only was to help, the next one is tried."""

    async def answers(peer: Peer) -> None:
        while True:
            path = (await peer.request()).path
            status = {"/dead": "410 Gone", "/good": "200 OK"}.get(path, "401 Unauthorized")
            await peer.send(http(FILM, status))

    async with ByteServer(answers) as server:

        async def links() -> AsyncIterator[str]:
            yield f"{server.url}/denied"
            yield "http://10.0.0.1/unsafe"
            yield f"{server.url}/good"

        first = f"{server.url}/{'denied' if is_renewed else 'dead'}"
        path = await downloader(session).fetch(
            first, tmp_path / "film.mp4", renewals=links(), is_renewed=is_renewed
        )
        assert path.read_bytes() == FILM
        with pytest.raises(DownloadError):
            await downloader(session).fetch(
                f"{server.url}/denied", tmp_path / "other.mp4", renewals=links()
            )
