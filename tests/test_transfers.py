"""Progress."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from topaz_async.transfers import Meter, Progress

from .virtual_time import in_virtual_time


def told_of(meter_told: list[Progress]) -> list[tuple[int, int | None]]:
    return [(progress.bytes, progress.total) for progress in meter_told]


async def test_progress_is_told_now_and_then_and_at_the_end() -> None:
    """The first step, not the flood that follows, and the whole."""
    told: list[Progress] = []
    async with Meter(told.append) as meter:
        meter.begin(100)
        for done in range(1, 101):
            meter(done)
        meter.end(100)
    assert told_of(told) == [(1, 100), (100, 100)]


async def test_the_whole_is_told_once() -> None:
    """What one step moves whole is told by one call; a length that nobody knew is known then."""
    one_step: list[Progress] = []
    async with Meter(one_step.append) as meter:
        meter.begin(100)
        meter(100)
        meter.end(100)
    unknown: list[Progress] = []
    async with Meter(unknown.append) as meter:
        meter.begin(None)
        meter(100)
        meter.end(100)
    assert told_of(one_step) == [(100, 100)]
    assert told_of(unknown) == [(100, None), (100, 100)]


@in_virtual_time
async def test_never_more_than_twenty_calls_a_second() -> None:
    """Whatever the pace and the attempts, any second holds at most 20 calls, the last included."""
    moments: list[float] = []
    clock = asyncio.get_running_loop().time
    async with Meter(lambda progress: moments.append(clock())) as meter:
        for _ in range(4):  # attempts, one right after the other
            meter.begin(None)
            for done in range(700):
                meter(done)
                await asyncio.sleep(1 / 999)
        meter.end(700)
    assert len(moments) > 50
    assert max(sum(m <= other < m + 1 for other in moments) for m in moments) == 20


@in_virtual_time
async def test_the_rate_is_taken_over_three_seconds() -> None:
    """A steady pace is told as it is, a change of pace within three seconds, a gap at once."""
    rates: list[float] = []
    async with Meter(lambda progress: rates.append(progress.rate)) as meter:
        meter.begin(None, done=5000)  # what was there before counts for no pace
        meter(5000)
        done = 5000
        for pace in (100, 1000):
            for _ in range(40):
                await asyncio.sleep(0.1)
                done += pace // 10
                meter(done)
        await asyncio.sleep(10.0)
        meter(done + 1000)
    assert rates[0] == 0.0
    assert rates[1:41] == pytest.approx([100.0] * 40)
    assert rates[41:71] == sorted(rates[41:71])
    assert rates[71:81] == pytest.approx([1000.0] * 10)
    assert rates[81] == pytest.approx(1000 / 10, rel=0.01)


@pytest.mark.parametrize("kind", [RuntimeError, asyncio.CancelledError])
async def test_what_the_callers_function_raises_is_logged_once(
    caplog: pytest.LogCaptureFixture, kind: type[BaseException]
) -> None:
    """Its failure is no failure of the transfer, and no flood in the log; it is called again."""
    calls: list[Progress] = []

    def on_progress(progress: Progress) -> None:
        calls.append(progress)
        raise kind("mine")

    async with Meter(on_progress) as meter:
        meter.begin(9)
        meter(1)
        meter.end(9)
    assert caplog.messages == ["on_progress failed; the work goes on."]
    assert told_of(calls) == [(1, 9), (9, 9)]


@in_virtual_time
async def test_a_coroutine_function_is_awaited_beside_the_transfer() -> None:
    """One call at a time, the newest news, the whole at last; the transfer waits for that only."""
    told: list[Progress] = []
    running = 0

    async def on_progress(progress: Progress) -> None:
        nonlocal running
        running += 1
        assert running == 1
        await asyncio.sleep(0.4)
        running -= 1
        told.append(progress)

    clock = asyncio.get_running_loop().time
    async with Meter(on_progress) as meter:
        meter.begin(100)
        for done in range(1, 101):
            meter(done)
            await asyncio.sleep(0.01)
        meter.end(100)
        assert clock() == pytest.approx(1.0)
    assert told_of(told)[-1] == (100, 100)
    assert len(told) == 4
    assert clock() < 1.0 + 1.0


@in_virtual_time
async def test_a_coroutine_function_that_hangs_costs_the_transfer_a_second(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Then it is cancelled; a transfer that failed does not wait at all."""
    cancelled: list[float] = []
    clock = asyncio.get_running_loop().time

    async def hangs(progress: Progress) -> None:
        try:
            await asyncio.sleep(1e6)
        except asyncio.CancelledError:
            cancelled.append(clock())
            raise

    async with Meter(hangs) as meter:
        meter.begin(1)
        meter(1)
    await asyncio.sleep(0)
    assert cancelled == [1.0]
    assert caplog.messages == ["on_progress did not return within 1 s and was cancelled."]
    with contextlib.suppress(ValueError):
        async with Meter(hangs) as meter:
            meter.begin(1)
            meter(1)
            await asyncio.sleep(0.1)
            raise ValueError("broken")
    await asyncio.sleep(0)
    assert cancelled == [1.0, 1.1]


@in_virtual_time
async def test_a_coroutine_function_that_fails_is_logged_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """As a plain function is; so is one that becomes plain on the way."""

    async def fails(progress: Progress) -> None:
        await asyncio.sleep(0.2)
        raise RuntimeError("mine")

    async with Meter(lambda progress: fails(progress) if progress.bytes < 9 else None) as meter:
        meter.begin(9)
        for done in range(10):
            meter(done)
            await asyncio.sleep(0.1)
    assert caplog.messages == ["on_progress failed; the work goes on."]


@in_virtual_time
async def test_a_function_of_two_arguments_gets_bytes_and_total() -> None:
    """Bound methods and coroutine functions too; an argument that has a default is none."""
    told: list[object] = []

    class Bar:
        def move(self, done: int, total: int | None) -> None:
            told.append((done, total))

    async def later(done: int, total: int | None) -> None:
        told.append((done, total))

    def one(progress: Progress, width: int = 80) -> None:
        told.append(progress.bytes)

    for function in (Bar().move, later, one, lambda *args: told.append(len(args))):
        async with Meter(function) as meter:
            meter.begin(10)
            meter.end(10)
    assert told == [(10, 10), (10, 10), 10, 1]


async def test_without_a_function_progress_is_nothing() -> None:
    """Most callers do not ask."""
    async with Meter(None) as meter:
        meter.begin(5)
        meter(5)
        meter.end(5)
