"""Callbacks and polls race: trust is won, kept and lost, on a clock that skips idle time."""

from __future__ import annotations

import asyncio
import math
import threading

import pytest

from topaz_async import PollPolicy, ServerError, TaskNotFoundError
from topaz_async.doorbell import Doorbell
from topaz_async.limiter import SlidingWindow
from topaz_async.polling import Poller
from topaz_async.schedule import AT_ONCE, Agenda, Pause, Schedule
from topaz_async.survival import Durations, Traits

from .test_polling import Service, now
from .virtual_time import in_virtual_time

URL = "https://app.example/kie?job=1"


class Client:
    """A poller with a doorbell, wired as a client wires them."""

    def __init__(
        self, service: Service, limit: int | None = None, durations: Durations | None = None
    ) -> None:
        self.bell = Doorbell(60.0)
        self.bell.listen()
        self.poller = Poller(
            service.fetch,
            SlidingWindow(limit, 1.0),
            PollPolicy(),
            rate=limit,
            durations=durations,
            doorbell=self.bell,
            spread=lambda: 0.5,
        )
        self.bell.on_ring = self.poller.ring
        self.bell.on_missed = self.poller.wake

    def made(self, task_id: str, url: str = URL) -> asyncio.Task[object]:
        """Submit a task with a callback URL, and wait for it."""
        self.poller.made(task_id, Traits())
        self.bell.expects(task_id, url)
        return self.waiting(task_id)

    def waiting(self, task_id: str) -> asyncio.Task[object]:
        return asyncio.create_task(self.poller.wait(task_id, timeout=None))

    def proven(self) -> None:
        """Let a first callback arrive."""
        self.bell.expects("first", URL)
        self.bell.hear("first", None)

    async def aclose(self) -> None:
        self.bell.close()
        await self.poller.aclose()


@in_virtual_time
async def test_until_a_callback_has_come_looks_are_as_usual() -> None:
    """Nobody has shown yet that callbacks arrive."""
    service = Service()
    service.ends_at("t", 12.0)
    client = Client(service)
    await client.made("t")
    assert [2.0, 5.0, 9.5, 15.5] == service.looks["t"]
    await client.aclose()


@in_virtual_time
async def test_a_ring_makes_the_next_look_happen_now() -> None:
    """Whether or not callbacks were relied on, and one look is enough."""
    service = Service()
    for proven in (False, True):
        client = Client(service)
        if proven:
            client.proven()
        begun, task_id = now(), f"t{proven}"
        service.ends_at(task_id, begun + 100.0)
        job = client.made(task_id)
        await asyncio.sleep(100.25)
        client.bell.hear(task_id, None)
        await job
        assert begun + 100.25 == now()
        await client.aclose()
    assert (19, 100.25) == (len(service.looks["tFalse"]), service.looks["tFalse"][-1])
    assert [160.25, 200.5] == service.looks["tTrue"]


@in_virtual_time
async def test_proven_callbacks_relax_the_poll_to_a_slow_reconcile() -> None:
    """A callback that is lost costs a minute at most, for the slow look finds the end."""
    service = Service()
    service.ends_at("t", 130.0)
    client = Client(service)
    client.proven()
    await client.made("t")
    assert [60.0, 120.0, 180.0] == service.looks["t"]
    await client.aclose()


@in_virtual_time
async def test_a_missed_callback_brings_the_poll_back_for_all() -> None:
    """Ten seconds after an end that was seen without its callback, everybody is looked at."""
    service = Service()
    client = Client(service)
    client.proven()
    service.ends_at("a", 50.0)
    service.ends_at("b", 90.0)
    first = client.made("a")
    await asyncio.sleep(30.0)
    second = client.made("b")
    await asyncio.gather(first, second)
    # b rested from 30 to 90; at 60 a's end was seen, at 70 its callback was missed.
    assert [60.0] == service.looks["a"]
    assert (70.0, 5) == (service.looks["b"][0], len(service.looks["b"]))
    assert 90.0 < now() < 97.0
    await client.aclose()


