"""One schedule for all waiting tasks, told on a clock that skips idle time."""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator

import attrs
import pytest

from topaz_async import (
    AuthenticationError,
    ClientClosedError,
    PollPolicy,
    RateLimitError,
    ServerError,
    TaskNotFoundError,
    TaskRecord,
    TopazError,
    TransportError,
    WaitTimeoutError,
)
from topaz_async.limiter import SlidingWindow
from topaz_async.polling import Poller
from topaz_async.schedule import cadence
from topaz_async.survival import Durations, Traits

from .virtual_time import in_virtual_time


class Service:
    """A service of records: each task has its own tale, told one look at a time."""

    def __init__(self, latency: float = 0.0) -> None:
        self.latency = latency
        self.tales: dict[str, Iterable[object]] = {}
        self.looks: dict[str, list[float]] = defaultdict(list)
        self.under_way = 0
        self.most_under_way = 0

    def tell(self, task_id: str, *tale: object) -> None:
        """Answer with these, the last one for ever: a state, or an error to raise."""
        self.tales[task_id] = itertools.chain(tale, itertools.repeat(tale[-1]))

    def ends_at(self, task_id: str, moment: float) -> None:
        """Answer "waiting" until a moment of the loop's clock, then "success"."""

        def states() -> Iterable[str]:
            while True:
                done = asyncio.get_running_loop().time() >= moment
                yield "success" if done else "waiting"

        self.tales[task_id] = states()

    async def fetch(self, task_id: str, last: TaskRecord | None = None) -> TaskRecord:
        self.looks[task_id].append(asyncio.get_running_loop().time())
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        try:
            await asyncio.sleep(self.latency)
        finally:
            self.under_way -= 1
        news = next(iter(self.tales[task_id]))
        if isinstance(news, Exception):
            raise news
        if isinstance(news, TaskRecord):
            return news
        return TaskRecord(task_id, str(news), result_urls=("https://x.y/z.mp4",))


def poller(
    service: Service,
    policy: PollPolicy | None = None,
    *,
    limit: int | None = None,
    on_record: Callable[[TaskRecord], None] = lambda record: None,
) -> Poller:
    """Return a poller without jitter, and without a quota unless one is given."""
    return Poller(
        service.fetch,
        SlidingWindow(limit, 1.0),
        policy or PollPolicy(),
        on_record=on_record,
        spread=lambda: 0.5,
    )


def now() -> float:
    return asyncio.get_running_loop().time()


# -- the cadence ------------------------------------------------------------------------------


def test_the_pauses_grow_to_a_cap() -> None:
    """2 s, 3 s, 4.5 s, then 6 s."""
    assert list(itertools.islice(cadence(PollPolicy()), 5)) == [2.0, 3.0, 4.5, 6.0, 6.0]


def test_the_documented_cadence_has_its_steps() -> None:
    """2.5 s up to half a minute, 7.5 s up to two minutes, then 22.5 s."""
    pauses = list(itertools.islice(cadence(PollPolicy.documented()), 27))
    assert Counter(pauses) == {2.5: 13, 7.5: 12, 22.5: 2}


@in_virtual_time
async def test_looks_come_at_the_pauses_after_the_submit() -> None:
    """The first look comes one pause after the submit, the others one pause after the last."""
    service = Service()
    service.tell("t", "waiting", "waiting", "waiting", "success")
    polls = poller(service)
    polls.exists("t")
    await polls.wait("t", timeout=900.0)
    assert service.looks["t"] == [2.0, 5.0, 9.5, 15.5]
    await polls.aclose()


@in_virtual_time
async def test_a_task_of_unknown_age_is_asked_for_at_once() -> None:
    """A bare id may have ended long ago: its first look is now."""
    service = Service()
    service.tell("t", "success")
    polls = poller(service)
    await polls.wait("t", timeout=900.0)
    assert service.looks["t"] == [0.0]
    await polls.aclose()


