"""What a careless caller or a broken peer can do, and the typed end it has."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, ClassVar

import attrs
import pytest

from topaz_async import (
    Budget,
    ConfigurationError,
    InvalidInputError,
    Job,
    ResultError,
    SubmitUnknownError,
    TaskInput,
    TaskRecord,
    TopazClient,
    UpscaleResult,
    WaitTimeoutError,
)
from topaz_async.sandbox import Fault, Sandbox

from .byteserver import ByteServer, Peer
from .conftest import client_of
from .virtual_time import run_on_a_loop


@attrs.frozen
class Odd(TaskInput):
    """An input that holds what JSON cannot."""

    model: ClassVar[str] = "topaz/video-upscale"
    video_url: str
    extra: object = None


async def test_an_id_that_came_before_the_cut_is_told(tmp_path: Path) -> None:
    """A broken-off answer that names a task is unknown, and its id is in error and journal."""

    async def cut(peer: Peer) -> None:
        await peer.request()
        head = b"HTTP/1.1 200 OK\r\nContent-Length: 120\r\n\r\n"
        body = b'{"code":200,"msg":"success","data":{"taskId":"%s","recordId":"' % (b"a" * 32)
        await peer.send(head + body)

    async with (
        ByteServer(cut) as server,
        TopazClient("key", base_url=server.url, journal=tmp_path / "jobs.sqlite") as topaz,
    ):
        with pytest.raises(SubmitUnknownError) as caught:
            await topaz.submit("https://files.example/a.mp4", reference="r")
        assert caught.value.task_id == "a" * 32
        (entry,) = await topaz.journal.jobs("unknown")
        assert "a" * 32 in (entry.words or "")


@pytest.mark.parametrize("extra", [Path("a"), {1, 2}, b"x", float("nan"), {(1, 2): 3}])
async def test_what_json_cannot_hold_is_refused_before_it_costs(
    sandbox: Sandbox, tmp_path: Path, extra: object
) -> None:
    """It is InvalidInputError, nothing is sent, and the reference stays free."""
    async with client_of(sandbox, journal=tmp_path / "jobs.sqlite") as topaz:
        for _ in range(2):
            with pytest.raises(InvalidInputError) as caught:
                await topaz.submit(Odd("https://a.b/c.mp4", extra), reference="r")
            assert caught.value.billed == "no"
        assert await topaz.journal.jobs() == []
    assert sandbox.books.count("createTask") == 0


async def test_a_reference_in_flight_is_no_second_purchase(
    sandbox: Sandbox, clip: Path, tmp_path: Path
) -> None:
    """A repeat while a cancelled submit is under way gets its job, within the same budget."""
    options = {"budget": Budget(max_tasks=1), "journal": tmp_path / "jobs.sqlite"}
    async with client_of(sandbox, **options) as topaz:
        url = (await topaz.upload(clip)).url
        sandbox.add_fault(Fault("createTask", "slow", seconds=0.3))
        first = asyncio.create_task(topaz.submit(url, reference="r"))
        await sandbox.books.until(lambda books: len(books.billed) == 1)
        first.cancel()
        job = await topaz.submit(url, reference="r")
    assert [job.task_id] == list(sandbox.books.billed)


async def test_a_locked_journal_does_not_move_a_deadline(clip: Path, tmp_path: Path) -> None:
    """A wait ends in time although another process keeps the journal for itself."""
    path = tmp_path / "jobs.sqlite"
    async with Sandbox(run_seconds=30, poll_quota=None) as slow:
        async with client_of(slow, journal=path) as topaz:
            job = await topaz.submit(clip)
        lock = sqlite3.connect(path, isolation_level=None)
        lock.execute("PRAGMA locking_mode = EXCLUSIVE")
        lock.execute("BEGIN EXCLUSIVE")
        async with client_of(slow, journal=path) as topaz:
            began = time.monotonic()
            with pytest.raises(WaitTimeoutError):
                await topaz.wait_for_result(job.task_id, timeout=0.3)
            assert time.monotonic() - began < 1.0
            lock.close()


async def test_a_recovered_unknown_job_says_what_was_sent_and_when(
    sandbox: Sandbox, clip: Path, tmp_path: Path
) -> None:
    """Its error has fingerprint and time, for whoever looks into the account's log."""
    path = tmp_path / "jobs.sqlite"
    sandbox.add_fault(Fault("createTask", "lost_reply"))
    async with client_of(sandbox, journal=path) as topaz:
        with pytest.raises(SubmitUnknownError):
            await topaz.submit(clip, reference="r")
    async with client_of(sandbox, journal=path) as topaz:
        (job,) = [job async for job in topaz.recover()]
        with pytest.raises(SubmitUnknownError, match="bind") as caught:
            await job
        assert caught.value.fingerprint
        assert caught.value.sent_at is not None