@in_virtual_time
async def test_a_callback_that_follows_in_time_keeps_the_trust() -> None:
    """The poll may win the race by some seconds; nothing was missed, and no timer is left."""
    service = Service()
    client = Client(service)
    client.proven()
    service.ends_at("a", 50.0)
    await client.made("a")
    await asyncio.sleep(9.0)
    client.bell.hear("a", None)
    service.ends_at("b", 150.0)
    await client.made("b")
    assert [129.0, 189.0] == service.looks["b"]
    assert {"b"} == client.bell._overdue.keys()
    await client.aclose()
    assert {} == client.bell._overdue


@in_virtual_time
async def test_a_late_callback_wins_the_trust_again() -> None:
    """Callbacks that come again are relied on again."""
    service = Service()
    client = Client(service)
    client.proven()
    service.ends_at("a", 50.0)
    await client.made("a")
    await asyncio.sleep(20.0)
    assert 0.0 == (client.bell.expects("b", URL), client.bell.rest("b"))[1]
    client.bell.hear("a", None)
    assert 60.0 == client.bell.rest("b")
    await client.aclose()


@in_virtual_time
async def test_trust_belongs_to_an_origin() -> None:
    """That callbacks arrive at one place says nothing of another; paths and queries may differ."""
    client = Client(Service())
    client.proven()
    rests = []
    for number, url in enumerate(
        ("https://app.example/other/7?x=1", "https://app.example:8443/kie", "https://b.example/kie")
    ):
        client.bell.expects(str(number), url)
        rests.append(client.bell.rest(str(number)))
    assert [60.0, 0.0, 0.0, 0.0] == [*rests, client.bell.rest("never submitted")]
    await client.aclose()


@in_virtual_time
async def test_an_unsigned_callback_rings_and_proves_nothing() -> None:
    """Neither trust nor a nonce is taken from a callback that anybody may have sent."""
    told: list[tuple[str, str]] = []
    client = Client(Service())
    client.bell.on_nonce = lambda task_id, nonce: told.append((task_id, nonce))
    client.bell.expects("a", URL)
    client.bell.hear("a", "nonce", is_signed=False)
    client.bell.expects("b", URL)
    client.bell.hear("c", "nonce", is_signed=False)
    assert (True, 0.0, None, []) == (
        client.bell.has_rung("a"), client.bell.rest("b"), client.bell.task_of("nonce"), told,
    )  # fmt: skip
    await client.aclose()


@in_virtual_time
async def test_a_callback_before_createtasks_answer_is_remembered() -> None:
    """The wait that begins later looks at once, and the callback counts as proof."""
    service = Service()
    service.tell("t", "success")
    client = Client(service)
    client.bell.hear("t", None)
    await asyncio.sleep(5.0)
    await client.made("t")
    assert [5.0] == service.looks["t"]
    client.bell.expects("next", URL)
    assert 60.0 == client.bell.rest("next")
    await client.aclose()


@in_virtual_time
async def test_a_record_that_lags_behind_its_callback_is_asked_for_again() -> None:
    """After a ring the looks go on as after a submit, however far the poll had relaxed."""
    service = Service()
    service.ends_at("t", 47.0)
    client = Client(service)
    client.proven()
    job = client.made("t")
    await asyncio.sleep(40.0)
    client.bell.hear("t", None)
    client.bell.hear("t", None)
    await job
    assert [40.0, 42.0, 45.0, 49.5] == service.looks["t"]
    await client.aclose()


@in_virtual_time
async def test_whatever_was_learned_a_task_that_was_rung_is_asked_for_soon() -> None:
    """It has ended, however long its like take."""
    service = Service()
    durations = Durations()
    for _ in range(50):
        durations.add(3000.0, Traits())
    client = Client(service, durations=durations)
    service.ends_at("t", 107.0)
    job = client.made("t")
    await asyncio.sleep(100.0)
    client.bell.hear("t", None)
    await job
    assert [100.0, 102.0, 105.0, 109.5] == service.looks["t"][-4:]
    await client.aclose()


@in_virtual_time
async def test_a_ring_during_a_look_leads_to_another() -> None:
    """The look under way may have been answered before the end."""
    service = Service(latency=1.0)
    service.tell("t", "waiting", "success")
    client = Client(service)
    job = client.made("t")
    await asyncio.sleep(2.5)
    client.bell.hear("t", None)
    await job
    assert [2.0, 3.0] == service.looks["t"]
    await client.aclose()


