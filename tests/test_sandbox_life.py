"""The sandbox opens on loopback only, carries a load, and leaves nothing behind."""

from __future__ import annotations

import ast
import asyncio
import gc
import os
import resource
import tempfile
import threading
import time
from pathlib import Path

import aiohttp
import pytest
from blockbuster import blockbuster_ctx

import topaz_async.sandbox
from tests.clips import Plain, clip, make_clip, tiny
from topaz_async.sandbox import CopyEngine, Fault, Sandbox
from topaz_async.sandbox.loopback import loopback_url

FOLDER = Path(topaz_async.sandbox.__file__).parent


def test_it_imports_nothing_of_the_sdk() -> None:
    """A second reading of the protocol shares no line with the first."""
    foreign = []
    for path in FOLDER.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [node.module or ""] if node.level < 2 else ["topaz_async above"]
            else:
                continue
            foreign += [f"{path.name}: {name}" for name in names if name.startswith("topaz_async")]
    assert foreign == []


@pytest.mark.parametrize("host", ["0.0.0.0", "", "192.168.1.7", "example.com", "::", "localhost.x"])
def test_it_refuses_to_bind_anything_but_loopback(host: str) -> None:
    """A host that others could reach is an error before any socket is made."""
    with pytest.raises(ValueError, match="loopback addresses only"):
        Sandbox(host=host)


@pytest.mark.parametrize(
    ("host", "shown"), [("localhost", "localhost"), ("127.0.0.2", "127.0.0.2"), ("::1", "[::1]")]
)
async def test_other_names_of_loopback_work(host: str, shown: str) -> None:
    """localhost, any 127 address, and IPv6."""
    try:
        async with Sandbox(host=host) as sandbox, aiohttp.ClientSession() as session:
            assert sandbox.base_url.startswith(f"http://{shown}:")
            assert (await Plain(sandbox, session).upscaled(tiny())).state == "success"
    except OSError as error:
        pytest.skip(f"this machine has no {host}: {error}")


@pytest.mark.parametrize(
    ("url", "reached"),
    [
        ("http://127.0.0.1:8080/a?b", True),
        ("http://127.8.9.1/a", True),
        ("http://localhost:1/", True),
        ("http://app.localhost/", True),
        ("http://[::1]:8080/", True),
        ("https://127.0.0.1/a", False),
        ("http://198.51.100.7/", False),
        ("http://10.0.0.1/", False),
        ("http://0.0.0.0/", False),
        ("http://localhost.example/", False),
        ("http://example.com/127.0.0.1", False),
        ("http://127.0.0.1@example.com/", False),
        ("file:///etc/passwd", False),
        ("ftp://127.0.0.1/", False),
        ("http://[::1", False),
        ("//127.0.0.1/", False),
        ("", False),
        (None, False),
        (7, False),
    ],
)
def test_only_http_on_this_machine_is_ever_asked(url: object, reached: bool) -> None:
    """Inputs, fileUrl and callbacks all pass this one gate."""
    assert (loopback_url(url) is not None) is reached


async def test_the_two_origins_are_two() -> None:
    """A key sent to the wrong origin shows: API routes are unknown where files are, and back."""
    async with Sandbox() as sandbox, aiohttp.ClientSession() as session:
        plain = Plain(sandbox, session)
        for url in (
            f"{sandbox.base_url}/api/file-stream-upload",
            f"{sandbox.upload_url}/api/v1/jobs/createTask",
        ):
            async with session.post(url, json={}, headers=plain.headers) as answer:
                assert answer.status == 404
        assert [seen.route for seen in sandbox.books.requests] == ["unknown", "unknown"]


async def test_a_port_can_be_chosen_and_a_taken_one_is_an_os_error() -> None:
    """The port asked for is the API's; a second sandbox on it fails and leaves nothing."""
    async with Sandbox() as first:
        port = int(first.base_url.rpartition(":")[2])
        with pytest.raises(OSError, match="in use"):
            await Sandbox(port=port).start()
    async with Sandbox(port=port) as second:
        assert second.base_url == f"http://127.0.0.1:{port}"


async def test_it_is_opened_once_and_may_be_closed_twice() -> None:
    """Opening again is an error with words; closing again is nothing."""
    sandbox = Sandbox(engine=CopyEngine())
    await sandbox.start()
    await sandbox.aclose()
    await sandbox.aclose()
    with pytest.raises(RuntimeError, match="opened once"):
        await sandbox.start()


