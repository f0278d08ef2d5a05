"""Results come into folders under names of their own, and dead links are renewed."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import attrs
import pytest

from topaz_async import (
    DownloadError,
    IntegrityError,
    InvalidInputError,
    LinkExpiredError,
    PollPolicy,
    Progress,
    ResultError,
    RetryPolicy,
    TaskRecord,
    Timeouts,
    TopazClient,
    UnsafeUrlError,
    UpscaleResult,
)

from .byteserver import PAGE, ByteServer, Peer, Script, http, no_traces, say, service
from .test_downloads import FILM

OTHER = FILM[:16] + FILM[16:][::-1]
DEAD = http(PAGE, "404 Not Found")


@pytest.fixture(autouse=True)
async def _nothing_stays() -> AsyncIterator[None]:
    async with no_traces():
        yield


def host(answers: dict[str, bytes | Callable[[str], bytes]]) -> Script:
    """Answer each path, without its query, as a table says; functions get the origin."""

    async def script(peer: Peer) -> None:
        while True:
            seen = await peer.request()
            found = answers.get(seen.path.partition("?")[0], DEAD)
            origin = f"http://{seen.headers['host']}"
            await peer.send(found if isinstance(found, bytes) else found(origin))

    return script


def record(*paths: str) -> Callable[[str], bytes]:
    """Return the answer of recordInfo for a task with these results."""

    def answer(origin: str) -> bytes:
        links = json.dumps({"resultUrls": [origin + path for path in paths]})
        return say({"taskId": "task-1", "state": "success", "resultJson": links})

    return answer


def result_of(
    server: ByteServer, *paths: str, ended: datetime | None = None, **values: Any
) -> UpscaleResult:
    urls = tuple(server.url + path for path in paths)
    task = TaskRecord("task-1", "success", result_urls=urls, completed_at=ended)
    hint = None if ended is None else ended + timedelta(days=1)
    return UpscaleResult("task-1", urls, task, expires_hint=hint, **values)


def client_of(server: ByteServer) -> TopazClient:
    return TopazClient("key", base_url=server.url, retry=RetryPolicy(first=0.01))


def asked(server: ByteServer) -> list[str]:
    return [f"{seen.method} {seen.path.partition('?')[0]}" for seen in server.requests]


RENEW, LOOK = "POST /api/v1/common/download-url", "GET /api/v1/jobs/recordInfo"
RENEWED, LOOKED = RENEW.partition(" ")[2], LOOK.partition(" ")[2]


# -- a dead link ---------------------------------------------------------------------------------


@pytest.mark.parametrize("status", ["403 Forbidden", "404 Not Found", "410 Gone"])
async def test_renewed(tmp_path: Path, status: str) -> None:
    """First download-url is asked for another link."""
    answers = {
        "/a.mp4": http(PAGE, status),
        RENEWED: lambda origin: say(f"{origin}/fresh?signature=1"),
        "/fresh": http(FILM),
    }
    async with ByteServer(host(answers)) as server, client_of(server) as topaz:
        path = await topaz.download(result_of(server, "/a.mp4"), tmp_path)
        assert asked(server) == ["GET /a.mp4", RENEW, "GET /fresh"]
    assert (path, path.read_bytes()) == (tmp_path / "a.mp4", FILM)


@pytest.mark.parametrize(
    "refusal",
    [
        say(None, 422, "url is wrong"),
        lambda origin: say(f"{origin}/dead"),
        say("no link"),
        say({"url": 5}),
    ],
)
async def test_renewed_from_the_record(tmp_path: Path, refusal: Any) -> None:
    """Where that gives no link, or a dead one, the task's record is asked."""
    answers = {RENEWED: refusal, LOOKED: record("/new.mp4"), "/new.mp4": http(FILM)}
    async with ByteServer(host(answers)) as server, client_of(server) as topaz:
        path = await topaz.download(result_of(server, "/a.mp4"), tmp_path / "film.mp4")
        assert asked(server)[-2:] == [LOOK, "GET /new.mp4"]
        assert asked(server).count(RENEW) == 1
    assert path.read_bytes() == FILM


