"""Looks are placed where news is likely, for few requests, and nobody is forgotten."""

from __future__ import annotations

import itertools
import math
import random
import statistics
from collections.abc import Callable

import pytest
from hypothesis import given, settings, strategies as st

from topaz_async.schedule import AT_ONCE, Age, Agenda, Pause, Schedule, cadence
from topaz_async.settings import PollPolicy
from topaz_async.survival import Durations, Traits

from .benchmarks.bench_schedule import (
    ANY,
    Draw,
    Score,
    alone,
    bimodal,
    by_clip,
    drifting,
    everybody_for_himself,
    learned,
    lognormal,
    round_robin,
    through_a_queue,
    times,
    together,
)

SCHEDULE = Schedule(policy=PollPolicy(), rate=8.0)


def index_after(draw: Draw, count: int, true: Draw | None = None, more: int = 0) -> float:
    """Return the mean index over four training sets, for which a thousand jobs each are few."""
    scores: list[Score] = []
    for seed in range(4):
        rng = random.Random(seed)
        known = learned(draw, count, rng)
        for _ in range(more):
            known.estimate(ANY)
            learned(true or draw, 1, rng, known)
        scores.append(alone(true or draw, 500, rng, known))
    return statistics.mean(score.index for score in scores)


# -- what looks cost --------------------------------------------------------------------------


def test_without_history_the_growing_pauses_score_below_one_and_a_quarter() -> None:
    """The default costs little more than a fixed interval, the documented cadence twice that."""
    plain = alone(lognormal(), 2000, random.Random(1))
    documented = alone(lognormal(), 2000, random.Random(1), policy=PollPolicy.documented())
    assert plain.index <= 1.25
    assert 2.2 <= documented.index <= 2.7


@pytest.mark.parametrize(
    ("draw", "count", "reach"),
    [
        (lognormal(), 20, 0.95),
        (lognormal(), 100, 0.90),
        (bimodal, 20, 0.85),
        (bimodal, 100, 0.78),
        (by_clip, 50, 0.47),
    ],
)
def test_known_durations_place_the_looks(draw: Draw, count: int, reach: float) -> None:
    """Twenty ends teach more than half of what there is to know, a hundred nearly all."""
    assert index_after(draw, count) <= reach


@pytest.mark.parametrize("factor", [0.5, 2.0])
def test_wrong_history_costs_little_and_is_soon_forgotten(factor: float) -> None:
    """Durations that suddenly halve or double are looked for no worse than by a fixed interval."""
    true = times(factor, lognormal())
    assert index_after(lognormal(), 100, true) <= 1.1
    assert index_after(lognormal(), 100, true, more=30) <= 0.95


def test_slow_drift_is_followed() -> None:
    """A median that swings between half and twice within 200 jobs keeps the index below 1."""
    assert drifting(1000, random.Random(1)).index <= 1.0


def test_the_state_tells_queue_from_work() -> None:
    """Looks that know when the work began are at most two thirds of those that do not."""
    told = through_a_queue(500, random.Random(1), told=True)
    blind = through_a_queue(500, random.Random(1), told=False)
    assert told.index <= 0.67 * blind.index


@pytest.mark.parametrize("garbage", [1e-9, 0.01, 1e9, 1e300])
def test_garbage_history_costs_at_most_a_third_more_than_a_fixed_interval(garbage: float) -> None:
    """One duration that is absurdly short or long leaves pauses that are usable."""
    known = Durations()
    known.add(garbage, ANY)
    assert alone(lognormal(), 500, random.Random(1), known).index <= 1.4


def test_one_outlier_among_many_changes_little() -> None:
    """A task that took a year does not spoil what twenty others teach."""
    known = learned(lognormal(), 20, random.Random(1))
    known.add(3e7, ANY)
    assert alone(lognormal(), 1000, random.Random(1), known).index <= 1.0


# -- many jobs, one quota ---------------------------------------------------------------------


def test_a_crowd_is_served_better_than_in_turn() -> None:
    """600 jobs at 2/s under 8 looks/s: sooner than round robin, and nobody unseen too long."""
    draw = lognormal()
    runs = []
    for seed in range(4):
        known = learned(draw, 100, random.Random(seed + 500))
        runs.append(
            (
                together(draw, 600, random.Random(seed), rate=8.0, submits=2.0, known=known),
                round_robin(draw, 600, random.Random(seed), rate=8.0, submits=2.0),
                everybody_for_himself(draw, 600, random.Random(seed), rate=8.0, submits=2.0),
            )
        )
    ours, robin, own = (statistics.mean(run[n].score.lag for run in runs) for n in range(3))
    assert ours <= 0.88 * robin
    assert ours <= 0.4 * own
    assert max(run[0].peak for run in runs) <= 8
    assert max(run[0].unseen for run in runs) <= 3.0


