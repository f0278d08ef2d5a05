"""When to look at a waiting task: a pure function of its age, what is known, and the crowd."""

from __future__ import annotations

import heapq
import itertools
from collections import deque
from collections.abc import Callable, Hashable, Iterator
from typing import Generic, TypeVar

import attrs
import backoff

from .settings import PollPolicy
from .survival import Estimate

__all__ = ["Agenda", "Pause", "Schedule", "cadence"]

#: Longest pauses of the policy that a learned schedule lags behind on average: a little more
#: than the growing pauses do, for a third fewer looks.
_LAG = 0.55
#: Looks that a task shall have on average at least, however short it is.
_LEAST_LOOKS = 4.0
#: Rounds (pending / rate) for which a task may go unseen when the quota is scarce.
_ROUNDS = 3.0
#: So much earlier a task is called unseen for too long: its look may have to wait for a slot.
_MARGIN = 0.9
#: Longest pauses of the policy that a task may go unseen when the quota is plentiful.
_PATIENCE = 10.0


def cadence(policy: PollPolicy) -> Iterator[float]:
    """Yield the pauses before each look at one task, in seconds and without jitter."""
    if not policy.steps:
        waits = backoff.expo(base=policy.growth, factor=policy.first, max_value=policy.longest)
        next(waits)  # backoff's generators say nothing at first
        yield from waits
    yield policy.first
    elapsed = 0.0
    while True:
        pause = next((p for until, p in policy.steps if elapsed < until), policy.steps[-1][1])
        elapsed += pause
        yield pause


@attrs.frozen
class Pause:
    """Seconds from one look at a task to the next."""

    #: Not before: an earlier look is not worth its request even when the quota is idle.
    soonest: float
    #: When the look is due by everybody's fair share; the order in which looks go.
    due: float


@attrs.frozen(kw_only=True)
class Schedule:
    """Places looks.

    Args:
        policy: The pauses without history; its `longest` is also the measure of the rest.
        rate: Looks a second that the quota allows; None for any number.
    """

    policy: PollPolicy
    rate: float | None = None

    def pause(
        self,
        elapsed: float,
        *,
        plain: float,
        pending: int = 1,
        estimate: Estimate | None = None,
        spread: float = 0.5,
    ) -> Pause:
        """Return the pause before the next look at a task.

        Args:
            elapsed: Seconds that the task had lived at the last look, or at its submit.
            plain: Seconds that `cadence` would pause now.
            pending: Tasks that wait, this one included.
            estimate: What is known of its duration; None uses `plain`.
            spread: A random number from 0 to 1 for the jitter; 0.5 for none.
        """
        jitter = 1.0 + self.policy.jitter * (2.0 * spread - 1.0)
        crowd = self.round(pending)
        if estimate is None or self.policy.steps:
            return Pause(plain * jitter, max(plain, crowd) * jitter)
        # A life of attention w seen at steps s costs w / s looks, and its mean lag is s w / 2.
        lag = _LAG * self.policy.longest
        step = min(2.0 * lag / estimate.whole, estimate.whole / _LEAST_LOOKS)
        # With everybody seen once a round, a life of m seconds has m / round looks.
        fair = estimate.whole * crowd / estimate.mean
        soonest = self._learned(elapsed, estimate, step, pending)
        due = self._learned(elapsed, estimate, fair, pending) if fair > step else soonest
        return Pause(soonest * jitter, due * jitter)

    def round(self, pending: int) -> float:
        """Return the seconds that one look at everybody takes."""
        return 0.0 if self.rate is None else pending / self.rate

    def bound(self, pending: int) -> float:
        """Return the seconds for which a task may go unseen.

        Three rounds when the quota is scarce, that is when a round takes longer than the
        policy's longest pause; with fewer tasks up to ten of those pauses.
        """
        longest, crowd = self.policy.longest, self.round(pending)
        idle = max(0.0, 1.0 - crowd / longest)
        return _ROUNDS * max(crowd, longest) + (_PATIENCE - _ROUNDS) * longest * idle

    def _learned(self, elapsed: float, estimate: Estimate, step: float, pending: int) -> float:
        pause = estimate.elapsed(estimate.attention(elapsed) + step) - elapsed
        return min(max(pause, self.policy.first), self.bound(pending))


K = TypeVar("K", bound=Hashable)


@attrs.define(eq=False)
class _Planned(Generic[K]):
    key: K
    since: float
    soonest: float
    due: float


class Agenda(Generic[K]):
    """Whose turn it is: the earliest due of those worth a look, but nobody unseen too long.

    Time is handed in, on any clock that does not go back.  Each call takes O(log n) on average.

    Args:
        bound: Gives the seconds for which a task may go unseen when so many are pending.
    """

    def __init__(self, bound: Callable[[int], float]) -> None:
        self._bound = bound
        self._planned: dict[K, _Planned[K]] = {}
        self._tickets = itertools.count()
        # What was planned anew, taken or dropped stays in these until its turn, then is skipped.
        self._early: list[tuple[float, int, _Planned[K]]] = []
        self._worth: list[tuple[float, int, _Planned[K]]] = []
        self._unseen: deque[_Planned[K]] = deque()

    def __len__(self) -> int:
        return len(self._planned)

    def plan(self, key: K, pause: Pause, *, now: float) -> None:
        """Put a task on the agenda, or anew, just after it was submitted or looked at."""
        planned = _Planned(key, now, now + pause.soonest, now + pause.due)
        self._planned[key] = planned
        self._unseen.append(planned)
        heapq.heappush(self._early, (planned.soonest, next(self._tickets), planned))

    def drop(self, key: K) -> None:
        """Take a task off the agenda, if it is on it."""
        self._planned.pop(key, None)

    def next(self, pending: int) -> float | None:
        """Return the moment of the next look, which may have passed; None when there is none."""
        self._forget()
        if not self._planned:
            return None
        if self._worth:
            return self._worth[0][2].soonest
        return min(self._early[0][0], self._unseen[0].since + _MARGIN * self._bound(pending))

    def take(self, now: float, pending: int) -> K | None:
        """Take off the agenda whom to look at now; None when nobody is worth it yet."""
        while self._early and self._early[0][0] <= now:
            _, ticket, planned = heapq.heappop(self._early)
            heapq.heappush(self._worth, (planned.due, ticket, planned))
        self._forget()
        if not self._planned:
            return None
        chosen = self._unseen[0]
        if now - chosen.since < _MARGIN * self._bound(pending):
            if not self._worth:
                return None
            chosen = self._worth[0][2]
        del self._planned[chosen.key]
        return chosen.key

    def _forget(self) -> None:
        for heap in (self._early, self._worth):
            while heap and self._is_stale(heap[0][2]):
                heapq.heappop(heap)
        while self._unseen and self._is_stale(self._unseen[0]):
            self._unseen.popleft()

    def _is_stale(self, planned: _Planned[K]) -> bool:
        return self._planned.get(planned.key) is not planned