@in_virtual_time
async def test_jitter_spreads_the_pauses_within_its_bounds() -> None:
    """Each pause is within ten percent of the plan, and they are not all alike."""
    service = Service()
    service.tell("t", *["waiting"] * 200, "success")
    polls = Poller(service.fetch, SlidingWindow(None, 1.0), PollPolicy())
    await polls.wait("t", timeout=None)
    looks = service.looks["t"]
    steady = [b - a for a, b in itertools.pairwise(looks)][5:]
    assert all(5.4 <= pause <= 6.6 for pause in steady)
    assert max(steady) - min(steady) > 0.6
    await polls.aclose()


# -- sharing ----------------------------------------------------------------------------------


@in_virtual_time
async def test_many_waiters_of_one_task_share_each_look() -> None:
    """A hundred waiters cost as many requests as one."""
    service = Service()
    service.tell("t", "waiting", "success")
    polls = poller(service)
    records = await asyncio.gather(*(polls.wait("t", timeout=900.0) for _ in range(100)))
    assert len(service.looks["t"]) == 2
    assert [record.state for record in records] == ["success"] * 100
    await polls.aclose()


@in_virtual_time
async def test_a_thousand_tasks_keep_the_quota_and_the_bounds() -> None:
    """No second holds more looks than the quota, and no more than ten are under way at once."""
    service = Service(latency=0.3)
    for number in range(1000):
        service.tell(f"t{number}", "success")
    polls = poller(service, limit=8)
    await asyncio.gather(*(polls.wait(f"t{n}", timeout=None) for n in range(1000)))
    looks = sorted(moment for moments in service.looks.values() for moment in moments)
    busiest = max(sum(1 for t in looks if a <= t < a + 1.0) for a in looks)
    assert (len(looks), busiest) == (1000, 8)
    assert service.most_under_way <= 10
    await polls.aclose()


@in_virtual_time
async def test_the_task_that_is_longest_overdue_goes_first() -> None:
    """When the quota is scarce, the earliest due task is asked for first."""
    service = Service()
    polls = poller(service, limit=1)
    names = [f"t{number}" for number in range(5)]
    for name in names:
        service.tell(name, "success")
    waits = []
    for name in names:
        waits.append(asyncio.create_task(polls.wait(name, timeout=None)))
        await asyncio.sleep(0.01)
    await asyncio.gather(*waits)
    assert names == sorted(names, key=lambda name: service.looks[name])
    await polls.aclose()


# -- the deadline -----------------------------------------------------------------------------


@in_virtual_time
async def test_the_deadline_is_exact_and_the_wait_can_be_resumed() -> None:
    """After the timeout the error names the task and its state; waiting again gets the result."""
    service = Service()
    service.ends_at("t", 20.0)
    polls = poller(service)
    polls.exists("t")
    with pytest.raises(WaitTimeoutError) as caught:
        await polls.wait("t", timeout=7.25)
    assert now() == 7.25
    error = caught.value
    assert (error.task_id, error.record.state, error.billed) == ("t", "waiting", "yes")
    assert isinstance(error, TimeoutError)
    record = await polls.wait("t", timeout=60.0)
    assert record.state == "success"
    await polls.aclose()


@in_virtual_time
async def test_the_deadline_cuts_a_look_that_hangs() -> None:
    """A request that never ends does not move the deadline, and it is given up."""
    service = Service(latency=10_000.0)
    service.tell("t", "success")
    polls = poller(service)
    with pytest.raises(WaitTimeoutError):
        await polls.wait("t", timeout=3.0)
    assert now() == 3.0
    for _ in range(3):  # turns of the loop, no time
        await asyncio.sleep(0)
    assert service.under_way == 0
    await polls.aclose()


