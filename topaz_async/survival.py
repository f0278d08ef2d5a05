"""How long tasks take: survival curves learned from the durations of those that have ended.

A curve is kept as the *attention* that a task has earned by a given age: the integral of the
square root of its hazard, the chance per second of ending now.  Looks that come at equal steps
of attention are the best there are: the interval is then step / sqrt(hazard), which is
sqrt(2 c / hazard) for a request that may cost c = step² / 2 seconds of lag.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import OrderedDict, deque
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import accumulate, pairwise
from operator import mul

import attrs

__all__ = ["Durations", "Estimate", "Traits"]

#: The curve's grid: logarithms of duration / typical duration, up to a factor of 33.
_LOW, _STEP, _CELLS = -6.0, 0.05, 190
_YOUNGEST = math.exp(_LOW)
#: The safety mix: a log-logistic of this scale around the typical duration (nine tenths of it
#: within a factor of 3.2), counted as so many observations, and this share at least.
_MIX_SCALE, _MIX_COUNT, _MIX_SHARE = 0.4, 3.0, 0.08
#: Kernel width: this share of the spread over the fifth root of the count, within bounds.
_KERNEL, _NARROW, _WIDE = 0.75, 0.05, 0.6
#: Observations lose half their weight in so many later ones.
_HALF_LIFE = 100.0
#: History is cut where the newest so many durations differ from the older ones by so many
#: standard errors: that a service is twice as fast or slow is noticed within 30 jobs.
_NEWEST, _ERRORS = (12, 20, 28), 3.5
#: Fewer tasks are no measure for others.
_FELLOWS = 5
#: Seconds from an end to the look that sees it, at most, in typical durations.
_MARGIN = 0.1
#: Logarithms further than this from the median count as this far: a factor of 20.
_OUTLIER = 3.0
#: The least and most seconds or bytes that are told apart.
_LEAST, _MOST = 1e-3, 1e12
#: How little a slope is believed: variance of the logarithms times observations.
_RIDGE = 0.3

#: Model, factor, working, and the name of the measure.
_Kind = tuple[str | None, str | None, bool, str]


@attrs.frozen(kw_only=True)
class Traits:
    """What is known of a task that may tell how long it takes."""

    model: str | None = None
    #: The upscale factor as on the wire.
    factor: str | None = None
    #: Length of the clip in seconds, and its size in bytes, where known.
    seconds: float | None = None
    size: float | None = None
    #: Whether the duration counts from the end of the queue, not from the submit.
    working: bool = False

    def kinds(self) -> Iterator[tuple[_Kind, float]]:
        """Yield the kinds of task that it is one of, each with the logarithm of its measure."""
        for name, measure in (("", 1.0), ("seconds", self.seconds), ("size", self.size)):
            if measure is not None and math.isfinite(measure) and measure > 0.0:
                yield (self.model, self.factor, self.working, name), _log(measure)


@attrs.frozen
class _Curve:
    """The law of durations that are divided by the typical one."""

    #: Attention at each edge of the grid.
    attention: Sequence[float]
    #: Attention that a task earns in its life, and its life, both on average.
    whole: float
    mean: float


@attrs.frozen(repr=False)
class Estimate:
    """What is known of one task's duration beforehand."""

    #: About the median, in seconds.
    typical: float
    _curve: _Curve

    @property
    def mean(self) -> float:
        """Expected duration, in seconds."""
        return self.typical * self._curve.mean

    @property
    def whole(self) -> float:
        """Expected attention of a whole life; looks at each `step` of it are whole / step."""
        return math.sqrt(self.typical) * self._curve.whole

    def attention(self, elapsed: float) -> float:
        """Return the attention earned by a task that has lived so many seconds."""
        age = elapsed / self.typical
        if age <= _YOUNGEST:
            return 0.0
        place = (math.log(age) - _LOW) / _STEP
        cell = min(int(place), _CELLS - 1)
        low, high = self._curve.attention[cell : cell + 2]
        part = min(place - cell, 1.0)
        return math.sqrt(self.typical) * (low + part * (high - low))

    def elapsed(self, attention: float) -> float:
        """Return the age, in seconds, at which a task has earned so much attention.

        Infinite far beyond what any task has lived.
        """
        table, sought = self._curve.attention, attention / math.sqrt(self.typical)
        if sought >= table[-1]:
            return math.inf
        cell = max(bisect_right(table, sought) - 1, 0)
        part = (sought - table[cell]) / (table[cell + 1] - table[cell])
        return self.typical * math.exp(_LOW + _STEP * (cell + part))


