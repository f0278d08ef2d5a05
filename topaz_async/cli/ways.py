"""The way of one clip through a service: what was planned, how far it has come, how it ended."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any, Protocol

import attrs

from ..errors import (
    AuthenticationError,
    InsufficientCreditsError,
    KeyQuotaError,
    TopazError,
)
from ..models import OutcomeStatus
from .exits import error_as_json
from .planning import Planned
from .stages import Stage, Stages

__all__ = ["DOOM", "Watcher", "Way"]

#: After one of these, whatever is sent next is refused as well.
DOOM = (AuthenticationError, InsufficientCreditsError, KeyQuotaError)


@attrs.define(kw_only=True, eq=False)
class Way:
    """The way of one clip; it changes as it goes on."""

    planned: Planned
    #: From 0, in the order of the command.
    index: int
    stages: Stages | None = None
    task_id: str | None = None
    #: How it ended; None while it goes on, or has not begun.
    status: OutcomeStatus | None = None
    path: Path | None = None
    #: What the service says that the task cost.
    credits: float | None = None
    error: TopazError | None = None
    #: Whether the watcher knows how it ended.
    is_told: bool = False
    #: Set once its task is known, or it has ended without one.
    has_task: asyncio.Event = attrs.field(factory=asyncio.Event)
    #: Whether the journal has its result still to be brought to where it was wanted.
    is_resumable: bool = False

    @property
    def is_paid(self) -> bool:
        """Whether its task is known to have succeeded."""
        return self.stages is not None and self.stages.all[-1].name == "download"

    @property
    def name(self) -> str:
        """The clip's name as it may be shown."""
        return self.planned.wish.name

    @property
    def seconds(self) -> float:
        """Seconds since its way began."""
        return 0.0 if self.stages is None else self.stages.seconds

    def as_json(self) -> dict[str, Any]:
        """Return how it ended, as `--json` tells it."""
        wish = self.planned.wish
        return {
            "event": "clip",
            "clip": wish.told,
            "status": self.status,
            "action": self.planned.action,
            "task_id": self.task_id,
            "reference": wish.reference,
            "path": None if self.path is None else str(self.path.absolute()),
            "credits": self.credits,
            "seconds": round(self.seconds, 3),
            "error": None if self.error is None else error_as_json(self.error),
        }


class Watcher(Protocol):
    """Somebody who is told of the ways of a command's clips."""

    def begun(self, way: Way) -> None:
        """It begins; its stages are there."""
        ...

    def changed(self, way: Way, stage: Stage) -> None:
        """A stage has begun, has other words, or has ended."""
        ...

    def submitted(self, way: Way) -> None:
        """Its task is made, and its id is known."""
        ...

    def ended(self, way: Way) -> None:
        """It has ended, as its status says."""
        ...

    def stopping(self) -> None:
        """Somebody wants an end; what is under way may need a moment for it."""
        ...
