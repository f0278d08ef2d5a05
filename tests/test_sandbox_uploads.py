"""The upload host of the sandbox takes files in and answers as captured."""

from __future__ import annotations

import base64
import io
import json
import re
import tracemalloc
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from tests.clips import Plain, clip, image, tiny
from topaz_async.sandbox import Sandbox


@pytest.fixture
async def plain() -> AsyncIterator[Plain]:
    """A plain client on a fresh sandbox."""
    async with Sandbox() as sandbox, aiohttp.ClientSession() as session:
        yield Plain(sandbox, session)


async def post(plain: Plain, call: str, **options: Any) -> tuple[int, str, dict[str, Any]]:
    """Return status, content type and JSON of an upload call."""
    url = f"{plain.sandbox.upload_url}/api/{call}"
    options.setdefault("headers", plain.headers)
    async with plain.session.post(url, **options) as answer:
        return answer.status, answer.headers["Content-Type"], json.loads(await answer.read())


def success(plain: Plain, name: str, size: int, mime: str, moment: str) -> dict[str, Any]:
    """Return the body of an upload that went well."""
    path = f"kieai/100001/videos/{name}"
    return {
        "success": True,
        "code": 200,
        "msg": "File uploaded successfully",
        "data": {
            "success": True,
            "fileName": name,
            "filePath": path,
            "downloadUrl": f"{plain.sandbox.upload_url}/{path}",
            "fileSize": size,
            "mimeType": mime,
            "uploadedAt": moment,
        },
    }