@pytest.mark.parametrize(
    "looked",
    [record("/a.mp4"), record(), record("/dead.mp4"), say(None, 422, "recordInfo is null")],
)
async def test_expired(tmp_path: Path, looked: Any) -> None:
    """When every link is dead the error names the task, and nothing was bought."""
    answers = {RENEWED: lambda origin: say(f"{origin}/dead"), LOOKED: looked}
    async with ByteServer(host(answers)) as server, client_of(server) as topaz:
        with pytest.raises(LinkExpiredError) as caught:
            await topaz.download(
                result_of(server, "/a.mp4", reference="order-17"), tmp_path / "film.mp4"
            )
        assert (caught.value.task_id, caught.value.reference) == ("task-1", "order-17")
        assert (caught.value.billed, caught.value.code) == ("yes", 404)
        assert (asked(server).count(RENEW), asked(server).count(LOOK)) == (1, 1)
        assert not any("createTask" in line for line in asked(server))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("hours", "is_old"), [(23, False), (25, True)])
async def test_older_than_its_life(tmp_path: Path, hours: float, is_old: bool) -> None:
    """A link that should be dead by now is renewed before it is tried."""
    ended = datetime.now(UTC) - timedelta(hours=hours)
    answers = {
        "/a.mp4": http(OTHER),
        RENEWED: lambda origin: say(f"{origin}/fresh"),
        "/fresh": http(FILM),
    }
    async with ByteServer(host(answers)) as server, client_of(server) as topaz:
        path = await topaz.download(result_of(server, "/a.mp4", ended=ended), tmp_path)
        assert asked(server) == ([RENEW, "GET /fresh"] if is_old else ["GET /a.mp4"])
    assert path.read_bytes() == (FILM if is_old else OTHER)


async def test_another_link_goes_on(tmp_path: Path) -> None:
    """What one fresh link brought of a result, the next one goes on with."""
    film = FILM + bytes(2 << 20)
    ended, number = datetime.now(UTC) - timedelta(hours=25), 0

    def fresh(origin: str) -> bytes:
        nonlocal number
        number += 1
        return say(f"{origin}/fresh-{number}")

    rest = f"Content-Range: bytes {len(film) - 9}-{len(film) - 1}/{len(film)}"
    answers = {
        RENEWED: fresh,
        "/fresh-1": http(film, "200 OK", 'ETag: "1"')[:-9],
        "/fresh-2": http(film[-9:], "206 Partial Content", 'ETag: "1"', rest),
    }
    async with ByteServer(host(answers)) as server:
        topaz = TopazClient(
            "key", base_url=server.url, retry=RetryPolicy(attempts=1), timeouts=Timeouts(stall=0.2)
        )
        async with topaz:
            result = result_of(server, "/a.mp4", ended=ended)
            with pytest.raises(DownloadError, match="stood still"):
                await topaz.download(result, tmp_path)
            path = await topaz.download(result, tmp_path)
        assert asked(server) == [RENEW, "GET /fresh-1", RENEW, "GET /fresh-2"]
        assert server.requests[-1].headers["range"] == f"bytes={len(film) - 9}-"
    assert path.read_bytes() == film


async def test_another_result_begins_anew(tmp_path: Path) -> None:
    """Two results whose links differ in the query only are two files."""
    asked_for: list[tuple[str, str | None]] = []

    async def script(peer: Peer) -> None:
        seen = await peer.request()
        asked_for.append((seen.path, seen.headers.get("range")))
        whole = FILM + bytes([int(seen.path[-1])]) * (2 << 20)
        first = 0 if asked_for[-1][1] is None else int(asked_for[-1][1][6:-1])
        where = f"Content-Range: bytes {first}-{len(whole) - 1}/{len(whole)}"
        status = "206 Partial Content" if first else "200 OK"
        said = http(whole[first:], status, 'ETag: "same"', *([where] if first else []))
        await peer.send(said[:-9] if len(asked_for) == 1 else said)

    target = tmp_path / "film.mp4"
    async with ByteServer(script) as server:
        topaz = TopazClient("key", base_url=server.url, retry=RetryPolicy(attempts=1))
        async with topaz:
            first = result_of(server, "/dl?id=1")
            with pytest.raises(DownloadError, match="broke off"):
                await topaz.download(first, target)
            second = attrs.evolve(result_of(server, "/dl?id=2"), task_id="task-2")
            await topaz.download(second, target)
    assert asked_for == [("/dl?id=1", None), ("/dl?id=2", None)]
    assert target.read_bytes() == FILM + b"\2" * (2 << 20)


async def test_old_and_yet_alive(tmp_path: Path) -> None:
    """Where there is no other link, an old one is tried."""
    answers = {"/a.mp4": http(FILM), LOOKED: record("/a.mp4")}
    ended = datetime.now(UTC) - timedelta(days=3)
    async with ByteServer(host(answers)) as server, client_of(server) as topaz:
        await topaz.download(result_of(server, "/a.mp4", ended=ended), tmp_path)
        assert asked(server)[-1] == "GET /a.mp4"


