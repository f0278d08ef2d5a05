"""Ten thousand tasks at once, on real sockets."""

from __future__ import annotations

import asyncio
import json
import os
import sys

import pytest

from topaz_async import ClientClosedError, PollPolicy, Quotas, TopazClient


class Waiting(asyncio.Protocol):
    """A service of tasks that never end, light enough not to be what is measured."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.buffer = b""

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        while b"\r\n\r\n" in self.buffer:
            head, self.buffer = self.buffer.split(b"\r\n\r\n", 1)
            task_id = head.split(b"taskId=", 1)[1].split(b" ", 1)[0].decode()
            record = {"taskId": task_id, "model": "topaz/video-upscale", "state": "waiting"}
            body = json.dumps({"code": 200, "msg": "success", "data": record}).encode()
            answer = (
                b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
            )
            self.transport.write(answer % len(body) + body)


@pytest.mark.skipif(sys.platform != "linux", reason="counts file descriptors in /proc")
async def test_ten_thousand_waits_hold_few_files_and_end_with_the_client() -> None:
    """Under 60 file descriptors while all are asked for, and all end within 2 s of closing."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Waiting, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    before = len(os.listdir("/proc/self/fd"))
    client = TopazClient(
        "key", base_url=url, quotas=Quotas(polls=None), polling=PollPolicy(first=0.5)
    )
    waits = [
        asyncio.create_task(client.wait_for_result(f"task-{number}", timeout=900.0))
        for number in range(10_000)
    ]
    most = 0
    async with asyncio.timeout(30):
        while client._chapters._parts.poller.looks < 4_000:
            await asyncio.sleep(0.05)
            most = max(most, len(os.listdir("/proc/self/fd")) - before)
    # Both ends of each connection lie in this process.
    assert most < 60
    async with asyncio.timeout(2):
        await client.aclose()
        ends = await asyncio.gather(*waits, return_exceptions=True)
    assert {ClientClosedError} == set(map(type, ends))
    server.close()
    await server.wait_closed()
