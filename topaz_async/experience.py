"""What one client knows of its tasks: that they exist, since when, how long their like take."""

from __future__ import annotations

from collections import OrderedDict

import attrs

from .models import TaskRecord
from .schedule import Age
from .survival import Durations, Estimate, Traits

__all__ = ["Experience", "Known"]

#: How many tasks are remembered; the ones that were not seen for longest are forgotten first.
_REMEMBERED = 50_000

#: How many last records are kept, and for how many seconds: their links die one day.
_ENDS, _FRESH = 1000, 600.0

_NOTHING = Traits()


@attrs.define(weakref_slot=False)
class Known:
    """What is known of one task; moments are of the loop's clock."""

    #: When it was last known to exist.
    seen: float
    #: When it was made; None when it was not made by us.
    born: float | None = None
    traits: Traits = _NOTHING
    has_ended: bool = False


class Experience:
    """Remembers tasks, and learns from each that ends.

    Args:
        durations: What is known beforehand of how long tasks take.
    """

    def __init__(self, durations: Durations) -> None:
        self._durations = durations
        self._known: OrderedDict[str, Known] = OrderedDict()
        self._ends: OrderedDict[str, tuple[float, TaskRecord]] = OrderedDict()

    def of(self, task_id: str) -> Known | None:
        """Return what is known of a task; None when nothing says that it exists."""
        return self._known.get(task_id)

    def exists(self, task_id: str, now: float) -> None:
        """The task was seen, or something of ours vouches for it."""
        known = self._known.get(task_id)
        if known is None:
            known = self._known[task_id] = Known(now)
        else:
            known.seen = now
            self._known.move_to_end(task_id)
        while len(self._known) > _REMEMBERED:
            self._known.popitem(last=False)

    def made(self, task_id: str, traits: Traits, *, born: float, now: float) -> None:
        """The task is one of our own."""
        self.exists(task_id, now)
        known = self._known[task_id]
        known.born, known.traits = born, traits

    def estimate(self, age: Age, traits: Traits) -> tuple[Estimate | None, bool]:
        """Return what is known of a task's duration, and whether only its work is meant."""
        if age.is_told:
            work = self._durations.estimate(attrs.evolve(traits, working=True))
            if work is not None:
                return work, True
        return self._durations.estimate(traits), False

    def end_of(self, task_id: str, now: float) -> TaskRecord | None:
        """Return the record with which a task ended, if it was seen not long ago."""
        seen, record = self._ends.get(task_id, (0.0, None))
        return record if record is not None and now - seen < _FRESH else None

    def ended(self, record: TaskRecord, age: Age, now: float) -> None:
        """Learn from a task that has ended; fails count too, for they are news as well."""
        known = self._known.get(record.task_id)
        if known is not None:
            known.has_ended = True
        if record.state.is_fail or record.result_urls:  # a link that is missing may come later
            self._ends[record.task_id] = now, record
            while len(self._ends) > _ENDS:
                self._ends.popitem(last=False)
        born = None if known is None else known.born
        took = record.duration
        if took is None and born is not None:
            took = now - born
        if took is None:
            return
        traits = _NOTHING if known is None else known.traits
        if traits.model is None:
            traits = attrs.evolve(traits, model=record.model)
        began = now - took if born is None else born
        self._durations.add(took, traits, born=began)
        if age.works is not None and born is not None:
            work = took - (age.works - age.born)
            self._durations.add(work, attrs.evolve(traits, working=True), born=began)
