"""The receiver of callbacks: how many a second, what they cost, how soon a result is there.

    python tests/benchmarks/bench_callbacks.py [--seconds 10] [--jobs 1000]

Rate: a sender in a process of its own posts signed callbacks over kept connections, without a
pause, in turn for a second each to a bare aiohttp handler that only reads the JSON and to a hub
whose client waits for jobs (their recordInfo is answered by a light server).  Some of the callbacks
are for those jobs, the others for tasks that nobody knows.

Lag: jobs one after the other on the sandbox, which runs in a process of its own, signs and calls
back.  Measured from the moment when the task has ended there to the awaiting coroutine, beside the
round trip of a bare GET between the same two processes after the same idle time.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import os
import resource
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from typing import Any

KEY = "example-hmac-key"
CONNECTIONS = 32
#: Seconds that a job takes at the sandbox.
IDLE = 0.025


def resident() -> int:
    """Bytes of memory that this process holds."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()


def spawn(target: Callable[..., None], *arguments: Any) -> tuple[Any, Connection]:
    """Start a process that answers over a pipe."""
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(
        target=target, args=(theirs, *arguments), daemon=True
    )
    process.start()
    return process, ours


async def told(pipe: Connection) -> Any:
    """Wait for a word over a pipe without holding up the loop."""
    return await asyncio.get_running_loop().run_in_executor(None, pipe.recv)


# -- the sender -------------------------------------------------------------------------------


