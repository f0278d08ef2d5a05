"""The sandbox calls back as documented: bodies, signature, retries, and every way to go wrong."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import attrs
import pytest
from aiohttp import web

from tests.clips import Plain, clip
from topaz_async.sandbox import CopyEngine, Fault, Sandbox, sign

KEY = "example-hmac-key"
UNREACHABLE = "http://127.0.0.1:9/a.mp4"


@attrs.define
class Receiver:
    """Takes callbacks, and answers what it is told to."""

    url: str = ""
    statuses: list[int] = attrs.field(factory=list)
    got: asyncio.Queue[tuple[dict[str, str], dict[str, Any], float]] = attrs.field(
        factory=asyncio.Queue
    )

    async def take(self, request: web.Request) -> web.Response:
        """Keep one callback."""
        headers = {name.lower(): value for name, value in request.headers.items()}
        self.got.put_nowait((headers, await request.json(), time.monotonic()))
        status = self.statuses.pop(0) if self.statuses else 200
        return web.json_response({"code": 200, "msg": "success"}, status=status)

    async def next(self) -> tuple[dict[str, str], dict[str, Any], float]:
        """Wait for the next callback."""
        async with asyncio.timeout(5):
            return await self.got.get()


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    """A receiver on loopback."""
    receiver = Receiver()
    app = web.Application()
    app.router.add_post("/callback", receiver.take)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    receiver.url = f"http://127.0.0.1:{runner.addresses[0][1]}/callback?job=42"
    yield receiver
    await runner.cleanup()


@asynccontextmanager
async def opened(**options: Any) -> AsyncIterator[Plain]:
    """A plain client on a sandbox that signs."""
    options = {"webhook_key": KEY, "callback_pause": 0.01, "engine": CopyEngine()} | options
    async with Sandbox(**options) as sandbox, aiohttp.ClientSession() as session:
        yield Plain(sandbox, session)


def signature_fits(headers: dict[str, str], task_id: str, key: str = KEY) -> bool:
    """Check a signature the long way round."""
    text = f"{task_id}.{headers['x-webhook-timestamp']}".encode()
    digest = hmac.new(key.encode(), text, hashlib.sha256).digest()
    return headers["x-webhook-signature"] == base64.b64encode(digest).decode()


def test_the_signature_of_the_test_vector() -> None:
    """Key, id and time of the wire reference give its signature."""
    signature = sign("example-hmac-key", "task_topaz_example_001", "1760000000")
    assert signature == "fmE7iUMvmhAQp/M2now1WA22HMwkz28Mpt+2fPKbsa0="


async def test_a_success_is_told_with_the_documented_body(receiver: Receiver) -> None:
    """The Market body, its keys in order, signed over the id and the time in seconds."""
    async with opened(engine=None) as plain:
        url = await plain.uploaded(clip(seconds=2))
        task_id = await plain.made(url, callBackUrl=receiver.url)
        headers, body, _ = await receiver.next()
        task = plain.sandbox.books.tasks[task_id]
        param = (await plain.record(task_id))["data"]["param"]
    assert task.completed is not None
    assert body == {
        "code": 200,
        "msg": "Playground task completed successfully.",
        "data": {
            "taskId": task_id,
            "model": "topaz/video-upscale",
            "state": "success",
            "param": param,
            "resultJson": json.dumps({"resultUrls": list(task.result_urls)}, separators=(",", ":")),
            "failCode": None,
            "failMsg": None,
            "costTime": (task.completed - task.created) // 1000,
            "completeTime": task.completed,
            "createTime": task.created,
            "updateTime": task.completed,
            "creditsConsumed": 16,
        },
    }
    assert list(body["data"])[:5] == ["taskId", "model", "state", "param", "resultJson"]
    assert headers["content-type"] == "application/json"
    assert abs(int(headers["x-webhook-timestamp"]) - time.time()) < 5
    assert signature_fits(headers, task_id)
    assert json.loads(param)["callBackUrl"] == receiver.url


@pytest.mark.parametrize("query", ["sig=a%2Fb%3D&x=%7e", "q=%C3%A9+%20&&r=%zz"])
async def test_urls_are_asked_for_letter_by_letter(query: str) -> None:
    """What a caller has escaped in its URLs stays so: in the callback and in the input."""
    async with opened() as plain, Sandbox() as other:
        source = f"{other.upload_url}/clip.mp4?{query}"
        await plain.made(source, callBackUrl=f"{other.base_url}/hook?{query}")
        await other.books.until(lambda books: books.count("unknown") > 0)
        seen = [other.books.routed(route)[0].path for route in ("files", "unknown")]
    assert [f"/clip.mp4?{query}", f"/hook?{query}"] == seen


async def test_a_failure_is_told_with_code_501(receiver: Receiver) -> None:
    """The documented body of a failure: no result, nothing consumed."""
    async with opened() as plain:
        task_id = await plain.made(UNREACHABLE, callBackUrl=receiver.url)
        _, body, _ = await receiver.next()
    body["data"]["param"] = ""
    assert body == {
        "code": 501,
        "msg": "Playground task failed.",
        "data": {
            "taskId": task_id,
            "model": "topaz/video-upscale",
            "state": "fail",
            "param": "",
            "failCode": "500",
            "failMsg": "Upload failed: Server internal error.",
            "resultJson": None,
            "costTime": 0,
            "creditsConsumed": 0,
        },
    }


@pytest.mark.parametrize(
    ("options", "fault"),
    [({"callback_body": "guide"}, None), ({}, Fault("callback", "guide_body"))],
)
async def test_the_guides_short_body_can_be_chosen(
    receiver: Receiver, options: dict[str, Any], fault: Fault | None
) -> None:
    """The body of the verification guide, by setting or by fault."""
    async with opened(**options) as plain:
        if fault is not None:
            plain.sandbox.add_fault(fault)
        task_id = await plain.made(UNREACHABLE, callBackUrl=receiver.url)
        headers, body, _ = await receiver.next()
    assert body == {
        "taskId": task_id,
        "code": 200,
        "msg": "Success",
        "data": {"task_id": task_id, "callbackType": "task_completed"},
    }
    assert signature_fits(headers, task_id)


async def test_without_a_key_nothing_is_signed(receiver: Receiver) -> None:
    """No webhook key, no headers."""
    async with opened(webhook_key=None) as plain:
        await plain.made(UNREACHABLE, callBackUrl=receiver.url)
        headers, _, _ = await receiver.next()
    assert not [name for name in headers if name.startswith("x-webhook")]


async def test_a_task_without_a_url_is_not_called_back() -> None:
    """No callBackUrl, no callback, no note."""
    async with opened() as plain:
        await plain.ended(await plain.made(UNREACHABLE))
        await plain.ended(await plain.made(UNREACHABLE, callBackUrl=""))
        assert plain.sandbox.books.callbacks == []


async def test_anything_but_loopback_is_noted_and_not_called() -> None:
    """A URL of another machine stays in the books."""
    async with opened() as plain:
        url = "https://app.example/callback"
        await plain.made(UNREACHABLE, callBackUrl=url)
        await plain.sandbox.books.until(lambda books: bool(books.callbacks))
        (sent,) = plain.sandbox.books.callbacks
        assert (sent.url, sent.attempt, sent.status) == (url, 0, None)


async def test_a_refusal_is_tried_three_times_more(receiver: Receiver) -> None:
    """After 500, 404, 302 and 500 again the sandbox gives up; each attempt is signed."""
    receiver.statuses = [500, 404, 302, 500]
    async with opened() as plain:
        task_id = await plain.made(UNREACHABLE, callBackUrl=receiver.url)
        for _ in range(4):
            headers, _, _ = await receiver.next()
            assert signature_fits(headers, task_id)
        books = plain.sandbox.books
        await books.until(lambda books: len(books.callbacks) == 4)
        assert [(sent.attempt, sent.status) for sent in books.callbacks] == [
            (1, 500), (2, 404), (3, 302), (4, 500),
        ]  # fmt: skip
        await asyncio.sleep(0.05)
        assert receiver.got.empty()


async def test_a_retry_that_is_taken_is_the_last(receiver: Receiver) -> None:
    """After a 2xx nothing more is sent."""
    receiver.statuses = [503, 204]
    async with opened() as plain:
        await plain.made(UNREACHABLE, callBackUrl=receiver.url)
        await plain.sandbox.books.until(lambda books: len(books.callbacks) == 2)
        assert [sent.status for sent in plain.sandbox.books.callbacks] == [503, 204]


async def test_a_receiver_that_is_not_there_is_tried_four_times() -> None:
    """A refused connection is an attempt without a status."""
    async with opened() as plain:
        await plain.made(UNREACHABLE, callBackUrl="http://127.0.0.1:9/callback")
        await plain.sandbox.books.until(lambda books: len(books.callbacks) == 4)
        assert {sent.status for sent in plain.sandbox.books.callbacks} == {None}


async def test_a_silent_receiver_is_given_up_after_the_timeout() -> None:
    """A receiver that never answers costs callback_timeout, not more."""
    held: list[asyncio.StreamWriter] = []

    async def hold(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        held.append(writer)

    server = await asyncio.start_server(hold, "127.0.0.1", 0)
    async with server, opened(callback_timeout=0.05) as plain:
        port = server.sockets[0].getsockname()[1]
        await plain.made(UNREACHABLE, callBackUrl=f"http://127.0.0.1:{port}/")
        await plain.sandbox.books.until(lambda books: len(books.callbacks) == 4)
        notes = [sent.note for sent in plain.sandbox.books.callbacks]
        assert all(note is not None and "Timeout" in note for note in notes)
        for writer in held:
            writer.close()
            await writer.wait_closed()


async def test_lost_sends_nothing(receiver: Receiver) -> None:
    """A lost callback stands in the books, and the receiver hears nothing."""
    async with opened(faults=[Fault("callback", "lost")]) as plain:
        await plain.made(UNREACHABLE, callBackUrl=receiver.url)
        await plain.sandbox.books.until(lambda books: len(books.callbacks) == 1)
        second = await plain.made(UNREACHABLE, callBackUrl=receiver.url)
        _, body, _ = await receiver.next()
        assert body["data"]["taskId"] == second
        assert plain.sandbox.books.callbacks[0].attempt == 0


async def test_duplicate_sends_copies(receiver: Receiver) -> None:
    """The same body three times."""
    async with opened(faults=[Fault("callback", "duplicate", copies=3)]) as plain:
        await plain.made(UNREACHABLE, callBackUrl=receiver.url)
        bodies = [(await receiver.next())[1] for _ in range(3)]
        assert bodies[0] == bodies[1] == bodies[2]


async def test_late_waits(receiver: Receiver) -> None:
    """The callback comes so many seconds after the end of the task."""
    async with opened(faults=[Fault("callback", "late", seconds=0.2)]) as plain:
        await plain.ended(await plain.made(UNREACHABLE, callBackUrl=receiver.url))
        ended = time.monotonic()
        _, _, came = await receiver.next()
        assert came - ended >= 0.19


async def test_forged_unsigned_and_stale_are_told_apart(receiver: Receiver) -> None:
    """A wrong key and a foreign URL; no signature; a true signature of an hour ago."""
    faults = [
        Fault("callback", "forged", location="http://10.0.0.1/evil.mp4"),
        Fault("callback", "unsigned"),
        Fault("callback", "stale"),
        Fault("callback", "two_ids"),
    ]
    async with opened(faults=faults) as plain:
        for fault in faults:
            task_id = await plain.made(UNREACHABLE, callBackUrl=receiver.url)
            headers, body, _ = await receiver.next()
            data = body["data"]
            match fault.action:
                case "forged":
                    assert not signature_fits(headers, task_id)
                    assert (data["taskId"], data["state"]) == (task_id, "success")
                    assert "http://10.0.0.1/evil.mp4" in data["resultJson"]
                case "unsigned":
                    assert "x-webhook-signature" not in headers
                case "stale":
                    assert signature_fits(headers, task_id)
                    assert time.time() - int(headers["x-webhook-timestamp"]) >= 3600
                case "two_ids":
                    assert (body["taskId"], data["taskId"]) == ("0" * 32, task_id)


async def test_closing_does_not_wait_for_callbacks(receiver: Receiver) -> None:
    """A late callback under way ends with the sandbox."""
    started = time.monotonic()
    async with opened(faults=[Fault("callback", "late", seconds=60)]) as plain:
        await plain.ended(await plain.made(UNREACHABLE, callBackUrl=receiver.url))
    assert time.monotonic() - started < 2
    assert receiver.got.empty()