@in_virtual_time
async def test_waiters_of_one_task_have_deadlines_of_their_own() -> None:
    """The impatient one gives up, the patient one gets the result."""
    service = Service()
    service.ends_at("t", 10.0)
    polls = poller(service)
    impatient, patient = await asyncio.gather(
        polls.wait("t", timeout=1.0), polls.wait("t", timeout=None), return_exceptions=True
    )
    assert isinstance(impatient, WaitTimeoutError)
    assert isinstance(patient, TaskRecord)
    await polls.aclose()


@in_virtual_time
async def test_without_a_timeout_a_wait_may_last_for_days() -> None:
    """None waits for ever."""
    service = Service()
    service.ends_at("t", 200_000.0)
    polls = poller(service, PollPolicy(longest=600.0))
    assert (await polls.wait("t", timeout=None)).state == "success"
    await polls.aclose()


@in_virtual_time
async def test_a_task_that_was_seen_to_end_is_not_waited_for_again() -> None:
    """The end is told at once, to waits, updates and on_update; ten minutes later, after a look."""
    service = Service()
    service.tell("t", "success")
    polls = poller(service)
    polls.made("t", Traits())
    end = await polls.wait("t", timeout=900.0)
    seen: list[TaskRecord] = []
    began, looks = now(), len(service.looks["t"])
    assert end == await polls.wait("t", timeout=0.1, on_update=seen.append)
    assert [end] == seen == [record async for record in polls.follow("t", timeout=0.1)]
    assert (began, looks) == (now(), len(service.looks["t"]))
    await asyncio.sleep(601.0)
    began = now()
    assert end == await polls.wait("t", timeout=0.1)
    assert (began, looks + 1) == (now(), len(service.looks["t"]))
    await polls.aclose()


@in_virtual_time
async def test_a_success_without_a_link_is_asked_for_again_at_once() -> None:
    """Its link may come later, and nobody waits for the next look then."""
    service = Service()
    service.tell("t", TaskRecord("t", "success"), "success")
    polls = poller(service)
    polls.made("t", Traits())
    assert () == (await polls.wait("t", timeout=900.0)).result_urls
    began = now()
    assert ("https://x.y/z.mp4",) == (await polls.wait("t", timeout=0.1)).result_urls
    assert began == now()
    await polls.aclose()


@in_virtual_time
async def test_cancelling_a_waiter_cancels_nothing_else() -> None:
    """The other waiter of the task gets its record."""
    service = Service()
    service.ends_at("t", 10.0)
    polls = poller(service)
    gone = asyncio.create_task(polls.wait("t", timeout=None))
    stays = asyncio.create_task(polls.wait("t", timeout=None))
    await asyncio.sleep(3.0)
    gone.cancel()
    assert (await stays).state == "success"
    with pytest.raises(asyncio.CancelledError):
        await gone
    await polls.aclose()


@in_virtual_time
async def test_the_last_waiter_to_leave_takes_the_look_with_it() -> None:
    """After a cancelled wait no task and no request is left behind."""
    service = Service(latency=100.0)
    service.tell("t", "success")
    polls = poller(service)
    gone = asyncio.create_task(polls.wait("t", timeout=None))
    await asyncio.sleep(1.0)
    gone.cancel()
    await asyncio.sleep(0.001)
    assert (service.under_way, polls.waiting) == (0, 0)
    assert {asyncio.current_task()} == asyncio.all_tasks()


# -- failures ---------------------------------------------------------------------------------


@in_virtual_time
async def test_failed_looks_are_survived_within_the_budget() -> None:
    """Four failures in a row and an outage below two minutes do not end the wait."""
    service = Service()
    failure = ServerError("down", code=502)
    service.tell("t", *[failure] * 15, "success")
    polls = poller(service)
    assert (await polls.wait("t", timeout=None)).state == "success"
    await polls.aclose()


@in_virtual_time
async def test_an_outage_ends_the_wait_with_its_error_and_the_task_id() -> None:
    """Two minutes without any success and five failures in a row: the wait ends, typed."""
    service = Service()
    service.tell("t", TransportError("cut", retryable=True))
    polls = poller(service)
    polls.exists("t")
    with pytest.raises(TransportError) as caught:
        await polls.wait("t", timeout=None)
    assert 120.0 <= now() <= 128.0
    assert (caught.value.task_id, caught.value.billed) == ("t", "yes")
    await polls.aclose()