@in_virtual_time
async def test_a_null_record_after_a_rest_is_pending_for_the_grace() -> None:
    """Nobody has looked for a minute: the grace counts from the first null."""
    service = Service()
    missing = TaskNotFoundError("The service has no record of the task.")
    service.tell("t", missing, missing, missing, "success")
    client = Client(service)
    client.proven()
    await client.made("t")
    assert [60.0, 63.0, 67.5, 73.5] == service.looks["t"]
    client.bell.hear("t", None)
    service.tell("gone", missing)
    with pytest.raises(TaskNotFoundError):
        await client.made("gone")
    first, *_, last = service.looks["gone"]
    assert (133.5, True) == (first, 30.0 < last - first < 37.0)
    await client.aclose()


@in_virtual_time
async def test_an_outage_after_a_rest_is_survived_for_as_long() -> None:
    """The two minutes count from the first failure, not from the last look before the rest."""
    service = Service()
    service.tell("t", ServerError("HTTP 502."))
    client = Client(service)
    client.proven()
    with pytest.raises(ServerError):
        await client.made("t")
    assert 180.0 <= now() < 187.0
    await client.aclose()


@in_virtual_time
async def test_a_recovered_task_is_looked_at_before_it_rests() -> None:
    """Its callback may have come while nobody listened."""
    service = Service()
    service.tell("t", "waiting", "success")
    client = Client(service)
    client.proven()
    client.poller.made("t", Traits(), ago=300.0)
    client.bell.expects("t", URL)
    await client.waiting("t")
    assert [2.0, 62.0] == service.looks["t"]
    await client.aclose()


@in_virtual_time
async def test_a_thousand_that_rest_cost_one_look_a_minute_each() -> None:
    """Neither patience nor the crowd looks sooner, and a ring goes before all of them."""
    service = Service()
    client = Client(service, limit=8)
    client.proven()
    jobs = []
    for number in range(200):
        service.ends_at(str(number), math.inf)
        jobs.append(client.made(str(number)))
    await asyncio.sleep(59.0)
    assert {} == dict(service.looks)
    await asyncio.sleep(30.0)
    assert {1} == {len(looks) for looks in service.looks.values()}
    service.ends_at("7", 89.0)
    client.bell.hear("7", None)
    await jobs[7]
    assert 90.0 >= now()
    await client.aclose()
    await asyncio.gather(*jobs, return_exceptions=True)


@in_virtual_time
async def test_a_hub_of_another_thread_rings_on_the_clients_loop() -> None:
    """A framework may run its handlers anywhere; the poller hears it on its own loop."""
    client = Client(Service())
    threads: list[threading.Thread] = []
    client.bell.on_ring = lambda task_id: threads.append(threading.current_thread())
    client.bell.expects("t", URL)
    thread = threading.Thread(target=client.bell.hear, args=("t", None))
    thread.start()
    thread.join()
    await asyncio.sleep(0.01)
    assert [threading.current_thread()] == threads
    await client.aclose()


def test_who_rests_is_unseen_only_from_the_end_of_the_rest() -> None:
    """Patience does not wake a task that rests, and does not forget one whose rest is over."""
    agenda: Agenda[str] = Agenda(lambda pending: 10.0)
    rest = Schedule(policy=PollPolicy()).rest(Pause(2.0, 2.0), 60.0)
    assert Pause(60.0, 60.0, rests=True) == rest
    agenda.plan("rests", rest, now=0.0)
    assert (60.0, None) == (agenda.next(1), agenda.take(59.0, 1))
    agenda.plan("busy", Pause(2.0, 2.0), now=55.0)
    assert ["busy", "rests", None] == [agenda.take(61.0, 2) for _ in range(3)]
    agenda.plan("rests", rest, now=61.0)
    for late in range(20):  # others are always due before it, and yet its turn comes
        agenda.plan("busy", Pause(0.0, -1000.0), now=121.0 + late)
        if agenda.take(121.0 + late, 2) == "rests":
            break
    assert 10 == late
    agenda.plan("rests", rest, now=200.0)
    agenda.plan("rests", AT_ONCE, now=210.0)
    assert "rests" == agenda.take(210.0, 1)
