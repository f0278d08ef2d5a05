"""The calls under way: closing ends them with an error of ours, and disturbs nothing else."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import pickle
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from topaz_async import (
    ClientClosedError,
    ConfigurationError,
    Job,
    PollPolicy,
    Quotas,
    RetryPolicy,
    TaskRecord,
    Timeouts,
    TopazClient,
    TopazError,
    UpscaleResult,
)
from topaz_async.calls import Calls

from .byteserver import (
    KEY,
    ByteServer,
    Peer,
    accepted,
    answer,
    everything_said,
    hang,
    http,
    no_traces,
    say,
    service,
    until,
)
from .virtual_time import run_on_a_loop

FILM = b"\x00\x00\x00\x18ftypisom" + bytes(5000)


@pytest.fixture
async def clean() -> AsyncIterator[None]:
    async with no_traces():
        yield


# -- one call -----------------------------------------------------------------------------------


async def _call(calls: Calls, seconds: float = 30.0) -> str:
    with calls.enter() as call:
        call.task_id, call.billed = "task-1", "yes"
        await asyncio.sleep(seconds)
    return "done"


async def _begin(calls: Calls) -> asyncio.Task[str]:
    task = asyncio.create_task(_call(calls))
    await asyncio.sleep(0)
    return task


async def test_closed() -> None:
    """A call under way ends with an error that names the task, its cost and the way on."""
    calls = Calls()
    task = await _begin(calls)
    calls.close()
    calls.close()
    with pytest.raises(ClientClosedError) as caught:
        await task
    assert (caught.value.task_id, caught.value.billed) == ("task-1", "yes")
    assert "wait_for_result('task-1')" in str(caught.value)
    assert task.cancelling() == 0


async def test_cancelled() -> None:
    """A call that its caller cancels is cancelled, though the client is closed as well."""
    for first in (True, False):
        calls = Calls()
        task = await _begin(calls)
        if first:
            task.cancel()
        calls.close()
        if not first:
            task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


async def test_ended_meanwhile() -> None:
    """A call that fails by itself while it is closed leaves its task's own timeouts alone."""
    calls = Calls()

    async def stubborn() -> None:
        async with asyncio.timeout(0.05):
            with contextlib.suppress(TopazError), calls.enter():
                try:
                    await asyncio.sleep(30)
                except asyncio.CancelledError:
                    raise TopazError("its own") from None
            await asyncio.sleep(30)

    task = asyncio.create_task(stubborn())
    await asyncio.sleep(0)
    calls.close()
    with pytest.raises(TimeoutError):
        await task


async def test_two_in_one_task() -> None:
    """Two calls in one another, closed together, end in the outer one's error."""
    calls = Calls()

    async def outer() -> None:
        with calls.enter() as call:
            call.task_id = "outer"
            await _call(calls)

    task = asyncio.create_task(outer())
    await asyncio.sleep(0)
    calls.close()
    with pytest.raises(ClientClosedError) as caught:
        await task
    assert caught.value.task_id == "outer"
    assert task.cancelling() == 0


async def test_after_closing() -> None:
    """No call begins after closing."""
    calls = Calls()
    assert await _call(calls, 0) == "done"
    calls.close()
    with pytest.raises(ClientClosedError):
        await _call(calls)


def test_another_loop() -> None:
    """A call on another loop than the first one's is refused in words."""
    calls = Calls()
    assert run_on_a_loop(_call(calls, 0)) == "done"
    with pytest.raises(ConfigurationError, match="another event loop"):
        run_on_a_loop(_call(calls, 0))


# -- a client -----------------------------------------------------------------------------------


def client(url: str, **timeouts: float) -> TopazClient:
    return TopazClient(
        KEY,
        base_url=url,
        upload_url=url,
        timeouts=Timeouts(**{"close": 0.2, **timeouts}),
        retry=RetryPolicy(first=0.001, longest=0.002),
        polling=PollPolicy(first=0.005, growth=1.0, longest=0.005),
        quotas=Quotas(),
    )


