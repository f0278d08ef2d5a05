"""The jobs API of the sandbox answers as the service was seen to answer."""

from __future__ import annotations

import json
import re
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.clips import Plain, clip, tiny
from topaz_async.sandbox import CopyEngine, MediaInfo, Sandbox

UNAUTHORIZED = (
    '{"code":401,"msg":"Unauthorized – Authentication failed. Please check that your '
    'Authorization and Content-Type headers are correctly set."}'
)


@pytest.fixture
async def plain() -> AsyncIterator[Plain]:
    """A plain client on a fresh sandbox without quotas."""
    async with (
        Sandbox(submit_quota=None, poll_quota=None) as sandbox,
        aiohttp.ClientSession() as session,
    ):
        yield Plain(sandbox, session)


async def answer_of(plain: Plain, method: str, url: str, **options: Any) -> tuple[int, str, str]:
    """Return status, content type and body, as they are on the wire."""
    async with plain.session.request(method, url, **options) as answer:
        return answer.status, answer.headers["Content-Type"], await answer.text()


async def test_create_task_answers_task_id_and_the_same_record_id(plain: Plain) -> None:
    """A task made is answered byte for byte as captured: two equal ids of 32 hex digits."""
    url = await plain.uploaded(tiny())
    body = {
        "model": "topaz/video-upscale",
        "input": {"video_url": url, "upscale_factor": "2"},
    }
    target = f"{plain.sandbox.base_url}/api/v1/jobs/createTask"
    status, kind, text = await answer_of(plain, "POST", target, json=body, headers=plain.headers)
    (task_id,) = plain.sandbox.books.tasks
    assert re.fullmatch("[0-9a-f]{32}", task_id)
    assert (status, kind, text) == (
        200,
        "application/json;charset=UTF-8",
        f'{{"code":200,"msg":"success","data":{{"taskId":"{task_id}","recordId":"{task_id}"}}}}',
    )


async def test_a_pending_record_has_the_captured_keys_in_their_order(plain: Plain) -> None:
    """A pending record is, byte for byte, the ten old keys and the four new ones."""
    async with Sandbox(queue_seconds=60) as sandbox:
        plain.sandbox = sandbox
        before = int(time.time() * 1000)
        task_id = await plain.made("http://127.0.0.1:9/clip.mp4", "4")
        created = sandbox.books.tasks[task_id].created
        target = f"{sandbox.base_url}/api/v1/jobs/recordInfo?taskId={task_id}"
        answer = await answer_of(plain, "GET", target, headers=plain.headers)
    param = (
        r'"{\"input\":\"{\\\"video_url\\\":\\\"http://127.0.0.1:9/clip.mp4\\\",'
        r"\\\"upscale_factor\\\":\\\"4\\\"}\",\"model\":\"topaz/video-upscale\"}"
        '"'
    )
    assert before <= created <= int(time.time() * 1000)
    assert answer == (
        200,
        "application/json;charset=UTF-8",
        f'{{"code":200,"msg":"success","data":{{"taskId":"{task_id}",'
        f'"model":"topaz/video-upscale","state":"waiting","param":{param},"resultJson":"",'
        f'"failCode":null,"failMsg":null,"costTime":null,"completeTime":null,'
        f'"createTime":{created},"creditsConsumed":0.0,"operationType":"topaz/video-upscale",'
        f'"successFlag":0,"paramJson":{param}}}}}',
    )


