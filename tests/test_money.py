"""Never pay twice, never lose a paid task: against the sandbox's books, under every fault."""

from __future__ import annotations

import asyncio
import random
import tempfile
from collections.abc import AsyncIterator, Coroutine
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from topaz_async import Job, SubmitUnknownError, TopazError
from topaz_async.sandbox import Fault

from .faults import FAULTS, World, play, turns

CLIENT = st.integers(0, 1)
ANY = st.integers(0, 99)


class Money(RuleBasedStateMachine):
    """Two clients of one journal, their faults and their ends, in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.folder = tempfile.TemporaryDirectory()
        self.world = World(Path(self.folder.name))
        self.run(self.world.__aenter__())

    def run(self, step: Coroutine[Any, Any, Any]) -> Any:
        return self.runner.run(step)

    @rule(
        fault=st.none() | st.sampled_from([each for group in FAULTS.values() for each in group]),
        video=st.integers(0, 3),
        reference=st.none() | st.sampled_from(["a", "b", "c", "d", "e", "f"]),
        clients=st.lists(CLIENT, min_size=1, max_size=4),
        consents=st.sampled_from([False] * 7 + [True]),
        offline=st.sampled_from([False] * 9 + [True]),
        after=st.integers(0, 60),
    )
    def submit(
        self,
        fault: Fault | None,
        video: int,
        reference: str | None,
        clients: list[int],
        consents: bool,
        offline: bool,
        after: int,
    ) -> None:
        async def step() -> None:
            if fault is not None:
                self.world.sandbox.add_fault(fault)
            for at in clients:
                self.world.submit(
                    video, reference=reference, at=at, consents=consents, offline=offline
                )
            await turns(after)

        self.run(step())

    @rule(count=st.integers(1, 200))
    def go_on(self, count: int) -> None:
        self.run(turns(count))

    @rule()
    def settle(self) -> None:
        self.run(self.world.settle())

    @rule(nth=ANY, after=st.integers(0, 20))
    def cancel(self, nth: int, after: int) -> None:
        async def step() -> None:
            self.world.cancel(nth)
            await turns(after)

        self.run(step())

    @rule(at=CLIENT, how=st.sampled_from(["crash", "close", "client"]))
    def restart(self, at: int, how: str) -> None:
        self.run(self.world.restart(at, how=how))

    @rule(at=CLIENT)
    def recover(self, at: int) -> None:
        assert self.run(self.world.recover(at)) == []

    @rule(nth=ANY, at=CLIENT)
    def wait(self, nth: int, at: int) -> None:
        assert self.run(self.world.wait(nth, at)) == []

    @rule(nth=ANY, at=CLIENT)
    def bind(self, nth: int, at: int) -> None:
        assert self.run(self.world.bind(nth, at)) == []

    @invariant()
    def books_agree(self) -> None:
        assert self.run(self.world.problems()) == []

    def teardown(self) -> None:
        try:
            assert self.run(self.world.end()) == []
        finally:
            self.run(self.world.__aexit__())
            self.runner.close()
            self.folder.cleanup()


class TestMoney(Money.TestCase):  # type: ignore[name-defined, misc]
    """Whatever happens in whatever order: paid at most once, every paid task known."""

    settings = settings(
        max_examples=15,
        stateful_step_count=25,
        deadline=None,
        # Time is part of each history, so a shorter one is another one.
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    """A sandbox, a journal and two clients."""
    async with World(tmp_path) as made:
        yield made


async def outcome(world: World, video: int, reference: str, **options: Any) -> Job | TopazError:
    """Submit and return what the caller gets."""
    call = world.submit(video, reference=reference, **options)
    await asyncio.wait([call.task])
    assert call.error is None or isinstance(call.error, TopazError)
    return call.error or call.task.result()


def bought(world: World) -> int:
    return len(world.sandbox.books.tasks)


@pytest.mark.parametrize("fault", FAULTS["refused"], ids=lambda f: f"{f.code} {f.msg}")
async def test_a_refusal_buys_nothing_and_frees_the_reference(world: World, fault: Fault) -> None:
    """The error says that nothing was billed, and the next submit is a fresh attempt."""
    world.sandbox.add_fault(fault)
    first = await outcome(world, 2, "r")
    if isinstance(first, TopazError):
        assert (first.billed, bought(world)) == ("no", 0)
        first = await outcome(world, 2, "r")
    assert isinstance(first, Job)
    assert [first.task_id] == list(world.sandbox.books.tasks)
    assert await world.end() == []


@pytest.mark.parametrize(
    "fault", FAULTS["not bought, unclear"], ids=lambda f: f"{f.action} {f.status}"
)
async def test_an_unclear_answer_is_unknown_and_never_repeated(world: World, fault: Fault) -> None:
    """One request leaves, and the reference asks for consent from then on."""
    world.sandbox.add_fault(fault)
    for at in (0, 1):
        error = await outcome(world, 2, "r", at=at)
        assert isinstance(error, SubmitUnknownError)
        assert error.billed == "unknown"
    assert world.sandbox.books.count("createTask") == 1
    assert isinstance(await outcome(world, 2, "r", consents=True), Job)
    assert (world.sandbox.books.count("createTask"), bought(world)) == (2, 1)
    assert await world.end() == []


@pytest.mark.parametrize(
    "fault", FAULTS["bought, answer spoilt"], ids=lambda f: f"{f.action} {f.code} {f.fraction}"
)
async def test_a_spoilt_answer_pays_once(world: World, fault: Fault) -> None:
    """Either the caller has the id, or the error says that nobody knows; both are kept."""
    world.sandbox.add_fault(fault)
    first = await outcome(world, 2, "r")
    again = await outcome(world, 2, "r", at=1)
    (task_id,) = world.sandbox.books.tasks
    if isinstance(first, Job):
        assert task_id == first.task_id == getattr(again, "task_id", None)
    else:
        assert isinstance(first, SubmitUnknownError)
        assert isinstance(again, SubmitUnknownError)
        job = await world.lives[0].client.bind("r", task_id)
        assert job == await outcome(world, 2, "r")
    assert world.sandbox.books.count("createTask") == 1
    assert await world.end() == []


@pytest.mark.parametrize("seed", range(3))
async def test_a_random_history_pays_once(world: World, seed: int) -> None:
    """Submits, faults, cancellations, crashes and restarts at random leave no contradiction."""
    assert await play(world, random.Random(seed), 25) == []
    assert world.injected.total() > 5
