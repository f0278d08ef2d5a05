"""kill -9, full disks and cancellations at every step between the intent and the task id."""

from __future__ import annotations

import asyncio
import contextlib
import random
import re
import selectors
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from topaz_async import ClientClosedError, Job, SubmitUnknownError
from topaz_async.sandbox import Fault

from .faults import MOMENTS, Child, Nursery, World, turns

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX signals and forks")

#: Seconds in which a healthy child has done all it does.
SPAN = 0.03


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    """A sandbox, a journal and two clients of this process."""
    async with World(tmp_path) as made:
        yield made


@pytest.fixture
async def nursery() -> AsyncIterator[Nursery]:
    """A process that bears children."""
    async with Nursery() as process:
        yield process


async def heard(child: Child, word: str) -> None:
    """Read what a child says up to a word."""
    async for line in child.lines():
        if line == word:
            return
    pytest.fail(f"the child ended and did not say {word}")


async def rest(child: Child, world: World) -> list[str]:
    """Read what a child says to its end."""
    said = []
    async for line in child.lines():
        said.append(line)
        world.hear(line)
    return said


# -- kill -9 ------------------------------------------------------------------------------------


@pytest.mark.parametrize("video", [0, 2], ids=["file", "url"])
async def test_killed_at_random_moments_of_the_whole_span(
    world: World, nursery: Nursery, video: int
) -> None:
    """Of 30 processes killed anywhere from start to end, no work is lost or paid twice."""
    chance = random.Random(video)
    for turn in range(30):
        if turn % 3 == 0:  # the service takes its time, before its answer or after its deed
            world.sandbox.add_fault(Fault("createTask", "slow", seconds=chance.uniform(0, SPAN)))
        await world.kill(
            nursery,
            video=video,
            reference=f"r{turn}",
            word="start",
            delay=chance.uniform(0, SPAN),
        )
        assert await world.problems() == []
    assert world.done_to_it["kill -9"] >= 20
    assert await world.recover(0) == []
    assert await world.end() == []


async def test_killed_at_every_step_between_intent_and_id(world: World, nursery: Nursery) -> None:
    """At each step that can be named the journal holds at once what has to be held."""
    chance = random.Random(3)
    for turn, word in enumerate(MOMENTS * 3):
        reference = f"{word}-{turn}"
        delay = turn // len(MOMENTS) * chance.uniform(0, 0.002)
        said = await world.kill(nursery, video=2, reference=reference, word=word, delay=delay)
        entry = await world.lives[0].client.journal.find(reference)
        if "claim done" in said:
            assert entry is not None
            assert entry.submit in ("made", "unknown")
        if "bind done" in said:
            assert entry is not None
            assert entry.submit == "made"
        assert await world.problems() == []
    assert world.done_to_it["kill -9"] >= 20
    assert await world.end() == []


async def test_what_was_bound_is_recovered_and_awaited(world: World, nursery: Nursery) -> None:
    """After kill -9 behind the id, recover() gives the job of the task that was paid for."""
    await world.kill(nursery, video=2, reference="r", word="bind done")
    (job,) = [job async for job in world.lives[0].client.recover()]
    assert [job.task_id] == list(world.sandbox.books.tasks)
    assert job.reference == "r"
    assert (await job).task_id == job.task_id
    assert await world.end() == []


async def test_what_was_not_bound_is_recovered_as_unknown(world: World, nursery: Nursery) -> None:
    """After kill -9 between POST and id, recover() says so and nothing is sent again."""
    world.sandbox.add_fault(Fault("createTask", "slow", seconds=0.2))
    await world.kill(nursery, video=2, reference="r", word="bought")
    (job,) = [job async for job in world.lives[0].client.recover()]
    assert (job.reference, job.unknown) == ("r", True)
    with pytest.raises(SubmitUnknownError):
        await job
    with pytest.raises(SubmitUnknownError):
        await world.submit(2, reference="r").task
    assert world.sandbox.books.count("createTask") == 1
    assert await world.end() == []


# -- two processes ------------------------------------------------------------------------------


async def test_two_living_processes_of_one_reference_are_one_task(
    world: World, nursery: Nursery
) -> None:
    """While one process sends, another one and a client here wait for its answer."""
    world.sandbox.add_fault(Fault("createTask", "slow", seconds=0.15))
    async with Nursery() as another:
        one = await world.bear(nursery, video=2, reference="r")
        await heard(one, "claim done")
        two = await world.bear(another, video=2, reference="r")
        job, said_one, said_two = await asyncio.gather(
            world.submit(2, reference="r").task, rest(one, world), rest(two, world)
        )
    assert f"told {job.task_id}" in said_one
    assert f"told {job.task_id}" in said_two
    assert world.sandbox.books.count("createTask") == 1
    assert await world.end() == []