async def test_a_success_record_names_its_result_twice(plain: Plain) -> None:
    """A success holds resultJson as a string and response as an object, between captured keys."""
    task = await plain.upscaled(tiny())
    answer = await plain.record(task.task_id)
    assert task.completed is not None
    (url,) = task.result_urls
    assert list(answer["data"]) == [
        "taskId", "model", "state", "param", "resultJson", "failCode", "failMsg", "costTime",
        "completeTime", "createTime", "creditsConsumed", "operationType", "response",
        "successFlag", "paramJson",
    ]  # fmt: skip
    param = answer["data"]["param"]
    assert answer == {
        "code": 200,
        "msg": "success",
        "data": {
            "taskId": task.task_id,
            "model": "topaz/video-upscale",
            "state": "success",
            "param": param,
            "resultJson": f'{{"resultUrls":["{url}"]}}',
            "failCode": None,
            "failMsg": None,
            "costTime": (task.completed - task.created) // 1000,
            "completeTime": task.completed,
            "createTime": task.created,
            "creditsConsumed": 8.0,
            "operationType": "topaz/video-upscale",
            "response": {"resultUrls": [url]},
            "successFlag": 1,
            "paramJson": param,
        },
    }
    inner = json.loads(json.loads(param)["input"])
    assert inner == {"video_url": task.source, "upscale_factor": "2"}
    assert re.fullmatch(rf"http://127\.0\.0\.1:\d+/as/{task.task_id}_\d+\.mp4", url)


async def test_cost_time_is_in_whole_seconds(plain: Plain) -> None:
    """costTime is the whole seconds between the two times, not milliseconds."""
    async with Sandbox(run_seconds=1.05) as sandbox:
        plain.sandbox = sandbox
        task = await plain.upscaled(tiny())
        assert (await plain.record(task.task_id))["data"]["costTime"] == 1


async def test_an_input_that_is_no_video_fails_with_the_services_words(plain: Plain) -> None:
    """A text file is accepted, and has failed at the first look: code, words, null times."""
    task_id = await plain.made(await plain.uploaded(b"this is no video at all" * 100))
    answer = await plain.record(task_id)
    task = plain.sandbox.books.tasks[task_id]
    assert answer["data"] | {"param": "", "paramJson": ""} == {
        "taskId": task.task_id,
        "model": "topaz/video-upscale",
        "state": "fail",
        "param": "",
        "resultJson": "",
        "failCode": "422",
        "failMsg": "generate playground failed, task id is blank",
        "costTime": None,
        "completeTime": None,
        "createTime": task.created,
        "creditsConsumed": 0.0,
        "operationType": "topaz/video-upscale",
        "successFlag": 3,
        "paramJson": "",
    }
    assert task.cause is not None
    assert task.cause.startswith("not a readable video or image")


async def test_an_unreadable_input_from_elsewhere_fails_later(plain: Plain) -> None:
    """What shows only when the input is fetched has times, and the words seen with times."""
    async with Sandbox() as other:
        url = await Plain(other, plain.session).uploaded(b"no video")
        task = await plain.ended(await plain.made(url))
    data = (await plain.record(task.task_id))["data"]
    assert (data["failCode"], data["failMsg"], data["costTime"], data["completeTime"]) == (
        "500",
        "Upload failed: Server internal error.",
        0,
        task.completed,
    )


@pytest.mark.parametrize(
    "url",
    ["https://files.example/clip.mp4", "http://127.0.0.1:9/clip.mp4", "file:///etc/passwd", "%"],
)
async def test_an_input_out_of_reach_fails(plain: Plain, url: str) -> None:
    """Whatever is not served on loopback over http is unreachable, and nothing is consumed."""
    task = await plain.ended(await plain.made(url))
    assert (task.state, task.fail_code, task.fail_msg, task.credits) == (
        "fail",
        "500",
        "Upload failed: Server internal error.",
        0.0,
    )


async def test_an_input_out_of_reach_can_be_refused_at_creation(plain: Plain) -> None:
    """With refuse_unreadable the task is never made, as captured for models billed by time."""
    async with Sandbox(refuse_unreadable=True) as sandbox:
        plain.sandbox = sandbox
        refusal = {"code": 500, "msg": "Server exception, please try again later", "data": None}
        assert await plain.create("https://files.example/clip.mp4") == refusal
        assert await plain.create(await plain.uploaded(b"no video")) == refusal
        assert sandbox.books.billed == {}


