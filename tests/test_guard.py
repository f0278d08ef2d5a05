"""A journal of the caller's own that fails in its own way costs neither money nor an id."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from topaz_async import JournalError, ReferenceConflictError, SqliteJournal, TopazClient
from topaz_async.guard import Guarded
from topaz_async.sandbox import Sandbox

from .conftest import client_of


class Failing(SqliteJournal):
    """Fails when it is asked, as a store over a network does."""

    down: frozenset[str] = frozenset()

    async def find(self, *args: Any) -> Any:
        self._check("find")
        return await super().find(*args)

    async def claim(self, *args: Any, **options: Any) -> Any:
        self._check("claim")
        return await super().claim(*args, **options)

    async def bind(self, *args: Any) -> None:
        self._check("bind")
        await super().bind(*args)

    def note_soon(self, *args: Any, **options: Any) -> None:
        self._check("note_soon")
        super().note_soon(*args, **options)

    def _check(self, name: str) -> None:
        if name in self.down:
            raise OSError(5, "my store is down")


@pytest.fixture
async def journal(tmp_path: Path) -> AsyncIterator[Failing]:
    """The caller's own."""
    made = Failing(tmp_path / "jobs.sqlite")
    yield made
    await made.aclose()


@pytest.fixture
async def keeper(sandbox: Sandbox, journal: Failing) -> AsyncIterator[TopazClient]:
    """A client that keeps it."""
    async with client_of(sandbox, journal=journal) as client:
        yield client


async def test_a_store_that_is_down_as_the_answer_comes_costs_no_id(
    keeper: TopazClient, journal: Failing, sandbox: Sandbox, clip: Path, tiny_clip: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    """The job reaches the caller; its reference stands for it, although nothing was written."""
    journal.down = frozenset({"bind"})
    job = await keeper.submit(clip, reference="r")
    assert [job.task_id] == list(sandbox.books.tasks)
    assert f"task {job.task_id}" in caplog.text
    journal.down |= {"find", "claim"}
    assert job == await keeper.submit(clip, reference="r")
    with pytest.raises(ReferenceConflictError):
        await keeper.submit(tiny_clip, reference="r")
    journal.down = frozenset()
    assert job == await keeper.submit(clip, reference="r")
    entry = await journal.find("r")
    assert entry is not None
    assert entry.task_id == job.task_id


@pytest.mark.parametrize("method", ["find", "claim"])
async def test_a_store_that_is_down_before_buys_nothing(
    keeper: TopazClient, journal: Failing, sandbox: Sandbox, clip: Path, method: str
) -> None:
    """What it raises comes as one of our errors, with its words, and nothing is sent."""
    journal.down = frozenset({method})
    with pytest.raises(JournalError, match=r"failed: OSError: .*my store is down") as caught:
        await keeper.submit(clip, reference="r")
    assert ("no", "r") == (caught.value.billed, caught.value.reference)
    assert 0 == sandbox.books.count("createTask")


async def test_a_note_that_fails_disturbs_nobody(
    keeper: TopazClient, journal: Failing, clip: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A wait goes on although its states cannot be written down."""
    journal.down = frozenset({"note_soon"})
    with caplog.at_level(logging.WARNING, "topaz_async"):
        assert (await keeper.upscale(clip)).urls
    assert "The journal failed: OSError" in caplog.text


async def test_in_a_batch(
    keeper: TopazClient, journal: Failing, sandbox: Sandbox, clip: Path
) -> None:
    """An item that was bought is not called refused."""
    journal.down = frozenset({"bind"})
    report = await keeper.upscale_many([clip, clip])
    assert ["ok", "ok"] == [row.status for row in report.rows]
    assert 1 == len(sandbox.books.tasks)


async def test_a_defect_after_the_purchase_is_told_with_its_task(
    sandbox: Sandbox, clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever breaks in a batch, the outcome names the task that was paid for; twins end too."""
    async with client_of(sandbox) as client:

        async def broken(*args: object) -> None:
            await asyncio.sleep(0)
            raise ZeroDivisionError

        monkeypatch.setattr(client._chapters, "wait", broken)
        outcomes = [each async for each in client.upscale_many([clip, clip])]
    (task_id,) = sandbox.books.tasks
    assert [("failed", task_id, "yes")] * 2 == [
        (each.status, each.task_id, each.error.billed if each.error else None) for each in outcomes
    ]


async def test_the_caller_gets_his_own_back(keeper: TopazClient, journal: Failing) -> None:
    """`client.journal` is what was handed in."""
    assert keeper.journal is journal


def test_what_is_no_method_is_passed_on(tmp_path: Path) -> None:
    """An attribute is read as it is."""
    assert Guarded(SqliteJournal(tmp_path / "j.sqlite")).durable is True
