"""What the polling schedule is worth, simulated in virtual time against fixed and naive loops.

Run it as a script: `python tests/benchmarks/bench_schedule.py [--seed 1] [--jobs 5000]`.
It touches no clock and no socket; the same seed prints the same table.

The figure of merit is the index, 2 x mean lag x requests per job / mean duration: a fixed
interval scores 1.0, less is better.  The service is modelled without latency, and each task's
duration is drawn beforehand.
"""

from __future__ import annotations

import argparse
import heapq
import math
import random
import statistics
from collections.abc import Callable, Iterator, Sequence

import attrs

from topaz_async.schedule import Age, Agenda, Schedule, cadence
from topaz_async.settings import PollPolicy
from topaz_async.survival import Durations, Traits

Draw = Callable[[random.Random], tuple[float, Traits]]

ANY = Traits()
SETS = 16


@attrs.frozen
class Score:
    """What one simulation measured."""

    lags: Sequence[float] = attrs.field(repr=False)
    looks: float
    mean: float

    @property
    def lag(self) -> float:
        return sum(self.lags) / len(self.lags)

    def quantile(self, share: float) -> float:
        return sorted(self.lags)[int(share * (len(self.lags) - 1))]

    @property
    def index(self) -> float:
        return 2.0 * self.lag * self.looks / self.mean


# -- durations --------------------------------------------------------------------------------


def lognormal(median: float = 90.0, sigma: float = 0.6) -> Draw:
    return lambda rng: (median * math.exp(rng.gauss(0.0, sigma)), ANY)


def bimodal(rng: random.Random) -> tuple[float, Traits]:
    """Draw from two modes, 60 s and 180 s; the best possible index is 0.66."""
    return rng.choice((60.0, 180.0)) * math.exp(rng.gauss(0.0, 0.235)), ANY


def by_clip(rng: random.Random) -> tuple[float, Traits]:
    """Draw a clip of 2 s to 120 s, about 20 s, that takes about 4.5 times its length."""
    seconds = min(max(20.0 * math.exp(rng.gauss(0.0, 0.6)), 2.0), 120.0)
    return 4.5 * seconds * math.exp(rng.gauss(0.0, 0.2)), Traits(seconds=seconds)


def times(factor: float, draw: Draw) -> Draw:
    def scaled(rng: random.Random) -> tuple[float, Traits]:
        duration, traits = draw(rng)
        return factor * duration, traits

    return scaled


def learned(
    draw: Draw, count: int, rng: random.Random, known: Durations | None = None
) -> Durations:
    known = Durations() if known is None else known
    for _ in range(count):
        known.add(*draw(rng))
    return known


# -- one job, no crowd ------------------------------------------------------------------------


def alone(
    draw: Draw,
    jobs: int,
    rng: random.Random,
    known: Durations | None = None,
    policy: PollPolicy | None = None,
) -> Score:
    """Wait for each of many jobs as if it were the only one."""
    policy = policy or PollPolicy()
    schedule = Schedule(policy=policy, rate=8.0)
    lags, looks, total = [], 0, 0.0
    for _ in range(jobs):
        duration, traits = draw(rng)
        estimate = known.estimate(traits) if known is not None else None
        plain = cadence(policy)
        now = 0.0
        while now < duration:
            now += schedule.pause(
                now, plain=next(plain), estimate=estimate, spread=rng.random()
            ).soonest
            looks += 1
        lags.append(now - duration)
        total += duration
    return Score(lags, looks / jobs, total / jobs)


def drifting(jobs: int, rng: random.Random, *, period: int = 200) -> Score:
    """Wait for jobs whose median halves and doubles slowly, learning on the way."""
    known = Durations()
    lags: list[float] = []
    looks = total = 0.0
    for job in range(jobs):
        draw = lognormal(90.0 * 2.0 ** math.sin(2.0 * math.pi * job / period))
        one = alone(draw, 1, rng, known)
        known.add(one.mean, ANY)
        lags += one.lags
        looks += one.looks
        total += one.mean
    return Score(lags, looks / jobs, total / jobs)