@pytest.mark.parametrize(
    ("path", "task_id", "billed"),
    [
        ("file-stream-upload", None, "no"),
        ("createTask", None, "unknown"),
        ("recordInfo", "task-1", "yes"),
        ("result.mp4", "task-1", "yes"),
    ],
)
@pytest.mark.usefixtures("clean")
async def test_closed_in_mid_story(
    tmp_path: Path, path: str, task_id: str | None, billed: str
) -> None:
    """Closing ends an upscale within 2 s, wherever it is, and says what is known of the task."""
    (tmp_path / "in.mp4").write_bytes(FILM)
    async with ByteServer(service(FILM, deaf_to=path)) as server:
        topaz = client(server.url)
        story = asyncio.create_task(topaz.upscale(tmp_path / "in.mp4", output=tmp_path / "out.mp4"))
        await until(lambda: any(path in seen.path for seen in server.requests))
        began = asyncio.get_running_loop().time()
        await topaz.aclose()
        with pytest.raises(ClientClosedError) as caught:
            await story
        assert asyncio.get_running_loop().time() - began < 2.0
        assert (caught.value.task_id, caught.value.billed) == (task_id, billed)
        assert KEY not in everything_said(caught.value)
        await topaz.aclose()
        await until(lambda: server.open == 0)
    assert [place.name for place in tmp_path.iterdir()] == ["in.mp4"]


@pytest.mark.usefixtures("clean")
async def test_closing_keeps_the_answer(caplog: pytest.LogCaptureFixture) -> None:
    """A createTask under way may end within the grace, and its id is logged."""

    async def slow(peer: Peer) -> None:
        await peer.request()
        await asyncio.sleep(0.05)
        await peer.send(accepted("task-8"))

    async with ByteServer(slow) as server:
        topaz = client(server.url, close=3.0)
        caller = asyncio.create_task(topaz.submit("https://files.example/a.mp4"))
        await until(lambda: server.requests)
        await topaz.aclose()
        with pytest.raises(ClientClosedError):
            await caller
        await until(lambda: "Task task-8 was made" in caplog.text)


@pytest.mark.usefixtures("clean")
async def test_many_waits_closed() -> None:
    """A hundred waits end with the client, each with its own task's id."""
    async with ByteServer(hang) as server:
        topaz = client(server.url)
        waits = [
            asyncio.create_task(topaz.wait_for_result(f"task-{number}", timeout=None))
            for number in range(100)
        ]
        await until(lambda: server.requests)
        began = asyncio.get_running_loop().time()
        await asyncio.gather(topaz.aclose(), topaz.aclose())
        ended = await asyncio.gather(*waits, return_exceptions=True)
        assert asyncio.get_running_loop().time() - began < 2.0
        assert {type(error) for error in ended} == {ClientClosedError}
        assert [getattr(error, "task_id", None) for error in ended] == [
            f"task-{number}" for number in range(100)
        ]


@pytest.mark.usefixtures("clean")
async def test_client_after_closing() -> None:
    """Each call after closing is an error of ours that sends nothing."""
    async with ByteServer(hang) as server:
        async with client(server.url) as topaz:
            pass
        for call in (
            topaz.submit("https://files.example/a.mp4"),
            topaz.wait_for_result("task-1"),
            topaz.fetch_task("task-1"),
            topaz.credits(),
            topaz.upload(FILM),
            topaz.download(f"{server.url}/a.mp4", "out.mp4"),
        ):
            with pytest.raises(ClientClosedError):
                await call
        with pytest.raises(ClientClosedError):
            async for _ in topaz.job("task-1").updates():
                pass
        assert server.connections == 0


def test_client_on_another_loop() -> None:
    """A client used on another loop is refused in words; closing it there does not hang."""

    async def first() -> tuple[TopazClient, float]:
        async with ByteServer(answer(say(7))) as server:
            topaz = client(server.url)
            return topaz, await topaz.credits()

    async def second(topaz: TopazClient) -> None:
        for _ in range(2):
            with pytest.raises(ConfigurationError, match="another event loop"):
                await topaz.credits()
        async with asyncio.timeout(2.0):
            await topaz.aclose()

    topaz, credits_left = run_on_a_loop(first())
    assert credits_left == 7.0
    run_on_a_loop(second(topaz))
    del topaz
    gc.collect()


