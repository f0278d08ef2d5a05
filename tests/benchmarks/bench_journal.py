"""What durability costs: shared commits against one commit per write, and the loop's lag.

Run it as a script: `python tests/benchmarks/bench_journal.py [--folder DISK] [--seconds 3]`.
It measures the disk of the folder, which is the current one by default; on a file system in
memory the figures say nothing.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from topaz_async import journal_writer
from topaz_async.journal import SqliteJournal
from topaz_async.ports import Intent

WRITERS = 100

#: How often each rate is taken, in turn with the other.
ROUNDS = 5

#: Seconds between two looks at the loop's lag.
TICK = 0.002


async def write(journal: SqliteJournal, seconds: float) -> float:
    """Claim and bind with so many writers at once; return durable writes per second."""
    end = time.perf_counter() + seconds
    done = 0

    async def one(name: int) -> None:
        nonlocal done
        turn = 0
        while time.perf_counter() < end:
            turn += 1
            intent = Intent(reference=f"{name}-{turn}", fingerprint="f" * 64, model="model")
            claim = await journal.claim(intent)
            await journal.bind(claim.entry.id, f"task-{name}-{turn}")
            done += 2

    begun = time.perf_counter()
    await asyncio.gather(*(one(name) for name in range(WRITERS)))
    return done / (time.perf_counter() - begun)


async def rate(path: Path, seconds: float, most: int) -> float:
    """Return durable writes per second when at most so many of them share a commit."""
    usual, journal_writer.MOST = journal_writer.MOST, most
    journal = SqliteJournal(path)
    try:
        await journal.open()
        return await write(journal, seconds)
    finally:
        await journal.aclose()
        journal_writer.MOST = usual


async def lag(work: Callable[[], Awaitable[object]]) -> float:
    """Return by how many seconds the loop is late in 99 of 100 looks while the work is done."""
    loop = asyncio.get_running_loop()
    late: list[float] = []
    task = asyncio.ensure_future(work())
    while not task.done():
        due = loop.time() + TICK
        await asyncio.sleep(TICK)
        late.append(max(0.0, loop.time() - due))
    await task
    return statistics.quantiles(late, n=100)[98]


async def steady(journal: SqliteJournal | None, seconds: float) -> None:
    """Live as a busy client does: 20 submits and 80 notes a second, with or without journal."""
    end = time.perf_counter() + seconds
    turn = 0
    while time.perf_counter() < end:
        turn += 1
        if journal is not None:
            intent = Intent(reference=str(turn), fingerprint="f" * 64, model="model")
            claim = await journal.claim(intent)
            await journal.bind(claim.entry.id, f"task-{turn}")
            for state in ("waiting", "queuing", "generating", "success"):
                await journal.note(f"task-{turn}", state=state)
        await asyncio.sleep(0.05)


async def main(folder: Path, seconds: float) -> None:
    """Print the table."""
    most = journal_writer.MOST
    rates: dict[int, list[float]] = {most: [], 1: []}
    for turn in range(ROUNDS):
        for each, found in rates.items():
            found.append(await rate(folder / f"{turn}-{each}.sqlite", seconds / ROUNDS, each))
    # The best of each: what disturbed the others was not the journal.
    shared, single = max(rates[most]), max(rates[1])
    idle = await lag(lambda: steady(None, seconds))
    journal = SqliteJournal(folder / "lag.sqlite")
    await journal.open()
    client = await lag(lambda: steady(journal, seconds))
    flood = await lag(lambda: write(journal, seconds))
    await journal.aclose()
    print(f"durable writes, {WRITERS} writers, shared commits    {shared:10,.0f} /s")
    print(f"durable writes, {WRITERS} writers, one commit each   {single:10,.0f} /s")
    print(f"ratio                                          {shared / single:10.1f}")
    print(f"loop lag p99, no journal                       {idle * 1000:10.2f} ms")
    print(f"loop lag p99, journal of a busy client         {client * 1000:10.2f} ms")
    print(f"loop lag p99, {WRITERS} writers without pause       {flood * 1000:10.2f} ms")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path(), help="a folder on the disk to test")
    parser.add_argument("--seconds", type=float, default=3.0, help="for each line of the table")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as made:
        asyncio.run(main(Path(made), options.seconds))
