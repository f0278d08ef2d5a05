"""What the journal costs a client: CPU per job and the loop's lag, with it and without.

Run it as a script: `python tests/benchmarks/bench_client.py [--folder DISK] [--jobs 1000]
[--rounds 5]`.  A job is one submit and one wait, against a server in a process of its own that
answers at once; the quotas are off.  Rounds with and without a journal take turns, and medians
are printed.  It measures the disk of the folder, which is the current one by default.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import attrs
from aiohttp import web

from topaz_async import PollPolicy, Quotas, TopazClient

#: Seconds between two looks at the loop's lag.
TICK = 0.002

#: Jobs that begin in a second, where they come evenly.
PACE = 50


@attrs.frozen
class Cost:
    """What one round took."""

    #: Milliseconds of this process's CPU for each job, the journal's thread included.
    cpu: float
    #: Milliseconds by which the loop was late in 99 of 100 looks.
    lag: float


async def serve() -> None:
    """Answer createTask and recordInfo at once; the first line printed is the port."""
    numbers = itertools.count(1)

    async def create(request: web.Request) -> web.Response:
        await request.read()
        data = {"taskId": f"task-{next(numbers)}"}
        return web.json_response({"code": 200, "msg": "success", "data": data})

    async def record(request: web.Request) -> web.Response:
        data = {
            "taskId": request.query["taskId"],
            "model": "topaz/video-upscale",
            "state": "success",
            "param": "{}",
            "resultJson": '{"resultUrls":["https://files.example/out.mp4"]}',
            "costTime": 1,
            "completeTime": 1790000001000,
            "createTime": 1790000000000,
            "creditsConsumed": 8.0,
        }
        return web.json_response({"code": 200, "msg": "success", "data": data})

    app = web.Application()
    app.router.add_post("/api/v1/jobs/createTask", create)
    app.router.add_get("/api/v1/jobs/recordInfo", record)
    runner = web.AppRunner(app, access_log=None, keepalive_timeout=75.0)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, backlog=2048)
    await site.start()
    print(runner.addresses[0][1], flush=True)
    await asyncio.Event().wait()


async def measure(
    url: str, journal: Path | None, jobs: int, pace: float | None, *, named: bool = False
) -> Cost:
    """Do so many jobs, all at once or so many a second, with references or without."""
    quotas = Quotas(submits=None, polls=None)
    polling = PollPolicy(first=0.05, longest=0.2)
    late: list[float] = []
    loop = asyncio.get_running_loop()
    client = TopazClient("key", base_url=url, quotas=quotas, polling=polling, journal=journal)
    async with client:
        # The first job opens the file, loads modules and fills caches.
        await (await client.submit("https://files.example/first.mp4"))

        async def work(number: int) -> None:
            if pace is not None:
                await asyncio.sleep(number / pace)
            video = f"https://files.example/{number}.mp4"
            await (await client.submit(video, reference=video if named else None))

        begun = time.process_time()
        running = asyncio.gather(*map(work, range(jobs)))
        while not running.done():
            due = loop.time() + TICK
            await asyncio.sleep(TICK)
            late.append(max(0.0, loop.time() - due))
        await running
        cpu = time.process_time() - begun
    return Cost(cpu / jobs * 1000, statistics.quantiles(late, n=100)[98] * 1000)


def median(costs: list[Cost]) -> Cost:
    return Cost(
        statistics.median(each.cpu for each in costs),
        statistics.median(each.lag for each in costs),
    )


def row(title: str, unit: str, *figures: float) -> None:
    """Print a line of the table."""
    first, second, third = figures
    print(f"{title:<36}{first:>9.2f} {unit}{second:>9.2f} {unit}{third:>14.2f} {unit}")


def main(folder: Path, jobs: int, rounds: int) -> None:
    """Print the table."""
    server = subprocess.Popen(
        [sys.executable, __file__, "--serve"], stdout=subprocess.PIPE, text=True
    )
    try:
        assert server.stdout is not None
        url = f"http://127.0.0.1:{int(server.stdout.readline())}"
        print(f"{'':<36}{'no journal':>12}{'journal':>12}{'and references':>17}")
        for title, pace, count in (
            (f"{jobs} jobs at once", None, jobs),
            (f"{PACE} jobs a second", PACE, min(jobs, 3 * PACE)),
        ):
            kinds: tuple[list[Cost], ...] = ([], [], [])
            for number in range(rounds + 1):
                for kind, costs in enumerate(kinds):
                    path = folder / f"{count}-{number}-{kind}.sqlite" if kind else None
                    costs.append(asyncio.run(measure(url, path, count, pace, named=kind == 2)))
            plain, kept, named = (median(costs[1:]) for costs in kinds)  # the first warms up
            row(f"{title}, CPU of a job", "ms", plain.cpu, kept.cpu, named.cpu)
            row("  to no journal", "x ", 1.0, kept.cpu / plain.cpu, named.cpu / plain.cpu)
            row(f"{title}, loop lag p99", "ms", plain.lag, kept.lag, named.lag)
            row("  over no journal", "ms", 0.0, kept.lag - plain.lag, named.lag - plain.lag)
    finally:
        server.kill()
        server.wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path(), help="a folder on the disk to test")
    parser.add_argument("--jobs", type=int, default=1000, help="jobs of one round")
    parser.add_argument("--rounds", type=int, default=5, help="of each kind, without the first")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        asyncio.run(serve())
    else:
        with tempfile.TemporaryDirectory(dir=options.folder) as made:
            main(Path(made), options.jobs, options.rounds)