@pytest.mark.usefixtures("clean")
async def test_key_stays_home(tmp_path: Path) -> None:
    """The key reaches the two configured origins, and neither a result's host nor a redirect's."""
    (tmp_path / "in.mp4").write_bytes(FILM)
    async with ByteServer(service(FILM)) as elsewhere, ByteServer(service(FILM)) as files:
        there = http(b"", "302 Found", f"Location: {elsewhere.url}/film.mp4")

        async def points_away(peer: Peer) -> None:
            await peer.request()
            await peer.send(there)

        async with ByteServer(points_away) as host:
            found = say(
                {
                    "taskId": "task-1",
                    "state": "success",
                    "resultJson": f'{{"resultUrls":["{host.url}/r.mp4"]}}',
                }
            )

            async def api(peer: Peer) -> None:
                while True:
                    seen = await peer.request()
                    await peer.send(accepted() if "createTask" in seen.path else found)

            async with ByteServer(api) as home:
                topaz = TopazClient(
                    KEY,
                    base_url=home.url,
                    upload_url=files.url,
                    polling=PollPolicy(first=0.005),
                )
                async with topaz:
                    await topaz.upscale(tmp_path / "in.mp4", output=tmp_path / "out.mp4")
                assert (tmp_path / "out.mp4").read_bytes() == FILM
                for server, knows in ((home, 1), (files, 1), (host, 0), (elsewhere, 0)):
                    assert server.requests
                    assert (KEY.encode() in server.received) == bool(knows)


@pytest.mark.usefixtures("clean")
async def test_after_closing_the_error_names_the_task_and_what_is_known_of_its_cost() -> None:
    """Nothing that may be paid for is called free because the client is closed."""
    async with ByteServer(hang) as server:
        topaz = client(server.url)
        await topaz.aclose()
        job = topaz.job(Job("task-1", "order-17"))
        result = UpscaleResult("task-1", (), TaskRecord("task-1", "success"), None, "order-17")
        for call in (
            topaz.wait_for_result(job),
            job.fetch(),
            job.download("out.mp4"),
            anext(job.updates()),
            topaz.bind("order-17", "task-1"),
            topaz.download(result, "out.mp4"),
            topaz.submit("https://files.example/a.mp4", reference="order-17"),
            topaz.upscale("https://files.example/a.mp4", reference="order-17"),
        ):
            with pytest.raises(ClientClosedError) as caught:
                await call  # type: ignore[misc]
            assert "order-17" == caught.value.reference
            assert caught.value.billed != "no"
        with pytest.raises(ClientClosedError, match="Nothing was billed") as caught:
            await topaz.submit("https://files.example/a.mp4")
        with pytest.raises(ConfigurationError) as unbound:
            await pickle.loads(pickle.dumps(job))
        assert ("task-1", "unknown") == (unbound.value.task_id, unbound.value.billed)


@pytest.mark.usefixtures("clean")
@pytest.mark.parametrize("reference", [None, "order-17"])
async def test_closing_calls_no_unknown_job_free(reference: str | None) -> None:
    """Of a submit whose answer was lost nobody knows the cost, closed or not."""
    async with ByteServer(hang) as server:
        job = Job("", reference, unknown=True)
        for way in (
            lambda topaz: topaz.wait_for_result(job),
            lambda topaz: topaz.fetch_task(job),
            lambda topaz: topaz.download(job, "out.mp4"),
        ):
            topaz = client(server.url)
            call = asyncio.create_task(way(topaz))
            await asyncio.sleep(0)
            await topaz.aclose()
            with pytest.raises(TopazError) as caught:
                await call
            assert ("unknown", reference) == (caught.value.billed, caught.value.reference)


@pytest.mark.usefixtures("clean")
@pytest.mark.parametrize("consent", [{}, {"resubmit_unknown": True}, {"resubmit_failed": True}])
async def test_closing_in_the_first_step_calls_no_reference_free(consent: dict[str, bool]) -> None:
    """It may stand for a task that is paid for; and a consent is not repeated lightly."""
    url = "https://files.example/a.mp4"
    async with ByteServer(hang) as server:
        for way in (TopazClient.submit, TopazClient.upscale):
            topaz = client(server.url)
            call = asyncio.create_task(way(topaz, url, reference="order-17", **consent))
            await asyncio.sleep(0)
            await topaz.aclose()
            with pytest.raises(ClientClosedError, match="pays for nothing twice") as caught:
                await call
            assert ("unknown", "order-17") == (caught.value.billed, caught.value.reference)
            assert bool(consent) == ("without resubmit_unknown and" in str(caught.value.hint))