async def test_who_waits_for_a_process_learns_of_its_death(world: World, nursery: Nursery) -> None:
    """A submit that waits for another process's answer is unknown as soon as that is killed."""
    world.sandbox.add_fault(Fault("createTask", "slow", seconds=30.0))
    child = await world.bear(nursery, video=2, reference="r")
    await heard(child, "claim done")
    waiting = world.submit(2, reference="r").task
    await world.sandbox.books.until(lambda books: len(books.tasks) == 1)
    await turns(20)
    assert not waiting.done()
    child.kill()
    await rest(child, world)
    async with asyncio.timeout(2.0):
        with pytest.raises(SubmitUnknownError):
            await waiting
    assert world.sandbox.books.count("createTask") == 1
    world.sandbox.faults.clear()
    assert await world.end() == []


# -- a full disk --------------------------------------------------------------------------------


async def test_a_disk_that_is_full_before_the_post_buys_nothing(
    world: World, nursery: Nursery
) -> None:
    """JournalError says that nothing was billed, and no request leaves."""
    child = await world.bear(nursery, video=2, reference="r", full_after="open")
    assert "error JournalError no" in await rest(child, world)
    assert world.sandbox.books.count("createTask") == 0
    assert isinstance(await world.submit(2, reference="r").task, Job)
    assert await world.end() == []


async def test_a_disk_that_is_full_after_the_post_still_gives_the_id(
    world: World, nursery: Nursery
) -> None:
    """The caller gets the job, a warning names the id, and the reference is unknown later."""
    child = await world.bear(nursery, video=2, reference="r", full_after="claim")
    said = [line async for line in child.lines()]
    (task_id,) = world.sandbox.books.tasks
    assert f"told {task_id}" in said
    assert any(line.startswith("log WARNING") and task_id in line for line in said)
    assert [job.unknown async for job in world.lives[0].client.recover()] == [True]
    job = await world.lives[0].client.bind("r", task_id)
    assert job == await world.submit(2, reference="r").task
    assert await world.end() == []


async def test_room_again_on_the_disk_and_the_id_is_kept(world: World, nursery: Nursery) -> None:
    """What could not be written when it was known is written as soon as it can be."""
    child = await world.bear(nursery, video=2, reference="r", full_after="claim", room_again=True)
    said = await rest(child, world)
    (task_id,) = world.sandbox.books.tasks
    assert f"told {task_id}" in said
    assert any(line.startswith("log WARNING") and task_id in line for line in said)
    assert [job.task_id async for job in world.lives[0].client.recover()] == [task_id]
    assert await world.end() == []


async def test_a_journal_that_works_again_gives_the_reference_its_job(world: World) -> None:
    """A client whose journal failed behind the POST does not wait for itself."""
    world.sandbox.add_fault(Fault("createTask", "slow", seconds=0.05))
    call = world.submit(2, reference="r")
    await world.sandbox.books.until(lambda books: len(books.tasks) == 1)
    journal = world.lives[0].journal
    journal.dead = True
    job = await call.task
    journal.dead = False
    assert job == await world.submit(2, reference="r").task
    assert world.sandbox.books.count("createTask") == 1
    assert await world.end() == []


# -- cancellation -------------------------------------------------------------------------------


async def test_a_caller_who_left_does_not_take_the_id_along(world: World) -> None:
    """The exchange of a cancelled submit goes on, and its id is in the journal."""
    world.sandbox.add_fault(Fault("createTask", "slow", seconds=0.05))
    call = world.submit(2, reference="r")
    await world.sandbox.books.until(lambda books: len(books.tasks) == 1)
    began = asyncio.get_running_loop().time()
    call.cancelled = call.task.cancel()
    await asyncio.wait([call.task])
    assert asyncio.get_running_loop().time() - began < 0.03  # it was answered at once
    job = await world.submit(2, reference="r", at=1).task  # waits for the exchange
    assert [job.task_id] == list(world.sandbox.books.tasks)
    assert await world.end() == []