class Durations:
    """Learns how long tasks take, per model and factor, from those that have ended.

    Memory is bounded, and each call takes constant time; for every fourth end at most a curve
    is drawn again, which takes about a millisecond.

    Args:
        window: Durations kept of each kind.
        kinds: Kinds kept; a model and factor is up to three, by what is known of its clips.
    """

    def __init__(self, *, window: int = 200, kinds: int = 192) -> None:
        self._window = window
        self._kinds = kinds
        self._histories: OrderedDict[_Kind, _History] = OrderedDict()

    def add(self, duration: float, traits: Traits, *, born: float | None = None) -> None:
        """Take note that a task has ended after so many seconds.

        Durations that are not finite or not above 0 are ignored.

        Args:
            duration: Seconds.
            traits: What may tell durations apart.
            born: When it was made, on any clock that does not go back; None for one that began
                when the last had ended.
        """
        if not (math.isfinite(duration) and duration > 0.0):
            return
        for kind, measure in traits.kinds():
            history = self._histories.setdefault(kind, _History(self._window))
            self._histories.move_to_end(kind)
            history.add(measure, duration, born)
        while len(self._histories) > self._kinds:
            self._histories.popitem(last=False)

    def estimate(self, traits: Traits) -> Estimate | None:
        """Return what is known of such a task, or None when none like it has ended.

        Of what is known by clip seconds, by bytes and by neither, the best predictor is asked.
        """
        asked = ((self._histories.get(kind), measure) for kind, measure in traits.kinds())
        known = [(history, measure) for history, measure in asked if history is not None]
        best = min(known, key=lambda pair: pair[0].doubt(), default=None)
        return None if best is None else best[0].estimate(best[1])


def _log(value: float) -> float:
    return math.log(min(max(value, _LEAST), _MOST))


