"""Uploads as a client does them: whole, to a place of their own, the same bytes once."""

from __future__ import annotations

import asyncio
import io
import os
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import attrs
import pytest

from topaz_async import (
    ConfigurationError,
    InsufficientCreditsError,
    InvalidInputError,
    Progress,
    Quotas,
    RetryPolicy,
    ServerError,
    SubmitUnknownError,
    TaskFailedError,
    TopazClient,
    UploadError,
    ValidationError,
)
from topaz_async.media import content_hash, inspect
from topaz_async.sandbox import CopyEngine, Fault, Sandbox

from .byteserver import ByteServer, Peer, Script, answer, http, no_traces, say
from .conftest import FAST_QUOTAS, client_of

FILM = b"\x00\x00\x00\x20ftypisom" + bytes(range(256)) * 8192  # two chunks and a bit
OTHER = FILM[:-1] + b"!"


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    async with Sandbox(engine=CopyEngine(), poll_quota=None) as running:
        yield running


@pytest.fixture(params=["journal", "no journal"])
async def topaz(
    request: pytest.FixtureRequest, sandbox: Sandbox, tmp_path: Path
) -> AsyncIterator[TopazClient]:
    journal = tmp_path / "jobs.sqlite" if request.param == "journal" else None
    async with client_of(sandbox, journal=journal) as client:
        yield client


@pytest.fixture
def film(tmp_path: Path) -> Path:
    path = tmp_path / "film.mp4"
    path.write_bytes(FILM)
    return path


def sent(sandbox: Sandbox) -> int:
    """Return how often a file was streamed to the host."""
    return sandbox.books.count("file-stream-upload")


def served(sandbox: Sandbox, url: str) -> bytes:
    """Return what lies at a link of the host."""
    stored = sandbox._files.find(url)
    assert stored is not None
    return stored.disk.read_bytes()


def at(server: ByteServer) -> TopazClient:
    """Return a client of a scripted server."""
    retry = RetryPolicy(first=0.001, longest=0.002)
    quotas = Quotas(max_upload_bytes=1 << 30)
    url = server.url
    return TopazClient("key", base_url=url, upload_url=url, retry=retry, quotas=quotas)


# -- the same bytes once ------------------------------------------------------------------------


async def test_the_same_bytes_are_sent_once(
    topaz: TopazClient, sandbox: Sandbox, film: Path, tmp_path: Path
) -> None:
    """Whatever the file is called and whoever asks: upload, submit, upscale."""
    copy = tmp_path / "copy.mov"
    copy.write_bytes(FILM)
    first = await topaz.upload(film)
    assert await topaz.upload(copy) == first
    job = await topaz.submit(film)
    await topaz.upscale(copy, factor=4)
    assert sent(sandbox) == 1
    assert [task.source for task in sandbox.books.tasks.values()] == [first.url] * 2
    assert job.task_id in sandbox.books.tasks
    assert (first.expires_hint, first.uploaded_at) != (None, None)


async def test_progress_of_what_is_there_already(topaz: TopazClient, film: Path) -> None:
    """The whole is told at once."""
    told: list[Progress] = []
    await topaz.upload(film)
    await topaz.upload(film, on_progress=told.append)
    assert told == [Progress(len(FILM), len(FILM))]


async def test_other_bytes_of_the_same_size_are_sent(
    topaz: TopazClient, sandbox: Sandbox, film: Path, tmp_path: Path
) -> None:
    """The content decides, not the size, nor the name."""
    first = await topaz.upload(film)
    film.write_bytes(OTHER)
    second = await topaz.upload(film)
    assert sent(sandbox) == 2
    assert (served(sandbox, first.url), served(sandbox, second.url)) == (FILM, OTHER)


async def test_submits_at_once_share_one_upload(
    topaz: TopazClient, sandbox: Sandbox, film: Path
) -> None:
    """Whoever comes second waits for the first; when the first fails, the next one sends."""
    sandbox.add_fault(Fault("file-stream-upload", "answer", status=400))
    jobs = await asyncio.gather(
        *(topaz.submit(film, factor=factor) for factor in (1, 2, 4)), return_exceptions=True
    )
    assert sorted(type(job).__name__ for job in jobs) == ["Job", "Job", "ValidationError"]
    assert sent(sandbox) == 2


async def test_a_journal_carries_uploads_to_the_next_process(
    sandbox: Sandbox, film: Path, tmp_path: Path
) -> None:
    """After a restart nothing is sent again; without the journal it is."""
    for journal in (tmp_path / "jobs.sqlite", tmp_path / "jobs.sqlite", None):
        async with client_of(sandbox, journal=journal) as topaz:
            await topaz.submit(film)
    assert sent(sandbox) == 2