VIDEO = {"video_url": "http://127.0.0.1:9/a.mp4", "upscale_factor": "2"}
MODEL = "topaz/video-upscale"
NOT_SUPPORTED = (
    "The model name you specified is not supported. Please verify your input and use one of the "
    "supported models provided by KIE."
)
WRONG_FACTOR = "upscale_factor is not within the range of allowed options"


@pytest.mark.parametrize(
    ("body", "code", "msg"),
    [
        ({"input": VIDEO}, 422, NOT_SUPPORTED),
        ({"model": "topaz/video-upscaler", "input": VIDEO}, 422, NOT_SUPPORTED),
        ({"model": "Topaz/Video-Upscale", "input": VIDEO}, 422, NOT_SUPPORTED),
        ({"model": MODEL}, 422, "The input cannot be null"),
        ({"model": MODEL, "params": VIDEO}, 422, "The input cannot be null"),
        ({"model": MODEL, "input": None}, 422, "The input cannot be null"),
        ({"model": MODEL, "input": {}}, 500, "This field is required"),
        ({"model": MODEL, "input": {"upscale_factor": "2"}}, 500, "This field is required"),
        ({"model": MODEL, "input": VIDEO | {"upscale_factor": "3"}}, 500, WRONG_FACTOR),
        ({"model": MODEL, "input": VIDEO | {"upscale_factor": "8"}}, 500, WRONG_FACTOR),
        ({"model": MODEL, "input": VIDEO | {"upscale_factor": 2}}, 500, WRONG_FACTOR),
        ({"model": MODEL, "input": VIDEO | {"upscale_factor": "2x"}}, 500, WRONG_FACTOR),
        (
            {"model": "topaz/image-upscale", "input": {"image_url": "http://127.0.0.1:9/a.png"}},
            500,
            "This field is required",
        ),
        ([1, 2], 500, "Server exception, please try again later"),
    ],
)
async def test_a_mistake_is_refused_with_the_captured_words(
    plain: Plain, body: Any, code: int, msg: str
) -> None:
    """Each mistake has its code and words, at HTTP 200 with data null, and makes no task."""
    target = f"{plain.sandbox.base_url}/api/v1/jobs/createTask"
    answer = await answer_of(plain, "POST", target, json=body, headers=plain.headers)
    assert answer == (
        200,
        "application/json;charset=UTF-8",
        f'{{"code":{code},"msg":"{msg}","data":null}}',
    )
    assert plain.sandbox.books.billed == {}


async def test_unknown_input_fields_are_ignored_and_the_factor_defaults_to_2(plain: Plain) -> None:
    """A misspelt optional field is dropped in silence; a video without a factor is doubled."""
    body = {"model": MODEL, "input": {"video_url": await plain.uploaded(tiny()), "upscale": "4"}}
    task_id = (await plain.post("/api/v1/jobs/createTask", body))["data"]["taskId"]
    task = plain.sandbox.books.tasks[task_id]
    assert (task.factor, dict(task.input)) == (
        2,
        {"video_url": task.source, "upscale_factor": "2"},
    )


async def test_a_body_that_is_no_json_is_a_server_exception(plain: Plain) -> None:
    """Not even JSON: code 500, no task."""
    target = f"{plain.sandbox.base_url}/api/v1/jobs/createTask"
    headers = plain.headers | {"Content-Type": "application/json; charset=utf-8"}
    _, _, text = await answer_of(plain, "POST", target, data="{", headers=headers)
    assert text == '{"code":500,"msg":"Server exception, please try again later","data":null}'