def through_a_queue(jobs: int, rng: random.Random, *, told: bool, warm_up: int = 200) -> Score:
    """Wait for jobs that queue for about 60 s (sigma 1.0), then work for 60 s (sigma 0.2).

    What they took is learned on the way; `told` says whether the states tell the two apart.
    """
    known = Durations()
    schedule = Schedule(policy=PollPolicy(), rate=8.0)
    at_work = Traits(working=True)
    lags, looks, total = [], 0, 0.0
    for job in range(-warm_up, jobs):
        queue = 60.0 * math.exp(rng.gauss(0.0, 1.0))
        end = queue + 60.0 * math.exp(rng.gauss(0.0, 0.2))
        age, plain, now = Age(0.0), cadence(schedule.policy), 0.0
        while True:
            work = known.estimate(at_work) if told and age.is_told else None
            now += schedule.pause(
                age.elapsed(now, working=work is not None),
                plain=next(plain),
                estimate=work or known.estimate(ANY),
                spread=rng.random(),
            ).soonest
            looks += job >= 0
            if now >= end:
                break
            age.saw(now, queued=now < queue)
        known.add(end, ANY)
        if age.works is not None:
            known.add(end - age.works, at_work)
        if job >= 0:
            lags.append(now - end)
            total += end
    return Score(lags, looks / jobs, total / jobs)


# -- many jobs, one quota ---------------------------------------------------------------------


@attrs.frozen
class Crowd:
    """What a crowd of jobs met, beside its score."""

    score: Score
    #: The longest that anybody went unseen, in rounds (pending / rate) of that moment, while a
    #: round took longer than the longest plain pause.
    unseen: float
    #: Most looks in any second.
    peak: int


def together(
    draw: Draw,
    jobs: int,
    rng: random.Random,
    *,
    rate: float,
    submits: float | None,
    known: Durations | None,
    learn: bool = False,
    policy: PollPolicy | None = None,
) -> Crowd:
    """Poll as the client does: one agenda, one quota, looks at an even pace at most."""
    policy = policy or PollPolicy()
    schedule = Schedule(policy=policy, rate=rate)
    agenda: Agenda[int] = Agenda(schedule.patience)
    drawn = [draw(rng) for _ in range(jobs)]
    births = list(arrivals(jobs, submits))
    plains = [cadence(policy) for _ in range(jobs)]
    seen = births[:]
    lags: list[float] = []
    moments: list[float] = []
    unseen = 0.0
    pending = born = 0
    slot = 0.0

    def plan(job: int, now: float) -> None:
        estimate = known.estimate(drawn[job][1]) if known is not None else None
        pause = schedule.pause(
            now - births[job],
            plain=next(plains[job]),
            pending=pending,
            estimate=estimate,
            spread=rng.random(),
        )
        agenda.plan(job, pause, now=now)

    while len(lags) < jobs:
        turn = agenda.next(pending)
        now = math.inf if turn is None else max(turn, slot)
        if born < jobs and births[born] <= now:
            pending += 1
            born += 1
            plan(born - 1, births[born - 1])
            continue
        job = agenda.take(now + 1e-9, pending)
        if job is None:
            continue
        slot = now + 1.0 / rate
        moments.append(now)
        if schedule.round(pending) > policy.longest:
            unseen = max(unseen, (now - seen[job]) / schedule.round(pending))
        seen[job] = now
        end = births[job] + drawn[job][0]
        if now < end:
            plan(job, now)
            continue
        lags.append(now - end)
        pending -= 1
        if learn and known is not None:
            known.add(*drawn[job], born=births[job])
    return Crowd(scored(lags, moments, drawn), unseen, peak(moments))


