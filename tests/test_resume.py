"""A download that was cut goes on where it was, and never glues what does not belong together."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import itertools
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from topaz_async.errors import DownloadError, FileError, IntegrityError, LinkExpiredError
from topaz_async.parts import Part
from topaz_async.settings import Quotas, Timeouts
from topaz_async.transfers import Progress

from .byteserver import ByteServer, Peer, Script, answer, hang, http, no_traces, shut, then, until
from .test_downloads import FILM, downloader, files_session

ROOT = Path(__file__).parents[1]
#: Three batches and a bit, no two bytes alike at a distance that a wrong offset could have.
BIG = FILM[:16] + b"".join(number.to_bytes(4, "big") for number in range(800_000))
TAG = '"version-1"'
DATES = ("Last-Modified: Mon, 23 Nov 2026 04:00:00 GMT", "Date: Mon, 23 Nov 2026 05:00:00 GMT")


@pytest.fixture(autouse=True)
async def _nothing_stays() -> AsyncIterator[None]:
    async with no_traces():
        yield


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with files_session() as made:
        yield made


def cut(sent: int, *headers: str, film: bytes = BIG, status: str = "200 OK") -> Script:
    """Answer with a film that breaks off after so many bytes."""
    return then(http(film, status, *headers)[: -len(film)] + film[:sent])


def hosting(film: bytes = BIG, etag: str = TAG, *, stop: int | None = None) -> Script:
    """Answer as a host does that knows ranges; each answer ends after `stop` bytes."""

    async def script(peer: Peer) -> None:
        seen = await peer.request()
        first = 0
        if seen.headers.get("if-range") == etag:
            first = int(re.fullmatch(r"bytes=(\d+)-", seen.headers["range"])[1])  # type: ignore[index]
        if first >= len(film):
            await peer.send(http(b"", "416 No", f"Content-Range: bytes */{len(film)}"))
            return
        where = f"Content-Range: bytes {first}-{len(film) - 1}/{len(film)}"
        headers = [f"ETag: {etag}", *([where] if first else [])]
        rest = film[first:]
        said = http(rest, "206 Partial Content" if first else "200 OK", *headers)
        await peer.send(said if stop is None else said[: len(said) - len(rest) + stop])

    return script


def ranges(server: ByteServer) -> list[str | None]:
    return [seen.headers.get("range") for seen in server.requests]


def left(folder: Path) -> dict[str, bytes]:
    return {place.name: place.read_bytes() for place in folder.iterdir()}


# -- within a call ------------------------------------------------------------------------------


@pytest.mark.parametrize("headers", [(f"ETag: {TAG}",), DATES], ids=["ETag", "Last-Modified"])
async def test_goes_on(
    session: aiohttp.ClientSession, tmp_path: Path, headers: tuple[str, ...]
) -> None:
    """After a cut the rest alone is asked for, on the condition that the film is the same."""
    rest = f"Content-Range: bytes 2000000-{len(BIG) - 1}/{len(BIG)}"
    async with ByteServer(
        cut(2_000_000, *headers),
        then(http(BIG[2_000_000:], "206 Partial Content", rest, *headers)),
    ) as server:
        target = tmp_path / "film.mp4"
        await downloader(session, attempts=2).fetch(server.url, target)
        assert left(tmp_path) == {"film.mp4": BIG}
        assert ranges(server) == [None, "bytes=2000000-"]
        condition = headers[0].partition(": ")[2]
        assert server.requests[1].headers["if-range"] == condition
        assert server.requests[1].headers["accept-encoding"] == "identity"


async def test_goes_on_as_long_as_it_gets_further(
    session: aiohttp.ClientSession, tmp_path: Path
) -> None:
    """What brings a megabyte is no failed attempt; what brings nothing is one."""
    async with ByteServer(hosting(stop=1 << 20)) as server:
        await downloader(session, attempts=2).fetch(server.url, tmp_path / "film.mp4")
        assert left(tmp_path) == {"film.mp4": BIG}
        assert ranges(server) == [None, *(f"bytes={n << 20}-" for n in (1, 2, 3))]


async def test_the_same_beginning_again_and_again(
    session: aiohttp.ClientSession, tmp_path: Path
) -> None:
    """A host that can only begin anew, and breaks off each time, is not asked for ever."""
    long, short = cut(2_000_000), cut(500_000)
    async with ByteServer(*[long, short] * 20) as server:
        with pytest.raises(DownloadError, match="broke off"):
            await downloader(session, attempts=3).fetch(server.url, tmp_path / "film.mp4")
        assert ranges(server) == [None] * 3
    assert left(tmp_path) == {}


async def test_progress_goes_on_too(session: aiohttp.ClientSession, tmp_path: Path) -> None:
    """Progress counts what is there, and does not begin anew."""
    told: list[Progress] = []
    async with ByteServer(cut(2_000_000, f"ETag: {TAG}"), hosting()) as server:
        await downloader(session, attempts=2).fetch(
            server.url, tmp_path / "film.mp4", on_progress=told.append
        )
    moved = [news.bytes for news in told]
    assert moved == sorted(moved)
    assert (told[-1].bytes, told[-1].total) == (len(BIG), len(BIG))


async def test_chunks_that_break_off(session: aiohttp.ClientSession, tmp_path: Path) -> None:
    """A film whose length nobody said goes on too; the host says it with the rest."""
    head = f"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nETag: {TAG}\r\n\r\n".encode()
    chunk = b"%x\r\n%b\r\n" % (1_500_000, BIG[:1_500_000])
    async with ByteServer(then(head + chunk), hosting()) as server:
        await downloader(session, attempts=2).fetch(server.url, tmp_path / "film.mp4")
        assert left(tmp_path) == {"film.mp4": BIG}
        assert ranges(server) == [None, "bytes=1500000-"]


OTHER = FILM[:16] + BIG[16:][::-1]
REST = OTHER[2_000_000:]
LAST = len(BIG) - 1
TAGGED = f"ETag: {TAG}"


def part(body: bytes, where: str, *headers: str) -> bytes:
    """Return an answer of status 206."""
    return http(body, "206 Partial Content", f"Content-Range: {where}", *(headers or (TAGGED,)))


WHERE = f"bytes 2000000-{LAST}/{LAST + 1}"

#: What a host may answer when it is asked for the rest from byte 2,000,000 on.
STRANGE: dict[str, bytes] = {
    "the whole, for it knows no ranges": http(OTHER),
    "the whole, for it has changed": http(OTHER, "200 OK", 'ETag: "version-2"'),
    "another tag": part(REST, WHERE, 'ETag: "version-2"'),
    "a weak tag": part(REST, WHERE, f"ETag: W/{TAG}"),
    "an earlier range": part(OTHER[1_000_000:], f"bytes 1000000-{LAST}/{LAST + 1}"),
    "a later range": part(OTHER[2_000_001:], f"bytes 2000001-{LAST}/{LAST + 1}"),
    "an earlier range of the same length": part(REST, f"bytes 1000000-{LAST}/{LAST + 1}"),
    "a range that ends early, at full length": part(REST, f"bytes 2000000-{LAST - 9}/{LAST + 1}"),
    "a range from the start": part(OTHER, f"bytes 0-{LAST}/{LAST + 1}"),
    "a range that ends early": part(REST[:-9], f"bytes 2000000-{LAST - 9}/{LAST + 1}"),
    "a range of a longer film": part(REST, f"bytes 2000000-{LAST}/{LAST + 100}"),
    "the rest of a longer film": part(REST + b"more", f"bytes 2000000-{LAST + 4}/{LAST + 5}"),
    "more than its range": part(REST + b"more", WHERE),
    "less than its range": part(REST[:-9], WHERE),
    "a range of unknown size": part(REST, f"bytes 2000000-{LAST}/*"),
    "no range": http(REST, "206 Partial Content", TAGGED),
    "a range in other units": part(REST, f"frames 2000000-{LAST}/{LAST + 1}"),
    "a range that is no range": part(REST, "bytes x-y/z"),
    "a range of endless digits": part(REST, f"bytes {'9' * 5000}-{LAST}/{LAST + 1}"),
    "a packed rest": part(REST, WHERE, TAGGED, "Content-Encoding: deflate"),
    "several ranges": http(REST, "206 P", TAGGED, "Content-Type: multipart/byteranges; boundary=x"),
    "not satisfiable": http(b"", "416 No", f"Content-Range: bytes */{LAST + 1}"),
}


@pytest.mark.parametrize("name", STRANGE)
async def test_never_glued(session: aiohttp.ClientSession, tmp_path: Path, name: str) -> None:
    """Anything but the very rest makes the download begin anew, at no attempt's cost."""
    async with ByteServer(
        cut(2_000_000, TAGGED), then(STRANGE[name]), answer(http(OTHER))
    ) as server:
        await downloader(session, attempts=2).fetch(server.url, tmp_path / "film.mp4")
        assert left(tmp_path) == {"film.mp4": OTHER}
        is_whole = name.startswith("the whole")
        assert ranges(server) == [None, "bytes=2000000-", *([] if is_whole else [None])]