async def test_it_can_be_switched_off(sandbox: Sandbox, film: Path) -> None:
    """`reuse_uploads=0` sends each time."""
    quotas = attrs.evolve(FAST_QUOTAS, reuse_uploads=0)
    async with client_of(sandbox, quotas=quotas) as topaz:
        await topaz.upload(film)
        await topaz.submit(film)
    assert sent(sandbox) == 2


def test_the_time_of_reuse_is_below_the_life_of_an_upload() -> None:
    """A link that may be dead is never handed to a task."""
    with pytest.raises(ConfigurationError, match=r"reuse_uploads is 86400 s; it must be below"):
        attrs.evolve(FAST_QUOTAS, reuse_uploads=86_400)


DEAD = "Failed to fetch the video_url"


@pytest.mark.parametrize(
    ("fault", "kind", "uploads"),
    [
        (Fault("createTask", "answer", code=422, msg=DEAD, after=1), ValidationError, 2),
        (Fault("createTask", "answer", code=500, msg=DEAD, after=1), SubmitUnknownError, 2),
        (Fault("createTask", "fail", fail_msg=DEAD, after=1), TaskFailedError, 2),
        (Fault("createTask", "answer", code=402, after=1), InsufficientCreditsError, 1),
    ],
    ids=["refused", "unknown", "failed", "no credits"],
)
async def test_a_link_the_service_could_not_use_is_forgotten(
    topaz: TopazClient,
    sandbox: Sandbox,
    film: Path,
    fault: Fault,
    kind: type[Exception],
    uploads: int,
) -> None:
    """The next attempt uploads anew, unless the refusal was about the account."""
    sandbox.add_fault(fault)
    await topaz.upscale(film)
    with pytest.raises(kind):
        await topaz.upscale(film)
    await topaz.upscale(film)
    assert sent(sandbox) == uploads