async def test_old_and_yet_alive_though_the_fresh_link_is_dead(tmp_path: Path) -> None:
    """A clock that is wrong, here or there, costs no result: the link itself is tried last."""
    answers = {
        "/a.mp4": http(FILM),
        RENEWED: lambda origin: say(f"{origin}/dead.mp4"),
        LOOKED: record("/a.mp4"),
    }
    ended = datetime.now(UTC) - timedelta(days=3)
    async with ByteServer(host(answers)) as server, client_of(server) as topaz:
        path = await topaz.download(result_of(server, "/a.mp4", ended=ended), tmp_path)
        assert ["GET /dead.mp4", LOOK, "GET /a.mp4"] == asked(server)[-3:]
    assert path.read_bytes() == FILM


async def test_a_place_that_cannot_be_written_for_a_paid_result(tmp_path: Path) -> None:
    """The error speaks of the work, which is paid for; of a mere link it says nothing."""
    async with ByteServer(host({})) as server, client_of(server) as topaz:
        result = attrs.evolve(result_of(server, "/a.mp4"), reference="order-17")
        (tmp_path / "a.mp4").write_bytes(b"old")
        with pytest.raises(DownloadError, match="exists already") as caught:
            await topaz.download(result, tmp_path / "a.mp4")
        error = caught.value
        assert ("yes", "task-1", "order-17") == (error.billed, error.task_id, error.reference)
        with pytest.raises(DownloadError) as caught:
            await topaz.download_all(result, tmp_path / "a.mp4")
        assert "yes" == caught.value.billed
        with pytest.raises(DownloadError) as caught:
            await topaz.download(server.url + "/a.mp4", tmp_path / "a.mp4")
        assert "no" == caught.value.billed


async def test_a_renewed_link_is_checked_as_well(tmp_path: Path) -> None:
    """What the service names leads no further than what it named before."""
    answers = {RENEWED: say("https://169.254.169.254/film.mp4")}
    async with ByteServer(host(answers)) as server, client_of(server) as topaz:
        with pytest.raises(UnsafeUrlError) as caught:
            await topaz.download(result_of(server, "/a.mp4"), tmp_path)
    assert caught.value.task_id == "task-1"


@pytest.mark.parametrize(
    "url", ["http://cdn.example/x.mp4", "https://me:pw@cdn.example/x.mp4", "ftp://cdn.example/x"]
)
async def test_an_unfit_link_of_a_paid_task(tmp_path: Path, url: str) -> None:
    """The task is paid for whatever its link is: the error says so, and which task it was."""
    async with ByteServer(host({})) as server, client_of(server) as topaz:
        result = attrs.evolve(result_of(server, "/a.mp4"), urls=(url,), reference="order-17")
        for bring in (topaz.download, topaz.download_all):
            with pytest.raises(UnsafeUrlError) as caught:
                await bring(result, tmp_path)
            error = caught.value
            assert ("task-1", "order-17", "yes") == (error.task_id, error.reference, error.billed)
        result = attrs.evolve(result, urls=())
        with pytest.raises(ResultError) as empty:
            await topaz.download(result, tmp_path)
        assert ("order-17", "yes") == (empty.value.reference, empty.value.billed)
        assert asked(server) == []


async def test_the_record_names_the_dead_link_again(tmp_path: Path) -> None:
    """A link that was found dead is not tried a second time."""
    answers = {LOOKED: record("/a.mp4")}
    async with ByteServer(host(answers)) as server, client_of(server) as topaz:
        with pytest.raises(LinkExpiredError):
            await topaz.download(result_of(server, "/a.mp4"), tmp_path)
        assert 1 == asked(server).count("GET /a.mp4")


async def test_a_bare_link_is_not_renewed(tmp_path: Path) -> None:
    """Nobody knows what it belongs to."""
    async with ByteServer(host({})) as server, client_of(server) as topaz:
        with pytest.raises(LinkExpiredError):
            await topaz.download(f"{server.url}/a.mp4", tmp_path)
        assert asked(server) == ["GET /a.mp4"]


# -- all files of a result -----------------------------------------------------------------------


async def test_all_files(tmp_path: Path) -> None:
    """Every file comes under a name of its own, in the order of the links."""
    films = {f"/{folder}/film.mp4": http(FILM + folder.encode()) for folder in "abc"}
    answers = {**films, "/d.mov": http(FILM)}
    async with ByteServer(host(answers)) as server, client_of(server) as topaz:
        result = result_of(server, *answers)
        found = await topaz.download_all(result, tmp_path / "new")
        again = await topaz.download_all(result, str(tmp_path / "new"), overwrite=True)
    names = ["film.mp4", "film (2).mp4", "film (3).mp4", "d.mov"]
    assert found == again == tuple(tmp_path / "new" / name for name in names)
    assert [path.read_bytes()[len(FILM) :] for path in found] == [b"a", b"b", b"c", b""]
    assert sorted(tmp_path.joinpath("new").iterdir()) == sorted(found)


