"""Bring many clips through a service, watched, and stoppable without losing what was paid for."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import attrs

from ..client import TopazClient
from ..errors import InvalidInputError, ReferenceConflictError, TopazError
from ..job import Job
from ..media import content_hash
from ..models import UpscaleResult
from ..report import status_of
from .planning import Planned
from .stages import Stages
from .ways import DOOM, Watcher, Way

__all__ = ["carry_out", "closed_on"]

_log = logging.getLogger("topaz_async")


async def carry_out(
    plan: Sequence[Planned],
    topaz: TopazClient,
    stop: asyncio.Event,
    watcher: Watcher,
    *,
    concurrency: int,
) -> list[Way]:
    """Do what was planned, and return how each clip ended.

    Nothing more is begun once `stop` is set, the key is refused or the credits are used up.
    What `stop` has cut short ends as "pending", "not submitted" or "unknown" and is not told of:
    an answer may still come until the client is closed.

    Args:
        plan: What is to be done.
        topaz: The client, which is closed when `stop` is set.
        stop: Ends everything early.
        watcher: Is told of each clip.
        concurrency: Clips under way at once.
    """
    ways = [Way(planned=planned, index=index) for index, planned in enumerate(plan)]
    first = {way.planned.wish.reference: way for way in ways if _is_new(way)}
    halt = asyncio.Event()
    todo = iter(ways)
    async with (
        closed_on(stop, topaz, watcher.stopping),
        asyncio.TaskGroup() as group,
    ):
        for _ in range(min(concurrency, len(ways))):
            group.create_task(_work(todo, first, topaz, (stop, halt), watcher))
    return ways


def _is_new(way: Way) -> bool:
    """Whether it is to buy a task under a reference that others may share."""
    return way.planned.action == "send" and way.planned.wish.reference is not None


async def _work(
    todo: Iterator[Way],
    first: Mapping[str | None, Way],
    topaz: TopazClient,
    ends: tuple[asyncio.Event, asyncio.Event],
    watcher: Watcher,
) -> None:
    """Take one clip after the other; the workers share the iterator."""
    stop, halt = ends
    for way in todo:
        twin = first.get(way.planned.wish.reference)
        if twin is not None and twin.index < way.index:
            await twin.has_task.wait()  # the task that it shares; the twin comes earlier
        is_over = stop.is_set() or halt.is_set()
        if way.planned.action == "refuse" and (is_over or not way.planned.may_be_heard_of):
            way.error = way.planned.error
            way.status = "refused" if way.error is None else status_of(way.error, None)
        elif way.planned.action == "done":
            way.task_id, way.status = way.planned.task_id, "ok"
            way.path = way.planned.wish.output
        elif is_over:
            way.task_id = way.planned.task_id
            way.status = "pending" if way.task_id else "not submitted"
        else:
            await _follow(way, topaz, watcher)
            if isinstance(way.error, DOOM):
                halt.set()
        way.has_task.set()  # or never gets one
        if not stop.is_set() or way.status in ("ok", "failed", "refused"):
            way.is_told = True
            watcher.ended(way)


async def _follow(way: Way, topaz: TopazClient, watcher: Watcher) -> None:
    planned = way.planned
    stages = way.stages = Stages(
        is_local=planned.wish.is_local and planned.action == "send",
        on_change=lambda stage: watcher.changed(way, stage),
    )
    watcher.begun(way)
    try:
        if planned.task_id is not None:
            result = await _fetched(way, topaz, stages)
        else:
            result = await _upscaled(way, topaz, stages, watcher)
    except TopazError as error:
        _failed(way, stages, error)
        return
    except Exception as error:  # a defect of ours: the other clips go on
        _log.exception("The way of %s ended in an unforeseen way.", way.name)
        reason = f"Unforeseen {type(error).__name__}. This is a bug; --debug shows where it is."
        _failed(way, stages, TopazError(reason, task_id=way.task_id, billed="unknown"))
        return
    stages.leave("done")
    way.task_id, way.path, way.status = result.task_id, result.path, "ok"
    way.credits = result.credits_consumed


def _failed(way: Way, stages: Stages, error: TopazError) -> None:
    stages.leave("broken off")
    if not isinstance(error, ReferenceConflictError):  # which names the task of other work
        way.task_id = way.task_id or error.task_id
    way.status, way.error = status_of(error, way.task_id), error
    record = getattr(error, "record", None)
    if record is not None and record.state.is_terminal:  # the service says 0 while one runs
        way.credits = record.credits_consumed


async def _upscaled(
    way: Way, topaz: TopazClient, stages: Stages, watcher: Watcher
) -> UpscaleResult:
    wish, is_meant = way.planned.wish, way.planned.action == "send"
    await asyncio.to_thread(_check_content, way.planned)

    def submitted(job: Job) -> None:
        way.task_id = job.task_id
        stages.submitted(job)
        way.has_task.set()
        watcher.submitted(way)

    return await topaz.upscale(
        wish.clip,
        factor=wish.factor,
        output=wish.output,
        timeout=wish.timeout,
        callback_url=wish.callback_url,
        reference=wish.reference,
        # Whoever consents, or types the command again, wants it bought once: its copies follow.
        resubmit_unknown=wish.resubmit_unknown and is_meant,
        resubmit_failed=is_meant,
        on_submit=submitted,
        on_update=stages.update,
        on_progress=stages.progress,
        overwrite=wish.overwrite,
    )


def _check_content(planned: Planned) -> None:
    """Raise when a clip is not any more what it was planned, and perhaps named, by."""
    expected = planned.content_hash
    if expected is None or content_hash(Path(planned.wish.clip)) == expected:
        return
    raise InvalidInputError(
        f"{planned.wish.name} changed since it was looked at.",
        hint="Run the command again when nobody writes to it.",
    )


async def _fetched(way: Way, topaz: TopazClient, stages: Stages) -> UpscaleResult:
    """Bring the result of a task that is paid for; its clip may be gone."""
    wish, task_id = way.planned.wish, way.planned.task_id
    assert task_id is not None
    way.task_id = task_id
    job = Job(task_id, wish.reference)
    stages.submitted(job)
    result = await topaz.wait_for_result(job, timeout=wish.timeout, on_update=stages.update)
    path = await topaz.download(
        result, wish.output, on_progress=stages.progress, overwrite=wish.overwrite
    )
    return attrs.evolve(result, path=path)


@asynccontextmanager
async def closed_on(
    stop: asyncio.Event, topaz: TopazClient, on_stop: Callable[[], object] = lambda: None
) -> AsyncIterator[None]:
    """Close the client when `stop` is set: unlike a cancellation, its errors name the tasks."""

    async def close() -> None:
        await stop.wait()
        on_stop()
        await topaz.aclose()

    closing = asyncio.create_task(close())
    try:
        yield
    finally:
        closing.cancel()
        await asyncio.wait([closing])
