"""How long tasks take: survival curves learned from the durations of those that have ended.

A curve is kept as the *attention* a task has earned by a given age: the integral of the square
root of its hazard (the chance per second of ending now, having lived so far), in seconds to the
power of 1/2.  Looks that come at equal steps of attention are the best there are: the interval
is then step / sqrt(hazard), which is sqrt(2 c / hazard) for a request that may cost c = step² / 2
seconds of lag.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import OrderedDict, deque
from collections.abc import Iterator, Sequence
from itertools import accumulate, pairwise

import attrs

__all__ = ["Durations", "Estimate", "Traits"]

#: Model, factor, working, and the name of the measure.
_Kind = tuple[str | None, str | None, bool, str]

#: The curve's grid: logarithms of duration / typical duration.
_LOW, _STEP, _CELLS = -6.0, 0.05, 240
_HIGH = _LOW + _STEP * _CELLS
#: The safety mix: a log-logistic of this scale around the typical duration (nine tenths of it
#: within a factor of 3.2), counted as so many observations and never less than this share.
#: Wrong history then costs a little more than none.
_MIX_SCALE, _MIX_COUNT, _MIX_SHARE = 0.4, 3.0, 0.08
#: Kernel width: this share of the spread over the fifth root of the count, at least one cell.
_KERNEL = 0.75
#: Observations lose half their weight in so many later ones.
_HALF_LIFE = 100.0
#: History is cut where the newest so many durations differ from the older ones by so many
#: standard errors: a service that became twice as fast or slow is noticed within 30 jobs.
_NEWEST, _ERRORS = (8, 16, 28), 3.5
#: Logarithms further than this from the median count as this far: a factor of 20.
_OUTLIER = 3.0
#: Shortest and longest durations and clip measures that are told apart.
_LEAST, _MOST = 1e-3, 1e9
#: How little a slope is believed: variance of the logarithms times observations.
_RIDGE = 0.3


@attrs.frozen
class _Curve:
    """The law of durations that are divided by the typical one."""

    #: Attention at each edge of the grid.
    attention: Sequence[float] = attrs.field(repr=False)
    #: Attention that a task earns in its life, and its life, both on average.
    whole: float
    mean: float


@attrs.frozen
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
        """Expected attention of a whole life; looks at steps of it see this / step looks."""
        return math.sqrt(self.typical) * self._curve.whole

    def attention(self, elapsed: float) -> float:
        """Return the attention earned by a task that has lived so many seconds."""
        table = self._curve.attention
        if elapsed <= 0.0:
            return 0.0
        place = (math.log(elapsed / self.typical) - _LOW) / _STEP
        if place <= 0.0:
            return 0.0
        if place >= _CELLS:  # the mix alone is left, whose hazard is 1 / (scale x elapsed)
            return self._end + 2.0 * math.sqrt(elapsed / _MIX_SCALE) - self._end_of_mix
        cell = int(place)
        low, high = table[cell], table[cell + 1]
        return math.sqrt(self.typical) * (low + (place - cell) * (high - low))

    def elapsed(self, attention: float) -> float:
        """Return the age, in seconds, at which a task has earned so much attention."""
        table = self._curve.attention
        if attention >= self._end:
            root = (attention - self._end + self._end_of_mix) / 2.0
            return _MIX_SCALE * root * root
        scaled = attention / math.sqrt(self.typical)
        cell = min(max(bisect_right(table, scaled) - 1, 0), _CELLS - 1)
        low, high = table[cell], table[cell + 1]
        part = (scaled - low) / (high - low) if high > low else 1.0
        return self.typical * math.exp(_LOW + _STEP * (cell + part))

    @property
    def _end(self) -> float:
        return math.sqrt(self.typical) * self._curve.attention[-1]

    @property
    def _end_of_mix(self) -> float:
        return 2.0 * math.sqrt(self.typical * math.exp(_HIGH) / _MIX_SCALE)


@attrs.frozen(kw_only=True)
class Traits:
    """What is known of a task that may tell how long it takes."""

    model: str | None = None
    #: The upscale factor as on the wire.
    factor: str | None = None
    #: Length of the clip in seconds, and its size in bytes, where known.
    seconds: float | None = None
    size: float | None = None
    #: The duration counts from the end of the queue, not from the submit.
    working: bool = False

    def kinds(self) -> Iterator[tuple[_Kind, float]]:
        """Yield the kinds of task that it is one of, each with the logarithm of its measure."""
        for name, measure in (("", 1.0), ("seconds", self.seconds), ("size", self.size)):
            if measure is not None and math.isfinite(measure) and measure > 0.0:
                yield (self.model, self.factor, self.working, name), _log(measure)


class Durations:
    """Learns how long tasks take, per model and factor, from those that have ended.

    Memory is bounded: the newest `window` durations of the `kinds` kinds used last.  `add` takes
    constant time; `estimate` as well, but for the first after a few additions (one in twenty of
    what is known), which takes about a millisecond to draw the curve anew.

    Args:
        window: Durations kept of each kind.
        kinds: Kinds kept; each model and factor is up to three, by what is known of its clips.
    """

    def __init__(self, *, window: int = 200, kinds: int = 192) -> None:
        self._window = window
        self._kinds = kinds
        self._histories: OrderedDict[_Kind, _History] = OrderedDict()

    def add(self, duration: float, traits: Traits) -> None:
        """Take note that a task has ended after so many seconds.

        Durations that are not finite or not above 0 are ignored.
        """
        if not (math.isfinite(duration) and duration > 0.0):
            return
        for kind, measure in traits.kinds():
            history = self._histories.setdefault(kind, _History(self._window))
            self._histories.move_to_end(kind)
            history.add(measure, _log(duration))
        while len(self._histories) > self._kinds:
            self._histories.popitem(last=False)

    def estimate(self, traits: Traits) -> Estimate | None:
        """Return what is known of such a task, or None when none like it has ended.

        Of the histories by clip seconds, by bytes and by neither, the one that predicts best
        is asked.
        """
        known = [
            (self._histories[kind], measure)
            for kind, measure in traits.kinds()
            if kind in self._histories
        ]
        if not known:
            return None
        for history, _ in known:
            history.refresh()
        best, measure = min(known, key=lambda pair: pair[0].doubt)
        return best.estimate(measure)


def _log(value: float) -> float:
    return math.log(min(max(value, _LEAST), _MOST))


class _History:
    """The newest durations of one kind, and the curve that was drawn from them."""

    def __init__(self, window: int) -> None:
        self._known: deque[tuple[float, float]] = deque(maxlen=window)
        self._news = 0
        self._slope = self._level = 0.0
        self._reach = (0.0, 0.0)
        self._curve: _Curve | None = None
        #: Variance of the logarithms that the fit leaves, few observations counting as doubt.
        self.doubt = math.inf

    def add(self, measure: float, duration: float) -> None:
        self._known.append((measure, duration))
        self._news += 1

    def refresh(self) -> None:
        """Draw the curve again if enough has been added."""
        if self._curve is None or self._news * 20 >= len(self._known):
            self._news = 0
            if self._fit():  # the older part tells of other times
                self._fit()

    def estimate(self, measure: float) -> Estimate:
        assert self._curve is not None
        low, high = self._reach  # a line says little far outside of what it was drawn from
        measure = min(max(measure, low - 1.0), high + 1.0)
        return Estimate(math.exp(self._level + self._slope * measure), self._curve)

    def _fit(self) -> bool:
        """Fit a line and a curve around it; True when the history was cut instead."""
        count = len(self._known)
        middle = sorted(y for _, y in self._known)[count // 2]
        xs = [x for x, _ in self._known]
        ys = [min(max(y, middle - _OUTLIER), middle + _OUTLIER) for _, y in self._known]
        weights = [0.5 ** ((count - 1 - age) / _HALF_LIFE) for age in range(count)]
        x_mean, y_mean = _mean(xs, weights), _mean(ys, weights)
        across = sum(
            w * (x - x_mean) * (y - y_mean) for w, x, y in zip(weights, xs, ys, strict=True)
        )
        along = sum(w * (x - x_mean) ** 2 for w, x in zip(weights, xs, strict=True))
        self._slope = min(max(across / (along + _RIDGE), 0.0), 2.0)
        self._level = y_mean - self._slope * x_mean
        self._reach = (min(xs), max(xs))
        rests = [y - self._level - self._slope * x for x, y in zip(xs, ys, strict=True)]
        keep = _newest_of_its_kind(rests)
        if keep < count:
            self._known = deque(list(self._known)[-keep:], self._known.maxlen)
            return True
        total = sum(weights)
        effective = total * total / sum(w * w for w in weights)
        variance = sum(w * r * r for w, r in zip(weights, rests, strict=True)) / total
        self.doubt = (effective * variance + _MIX_COUNT) / (effective + _MIX_COUNT)
        width = _KERNEL * math.sqrt(variance) * effective**-0.2
        share = max(_MIX_SHARE, _MIX_COUNT / (effective + _MIX_COUNT))
        self._curve = _draw(rests, [w / total for w in weights], width, share)
        return False


def _mean(values: Sequence[float], weights: Sequence[float]) -> float:
    return sum(w * v for w, v in zip(weights, values, strict=True)) / sum(weights)


def _newest_of_its_kind(rests: Sequence[float]) -> int:
    """Return how many of the newest belong together: all, unless the level has changed."""
    for newest in _NEWEST:
        old, new = rests[:-newest], rests[-newest:]
        if len(old) >= 5:
            before = sum(old) / len(old)
            variance = sum((r - before) ** 2 for r in old) / len(old) + 0.01
            error = math.sqrt(variance * (1.0 / len(old) + 1.0 / len(new)))
            if abs(sum(new) / len(new) - before) > _ERRORS * error:
                return newest
    return len(rests)


def _draw(rests: Sequence[float], weights: Sequence[float], width: float, share: float) -> _Curve:
    """Smooth the observations, mix in the safety law, and integrate."""
    mass = [0.0] * _CELLS
    for rest, weight in zip(rests, weights, strict=True):
        place = min(max((rest - _LOW) / _STEP - 0.5, 0.0), _CELLS - 1.001)
        cell, part = int(place), place % 1.0
        mass[cell] += weight * (1.0 - part)
        mass[cell + 1] += weight * part
    width = max(width, _STEP)
    radius = int(3.0 * width / _STEP)
    kernel = [math.exp(-0.5 * (i * _STEP / width) ** 2) for i in range(-radius, radius + 1)]
    part = (1.0 - share) / sum(kernel)
    below = [1.0 / (1.0 + math.exp(-(_LOW + _STEP * i) / _MIX_SCALE)) for i in range(_CELLS + 1)]
    ends = [share * (after - before) for before, after in pairwise(below)]
    for cell, amount in enumerate(mass):
        if amount:
            for shift, value in enumerate(kernel, cell - radius):
                if 0 <= shift < _CELLS:
                    ends[shift] += part * amount * value
    tail = share * (1.0 - below[-1])
    alive = list(accumulate(reversed(ends), initial=tail))[::-1]
    steps: list[float] = []
    whole = mean = 0.0
    for cell, ending in enumerate(ends):
        age = math.exp(_LOW + _STEP * (cell + 0.5))
        living = (alive[cell] + alive[cell + 1]) / 2.0
        steps.append(math.sqrt(ending * age * _STEP / living))
        whole += living * steps[-1]
        mean += living * age * _STEP
    return _Curve(tuple(accumulate(steps, initial=0.0)), whole, mean)
