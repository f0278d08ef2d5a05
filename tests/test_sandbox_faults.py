"""Each fault of the sandbox does what its row in the table says, and the books show it."""

from __future__ import annotations

import asyncio
import json
import random
import subprocess
import sys
import time
import zlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.clips import Plain, tiny
from topaz_async.sandbox import ACTIONS, CopyEngine, Fault, Faults, Sandbox

RESET = aiohttp.ClientOSError
GONE = aiohttp.ServerDisconnectedError
SHORT = aiohttp.ClientPayloadError


@pytest.fixture
async def plain() -> AsyncIterator[Plain]:
    """A plain client on a fresh sandbox that copies instead of upscaling."""
    async with (
        Sandbox(engine=CopyEngine(), submit_quota=None, poll_quota=None, seed=1) as sandbox,
        aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=5)) as session,
    ):
        yield Plain(sandbox, session)


async def credit(plain: Plain, **options: Any) -> tuple[int, dict[str, str], bytes]:
    """Return status, headers and body of a call for the credits."""
    url = f"{plain.sandbox.base_url}/api/v1/chat/credit"
    async with plain.session.get(url, headers=plain.headers, **options) as answer:
        return answer.status, dict(answer.headers), await answer.read()


CREDITS = b'{"code":200,"msg":"success","data":1000.0}'


async def test_answer_is_a_proxys_html_page_unless_told_otherwise(plain: Plain) -> None:
    """By default HTTP 502 with HTML; with status and body, those."""
    plain.sandbox.add_fault(Fault("credit", "answer"))
    plain.sandbox.add_fault(Fault("credit", "answer", status=200, body='{"code":'))
    plain.sandbox.add_fault(
        Fault("credit", "answer", status=503, body="busy", headers={"X-More": "1"})
    )
    status, headers, body = await credit(plain)
    assert (status, headers["Content-Type"]) == (502, "text/html")
    assert b"<h1>502 Bad Gateway</h1>" in body
    status, headers, body = await credit(plain)
    assert (status, headers["Content-Type"], body) == (
        200,
        "application/json;charset=UTF-8",
        b'{"code":',
    )
    status, headers, body = await credit(plain)
    assert (status, headers["X-More"], body) == (503, "1", b"busy")
    assert (await credit(plain))[2] == CREDITS


@pytest.mark.parametrize("code", [408, 422, 429, 433, 455, 500, 501, 505])
async def test_answer_with_a_code_is_an_envelope_in_http_200(plain: Plain, code: int) -> None:
    """code and msg become an envelope; status and Retry-After are added when given."""
    plain.sandbox.add_fault(Fault("credit", "answer", code=code, msg="words"))
    plain.sandbox.add_fault(Fault("credit", "answer", code=code, status=code, retry_after=7))
    status, headers, body = await credit(plain)
    assert (status, "Retry-After" in headers) == (200, False)
    assert body == f'{{"code":{code},"msg":"words","data":null}}'.encode()
    status, headers, _ = await credit(plain)
    assert (status, headers["Retry-After"]) == (code, "7")


async def test_empty_is_http_200_without_a_byte(plain: Plain) -> None:
    """An empty body with the status that is asked for."""
    plain.sandbox.add_fault(Fault("credit", "empty"))
    assert (await credit(plain))[::2] == (200, b"")


@pytest.mark.parametrize(("action", "error"), [("reset", RESET), ("close", GONE)])
async def test_reset_and_close_make_no_task(
    plain: Plain, action: str, error: type[Exception]
) -> None:
    """The connection goes before anything is done: nothing is billed."""
    plain.sandbox.add_fault(Fault("createTask", action))
    with pytest.raises(error):
        await plain.create("http://127.0.0.1:9/a.mp4")
    books = plain.sandbox.books
    assert (books.billed, books.count("createTask")) == ({}, 1)
    seen = books.requests[-1]
    assert (seen.status, seen.fault) == (None, Fault("createTask", action))