@pytest.mark.parametrize("least", [None, "2", -1.0, True])
async def test_a_least_interval_that_is_none_is_refused_before_the_first_record(
    least: Any,
) -> None:
    """It is an error of ours, at the call."""
    async with ByteServer(hang) as server, client(server.url) as topaz:
        with pytest.raises(ConfigurationError, match="min_interval"):
            topaz.updates("task-1", min_interval=least)


@pytest.mark.parametrize("is_told", [False, True])
@pytest.mark.usefixtures("clean")
async def test_a_paid_task_whose_caller_leaves_is_in_the_log(
    caplog: pytest.LogCaptureFixture, is_told: bool
) -> None:
    """Without a journal that is the only place; an on_submit that writes it down may do so."""
    noted: list[str] = []
    started = asyncio.Event()

    async def note(job: Job) -> None:
        started.set()
        await asyncio.sleep(0.05)
        noted.append(job.task_id)

    async with (
        ByteServer(service(FILM, deaf_to="recordInfo")) as server,
        client(server.url) as topaz,
    ):
        story = asyncio.create_task(
            topaz.upscale("https://files.example/a.mp4", on_submit=note if is_told else None)
        )
        if is_told:
            await started.wait()
        else:
            await until(lambda: any("recordInfo" in seen.path for seen in server.requests))
        story.cancel()
        with pytest.raises(asyncio.CancelledError):
            await story
        assert "Task task-1 goes on" in caplog.text
        if is_told:
            await until(lambda: noted == ["task-1"])


async def test_who_waits_for_a_connection_has_not_begun() -> None:
    """Without a submit quota a hundred go at once; cancelled, the others never leave."""
    may_answer = asyncio.Event()

    async def slow(peer: Peer) -> None:
        await peer.request()
        await may_answer.wait()
        await peer.send(accepted())

    async with ByteServer(slow) as server:
        topaz = TopazClient(KEY, base_url=server.url, quotas=Quotas(submits=None))
        calls = [
            asyncio.create_task(topaz.submit(f"https://files.example/{number}.mp4"))
            for number in range(130)
        ]
        await until(lambda: len(server.requests) == 100)
        for call in calls:
            call.cancel()
        await asyncio.gather(*calls, return_exceptions=True)
        may_answer.set()
        await topaz.aclose()  # when every exchange has ended
        assert 100 == len(server.requests)


async def test_an_answer_that_is_said_twice_is_no_answer_to_other_questions() -> None:
    """A kept connection that is out of step is used no more, and the waits go on."""
    doubled = [True]

    async def answers(peer: Peer) -> None:
        while True:
            seen = await peer.request()
            task_id = seen.path.partition("taskId=")[2]
            record = {"taskId": task_id, "state": "success"}
            record["resultJson"] = json.dumps({"resultUrls": [f"https://x.example/{task_id}"]})
            said = say(record)
            await peer.send(said)
            if doubled.pop() if doubled else False:
                await asyncio.sleep(0.02)
                await peer.send(said)

    async with ByteServer(answers) as server, client(server.url) as topaz:
        await topaz.wait_for_result("one", timeout=5.0)
        for name in ("two", "three"):
            await asyncio.sleep(0.05)  # until what was said too late has arrived
            result = await topaz.wait_for_result(name, timeout=5.0)
            assert (name, [f"https://x.example/{name}"]) == (result.task_id, list(result.urls))
    asked = [seen.path.partition("taskId=")[2] for seen in server.requests]
    assert ["one", "two", "two", "three"] == asked


async def test_a_long_header_costs_no_task_id() -> None:
    """Somebody on the way may add what he likes to the answer to createTask."""
    long = b"\r\nX-Trace: " + b"x" * 60_000 + b"\r\n\r\n"
    said = accepted("task-7").replace(b"\r\n\r\n", long, 1)
    async with ByteServer(answer(said)) as server, client(server.url) as topaz:
        assert "task-7" == (await topaz.submit("https://files.example/a.mp4")).task_id
