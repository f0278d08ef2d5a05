"""The quota holds in every window of the other side's clock."""

from __future__ import annotations

import asyncio
import random

import pytest
from hypothesis import given, settings, strategies as st

from topaz_async.limiter import SlidingWindow

from .virtual_time import in_virtual_time, run_in_virtual_time


def busiest(arrivals: list[float], window: float) -> int:
    """Return the most arrivals in any half-open window."""
    times = sorted(arrivals)
    return max(sum(1 for t in times if start <= t < start + window) for start in times)


async def exchange(
    limiter: SlidingWindow, arrivals: list[float], there: float, back: float
) -> None:
    async with limiter:
        await asyncio.sleep(there)
        arrivals.append(asyncio.get_running_loop().time())
        await asyncio.sleep(back)


@in_virtual_time
async def test_a_burst_fills_the_window_at_once() -> None:
    """Twenty slots admit twenty exchanges in the same moment."""
    limiter, arrivals = SlidingWindow(20, 10.0), []
    await asyncio.gather(*(exchange(limiter, arrivals, 0.0, 0.0) for _ in range(20)))
    assert {0.0} == set(arrivals)


@in_virtual_time
async def test_the_next_waits_for_a_window_after_the_first_ended() -> None:
    """A slot is free again one window after its exchange has ended, not after it began."""
    limiter, arrivals = SlidingWindow(1, 10.0), []
    await asyncio.gather(*(exchange(limiter, arrivals, 0.5, 0.25) for _ in range(3)))
    assert arrivals == [0.5, 11.25, 22.0]


@pytest.mark.parametrize("seed", range(5))
@in_virtual_time
async def test_no_window_of_the_service_holds_more_than_the_quota(seed: int) -> None:
    """However long requests travel, the service never counts more than twenty in ten seconds."""
    spread = random.Random(seed)
    limiter, arrivals = SlidingWindow(20, 10.0), []
    await asyncio.gather(
        *(
            exchange(limiter, arrivals, spread.uniform(0, 0.3), spread.uniform(0, 2))
            for _ in range(200)
        )
    )
    assert (len(arrivals), busiest(arrivals, 10.0)) == (200, 20)


@in_virtual_time
async def test_first_come_first_served() -> None:
    """Those who wait are admitted in the order of their coming."""
    limiter, order = SlidingWindow(1, 1.0), []

    async def one(number: int) -> None:
        async with limiter:
            order.append(number)

    await asyncio.gather(*(one(number) for number in range(10)))
    assert list(range(10)) == order


@in_virtual_time
async def test_whoever_is_cancelled_while_waiting_takes_no_slot() -> None:
    """A cancelled waiter leaves its place to the next one."""
    limiter, arrivals = SlidingWindow(1, 10.0), []
    await exchange(limiter, arrivals, 0.0, 0.0)
    gone = asyncio.create_task(exchange(limiter, arrivals, 0.0, 0.0))
    stays = asyncio.create_task(exchange(limiter, arrivals, 0.0, 0.0))
    await asyncio.sleep(1.0)
    gone.cancel()
    await stays
    assert arrivals == [0.0, 10.0]


@in_virtual_time
async def test_a_slot_granted_in_the_moment_of_cancellation_is_not_lost() -> None:
    """A waiter that is cancelled just after it was admitted gives its slot to the next."""
    limiter, arrivals = SlidingWindow(1, 1.0), []
    await exchange(limiter, arrivals, 0.0, 0.0)
    gone = asyncio.create_task(exchange(limiter, arrivals, 0.0, 0.0))
    stays = asyncio.create_task(exchange(limiter, arrivals, 0.0, 0.0))
    await asyncio.sleep(0)
    asyncio.get_running_loop().call_at(1.0, gone.cancel)
    async with asyncio.timeout(5):
        await stays
    assert len(arrivals) == 2


@in_virtual_time
async def test_a_slot_that_frees_just_after_a_cancellation_goes_to_the_next() -> None:
    """A waiter that is cancelled in the moment before the timer fires ends as cancelled."""
    limiter, arrivals = SlidingWindow(1, 1.0), []
    await exchange(limiter, arrivals, 0.0, 0.0)
    gone = asyncio.create_task(exchange(limiter, arrivals, 0.0, 0.0))
    stays = asyncio.create_task(exchange(limiter, arrivals, 0.0, 0.0))
    await asyncio.sleep(0)
    gone.cancel()
    limiter._fire(1.0)  # the timer's turn comes before the waiter's
    with pytest.raises(asyncio.CancelledError):
        await gone
    await stays
    assert len(arrivals) == 2