async def test_nothing_is_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After closing amid work: no thread, task, descriptor or file of it remains."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    gc.collect()
    threads, tasks = set(threading.enumerate()), asyncio.all_tasks()
    descriptors = len(os.listdir("/proc/self/fd"))
    async with (
        Sandbox(workers=2, submit_quota=None) as sandbox,
        aiohttp.ClientSession() as session,
    ):
        plain = Plain(sandbox, session)
        await plain.upscaled(tiny())
        url = await plain.uploaded(clip(seconds=3, width=320, height=180), "long.mp4")
        sandbox.add_fault(Fault("credit", "slow", times=None, seconds=60))
        hanging = asyncio.create_task(plain.get("/api/v1/chat/credit"))
        await asyncio.gather(*(plain.made(url, "4") for _ in range(6)))
        await sandbox.books.until(
            lambda books: any(task.state == "generating" for task in books.tasks.values())
        )
        hanging.cancel()
        await asyncio.gather(hanging, return_exceptions=True)
    await asyncio.sleep(0)
    left = [thread.name for thread in set(threading.enumerate()) - threads]
    assert [name for name in left if "sandbox" in name] == []
    assert asyncio.all_tasks() == tasks
    assert list(tmp_path.iterdir()) == []
    assert len(os.listdir("/proc/self/fd")) <= descriptors


async def test_closing_amid_a_long_upscale_takes_less_than_two_seconds(tmp_path: Path) -> None:
    """Work under way stops between two frames."""
    path = make_clip(tmp_path / "long.mp4", seconds=8, width=960, height=540, audio=False)
    async with Sandbox() as sandbox, aiohttp.ClientSession() as session:
        plain = Plain(sandbox, session)
        url = await plain.uploaded(await asyncio.to_thread(path.read_bytes))
        task_id = await plain.made(url, "4")
        await sandbox.books.until(lambda books: books.tasks[task_id].state == "generating")
        await asyncio.sleep(0.2)
        started = time.monotonic()
        await sandbox.aclose()
        assert time.monotonic() - started < 2
        assert sandbox.books.tasks[task_id].state == "generating"


async def test_queue_and_run_times_are_kept_and_may_differ_by_task() -> None:
    """A task waits and works at least as long as is set; a function sets it task by task."""
    async with (
        Sandbox(engine=CopyEngine(), queue_seconds=0.1, run_seconds=lambda n: 0.1 * n) as sandbox,
        aiohttp.ClientSession() as session,
    ):
        plain, clock = Plain(sandbox, session), asyncio.get_running_loop().time
        url = await plain.uploaded(tiny())
        for number in (1, 2):
            task_id = await plain.made(url)
            made = clock()
            assert (await plain.record(task_id))["data"]["state"] == "waiting"
            await sandbox.books.until(lambda b, t=task_id: b.tasks[t].state == "generating")
            assert clock() - made >= 0.09
            await plain.ended(task_id)
            assert 0.09 + 0.1 * number <= clock() - made < 1 + 0.1 * number


async def test_a_pretended_run_holds_no_worker() -> None:
    """With one worker, twenty tasks of half a second each run side by side."""
    async with (
        Sandbox(engine=CopyEngine(), workers=1, run_seconds=0.5) as sandbox,
        aiohttp.ClientSession() as session,
    ):
        plain = Plain(sandbox, session)
        url = await plain.uploaded(tiny())
        ids = await asyncio.gather(*(plain.made(url) for _ in range(20)))
        started = time.monotonic()
        await asyncio.gather(*(plain.ended(task_id) for task_id in ids))
        assert time.monotonic() - started < 2


async def test_no_more_tasks_work_at_once_than_there_are_workers() -> None:
    """The engine is never called by more threads than workers."""
    lock, at_work, most = threading.Lock(), 0, 0

    class Counting(CopyEngine):
        def upscale(self, *args: object, **options: object) -> None:
            nonlocal at_work, most
            with lock:
                at_work += 1
                most = max(most, at_work)
            time.sleep(0.005)
            super().upscale(*args, **options)  # type: ignore[arg-type]
            with lock:
                at_work -= 1

    async with (
        Sandbox(engine=Counting(), workers=3, submit_quota=None, credits=10_000) as sandbox,
        aiohttp.ClientSession() as session,
    ):
        plain = Plain(sandbox, session)
        url = await plain.uploaded(tiny())
        ids = await asyncio.gather(*(plain.made(url) for _ in range(30)))
        await asyncio.gather(*(plain.ended(task_id) for task_id in ids))
        assert most == 3


