"""The schedule on real sockets: the sandbox at a tenth of the real time.

Run it as a script: `python tests/benchmarks/bench_sandbox.py [--jobs 200] [--scale 10]`.

Tasks take 90 s (lognormal, sigma 0.6) divided by the scale, as does every pause of the policy.
Lag counts from the moment that the sandbox writes into the record as the end, to the moment that
the awaiting coroutine has the result. `index` is 2 x mean lag x requests per job / mean duration;
the simulation of bench_schedule.py reaches the same figures without sockets.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import time
from collections.abc import Awaitable, Callable

import attrs

from topaz_async import PollPolicy, Quotas, TopazClient
from topaz_async.sandbox import CopyEngine, Sandbox

MEDIAN, SIGMA = 90.0, 0.6

#: Tasks that have ended before the learned rows are measured.
KNOWN = 100


@attrs.frozen
class Seen:
    """What one job met, in seconds of the real time."""

    lag: float
    duration: float


class Scene:
    """A sandbox with tasks of random durations, and clients at its time scale."""

    def __init__(self, scale: float) -> None:
        self.scale = scale
        spread = random.Random(1)
        self.sandbox = Sandbox(
            run_seconds=lambda number: MEDIAN / scale * spread.lognormvariate(0.0, SIGMA),
            submit_quota=None,
            poll_quota=None,
            credits=1e9,
            engine=CopyEngine(),
        )
        self.url = ""
        #: Polls before those that count.
        self.begun = 0

    def client(self) -> TopazClient:
        plain = PollPolicy()
        return TopazClient(
            self.sandbox.api_key,
            base_url=self.sandbox.base_url,
            upload_url=self.sandbox.upload_url,
            quotas=Quotas(submits=None, polls=None),
            polling=attrs.evolve(
                plain, first=plain.first / self.scale, longest=plain.longest / self.scale
            ),
        )

    async def one(self, client: TopazClient) -> Seen:
        """Submit and wait for one job."""
        job = await client.submit(self.url)
        result = await job
        now = time.time()
        ended, began = result.record.completed_at, result.record.created_at
        assert ended is not None
        assert began is not None
        lag = max(now - ended.timestamp(), 0.0)
        return Seen(lag * self.scale, (ended - began).total_seconds() * self.scale)

    async def alone(self, count: int) -> list[Seen]:
        """Do jobs with a client each, so that nobody knows anything."""

        async def work() -> Seen:
            async with self.client() as client:
                return await self.one(client)

        return await in_turns(work, count)

    async def learned(self, count: int) -> list[Seen]:
        """Do jobs with one client that has seen others end."""
        async with self.client() as client:
            await in_turns(lambda: self.one(client), KNOWN)
            self.begun = self.sandbox.books.count("recordInfo")
            return await in_turns(lambda: self.one(client), count)


async def in_turns(work: Callable[[], Awaitable[Seen]], count: int) -> list[Seen]:
    """Do so many jobs, a hundred at once."""
    gate = asyncio.Semaphore(100)

    async def one() -> Seen:
        async with gate:
            return await work()

    return await asyncio.gather(*(one() for _ in range(count)))


async def main(jobs: int, scale: float) -> None:
    """Print the table."""
    scene = Scene(scale)
    async with scene.sandbox, scene.client() as client:
        scene.url = (await client.upload(b"\0\0\0\x18ftypisom" + bytes(12))).url
        print(f"{'':<22}{'jobs':>6}{'polls':>8}{'lag s':>8}{'index':>8}{'reach':>8}")
        for title, reach, row in (
            ("no history", 1.25, scene.alone),
            (f"{KNOWN} known", 0.90, scene.learned),
        ):
            scene.begun = scene.sandbox.books.count("recordInfo")
            seen = await row(jobs)
            polls = (scene.sandbox.books.count("recordInfo") - scene.begun) / jobs
            lag = sum(each.lag for each in seen) / jobs
            mean = sum(each.duration for each in seen) / jobs
            index = 2.0 * lag * polls / mean
            print(f"{title:<22}{jobs:>6}{polls:>8.2f}{lag:>8.2f}{index:>8.2f}{reach:>8.2f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--jobs", type=int, default=200)
    parser.add_argument("--scale", type=float, default=10.0)
    options = parser.parse_args()
    asyncio.run(main(options.jobs, options.scale))