@in_virtual_time
async def test_while_another_task_is_answered_no_wait_gives_up() -> None:
    """One task whose looks fail for hours lives on as long as the service answers others."""
    service = Service()
    service.ends_at("good", 4000.0)
    service.tell("bad", *[ServerError("odd", code=500)] * 500, "success")
    polls = poller(service)
    good, bad = await asyncio.gather(
        polls.wait("good", timeout=None), polls.wait("bad", timeout=None)
    )
    assert (good.state, bad.state) == ("success", "success")
    await polls.aclose()


@in_virtual_time
async def test_a_wrong_key_ends_the_wait_at_once() -> None:
    """Code 401 is fatal, and still names the task."""
    service = Service()
    service.tell("t", AuthenticationError("wrong key", code=401))
    polls = poller(service)
    with pytest.raises(AuthenticationError) as caught:
        await polls.wait("t", timeout=None)
    assert (now(), caught.value.task_id) == (0.0, "t")
    await polls.aclose()


@in_virtual_time
async def test_each_waiter_gets_an_error_object_of_its_own() -> None:
    """Tracebacks of different callers do not grow together."""
    service = Service()
    service.tell("t", AuthenticationError("wrong key", code=401))
    polls = poller(service)
    one, two = await asyncio.gather(
        polls.wait("t", timeout=None), polls.wait("t", timeout=None), return_exceptions=True
    )
    assert one is not two
    assert isinstance(one, AuthenticationError)
    assert isinstance(two, AuthenticationError)
    await polls.aclose()


@in_virtual_time
async def test_a_429_slows_the_whole_client_down() -> None:
    """After a Retry-After of five seconds nobody is asked for during that time."""
    service = Service()
    refused = RateLimitError("slow down", code=429)
    refused.retry_after = 5.0
    service.tell("a", refused, "success")
    service.tell("b", "waiting", "success")
    polls = poller(service, PollPolicy(first=1.0, longest=1.0), limit=8)
    await asyncio.gather(polls.wait("a", timeout=None), polls.wait("b", timeout=None))
    later = [t for moments in service.looks.values() for t in moments if t > 0.0]
    assert min(later) >= 5.0
    await polls.aclose()


@in_virtual_time
async def test_an_insane_retry_after_is_clamped() -> None:
    """A Retry-After of a year pauses for a minute."""
    service = Service()
    refused = RateLimitError("slow down", code=429)
    refused.retry_after = 31_536_000.0
    service.tell("t", refused, "success")
    polls = poller(service)
    await polls.wait("t", timeout=None)
    assert now() <= 70.0
    await polls.aclose()


# -- no record --------------------------------------------------------------------------------

_GONE = TaskNotFoundError("no record", code=422)


@in_virtual_time
async def test_no_record_just_after_our_submit_means_pending() -> None:
    """For half a minute the service may not know its own task yet."""
    service = Service()
    service.tell("t", *[_GONE] * 5, "success")
    polls = poller(service)
    polls.exists("t")
    assert (await polls.wait("t", timeout=None)).state == "success"
    await polls.aclose()


@in_virtual_time
async def test_no_record_after_the_grace_means_not_found() -> None:
    """Afterwards the wait ends with TaskNotFoundError."""
    service = Service()
    service.tell("t", _GONE)
    polls = poller(service)
    polls.exists("t")
    with pytest.raises(TaskNotFoundError):
        await polls.wait("t", timeout=None)
    assert 30.0 < now() <= 37.0
    await polls.aclose()


