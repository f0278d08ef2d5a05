"""Waiting for many tasks: ours beside loops that people write by hand.

    python tests/benchmarks/bench_waiting.py [--jobs 1,100,1000] [--seconds 12]

A light server on loopback, in a process of its own, knows from each task's id when it ends, so
tasks need no submit and nobody's quota stands in the way.  Each contestant runs in a process of
its own, one after the other:

- ours: `TopazClient.wait_for_result`, its polling quota lifted;
- loop: `while True`, one GET every 2 s;
- decorator: `backoff.on_predicate(backoff.expo, max_value=6)`;
- oracle: asks once, exactly at the end.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import multiprocessing
import os
import random
import resource
import subprocess
import sys
import time
from typing import Any

MODES = ("ours", "loop", "decorator", "oracle")


# -- the server -------------------------------------------------------------------------------


class Server(asyncio.Protocol):
    """Answers recordInfo for ids of the form `<end on the monotonic clock in ms>x<number>`."""

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.buffer = b""

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        while b"\r\n\r\n" in self.buffer:
            head, self.buffer = self.buffer.split(b"\r\n\r\n", 1)
            task_id = head.split(b"taskId=", 1)[1].split(b" ", 1)[0].decode()
            ended = time.monotonic() * 1000 >= int(task_id.split("x")[0])
            record = {
                "taskId": task_id,
                "model": "topaz/video-upscale",
                "state": "success" if ended else "waiting",
                "resultJson": '{"resultUrls":["https://files.example/out.mp4"]}' if ended else "",
                "failCode": None,
                "failMsg": None,
                "costTime": None,
                "completeTime": None,
                "createTime": 1790000000000,
            }
            body = json.dumps({"code": 200, "msg": "success", "data": record}).encode()
            self.transport.write(
                b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
                b"Content-Length: %d\r\n\r\n%s" % (len(body), body)
            )


def serve(pipe: Any) -> None:
    async def run() -> None:
        server = await asyncio.get_running_loop().create_server(
            Server, "127.0.0.1", 0, backlog=4096
        )
        pipe.send(server.sockets[0].getsockname()[1])
        await asyncio.get_running_loop().run_in_executor(None, pipe.recv)

    asyncio.run(run())


# -- the contestants --------------------------------------------------------------------------


def resident() -> int:
    """Bytes of memory that this process holds."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()


async def contest(mode: str, base: str, ends: list[float]) -> dict[str, Any]:
    """Wait for every task; return lags, requests, CPU and memory."""
    import aiohttp
    import backoff

    from topaz_async import PollPolicy, Quotas, TopazClient

    requests = 0
    ids = [f"{math.ceil(end * 1000)}x{number}" for number, end in enumerate(ends)]
    session = aiohttp.ClientSession()
    lags: list[float] = []
    failures = 0

    async def ask(task_id: str) -> dict[str, Any]:
        nonlocal requests
        requests += 1
        url = f"{base}/api/v1/jobs/recordInfo?taskId={task_id}"
        async with session.get(url, headers={"Authorization": "Bearer key"}) as response:
            answer = await response.json()
        return dict(answer["data"])

    async def loop(task_id: str) -> None:
        while (await ask(task_id))["state"] != "success":
            await asyncio.sleep(2.0)

    decorated = backoff.on_predicate(
        backoff.expo, lambda record: record["state"] != "success", max_value=6, logger=None
    )(ask)

    async def oracle(task_id: str) -> None:
        await asyncio.sleep(int(task_id.split("x")[0]) / 1000 - time.monotonic())
        assert (await ask(task_id))["state"] == "success"

    client = TopazClient(
        "key",
        base_url=base,
        upload_url=base,
        quotas=Quotas(polls=None),
        polling=PollPolicy(in_flight=64),
    )
    waits = {
        "ours": lambda task_id: client.wait_for_result(task_id, timeout=None),
        "loop": loop,
        "decorator": decorated,
        "oracle": oracle,
    }

    async def one(task_id: str, end: float) -> None:
        nonlocal failures
        try:
            await waits[mode](task_id)
        except Exception:
            failures += 1
        lags.append(time.monotonic() - end)

    before, cpu = resident(), time.process_time()
    tasks = [asyncio.create_task(one(*pair)) for pair in zip(ids, ends, strict=True)]
    await asyncio.sleep(max(0.0, min(ends) - time.monotonic()))
    held, files = resident() - before, len(os.listdir("/proc/self/fd"))
    await asyncio.gather(*tasks)
    cpu = time.process_time() - cpu
    await session.close()
    if mode == "ours":
        requests = client._chapters._parts.poller.looks
    await client.aclose()
    lags.sort()
    return {
        "requests": requests / len(ids),
        "p50": lags[len(lags) // 2],
        "p95": lags[int(len(lags) * 0.95)],
        "p99": lags[int(len(lags) * 0.99)],
        "cpu_ms": cpu * 1000 / len(ids),
        "kib": held / 1024 / len(ids),
        "files": files,
        "failures": failures,
    }


def contestant(mode: str, base: str, jobs: int, seconds: float, seed: int) -> dict[str, Any]:
    """Run one contestant in a process of its own."""
    command = [sys.executable, __file__, "--contestant", mode, base, str(jobs), str(seconds)]
    done = subprocess.run([*command, str(seed)], capture_output=True, text=True, check=True)
    return dict(json.loads(done.stdout))


def run_contestant(mode: str, base: str, jobs: str, seconds: str, seed: str) -> None:
    spread = random.Random(int(seed))
    began = time.monotonic() + 2.0
    ends = [began + float(seconds) * spread.lognormvariate(0.0, 0.3) for _ in range(int(jobs))]
    print(json.dumps(asyncio.run(contest(mode, base, ends))))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--jobs", default="1,100,1000,5000,10000")
    parser.add_argument("--seconds", type=float, default=20.0, help="median duration of a task")
    options = parser.parse_args()
    ours, theirs = multiprocessing.Pipe()
    server = multiprocessing.Process(target=serve, args=(theirs,), daemon=True)
    server.start()
    base = f"http://127.0.0.1:{ours.recv()}"
    print(f"tasks of {options.seconds:g} s (lognormal, sigma 0.3); times in s, a job each")
    print(
        f"{'jobs':>6} {'who':<10}{'requests':>9}{'lag p50':>9}{'p95':>7}{'p99':>7}"
        f"{'CPU ms':>8}{'ratio':>7}{'KiB':>7}{'ratio':>7}{'files':>7}{'failed':>8}"
    )
    for jobs in map(int, options.jobs.split(",")):
        rows = {mode: contestant(mode, base, jobs, options.seconds, jobs) for mode in MODES}
        hand = rows["loop"]
        for mode, row in rows.items():
            print(
                f"{jobs:>6} {mode:<10}{row['requests']:>9.2f}{row['p50']:>9.2f}{row['p95']:>7.2f}"
                f"{row['p99']:>7.2f}{row['cpu_ms']:>8.2f}{row['cpu_ms'] / hand['cpu_ms']:>7.2f}"
                f"{row['kib']:>7.1f}{row['kib'] / hand['kib'] if hand['kib'] else 0:>7.2f}"
                f"{row['files']:>7}{row['failures']:>8}",
                flush=True,
            )
    ours.send(None)
    server.join(5)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--contestant"]:
        run_contestant(*sys.argv[2:])
    else:
        main()