@pytest.mark.parametrize("path", ["jobs/createTask", "common/download-url"])
async def test_json_that_is_not_called_so_is_http_415(plain: Plain, path: str) -> None:
    """Without Content-Type: application/json nothing is read, and nothing is bought."""
    target = f"{plain.sandbox.base_url}/api/v1/{path}"
    data = json.dumps({"model": MODEL, "input": VIDEO})
    status, kind, text = await answer_of(plain, "POST", target, data=data, headers=plain.headers)
    value = json.loads(text)
    assert (status, kind) == (415, "application/json")
    assert value == {
        "timestamp": value["timestamp"],
        "status": 415,
        "error": "Unsupported Media Type",
        "message": "Content type 'text/plain' not supported",
        "path": f"/api/v1/{path}",
    }
    assert plain.sandbox.books.billed == {}
    _, _, text = await answer_of(plain, "POST", target, data=data)
    assert json.loads(text)["code"] == 401


@pytest.mark.parametrize("field", ["video_url", "callBackUrl"])
async def test_text_that_no_answer_could_repeat_is_refused(plain: Plain, field: str) -> None:
    """Half a surrogate pair is no text: code 500, and no task that could never be told of."""
    half = "http://127.0.0.1:9/\ud800.mp4"
    body: dict[str, Any] = {"model": MODEL, "input": VIDEO}
    if field == "video_url":
        body["input"] = VIDEO | {field: half}
    else:
        body[field] = half
    refusal = {"code": 500, "msg": "Server exception, please try again later", "data": None}
    assert await plain.post("/api/v1/jobs/createTask", body) == refusal
    assert plain.sandbox.books.tasks == {}
    body = {"url": half}
    answer = await plain.post("/api/v1/common/download-url", body)
    assert answer == {"code": 422, "msg": "url is wrong", "data": None}


async def test_a_pair_of_surrogates_is_text(plain: Plain) -> None:
    """Written as two escapes, a character beyond the first plane is taken and repeated."""
    task_id = await plain.made("http://127.0.0.1:9/\U0001f600.mp4")
    param = (await plain.record(task_id))["data"]["param"]
    assert (
        json.loads(json.loads(param)["input"])["video_url"] == "http://127.0.0.1:9/\U0001f600.mp4"
    )


class Crashing(CopyEngine):
    """An engine that breaks as soon as it is asked."""

    def probe(self, path: Path) -> MediaInfo:
        """Break."""
        raise ZeroDivisionError


async def test_a_crash_is_told_in_the_envelope(
    plain: Plain, caplog: pytest.LogCaptureFixture
) -> None:
    """What nobody foresaw is code 500 inside HTTP 200, and stands in the log."""
    async with Sandbox(engine=Crashing()) as sandbox:
        plain.sandbox = sandbox
        refusal = {"code": 500, "msg": "Server exception, please try again later", "data": None}
        assert await plain.create(await plain.uploaded(b"clip")) == refusal
        seen = sandbox.books.requests[-1]
        assert (seen.status, seen.code, sandbox.books.tasks) == (200, 500, {})
    assert "POST createTask crashed" in caplog.text


async def test_a_wrong_key_is_refused_inside_http_200(plain: Plain) -> None:
    """A wrong or missing key: HTTP 200, code 401, no data, the charset in lower case."""
    for headers in ({}, {"Authorization": "Bearer nope"}, {"Authorization": "sandbox-key"}):
        for path in ("/api/v1/chat/credit", "/api/v1/jobs/recordInfo?taskId=x", "/api/v1/models"):
            answer = await answer_of(plain, "GET", plain.sandbox.base_url + path, headers=headers)
            assert answer == (200, "application/json;charset=utf-8", UNAUTHORIZED)


async def test_an_unknown_task_is_422_record_info_is_null(plain: Plain) -> None:
    """An id nobody made answers as captured; no id at all is code 400."""
    assert await plain.record("0" * 32) == {"code": 422, "msg": "recordInfo is null", "data": None}
    assert (await plain.get("/api/v1/jobs/recordInfo"))["code"] == 400


