"""The sandbox hosts files as a CDN does: ranges, tags, links that die."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping

import aiohttp
import pytest

from tests.clips import Plain, tiny
from topaz_async.sandbox import Sandbox

DATA = bytes(range(256)) * 40


@pytest.fixture
async def plain() -> AsyncIterator[Plain]:
    """A plain client on a fresh sandbox."""
    async with Sandbox() as sandbox, aiohttp.ClientSession() as session:
        yield Plain(sandbox, session)


async def get(
    plain: Plain, url: str, headers: Mapping[str, str] | None = None, method: str = "GET"
) -> tuple[int, bytes, Mapping[str, str]]:
    """Return status, body and headers."""
    async with plain.session.request(method, url, headers=headers) as answer:
        return answer.status, await answer.read(), answer.headers.copy()


async def test_a_file_is_served_whole_with_its_tags(plain: Plain) -> None:
    """GET and HEAD tell size, type, entity tag, time, and that ranges are understood."""
    url = await plain.uploaded(DATA)
    status, body, headers = await get(plain, url)
    assert (status, body) == (200, DATA)
    assert headers["Content-Length"] == str(len(DATA))
    assert headers["Content-Type"] == "video/mp4"
    assert headers["Accept-Ranges"] == "bytes"
    assert headers["ETag"].startswith('"')
    assert "GMT" in headers["Last-Modified"]
    status, body, head = await get(plain, url, method="HEAD")
    assert (status, body, head["Content-Length"]) == (200, b"", str(len(DATA)))
    assert head["ETag"] == headers["ETag"]


@pytest.mark.parametrize(
    ("wanted", "part", "span"),
    [
        ("bytes=0-0", DATA[:1], "0-0"),
        ("bytes=100-199", DATA[100:200], "100-199"),
        ("bytes=10000-", DATA[10000:], "10000-10239"),
        ("bytes=-40", DATA[-40:], "10200-10239"),
        ("bytes=10000-999999", DATA[10000:], "10000-10239"),
        ("bytes=-999999", DATA, "0-10239"),
    ],
)
async def test_a_range_is_answered_206(plain: Plain, wanted: str, part: bytes, span: str) -> None:
    """A range gives exactly its bytes and says which."""
    url = await plain.uploaded(DATA)
    status, body, headers = await get(plain, url, {"Range": wanted})
    assert (status, body) == (206, part)
    assert headers["Content-Range"] == f"bytes {span}/10240"
    assert headers["Content-Length"] == str(len(part))


@pytest.mark.parametrize("wanted", ["bytes=10240-", "bytes=99999-100000", "bytes=-0"])
async def test_a_range_outside_the_file_is_416(plain: Plain, wanted: str) -> None:
    """Nothing of the range exists: 416, with the true size."""
    url = await plain.uploaded(DATA)
    status, body, headers = await get(plain, url, {"Range": wanted})
    assert (status, body, headers["Content-Range"]) == (416, b"", "bytes */10240")


@pytest.mark.parametrize("wanted", ["bytes=5-2", "bytes=0-1,4-5", "lines=1-2", "bytes=", "x"])
async def test_a_range_that_is_not_understood_gives_the_whole_file(
    plain: Plain, wanted: str
) -> None:
    """What is no single range of bytes is ignored."""
    url = await plain.uploaded(DATA)
    status, body, _ = await get(plain, url, {"Range": wanted})
    assert (status, body) == (200, DATA)


async def test_if_range_gives_the_rest_only_of_the_same_file(plain: Plain) -> None:
    """If-Range with the tag or time of this file: 206; with another: the whole file."""
    url = await plain.uploaded(DATA)
    _, _, headers = await get(plain, url)
    for condition in (headers["ETag"], headers["Last-Modified"]):
        status, _, _ = await get(plain, url, {"Range": "bytes=5-", "If-Range": condition})
        assert status == 206
    early, late = "Mon, 01 Jan 2001 00:00:00 GMT", "Fri, 01 Jan 2100 00:00:00 GMT"
    for other in ('"another"', 'W/"weak"', early, late, "nonsense"):
        status, body, _ = await get(plain, url, {"Range": "bytes=5-", "If-Range": other})
        assert (status, body) == (200, DATA)


async def test_a_replaced_file_has_another_tag(plain: Plain) -> None:
    """An overwritten name gets a new entity tag, so a resumed download starts over."""
    url = await plain.uploaded(DATA)
    _, _, before = await get(plain, url)
    await plain.uploaded(DATA + b"more")
    status, body, after = await get(plain, url, {"Range": "bytes=5-", "If-Range": before["ETag"]})
    assert (status, body) == (200, DATA + b"more")
    assert after["ETag"] != before["ETag"]


async def test_an_unchanged_file_is_304(plain: Plain) -> None:
    """If-None-Match with the file's tag answers without a body."""
    url = await plain.uploaded(DATA)
    _, _, headers = await get(plain, url)
    status, body, _ = await get(plain, url, {"If-None-Match": headers["ETag"]})
    assert (status, body) == (304, b"")


async def test_what_is_not_there_is_an_html_404(plain: Plain) -> None:
    """Unknown paths, and paths that try to climb, answer a page."""
    for path in ("/kieai/100001/videos/none.mp4", "/as/x.mp4", "/..%2f..%2fetc/passwd", "/"):
        status, body, headers = await get(plain, plain.sandbox.upload_url + path)
        assert (status, headers["Content-Type"]) == (404, "text/html")
        assert b"404 Not Found" in body


async def test_a_link_dies_when_its_time_has_come(plain: Plain) -> None:
    """With link_seconds a result is served until then, and is 404 from then on."""
    async with Sandbox(link_seconds=0.5) as sandbox:
        plain.sandbox = sandbox
        task = await plain.upscaled(tiny())
        (url,) = task.result_urls
        assert (await get(plain, url))[0] == 200
        async with asyncio.timeout(5):
            while (await get(plain, url))[0] == 200:
                await asyncio.sleep(0.05)
        assert (await get(plain, url))[0] == 404


async def test_the_books_show_a_key_that_went_to_a_file(plain: Plain) -> None:
    """A download that carries the key is found in the books; one without is not."""
    url = await plain.uploaded(DATA)
    await get(plain, url)
    assert plain.sandbox.books.keys_leaked() == []
    await get(plain, url, plain.headers)
    assert [request.route for request in plain.sandbox.books.keys_leaked()] == ["files"]