def arrivals(jobs: int, submits: float | None) -> Iterator[float]:
    """Yield the moments of submits: so many a second, or bursts of 20 in each 10 s."""
    for job in range(jobs):
        yield job / submits if submits is not None else 10.0 * (job // 20)


def round_robin(
    draw: Draw, jobs: int, rng: random.Random, *, rate: float, submits: float | None
) -> Crowd:
    """Spend the whole quota on everybody in turn."""
    drawn = [draw(rng) for _ in range(jobs)]
    births = list(arrivals(jobs, submits))
    turns: list[tuple[float, int]] = [(birth, job) for job, birth in enumerate(births)]
    heapq.heapify(turns)
    lags, moments, now = [], [], 0.0
    while turns:
        last, job = heapq.heappop(turns)
        now = max(now + 1.0 / rate, last)
        moments.append(now)
        end = births[job] + drawn[job][0]
        if now < end:
            heapq.heappush(turns, (now, job))
        else:
            lags.append(now - end)
    return Crowd(scored(lags, moments, drawn), math.nan, peak(moments))


def everybody_for_himself(
    draw: Draw, jobs: int, rng: random.Random, *, rate: float, submits: float | None
) -> Crowd:
    """Doubling backoff to 30 s with full jitter each; the service refuses above the rate."""
    drawn = [draw(rng) for _ in range(jobs)]
    births = list(arrivals(jobs, submits))
    turns = [(birth + rng.uniform(0.0, 1.0), job, 1.0) for job, birth in enumerate(births)]
    heapq.heapify(turns)
    lags: list[float] = []
    moments: list[float] = []
    admitted: list[float] = []
    while turns:
        now, job, pause = heapq.heappop(turns)
        moments.append(now)
        while admitted and admitted[0] <= now - 1.0:
            heapq.heappop(admitted)
        end = births[job] + drawn[job][0]
        if len(admitted) < rate:
            heapq.heappush(admitted, now)
            if now >= end:
                lags.append(now - end)
                continue
        pause = min(2.0 * pause, 30.0)
        heapq.heappush(turns, (now + rng.uniform(0.0, pause), job, pause))
    return Crowd(scored(lags, moments, drawn), math.nan, peak(moments))


def scored(
    lags: list[float], moments: Sequence[float], drawn: Sequence[tuple[float, Traits]]
) -> Score:
    total = sum(duration for duration, _ in drawn)
    return Score(lags, len(moments) / len(lags), total / len(lags))


def peak(moments: Sequence[float]) -> int:
    """Return the most looks that fall in any window of one second."""
    most = first = 0
    for last, moment in enumerate(moments):
        while moments[first] <= moment - 1.0 + 1e-6:
            first += 1
        most = max(most, last - first + 1)
    return most


# -- the table --------------------------------------------------------------------------------

HEAD = f"{'situation':52}{'reach':>8}{'index':>8}{'worst':>8}{'polls':>8}{'lag s':>8}{'p99 s':>8}"


def line(name: str, reach: str, scores: Sequence[Score]) -> None:
    """Print the mean over the training sets, and the worst index."""
    figures = [
        statistics.mean(score.index for score in scores),
        max(score.index for score in scores) if len(scores) > 1 else math.nan,
        statistics.mean(score.looks for score in scores),
        statistics.mean(score.lag for score in scores),
        statistics.mean(score.quantile(0.99) for score in scores),
    ]
    cells = ["" if math.isnan(figure) else f"{figure:.2f}" for figure in figures]
    print(f"{name:52}{reach:>8}" + "".join(f"{cell:>8}" for cell in cells), flush=True)


def taught(
    seed: int, draw: Draw, count: int, jobs: int, true: Draw | None = None, more: int = 0
) -> list[Score]:
    """Learn `count` durations, `more` of the true ones, then wait; once for each training set."""
    scores = []
    for number in range(SETS):
        rng = random.Random(seed * 1000 + number)
        known = learned(draw, count, rng)
        for _ in range(more):  # one by one, as they end: the curve is drawn on the way
            known.estimate(ANY)
            learned(true or draw, 1, rng, known)
        scores.append(alone(true or draw, jobs, rng, known))
    return scores


def table_alone(seed: int, jobs: int) -> None:
    rng = random.Random(seed)
    plain = lognormal()
    each = jobs // 2
    print(f"One job at a time; learned rows: mean over {SETS} training sets, {each} jobs each")
    print(HEAD)
    line("no history, growing pauses, lognormal 0.6", "1.25", [alone(plain, jobs, rng)])
    documented = alone(plain, jobs, rng, policy=PollPolicy.documented())
    line("no history, documented cadence", "", [documented])
    for count, even, mixed in (
        (1, "", ""),
        (5, "", ""),
        (20, "0.95", "0.85"),
        (100, "0.90", "0.78"),
    ):
        line(f"{count} known, lognormal 0.6", even, taught(seed, plain, count, each))
        line(f"{count} known, bimodal", mixed, taught(seed, bimodal, count, each))
    line("50 known, by clip seconds, residual 0.2", "0.45", taught(seed, by_clip, 50, each))
    for word, factor in (("half", 0.5), ("twice", 2.0)):
        for law, draw in (("lognormal 0.6", plain), ("bimodal", bimodal)):
            true = times(factor, draw)
            name = f"100 known, {law}, suddenly {word}"
            line(name, "1.10", taught(seed, draw, 100, each, true))
            line("  after 30 more jobs", "0.95", taught(seed, draw, 100, each, true, 30))
    line("lognormal 0.6, median swings from 45 s to 180 s", "", [drifting(jobs, rng)])
    line("queue and work, one clock", "", [through_a_queue(jobs, rng, told=False)])
    line("queue and work, told by the state", "", [through_a_queue(jobs, rng, told=True)])


COLUMNS = ("lag s", "p99 s", "polls", "peak/s", "unseen", "of RR", "of own")
CROWD = " " * 32 + "".join(f"{column:>8}" for column in COLUMNS)


def crowd_line(
    name: str, runs: Sequence[Crowd], robin: float = math.nan, own: float = math.nan
) -> None:
    lag = pooled(runs)
    figures = [
        lag,
        statistics.mean(run.score.quantile(0.99) for run in runs),
        statistics.mean(run.score.looks for run in runs),
        float(max(run.peak for run in runs)),
        max(run.unseen for run in runs),
        lag / robin,
        lag / own,
    ]
    cells = ["" if math.isnan(figure) else f"{figure:.2f}" for figure in figures]
    print(f"{name:32}" + "".join(f"{cell:>8}" for cell in cells), flush=True)


def pooled(runs: Sequence[Crowd]) -> float:
    return statistics.mean(run.score.lag for run in runs)


def table_crowd(seed: int, jobs: int) -> None:
    draw, count = lognormal(), 600
    seeds = [seed * 1000 + number for number in range(max(SETS, math.ceil(jobs / count)))]
    print(f"\n600 jobs submitted at 2/s, 8 looks/s, lognormal 90 s 0.6; mean of {len(seeds)} runs")
    print("reach: of round robin 0.85, of everybody for himself 0.40, unseen 3 rounds, peak 8")
    print(CROWD)
    robins = [round_robin(draw, count, random.Random(s), rate=8.0, submits=2.0) for s in seeds]
    robin = pooled(robins)
    owns = [
        everybody_for_himself(draw, count, random.Random(s), rate=8.0, submits=2.0) for s in seeds
    ]
    own = pooled(owns)
    crowd_line("everybody for himself", owns, robin)
    crowd_line("round robin", robins, own=own)
    for name, known, learn in (
        ("no history", 0, False),
        ("no history, learning", 0, True),
        ("20 known", 20, False),
        ("100 known", 100, False),
        ("100 known, learning", 100, True),
    ):
        runs = [
            together(
                draw,
                count,
                random.Random(s),
                rate=8.0,
                submits=2.0,
                known=learned(draw, known, random.Random(s + 500)),
                learn=learn,
            )
            for s in seeds
        ]
        crowd_line(f"ours, {name}", runs, robin, own)


def table_scales(seed: int, jobs: int) -> None:
    print(f"\nReal time scales: bursts of 20 in each 10 s, 10 looks/s, {jobs} jobs a row")
    print(CROWD)
    for count in (200, 1000):
        for median in (60.0, 300.0):
            for sigma in (0.3, 0.6):
                draw = lognormal(median, sigma)
                seeds = [seed * 1000 + number for number in range(math.ceil(jobs / count))]
                robins = [
                    round_robin(draw, count, random.Random(s), rate=10.0, submits=None)
                    for s in seeds
                ]
                name = f"{count} jobs, {median:.0f} s, sigma {sigma}"
                crowd_line(f"{name}: robin", robins)
                for word, known in (("plain", 0), ("learned", 100)):
                    runs = [
                        together(
                            draw,
                            count,
                            random.Random(s),
                            rate=10.0,
                            submits=None,
                            known=learned(draw, known, random.Random(s + 500)),
                        )
                        for s in seeds
                    ]
                    crowd_line(f"{'':22}{word}", runs, pooled(robins))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=5000, help="jobs a row, at least")
    options = parser.parse_args()
    table_alone(options.seed, options.jobs)
    table_crowd(options.seed, options.jobs)
    table_scales(options.seed, options.jobs)


if __name__ == "__main__":
    main()
