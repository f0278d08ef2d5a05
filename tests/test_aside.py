"""Work in a thread beside the loop: in order, bounded, and nobody left waiting."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
import weakref

import pytest

from topaz_async import aside
from topaz_async.aside import Aside


class Gate:
    """Pieces of work that wait until they are let through, and what was done."""

    def __init__(self) -> None:
        self.open = threading.Event()
        self.done: list[int] = []

    def piece(self, number: int) -> None:
        assert self.open.wait(10)
        self.done.append(number)


async def test_in_order() -> None:
    """Pieces are done one after the other, in the order in which they came."""
    work, done = Aside(), list[int]()
    for number in range(1000):
        await work.put(lambda number=number: done.append(number))  # type: ignore[misc]
    await work.end()
    assert list(range(1000)) == done


async def test_who_brings_too_much_waits() -> None:
    """So many pieces may be undone; whoever brings another waits until one is done."""
    work, gate = Aside(), Gate()
    for number in range(2):
        await asyncio.wait_for(work.put(lambda number=number: gate.piece(number), 2), 5)  # type: ignore[misc]
    third = asyncio.ensure_future(work.put(lambda: gate.piece(2), 2))
    await asyncio.sleep(0.02)
    assert not third.done()
    gate.open.set()
    await third
    assert gate.done
    await work.end()
    assert [0, 1, 2] == gate.done


async def test_nothing_is_done_after_a_failure() -> None:
    """What fails is kept, and what comes after it is passed over."""
    work, done = Aside(), list[str]()

    def fail() -> None:
        raise OSError("the disk is full")

    for piece in (lambda: done.append("before"), fail, lambda: done.append("after")):
        await work.put(piece)
    await work.end()
    assert (["before"], "the disk is full") == (done, str(work.failure))
    assert work.failure is not None
    assert work.failure.__traceback__ is None  # whose frames would hold what was to be written


async def test_what_is_dropped_is_not_begun() -> None:
    """What is under way ends, what has not begun is passed over, and asked work is done."""
    work, gate = Aside(), Gate()
    for number in range(3):
        await work.put(lambda number=number: gate.piece(number), 9)  # type: ignore[misc]
    assert not work.is_idle
    await asyncio.sleep(0.02)
    work.drop()
    gate.open.set()
    assert "left" == await work.do(lambda: "left")
    assert [0] == gate.done
    assert work.is_idle


async def test_an_interrupt_where_there_is_no_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C in the middle of a piece comes through, and hangs nobody."""

    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    def interrupt() -> None:
        raise KeyboardInterrupt

    work = Aside()
    monkeypatch.setattr(threading.Thread, "start", refuse)
    with pytest.raises(KeyboardInterrupt):
        await work.put(interrupt)
    assert work.is_idle
    assert "left" == await asyncio.wait_for(work.do(lambda: "left"), 5)


async def test_a_failure_holds_nothing() -> None:
    """What raised an error is gone with it, without the garbage collector."""

    class Big:
        def fail(self) -> None:
            raise OSError("full")

    big, work, failures = Big(), Aside(), list[OSError]()
    gone = weakref.ref(big)
    gc.disable()
    try:
        try:
            await work.do(big.fail)
        except OSError as error:
            failures.append(error)
        await work.put(big.fail)
        failures.clear()
        del big
        assert gone() is None
    finally:
        gc.enable()


async def test_the_outcome_of_work() -> None:
    """Whoever asks for it gets what comes of it, after all that came before, failed or not."""
    work, done = Aside(), list[str]()
    await work.put(lambda: done.append("before"), 9)
    assert 1 == await work.do(lambda: len(done))

    def fail() -> None:
        raise OSError("the disk is full")

    with pytest.raises(OSError, match="the disk is full"):
        await work.do(fail)
    assert work.failure is None  # it is the asker's
    await work.put(fail)
    assert "taken away" == await work.do(lambda: "taken away")


async def test_who_is_cancelled_leaves_when_the_work_has_ended() -> None:
    """What work makes can be taken away only once it is made."""
    work, gate = Aside(), Gate()
    doing = asyncio.ensure_future(work.do(lambda: gate.piece(0)))
    for _ in range(3):
        await asyncio.sleep(0.01)
        doing.cancel()
    await asyncio.sleep(0.01)
    assert not doing.done()
    gate.open.set()
    with pytest.raises(asyncio.CancelledError):
        await doing
    assert [0] == gate.done


async def test_a_cancelled_put_loses_nothing() -> None:
    """The piece is done although its bringer left; the next may come."""
    work, gate = Aside(), Gate()
    putting = asyncio.ensure_future(work.put(lambda: gate.piece(0)))
    await asyncio.sleep(0.01)
    putting.cancel()
    await asyncio.wait([putting])
    gate.open.set()
    await work.put(lambda: gate.piece(1))
    await work.end()
    assert [0, 1] == gate.done


async def test_no_wakeup_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thread that ends just as more comes leaves nothing undone."""
    monkeypatch.setattr(aside, "LINGER", 0.0)
    work, done = Aside(), list[int]()
    for number in range(500):
        await asyncio.wait_for(work.put(lambda number=number: done.append(number)), 10)  # type: ignore[misc]
    assert list(range(500)) == done


async def test_the_thread_ends_when_nothing_comes() -> None:
    """It is gone soon after the last piece, and another one does the next."""
    work, names = Aside(), list[int]()
    for _ in range(2):
        await work.put(lambda: names.append(threading.get_ident()))
        deadline = time.monotonic() + 10
        while any(thread.name == "topaz-aside" for thread in threading.enumerate()):
            assert time.monotonic() < deadline
            await asyncio.sleep(0.01)
    assert 2 == len(names)


def test_a_loop_that_was_closed_hears_nothing() -> None:
    """Work that outlives its loop ends without a word."""
    work, gate = Aside(), Gate()

    async def leave() -> None:
        await asyncio.wait_for(work.put(lambda: gate.piece(0)), 0.01)

    loop = asyncio.new_event_loop()
    with pytest.raises(TimeoutError):
        loop.run_until_complete(leave())
    loop.close()
    gate.open.set()
    deadline = time.monotonic() + 10
    while not gate.done:
        assert time.monotonic() < deadline
        time.sleep(0.01)


async def test_no_thread_to_be_had(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its bringer does the piece then, and the next one starts a thread."""

    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    work, done = Aside(), list[str]()
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        await work.put(lambda: done.append(threading.current_thread().name))
        await work.do(lambda: done.append(threading.current_thread().name))
    await work.put(lambda: done.append(threading.current_thread().name))
    assert [threading.current_thread().name] * 2 + ["topaz-aside"] == done