class _History:
    """The newest durations of one kind, and the curve that was drawn from them."""

    def __init__(self, window: int) -> None:
        #: Measure, logarithm of the duration, birth.
        self._known: deque[tuple[float, float, float]] = deque(maxlen=window)
        self._news = 0
        self._slope = self._level = self._doubt = 0.0
        self._reach = (0.0, 0.0)
        self._curve = _Curve((), 0.0, 0.0)

    def add(self, measure: float, duration: float, born: float | None) -> None:
        if born is None:
            _, last, before = self._known[-1] if self._known else (0.0, 0.0, 0.0)
            born = before + math.exp(last)
        self._known.append((measure, _log(duration), born))
        self._news += 1

    def doubt(self) -> float:
        """Return the variance that is left in the logarithms, more with few observations."""
        if self._news > min(len(self._known) // 20, 3):
            self._news = 0
            self._fit()
        return self._doubt

    def estimate(self, measure: float) -> Estimate:
        low, high = self._reach  # a line says little far outside of what it was drawn from
        measure = min(max(measure, low - 1.0), high + 1.0)
        return Estimate(math.exp(self._level + self._slope * measure), self._curve)

    def _fit(self) -> None:
        xs = [x for x, _, _ in self._known]
        middle = sorted(y for _, y, _ in self._known)[len(xs) // 2]
        ys = [min(max(y, middle - _OUTLIER), middle + _OUTLIER) for _, y, _ in self._known]
        weights, effective = _weights(len(ys))
        x_mean, y_mean = _dot(weights, xs), _dot(weights, ys)
        pulls = [w * (x - x_mean) for w, x in zip(weights, xs, strict=True)]
        slope = _dot(pulls, ys) / (_dot(pulls, xs) + _RIDGE / effective)
        self._slope = min(max(slope, 0.0), 2.0)
        self._level = y_mean - self._slope * x_mean
        self._reach = (min(xs), max(xs))
        rests = [y - self._level - self._slope * x for x, y in zip(xs, ys, strict=True)]
        past = [
            (born, math.exp(y), rest)
            for (_, _, born), y, rest in zip(self._known, ys, rests, strict=True)
        ]
        since = _since_change(past, _MARGIN * math.exp(middle))
        if since is not None:  # the others tell of other times
            self._known = deque(
                (each for each in self._known if each[2] >= since), self._known.maxlen
            )
            self._fit()
            return
        variance = _dot(weights, [rest * rest for rest in rests])
        self._doubt = (effective * variance + _MIX_COUNT) / (effective + _MIX_COUNT)
        width = min(max(_KERNEL * math.sqrt(variance) * effective**-0.2, _NARROW), _WIDE)
        share = max(_MIX_SHARE, _MIX_COUNT / (effective + _MIX_COUNT))
        self._curve = _draw(rests, weights, width, share)


def _dot(one: Sequence[float], other: Sequence[float]) -> float:
    total: float = sum(map(mul, one, other))
    return total


@lru_cache(maxsize=256)
def _weights(count: int) -> tuple[tuple[float, ...], float]:
    """Return what each of so many durations weighs, oldest first, and how many they stand for."""
    weights = [0.5 ** (age / _HALF_LIFE) for age in reversed(range(count))]
    total = sum(weights)
    weights = [weight / total for weight in weights]
    return tuple(weights), 1.0 / _dot(weights, weights)


#: One duration that is known: when its task was made, the seconds, and the logarithm of these
#: over what was to be expected.
_Past = tuple[float, float, float]


def _since_change(past: Sequence[_Past], margin: float) -> float | None:
    """Return the birth of the first task of other times than those before; None for no change.

    Those that were made last are compared with the others.  Of tasks made together the short ones
    end first, which is no change: each is compared with those of the others that would have
    ended, and been seen `margin` seconds later, in the time it has had.
    """
    by_birth = sorted(past)
    now = max(born + took for born, took, _ in past)
    for newest in _NEWEST:
        others, young = by_birth[:-newest], by_birth[-newest:]
        if len(others) < _FELLOWS:
            break
        if young[0][0] <= others[-1][0]:
            continue  # made in the same moment
        fellows = sorted((took, rest) for _, took, rest in others)
        sums = list(accumulate((rest for _, rest in fellows), initial=0.0))
        squares = list(accumulate((rest * rest for _, rest in fellows), initial=0.0))
        gap = variance = 0.0
        count = 0
        for born, took, rest in young:
            within = now - born - margin
            alike = bisect_right(fellows, (within, math.inf))
            if took <= within and alike >= _FELLOWS:
                mean = sums[alike] / alike
                gap += rest - mean
                variance += max(squares[alike] / alike - mean * mean, 0.0) + 0.01
                count += 1
        error = math.sqrt(variance * (1.0 + count / len(others)))
        if count >= newest // 2 and abs(gap) > _ERRORS * error:
            return young[0][0]
    return None


#: The safety law at the edges of the cells, its share of each cell, and the cells' middles.
_EDGES = [1.0 / (1.0 + math.exp(-(_LOW + _STEP * i) / _MIX_SCALE)) for i in range(_CELLS + 1)]
_SAFETY = [after - before for before, after in pairwise(_EDGES)]
_AGES = [math.exp(_LOW + _STEP * (cell + 0.5)) for cell in range(_CELLS)]


def _draw(rests: Sequence[float], weights: Sequence[float], width: float, share: float) -> _Curve:
    """Smooth the observations, mix in the safety law, and integrate."""
    ends = [share * safety for safety in _SAFETY]
    radius = int(3.0 * width / _STEP)
    kernel = [math.exp(-0.5 * (i * _STEP / width) ** 2) for i in range(-radius, radius + 1)]
    part = (1.0 - share) / sum(kernel)
    masses: dict[int, float] = {}
    for rest, weight in zip(rests, weights, strict=True):
        cell = min(max(round((rest - _LOW) / _STEP - 0.5), radius), _CELLS - 1 - radius)
        masses[cell] = masses.get(cell, 0.0) + part * weight
    for middle, mass in masses.items():
        for cell, value in enumerate(kernel, middle - radius):
            ends[cell] += mass * value
    alive = list(accumulate(reversed(ends), initial=share * (1.0 - _EDGES[-1])))[::-1]
    living = [(before + after) / 2.0 for before, after in pairwise(alive)]
    steps = [math.sqrt(e * age * _STEP / s) for e, age, s in zip(ends, _AGES, living, strict=True)]
    attention = tuple(accumulate(steps, initial=0.0))
    return _Curve(attention, whole=_dot(living, steps), mean=_STEP * _dot(living, _AGES))