@pytest.mark.parametrize("path", ["/api/v1/jobs/cancel", "/api/file-stream-upload", "/x"])
async def test_an_unknown_route_is_http_404_without_a_code(plain: Plain, path: str) -> None:
    """Unknown routes, uploads on the wrong host among them, answer Spring's error object."""
    target = plain.sandbox.base_url + path
    status, kind, text = await answer_of(plain, "POST", target, headers=plain.headers)
    value = json.loads(text)
    assert (status, kind) == (404, "application/json")
    assert value == {
        "timestamp": value["timestamp"],
        "status": 404,
        "error": "Not Found",
        "message": "No message available",
        "path": path,
    }


async def test_credits_are_a_bare_float_held_while_running_and_returned_on_failure(
    plain: Plain,
) -> None:
    """The balance falls when a task is made, stays down on success, comes back on failure."""
    async with Sandbox(credits=100, queue_seconds=0.2) as sandbox:
        plain.sandbox = sandbox
        good = await plain.made(await plain.uploaded(clip(seconds=2)), "4")
        held = await plain.get("/api/v1/chat/credit")
        await plain.ended(good)
        bad = await plain.ended(await plain.made(await plain.uploaded(b"not a video")))
        assert held == {"code": 200, "msg": "success", "data": 72.0}
        assert (sandbox.books.credits, bad.credits) == (72.0, 0.0)
        assert sandbox.books.billed == {good: 28.0, bad.task_id: 0.0}


async def test_a_task_the_credits_do_not_cover_is_402_and_not_made(plain: Plain) -> None:
    """Two seconds cost 16 credits; with 15 nothing is made."""
    async with Sandbox(credits=15) as sandbox:
        plain.sandbox = sandbox
        url = await plain.uploaded(clip(seconds=2))
        assert await plain.create(url) == {
            "code": 402,
            "msg": "The current credits are insufficient. Please top up.",
            "data": None,
        }
        assert (sandbox.books.billed, sandbox.books.credits) == ({}, 15.0)


async def test_the_same_account_cannot_be_overdrawn_by_two_at_once(plain: Plain) -> None:
    """Of two tasks at once only the one the credits cover is made."""
    import asyncio

    async with Sandbox(credits=16) as sandbox:
        plain.sandbox = sandbox
        url = await plain.uploaded(clip(seconds=2))
        answers = await asyncio.gather(plain.create(url), plain.create(url))
        assert sorted(answer["code"] for answer in answers) == [200, 402]


async def test_download_url_gives_a_bare_string_that_lives_for_a_while(plain: Plain) -> None:
    """A result's link is renewed; a foreign URL and an upload are 'url is wrong'."""
    async with Sandbox(link_seconds=0.0) as sandbox:
        plain.sandbox = sandbox
        task = await plain.upscaled(tiny())
        (url,) = task.result_urls
        async with plain.session.get(url) as dead:
            assert dead.status == 404
        renewed = await plain.post("/api/v1/common/download-url", {"url": url})
        assert renewed == {"code": 200, "msg": "success", "data": renewed["data"]}
        assert probe_size(await plain.fetched(renewed["data"])) == (128, 72)
        for wrong in ("https://cdn.example/files/sample.mp4", task.source, None, 5, url + "x"):
            answer = await plain.post("/api/v1/common/download-url", {"url": wrong})
            assert answer == {"code": 422, "msg": "url is wrong", "data": None}


def probe_size(data: bytes) -> tuple[int, int]:
    """Return width and height."""
    from tests.clips import probe_bytes

    info = probe_bytes(data)
    return info.width, info.height


async def test_the_catalog_lists_the_models_and_their_prices(plain: Plain) -> None:
    """Two models, with their prices in prose; an unknown id is code 404."""
    catalog = (await plain.get("/api/v1/models"))["data"]
    assert catalog["total"] == 2
    assert [model["model"] for model in catalog["models"]] == [MODEL, "topaz/image-upscale"]
    price = await plain.get(f"/api/v1/models/{MODEL}/price")
    assert price["data"]["pricingDesc"].startswith("Topaz Video Upscale is priced at 8.0 credits")
    assert (await plain.get("/api/v1/models/nobody/nothing/price"))["code"] == 404