# -- batches ----------------------------------------------------------------------------------


async def test_a_source_that_is_cancelled_ends_the_batch(topaz: TopazClient, clip: Path) -> None:
    """CancelledError out of the iterable comes out after the outcomes, and hangs nobody."""

    async def breaks() -> AsyncIterator[Path]:
        yield clip
        raise asyncio.CancelledError

    batch = topaz.upscale_many(breaks())
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(batch, 20)
    assert batch.report.counts == {"ok": 1}


async def test_a_reference_function_that_raises_loses_no_item(
    topaz: TopazClient, clip: Path
) -> None:
    """Each video has an outcome, whatever the caller's own function does."""

    def bad(video: object) -> str:
        raise KeyError(video)

    report = await topaz.upscale_many([clip, clip], reference=bad)
    assert report.counts == {"refused": 2}


async def test_a_generator_is_closed_when_the_batch_is_left(topaz: TopazClient, clip: Path) -> None:
    """The caller's own files behind it do not wait for the garbage collector."""
    closed = []

    def videos():  # type: ignore[no-untyped-def]
        try:
            while True:
                yield clip
        finally:
            closed.append(True)

    async with topaz.upscale_many(videos(), concurrency=1) as batch:
        async for _ in batch:
            break
    assert closed == [True]


async def test_a_report_can_be_read_outside_the_loop(topaz: TopazClient, clip: Path) -> None:
    """batch.report needs no running loop."""
    batch = topaz.upscale_many([clip])
    await batch
    assert (await asyncio.to_thread(lambda: batch.report)).counts == {"ok": 1}


# -- wrong types ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        {"timeouts": 5},
        {"retry": {}},
        {"polling": "fast"},
        {"quotas": 5},
        {"budget": 3},
        {"journal": 5},
        {"journal": {}},
        {"local_addr": "x"},
        {"local_addr": ("127.0.0.1",)},
        {"local_addr": ("127.0.0.1", "80")},
        {"local_addr": ("127.0.0.1", 65536)},
        {"local_addr": ("", 0)},
    ],
)
def test_options_of_a_wrong_type_are_refused(options: dict[str, Any]) -> None:
    """They are refused by the constructor, in words."""
    with pytest.raises(ConfigurationError):
        TopazClient("key", **options)


@pytest.mark.parametrize("prices", [5, {"m": 5}, {"m": {"2": "8"}}, {"m": {"2": -1}}])
def test_prices_are_numbers(prices: Any) -> None:
    """A price table is checked when it is handed in."""
    with pytest.raises(ConfigurationError):
        Budget(prices=prices)


_NO_LINK = UpscaleResult("a", (), TaskRecord("a", "success"))


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda t, c: t.wait_for_result(10**5000), InvalidInputError),
        (lambda t, c: t.wait_for_result(Job("")), InvalidInputError),
        (lambda t, c: t.fetch_task(Job(None)), InvalidInputError),  # type: ignore[arg-type]
        (lambda t, c: t.upload(c, name=5), InvalidInputError),
        (lambda t, c: t.download(_NO_LINK, "nowhere.mp4"), ResultError),
    ],
)
async def test_odd_arguments_have_typed_ends(
    topaz: TopazClient, clip: Path, call: Callable[..., Any], error: type[Exception]
) -> None:
    """No KeyError, IndexError or ValueError of Python's own comes out."""
    with pytest.raises(error):
        await call(topaz, clip)


@pytest.mark.parametrize(
    "call", [lambda t: t.upscale_many(5), lambda t: t.upscale_many([], output_dir=5),
             lambda t: t.upscale_many([], reference=5)]
)  # fmt: skip
async def test_odd_batches_are_refused(topaz: TopazClient, call: Callable[..., Any]) -> None:
    """They are refused where they are made."""
    with pytest.raises(InvalidInputError):
        call(topaz)


def test_a_client_can_be_closed_after_its_loop_is_over(tmp_path: Path) -> None:
    """aclose() on a later loop ends without an error of the dead loop's."""
    client = TopazClient("key", base_url="http://127.0.0.1:9", journal=tmp_path / "j.sqlite")

    async def use() -> None:
        waiting = asyncio.create_task(client.wait_for_result("a" * 32))
        await asyncio.sleep(0.01)
        waiting.cancel()

    run_on_a_loop(use())
    run_on_a_loop(client.aclose())
    run_on_a_loop(client.aclose())