@in_virtual_time
async def test_a_failed_exchange_counts_as_well() -> None:
    """An error inside gives the slot back no earlier than an answer would."""
    limiter, arrivals = SlidingWindow(1, 10.0), []
    with pytest.raises(RuntimeError):
        async with limiter:
            raise RuntimeError
    await exchange(limiter, arrivals, 0.0, 0.0)
    assert arrivals == [10.0]


@in_virtual_time
async def test_a_pause_admits_nobody() -> None:
    """After a 429 the whole client waits, with or without a quota of its own."""
    for limit in (10, None):
        limiter, arrivals = SlidingWindow(limit, 1.0), []
        began = asyncio.get_running_loop().time()
        limiter.pause(7.0)
        limiter.pause(3.0)
        await asyncio.gather(*(exchange(limiter, arrivals, 0.0, 0.0) for _ in range(5)))
        assert {7.0} == {arrival - began for arrival in arrivals}


async def admitted(limiter: SlidingWindow, windows: int) -> list[int]:
    """Let everybody come for so many windows of a second; return how many were admitted in each."""
    loop, arrivals = asyncio.get_running_loop(), []
    began = loop.time()
    tasks = [asyncio.create_task(exchange(limiter, arrivals, 0.0, 0.0)) for _ in range(200)]
    await asyncio.sleep(windows - 0.5)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    seconds = [int(arrival - began + 1e-6) for arrival in arrivals]
    return [seconds.count(second) for second in range(windows)]


@in_virtual_time
async def test_after_a_pause_the_slots_come_back_by_and_by() -> None:
    """Half of them at once, then a quarter of all each window; many 429 at once count once."""
    limiter = SlidingWindow(20, 1.0)
    for _ in range(20):
        limiter.pause(2.0)
    assert [0, 0, 10, 15, 20, 20] == await admitted(limiter, 6)


@in_virtual_time
async def test_a_second_pause_halves_again() -> None:
    """Who is told to slow down once more goes slower still, but never stops."""
    limiter = SlidingWindow(4, 1.0)
    for _ in range(4):
        limiter.pause(0.001)
        await asyncio.sleep(0.002)
    limiter.pause(1.0)
    assert [0, 1, 2, 3, 4] == await admitted(limiter, 5)


@in_virtual_time
async def test_a_pause_that_grows_while_somebody_waits_is_kept() -> None:
    """A second 429 lengthens the pause of those who wait already."""
    limiter, arrivals = SlidingWindow(5, 1.0), []
    limiter.pause(2.0)
    waiter = asyncio.create_task(exchange(limiter, arrivals, 0.0, 0.0))
    await asyncio.sleep(1.0)
    limiter.pause(4.0)
    await waiter
    assert arrivals == [5.0]


@in_virtual_time
async def test_without_a_limit_everybody_is_admitted() -> None:
    """None switches the limiter off."""
    limiter, arrivals = SlidingWindow(None, 10.0), []
    await asyncio.gather(*(exchange(limiter, arrivals, 0.0, 0.0) for _ in range(100)))
    assert arrivals == [0.0] * 100


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_any_history_keeps_the_quota_and_ends(data: st.DataObject) -> None:
    """Comings, cancellations and pauses in any order never break the quota nor strand a waiter."""
    limit = data.draw(st.integers(1, 4))
    steps = data.draw(
        st.lists(
            st.tuples(
                st.sampled_from(["come", "cancel", "pause"]),
                st.floats(0, 3),
                st.floats(0, 2),
            ),
            max_size=30,
        )
    )

    async def play() -> None:
        limiter, arrivals, tasks = SlidingWindow(limit, 5.0), [], []
        for kind, wait, travel in steps:
            await asyncio.sleep(wait)
            if kind == "come":
                tasks.append(asyncio.create_task(exchange(limiter, arrivals, travel, travel)))
            elif kind == "cancel" and tasks:
                tasks[len(tasks) // 2].cancel()
            else:
                limiter.pause(travel)
        async with asyncio.timeout(1000):
            await asyncio.gather(*tasks, return_exceptions=True)
        assert not arrivals or busiest(arrivals, 5.0) <= limit
        assert limiter.waiting == 0

    run_in_virtual_time(play())