@in_virtual_time
async def test_an_id_that_nobody_submitted_is_not_found_at_once() -> None:
    """A bare id has no grace."""
    service = Service()
    service.tell("t", _GONE)
    polls = poller(service)
    with pytest.raises(TaskNotFoundError):
        await polls.wait("t", timeout=None)
    assert now() == 0.0
    await polls.aclose()


@in_virtual_time
async def test_a_task_that_was_seen_does_not_vanish_at_a_single_blink() -> None:
    """Null answers between two good ones are survived."""
    service = Service()
    service.tell("t", "waiting", _GONE, _GONE, "waiting", _GONE, "success")
    polls = poller(service)
    assert (await polls.wait("t", timeout=None)).state == "success"
    await polls.aclose()


@in_virtual_time
async def test_a_wait_that_is_cancelled_at_its_start_gives_everything_back() -> None:
    """However many waits end before their first look has begun, the next one is served."""
    service = Service()
    service.tell("t", "success")
    polls = poller(service, PollPolicy(in_flight=2), limit=2)
    for turns in (1, 2, 3) * 4:
        wait = asyncio.create_task(polls.wait(f"{turns}", timeout=None))
        service.tell(f"{turns}", "waiting")
        for _ in range(turns):
            await asyncio.sleep(0)
        wait.cancel()
        with pytest.raises(asyncio.CancelledError):
            await wait
        await asyncio.sleep(5.0)
    assert (await polls.wait("t", timeout=60.0)).state == "success"
    await polls.aclose()


# -- states -----------------------------------------------------------------------------------


@in_virtual_time
async def test_an_unknown_state_is_polled_on_and_logged_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A word that nobody has seen before is no end."""
    service = Service()
    service.tell("t", "reviewing", "reviewing", "success")
    polls = poller(service)
    with caplog.at_level(logging.WARNING, "topaz_async"):
        assert (await polls.wait("t", timeout=None)).state == "success"
    assert sum("reviewing" in record.getMessage() for record in caplog.records) == 1
    await polls.aclose()


@in_virtual_time
async def test_follow_yields_each_change_once_and_the_end_last() -> None:
    """Equal records are one; the terminal one ends the iteration, fail included."""
    service = Service()
    service.tell("t", "waiting", "waiting", "generating", "fail")
    polls = poller(service)
    states = [record.state async for record in polls.follow("t", timeout=None)]
    assert states == ["waiting", "generating", "fail"]
    await polls.aclose()


@in_virtual_time
async def test_a_least_interval_leaves_changes_out_but_never_the_end() -> None:
    """Updates come no faster than asked; the terminal record comes at once."""
    service = Service()
    records = [TaskRecord("t", "generating", progress=float(n)) for n in range(20)]
    service.tell("t", *records, TaskRecord("t", "success"))
    polls = poller(service, PollPolicy(first=1.0, longest=1.0))
    came = [
        (now(), record.state) async for record in polls.follow("t", timeout=None, min_interval=8.0)
    ]
    assert came == [
        (0.0, "generating"),
        (8.0, "generating"),
        (16.0, "generating"),
        (20.0, "success"),
    ]
    await polls.aclose()


@in_virtual_time
async def test_a_slow_reader_of_updates_holds_up_nobody() -> None:
    """While one reader sleeps, the other waiter gets its result in time."""
    service = Service()
    service.ends_at("t", 10.0)
    polls = poller(service)

    async def sleepy() -> list[str]:
        states = []
        async for record in polls.follow("t", timeout=None):
            states.append(str(record.state))
            await asyncio.sleep(500.0)
        return states

    reader = asyncio.create_task(sleepy())
    await polls.wait("t", timeout=None)
    assert now() < 20.0
    assert await reader == ["waiting", "success"]
    await polls.aclose()


# -- on_update --------------------------------------------------------------------------------


@in_virtual_time
async def test_on_update_sees_each_change_sync_or_async() -> None:
    """A function and a coroutine function are both called with each changed record."""
    for is_async in (False, True):
        service = Service()
        service.tell("t", "waiting", "generating", "success")
        polls = poller(service)
        seen: list[str] = []

        def note(record: TaskRecord, seen: list[str] = seen) -> None:
            seen.append(str(record.state))

        async def note_slowly(record: TaskRecord, seen: list[str] = seen) -> None:
            await asyncio.sleep(0.1)
            seen.append(str(record.state))

        await polls.wait("t", timeout=None, on_update=note_slowly if is_async else note)
        assert seen == ["waiting", "generating", "success"]
        await polls.aclose()


@in_virtual_time
async def test_an_on_update_that_raises_is_logged_and_ends_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The caller's own failure is no failure of the task."""
    service = Service()
    service.tell("t", "waiting", "success")
    polls = poller(service)

    def broken(record: TaskRecord) -> None:
        raise ValueError("mine")

    assert (await polls.wait("t", timeout=None, on_update=broken)).state == "success"
    assert sum("on_update failed" in record.getMessage() for record in caplog.records) == 1
    await polls.aclose()