def test_a_crowd_without_history_is_served_in_turn() -> None:
    """Where nothing is known everybody gets the same share of the quota."""
    draw = lognormal()
    ours = together(draw, 600, random.Random(1), rate=8.0, submits=2.0, known=None)
    robin = round_robin(draw, 600, random.Random(1), rate=8.0, submits=2.0)
    assert ours.score.lag <= 1.1 * robin.score.lag
    assert ours.score.looks < robin.score.looks


# -- pauses -----------------------------------------------------------------------------------


def test_without_history_the_pause_is_the_plain_one_with_jitter() -> None:
    """The random number spreads it by a tenth to both sides, and the quota stretches it."""
    pause = [SCHEDULE.pause(0.0, plain=4.0, spread=spread) for spread in (0.0, 0.5, 1.0)]
    assert [(p.soonest, p.due) for p in pause] == [
        pytest.approx((value, value)) for value in (3.6, 4.0, 4.4)
    ]
    assert SCHEDULE.pause(0.0, plain=4.0, pending=800) == Pause(4.0, 100.0)


def test_a_named_cadence_is_kept_whatever_is_known() -> None:
    """Who asks for the documented cadence gets it."""
    schedule = Schedule(policy=PollPolicy.documented(), rate=8.0)
    known = learned(lognormal(), 100, random.Random(1))
    assert schedule.pause(0.0, plain=2.5, estimate=known.estimate(ANY)) == Pause(2.5, 2.5)


def test_patience_is_two_rounds_once_the_quota_is_scarce() -> None:
    """Alone a task may rest for a minute; in a crowd for two looks at everybody."""
    unlimited = Schedule(policy=PollPolicy())
    assert unlimited.patience(10_000) == 60.0
    assert [SCHEDULE.patience(pending) for pending in (0, 24, 48, 480)] == [60.0, 36.0, 12.0, 120.0]


def test_looks_crowd_about_the_expected_end() -> None:
    """With durations of about 100 s known, the first pause is long and those at the end short."""
    known = Durations()
    for duration in range(90, 111):
        known.add(float(duration), ANY)
    estimate = known.estimate(ANY)
    pauses = [SCHEDULE.pause(t, plain=6.0, estimate=estimate).soonest for t in (0.0, 95.0, 200.0)]
    assert pauses[0] > 45.0
    assert pauses[1] < 5.0
    assert pauses[2] > pauses[1]


any_number = st.one_of(st.floats(), st.floats(1e-3, 1e4), st.just(0.0), st.integers(-5, 10**6))
histories = st.lists(st.tuples(any_number, st.none() | any_number, st.none() | any_number))


@given(
    history=histories,
    elapsed=st.floats(-10.0, 1e9),
    plain=st.floats(0.01, 100.0),
    pending=st.integers(1, 100_000),
    rate=st.none() | st.floats(0.1, 1000.0),
    spread=st.floats(0.0, 1.0),
    asked=st.tuples(st.none() | any_number, st.none() | any_number),
)
@settings(max_examples=150, deadline=None)
def test_whatever_was_learned_pauses_are_finite_and_bounded(
    history: list[tuple[float, float | None, float | None]],
    elapsed: float,
    plain: float,
    pending: int,
    rate: float | None,
    spread: float,
    asked: tuple[float | None, float | None],
) -> None:
    """No history, however wrong, makes a pause that is not between the shortest and the longest."""
    known = Durations()
    for duration, seconds, size in history:
        known.add(duration, Traits(seconds=seconds, size=size))
    schedule = Schedule(policy=PollPolicy(), rate=rate)
    estimate = known.estimate(Traits(seconds=asked[0], size=asked[1]))
    pause = schedule.pause(elapsed, plain=plain, pending=pending, estimate=estimate, spread=spread)
    low = 0.9 * min(plain, 2.0) - 1e-9
    high = 1.1 * max(plain, schedule.patience(pending)) + 1e-9
    assert low <= pause.soonest <= pause.due + 1e-9
    assert pause.due <= high


