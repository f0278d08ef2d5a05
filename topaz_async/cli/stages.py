"""How far one clip has come: the stages of its way, fed by the client's callbacks."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Literal

import attrs

from ..job import Job
from ..models import TaskRecord
from ..texts import clean
from ..transfers import Progress

__all__ = ["Stage", "Stages"]

Name = Literal["upload", "submit", "wait", "download"]
Outcome = Literal["done", "failed", "broken off"]


@attrs.define(kw_only=True, eq=False)
class Stage:
    """One part of the way: upload, submit, wait or download."""

    name: Name
    #: What there is to say, besides figures.
    text: str = ""
    #: Bytes, in a stage that moves some; the total is None while nobody knows it.
    done: int | None = None
    total: int | None = None
    #: Bytes a second, lately.
    rate: float = 0.0
    #: Moments of the monotonic clock, in seconds.
    began: float
    ended: float | None = None
    #: How it ended, once it has.
    outcome: Outcome = "done"

    def seconds(self, now: float) -> float:
        """Return how long the stage has taken, or took."""
        return (now if self.ended is None else self.ended) - self.began


class Stages:
    """The stages of one clip, in order; the last one is under way until it has ended.

    `progress` and `update` are what `TopazClient.upscale` calls.

    Args:
        is_local: Whether a file has to be uploaded first.
        on_change: Called with a stage that has begun, has other words, or has ended.
        clock: Returns the seconds of a monotonic clock.
    """

    def __init__(
        self,
        *,
        is_local: bool,
        on_change: Callable[[Stage], None] = lambda stage: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.all: list[Stage] = []
        self.is_stopping = False
        self.now = clock
        self._on_change = on_change
        self._is_submitted = False
        self._begin("upload" if is_local else "submit")

    @property
    def seconds(self) -> float:
        """Seconds since the first stage began."""
        return self.now() - self.all[0].began

    def progress(self, progress: Progress) -> None:
        """Bytes were moved: up until the task is known, down from then on."""
        done, total = progress.bytes, progress.total
        name: Name = "download" if self._is_submitted else "upload"
        if done == total and any(s.name == name and s.ended is not None for s in self.all):
            return  # the last byte is told of twice
        stage = self._begin(name)
        stage.done, stage.total, stage.rate = done, total, progress.rate
        if done == total:
            self._end(stage)
            if name == "upload":
                self._begin("submit")

    def submitted(self, job: Job) -> None:
        """The task is made, and its id is known."""
        self._is_submitted = True
        submit = self._begin("submit")
        submit.text = f"task {clean(job.task_id, 80)}"
        self._end(submit)
        self._begin("wait")

    def update(self, record: TaskRecord) -> None:
        """The service has said something new about the task."""
        wait = self._begin("wait")
        wait.text = clean(record.state, 40)
        if record.progress is not None and not record.state.is_terminal:
            wait.text += f" {record.progress:.0f} %"
        if record.state.is_terminal:
            self._end(wait, "failed" if record.state.is_fail else "done")
            if record.state.is_success:
                self._begin("download")
        else:
            self._on_change(wait)

    def stopping(self) -> None:
        """Somebody wants an end; what is under way may need a moment for it."""
        self.is_stopping = True

    def leave(self, outcome: Outcome) -> None:
        """The way has ended here."""
        if self.have_begun and self.all[-1].ended is None:
            self._end(self.all[-1], outcome)

    @property
    def have_begun(self) -> bool:
        """Whether anything has happened: what is refused at the door has not been on its way."""
        return len(self.all) > 1 or self.all[0].done is not None

    def _begin(self, name: Name) -> Stage:
        """Return the stage of that name, which is the last one from now on."""
        for place, stage in enumerate(self.all):
            if stage.name == name:  # an upload that broke off begins again
                del self.all[place + 1 :]
                stage.ended = None
                return stage
        if self.all and self.all[-1].ended is None:
            self._end(self.all[-1])
        stage = Stage(name=name, began=self.now())
        self.all.append(stage)
        self._on_change(stage)
        return stage

    def _end(self, stage: Stage, outcome: Outcome = "done") -> None:
        stage.ended, stage.outcome = self.now(), outcome
        self._on_change(stage)
