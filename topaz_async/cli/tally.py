"""The clips of a command in figures."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from typing import Any

from rich.text import Text

from .display import duration
from .telling import Silence
from .ways import Way

__all__ = ["Tally"]


class Tally(Silence):
    """Counts the clips of one command.

    Args:
        total: How many there are.
        is_play: Whether they cost play money.
        clock: Returns the seconds of a monotonic clock.
    """

    def __init__(
        self, total: int, *, is_play: bool = False, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.total = total
        self._is_play = is_play
        self._clock = clock
        self._began = clock()
        self._counts: Counter[str] = Counter()
        self._under_way = 0
        self._costs: dict[str, float] = {}

    def begun(self, way: Way) -> None:
        """It is under way."""
        self._under_way += 1

    def ended(self, way: Way) -> None:
        """It has ended, as its status says."""
        assert way.status is not None
        self._under_way -= way.stages is not None
        self._counts[way.status] += 1
        if way.task_id is not None and way.credits is not None:
            self._costs[way.task_id] = way.credits  # clips of one content share a task

    @property
    def credits(self) -> float:
        """What the service says that the tasks cost."""
        return sum(self._costs.values())

    def line(self) -> Text:
        """Return the figures as a line."""
        parts = [f"{self._counts['ok']} of {self.total} done"]
        for status, word in _WORDS:
            if self._counts[status]:
                parts.append(f"{self._counts[status]} {word}")
        if self._under_way:
            parts.append(f"{self._under_way} under way")
        if self._costs:
            parts.append(f"{self.credits:g} credits{' of play money' if self._is_play else ''}")
        parts.append(duration(self._clock() - self._began))
        return Text(", ".join(parts), "bold")

    def as_json(self) -> dict[str, Any]:
        """Return the figures as `--json` tells them."""
        return {
            "event": "total",
            "clips": self.total,
            "counts": dict(sorted(self._counts.items())),
            "credits": self.credits,
            "seconds": round(self._clock() - self._began, 3),
        }


_WORDS = (
    ("failed", "failed"),
    ("refused", "refused"),
    ("unknown", "unknown"),
    ("pending", "still running at the service"),
    ("not submitted", "not sent"),
)