async def test_an_exchange_cut_by_aclose_is_unknown_at_once(world: World) -> None:
    """A journal that outlives its client does not wait for an answer that cannot come."""
    world.sandbox.add_fault(Fault("createTask", "act_then_hang"))
    call = world.submit(2, reference="r")
    await world.sandbox.books.until(lambda books: len(books.tasks) == 1)
    await world.restart(0, how="client")
    assert isinstance(call.error, ClientClosedError)
    assert (call.error.billed, call.error.reference) == ("unknown", "r")
    assert [job.unknown async for job in world.lives[0].client.recover()] == [True]
    for at in (0, 1):
        with pytest.raises(SubmitUnknownError):
            await world.submit(2, reference="r", at=at).task
    assert await world.end() == []


class Counted(selectors.DefaultSelector):  # type: ignore[misc, valid-type]
    """Counts the loop's steps: it is asked once in each, however long that waits."""

    def __init__(self) -> None:
        super().__init__()
        self.steps = 0
        self.at: dict[int, Any] = {}

    def select(self, timeout: float | None = None) -> Any:
        self.steps += 1
        strike = self.at.pop(self.steps, None)
        if strike is not None:
            strike()
            timeout = 0
        return super().select(timeout)


@pytest.mark.parametrize("video", [0, 2], ids=["file", "url"])
def test_cancelled_at_each_step_of_a_submit(tmp_path: Path, video: int) -> None:
    """Whenever it is cancelled, a submit is paid at most once and known if it is paid."""
    selector = Counted()
    with asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(selector)) as runner:
        cancelled = runner.run(sweep(World(tmp_path), selector, video))
    assert cancelled > 15


async def sweep(world: World, selector: Counted, video: int) -> int:
    """Cancel a submit at its first step, the next one at its second, and so on to its end."""
    in_a_row = number = 0
    async with world:
        while in_a_row < 3:  # how many steps it takes differs a little from time to time
            number += 1
            call = world.submit(video, reference=f"r{number}")
            selector.at = {selector.steps + number: call.task.cancel}
            call.cancelled = True
            with contextlib.suppress(asyncio.CancelledError):
                await call.task
            in_a_row = 0 if call.task.cancelled() else in_a_row + 1
            if number % 2:  # the answer may come late, or the client may end at once
                await world.restart(0, how="client")
            assert await world.problems() == []
        assert await world.end() == []
    return number


# -- the how-to page ----------------------------------------------------------------------------


class Chat:
    """A chat that remembers what it was told, and brings one clip."""

    def __init__(self, message_id: str, url: str) -> None:
        self.said: list[tuple[str, str, str]] = []
        self._clip = message_id, url

    async def post(self, message_id: str, text: str) -> None:
        self.said.append(("post", message_id, text))

    async def ask_owner(self, message_id: str, text: str) -> None:
        self.said.append(("ask", message_id, text))

    async def clips(self) -> AsyncIterator[tuple[str, str]]:
        yield self._clip


async def test_the_how_to_page_survives_a_restart(world: World, nursery: Nursery) -> None:
    """The bot of the page goes on after kill -9: one job is delivered, one is asked about."""
    page = (Path(__file__).parents[1] / "docs/how-to/survive-a-restart.md").read_text("utf-8")
    bot: dict[str, Any] = {}
    for block in re.findall(r"```python\n(.*?)```", page, re.DOTALL):
        exec(compile(block, "survive-a-restart.md", "exec"), bot)
    world.sandbox.add_fault(Fault("createTask", "slow", seconds=0.2, after=1))
    await world.kill(nursery, video=2, reference="message-1", word="bind done")
    await world.kill(nursery, video=2, reference="message-2", word="bought")
    known, lost = world.sandbox.books.tasks

    topaz, url = world.lives[0].client, world.url
    bot["TopazClient"] = lambda journal: topaz
    chat = Chat("message-3", url)
    await bot["run"](chat)
    posted = {message: text for what, message, text in chat.said if what == "post"}
    assert posted.keys() == {"message-1", "message-3"}
    assert known in posted["message-1"]
    assert [message for what, message, _ in chat.said if what == "ask"] == ["message-2"]

    await world.restart(0, how="close")
    await bot["on_owner"](world.lives[0].client, chat, "message-2", url, lost)
    assert chat.said[-1][:2] == ("post", "message-2")
    assert lost in chat.said[-1][2]
    assert len(world.sandbox.books.tasks) == 3
    await bot["on_clip"](world.lives[1].client, chat, "message-2", url)
    assert len(world.sandbox.books.tasks) == 3