# -- what is learned --------------------------------------------------------------------------


@pytest.mark.parametrize("duration", [0.0, -1.0, math.nan, math.inf, -math.inf])
def test_nonsense_is_not_learned(duration: float) -> None:
    """Durations that no task can have are left out."""
    known = Durations()
    known.add(duration, ANY)
    assert known.estimate(ANY) is None


def test_each_model_and_factor_has_its_own_history() -> None:
    """What images take says nothing about videos."""
    known = Durations()
    known.add(10.0, Traits(model="image", factor="2"))
    estimate = known.estimate(Traits(model="image", factor="2"))
    assert estimate is not None
    assert estimate.typical == pytest.approx(10.0)
    assert known.estimate(Traits(model="image", factor="4")) is None
    assert known.estimate(Traits(model="image", factor="2", working=True)) is None


def test_clip_seconds_scale_the_estimate_where_they_explain_it() -> None:
    """A clip of twice the length is expected to take twice as long, if it always did."""
    known = learned(by_clip, 100, random.Random(1))
    one, two, nobody = (known.estimate(Traits(seconds=seconds)) for seconds in (20.0, 40.0, None))
    assert one is not None
    assert two is not None
    assert nobody is not None
    assert two.typical / one.typical == pytest.approx(2.0, rel=0.15)
    assert nobody.typical == pytest.approx(90.0, rel=0.25)


def test_clip_seconds_that_explain_nothing_change_nothing() -> None:
    """Where length and duration have nothing to do with each other the estimate is one."""
    rng = random.Random(1)
    known = Durations()
    for _ in range(200):
        known.add(lognormal()(rng)[0], Traits(seconds=rng.uniform(5.0, 60.0)))
    short, long = (known.estimate(Traits(seconds=seconds)) for seconds in (10.0, 40.0))
    assert short is not None
    assert long is not None
    assert long.typical / short.typical == pytest.approx(1.0, abs=0.3)


@given(st.lists(st.floats(0.1, 1e5), min_size=1), st.floats(0.01, 1e5), st.floats(0.01, 1e5))
@settings(max_examples=100, deadline=None)
def test_attention_grows_with_age_and_tells_the_age(
    durations: list[float], one: float, other: float
) -> None:
    """The older a task, the more attention it has earned, and back again."""
    known = Durations()
    for duration in durations:
        known.add(duration, ANY)
    estimate = known.estimate(ANY)
    assert estimate is not None
    young, old = sorted((one, other))
    assert estimate.attention(young) <= estimate.attention(old)
    low, high = estimate.typical * math.exp(-5.0), estimate.typical * math.exp(3.4)
    if low < young < high:
        assert estimate.elapsed(estimate.attention(young)) == pytest.approx(young, rel=1e-3)


def test_memory_is_bounded() -> None:
    """Only the newest durations and the kinds used last are kept."""
    known = Durations(window=5, kinds=3)
    for number in range(50):
        known.add(1000.0, Traits(model=f"m{number % 4}"))
    for _ in range(5):
        known.add(10.0, Traits(model="m1"))
    estimate = known.estimate(Traits(model="m1"))
    assert estimate is not None
    assert estimate.typical == pytest.approx(10.0)
    assert [known.estimate(Traits(model=f"m{n}")) is None for n in range(4)].count(True) == 1


# -- queue and work ---------------------------------------------------------------------------


def test_a_queued_task_may_have_begun_to_work_right_after_the_look() -> None:
    """Until it is seen at work its work is as old as the last look; then the middle counts."""
    age = Age(100.0)
    assert not age.is_told
    assert age.elapsed(110.0, working=True) == 10.0
    age.saw(120.0, queued=True)
    assert age.is_told
    assert (age.elapsed(125.0, working=True), age.elapsed(125.0, working=False)) == (5.0, 25.0)
    age.saw(130.0, queued=False)
    age.saw(140.0, queued=False)
    assert (age.works, age.elapsed(145.0, working=True)) == (125.0, 20.0)
    age.saw(150.0, queued=True)
    assert (age.works, age.elapsed(151.0, working=True)) == (None, 1.0)


def test_a_task_first_seen_at_work_has_one_clock() -> None:
    """Nobody knows when its work began, so durations from the submit apply."""
    age = Age(0.0)
    age.saw(30.0, queued=False)
    assert (age.is_told, age.works, age.elapsed(40.0, working=False)) == (False, None, 40.0)


# -- the agenda -------------------------------------------------------------------------------


