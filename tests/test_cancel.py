"""Cancelling any public call, at any moment, leaves nothing behind but a paid exchange."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from topaz_async import PollPolicy, Quotas, RetryPolicy, Timeouts, TopazClient, WaitTimeoutError

from .byteserver import (
    KEY,
    ByteServer,
    Peer,
    accepted,
    cancel_at_every_step,
    hang,
    no_traces,
    service,
    until,
)

FILM = b"\x00\x00\x00\x18ftypisom" + bytes(5000)


@pytest.fixture(autouse=True)
async def _nothing_stays() -> AsyncIterator[None]:
    async with no_traces():
        yield


def client(url: str, close: float = 2.0) -> TopazClient:
    return TopazClient(
        KEY,
        base_url=url,
        upload_url=url,
        timeouts=Timeouts(close=close),
        retry=RetryPolicy(first=0.001, longest=0.002),
        polling=PollPolicy(first=0.001, growth=1.0, longest=0.001),
        quotas=Quotas(submits=None, polls=None),
    )


Call = Callable[[TopazClient, Path], Coroutine[Any, Any, Any]]


async def _follow(topaz: TopazClient, folder: Path) -> str:
    return [str(record.state) async for record in topaz.job("task-1").updates()][-1]


CALLS: dict[str, Call] = {
    "submit": lambda topaz, folder: topaz.submit("https://files.example/a.mp4"),
    "submit a file": lambda topaz, folder: topaz.submit(folder / "in.mp4"),
    "upload": lambda topaz, folder: topaz.upload(folder / "in.mp4"),
    "wait": lambda topaz, folder: topaz.wait_for_result("task-1"),
    "updates": _follow,
    "download": lambda topaz, folder: topaz.download(topaz.job("task-1"), folder / "out.mp4"),
    "upscale": lambda topaz, folder: topaz.upscale(folder / "in.mp4", output=folder / "out.mp4"),
    "credits": lambda topaz, folder: topaz.fetch_task("task-1"),
}


@pytest.mark.parametrize("name", CALLS)
async def test_cancelled_at_every_step(name: str, tmp_path: Path) -> None:
    """At any step a cancelled call ends at once; then no task, connection or file of it is left."""
    (tmp_path / "in.mp4").write_bytes(FILM)
    topaz: TopazClient

    def ours() -> set[str]:
        names = {task.get_name() for task in asyncio.all_tasks() if not task.done()}
        return {name for name in names if name.startswith("topaz_async")}

    def called() -> Coroutine[Any, Any, Any]:
        nonlocal topaz
        (tmp_path / "out.mp4").unlink(missing_ok=True)
        server.play(service(FILM, "waiting", "generating"))
        topaz = client(server.url)
        return CALLS[name](topaz, tmp_path)

    async def afterwards(victim: asyncio.Task[Any]) -> None:
        assert victim.cancelled() or victim.exception() is None
        left = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
        assert left.pop("in.mp4") == FILM
        assert left in ({}, {"out.mp4": FILM})
        await until(lambda: not ours())
        orders = [seen for seen in server.requests if seen.path.endswith("createTask")]
        assert len(orders) <= 1
        await topaz.aclose()
        await until(lambda: server.open == 0)

    async with ByteServer() as server:
        assert await cancel_at_every_step(called, afterwards) > 5


async def test_order_outlives_its_caller(caplog: pytest.LogCaptureFixture) -> None:
    """A caller cancelled in mid-exchange leaves at once; only its createTask goes on, and ends."""
    release = asyncio.Event()

    async def slow(peer: Peer) -> None:
        await peer.request()
        await release.wait()
        await peer.send(accepted("task-7"))

    async with ByteServer(slow) as server, client(server.url) as topaz:
        caller = asyncio.create_task(topaz.upscale("https://files.example/a.mp4"))
        await until(lambda: server.requests)
        others = asyncio.all_tasks() - {caller}
        caller.cancel()
        began = asyncio.get_running_loop().time()
        with pytest.raises(asyncio.CancelledError):
            await caller
        assert asyncio.get_running_loop().time() - began < 0.5
        left = {task.get_name() for task in asyncio.all_tasks() & others}
        assert "topaz_async createTask" in left
        release.set()
        await until(lambda: "Task task-7 was made after its caller had left" in caplog.text)
        await until(lambda: server.open == 0)


async def test_one_of_many() -> None:
    """A cancelled wait cancels no other wait for the same task."""
    async with (
        ByteServer(service(FILM, *["waiting"] * 20)) as server,
        client(server.url) as topaz,
    ):
        waits = [asyncio.create_task(topaz.wait_for_result("task-1")) for _ in range(3)]
        await until(lambda: len(server.requests) > 3)
        waits[0].cancel()
        await asyncio.wait(waits)
        assert [wait.cancelled() for wait in waits] == [True, False, False]
        assert waits[1].result().task_id == "task-1"


async def test_total_timeout() -> None:
    """A call that is cut by its total time says that something may have been bought."""
    async with ByteServer(hang) as server, client(server.url, close=0.05) as topaz:
        began = asyncio.get_running_loop().time()
        with pytest.raises(WaitTimeoutError) as caught:
            await topaz.upscale("https://files.example/a.mp4", total_timeout=0.5)
        assert asyncio.get_running_loop().time() - began < 1.0
        assert (caught.value.billed, len(server.requests)) == ("unknown", 1)