@pytest.mark.parametrize(
    "headers",
    [
        (),
        (f"ETag: W/{TAG}",),
        ("ETag: version-1",),
        ('ETag: "' + "x" * 2000 + '"',),
        (f"ETag: W/{TAG}", *DATES),
        (DATES[0],),
        (DATES[0], "Date: Mon, 23 Nov 2026 04:00:00 GMT"),
        ("Last-Modified: yesterday", DATES[1]),
        (TAGGED, "Content-Encoding: identity"),
    ],
)
async def test_begins_anew(
    session: aiohttp.ClientSession, tmp_path: Path, headers: tuple[str, ...]
) -> None:
    """Where nothing proves that the film is still the same, no rest is asked for."""
    async with ByteServer(cut(2_000_000, *headers), hosting(OTHER)) as server:
        await downloader(session, attempts=2).fetch(server.url, tmp_path / "film.mp4")
        assert left(tmp_path) == {"film.mp4": OTHER}
        assert ranges(server) == [None, None]


async def test_a_page_in_place_of_the_rest(session: aiohttp.ClientSession, tmp_path: Path) -> None:
    """A page with status 200 takes the place of nothing, and is not glued to anything."""
    page = answer(http(b"<html>Sorry</html>" * 9))
    async with ByteServer(cut(2_000_000, TAGGED), page) as server:
        with pytest.raises(IntegrityError, match="a text, not a video"):
            await downloader(session, attempts=3).fetch(server.url, tmp_path / "film.mp4")
    assert left(tmp_path) == {}


