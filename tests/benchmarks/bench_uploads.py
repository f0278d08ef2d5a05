"""Uploads: ours beside plain aiohttp and curl.

    python tests/benchmarks/bench_uploads.py [--sizes 10,200] [--rounds 5]

A server on loopback, in a process of its own, reads the body, keeps nothing of it and answers as
the upload host does.  Each contestant runs in a process of its own, one after the other, round by
round; the medians of the rounds are shown, ratios to `generator` taken within each round:

- ours: `TopazClient.upload` of a path, with a name of its own;
- remembered: the same without a name, so that its bytes are hashed on the way and remembered; each
  time the file is another one of another size;
- generator: a plain aiohttp session, a form with an async generator of 1 MB chunks, read off the
  loop;
- form: a plain aiohttp session, a form with a plain open file;
- curl: `curl -F`, when it is installed.

The lag is how late the loop hears a clock outside, in 99 of 100 times.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import multiprocessing
import os
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
from typing import Any

from lateness import lateness

MODES = ("ours", "remembered", "generator", "form", "curl")
MB = 1 << 20
#: Bytes a second of a line that is not as fast as memory: 1 Gbit/s.
LINE = 125e6

ANSWER = json.dumps(
    {
        "success": True,
        "code": 200,
        "msg": "File uploaded successfully",
        "data": {"success": True, "downloadUrl": "https://files.example/a/clip.mp4"},
    }
).encode()


# -- the server -------------------------------------------------------------------------------


def serve(pipe: Any, pace: float) -> None:
    listener = socket.create_server(("127.0.0.1", 0), backlog=64)
    pipe.send(listener.getsockname()[1])
    while True:
        peer, _ = listener.accept()
        threading.Thread(target=swallow, args=(peer, pace), daemon=True).start()


def swallow(peer: socket.socket, pace: float) -> None:
    """Read requests until the peer has gone; a body ends by its length or with its last chunk."""
    room = memoryview(bytearray(MB if pace == math.inf else MB // 16))
    with peer:
        while True:
            head = b""
            while b"\r\n\r\n" not in head:
                piece = peer.recv(65536)
                if not piece:
                    return
                head += piece
            head, body = head.split(b"\r\n\r\n", 1)
            lines = [line.split(b":", 1) for line in head.lower().split(b"\r\n")[1:]]
            length = next((int(v) for name, v in lines if name == b"content-length"), None)
            began, got, tail = time.monotonic(), len(body), body[-5:]
            while got < length if length is not None else tail != b"0\r\n\r\n":
                count = peer.recv_into(room)
                if not count:
                    return
                got += count
                time.sleep(max(0.0, began + got / pace - time.monotonic()))
                tail = (tail + bytes(room[max(0, count - 5) : count]))[-5:]
            peer.sendall(
                b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
                b"Content-Length: %d\r\n\r\n%s" % (len(ANSWER), ANSWER)
            )


# -- the contestants --------------------------------------------------------------------------


def peak() -> int:
    """Bytes of memory that this process has held at most since `forget_peak`."""
    with open("/proc/self/status") as status:
        line = next(line for line in status if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


def forget_peak() -> int:
    with open("/proc/self/clear_refs", "w") as refs:
        refs.write("5")
    return peak()


async def contest(mode: str, base: str, path: Path, times: int) -> dict[str, float]:
    """Upload a file some times in a row."""
    if mode in ("ours", "remembered"):
        from topaz_async import Quotas, TopazClient

        topaz = TopazClient(
            "key", base_url=base, upload_url=base, quotas=Quotas(max_upload_bytes=1 << 40)
        )

        async def upload() -> None:
            if mode == "remembered":
                with path.open("ab") as file:
                    file.write(b"0")
            await topaz.upload(path, name="clip.mp4" if mode == "ours" else None)

        return await measured(upload, times, topaz.aclose)

    import aiohttp

    session = aiohttp.ClientSession()

    async def pieces() -> AsyncIterator[bytes]:
        with path.open("rb") as file:
            while piece := await asyncio.to_thread(file.read, MB):
                yield piece

    async def post() -> None:
        form = aiohttp.FormData({"uploadPath": "a", "fileName": "clip.mp4"})
        with path.open("rb") as file:
            content: Any = pieces() if mode == "generator" else file
            form.add_field("file", content, filename="clip.mp4", content_type="video/mp4")
            async with session.post(f"{base}/api/file-stream-upload", data=form) as answer:
                assert (await answer.json())["success"]

    return await measured(post, times, session.close)


async def measured(
    upload: Callable[[], Awaitable[None]], times: int, close: Callable[[], Awaitable[None]]
) -> dict[str, float]:
    await upload()  # modules are loaded, threads are there
    async with lateness() as late:
        held = forget_peak()
        began, cpu = time.perf_counter(), time.process_time()
        for _ in range(times):
            await upload()
        seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
        grown = peak() - held
    await close()
    return {
        "seconds": seconds / times,
        "cpu": cpu / times,
        "grown": grown / MB,
        "lag": statistics.quantiles(late, n=100)[98],
    }


def with_curl(base: str, path: Path, times: int) -> dict[str, float]:
    command = ["curl", "-sS", "-o", os.devnull, "-w", "%{time_total}", "-H", "Expect:"]
    command += ["-F", "uploadPath=a", "-F", "fileName=clip.mp4", "-F", f"file=@{path}"]
    taken = [
        float(subprocess.run([*command, base], capture_output=True, check=True).stdout)
        for _ in range(times)
    ]
    return {"seconds": statistics.mean(taken)}


def contestant(mode: str, base: str, path: Path, times: int) -> dict[str, float]:
    """Run one contestant in a process of its own."""
    if mode == "curl":
        return with_curl(base, path, times)
    command = [sys.executable, __file__, "--contestant", mode, base, str(path), str(times)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return dict(json.loads(done.stdout))


# -- the table --------------------------------------------------------------------------------


def make_clip(path: Path, megabytes: int) -> None:
    """Write a file that begins as a video does."""
    block = os.urandom(MB)
    with path.open("wb") as file:
        file.write(b"\x00\x00\x00\x20ftypisom" + block[12:])
        for _ in range(megabytes - 1):
            file.write(block)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", default="10,200", help="MB, with commas between")
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    modes = [mode for mode in MODES if mode != "curl" or shutil.which("curl")]
    print(f"{'MB':>5} {'who':<12}{'MB/s':>7}{'ratio':>7}{'CPU ms/MB':>11}", end="")
    print(f"{'growth MB':>11}{'lag p99 ms':>12}{'ratio':>7}")
    for megabytes in map(int, options.sizes.split(",")):
        show(megabytes, modes, rounds_of(modes, megabytes, options.rounds))
    print(f"the same over a line of {LINE / MB:.0f} MB/s")
    show(10, modes, rounds_of(modes, 10, options.rounds, pace=LINE))


def rounds_of(
    modes: list[str], megabytes: int, rounds: int, *, pace: float = math.inf
) -> list[dict[str, dict[str, float]]]:
    """Run every contestant once in each round, there and back."""
    ours, theirs = multiprocessing.Pipe()
    server = multiprocessing.Process(target=serve, args=(theirs, pace), daemon=True)
    server.start()
    base = f"http://127.0.0.1:{ours.recv()}"
    times = 5 if pace < math.inf else max(2, 400 // megabytes)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "clip.mp4")
        make_clip(path, megabytes)
        figures = [
            {mode: contestant(mode, base, path, times) for mode in modes[::turn]}
            for turn in [1, -1] * (rounds // 2) + [1] * (rounds % 2)
        ]
    server.terminate()
    server.join(5)
    return figures


def show(megabytes: int, modes: list[str], rounds: list[dict[str, dict[str, float]]]) -> None:
    def median(mode: str, figure: str) -> float:
        return statistics.median(each[mode][figure] for each in rounds)

    def ratio(mode: str, figure: str) -> float:
        return statistics.median(each[mode][figure] / each["generator"][figure] for each in rounds)

    for mode in modes:
        print(f"{megabytes:>5} {mode:<12}{megabytes / median(mode, 'seconds'):>7.0f}", end="")
        print(f"{1 / ratio(mode, 'seconds'):>7.2f}", end="")
        if mode != "curl":
            print(f"{median(mode, 'cpu') * 1000 / megabytes:>11.2f}", end="")
            print(f"{median(mode, 'grown'):>11.1f}{median(mode, 'lag') * 1000:>12.2f}", end="")
            print(f"{ratio(mode, 'lag'):>7.2f}", end="")
        print(flush=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--contestant"]:
        mode, base, path, times = sys.argv[2:]
        print(json.dumps(asyncio.run(contest(mode, base, Path(path), int(times)))))
    else:
        main()