async def test_a_streamed_file_is_answered_as_captured_and_served(plain: Plain) -> None:
    """The multipart call answers the captured keys, and its downloadUrl serves the same bytes."""
    answer = await plain.stream_upload(tiny())
    data = answer["data"]
    assert answer == success(plain, "clip.mp4", len(tiny()), "video/mp4", data["uploadedAt"])
    assert list(answer) == ["success", "code", "msg", "data"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", data["uploadedAt"])
    assert await plain.fetched(data["downloadUrl"]) == tiny()


async def test_without_a_name_the_service_invents_one(plain: Plain) -> None:
    """The part's own file name is not kept; the new one is milliseconds, random, the ending."""
    form = aiohttp.FormData()
    form.add_field("file", b"abc", filename="holiday.mov")
    form.add_field("uploadPath", "/videos/")
    _, _, answer = await post(plain, "file-stream-upload", data=form)
    assert re.fullmatch(r"\d{13}-[0-9a-f]{10}\.mov", answer["data"]["fileName"])
    assert answer["data"]["mimeType"] == "video/quicktime"


@pytest.mark.parametrize(
    ("mime", "data", "ending"),
    [
        ("video/quicktime", b"abc", ".mov"),
        ("video/x-matroska", b"abc", ".mkv"),
        ("image/jpeg", b"abc", ".jpg"),
        ("image/gif", b"abc", ".gif"),
        ("application/octet-stream", tiny(), ".mp4"),
        ("application/octet-stream", clip(".mov", audio=False), ".mov"),
        ("application/octet-stream", clip(".mkv", audio=False), ".mkv"),
        ("application/octet-stream", image(), ".png"),
        ("application/octet-stream", image(".jpg"), ".jpg"),
        ("application/octet-stream", b"abc", ""),
    ],
)
async def test_an_invented_name_ends_as_the_file_does(
    plain: Plain, mime: str, data: bytes, ending: str
) -> None:
    """Without any name the content type gives the ending, else the first bytes."""
    form = aiohttp.FormData({"uploadPath": "videos"})
    form.add_field("file", data, filename="blob", content_type=mime)
    _, _, streamed = await post(plain, "file-stream-upload", data=form)
    text = f"data:{mime};base64,{base64.b64encode(data).decode()}"
    body = {"base64Data": text, "uploadPath": "videos"}
    _, _, encoded = await post(plain, "file-base64-upload", json=body)
    for answer in (streamed, encoded):
        assert re.fullmatch(rf"\d{{13}}-[0-9a-f]{{10}}{ending}", answer["data"]["fileName"])


async def test_plain_base64_gets_its_ending_from_its_bytes(plain: Plain) -> None:
    """Neither a name nor a type: an mp4 is called .mp4 all the same."""
    body = {"base64Data": base64.b64encode(tiny()).decode(), "uploadPath": "videos"}
    _, _, answer = await post(plain, "file-base64-upload", json=body)
    assert answer["data"]["fileName"].endswith(".mp4")
    assert answer["data"]["mimeType"] == "video/mp4"


@pytest.mark.parametrize("prefix", ["", "data:video/mp4;base64,"])
async def test_base64_plain_or_as_a_data_url_is_taken(plain: Plain, prefix: str) -> None:
    """Both forms of base64Data give the same file."""
    text = prefix + base64.b64encode(tiny()).decode()
    body = {"base64Data": text, "uploadPath": "videos", "fileName": "b.mp4"}
    status, kind, answer = await post(plain, "file-base64-upload", json=body)
    moment = answer["data"]["uploadedAt"]
    assert (status, kind) == (200, "application/json")
    assert answer == success(plain, "b.mp4", len(tiny()), "video/mp4", moment)
    assert await plain.fetched(answer["data"]["downloadUrl"]) == tiny()


async def test_a_url_of_this_machine_is_fetched(plain: Plain) -> None:
    """file-url-upload copies what a loopback URL serves; other URLs are not touched."""
    source = await plain.uploaded(tiny())
    body = {"fileUrl": source, "uploadPath": "videos", "fileName": "copy.mp4"}
    _, _, answer = await post(plain, "file-url-upload", json=body)
    assert answer == success(
        plain, "copy.mp4", len(tiny()), "video/mp4", answer["data"]["uploadedAt"]
    )
    body["fileUrl"] = "http://198.51.100.7/clip.mp4"
    _, _, answer = await post(plain, "file-url-upload", json=body)
    assert (answer["success"], answer["code"], "data" in answer) == (False, 500, False)


@pytest.mark.parametrize(
    ("call", "body", "code", "msg"),
    [
        ("file-base64-upload", {"uploadPath": "v"}, 400, "Missing required parameter: base64Data"),
        (
            "file-base64-upload",
            {"base64Data": "YQ=="},
            400,
            "Missing required parameter: uploadPath",
        ),
        ("file-base64-upload", {"base64Data": "%", "uploadPath": "v"}, 400, "Invalid base64 data"),
        ("file-base64-upload", [], 400, "Invalid JSON body"),
        (
            "file-base64-upload",
            {"base64Data": "YQ==", "uploadPath": "\ud800"},
            400,
            "Invalid JSON body",
        ),
        ("file-url-upload", {"uploadPath": "v"}, 400, "Missing required parameter: fileUrl"),
        ("file-stream-upload", {}, 400, "Missing required parameter: file"),
    ],
)
async def test_a_missing_parameter_is_refused_inside_http_200(
    plain: Plain, call: str, body: Any, code: int, msg: str
) -> None:
    """Errors of the upload host carry success false, and no data at all."""
    expected = (200, "application/json", {"success": False, "code": code, "msg": msg})
    assert await post(plain, call, json=body) == expected
    assert plain.sandbox.books.uploads == []


@pytest.mark.parametrize("call", ["file-base64-upload", "file-url-upload"])
async def test_json_that_is_not_called_so_is_refused(plain: Plain, call: str) -> None:
    """Without Content-Type: application/json the upload calls say 400."""
    data = json.dumps({"base64Data": "YQ==", "uploadPath": "videos"})
    words = "Content-Type must be application/json"
    expected = (200, "application/json", {"success": False, "code": 400, "msg": words})
    assert await post(plain, call, data=data) == expected


async def test_a_multipart_without_a_file_is_refused(plain: Plain) -> None:
    """Fields alone are not an upload."""
    form = aiohttp.FormData({"uploadPath": "videos"}, default_to_multipart=True)
    _, _, answer = await post(plain, "file-stream-upload", data=form)
    assert answer == {
        "success": False,
        "code": 400,
        "msg": "Missing required parameter: file",
    }


async def test_two_files_in_one_upload_are_refused(plain: Plain) -> None:
    """One call takes one file: a second one is refused, and nothing is kept."""
    form = aiohttp.FormData({"uploadPath": "videos", "fileName": "a.mp4"})
    form.add_field("file", b"first", filename="a.mp4")
    form.add_field("file", io.BytesIO(b"second" * 500_000), filename="b.mp4")
    _, _, answer = await post(plain, "file-stream-upload", data=form)
    assert answer == {"success": False, "code": 400, "msg": "More than one file"}
    assert plain.sandbox.books.uploads == []


async def test_uploads_need_the_key(plain: Plain) -> None:
    """Without the key: success false, code 401, HTTP 200."""
    status, _, answer = await post(plain, "file-base64-upload", json={}, headers={})
    assert (status, answer["success"], answer["code"]) == (200, False, 401)


async def test_a_name_cannot_leave_its_folder(plain: Plain) -> None:
    """Dots, slashes and backslashes in names and paths are taken out."""
    answer = await plain.stream_upload(b"x", name="../../e\\vil.mp4", folder="../..//a/./b/")
    assert answer["data"]["filePath"] == "kieai/100001/a/b/vil.mp4"


async def test_the_same_name_overwrites(plain: Plain) -> None:
    """A second upload of one name replaces the first."""
    first, second = await plain.uploaded(b"one"), await plain.uploaded(b"two")
    assert first == second
    assert await plain.fetched(first) == b"two"


async def test_a_large_file_streams_in_constant_memory(plain: Plain) -> None:
    """40 MB go through while the process grows by less than 8 MB."""

    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(640):
            yield b"\0" * 65536

    form = aiohttp.FormData({"uploadPath": "videos", "fileName": "big.mp4"})
    form.add_field("file", pieces(), filename="big.mp4")
    tracemalloc.start()
    try:
        _, _, answer = await post(plain, "file-stream-upload", data=form)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert answer["data"]["fileSize"] == 640 * 65536
    assert peak < 8 * 1024 * 1024


async def test_a_file_over_the_limit_is_refused_and_not_kept() -> None:
    """The limit is told in words, and the sender gets the answer, not a reset."""
    async with Sandbox(max_upload_bytes=100_000) as sandbox, aiohttp.ClientSession() as session:
        plain = Plain(sandbox, session)
        answer = await plain.stream_upload(b"\0" * 3_000_000)
        assert answer == {
            "success": False,
            "code": 400,
            "msg": "File size exceeds the limit of 100000 bytes",
        }
        assert sandbox.books.uploads == []


async def test_a_sender_that_goes_away_leaves_no_upload(plain: Plain) -> None:
    """A connection cut in the middle of a file is not an upload, and the sandbox goes on."""
    host, port = plain.sandbox.upload_url.removeprefix("http://").split(":")
    import asyncio

    _, writer = await asyncio.open_connection(host, int(port))
    writer.write(
        b"POST /api/file-stream-upload HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer sandbox-key\r\n"
        b"Content-Type: multipart/form-data; boundary=b\r\nContent-Length: 100000\r\n\r\n"
        b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.mp4"\r\n\r\nabc'
    )
    await writer.drain()
    await plain.sandbox.books.until(lambda books: books.count("file-stream-upload") == 1)
    writer.close()
    await writer.wait_closed()
    assert (await plain.stream_upload(b"next"))["code"] == 200
    assert [upload.size for upload in plain.sandbox.books.uploads] == [4]