def requests(tasks: Iterator[str], path: str) -> Iterator[bytes]:
    """Yield signed callbacks as the market pages document them."""
    from topaz_async.sandbox import sign

    for task_id in tasks:
        param = json.dumps({"model": "topaz/video-upscale", "input": "{}"})
        data = {"taskId": task_id, "model": "topaz/video-upscale", "state": "success",
                "param": param, "resultJson": '{"resultUrls":["https://files.example/o.mp4"]}',
                "failCode": None, "failMsg": None, "costTime": 64, "completeTime": 1790000064000,
                "createTime": 1790000000000, "creditsConsumed": 80}  # fmt: skip
        body = json.dumps({"code": 200, "msg": "Playground task completed.", "data": data}).encode()
        now = str(int(time.time()))
        head = (
            f"POST {path}?topaz_nonce=n{task_id} HTTP/1.1\r\nHost: localhost\r\n"
            f"Content-Type: application/json\r\nX-Webhook-Timestamp: {now}\r\n"
            f"X-Webhook-Signature: {sign(KEY, task_id, now)}\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        yield head.encode() + body


class Post(asyncio.Protocol):
    """One kept connection: the next callback leaves when the last one is answered."""

    def __init__(self, callbacks: Iterator[bytes], counts: dict[str, int], end: float) -> None:
        self.callbacks, self.counts, self.end = callbacks, counts, end
        self.done = asyncio.get_running_loop().create_future()
        self.buffer = b""

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.send()

    def send(self) -> None:
        callback = next(self.callbacks, None) if time.monotonic() < self.end else None
        if callback is None:
            self.transport.close()
            if not self.done.done():
                self.done.set_result(None)
            return
        self.transport.write(callback)

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        head, found, body = self.buffer.partition(b"\r\n\r\n")
        if not found:
            return
        length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
        if len(body) >= length:
            self.buffer = b""
            status = head.split(b" ", 2)[1].decode()
            self.counts[status] = self.counts.get(status, 0) + 1
            self.send()

    def connection_lost(self, error: Exception | None) -> None:
        if not self.done.done():
            self.done.set_result(None)


def sender(pipe: Connection) -> None:
    """Post as fast as the server answers, whenever told to; tell the statuses and the seconds."""

    async def burst(port: int, path: str, seconds: float, mine: list[str], seed: str) -> Any:
        # Those of the jobs are spread over the whole time; made beforehand, to send without pause.
        most = int(seconds * 15000)
        every = max(2, int(seconds * 2000 / max(1, len(mine))))
        jobs = iter(mine)
        ids = (
            (next(jobs, None) if number % every == 0 else None) or f"{seed}{number:031x}"
            for number in range(most)
        )
        callbacks = iter(list(requests(ids, path)))
        counts: dict[str, int] = {}
        began = time.monotonic()
        loop = asyncio.get_running_loop()
        posts = [
            (await loop.create_connection(
                lambda: Post(callbacks, counts, began + seconds), "127.0.0.1", port
            ))[1]
            for _ in range(CONNECTIONS)
        ]  # fmt: skip
        await asyncio.gather(*(post.done for post in posts))
        took = time.monotonic() - began
        for callback in callbacks:  # of jobs that had no turn in time
            if b'"taskId": "job' in callback:
                last = iter([callback])
                post = (await loop.create_connection(
                    lambda last=last: Post(last, counts, float("inf")), "127.0.0.1", port
                ))[1]  # fmt: skip
                await post.done
        return counts, took

    while (wish := pipe.recv()) is not None:
        pipe.send(asyncio.run(burst(*wish)))


# -- the receivers ----------------------------------------------------------------------------


def bare(pipe: Connection) -> None:
    """The least that a receiver can do: read the JSON and say so."""
    from aiohttp import web

    async def take(request: web.Request) -> web.Response:
        await request.json()
        return web.json_response({"code": 200, "msg": "success"})

    async def run() -> None:
        app = web.Application()
        app.router.add_post("/kie", take)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        pipe.send(runner.addresses[0][1])
        await told(pipe)
        await runner.cleanup()

    asyncio.run(run())


def records(pipe: Connection) -> None:
    """A light server of recordInfo: every task has ended well."""

    class Server(asyncio.Protocol):
        def connection_made(self, transport: Any) -> None:
            self.transport = transport

        def data_received(self, data: bytes) -> None:
            task_id = data.split(b"taskId=", 1)[1].split(b" ", 1)[0].decode()
            record = {"taskId": task_id, "model": "topaz/video-upscale", "state": "success",
                      "resultJson": '{"resultUrls":["https://files.example/o.mp4"]}'}  # fmt: skip
            body = json.dumps({"code": 200, "msg": "success", "data": record}).encode()
            self.transport.write(
                b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
                b"Content-Length: %d\r\n\r\n%s" % (len(body), body)
            )

    async def run() -> None:
        server = await asyncio.get_running_loop().create_server(Server, "127.0.0.1", 0)
        pipe.send(server.sockets[0].getsockname()[1])
        await told(pipe)
        server.close()

    asyncio.run(run())


class Ear:
    """Counts what a hub tells."""

    def __init__(self) -> None:
        self.heard = 0

    def hear(self, task_id: str, nonce: str | None, *, is_signed: bool) -> bool:
        self.heard += 1
        return False


def ours(pipe: Connection, service: int, jobs: list[str]) -> None:
    """A hub in an aiohttp application, and a client that waits for the jobs."""
    from aiohttp import web

    from topaz_async import CallbackHub, PollPolicy, Quotas, TopazClient

    async def run() -> None:
        hub = CallbackHub(KEY)
        app = web.Application()
        app.add_routes(hub.routes("/kie"))
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        base = f"http://127.0.0.1:{service}"
        ear = Ear()
        hub.attach(ear)
        memory: list[int] = []

        async def watch() -> None:
            while True:
                memory.append(resident())
                await asyncio.sleep(0.5)

        async with TopazClient(
            "key", base_url=base, upload_url=base, callbacks=hub, quotas=Quotas(polls=None),
            polling=PollPolicy(first=600.0, longest=600.0),  # a result can only come from a ring
        ) as topaz:  # fmt: skip
            for task_id in jobs:
                topaz._chapters._parts.poller.exists(task_id)
            waits = [
                asyncio.create_task(topaz.wait_for_result(task_id, timeout=None))
                for task_id in jobs
            ]
            watching = asyncio.create_task(watch())
            await asyncio.sleep(0)
            pipe.send(runner.addresses[0][1])
            await told(pipe)
            if waits:
                await asyncio.wait(waits, timeout=5.0)
            done = sum(wait.done() and wait.exception() is None for wait in waits)
            pipe.send((ear.heard, done, memory))
            watching.cancel()
        await runner.cleanup()

    asyncio.run(run())


def rate(seconds: float, count: int) -> None:
    """Print how many callbacks a second each receiver takes."""
    jobs = [f"job{number:029x}" for number in range(count)]
    _, service = spawn(records)
    _, sending = spawn(sender)
    _, plain = spawn(bare)
    process, hub = spawn(ours, service.recv(), jobs)
    ports = {"bare": plain.recv(), "hub": hub.recv()}
    slices = max(1, round(seconds))
    per_second: dict[str, list[float]] = {"bare": [], "hub": []}
    answers: dict[str, int] = {}
    for turn in range(slices):
        for who in per_second:
            mine = jobs[turn::slices] if who == "hub" else []
            sending.send((ports[who], "/kie", seconds / slices, mine, f"{turn:02x}"))
            counts, took = sending.recv()
            per_second[who].append(sum(counts.values()) / took)
            if who == "hub":
                answers = {
                    key: answers.get(key, 0) + counts.get(key, 0) for key in answers | counts
                }
    hub.send(None)
    heard, done, memory = hub.recv()
    process.join(10)
    ratios = [h / b for h, b in zip(per_second["hub"], per_second["bare"], strict=True)]
    shown = " ".join(f"{memory[at * (len(memory) - 1) // 4] / 2**20:.1f}" for at in range(5))
    for what, value in (
        ("bare aiohttp handler that reads JSON", f"{statistics.median(per_second['bare']):.0f} /s"),
        (f"hub, {count} jobs waiting", f"{statistics.median(per_second['hub']):.0f} /s"),
        ("ratio (at least 0.6)", f"{statistics.median(ratios):.2f}"),
        ("answers", " ".join(f"{answers[key]} x {key}" for key in answers)),
        ("lost callbacks, jobs not resolved", f"{sum(answers.values()) - heard}, {count - done}"),
        ("memory, start to end, in MiB", shown),
    ):
        print(f"{what:<38}{value:>28}")
    for pipe in (service, sending, plain):
        pipe.send(None)


# -- lag --------------------------------------------------------------------------------------


def sandbox(pipe: Connection) -> None:
    """A sandbox that signs, a bare handler beside it, and the moments when tasks ended."""
    from aiohttp import web

    from topaz_async.sandbox import CopyEngine, Sandbox
    from topaz_async.sandbox.callbacks import Courier

    ends: dict[str, float] = {}
    plain = Courier.task_ended

    def task_ended(self: Courier, task: Any) -> None:
        ends[task.task_id] = time.monotonic()
        plain(self, task)

    Courier.task_ended = task_ended  # type: ignore[method-assign]

    async def hello(request: web.Request) -> web.Response:
        return web.Response(text="hello")

    async def run() -> None:
        app = web.Application()
        app.router.add_get("/", hello)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        async with Sandbox(
            webhook_key=KEY, engine=CopyEngine(), queue_seconds=IDLE,
            submit_quota=None, poll_quota=None, credits=1e9,
        ) as running:  # fmt: skip
            pipe.send((running.base_url, running.upload_url, runner.addresses[0][1]))
            await told(pipe)
            pipe.send(ends)
        await runner.cleanup()

    asyncio.run(run())


async def lags(count: int) -> tuple[list[float], list[float], list[float]]:
    """Return round trips of bare GETs, of GETs right behind them, and lags, in seconds."""
    import aiohttp

    from topaz_async import CallbackHub, PollPolicy, Quotas, TopazClient

    process, pipe = spawn(sandbox)
    base, upload, port = await told(pipe)
    trips: list[float] = []
    hot: list[float] = []
    came: dict[str, float] = {}
    hub = CallbackHub(KEY)
    async with (
        aiohttp.ClientSession() as session,
        hub.serve(port=0) as url,
        TopazClient(
            "sandbox-key", base_url=base, upload_url=upload, callbacks=hub, callback_url=url,
            polling=PollPolicy(first=60.0, longest=60.0), quotas=Quotas(submits=None, polls=None),
        ) as topaz,
    ):  # fmt: skip
        video = (await topaz.upload(b"\0\0\0\x18ftypmp42" + bytes(200))).url
        for _ in range(count):
            await asyncio.sleep(IDLE)  # both processes have idled for as long before a callback
            for times in (trips, hot):
                began = time.perf_counter()
                async with session.get(f"http://127.0.0.1:{port}/") as answer:
                    await answer.read()
                times.append(time.perf_counter() - began)
            job = await topaz.submit(video)
            await job
            came[job.task_id] = time.monotonic()
    pipe.send(None)
    ends = await told(pipe)
    process.join(5)
    return trips, hot, [came[task_id] - ends[task_id] for task_id in came]


def lag(count: int) -> None:
    """Print how long after its end a result is there."""
    trips, hot, late = (sorted(values) for values in asyncio.run(lags(count)))
    trip, median = statistics.median(trips), statistics.median(late)
    for what, value in (
        ("bare GET, median round trip", f"{trip * 1000:.2f} ms"),
        ("bare GET right behind another", f"{statistics.median(hot) * 1000:.2f} ms"),
        ("lag of a result, median", f"{median * 1000:.2f} ms"),
        ("lag of a result, p95", f"{late[int(len(late) * 0.95)] * 1000:.2f} ms"),
        ("median in round trips (at most 5)", f"{median / trip:.1f}"),
    ):
        print(f"{what:<38}{value:>28}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--jobs", type=int, default=1000)
    options = parser.parse_args()
    rate(options.seconds, options.jobs)
    lag(300)


if __name__ == "__main__":
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, sys.path))
    main()
