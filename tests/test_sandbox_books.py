"""The books of the sandbox tell what was bought, how often, and what was asked."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import aiohttp
import pytest

from tests.clips import Plain, clip, tiny
from topaz_async.sandbox import CopyEngine, Fault, Sandbox


@pytest.fixture
async def plain() -> AsyncIterator[Plain]:
    """A plain client on a sandbox that copies."""
    async with (
        Sandbox(engine=CopyEngine(), submit_quota=None) as sandbox,
        aiohttp.ClientSession() as session,
    ):
        yield Plain(sandbox, session)


async def test_a_request_is_kept_as_it_came(plain: Plain) -> None:
    """Route, method, path, headers in lower case, body, answer, task: all in one value."""
    task_id = await plain.made("http://127.0.0.1:9/a.mp4")
    await plain.record(task_id)
    first, second = plain.sandbox.books.requests
    assert (first.number, first.route, first.method, first.path) == (
        1,
        "createTask",
        "POST",
        "/api/v1/jobs/createTask",
    )
    assert first.headers["authorization"] == "Bearer sandbox-key"
    assert '"upscale_factor": "2"' in first.body
    assert (first.status, first.code, first.fault, first.task_id) == (200, 200, None, task_id)
    assert second.path == f"/api/v1/jobs/recordInfo?taskId={task_id}"
    assert (second.route, second.task_id) == ("recordInfo", task_id)
    assert first.arrived <= second.arrived <= asyncio.get_running_loop().time()


async def test_the_key_is_not_in_the_repr(plain: Plain) -> None:
    """A request printed by a failing test does not show the key."""
    await plain.get("/api/v1/chat/credit")
    assert "sandbox-key" not in repr(plain.sandbox.books.requests)


async def test_refused_requests_are_counted_but_not_billed(plain: Plain) -> None:
    """A refusal arrives and is answered, and buys nothing."""
    await plain.create("http://127.0.0.1:9/a.mp4", factor="3")
    books = plain.sandbox.books
    assert (books.count(), books.count("createTask"), books.billed) == (1, 1, {})
    assert books.requests[0].code == 500


async def test_an_input_paid_twice_is_found_by_its_url(plain: Plain) -> None:
    """The same URL twice is paid twice, whatever its query; another factor is not."""
    one = await plain.made("http://127.0.0.1:9/a.mp4?x=1")
    two = await plain.made("http://127.0.0.1:9/a.mp4?x=2")
    await plain.made("http://127.0.0.1:9/a.mp4", "4")
    await plain.made("http://127.0.0.1:9/b.mp4")
    books = plain.sandbox.books
    assert books.paid_twice() == {"topaz/video-upscale x2 http://127.0.0.1:9/a.mp4": [one, two]}
    assert len(books.billed_by_input("http://127.0.0.1:9/a.mp4")) == 3


async def test_an_input_paid_twice_is_found_by_its_content(plain: Plain) -> None:
    """The same bytes under two names are one input."""
    one = await plain.made(await plain.uploaded(tiny(), "one.mp4"))
    two = await plain.made(await plain.uploaded(tiny(), "two.mp4"))
    three = await plain.made(await plain.uploaded(clip(), "three.mp4"))
    books = plain.sandbox.books
    assert list(books.paid_twice().values()) == [[one, two]]
    assert books.billed_by_content(tiny()) == [one, two]
    assert books.billed_by_content(clip()) == [three]


async def test_until_returns_when_it_is_true_and_times_out_when_it_is_not(plain: Plain) -> None:
    """until looks again at each change, and gives up after its timeout."""
    books = plain.sandbox.books
    await books.until(lambda books: books.count() == 0)
    waiting = asyncio.create_task(books.until(lambda books: books.count("credit") == 2))
    await plain.get("/api/v1/chat/credit")
    assert not waiting.done()
    await plain.get("/api/v1/chat/credit")
    await waiting
    with pytest.raises(TimeoutError):
        await books.until(lambda books: False, timeout=0.01)


async def test_the_busiest_window_counts_arrivals_refused_or_not(plain: Plain) -> None:
    """Arrivals exactly one window apart do not share it."""
    books = plain.sandbox.books
    for at in (0.0, 0.5, 1.0, 1.25, 1.375, 5.0):
        books.note_arrival("made-up", "GET", "/", at, {})
    assert books.busiest_window("made-up", 1.0) == 4
    assert books.busiest_window("made-up", 0.125) == 1
    assert books.busiest_window("made-up", 100) == 6
    assert books.busiest_window("nothing", 1.0) == 0


async def test_a_random_history_never_loses_a_bill(plain: Plain) -> None:
    """With replies lost at random, the books hold each accepted task exactly once."""
    plain.sandbox.add_fault(Fault("createTask", "lost_reply", times=None, probability=0.5))
    known = []
    for number in range(40):
        try:
            known.append(await plain.made(f"http://127.0.0.1:9/{number}.mp4"))
        except aiohttp.ClientError:
            continue
    books = plain.sandbox.books
    assert 5 < len(known) < 35
    assert (len(books.billed), books.paid_twice()) == (40, {})
    assert set(known) < set(books.billed)