async def test_too_little_to_tell(session: aiohttp.ClientSession, tmp_path: Path) -> None:
    """A cut within the first bytes leaves nothing to go on with: they may be a page's."""
    async with ByteServer(cut(100, TAGGED), hosting()) as server:
        await downloader(session, attempts=2).fetch(server.url, tmp_path / "film.mp4")
        assert ranges(server) == [None, None]
        assert left(tmp_path) == {"film.mp4": BIG}


async def test_too_large_in_the_rest(session: aiohttp.ClientSession, tmp_path: Path) -> None:
    """The limit counts what is there already."""
    head = f"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nETag: {TAG}\r\n\r\n".encode()
    chunk = b"%x\r\n%b\r\n" % (1_500_000, BIG[:1_500_000])
    async with ByteServer(then(head + chunk), hosting()) as server:
        brings = downloader(session, attempts=2, quotas=Quotas(max_download_bytes=2_000_000))
        with pytest.raises(FileError, match=f"{len(BIG)} bytes or more; the limit is 2000000"):
            await brings.fetch(server.url, tmp_path / "film.mp4")
    assert left(tmp_path) == {}


class Body:
    """A body that ends after so many pieces, with an error or without."""

    def __init__(
        self, body: aiohttp.StreamReader, pieces: int, error: Exception | None = None
    ) -> None:
        self._body = body
        self._pieces = pieces
        self._error = error

    def __getattr__(self, name: str) -> Any:
        return getattr(self._body, name)

    async def readany(self) -> bytes:
        self._pieces -= 1
        piece = await self._body.readany() if self._pieces >= 0 else b""
        if not piece and self._error is not None:
            raise self._error
        return piece


class First:
    """A session whose first answer has another body."""

    def __init__(
        self, session: aiohttp.ClientSession, change: Callable[[aiohttp.StreamReader], Body]
    ) -> None:
        self._session = session
        self._change: Callable[[aiohttp.StreamReader], Any] | None = change

    async def get(self, url: str, **options: Any) -> aiohttp.ClientResponse:
        response = await self._session.get(url, **options)
        if self._change is not None:
            response.content, self._change = self._change(response.content), None
        return response


