"""The budget under concurrency: what is set aside holds, whatever is under way."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from topaz_async import TopazClient
from topaz_async.errors import BudgetError, TopazError
from topaz_async.ports import Intent
from topaz_async.purse import Purse, estimate
from topaz_async.settings import PRICES, Budget

from .byteserver import ByteServer, Peer, accepted, say, until


def intent(seconds: float | None = 5.0, model: str = "topaz/video-upscale") -> Intent:
    return Intent(reference=None, fingerprint="f", model=model, factor="2", seconds=seconds)


#: Credits of `intent()`: five seconds at eight each.
COST = 40.0


class Account:
    """An account whose balance is asked for over a slow line."""

    def __init__(self, left: float) -> None:
        self.credits = left
        self.asked = 0
        #: Called once the balance is read and before the answer is there.
        self.meanwhile: Callable[[], None] = lambda: None

    async def balance(self) -> float:
        self.asked += 1
        told = self.credits
        await asyncio.sleep(0)
        self.meanwhile()
        await asyncio.sleep(0)
        return told


async def reserve_all(purse: Purse, count: int, each: Intent | None = None) -> int:
    """Return how many of so many submits at once are let through."""
    outcomes = await asyncio.gather(
        *(purse.reserve(each or intent()) for _ in range(count)), return_exceptions=True
    )
    assert all(isinstance(outcome, (float, BudgetError)) for outcome in outcomes)
    return sum(isinstance(outcome, float) for outcome in outcomes)


async def test_submits_at_once_do_not_overrun_the_balance() -> None:
    """Of twenty that ask at once only those pass that leave enough together."""
    purse = Purse(Budget(min_balance=50.0), Account(50.0 + 3 * COST).balance)
    assert 3 == await reserve_all(purse, 20)


async def test_a_submit_that_ends_while_the_balance_travels_is_not_overlooked() -> None:
    """It may be in the balance that is told or not; the next answer says which."""
    account = Account(50.0 + COST)
    purse = Purse(Budget(min_balance=50.0), account.balance)
    cost = await purse.reserve(intent())

    def end() -> None:  # the task is made: its credits are taken, after the balance was read
        account.meanwhile = lambda: None
        account.credits -= cost
        purse.spent(cost)

    account.meanwhile = end
    with pytest.raises(BudgetError, match="10 credits would be left"):
        await purse.reserve(intent())
    account.credits += COST
    assert COST == await purse.reserve(intent())


async def test_a_refused_submit_makes_room_while_the_balance_travels() -> None:
    """What is given back in the meantime is not counted against the next one."""
    account = Account(50.0 + COST)
    purse = Purse(Budget(min_balance=50.0), account.balance)
    cost = await purse.reserve(intent())

    def refuse() -> None:
        account.meanwhile = lambda: None
        purse.release(cost)

    account.meanwhile = refuse
    assert COST == await purse.reserve(intent())
    assert 3 == account.asked


async def test_submits_at_once_do_not_overrun_the_counts() -> None:
    """Tasks and credits are set aside before anybody else is asked."""
    account = Account(1e9)
    assert 3 == await reserve_all(Purse(Budget(max_tasks=3), account.balance), 20)
    assert 3 == await reserve_all(
        Purse(Budget(max_credits=3.5 * COST, min_balance=1.0), account.balance), 20
    )


@pytest.mark.parametrize("bound", ["max_credits", "min_balance"])
async def test_a_cost_that_nobody_knows_is_refused(bound: str) -> None:
    """A bound of credits holds for what can be estimated; the error says what is missing."""
    purse = Purse(Budget(**{bound: 1.0}), Account(1e9).balance)  # type: ignore[arg-type]
    with pytest.raises(BudgetError, match=f"{bound} is set .* without the length") as caught:
        await purse.reserve(intent(seconds=None))
    assert ("no", "Pass seconds=..., the length of the clip.") == (
        caught.value.billed,
        caught.value.hint,
    )
    with pytest.raises(BudgetError, match="new/upscaler has no price") as caught:
        await purse.reserve(intent(model="new/upscaler"))
    assert "prices" in str(caught.value.hint)
    assert (0, 0.0) == (purse.tasks, purse.credits)
    assert COST == estimate(intent(), PRICES)


async def test_what_a_cancelled_caller_has_sent_counts_until_it_is_answered() -> None:
    """The balance does not know of it yet, so another submit may not spend it again."""
    balance, made = 15.0, 0
    arrived, may_answer = asyncio.Event(), asyncio.Event()

    async def service(peer: Peer) -> None:
        nonlocal balance, made
        request = await peer.request()
        if "createTask" not in request.path:
            await peer.send(say(balance))
            return
        arrived.set()
        await may_answer.wait()
        balance -= 10.0
        made += 1
        await peer.send(accepted(f"task-{made}"))

    prices = {"topaz/video-upscale": {"2": 1.0}}
    async with (
        ByteServer(service) as server,
        TopazClient(
            "key-of-a-test", base_url=server.url, budget=Budget(min_balance=4.0, prices=prices)
        ) as topaz,
    ):
        url = "https://files.example/a.mp4"
        left = asyncio.create_task(topaz.submit(url, seconds=10))
        await arrived.wait()
        left.cancel()
        await asyncio.gather(left, return_exceptions=True)
        with pytest.raises(BudgetError):
            await topaz.submit(url, seconds=10)
        may_answer.set()
        await until(lambda: made == 1)
        with pytest.raises(BudgetError):
            await topaz.submit(url, seconds=10)
    assert (1, 5.0) == (made, balance)


async def test_what_a_cancelled_caller_has_sent_is_free_again_when_it_is_refused() -> None:
    arrived, may_answer = asyncio.Event(), asyncio.Event()

    async def service(peer: Peer) -> None:
        await peer.request()
        if arrived.is_set():
            await peer.send(accepted())
            return
        arrived.set()
        await may_answer.wait()
        await peer.send(say(None, 402, "insufficient"))

    url = "https://files.example/a.mp4"
    async with (
        ByteServer(service) as server,
        TopazClient("key-of-a-test", base_url=server.url, budget=Budget(max_tasks=1)) as topaz,
    ):
        left = asyncio.create_task(topaz.submit(url))
        await arrived.wait()
        left.cancel()
        await asyncio.gather(left, return_exceptions=True)
        with pytest.raises(BudgetError):
            await topaz.submit(url)
        may_answer.set()
        async with asyncio.timeout(5):
            while True:
                try:
                    assert "task-1" == (await topaz.submit(url)).task_id
                    break
                except BudgetError:
                    await asyncio.sleep(0.01)


async def test_what_was_never_sent_is_free_again(tmp_path: Path) -> None:
    """An upload that fails ends before anything is sent."""
    clip = tmp_path / "clip.mp4"
    clip.write_bytes(b"\x00\x00\x00\x18ftypisom" + bytes(100))
    uploads = 0

    async def service(peer: Peer) -> None:
        nonlocal uploads
        request = await peer.request()
        if "createTask" in request.path:
            await peer.send(accepted())
        elif uploads:
            await peer.send(say({"downloadUrl": "https://files.example/a.mp4"}))
        else:
            uploads += 1
            await peer.send(say(None, 400, "no such folder"))

    async with (
        ByteServer(service) as server,
        TopazClient(
            "key-of-a-test",
            base_url=server.url,
            upload_url=server.url,
            budget=Budget(max_tasks=1),
        ) as topaz,
    ):
        with pytest.raises(TopazError, match="no such folder"):
            await topaz.submit(clip)
        assert "task-1" == (await topaz.submit(clip)).task_id