async def test_a_file_that_changed_after_it_was_looked_at_buys_nothing(
    sandbox: Sandbox, film: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reference stands for the bytes that were hashed, so no others are sent for it."""
    async with client_of(sandbox) as topaz:
        story = topaz._chapters
        order = await story.order(
            film, factor=2, callback_url=None, reference="r", seconds=None, fingerprint=None,
            resubmit_unknown=False, resubmit_failed=False,
        )  # fmt: skip
        film.write_bytes(OTHER)
        with story.calls.enter() as call, pytest.raises(UploadError, match="changed") as caught:
            await story.submit(call, order)
        assert (caught.value.billed, caught.value.retryable) == ("no", True)
        assert (sandbox.books.count("createTask"), sandbox.books.uploads) == (0, [])
        await topaz.submit(film, reference="r")


async def test_what_was_sent_by_halves_is_not_remembered(
    topaz: TopazClient, sandbox: Sandbox, film: Path
) -> None:
    """An upload that failed is sent again."""
    sandbox.add_fault(Fault("file-stream-upload", "answer", status=502, times=3))
    with pytest.raises(ServerError):
        await topaz.upload(film)
    await topaz.upload(film)
    assert sent(sandbox) == 4


# -- a place of its own -------------------------------------------------------------------------

NAMES = [
    'say "hi".mp4',
    "it's; filename=evil.mp4",
    "a\r\nX-Evil: 1\r\n\r\n.mp4",
    "电影 😀.mp4",
    "nul\x00l.mp4",
    "a\u202egpj.mp4",
    "../../etc/passwd.mp4",
    "%2e%2e%2fboot.mp4",
    "\ud800.mp4",
    "x" * 5000 + ".mp4",
    "字" * 80 + ".mp4",
    "",
    ".",
    "CON",
]


@pytest.mark.parametrize("name", NAMES, ids=lambda name: ascii(name[:12]))
async def test_any_name_is_harmless(sandbox: Sandbox, name: str) -> None:
    """Bytes arrive as they are, at two places for two uploads, under a name no system minds."""
    async with client_of(sandbox) as topaz:
        one, two = await topaz.upload(FILM, name=name), await topaz.upload(OTHER, name=name)
    assert one.url != two.url
    assert (served(sandbox, one.url), served(sandbox, two.url)) == (FILM, OTHER)
    assert one.name is not None
    assert one.name == two.name
    assert one.name.isprintable()
    assert not set(one.name) & set("/\\\"';%:")
    assert len(one.name.encode()) <= 121
    assert urlsplit(one.url).path.count("/") == 5


@pytest.mark.parametrize(
    "name",
    [
        b'say "hi".mp4',
        b"a\r\nX-Evil: 1.mp4",
        "电影 😀\u202e.mp4".encode(),
        b"\xff\xfe.mp4",
        b"-rf",
        b"x" * 255,
    ],
)
async def test_the_files_own_name_is_never_sent(
    sandbox: Sandbox, tmp_path: Path, name: bytes
) -> None:
    """Nothing of it reaches the host: it may say more than its owner wants."""
    path = Path(os.fsdecode(os.path.join(os.fsencode(tmp_path), name)))
    path.write_bytes(FILM)
    async with client_of(sandbox) as topaz:
        file = await topaz.upload(path)
        await topaz.submit(path)
    assert file.name is not None
    assert len(file.name) == 36
    assert served(sandbox, file.url) == FILM


async def test_a_name_of_its_own_is_always_sent(
    topaz: TopazClient, sandbox: Sandbox, film: Path
) -> None:
    """What has a name is neither taken from memory nor remembered, and overwrites nothing."""
    named = await topaz.upload(film, name="film.mp4")
    unnamed = await topaz.upload(film)
    again = await topaz.upload(film, name="film.mp4")
    assert sent(sandbox) == 3
    assert len({named.url, unnamed.url, again.url}) == 3
    assert (named.name, again.name) == ("film.mp4", "film.mp4")


# -- open files ---------------------------------------------------------------------------------


class OnlyRead:
    """An object of a caller's own that can be read, and nothing else."""

    def __init__(self, content: bytes) -> None:
        self._file = io.BytesIO(content)

    def read(self, size: int) -> bytes:
        return self._file.read(size)


async def test_an_open_file_is_sent_from_where_it_stands(sandbox: Sandbox, tmp_path: Path) -> None:
    """A file of the disk and one in memory, again from there when the host fails."""
    path = tmp_path / "tail.mp4"
    path.write_bytes(b"before" + FILM)
    sandbox.add_fault(Fault("file-stream-upload", "answer", status=502, times=1))
    async with client_of(sandbox) as topaz:
        for file in (path.open("rb"), io.BytesIO(b"before" + FILM)):
            file.seek(6)
            told: list[Progress] = []
            uploaded = await topaz.upload(file, on_progress=told.append)
            assert served(sandbox, uploaded.url) == FILM
            assert (told[-1].bytes, told[-1].total) == (len(FILM), len(FILM))
            assert not file.closed
            file.close()
    assert sent(sandbox) == 3


async def test_a_pipe_is_sent_once(sandbox: Sandbox) -> None:
    """What cannot go back is streamed; a failure tells the service's words and the reason."""
    async with client_of(sandbox) as topaz:
        uploaded = await topaz.upload(OnlyRead(FILM))  # type: ignore[arg-type]
        assert served(sandbox, uploaded.url) == FILM
        sandbox.add_fault(Fault("file-stream-upload", "answer", code=500, msg="disk full"))
        with pytest.raises(UploadError) as caught:
            await topaz.upload(OnlyRead(FILM))  # type: ignore[arg-type]
    assert str(caught.value) == (
        "The service answered file-stream-upload with code 500: disk full. A stream cannot be "
        "sent twice. Nothing was billed. Hand in a path or bytes, or open the stream again."
    )
    assert caught.value.code == 500
    assert sent(sandbox) == 2


async def test_open_files_that_cannot_be_sent(sandbox: Sandbox, tmp_path: Path) -> None:
    """Text, a closed file, an empty one, one of another kind: refused before a byte is sent."""
    text = tmp_path / "text.mp4"
    text.write_bytes(FILM)
    closed = io.BytesIO(FILM)
    closed.close()
    async with client_of(sandbox) as topaz:
        with text.open(encoding="latin-1") as words:
            for file in (words, closed, io.BytesIO(), io.BytesIO(b"words")):
                with pytest.raises(InvalidInputError):
                    await topaz.upload(file)  # type: ignore[arg-type]
        with pytest.raises(InvalidInputError, match="a file opened for bytes"):
            await topaz.upload([FILM])  # type: ignore[arg-type]
    assert sent(sandbox) == 0


async def test_an_open_file_that_changes_while_it_is_sent(sandbox: Sandbox, film: Path) -> None:
    """Written to, cut or closed: an error of ours, and the host gets no whole file."""

    def write(file: Any) -> None:
        film.write_bytes(OTHER)
        os.utime(film, (1, 1))

    def cut(file: Any) -> None:
        os.truncate(film, 1 << 20)

    def close(file: Any) -> None:
        file.close()

    async with client_of(sandbox) as topaz:
        for change in (write, cut, close):
            film.write_bytes(FILM * 3)
            with film.open("rb") as file:
                with pytest.raises(UploadError) as caught:
                    await topaz.upload(
                        file, on_progress=lambda _, change=change, file=file: change(file)
                    )
                assert caught.value.billed == "no"
    assert sandbox.books.uploads == []


# -- streams ------------------------------------------------------------------------------------


async def stream(*chunks: bytes) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield chunk


async def test_a_stream_that_was_refused_tells_the_services_words(sandbox: Sandbox) -> None:
    """Code and words of the service, and that it was not sent again."""
    sandbox.add_fault(Fault("file-stream-upload", "answer", status=503, code=503, msg="busy"))
    async with client_of(sandbox) as topaz:
        with pytest.raises(UploadError, match=r"code 503: busy\. A stream cannot") as caught:
            await topaz.upload(stream(FILM))
        assert (caught.value.code, caught.value.billed, caught.value.retryable) == (
            503,
            "no",
            False,
        )
        assert sent(sandbox) == 1
        sandbox.add_fault(Fault("file-stream-upload", "answer", code=401, msg="no"))
        with pytest.raises(Exception, match="code 401") as refused:  # another time is no cure
            await topaz.upload(stream(FILM))
        assert "twice" not in str(refused.value)


async def test_a_stream_that_was_read_before(sandbox: Sandbox) -> None:
    """No empty file is left at the host."""
    once = stream(FILM)
    async with client_of(sandbox) as topaz:
        await topaz.upload(once)
        with pytest.raises(UploadError, match="is empty, or was read before"):
            await topaz.upload(once)
    assert len(sandbox.books.uploads) == 1


# -- connections --------------------------------------------------------------------------------


async def test_files_share_a_connection_and_streams_get_their_own() -> None:
    """A kept connection that has gone stale costs a file an attempt; a stream gets a fresh one."""
    taken = say({"downloadUrl": "https://files.example/a.mp4"})

    def but_for(number: int) -> Script:
        async def script(peer: Peer) -> None:
            for _ in range(number):
                await peer.request()
                await peer.send(taken)

        return script

    async with no_traces(), ByteServer(but_for(2), answer(taken)) as server, at(server) as topaz:
        await topaz.upload(FILM)
        await topaz.upload(FILM)
        assert server.connections == 1  # closed by now
        await topaz.upload(stream(FILM))
        assert server.connections == 2
        await topaz.upload(FILM)
        assert server.connections == 3


async def test_an_answer_that_comes_too_early_ends_its_connection() -> None:
    """A file of which only some had left is not there; its rest begins no other upload."""
    taken = say({"downloadUrl": "https://files.example/a.mp4"})
    long = FILM + bytes(32 << 20)

    async def hasty(peer: Peer) -> None:
        await peer.head()
        await peer.send(taken)
        await asyncio.sleep(0.2)
        await peer.gone()

    async with no_traces(), ByteServer(hasty, answer(taken)) as server, at(server) as topaz:
        with pytest.raises(UploadError, match="before all of it was sent") as raised:
            await topaz.upload(long)
        assert raised.value.retryable
        await topaz.upload(FILM)
        assert server.connections == 2
        assert [FILM in seen.body for seen in server.requests] == [True]


@pytest.mark.parametrize("failing", [False, True])
async def test_an_object_with_an_asynchronous_read(sandbox: Sandbox, failing: bool) -> None:
    """What a web framework hands out for a file is sent as the stream that it is."""

    class Upload:
        def __init__(self) -> None:
            self.rest = FILM

        async def read(self, size: int = -1) -> bytes:
            if failing:
                raise OSError("gone")
            piece, self.rest = self.rest[:size], self.rest[size:]
            return piece

    source: Any = Upload()
    async with client_of(sandbox) as topaz:
        if failing:
            with pytest.raises(UploadError, match="The stream failed: OSError"):
                await topaz.upload(source)
        else:
            assert FILM == served(sandbox, (await topaz.upload(source)).url)


# -- from a URL ---------------------------------------------------------------------------------


async def test_the_host_fetches_a_url(sandbox: Sandbox) -> None:
    """What lies there is at the host then, at a place of its own."""
    async with client_of(sandbox) as topaz:
        there = await topaz.upload(FILM, name="clip.mov")
        file = await topaz.upload_from_url(there.url)
        named = await topaz.upload_from_url(there.url, name="../my film.mp4")
    assert served(sandbox, file.url) == served(sandbox, named.url) == FILM
    assert (Path(str(file.name)).suffix, named.name) == (".mov", "my film.mp4")
    assert len({there.url, file.url, named.url}) == 3
    assert file.uploaded_at is not None
    assert file.expires_hint == file.uploaded_at + timedelta(hours=24)
    assert sandbox.books.count("file-url-upload") == 2


@pytest.mark.parametrize(
    "url", ["http://example.com/a.mp4", "ftp://a.example/a.mp4", "clip.mp4", "", None, 5]
)
async def test_a_url_that_is_not_https_is_refused_here(sandbox: Sandbox, url: Any) -> None:
    """Before anything is sent."""
    async with client_of(sandbox) as topaz:
        with pytest.raises(InvalidInputError, match="The URL to upload"):
            await topaz.upload_from_url(url)
        with pytest.raises(InvalidInputError, match="name of an upload"):
            await topaz.upload_from_url("https://a.example/a.mp4", name=5)  # type: ignore[arg-type]
    assert sandbox.books.count("file-url-upload") == 0


async def test_a_url_that_cannot_be_fetched(sandbox: Sandbox) -> None:
    """The host's words, as an error of ours."""
    async with client_of(sandbox) as topaz:
        with pytest.raises(ServerError, match="Failed to download file") as caught:
            await topaz.upload_from_url("https://files.example/secret.mp4?token=1")
    assert "token" not in str(caught.value)
    assert caught.value.billed == "no"


async def test_without_an_upload_host(film: Path) -> None:
    """There is no place to upload to, and the error says which option is missing."""
    async with ByteServer(answer(http())) as server:
        async with TopazClient("key", base_url=server.url) as topaz:
            for call in (topaz.upload(film), topaz.upload_from_url("https://a.example/a.mp4")):
                with pytest.raises(ConfigurationError, match="upload_url was not"):
                    await call
        assert server.connections == 0


# -- hints --------------------------------------------------------------------------------------


async def test_when_links_may_die(sandbox: Sandbox, film: Path) -> None:
    """The service's own moment and the documented life; an unknown moment tells nothing."""
    quotas = attrs.evolve(FAST_QUOTAS, upload_life=3600, result_life=1200, reuse_uploads=60)
    async with client_of(sandbox, quotas=quotas) as topaz:
        for _ in range(2):  # sent, and remembered
            file = await topaz.upload(film)
            assert file.uploaded_at is not None
            assert file.expires_hint == file.uploaded_at + timedelta(hours=1)
            assert file.expires_hint.utcoffset() == timedelta(0)
        result = await topaz.upscale(film)
        assert result.record.completed_at is not None
        assert result.expires_hint == result.record.completed_at + timedelta(minutes=20)
    taken = say({"downloadUrl": "https://files.example/a.mp4", "uploadedAt": "soon"})
    late = say({"downloadUrl": "https://f.example/a", "uploadedAt": "9999-12-31T23:59:59Z"})
    async with ByteServer(answer(taken, late)) as server, at(server) as topaz:
        assert (await topaz.upload(FILM)).expires_hint is None
        assert (await topaz.upload(FILM)).expires_hint is None


def test_a_file_is_hashed_from_end_to_end(film: Path) -> None:
    """SHA-256, in hex; a file that is gone is an error of ours."""
    assert inspect(film, max_bytes=1 << 30).size == len(FILM)
    assert len(content_hash(film)) == 64
    with pytest.raises(InvalidInputError, match="cannot be read: No such file"):
        content_hash(film.with_name("gone.mp4"))


@pytest.mark.parametrize("size", [0, 12345, len(FILM) + 1])
async def test_a_host_that_names_another_size_than_was_sent(
    tmp_path: Path, size: int, caplog: pytest.LogCaptureFixture
) -> None:
    """A field that only informs fails no upload; it is told, and the upload not used again."""
    (tmp_path / "film.mp4").write_bytes(FILM)
    file = {"downloadUrl": "https://files.example/a.mp4", "fileSize": size}
    async with (
        ByteServer(answer(say(file))) as server,
        TopazClient("key", base_url=server.url, upload_url=server.url) as topaz,
    ):
        for _ in range(2):
            assert size == (await topaz.upload(tmp_path / "film.mp4")).size
        assert ["/api/file-stream-upload"] * 2 == [seen.path for seen in server.requests]
    assert caplog.text.count(f"took {len(FILM)} bytes, and says that it has {size}") == 2