@pytest.mark.parametrize(("action", "error"), [("lost_reply", RESET), ("lost_reply_close", GONE)])
async def test_a_lost_reply_bills(plain: Plain, action: str, error: type[Exception]) -> None:
    """The task is made, billed and upscaled, though its maker never hears of it."""
    url = await plain.uploaded(tiny())
    plain.sandbox.add_fault(Fault("createTask", action))
    with pytest.raises(error):
        await plain.create(url)
    (task_id,) = plain.sandbox.books.billed_by_input(url)
    task = await plain.ended(task_id)
    assert (task.state, plain.sandbox.books.billed) == ("success", {task_id: 16.0})
    assert plain.sandbox.books.requests[-1].task_id == task_id


async def test_act_then_answer_bills_and_says_502(plain: Plain) -> None:
    """Accepted but unclear: a task, and a proxy's page."""
    plain.sandbox.add_fault(Fault("createTask", "act_then_answer"))
    with pytest.raises(json.JSONDecodeError):
        await plain.create("http://127.0.0.1:9/a.mp4")
    books = plain.sandbox.books
    assert (len(books.billed), books.requests[-1].status) == (1, 502)


async def test_act_then_empty_and_missing_task_id_bill_too(plain: Plain) -> None:
    """HTTP 200 without an id, with a body or without: the task exists."""
    plain.sandbox.add_fault(Fault("createTask", "act_then_empty"))
    with pytest.raises(json.JSONDecodeError):
        await plain.create("http://127.0.0.1:9/a.mp4")
    plain.sandbox.add_fault(Fault("createTask", "missing_task_id"))
    answer = await plain.create("http://127.0.0.1:9/a.mp4")
    assert answer == {"code": 200, "msg": "success", "data": {}}
    assert len(plain.sandbox.books.billed_by_input("http://127.0.0.1:9/a.mp4")) == 2


@pytest.mark.parametrize(("action", "made"), [("hang", 0), ("act_then_hang", 1)])
async def test_hanging_before_or_after_the_act(plain: Plain, action: str, made: int) -> None:
    """hang makes no task, act_then_hang does; both leave the client waiting."""
    plain.sandbox.add_fault(Fault("createTask", action))
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await plain.create("http://127.0.0.1:9/a.mp4")
    assert len(plain.sandbox.books.billed) == made


async def test_a_hang_with_seconds_ends_in_a_reset(plain: Plain) -> None:
    """After so many seconds the connection is reset (twice: aiohttp sends a GET again)."""
    plain.sandbox.add_fault(Fault("credit", "hang", seconds=0.1, times=2))
    with pytest.raises(RESET):
        await credit(plain)


async def test_slow_answers_late(plain: Plain) -> None:
    """The answer is whole, so many seconds late."""
    plain.sandbox.add_fault(Fault("credit", "slow", seconds=0.1))
    started = time.monotonic()
    assert (await credit(plain))[2] == CREDITS
    assert time.monotonic() - started >= 0.1


async def test_a_redirect_points_to_another_host_that_tells(plain: Plain) -> None:
    """A client that follows with its key is found in the books."""
    plain.sandbox.add_fault(Fault("credit", "redirect", times=2))
    status, headers, _ = await credit(plain, allow_redirects=False)
    assert (status, headers["Location"].split(":")[1]) == (307, "//localhost")
    assert plain.sandbox.books.keys_leaked() == []
    async with plain.session.get(headers["Location"], headers=plain.headers) as answer:
        assert answer.status == 404
    assert [seen.route for seen in plain.sandbox.books.keys_leaked()] == ["elsewhere"]


async def test_garbage_is_not_http(plain: Plain) -> None:
    """Bytes that no HTTP client can read."""
    plain.sandbox.add_fault(Fault("credit", "garbage"))
    with pytest.raises(aiohttp.ClientError):
        await credit(plain)