@in_virtual_time
async def test_an_on_update_that_hangs_costs_the_wait_a_second() -> None:
    """The result comes all the same, and the hanging call is cancelled."""
    service = Service()
    service.ends_at("t", 5.0)
    polls = poller(service)
    cancelled = asyncio.Event()

    async def hangs(record: TaskRecord) -> None:
        try:
            await asyncio.sleep(1e6)
        except asyncio.CancelledError:
            cancelled.set()
            raise

    assert (await polls.wait("t", timeout=None, on_update=hangs)).state == "success"
    assert now() <= 11.0
    await asyncio.sleep(0)
    assert cancelled.is_set()
    await polls.aclose()


# -- bell and close ---------------------------------------------------------------------------


@in_virtual_time
async def test_a_ring_makes_the_next_look_happen_now() -> None:
    """The doorbell does not wait for the cadence, not even when it rings during a look."""
    service = Service(latency=0.5)
    service.ends_at("t", 2.7)
    polls = poller(service)
    wait = asyncio.create_task(polls.wait("t", timeout=None))
    await asyncio.sleep(2.75)  # looks began at 0 and at 2.5; this one sees "waiting"
    assert polls.ring("t")
    await wait
    assert service.looks["t"] != [0.0, 3.5]
    assert now() <= 3.75
    assert not polls.ring("t")
    await polls.aclose()


@in_virtual_time
async def test_closing_ends_each_wait_with_its_task_id() -> None:
    """ClientClosedError tells which task goes on; closing twice is fine."""
    service = Service(latency=50.0)
    service.tell("t", "success")
    polls = poller(service)
    wait = asyncio.create_task(polls.wait("t", timeout=None))
    await asyncio.sleep(1.0)
    await polls.aclose()
    await polls.aclose()
    with pytest.raises(ClientClosedError) as caught:
        await wait
    assert caught.value.task_id == "t"
    with pytest.raises(ClientClosedError):
        await polls.wait("t", timeout=None)
    assert {asyncio.current_task()} == asyncio.all_tasks()


@in_virtual_time
async def test_each_changed_record_is_handed_on_once() -> None:
    """The journal hears of a change before the waiters do, and of no change twice."""
    service = Service()
    service.tell("t", "waiting", "waiting", "success")
    heard: list[TaskRecord] = []
    polls = poller(service, on_record=heard.append)
    await asyncio.gather(polls.wait("t", timeout=None), polls.wait("t", timeout=None))
    assert [record.state for record in heard] == ["waiting", "success"]
    await polls.aclose()


@in_virtual_time
async def test_a_defect_of_ours_ends_the_wait_instead_of_hanging_it() -> None:
    """Even an unforeseen exception comes out as a TopazError with the task id."""
    service = Service()
    service.tell("t", KeyError("surprise"))
    polls = poller(service)
    with pytest.raises(TopazError) as caught:
        await polls.wait("t", timeout=None)
    assert caught.value.task_id == "t"
    await polls.aclose()