def agenda(patience: Callable[[int], float] = lambda pending: math.inf) -> Agenda[str]:
    return Agenda(patience)


def test_of_those_worth_a_look_the_earliest_due_goes_first() -> None:
    """Nobody is looked at before it is worth the request, whatever is due."""
    turns = agenda()
    turns.plan("late", Pause(1.0, 9.0), now=0.0)
    turns.plan("soon", Pause(2.0, 3.0), now=0.0)
    turns.plan("not yet", Pause(4.0, 4.0), now=0.0)
    assert (len(turns), turns.next(3)) == (3, 1.0)
    assert [turns.take(2.0, 3), turns.take(2.0, 3), turns.take(2.0, 3)] == ["soon", "late", None]
    assert turns.next(1) == 4.0


def test_who_rings_goes_before_all_others() -> None:
    """A bell beats even those who went unseen for too long."""
    turns = agenda(lambda pending: 1.0)
    turns.plan("old", Pause(50.0, 50.0), now=0.0)
    turns.plan("rung", Pause(50.0, 50.0), now=90.0)
    turns.plan("rung", AT_ONCE, now=100.0)
    assert [turns.take(100.0, 2), turns.take(100.0, 2), turns.next(2)] == ["rung", "old", None]


def test_a_dropped_task_is_never_taken() -> None:
    """What ended or was planned anew leaves nothing behind."""
    turns = agenda()
    turns.plan("gone", Pause(1.0, 1.0), now=0.0)
    turns.plan("moved", Pause(1.0, 1.0), now=0.0)
    turns.plan("moved", Pause(8.0, 8.0), now=0.0)
    turns.drop("gone")
    turns.drop("never there")
    assert (turns.take(5.0, 1), turns.next(1), turns.take(8.0, 1)) == (None, 8.0, "moved")
    assert (turns.next(0), turns.take(1e9, 0), len(turns)) == (None, None, 0)


@given(
    pending=st.integers(50, 200),
    pauses=st.lists(st.tuples(st.floats(0.0, 100.0), st.floats(0.0, 1e6)), min_size=1),
)
@settings(max_examples=30, deadline=None)
def test_whatever_is_planned_nobody_goes_unseen_for_three_rounds(
    pending: int, pauses: list[tuple[float, float]]
) -> None:
    """Among any plans at all everybody is looked at within three looks at all of them."""
    turns: Agenda[int] = Agenda(SCHEDULE.patience)
    plans = itertools.cycle([Pause(soonest, soonest + extra) for soonest, extra in pauses])
    seen, now = dict.fromkeys(range(pending), 0.0), 0.0
    for task in seen:
        turns.plan(task, next(plans), now=0.0)
    for slot in range(1, 6 * pending):
        now = slot / 8.0
        task = turns.take(now, pending)
        if task is not None:
            assert now - seen[task] <= 3.0 * SCHEDULE.round(pending)
            seen[task] = now
            turns.plan(task, next(plans), now=now)
    assert now - min(seen.values()) <= 3.0 * SCHEDULE.round(pending)


def test_a_batch_that_ends_in_order_is_no_change() -> None:
    """Of tasks made together the short ones end first: batch after batch, that teaches nothing."""
    rng, known = random.Random(1), Durations()
    for batch in range(3):
        drawn = sorted(lognormal()(rng)[0] for _ in range(60))
        for number, duration in enumerate(drawn):
            known.add(duration, ANY, born=1000.0 * batch + rng.random())
            estimate = known.estimate(ANY)
            if batch and number % 10 == 9:
                assert estimate is not None
                assert 70.0 < estimate.typical < 120.0


def test_a_batch_that_is_slower_is_a_change() -> None:
    """A batch that takes three times as long is believed before it has ended."""
    rng, known = random.Random(1), Durations()
    for factor, began in ((1.0, 0.0), (1.0, 1000.0), (3.0, 2000.0)):
        for duration in sorted(factor * lognormal()(rng)[0] for _ in range(60)):
            known.add(duration, ANY, born=began + rng.random())
    estimate = known.estimate(ANY)
    assert estimate is not None
    assert estimate.typical > 200.0


def test_the_plain_cadence_grows_to_its_cap() -> None:
    """2 s, 3 s, 4.5 s, then 6 s."""
    assert list(itertools.islice(cadence(PollPolicy()), 5)) == [2.0, 3.0, 4.5, 6.0, 6.0]