async def test_progress_of_all_files(tmp_path: Path) -> None:
    """Of fifty files that come at once a caller is told as often as of one; the end is the end."""
    answers = {f"/{number}.mp4": http(FILM) for number in range(50)}
    told: list[tuple[float, Progress]] = []

    def note(progress: Progress) -> None:
        told.append((asyncio.get_running_loop().time(), progress))

    async with ByteServer(host(answers)) as server, client_of(server) as topaz:
        await topaz.download_all(result_of(server, *answers), tmp_path, on_progress=note)
    moments = [moment for moment, _ in told]
    assert max(sum(at <= each < at + 1 for each in moments) for at in moments) <= 20
    assert (len(FILM), len(FILM)) == (told[-1][1].bytes, told[-1][1].total)


async def test_all_files_beside_others(tmp_path: Path) -> None:
    """Files that are there already stay, unless they may be replaced."""
    (tmp_path / "a.mp4").write_bytes(b"theirs")
    async with ByteServer(host({"/a.mp4": http(FILM)})) as server, client_of(server) as topaz:
        found = await topaz.download_all(result_of(server, "/a.mp4"), tmp_path)
    assert found == (tmp_path / "a (2).mp4",)
    assert (tmp_path / "a.mp4").read_bytes() == b"theirs"


async def test_one_of_all_files_fails(tmp_path: Path) -> None:
    """One that is no film does not stop the others; its error comes at the end."""
    answers = {"/a.mp4": http(FILM), "/b.mp4": http(PAGE), "/c.mp4": http(OTHER)}
    async with ByteServer(host(answers)) as server, client_of(server) as topaz:
        with pytest.raises(IntegrityError) as caught:
            await topaz.download_all(result_of(server, *answers), tmp_path)
    assert (caught.value.task_id, caught.value.billed) == ("task-1", "yes")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.mp4", "c.mp4"]


async def test_each_file_is_renewed_by_itself(tmp_path: Path) -> None:
    """The record's link at the same place stands for the dead one."""
    answers = {
        "/b.mp4": http(OTHER),
        LOOKED: record("/new-a.mp4", "/new-b.mp4"),
        "/new-a.mp4": http(FILM),
    }
    async with ByteServer(host(answers)) as server, client_of(server) as topaz:
        found = await topaz.download_all(result_of(server, "/a.mp4", "/b.mp4"), tmp_path)
    assert [(path.name, path.read_bytes()) for path in found] == [("a.mp4", FILM), ("b.mp4", OTHER)]


async def test_all_files_of_a_job(tmp_path: Path) -> None:
    """A job is waited for first."""
    async with ByteServer(service(FILM)) as server, client_of(server) as topaz:
        found = await topaz.download_all(topaz.job("task-1"), tmp_path)
    assert found == (tmp_path / "result.mp4",)


@pytest.mark.parametrize("what", ["https://files.example/a.mp4", None, 5])
async def test_all_files_of_nothing(tmp_path: Path, what: Any) -> None:
    """A link has one file: `download` brings it."""
    async with TopazClient("key") as topaz:
        with pytest.raises(InvalidInputError, match="no result and no job"):
            await topaz.download_all(what, tmp_path)


async def test_all_files_into_a_file(tmp_path: Path) -> None:
    """A file is no folder."""
    (tmp_path / "file").touch()
    async with TopazClient("key") as topaz:
        result = UpscaleResult("task-1", (), TaskRecord("task-1", "success"))
        for folder in (tmp_path / "file", 5):
            with pytest.raises(DownloadError):
                await topaz.download_all(result, folder)  # type: ignore[arg-type]


# -- names ---------------------------------------------------------------------------------------


async def test_two_at_once_into_a_folder(tmp_path: Path) -> None:
    """Each gets a name of its own, whichever comes first."""
    async with ByteServer(host({"/a.mp4": http(FILM)})) as server, client_of(server) as topaz:
        found = await asyncio.gather(
            *(topaz.download(f"{server.url}/a.mp4?{n}", tmp_path) for n in range(4))
        )
    names = {"a.mp4", "a (2).mp4", "a (3).mp4", "a (4).mp4"}
    assert {path.name for path in found} == {path.name for path in tmp_path.iterdir()} == names