@in_virtual_time
async def test_the_record_a_waiter_gets_is_the_whole_record() -> None:
    """Nothing of a record is lost on its way from the look to the waiter."""
    service = Service()
    record = attrs.evolve(TaskRecord("t", "success"), credits_consumed=16.0, raw={"a": 1})
    service.tell("t", record)
    polls = poller(service)
    assert record is await polls.wait("t", timeout=None)
    await polls.aclose()


# -- learning ---------------------------------------------------------------------------------


async def lived(polls: Poller, service: Service, name: str, seconds: float) -> int:
    """Let a task of our own live and end; return how many looks it took."""
    polls.made(name, Traits(model="m", factor="2"))
    service.ends_at(name, now() + seconds)
    await polls.wait(name, timeout=None)
    return len(service.looks[name])


@in_virtual_time
async def test_what_has_been_learned_saves_looks() -> None:
    """After some tasks of about 100 s, the next one is looked at about its end only."""
    service = Service()
    polls = poller(service)
    first = await lived(polls, service, "t0", 100.0)
    for number in range(1, 12):
        await lived(polls, service, f"t{number}", 95.0 + number)
    last = await lived(polls, service, "last", 101.0)
    assert (first >= 17, last <= 10) == (True, True)
    await polls.aclose()


@in_virtual_time
async def test_history_that_was_handed_in_places_the_first_looks() -> None:
    """What a journal tells is worth as much as what the client has seen itself."""
    service, durations = Service(), Durations()
    for number in range(20):
        durations.add(95.0 + number % 10, Traits(model="m", factor="2"))
    polls = Poller(
        service.fetch,
        SlidingWindow(None, 1.0),
        PollPolicy(),
        durations=durations,
        spread=lambda: 0.5,
    )
    assert await lived(polls, service, "t", 100.0) <= 9
    assert service.looks["t"][0] > 20.0
    await polls.aclose()


@in_virtual_time
async def test_a_history_that_is_wrong_costs_little() -> None:
    """A task that ends at once although all others took an hour is found within a minute."""
    service, durations = Service(), Durations()
    for _ in range(50):
        durations.add(3600.0, Traits(model="m", factor="2"))
    polls = Poller(service.fetch, SlidingWindow(None, 1.0), PollPolicy(), durations=durations)
    await lived(polls, service, "t", 5.0)
    assert now() <= 70.0
    await polls.aclose()


@in_virtual_time
async def test_a_task_seen_long_ago_is_still_known() -> None:
    """With a slow cadence a blink of "no record" does not end the wait."""
    service = Service()
    service.tell("t", "waiting", _GONE, "success")
    polls = poller(service, PollPolicy(first=25.0, longest=25.0))
    polls.exists("t")
    assert (await polls.wait("t", timeout=None)).state == "success"
    await polls.aclose()


@in_virtual_time
async def test_on_update_hears_of_the_end_although_what_it_awaited_was_cancelled() -> None:
    """A cancelled task of the caller's own ends its call, and not the next ones."""
    service = Service()
    service.tell("t", "waiting", "success")
    polls = poller(service)
    seen: list[str] = []

    async def note(record: TaskRecord) -> None:
        seen.append(record.state)
        inner = asyncio.ensure_future(asyncio.sleep(60))
        inner.cancel()
        await inner

    await polls.wait("t", timeout=900.0, on_update=note)
    assert ["waiting", "success"] == seen
    await polls.aclose()


@in_virtual_time
async def test_what_a_plain_on_update_returns_is_not_awaited() -> None:
    """It may return a job, and awaiting that would wait for the whole work."""

    awaited = []

    class Awaited:
        def __await__(self) -> Iterator[None]:
            awaited.append(self)
            yield

    service = Service()
    service.tell("t", "waiting", "success")
    polls = poller(service)
    await polls.wait("t", timeout=900.0, on_update=lambda record: Awaited())
    assert [] == awaited
    await polls.aclose()