async def test_an_engine_that_crashes_fails_its_task_only() -> None:
    """Any exception of an engine becomes a fail with the service's words; it is logged."""

    class Crashing(CopyEngine):
        def upscale(self, source: Path, *args: object, **options: object) -> None:
            raise ZeroDivisionError("boom")

    async with Sandbox(engine=Crashing()) as sandbox, aiohttp.ClientSession() as session:
        task = await Plain(sandbox, session).upscaled(tiny())
        assert (task.state, task.fail_code, task.fail_msg) == ("fail", "500", "Internal Error")
        assert task.cause == "ZeroDivisionError('boom')"


async def test_200_tiny_clips_take_a_few_seconds_and_never_hold_the_loop() -> None:
    """Two workers upscale 200 clips while no blocking call is made on the event loop."""
    async with (
        Sandbox(submit_quota=None, poll_quota=None, credits=10_000) as sandbox,
        aiohttp.ClientSession() as session,
    ):
        plain = Plain(sandbox, session)
        url, started = await plain.uploaded(tiny()), time.monotonic()
        with blockbuster_ctx("topaz_async"):
            ids = await asyncio.gather(*(plain.made(url) for _ in range(200)))
            await asyncio.gather(*(plain.ended(task_id, 30) for task_id in ids))
            await asyncio.gather(*(plain.record(task_id) for task_id in ids[:50]))
        assert time.monotonic() - started < 10
        assert [task.state for task in sandbox.books.tasks.values()] == ["success"] * 200


async def test_opening_and_closing_never_hold_the_loop() -> None:
    """From the constructor to the end of aclose nothing blocks the event loop."""
    data = tiny()
    with blockbuster_ctx("topaz_async"):
        async with Sandbox(webhook_key="key") as sandbox, aiohttp.ClientSession() as session:
            plain = Plain(sandbox, session)
            task = await plain.upscaled(data)
            await plain.fetched(task.result_urls[0])
            await plain.made(task.source, callBackUrl="http://127.0.0.1:9/")


async def test_a_thousand_connections_at_once_are_fine() -> None:
    """A thousand open polls are all answered."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < 4096:
        pytest.skip("this machine allows too few descriptors")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 4096), hard))
    try:
        async with (
            Sandbox(engine=CopyEngine(), poll_quota=None) as sandbox,
            aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session,
        ):
            plain = Plain(sandbox, session)
            sandbox.add_fault(Fault("recordInfo", "slow", times=None, seconds=0.5))
            answers = await asyncio.gather(*(plain.record("x") for _ in range(1000)))
            assert {answer["code"] for answer in answers} == {422}
            assert sandbox.books.busiest_window("recordInfo", 60) == 1000
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def test_a_client_that_goes_away_is_no_error(caplog: pytest.LogCaptureFixture) -> None:
    """Clients that vanish before, while and after they are answered leave no line in the log."""
    async with (
        Sandbox(engine=CopyEngine(), arrival_jitter=0.02) as sandbox,
        aiohttp.ClientSession() as session,
    ):
        plain = Plain(sandbox, session)
        url = await plain.uploaded(bytes(5_000_000))
        for path in (url, f"{sandbox.base_url}/api/v1/models"):
            for pause in (0.0, 0.01, 0.05):
                host, port = path.removeprefix("http://").partition("/")[0].split(":")
                _, writer = await asyncio.open_connection(host, int(port))
                target = path.partition(f":{port}")[2]
                writer.write(f"GET {target} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
                await asyncio.sleep(pause)
                writer.transport.abort()
        await sandbox.books.until(lambda books: books.count() >= 7)
        assert (await plain.get("/api/v1/chat/credit"))["code"] == 200
    assert [record.getMessage() for record in caplog.records if record.levelname == "ERROR"] == []


async def test_the_dashboard_shows_tasks_and_escapes_what_clients_sent() -> None:
    """One page without foreign resources; text of clients is text; the key is not on it."""
    async with Sandbox() as sandbox, aiohttp.ClientSession() as session:
        plain = Plain(sandbox, session)
        await plain.upscaled(tiny())
        evil = "http://127.0.0.1:9/<script>alert(1)</script>"
        await plain.ended(await plain.made(evil))
        sandbox.add_fault(Fault("credit", "answer"))
        async with session.get(f"{sandbox.base_url}/api/v1/chat/credit?<b>") as answer:
            await answer.read()
        async with session.get(sandbox.base_url) as answer:
            page = await answer.text()
            assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
            assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
        assert "<script" not in page
        assert "&lt;script&gt;" in page
        assert "<b>" not in page
        assert "sandbox-key" not in page
        assert '<span class="state success">success</span>' in page
        assert "Upload failed: Server internal error." in page
        assert page.count("http") == page.count("http://127.0.0.1") + page.count("http-equiv")
        assert all(seen.path != "/" for seen in sandbox.books.requests)
