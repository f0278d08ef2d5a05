"""The sandbox's quotas are exact: so many arrivals in any window, and not one more."""

from __future__ import annotations

import asyncio
import json

import aiohttp
from hypothesis import given, strategies as st

from tests.clips import Plain
from topaz_async.sandbox import CopyEngine, Sandbox
from topaz_async.sandbox.quotas import Window

URL = "http://127.0.0.1:9/a.mp4"


@given(
    st.lists(st.floats(0, 2, allow_nan=False), max_size=60),
    st.integers(1, 5),
    st.floats(0.01, 3, allow_nan=False),
)
def test_no_window_ever_admits_more(pauses: list[float], limit: int, seconds: float) -> None:
    """Whatever the arrivals, no half-open window holds more admissions than the limit."""
    window, now, admitted = Window(limit, seconds), 0.0, []
    for pause in pauses:
        now += pause
        if window.admit(now):
            admitted.append(now)
        else:
            assert sum(then + seconds > now for then in admitted) == limit
    for first in admitted:
        assert sum(first <= then < first + seconds for then in admitted) <= limit


def test_no_limit_admits_all() -> None:
    """None switches the quota off."""
    window = Window(None, 1.0)
    assert all(window.admit(0.0) for _ in range(100))


async def test_the_21st_submit_in_a_window_is_429() -> None:
    """Of 25 at once 20 are made and 5 refused: HTTP 429, the documented body, no Retry-After."""
    async with Sandbox(engine=CopyEngine()) as sandbox, aiohttp.ClientSession() as session:
        plain = Plain(sandbox, session)
        answers = await asyncio.gather(*(plain.create(URL) for _ in range(25)))
        codes = sorted(answer["code"] for answer in answers)
        assert codes == [200] * 20 + [429] * 5
        assert {"code": 429, "msg": "Rate limit exceeded"} in answers
        books = sandbox.books
        assert (len(books.billed), books.refused_429) == (20, {"createTask": 5})
        assert (books.count("createTask"), books.busiest_window("createTask", 10.0)) == (25, 25)
        refused = [seen for seen in books.requests if seen.code == 429]
        assert {seen.status for seen in refused} == {429}


async def test_a_retry_after_is_sent_when_asked_for() -> None:
    """retry_after puts the header on the quota's 429."""
    async with (
        Sandbox(engine=CopyEngine(), submit_quota=0, retry_after=12) as sandbox,
        aiohttp.ClientSession() as session,
    ):
        url = f"{sandbox.base_url}/api/v1/jobs/createTask"
        headers = Plain(sandbox, session).headers
        async with session.post(url, json={}, headers=headers) as answer:
            assert (answer.status, answer.headers["Retry-After"]) == (429, "12")
            assert json.loads(await answer.read())["code"] == 429


async def test_the_window_slides() -> None:
    """A place is free again as soon as its window has passed."""
    async with (
        Sandbox(engine=CopyEngine(), submit_quota=2, submit_window=0.2) as sandbox,
        aiohttp.ClientSession() as session,
    ):
        plain = Plain(sandbox, session)
        codes = [(await plain.create(URL))["code"] for _ in range(3)]
        first = sandbox.books.routed("createTask")[0].arrived
        await asyncio.sleep(first + 0.2 - asyncio.get_running_loop().time())
        codes.append((await plain.create(URL))["code"])
        assert codes == [200, 200, 429, 200]


async def test_polls_have_a_quota_of_their_own() -> None:
    """The 11th recordInfo in a second is 429; credits and uploads have no quota."""
    async with Sandbox(engine=CopyEngine()) as sandbox, aiohttp.ClientSession() as session:
        plain = Plain(sandbox, session)
        answers = await asyncio.gather(*(plain.record("x") for _ in range(11)))
        assert sorted(answer["code"] for answer in answers) == [422] * 10 + [429]
        balances = await asyncio.gather(*(plain.get("/api/v1/chat/credit") for _ in range(30)))
        assert {answer["code"] for answer in balances} == {200}


async def test_a_wrong_key_takes_no_place() -> None:
    """The quota is the account's; strangers do not use it up."""
    async with (
        Sandbox(engine=CopyEngine(), submit_quota=1) as sandbox,
        aiohttp.ClientSession() as session,
    ):
        stranger = Plain(sandbox, session, key="stranger")
        assert [(await stranger.create(URL))["code"] for _ in range(3)] == [401] * 3
        assert (await Plain(sandbox, session).create(URL))["code"] == 200


async def test_arrival_jitter_moves_the_arrivals_themselves() -> None:
    """With jitter, requests sent together arrive spread out, and in another order."""
    async with (
        Sandbox(engine=CopyEngine(), arrival_jitter=0.2, seed=3, submit_quota=None) as sandbox,
        aiohttp.ClientSession() as session,
    ):
        plain = Plain(sandbox, session)
        await asyncio.gather(*(plain.create(f"{URL}?{n}") for n in range(20)))
        seen = sandbox.books.routed("createTask")
        spread = seen[-1].arrived - seen[0].arrived
        assert 0.1 < spread < 0.5
        order = [json.loads(request.body)["input"]["video_url"] for request in seen]
        assert order != [f"{URL}?{n}" for n in range(20)]
        assert sandbox.books.busiest_window("createTask", 0.05) < 20