async def test_all_bytes_and_yet_a_cut(session: aiohttp.ClientSession, tmp_path: Path) -> None:
    """A cut after the last byte is a cut: the last byte is asked for again, and proves the rest.

    aiohttp issue 13348: a connection that ends early while we write loses its end.
    """
    error = aiohttp.ClientPayloadError("received 3200016 of 3200016 bytes")
    async with ByteServer(hosting()) as server:
        first: Any = First(session, lambda body: Body(body, 1 << 30, error))
        await downloader(first, attempts=2).fetch(server.url, tmp_path / "film.mp4")
        assert ranges(server) == [None, f"bytes={len(BIG) - 1}-"]
    assert left(tmp_path) == {"film.mp4": BIG}


async def test_fewer_bytes_without_a_word(session: aiohttp.ClientSession, tmp_path: Path) -> None:
    """Bytes are counted here too: a body that ends early is a cut, whoever thinks it whole."""
    async with ByteServer(hosting()) as server:
        first: Any = First(session, lambda body: Body(body, 2))
        with pytest.raises(IntegrityError, match=rf"\d+ of {len(BIG)} bytes came"):
            await downloader(first).fetch(server.url, tmp_path / "film.mp4")
        await downloader(session).fetch(server.url, tmp_path / "film.mp4")
        assert ranges(server)[0] is None
        assert ranges(server)[1] is not None
    assert left(tmp_path) == {"film.mp4": BIG}


# -- a dead link ---------------------------------------------------------------------------------


async def links(*urls: str) -> AsyncIterator[str]:
    for url in urls:
        yield url


async def test_a_link_that_dies_in_the_middle(
    session: aiohttp.ClientSession, tmp_path: Path
) -> None:
    """Another link to the same film goes on where the first one died."""
    dead = then(http(b"", "403 Forbidden"))
    async with ByteServer(cut(2_000_000, TAGGED), dead, dead, hosting()) as server:
        await downloader(session, attempts=2).fetch(
            f"{server.url}/film.mp4?signature=1",
            tmp_path / "film.mp4",
            renewals=links(f"{server.url}/second", f"{server.url}/third"),
        )
        assert [seen.path for seen in server.requests] == [
            "/film.mp4?signature=1",
            "/film.mp4?signature=1",
            "/second",
            "/third",
        ]
        assert ranges(server) == [None, *["bytes=2000000-"] * 3]
    assert left(tmp_path) == {"film.mp4": BIG}


async def test_every_link_is_dead(session: aiohttp.ClientSession, tmp_path: Path) -> None:
    """When no link is left, the last one's death is told, and nothing stays."""
    dead = answer(http(b"", "410 Gone"))
    async with ByteServer(cut(2_000_000, TAGGED), dead) as server:
        with pytest.raises(LinkExpiredError, match="410"):
            await downloader(session, attempts=2).fetch(
                server.url, tmp_path / "film.mp4", renewals=links(f"{server.url}/second")
            )
        assert len(server.requests) == 3
    assert left(tmp_path) == {}


# -- across calls and processes ------------------------------------------------------------------


async def cut_short(
    session: aiohttp.ClientSession, target: Path, *, url: str = "/film.mp4", sent: int = 2_000_000
) -> ByteServer:
    """Leave a part, as a download does that was cut too often; return its server."""
    server = ByteServer(cut(sent, TAGGED))
    async with server:
        with pytest.raises(DownloadError, match="broke off") as caught:
            await downloader(session).fetch(server.url + url, target)
        assert caught.value.retryable
    return server


def parts(folder: Path) -> list[int]:
    return sorted(place.stat().st_size for place in folder.glob(".*.part"))


async def fetch_again(
    session: aiohttp.ClientSession,
    target: Path,
    script: Script,
    key: str,
    *,
    overwrite: bool = False,
    fails: bool = False,
) -> list[str | None]:
    async with ByteServer(script) as server:
        with pytest.raises(DownloadError) if fails else contextlib.nullcontext():
            await downloader(session).fetch(server.url, target, key=key, overwrite=overwrite)
        return ranges(server)


