"""When to look at a waiting task: a pure function of its age, what is known, and the crowd."""

from __future__ import annotations

import heapq
import itertools
import math
from collections import deque
from collections.abc import Callable, Hashable, Iterator
from typing import Generic, TypeVar

import attrs
import backoff

from .settings import PollPolicy
from .survival import Estimate

__all__ = ["AT_ONCE", "Age", "Agenda", "Pause", "Schedule", "cadence", "plain_pauses"]

#: Longest pauses of the policy that a learned schedule lags behind on average: a little more
#: than the growing pauses do, for a third fewer looks.
_LAG = 0.55
#: Looks that a task shall have on average at least, however short it is.
_LEAST_LOOKS = 4.0
#: Rounds (pending / rate) after which a task goes first.  The others that waited as long are
#: served within one round more, so nobody goes unseen for longer than three.
_ROUNDS = 2.0
#: The same with few tasks, in longest pauses of the policy.
_PATIENCE = 10.0
#: A cadence that is not steady after so many pauses stays at the last one.
_MOST_PAUSES = 10_000


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


def plain_pauses(policy: PollPolicy) -> tuple[float, ...]:
    """Return the pauses of `cadence`, of which the last one stands for all that follow."""
    steady_from = max((until for until, _ in policy.steps if math.isfinite(until)), default=0.0)
    pauses: list[float] = []
    elapsed = -policy.first
    for pause in itertools.islice(cadence(policy), _MOST_PAUSES):
        pauses.append(pause)
        if elapsed >= steady_from and pauses[-2:-1] == [pause]:
            break
        elapsed += pause
    return tuple(pauses)


@attrs.define(weakref_slot=False)
class Age:
    """Since when a task lives, and since when it is worked on, as far as looks have told.

    A task that was seen in the queue may have left it right after that look; one that is worked
    on left it about midway between two looks.
    """

    #: Moments on any clock that does not go back.
    born: float
    _queued: float | None = None
    #: When the work began; None while that is not known.
    works: float | None = None

    def saw(self, now: float, *, queued: bool) -> None:
        """Take note of what a look has told about a task that has not ended."""
        if queued:
            self._queued, self.works = now, None
        elif self._queued is not None and self.works is None:
            self.works = (self._queued + now) / 2.0

    def elapsed(self, now: float, *, working: bool) -> float:
        """Return the seconds since the submit, or those of work that are possible by now."""
        start = self.works if self.works is not None else self._queued
        return now - (start if working and start is not None else self.born)

    @property
    def is_told(self) -> bool:
        """Whether the states tell queue from work, so that durations of work apply."""
        return self._queued is not None


@attrs.frozen
class Pause:
    """Seconds from one look at a task to the next."""

    #: Not before: an earlier look is not worth its request even when the quota is idle.
    soonest: float
    #: When the look is due by everybody's fair share; the order in which looks go.
    due: float
    #: Whether somebody else will ring, so that nobody need look sooner, however long it takes.
    rests: bool = False


#: The pause before a look that goes before all others, for somebody rang the bell.
AT_ONCE = Pause(0.0, -math.inf)


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
        soonest, due = (
            self._learned(elapsed, plain, pending, estimate, each) for each in (step, fair)
        )
        return Pause(soonest * jitter, max(soonest, due) * jitter)

    def rest(self, pause: Pause, seconds: float, *, spread: float = 0.5) -> Pause:
        """Return a pause of at least so many seconds, for a task whose callback will come."""
        seconds *= 1.0 + self.policy.jitter * (2.0 * spread - 1.0)
        return Pause(max(pause.soonest, seconds), max(pause.due, seconds), rests=True)

    def round(self, pending: int) -> float:
        """Return the seconds that one look at everybody takes."""
        return 0.0 if self.rate is None else pending / self.rate

    def patience(self, pending: int) -> float:
        """Return the seconds unseen after which a task goes before those that are due.

        Two rounds when the quota is scarce, that is when a round takes longer than the policy's
        longest pause; with fewer tasks up to ten of those pauses.
        """
        longest, crowd = self.policy.longest, self.round(pending)
        idle = max(0.0, 1.0 - crowd / longest)
        return _ROUNDS * max(crowd, longest) + (_PATIENCE - _ROUNDS) * longest * idle

    def _learned(
        self, elapsed: float, plain: float, pending: int, estimate: Estimate, step: float
    ) -> float:
        pause = estimate.elapsed(estimate.attention(elapsed) + step) - elapsed
        if math.isinf(pause):
            return plain  # nothing is known of so old a task
        shortest = min(self.policy.first, self.policy.longest)
        return min(max(pause, shortest), self.patience(pending))


K = TypeVar("K", bound=Hashable)


@attrs.define(eq=False, weakref_slot=False)
class _Planned(Generic[K]):
    key: K
    since: float
    soonest: float
    due: float
    rests: bool


class Agenda(Generic[K]):
    """Whose turn it is: the earliest due of those worth a look, but nobody unseen too long.

    Time is handed in, on any clock that does not go back.  Each call takes O(log n) on average.

    Args:
        patience: Gives the seconds unseen after which a task goes before those that are due,
            when so many are pending.
    """

    def __init__(self, patience: Callable[[int], float]) -> None:
        self._patience = patience
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
        planned = _Planned(key, now, now + pause.soonest, now + pause.due, pause.rests)
        self._planned[key] = planned
        if not planned.rests:
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
        turn = self._early[0][0]
        if not self._unseen:
            return turn
        return min(turn, self._unseen[0].since + self._patience(pending))

    def take(self, now: float, pending: int) -> K | None:
        """Take off the agenda whom to look at now; None when nobody is worth it yet."""
        while self._early and self._early[0][0] <= now:
            _, ticket, planned = heapq.heappop(self._early)
            heapq.heappush(self._worth, (planned.due, ticket, planned))
            if planned.rests:  # from now on it is unseen like everybody else
                planned.since, planned.rests = now, False
                self._unseen.append(planned)
        self._forget()
        if not self._planned:
            return None
        chosen = self._unseen[0] if self._unseen else None
        if self._worth and self._worth[0][0] == AT_ONCE.due:
            chosen = self._worth[0][2]
        elif chosen is None or now - chosen.since < self._patience(pending):
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
