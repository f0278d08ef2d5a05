"""Downloads over loopback beside plain aiohttp streaming and curl: rate, memory, loop lag.

Run it as a script: `python tests/benchmarks/bench_downloads.py [--folder DISK] [--rounds 7]`.  The
server is a process of its own that sends from memory; so is each contestant, and they take
turns.  Each brings the file once, which loads modules and fills caches, and then as often as makes
200 MB, under names of their own.

`plain` is `async for chunk in response.content.iter_any(): file.write(chunk)`; beside it stand the
same with an fsync at the end, for ours makes a file durable before it gets its name, and the same
with each write in a thread, for ours never blocks the loop.  `disk alone` fetches nothing: it
writes as many bytes of its own past the system's cache, and makes file and name durable, which is
what nobody who does that can be faster than.

Everybody comes once in each round; ratios are taken within rounds, to plain, for rates to plain
with fsync as well.  Medians of all rounds are printed.  The lag is how late the loop hears a clock
outside.  Files are written to the folder, which is the current one by default.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import functools
import json
import mmap
import os
import resource
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import aiohttp
import attrs
from lateness import lateness

from topaz_async import TopazClient

#: Bytes, and how many of them the server sends in a second; 0 for as many as it can.  125 MB/s
#: are what a line of one gigabit carries.
CASES = ((10 << 20, 0), (200 << 20, 0), (200 << 20, 125_000_000))

_HEAD = b"\x00\x00\x00\x18ftypisom"
_BLOCK = _HEAD + bytes(range(256)) * 4096


@attrs.frozen
class Cost:
    """What transfers took."""

    #: Bytes a second.
    rate: float
    #: Bytes by which the process grew at its peak.
    memory: int = 0
    #: Seconds of this process's CPU, for one of them.
    cpu: float = 0.0
    #: Seconds by which the loop was late, each time that the clock rang.
    late: list[float] = attrs.field(factory=list)


# -- the server ----------------------------------------------------------------------------------


def serve() -> None:
    """Answer `GET /download/PACE/SIZE`; the first line printed is the port."""
    with socket.create_server(("127.0.0.1", 0), backlog=16) as listener:
        print(listener.getsockname()[1], flush=True)
        while True:
            peer, _ = listener.accept()
            threading.Thread(target=answer, args=(peer,), daemon=True).start()


def answer(peer: socket.socket) -> None:
    """Answer requests until the client leaves."""
    with peer, peer.makefile("rb") as lines:
        try:
            while request := lines.readline():
                while lines.readline().strip():
                    pass
                pace, size = map(int, request.split()[1].split(b"/")[-2:])
                send(peer, size, pace)
        except OSError:
            pass  # the client has left


def send(peer: socket.socket, size: int, pace: int) -> None:
    """Send a film of so many bytes."""
    peer.sendall(
        f'HTTP/1.1 200 OK\r\nContent-Length: {size}\r\nETag: "{size}"\r\n'
        "Content-Type: video/mp4\r\n\r\n".encode()
    )
    block, begun = memoryview(_BLOCK), time.perf_counter()
    for sent in range(0, size, len(block)):
        peer.sendall(block[: size - sent])
        if pace:
            time.sleep(max(0.0, begun + (sent + len(block)) / pace - time.perf_counter()))


# -- the contestants -----------------------------------------------------------------------------


Bring = Callable[[str, Path], Awaitable[object]]


@contextlib.asynccontextmanager
async def ours(url: str) -> AsyncIterator[Bring]:
    async with TopazClient("key", base_url=url.partition("/download")[0]) as topaz:
        yield functools.partial(topaz.download, overwrite=True)


@contextlib.asynccontextmanager
async def plain(url: str, *, durable: bool = False) -> AsyncIterator[Bring]:
    async with aiohttp.ClientSession() as session:

        async def bring(url: str, target: Path) -> None:
            async with session.get(url) as response:
                with target.open("wb") as file:
                    async for chunk in response.content.iter_any():
                        file.write(chunk)
                    if durable:
                        file.flush()
                        os.fsync(file.fileno())

        yield bring


@contextlib.asynccontextmanager
async def threaded(url: str) -> AsyncIterator[Bring]:
    async with aiohttp.ClientSession() as session:

        async def bring(url: str, target: Path) -> None:
            async with session.get(url) as response:
                file = await asyncio.to_thread(target.open, "wb")
                async for chunk in response.content.iter_any():
                    await asyncio.to_thread(file.write, chunk)
                await asyncio.to_thread(file.close)

        yield bring


@contextlib.asynccontextmanager
async def disk_alone(url: str) -> AsyncIterator[Bring]:
    memory = mmap.mmap(-1, 1 << 20)
    memory.write(_BLOCK[: 1 << 20])

    async def bring(url: str, target: Path) -> None:
        size = int(url.rpartition("/")[2])
        part = target.with_suffix(".part")
        handle = os.open(part, os.O_RDWR | os.O_CREAT | os.O_EXCL)
        with contextlib.suppress(OSError, AttributeError):
            os.close(os.open(part, os.O_RDWR | os.O_DIRECT))
            os.close(handle)
            handle = os.open(part, os.O_RDWR | os.O_DIRECT)
        for _ in range(size >> 20):
            os.write(handle, memory)
        os.fsync(handle)
        os.close(handle)
        os.replace(part, target)
        folder = os.open(target.parent, os.O_RDONLY)
        os.fsync(folder)
        os.close(folder)

    yield bring


DOWNLOADS: dict[str, Callable[[str], contextlib.AbstractAsyncContextManager[Bring]]] = {
    "ours": ours,
    "plain": plain,
    "plain, fsync": functools.partial(plain, durable=True),
    "plain, thread": threaded,
    "disk alone": disk_alone,
}


async def measure(who: str, url: str, folder: Path, times: int) -> Cost:
    """Bring a file as often as that, after a first time that does not count."""
    async with DOWNLOADS[who](url) as bring:
        first = folder / "first.mp4"
        await bring(url.rpartition("/")[0] + "/100000", first)
        first.unlink()
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        await bring(url, first)
        size = first.stat().st_size
        os.sync()
        async with lateness() as late:
            cpu, begun = time.process_time(), time.perf_counter()
            for number in range(times):
                await bring(url, folder / f"{number}.mp4")
            seconds, cpu = time.perf_counter() - begun, time.process_time() - cpu
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    return Cost(size * times / seconds, grown * 1024, cpu / times, late)


def curl(url: str, folder: Path, times: int) -> Cost:
    """Run curl, with its own word about the time it took."""
    form, seconds = '{"seconds": %{time_total}}', 0.0
    for number in range(times):
        place = folder / f"{number}.mp4"
        done = subprocess.run(
            ["curl", "-s", "-o", str(place), "-w", form, url], capture_output=True, check=True
        )
        seconds += json.loads(done.stdout)["seconds"]
    return Cost(place.stat().st_size * times / seconds)


def contest(who: str, url: str, folder: Path, times: int) -> Cost:
    """Let one contestant bring a file, in a process of its own."""
    folder.mkdir()
    if who == "curl":
        cost = curl(url, folder, times)
    else:
        done = subprocess.run(
            [sys.executable, __file__, "--contestant", who, url, str(folder), str(times)],
            stdout=subprocess.PIPE,
            check=True,
        )
        cost = Cost(**json.loads(done.stdout))
    shutil.rmtree(folder)
    os.sync()  # nobody pays for what another one has left to the disk
    return cost


# -- the table -----------------------------------------------------------------------------------


def table(title: str, costs: dict[str, list[Cost]]) -> None:
    """Print medians of rates, lags and their ratios within each round; and the highest memory."""
    for who, each in costs.items():
        line = f"{title:<23}{who:<14}{statistics.median(c.rate for c in each) / 1e6:>6.0f} MB/s"
        for other in ("plain", "plain, fsync"):
            ratio = statistics.median(
                mine.rate / theirs.rate for mine, theirs in zip(each, costs[other], strict=True)
            )
            line += f"{ratio:>7.2f}" if other == "plain" else f"{ratio:>10.2f}"
        if who != "curl":
            cpu = statistics.median(cost.cpu for cost in each)
            memory = max(cost.memory for cost in each)
            lag, plain = lag_of(each), lag_of(costs["plain"])
            line += f"{cpu * 1e3:>8.1f} ms{memory / 1e6:>6.1f} MB"
            line += f"{lag * 1e3:>8.2f} ms{lag / plain:>7.2f}"
        print(line, flush=True)


def lag_of(costs: list[Cost]) -> float:
    """Return by how many seconds the loop was late at most in 99 of 100 times."""
    return statistics.quantiles((each for cost in costs for each in cost.late), n=100)[98]


def main(folder: Path, rounds: int) -> None:
    """Print the table."""
    server = subprocess.Popen(
        [sys.executable, __file__, "--serve"], stdout=subprocess.PIPE, text=True
    )
    names = [*DOWNLOADS, *(["curl"] if shutil.which("curl") else [])]
    try:
        assert server.stdout is not None
        url = f"http://127.0.0.1:{int(server.stdout.readline())}"
        print(f"{'':<43}{'rate':<5}{'ratio':>7}{'to fsync':>10}", end="")
        print(f"{'CPU each':>11}{'memory':>9}{'lag p99':>11}{'ratio':>7}")
        for size, pace in CASES:
            costs: dict[str, list[Cost]] = {who: [] for who in names}
            times = max(1, CASES[-1][0] // size)
            for turn in range(rounds):
                # Whoever comes first finds the disk idle: everybody does in turn.
                for who in names[turn % len(names) :] + names[: turn % len(names)]:
                    link = f"{url}/download/{pace}/{size}"
                    costs[who].append(contest(who, link, folder / "to", times))
            table(f"{size >> 20} MB{f' at {pace / 1e6:.0f} MB/s' if pace else ''}", costs)
    finally:
        server.kill()
        server.wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path(), help="a folder on the disk to test")
    parser.add_argument("--rounds", type=int, default=7, help="of each contestant and size")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--contestant", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve()
    elif options.contestant:
        name, link, place, count = options.contestant
        print(json.dumps(attrs.asdict(asyncio.run(measure(name, link, Path(place), int(count))))))
    else:
        with tempfile.TemporaryDirectory(dir=options.folder) as made:
            main(Path(made), options.rounds)