async def test_a_later_call_goes_on(session: aiohttp.ClientSession, tmp_path: Path) -> None:
    """What a cut left is gone on with by the next call for the same, and cleared away."""
    target = tmp_path / "film.mp4"
    first = await cut_short(session, target)
    assert parts(tmp_path) == [2_000_000]
    assert not target.exists()
    asked = await fetch_again(session, target, hosting(), f"{first.url}/film.mp4")
    assert asked == ["bytes=2000000-"]
    assert left(tmp_path) == {"film.mp4": BIG}


async def test_another_query_is_another_file(
    session: aiohttp.ClientSession, tmp_path: Path
) -> None:
    """What one link left is no beginning of what another leads to, even on a host that errs."""
    target = tmp_path / "film.mp4"
    async with ByteServer(cut(2_000_000, TAGGED)) as server:
        with pytest.raises(DownloadError, match="broke off"):
            await downloader(session).fetch(f"{server.url}/dl?id=1", target)
        server.play(hosting(OTHER))
        await downloader(session).fetch(f"{server.url}/dl?id=2", target)
        assert ranges(server) == [None]
    assert left(tmp_path) == {"film.mp4": OTHER}


async def test_a_stall_and_the_end_of_the_time_leave_a_part(
    session: aiohttp.ClientSession, tmp_path: Path
) -> None:
    """Time that ran out is no reason to fetch everything again."""
    for timeouts, words in (
        (Timeouts(stall=0.2), "stood still"),
        (Timeouts(download=0.2), "took longer"),
    ):
        said = http(BIG, "200 OK", TAGGED)[:-1_000_000]
        async with ByteServer(then(said, stay=True)) as server:
            with pytest.raises(DownloadError, match=words):
                await downloader(session, timeouts=timeouts).fetch(
                    server.url, tmp_path / "film.mp4", key="film"
                )
        assert parts(tmp_path)[0] >= 1_000_000
        for place in tmp_path.iterdir():
            place.unlink()


async def test_a_cancelled_call_leaves_no_part(
    session: aiohttp.ClientSession, tmp_path: Path
) -> None:
    """Cancellation takes everything away, also what another call had left."""
    target = tmp_path / "film.mp4"
    first = await cut_short(session, target)
    async with ByteServer(hang) as server:
        call = asyncio.create_task(
            downloader(session).fetch(server.url, target, key=f"{first.url}/film.mp4")
        )
        await until(lambda: server.requests)
        assert ranges(server) == ["bytes=2000000-"]
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
    assert left(tmp_path) == {}


def _edit(folder: Path, **changes: Any) -> None:
    (mark,) = folder.glob(".*.mark")
    mark.write_text(json.dumps({**json.loads(mark.read_text()), **changes}))


def _garble(folder: Path, data: bytes) -> None:
    (mark,) = folder.glob(".*.mark")
    mark.write_bytes(data)


#: What makes a part that was found useless.
USELESS: dict[str, Any] = {
    "of something else": lambda folder: _edit(folder, key="another"),
    "of before the machine was restarted": lambda folder: _edit(folder, boot="another"),
    "of a shorter film": lambda folder: _edit(folder, total=1_000_000),
    "without a validator": lambda folder: _edit(folder, validator=""),
    "with a validator that no header takes": lambda folder: _edit(folder, validator='"a\r\nb: c"'),
    "with a validator that is no text": lambda folder: _edit(folder, validator=5),
    "with a size that is none": lambda folder: _edit(folder, total="3200016"),
    "with a size of yes": lambda folder: _edit(folder, total=True),
    "with a negative size": lambda folder: _edit(folder, total=-1),
    "with half a mark": lambda folder: _garble(folder, b'{"key":'),
    "with an empty mark": lambda folder: _garble(folder, b""),
    "with a mark of brackets": lambda folder: _garble(folder, b"[" * 8000),
    "with a list for a mark": lambda folder: _garble(folder, b"[]"),
    "without a mark": lambda folder: [m.unlink() for m in folder.glob(".*.mark")],
    "of another user": lambda folder: [
        os.chown(part, 12345, -1) for part in folder.glob(".*.part")
    ],
    "known by another name too": lambda folder: [
        os.link(part, folder / "kept") for part in folder.glob(".*.part")
    ],
}