async def test_truncate_gives_half_a_body_as_if_it_were_all(plain: Plain) -> None:
    """The exchange is lawful HTTP, the JSON is not whole."""
    plain.sandbox.add_fault(Fault("credit", "truncate"))
    status, headers, body = await credit(plain)
    assert (status, body) == (200, CREDITS[: len(CREDITS) // 2])
    assert headers["Content-Length"] == str(len(body))


@pytest.mark.parametrize(("action", "error"), [("cut", RESET), ("cut_close", SHORT)])
async def test_cut_stops_in_the_middle(plain: Plain, action: str, error: type[Exception]) -> None:
    """The whole length is promised, part of it comes, then the connection goes."""
    url = await plain.uploaded(bytes(300_000))
    plain.sandbox.add_fault(Fault("files", action, fraction=0.25))
    async with plain.session.get(url) as answer:
        assert answer.headers["Content-Length"] == "300000"
        got = bytearray()

        async def read() -> None:
            async for piece in answer.content.iter_any():
                got.extend(piece)

        with pytest.raises((error, SHORT)):
            await read()
    assert len(got) <= 75_000
    if action == "cut_close":
        assert len(got) == 75_000


async def test_stall_sends_part_and_falls_silent(plain: Plain) -> None:
    """The client has part of the body and waits for the rest."""
    url = await plain.uploaded(bytes(1000))
    plain.sandbox.add_fault(Fault("files", "stall", fraction=0.5))
    async with plain.session.get(url) as answer:
        assert len(await answer.content.readexactly(500)) == 500
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await answer.content.read(1)


async def test_drip_sends_byte_by_byte(plain: Plain) -> None:
    """The body is whole, and takes its time."""
    plain.sandbox.add_fault(Fault("credit", "drip", seconds=0.002))
    started = time.monotonic()
    assert (await credit(plain))[2] == CREDITS
    assert time.monotonic() - started >= 0.002 * len(CREDITS)


async def test_endless_never_ends(plain: Plain) -> None:
    """A body without an end, until the client has had enough; closing does not wait for it."""
    plain.sandbox.add_fault(Fault("credit", "endless"))
    url = f"{plain.sandbox.base_url}/api/v1/chat/credit"
    async with plain.session.get(url, headers=plain.headers) as answer:
        assert len(await answer.content.readexactly(1_000_000)) == 1_000_000


async def test_a_bomb_is_small_on_the_wire(plain: Plain) -> None:
    """1 MB of gzip that would fill 1 GB of memory."""
    plain.sandbox.add_fault(Fault("credit", "bomb"))
    url = f"{plain.sandbox.base_url}/api/v1/chat/credit"
    async with (
        aiohttp.ClientSession(auto_decompress=False) as session,
        session.get(url, headers=plain.headers) as answer,
    ):
        body = await answer.read()
        assert answer.headers["Content-Encoding"] == "gzip"
    assert len(body) < 2_000_000
    first = zlib.decompressobj(wbits=31).decompress(body)
    assert len(first) == 1024**2


async def test_the_content_type_can_be_missing_or_wrong(plain: Plain) -> None:
    """The true body without a Content-Type, and called text/html."""
    plain.sandbox.add_fault(Fault("credit", "no_content_type"))
    plain.sandbox.add_fault(Fault("credit", "html_type"))
    _, headers, body = await credit(plain)
    assert ("Content-Type" in headers, body) == (False, CREDITS)
    _, headers, body = await credit(plain)
    assert (headers["Content-Type"], body) == ("text/html", CREDITS)


async def test_a_file_can_come_without_its_type(plain: Plain) -> None:
    """Files, parts of them and their heads lack the Content-Type just as well."""
    url = await plain.uploaded(b"0123456789")
    plain.sandbox.add_fault(Fault("files", "no_content_type", times=3))
    for method, part, body in (
        ("GET", "bytes=0-", b"0123456789"),
        ("GET", "bytes=2-4", b"234"),
        ("HEAD", "bytes=0-", b""),
    ):
        async with plain.session.request(method, url, headers={"Range": part}) as answer:
            assert ("Content-Type" in answer.headers, await answer.read()) == (False, body)


async def raw(url: str, method: str = "GET", version: str = "1.1") -> bytes:
    """Return the bytes of an answer, until they end or no more come."""
    host, port = url.removeprefix("http://").partition("/")[0].split(":")
    path = "/" + url.removeprefix("http://").partition("/")[2]
    reader, writer = await asyncio.open_connection(host, int(port))
    head = f"{method} {path} HTTP/{version}\r\nHost: x\r\nAuthorization: Bearer sandbox-key\r\n\r\n"
    writer.write(head.encode())
    got = bytearray()
    try:
        async with asyncio.timeout(0.3):
            while len(got) < 1_000_000 and (piece := await reader.read(65536)):
                got += piece
    except (TimeoutError, ConnectionError):
        pass
    finally:
        writer.close()
    return bytes(got)


@pytest.mark.parametrize(
    "action",
    ["cut", "cut_close", "stall", "drip", "endless", "slow", "truncate", "no_content_type"],
)
async def test_an_answer_to_head_has_no_body(plain: Plain, action: str) -> None:
    """Whatever is done to the body, HEAD has none: not a byte follows the head."""
    url = await plain.uploaded(b"0123456789")
    plain.sandbox.add_fault(Fault("files", action, seconds=0.01))
    head, _, body = (await raw(url, "HEAD")).partition(b"\r\n\r\n")
    assert (head[:15], body) == (b"HTTP/1.1 200 OK", b"")


async def test_endless_is_endless_for_old_clients_too(plain: Plain) -> None:
    """HTTP/1.0 knows no chunks: the spaces come bare."""
    plain.sandbox.add_fault(Fault("credit", "endless"))
    got = await raw(f"{plain.sandbox.base_url}/api/v1/chat/credit", version="1.0")
    head, _, body = got.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.0 200 OK")
    assert b"chunked" not in head
    assert (len(body) > 500_000, body.strip()) == (True, b"")


@pytest.mark.parametrize(("action", "timed"), [("fail", True), ("fail_at_once", False)])
async def test_a_task_can_be_doomed(plain: Plain, action: str, timed: bool) -> None:
    """fail ends in the code and words given; fail_at_once is so at the first look, times null."""
    fault = Fault("createTask", action, fail_code="500", fail_msg="the server is busy")
    plain.sandbox.add_fault(fault)
    task_id = await plain.made(await plain.uploaded(tiny()))
    if timed:
        await plain.ended(task_id)
    data = (await plain.record(task_id))["data"]
    assert (data["state"], data["failCode"], data["failMsg"]) == (
        "fail",
        "500",
        "the server is busy",
    )
    assert (data["completeTime"] is not None, data["costTime"] is not None) == (timed, timed)
    assert (data["creditsConsumed"], plain.sandbox.books.credits) == (0.0, 1000.0)


async def test_a_failure_can_be_without_words(plain: Plain) -> None:
    """failCode and failMsg null."""
    plain.sandbox.add_fault(Fault("createTask", "fail", fail_code=None, fail_msg=None))
    task = await plain.ended(await plain.made("http://127.0.0.1:9/a.mp4"))
    assert (task.state, task.fail_code, task.fail_msg) == ("fail", None, None)


async def test_a_record_can_be_denied(plain: Plain) -> None:
    """null_record and null_data tell of a task that exists as if it did not."""
    task_id = await plain.made("http://127.0.0.1:9/a.mp4")
    plain.sandbox.add_fault(Fault("recordInfo", "null_record"))
    plain.sandbox.add_fault(Fault("recordInfo", "null_data"))
    assert await plain.record(task_id) == {"code": 422, "msg": "recordInfo is null", "data": None}
    assert await plain.record(task_id) == {"code": 200, "msg": "success", "data": None}
    assert (await plain.record(task_id))["data"]["taskId"] == task_id


async def test_a_state_can_be_one_nobody_knows(plain: Plain) -> None:
    """The record is whole but for its state."""
    task_id = await plain.made("http://127.0.0.1:9/a.mp4")
    await plain.ended(task_id)
    true = await plain.record(task_id)
    plain.sandbox.add_fault(Fault("recordInfo", "state", state="reviewing"))
    told = await plain.record(task_id)
    assert told == {**true, "data": {**true["data"], "state": "reviewing"}}


@pytest.mark.parametrize(
    ("action", "result", "has_response"),
    [
        ("result_empty", "", False),
        ("result_broken", '{"resultUrls":["http', False),
        ("result_no_url", '{"resultUrls":[]}', True),
    ],
)
async def test_a_success_can_lack_its_url(
    plain: Plain, action: str, result: str, has_response: bool
) -> None:
    """These strike at a success only, and are not spent before."""
    plain.sandbox.add_fault(Fault("recordInfo", action))
    bad = await plain.made("http://127.0.0.1:9/a.mp4")
    await plain.ended(bad)
    assert (await plain.record(bad))["data"]["resultJson"] == ""
    task = await plain.upscaled(tiny())
    data = (await plain.record(task.task_id))["data"]
    assert (data["state"], data["resultJson"]) == ("success", result)
    assert ("response" in data) == has_response
    assert "http" in (await plain.record(task.task_id))["data"]["resultJson"]


async def test_a_result_can_be_an_object_or_point_elsewhere(plain: Plain) -> None:
    """resultJson as an object instead of a string; then with a URL of the script."""
    task = await plain.upscaled(tiny())
    plain.sandbox.add_fault(Fault("recordInfo", "result_object"))
    plain.sandbox.add_fault(Fault("recordInfo", "result_url", location="http://10.0.0.1/x.mp4"))
    data = (await plain.record(task.task_id))["data"]
    assert data["resultJson"] == {"resultUrls": list(task.result_urls)}
    assert "response" not in data
    data = (await plain.record(task.task_id))["data"]
    assert data["resultJson"] == '{"resultUrls":["http://10.0.0.1/x.mp4"]}'
    assert data["response"] == {"resultUrls": ["http://10.0.0.1/x.mp4"]}


async def test_a_link_can_be_dead(plain: Plain) -> None:
    """expired answers 404, or the status given, for a file that is there."""
    url = await plain.uploaded(b"data")
    plain.sandbox.add_fault(Fault("files", "expired"))
    plain.sandbox.add_fault(Fault("files", "expired", status=403))
    for status in (404, 403, 200):
        async with plain.session.get(url) as answer:
            assert answer.status == status


async def test_an_upload_can_be_struck_by_a_pattern(plain: Plain) -> None:
    """file-*-upload means all three calls, and a lost reply still stores the file."""
    plain.sandbox.add_fault(Fault("file-*-upload", "lost_reply"))
    with pytest.raises(aiohttp.ClientError):
        await plain.stream_upload(b"abc")
    assert [upload.size for upload in plain.sandbox.books.uploads] == [3]
    assert (await plain.stream_upload(b"abc"))["code"] == 200


async def test_a_fault_can_wait_for_its_own_request(plain: Plain) -> None:
    """only strikes at requests whose path or body holds the text."""
    plain.sandbox.add_fault(Fault("createTask", "answer", only="second"))
    assert (await plain.create("http://127.0.0.1:9/first.mp4"))["code"] == 200
    with pytest.raises(json.JSONDecodeError):
        await plain.create("http://127.0.0.1:9/second.mp4")


def test_after_times_and_probability() -> None:
    """after lets requests pass, times bounds the strikes, probability draws from the seed."""
    rules = Faults([Fault("a", "reset", after=2, times=2)], random.Random(1))
    assert [rules.draw("a", "", "before") is not None for _ in range(6)] == [
        False, False, True, True, False, False,
    ]  # fmt: skip
    assert (rules.pending, rules.struck(Fault("a", "reset", after=2, times=2))) == ((), 2)
    always = Faults([Fault("*", "reset", times=None, probability=0.5)], random.Random(1))
    struck = sum(always.draw("a", "", "before") is not None for _ in range(1000))
    assert 400 < struck < 600
    assert always.draw("a", "", "after", "content", "callback") is None


def test_the_first_of_two_rules_strikes_until_it_is_spent() -> None:
    """Rules are tried in their order; the second sees only what the first let through."""
    first, second = Fault("a", "reset"), Fault("*", "close", times=None)
    rules = Faults([first, second], random.Random(1))
    assert [rules.draw("a", "", "before") for _ in range(3)] == [first, second, second]
    rules.clear()
    assert rules.draw("a", "", "before") is None


def test_an_unknown_action_is_refused() -> None:
    """A misspelt action is an error, not a fault that never strikes."""
    with pytest.raises(ValueError, match="unknown fault action 'lost_repli'"):
        Fault("createTask", "lost_repli")


DOCS = Path(__file__).parent.parent / "docs" / "sandbox.md"


def test_the_example_of_the_docs_runs() -> None:
    """The first Python block of docs/sandbox.md says what it promises."""
    text = DOCS.read_text(encoding="utf-8")
    code = text[text.index("```python") + len("```python") :].partition("```")[0]
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout == "no answer, and yet 1 task was bought\n"


def test_every_action_is_in_the_documented_table() -> None:
    """docs/sandbox.md has one row for each action, and no other."""
    text = DOCS.read_text(encoding="utf-8")
    table = text[text.index("| action |") :].split("\n\n")[0].splitlines()[2:]
    assert [row.split("`")[1] for row in table] == list(ACTIONS)