@pytest.mark.parametrize(
    ("link", "said", "name"),
    [
        ("/a.mp4", "attachment; filename=b.mp4", "a.mp4"),
        ("/download", "attachment; filename=b.mp4", "b.mp4"),
        ("/download", 'attachment; filename="../../../b.mp4"', "b.mp4"),
        ("/download", "attachment; filename*=UTF-8''%252e%252e%252fb.exe", "b.exe.mp4"),
        ("/download", "", "download.mp4"),
        ("/..%2f..%2fevil.mp4", "", "evil.mp4"),
        ("/%252e%252e%252f.bashrc", "", "bashrc.mp4"),
    ],
)
async def test_names_in_a_folder(tmp_path: Path, link: str, said: str, name: str) -> None:
    """The link's name, else what the host says, and never anything outside of the folder."""
    answer = http(FILM, "200 OK", f"Content-Disposition: {said}")

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(answer)

    folder = tmp_path / "deep" / "folder"
    async with ByteServer(script) as server, client_of(server) as topaz:
        assert await topaz.download(server.url + link, f"{folder}/") == folder / name
        folder.joinpath(name).unlink()
        assert await topaz.download(result_of(server, link), f"{folder}/") == folder / name
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [folder / name]


async def test_a_name_in_a_header_replaces_nothing(tmp_path: Path) -> None:
    """With `overwrite` the file that the link names is replaced, and no other one."""
    said = http(FILM, "200 OK", "Content-Disposition: attachment; filename=b.mp4")
    mine = tmp_path / "b.mp4"
    mine.write_bytes(b"mine")
    (tmp_path / "c.mp4").write_bytes(b"old")
    script = host({"/dl": said, "/c.mp4": said})
    async with ByteServer(script) as server, client_of(server) as topaz:
        found = [
            await topaz.download(f"{server.url}/dl", tmp_path, overwrite=True),
            await topaz.download(result_of(server, "/dl"), tmp_path, overwrite=True),
            await topaz.download(f"{server.url}/c.mp4", tmp_path, overwrite=True),
        ]
    assert [path.name for path in found] == ["b (2).mp4", "b (3).mp4", "c.mp4"]
    assert [path.read_bytes() for path in found] == [FILM] * 3
    assert mine.read_bytes() == b"mine"


async def test_a_name_in_a_header_that_is_taken_meanwhile(tmp_path: Path) -> None:
    """Of two downloads that find one name free, with `overwrite` too, each gets its own."""
    said = http(FILM, "200 OK", "Content-Disposition: attachment; filename=b.mp4")
    async with ByteServer(host({"/dl": said})) as server, client_of(server) as topaz:
        found = await asyncio.gather(
            *(topaz.download(f"{server.url}/dl?{n}", tmp_path, overwrite=True) for n in range(4))
        )
    assert {path.name for path in found} == {path.name for path in tmp_path.iterdir()}
    assert len(set(found)) == 4


async def test_a_local_name_is_kept(tmp_path: Path, tiny_clip: Path) -> None:
    """Emoji and brackets of the clip stay in the name of its result."""
    clip = tmp_path / "🎬 Film (final) [2] 50%.mp4"
    clip.write_bytes(tiny_clip.read_bytes())
    async with ByteServer(service(FILM)) as server:
        polling = PollPolicy(first=0.01)
        async with TopazClient(
            "key", base_url=server.url, upload_url=server.url, polling=polling
        ) as topaz:
            for _ in range(2):
                await topaz.upscale(clip, factor=4, output=f"{tmp_path}/out/")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "🎬 Film (final) [2] 50%-4x (2).mp4",
        "🎬 Film (final) [2] 50%-4x.mp4",
    ]


async def test_names_that_no_disk_takes_cost_nothing(tmp_path: Path) -> None:
    """A name too long within a folder that is still to be made is found before the submit."""
    async with ByteServer(service(FILM)) as server, client_of(server) as topaz:
        for output in (
            tmp_path / "new" / ("x" * 256),
            tmp_path / ("y" * 256) / "out.mp4",
            tmp_path / "new" / ("日" * 86) / "deep/out.mp4",
            f"{tmp_path}/new/{'z/' * 2048}",
            f"{tmp_path}/{'z/' * ((4080 - len(str(tmp_path))) // 2)}",
        ):
            with pytest.raises(InvalidInputError, match="name too long") as caught:
                await topaz.upscale("https://files.example/a.mp4", output=output)
            assert caught.value.billed == "no"
        assert server.requests == []
    assert list(tmp_path.iterdir()) == []