@pytest.mark.parametrize("name", USELESS)
async def test_a_useless_part(session: aiohttp.ClientSession, tmp_path: Path, name: str) -> None:
    """A part that nobody can vouch for is fetched anew, and never written into what it was."""
    if name == "of another user" and os.geteuid() != 0:
        pytest.skip("only root can give a file away")
    target = tmp_path / "film.mp4"
    first = await cut_short(session, target)
    USELESS[name](tmp_path)
    asked = await fetch_again(session, target, hosting(OTHER), f"{first.url}/film.mp4")
    assert asked == [None]
    kept = {"kept": BIG[:2_000_000]} if "another name" in name else {}
    assert left(tmp_path) == {"film.mp4": OTHER, **kept}


async def test_a_mark_never_stands_beside_other_bytes(
    session: aiohttp.ClientSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A writer that dies just as it begins anew leaves no mark of the bytes that were there."""
    target = tmp_path / "film.mp4"
    await cut_short(session, target)
    (mark,) = tmp_path.glob(".*.mark")
    seen: list[bytes] = []
    usual = Part.go_on

    def look(part: Part, offset: int) -> None:
        seen.append(mark.read_bytes())
        usual(part, offset)

    monkeypatch.setattr(Part, "go_on", look)
    async with ByteServer(hosting(OTHER, '"other"')) as server:
        await downloader(session).fetch(server.url, target, key="film")
    assert [b""] == seen
    assert left(tmp_path) == {"film.mp4": OTHER}


async def test_what_is_laid_there_in_the_last_moment(
    session: aiohttp.ClientSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that somebody lays at the part's name just before it is made is not written into."""
    target = tmp_path / "film.mp4"
    usual = Path.unlink

    def unlink(place: Path, missing_ok: bool = False) -> None:
        usual(place, missing_ok=missing_ok)
        if place.suffix == ".part" and place.stem.count(".") == 3 and not laid:
            place.write_bytes(b"theirs")
            laid.append(place)

    laid: list[Path] = []
    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", unlink)
        async with ByteServer(answer(http(BIG))) as server:
            await downloader(session).fetch(server.url, target)
    assert {target: BIG, laid[0]: b"theirs"} == {
        place: place.read_bytes() for place in tmp_path.iterdir()
    }


async def test_a_link_in_place_of_the_part(session: aiohttp.ClientSession, tmp_path: Path) -> None:
    """Links that somebody laid where the part or its mark will be lead nowhere."""
    victim, target = tmp_path / "victim", tmp_path / "film.mp4"
    victim.write_bytes(b"theirs")
    nowhere = tmp_path / "nowhere"
    for ending in ("part", "mark"):
        first = await cut_short(session, target)
        (trap,) = tmp_path.glob(f".*.{ending}")
        trap.unlink()
        trap.symlink_to(nowhere)
        await fetch_again(session, target, hosting(), f"{first.url}/film.mp4", overwrite=True)
        assert (nowhere.exists(), target.read_bytes()) == (False, BIG)
        for place in tmp_path.glob(".*"):
            place.unlink()
    for lay in (Path.symlink_to, Path.hardlink_to):
        for ending in ("part", "mark"):
            first = await cut_short(session, target)
            (trap,) = tmp_path.glob(f".*.{ending}")
            trap.unlink()
            lay(trap, victim)
            asked = await fetch_again(
                session, target, hosting(), f"{first.url}/film.mp4", overwrite=True
            )
            assert asked == [None]
            assert (victim.read_bytes(), target.read_bytes()) == (b"theirs", BIG)
            for place in tmp_path.glob(".*"):
                place.unlink()


async def test_folders_in_place_of_the_part(session: aiohttp.ClientSession, tmp_path: Path) -> None:
    """Folders in the way are gone round."""
    target = tmp_path / "film.mp4"
    await cut_short(session, target)
    for trap in list(tmp_path.iterdir()):
        trap.unlink()
        trap.mkdir()
        asked = await fetch_again(session, target, hosting(), "film", overwrite=True)
        assert (asked, target.read_bytes()) == ([None], BIG)
        trap.rmdir()
    assert left(tmp_path) == {"film.mp4": BIG}


async def test_two_writers_of_one_name(session: aiohttp.ClientSession, tmp_path: Path) -> None:
    """Each writes a part of its own; the name goes to the one that comes first, or to the last."""
    target = tmp_path / "film.mp4"
    free = [asyncio.Event(), asyncio.Event()]
    films = [BIG, OTHER]

    def slow(number: int) -> Script:
        async def script(peer: Peer) -> None:
            await peer.request()
            said = http(films[number], "200 OK", f'ETag: "{number}"')
            await peer.send(said[:-9])
            await free[number].wait()
            await peer.send(said[-9:])

        return script

    for overwrite in (False, True):
        async with ByteServer(slow(0), slow(1)) as server:
            brings = downloader(session)
            calls = []
            for number in range(2):
                calls.append(
                    asyncio.create_task(brings.fetch(server.url, target, overwrite=overwrite))
                )
                await until(lambda: len(server.requests) == number + 1)  # noqa: B023
            await until(lambda: len(parts(tmp_path)) == 2 and parts(tmp_path)[0] > 1 << 20)
            free[1].set()
            await calls[1]
            assert target.read_bytes() == OTHER
            free[0].set()
            if overwrite:
                await calls[0]
            else:
                with pytest.raises(DownloadError, match="File exists"):
                    await calls[0]
            assert left(tmp_path) == {"film.mp4": BIG if overwrite else OTHER}
        for each in free:
            each.clear()


async def test_three_writers_in_a_folder(session: aiohttp.ClientSession, tmp_path: Path) -> None:
    """Where the name is a mere suggestion, each finds one of its own in the end."""

    def names() -> Callable[[str | None], Path]:
        number = itertools.count(1)  # as if nobody else were there
        return lambda _: tmp_path / f"film-{next(number)}.mp4"

    async with ByteServer(answer(http(FILM))) as server:
        brings = downloader(session)
        found = await asyncio.gather(
            *(brings.fetch(server.url, tmp_path / "film", rename=names()) for _ in range(3))
        )
    assert sorted(found) == sorted(tmp_path.iterdir())
    assert sorted(left(tmp_path)) == ["film-1.mp4", "film-2.mp4", "film-3.mp4"]


CHILD = """
import asyncio, sys
from pathlib import Path
from tests.test_downloads import downloader, files_session

async def main():
    async with files_session() as session:
        await downloader(session, attempts=3).fetch(sys.argv[1], Path(sys.argv[2]))

asyncio.run(main())
"""


def child(url: str, target: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-W", "error", "-c", CHILD, url, target], cwd=ROOT)


@pytest.mark.skipif(sys.platform == "win32", reason="needs signals")
async def test_killed_and_gone_on_with(tmp_path: Path) -> None:
    """After `kill -9` a new process fetches what is missing, and not a byte that is there."""
    target = tmp_path / "film.mp4"
    stays = then(http(BIG, "200 OK", TAGGED)[:-100_000], stay=True)
    async with ByteServer(stays) as server:
        url = f"{server.url}/download?id=1"
        first = child(url, target)
        try:
            await until(lambda: sum(parts(tmp_path)) >= 1 << 20, 20.0)
            # A living writer's part is its own, also for another process.
            server.play(hosting())
            await asyncio.to_thread(child(url, target).wait, 20)
            assert ranges(server) == [None]
            assert target.read_bytes() == BIG
            target.unlink()
        finally:
            first.send_signal(signal.SIGKILL)
            await asyncio.to_thread(first.wait)
        there = sum(parts(tmp_path))
        server.play(hosting())
        second = child(url, target)
        assert await asyncio.to_thread(second.wait, 20) == 0
        assert ranges(server) == [f"bytes={there}-"]
        assert there + len(BIG[there:]) == len(BIG)
    assert left(tmp_path) == {"film.mp4": BIG}


@pytest.mark.skipif(sys.platform == "win32", reason="needs signals")
async def test_killed_while_it_is_named(tmp_path: Path) -> None:
    """A process killed between the two names of a whole file leaves one that is never touched."""
    target = tmp_path / "film.mp4"
    async with files_session() as session:
        first = await cut_short(session, target)
        (part,) = tmp_path.glob(".*.part")
        os.link(part, target)
        key = f"{first.url}/film.mp4"
        await fetch_again(session, target, cut(9, film=OTHER), key, overwrite=True, fails=True)
        assert left(tmp_path) == {"film.mp4": BIG[:2_000_000]}
        await fetch_again(session, target, hosting(OTHER), key, overwrite=True)
    assert left(tmp_path) == {"film.mp4": OTHER}


# -- a disk that fills up ------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path: Path) -> Any:
    """A file system of 2 MB; skipped where none can be mounted."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "topaz-async-test", str(place)]
    try:
        done = subprocess.run(mount, capture_output=True, check=False)
    except OSError:
        pytest.skip("no mount here")
    if done.returncode:
        pytest.skip("nothing may be mounted here")
    yield place
    subprocess.run(["umount", str(place)], check=True)


async def test_disk_full(session: aiohttp.ClientSession, small_disk: Path) -> None:
    """On a full disk the old file stays, the room comes back, and the error says what to do."""
    target = small_disk / "film.mp4"
    target.write_bytes(b"old")
    async with ByteServer(hosting()) as server:
        with pytest.raises(DownloadError, match="No space left on device") as caught:
            await downloader(session, attempts=3).fetch(server.url, target, overwrite=True)
        assert len(server.requests) == 1
        assert (caught.value.retryable, caught.value.billed) == (False, "yes")
        assert "make room" in str(caught.value)
    assert left(small_disk) == {"film.mp4": b"old"}


async def test_nowhere_to_write(session: aiohttp.ClientSession) -> None:
    """A place where no file can be made is told before the host is asked."""
    if not Path("/proc/self").exists():
        pytest.skip("needs /proc")
    async with ByteServer(shut) as server:
        with pytest.raises(DownloadError, match="could not be written"):
            await downloader(session).fetch(server.url, Path("/proc/self/film.mp4"))
        assert server.connections == 0


# -- what file systems lack ----------------------------------------------------------------------


async def test_durable_before_it_is_named(
    session: aiohttp.ClientSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bytes reach the disk before the name does, and the name before the call returns."""
    done: list[str] = []
    fsync, link, replace = os.fsync, os.link, os.replace

    def synced(handle: int) -> None:
        is_folder = os.path.isdir(f"/dev/fd/{handle}")
        done.append("folder" if is_folder else "file")
        fsync(handle)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "link", lambda *names: (done.append("named"), link(*names)))
    monkeypatch.setattr(os, "replace", lambda *names: (done.append("named"), replace(*names)))
    async with ByteServer(hosting()) as server:
        for overwrite in (False, True):
            await downloader(session).fetch(server.url, tmp_path / "film.mp4", overwrite=overwrite)
    assert done == ["file", "named", "folder"] * 2


@pytest.mark.skipif(sys.platform == "win32", reason="other locks")
async def test_no_locks(
    session: aiohttp.ClientSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where files cannot be locked, each part has a name of its own and lives for one call."""
    import fcntl

    def refuse(handle: int, how: int) -> None:
        raise OSError(errno.ENOLCK, "no locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    target = tmp_path / "film.mp4"
    async with ByteServer(cut(2_000_000, TAGGED), hosting()) as server:
        await downloader(session, attempts=2).fetch(server.url, target)
        assert ranges(server) == [None, "bytes=2000000-"]
    assert left(tmp_path) == {"film.mp4": BIG}
    target.unlink()
    async with ByteServer(cut(2_000_000, TAGGED)) as server:
        with pytest.raises(DownloadError, match="broke off"):
            await downloader(session).fetch(server.url, target)
    assert left(tmp_path) == {}


async def test_no_hard_links(
    session: aiohttp.ClientSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where files have one name only, what is there is left alone all the same."""

    def refuse(*names: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    target = tmp_path / "film.mp4"
    async with ByteServer(answer(http(FILM))) as server:
        await downloader(session).fetch(server.url, target)
        assert left(tmp_path) == {"film.mp4": FILM}
        target.write_bytes(b"theirs")
        with pytest.raises(DownloadError, match="exists already"):
            await downloader(session).fetch(server.url, target)
    assert left(tmp_path) == {"film.mp4": b"theirs"}
