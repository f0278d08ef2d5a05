"""Client, hub and service together, on real sockets: callbacks on, off, forged, lost and early."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from topaz_async import (
    CallbackHub,
    ConfigurationError,
    JournalError,
    PollPolicy,
    Quotas,
    ReferenceConflictError,
    RetryPolicy,
    SqliteJournal,
    SubmitUnknownError,
    TaskFailedError,
    TopazClient,
)
from topaz_async.rings import RingReader, RingWriter, rings_beside
from topaz_async.sandbox import CopyEngine, Fault, Sandbox

from .byteserver import ByteServer, Peer, accepted, http, say
from .conftest import client_of
from .receivers import KEY, Ear, body_of, signed
from .virtual_time import run_on_a_loop

#: So slow that a result within a second can only come from a ring.
SLOW = PollPolicy(first=30.0, longest=60.0)
VIDEO = "http://127.0.0.1:9/clip.mp4"  # fails at the service, which is an end like any other
UNLIMITED = Quotas(submits=None, polls=None)


@pytest.fixture
async def signing() -> AsyncIterator[Sandbox]:
    """A sandbox that signs its callbacks and copies instead of upscaling."""
    async with Sandbox(
        webhook_key=KEY,
        engine=CopyEngine(),
        callback_pause=0.05,
        submit_quota=None,
        poll_quota=None,
        credits=1e6,
    ) as running:
        yield running


@pytest.fixture
async def hub() -> CallbackHub:
    return CallbackHub(KEY)


@pytest.fixture
async def url(hub: CallbackHub) -> AsyncIterator[str]:
    """Where the hub listens."""
    async with hub.serve(port=0, path="/kie") as address:
        yield address


def listener(sandbox: Sandbox, hub: CallbackHub | None, url: str, **options: Any) -> TopazClient:
    """Return a client that hardly polls by itself."""
    settings = {"polling": SLOW, "quotas": UNLIMITED, **options}
    return client_of(sandbox, callbacks=hub, callback_url=url, **settings)


async def failed(client: TopazClient, **options: Any) -> TaskFailedError:
    """Submit, wait, and return how it ended."""
    job = await client.submit(VIDEO, **options)
    with pytest.raises(TaskFailedError) as caught:
        await client.wait_for_result(job, timeout=5.0)
    return caught.value


async def test_a_result_comes_with_the_callback(
    signing: Sandbox, hub: CallbackHub, url: str, tiny_clip: Path
) -> None:
    """Long before the first look of the poll, and from one recordInfo."""
    async with listener(signing, hub, url) as topaz:
        begun = time.monotonic()
        result = await topaz.upscale(tiny_clip, timeout=5.0)
    assert time.monotonic() - begun < 3.0
    assert 1 == signing.books.count("recordInfo")
    (task,) = signing.books.tasks.values()
    assert (result.task_id, list(result.urls)) == (task.task_id, list(task.result_urls))


async def test_the_result_comes_from_recordinfo_alone(
    signing: Sandbox, hub: CallbackHub, url: str, tiny_clip: Path
) -> None:
    """What a callback's body claims is not believed: neither a state nor a link."""
    signing.add_fault(Fault("callback", "lost", times=None))
    async with listener(signing, hub, url) as topaz:
        job = await topaz.submit((await topaz.upload(tiny_clip)).url)
        waiting = asyncio.create_task(topaz.wait_for_result(job, timeout=5.0))
        await signing.books.until(lambda books: len(books.callbacks) == 1)
        lie = {
            "taskId": job.task_id,
            "data": {"state": "fail", "resultJson": '{"resultUrls":["x"]}'},
        }
        reply = await hub.handle(signed(job.task_id), json.dumps(lie).encode())
        result = await waiting
    assert 200 == reply.status
    assert list(signing.books.tasks[job.task_id].result_urls) == list(result.urls)


async def test_forged_callbacks_wake_nobody(signing: Sandbox, hub: CallbackHub, url: str) -> None:
    """Forged, unsigned, stale and ambiguous ones are refused, and ask nothing."""
    async with listener(signing, hub, url) as topaz:
        for action in ("forged", "unsigned", "stale", "two_ids"):
            signing.add_fault(Fault("callback", action))
            job = await topaz.submit(VIDEO)
            wait = asyncio.create_task(topaz.wait_for_result(job, timeout=30.0))
            count = len(signing.books.callbacks) + 4
            await signing.books.until(lambda books, count=count: len(books.callbacks) >= count)
            wait.cancel()
    statuses = [sent.status for sent in signing.books.callbacks]
    assert [401] * 12 + [400] * 4 == statuses
    assert 0 == signing.books.count("recordInfo")


async def test_duplicates_and_the_guides_body_ring_once(
    signing: Sandbox, hub: CallbackHub, url: str
) -> None:
    """Each is answered 200, and one look is enough."""
    signing.add_fault(Fault("callback", "duplicate", copies=3))
    signing.add_fault(Fault("callback", "guide_body"))
    async with listener(signing, hub, url) as topaz:
        await failed(topaz)
        await failed(topaz)
        await signing.books.until(lambda books: len(books.callbacks) == 4)
        await asyncio.sleep(0.05)
    assert [200] * 4 == [sent.status for sent in signing.books.callbacks]
    assert 2 == signing.books.count("recordInfo")


async def test_a_callback_before_createtasks_answer_is_remembered(
    signing: Sandbox, hub: CallbackHub, url: str
) -> None:
    """The task ends while its answer is on the way; the wait that follows looks at once."""
    signing.add_fault(Fault("createTask", "slow", seconds=0.3))
    async with listener(signing, hub, url) as topaz:
        job = await topaz.submit(VIDEO)
        assert 200 == signing.books.callbacks[0].status
        with pytest.raises(TaskFailedError):
            await topaz.wait_for_result(job, timeout=2.0)


async def test_proven_callbacks_need_no_look_of_their_own(
    signing: Sandbox, hub: CallbackHub, url: str
) -> None:
    """Once one has arrived, each further job costs one recordInfo, however quick the cadence."""
    quick = PollPolicy(first=0.02, longest=0.02)
    async with listener(signing, hub, url, polling=quick) as topaz:
        await failed(topaz)
        before = signing.books.count("recordInfo")
        signing.add_fault(Fault("callback", "late", seconds=0.3, times=None))
        await asyncio.gather(*(failed(topaz, reference=str(n)) for n in range(10)))
    assert 10 == signing.books.count("recordInfo") - before


async def test_the_callback_of_a_recovered_task_is_waited_for_as_well(
    signing: Sandbox, hub: CallbackHub, url: str, tmp_path: Path
) -> None:
    """An earlier run asked for it at the same place: one look, and the next when it comes."""
    path, ear = tmp_path / "j.sqlite", Ear()
    hub.attach(ear)
    signing.add_fault(Fault("callback", "late", seconds=0.6))
    async with listener(signing, None, url, journal=path) as before:
        await before.submit(VIDEO, reference="r")
    policy = PollPolicy(first=0.02, longest=0.02)
    async with listener(signing, hub, url, polling=policy, journal=path) as topaz:
        (job,) = [job async for job in topaz.recover()]
        await failed(topaz)  # its callback proves the place
        count = signing.books.count("recordInfo")
        signing.add_fault(Fault("recordInfo", "state", state="generating"))
        with pytest.raises(TaskFailedError):
            await topaz.wait_for_result(job, timeout=5.0)
        assert 2 == signing.books.count("recordInfo") - count
        assert job.task_id in [task_id for task_id, *_ in ear.heard]


async def test_a_recovered_task_may_be_unseen_for_a_while(signing: Sandbox, tmp_path: Path) -> None:
    """As with a task of one's own, recordInfo may not know it yet."""
    path = tmp_path / "j.sqlite"
    async with client_of(signing, journal=path) as before:
        await before.submit(VIDEO, reference="r")
    signing.add_fault(Fault("recordInfo", "null_record", times=3))
    async with client_of(signing, journal=path, quotas=UNLIMITED) as topaz:
        (job,) = [job async for job in topaz.recover()]
        with pytest.raises(TaskFailedError):
            await topaz.wait_for_result(job, timeout=5.0)
    assert 4 == signing.books.count("recordInfo")


async def test_with_callbacks_switched_off_in_the_middle_every_job_resolves(
    signing: Sandbox, hub: CallbackHub, url: str
) -> None:
    """The slow look finds the first end without a callback; then polling takes over for all."""
    policy = PollPolicy(first=0.02, longest=0.05, reconcile=0.6)
    async with listener(signing, hub, url, polling=policy) as topaz:
        await failed(topaz)
        signing.add_fault(Fault("callback", "lost", times=None))
        begun = time.monotonic()
        errors = await asyncio.gather(*(failed(topaz, reference=str(n)) for n in range(50)))
        assert time.monotonic() - begun < 3.0
        begun = time.monotonic()
        await failed(topaz)
        assert time.monotonic() - begun < 0.3
    assert 50 == len({error.task_id for error in errors})


async def test_a_hub_may_serve_two_clients(signing: Sandbox, hub: CallbackHub, url: str) -> None:
    """Each hears of its own tasks, also when the other is closed."""
    async with listener(signing, hub, url) as one:
        async with listener(signing, hub, url) as other:
            await asyncio.gather(failed(one), failed(other))
        await failed(one)


async def test_each_submit_may_name_a_place_of_its_own(
    signing: Sandbox, hub: CallbackHub, url: str
) -> None:
    """The argument overrides the client's URL; both get a nonce."""
    async with listener(signing, hub, url) as topaz:
        first = await topaz.submit(VIDEO)
        second = await topaz.submit(VIDEO, callback_url=f"{url}?mine=1")
    urls = [signing.books.tasks[job.task_id].callback_url or "" for job in (first, second)]
    assert [f"{url}?topaz_nonce=", f"{url}?mine=1&topaz_nonce="] == [
        u[: u.index("topaz_nonce=") + 12] for u in urls
    ]


@pytest.mark.parametrize(
    "options",
    [
        {"callback_url": "http://app.example/kie"},
        {"callback_url": "app.example"},
        {"callback_url": ""},
        {"callback_url": 5},
        {"callbacks": "secret"},
    ],
    ids=repr,
)
def test_what_no_client_can_be_made_of(options: dict[str, Any]) -> None:
    """A URL that the service must not be given, and a hub that is none."""
    with pytest.raises(ConfigurationError):
        TopazClient("key", **options)


# -- the lost reply ---------------------------------------------------------------------------


async def test_a_lost_reply_is_found_by_its_callback(
    signing: Sandbox, hub: CallbackHub, url: str, tmp_path: Path
) -> None:
    """The callback comes while createTask's answer is awaited in vain: the submit succeeds."""
    signing.add_fault(Fault("createTask", "act_then_hang", seconds=0.3))
    async with listener(signing, hub, url, journal=tmp_path / "j.sqlite") as topaz:
        job = await topaz.submit(VIDEO, reference="order-1")
        assert [job.task_id] == list(signing.books.tasks)
        entry = await topaz.journal.find("order-1")
        assert entry is not None
        assert ("made", job.task_id) == (entry.submit, entry.task_id)
        with pytest.raises(TaskFailedError):
            await topaz.wait_for_result(job, timeout=2.0)


async def test_without_a_journal_a_lost_reply_is_found_as_well(
    signing: Sandbox, hub: CallbackHub, url: str
) -> None:
    """The order's own nonce is enough while its caller is there."""
    signing.add_fault(Fault("createTask", "act_then_hang", seconds=0.3, times=2))
    async with listener(signing, hub, url) as topaz:
        jobs = [await topaz.submit(VIDEO), await topaz.submit(VIDEO, reference="r")]
        assert jobs[1] == await topaz.submit(VIDEO, reference="r")
    assert [jobs[0].task_id, jobs[1].task_id] == list(signing.books.tasks)


async def test_a_callback_after_the_lost_reply_binds_it(
    signing: Sandbox, hub: CallbackHub, url: str, tmp_path: Path
) -> None:
    """The submit was unknown; its callback makes the reference stand for the task."""
    signing.add_fault(Fault("createTask", "lost_reply"))
    signing.add_fault(Fault("callback", "late", seconds=0.3))
    async with listener(signing, hub, url, journal=tmp_path / "j.sqlite") as topaz:
        with pytest.raises(SubmitUnknownError):
            await topaz.submit(VIDEO, reference="order-1")
        (unknown,) = [job async for job in topaz.recover()]
        await until_bound(topaz, "order-1")
        with pytest.raises(TaskFailedError):
            await unknown
        job = await topaz.submit(VIDEO, reference="order-1")
    assert [job.task_id] == list(signing.books.tasks)


async def test_consent_to_pay_twice_is_not_used_while_a_callback_knows_better(
    tmp_path: Path, tiny_clip: Path
) -> None:
    """With resubmit_unknown=True the lost task is looked for first, where callbacks are kept."""
    journal = tmp_path / "jobs.sqlite"
    late = Sandbox(
        webhook_key=KEY,
        engine=CopyEngine(),
        run_seconds=0.5,
        faults=[Fault("createTask", "lost_reply")],
    )
    async with late as signing, CallbackHub(KEY, journal=journal).serve(port=0) as url:
        async with listener(signing, None, url, journal=journal) as first:
            with pytest.raises(SubmitUnknownError):
                await first.submit(tiny_clip, reference="r")
        await signing.books.until(lambda books: any(each.status == 200 for each in books.callbacks))
        async with listener(signing, None, url, journal=journal) as second:
            job = await second.submit(tiny_clip, reference="r", resubmit_unknown=True)
    assert [job.task_id] == list(signing.books.tasks)


async def test_a_service_that_is_down_delays_the_binding(
    signing: Sandbox, hub: CallbackHub, url: str, tmp_path: Path
) -> None:
    """The question about the task is asked again until it is answered."""
    signing.add_fault(Fault("createTask", "lost_reply"))
    signing.add_fault(Fault("callback", "late", seconds=0.2))
    signing.add_fault(Fault("recordInfo", "answer", times=3))
    async with listener(signing, hub, url, journal=tmp_path / "j.sqlite") as topaz:
        with pytest.raises(SubmitUnknownError):
            await topaz.submit(VIDEO, reference="order-1")
        await until_bound(topaz, "order-1")
        assert 4 == signing.books.count("recordInfo")


async def test_a_callback_in_a_thread_waits_for_the_clients_first_call(
    signing: Sandbox, hub: CallbackHub, url: str, tmp_path: Path
) -> None:
    """A client that has not been used has no loop yet; what it heard is looked at later."""
    signing.add_fault(Fault("createTask", "lost_reply"))
    signing.add_fault(Fault("callback", "lost"))
    async with listener(signing, None, url, journal=tmp_path / "j.sqlite") as topaz:
        with pytest.raises(SubmitUnknownError):
            await topaz.submit(VIDEO, reference="order-1")
    ((task_id, task),) = signing.books.tasks.items()
    query = str(task.callback_url).partition("?")[2]
    async with listener(signing, hub, url, journal=tmp_path / "j.sqlite") as topaz:
        reply = await asyncio.to_thread(
            run_on_a_loop, hub.handle(signed(task_id), body_of(task_id), query=query)
        )
        assert 200 == reply.status
        assert [task_id] == [job.task_id async for job in topaz.recover()]


async def until_bound(topaz: TopazClient, reference: str) -> None:
    """Wait until the journal knows the task of a reference."""
    async with asyncio.timeout(5):
        while True:
            entry = await topaz.journal.find(reference)
            if entry is not None and entry.task_id is not None:
                return
            await asyncio.sleep(0.01)


async def test_the_callback_of_other_work_binds_nothing(
    signing: Sandbox, hub: CallbackHub, url: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The nonce stands in a URL, which nobody signs: the record must agree on model and input."""
    signing.add_fault(Fault("createTask", "lost_reply"))
    signing.add_fault(Fault("callback", "lost", times=None))
    async with listener(signing, hub, url, journal=tmp_path / "j.sqlite") as topaz:
        with pytest.raises(SubmitUnknownError):
            await topaz.submit(VIDEO, reference="order-1")
        entry = await topaz.journal.find("order-1")
        assert entry is not None
        # Other work, whose record tells of no URL; the same work, bought by another submit.
        for place, options in ((None, {"factor": 4}), (url, {})):
            other = await client_submit(signing, place, **options)
            query = f"topaz_nonce={entry.intent.nonce}"
            await hub.handle(signed(other), body_of(other), query=query)
            async with asyncio.timeout(5):
                while f"task {other} came with the nonce" not in caplog.text:
                    await asyncio.sleep(0.01)
            assert entry == await topaz.journal.find("order-1")


async def client_submit(sandbox: Sandbox, url: str | None, **options: Any) -> str:
    """Submit with a client of its own, and return the task's id."""
    async with client_of(sandbox, callback_url=url) as other:
        return (await other.submit(VIDEO, **options)).task_id


async def test_bind_finds_the_attempt_by_its_nonce(
    signing: Sandbox, hub: CallbackHub, url: str, tmp_path: Path
) -> None:
    """Of two unknown attempts at one reference the record's callback URL tells which one it was."""
    signing.add_fault(Fault("createTask", "lost_reply", times=2))
    signing.add_fault(Fault("callback", "lost", times=None))
    async with listener(signing, hub, url, journal=tmp_path / "j.sqlite") as topaz:
        for again in (False, True):
            with pytest.raises(SubmitUnknownError):
                await topaz.submit(VIDEO, reference="r", resubmit_unknown=again)
        first, second = signing.books.tasks
        stranger = await client_submit(signing, url)
        with pytest.raises(ReferenceConflictError):
            await topaz.bind("r", stranger)
        for task_id in (first, second, first):
            assert task_id == (await topaz.bind("r", task_id)).task_id
        bound = [(e.intent.nonce, e.task_id) for e in await topaz.journal.jobs("made")]
        assert {first, second} == {task_id for _, task_id in bound}
        for nonce, task_id in bound:
            assert f"={nonce}" in str(signing.books.tasks[str(task_id)].callback_url)
        with pytest.raises(JournalError):
            await topaz.bind("never", first)


async def test_what_one_attempt_has_made_is_not_bought_again_for_another_that_was_lost(
    signing: Sandbox, hub: CallbackHub, url: str, tmp_path: Path
) -> None:
    """Of two lost attempts the first is found: the reference stands for its task."""
    signing.add_fault(Fault("createTask", "lost_reply", times=2))
    signing.add_fault(Fault("callback", "lost", times=None))
    async with listener(signing, hub, url, journal=tmp_path / "j.sqlite") as topaz:
        for again in (False, True):
            with pytest.raises(SubmitUnknownError):
                await topaz.submit(VIDEO, reference="r", resubmit_unknown=again)
        first, _ = signing.books.tasks
        await topaz.bind("r", first)
        for consent in (True, False):
            job = await topaz.submit(VIDEO, reference="r", resubmit_unknown=consent)
            assert first == job.task_id
        with pytest.raises(TaskFailedError):  # and then the other is all there is
            await job
        with pytest.raises(SubmitUnknownError):
            await topaz.submit(VIDEO, reference="r")
    assert 2 == len(signing.books.tasks)


async def test_bind_takes_no_attempt_of_another_reference(
    signing: Sandbox, url: str, tmp_path: Path
) -> None:
    """The same work was lost under two references: the callback URL tells the tasks apart."""
    signing.add_fault(Fault("createTask", "lost_reply", times=2))
    signing.add_fault(Fault("callback", "lost", times=None))
    async with listener(signing, None, url, journal=tmp_path / "j.sqlite") as topaz:
        for reference in ("a", "b"):
            with pytest.raises(SubmitUnknownError):
                await topaz.submit(VIDEO, reference=reference)
        of_a, of_b = signing.books.tasks
        with pytest.raises(ReferenceConflictError, match="is not what 'a' submitted"):
            await topaz.bind("a", of_b)
        assert [] == await topaz.journal.jobs("made")
        for reference, task_id in (("b", of_b), ("a", of_a)):
            await topaz.bind(reference, task_id)
            entry = await topaz.journal.find(reference)
            assert entry is not None
            assert task_id == entry.task_id


async def test_bind_takes_the_lost_attempt_and_not_the_refused_one_before_it(
    signing: Sandbox, url: str, tmp_path: Path
) -> None:
    """A submit that is sent again has the nonce of the attempt that was refused."""
    signing.add_fault(Fault("createTask", "answer", code=455, msg="maintenance"))
    signing.add_fault(Fault("createTask", "lost_reply", times=2))
    signing.add_fault(Fault("callback", "lost", times=None))
    options = {"journal": tmp_path / "j.sqlite", "retry": RetryPolicy(first=0.01)}
    async with listener(signing, None, url, **options) as topaz:
        for again in (False, True):
            with pytest.raises(SubmitUnknownError):
                await topaz.submit(VIDEO, reference="r", resubmit_unknown=again)
        first, _ = signing.books.tasks
        await topaz.bind("r", first)
        entries = await topaz.journal.jobs()
    assert sorted([("refused", None), ("made", first), ("unknown", None)]) == sorted(
        (entry.submit, entry.task_id) for entry in entries
    )


# -- between processes ------------------------------------------------------------------------


def test_rings_are_read_once_whoever_writes(tmp_path: Path) -> None:
    """Two writers, two readers, a line that was cut off, and lines that are none."""
    path = rings_beside(tmp_path / "j.sqlite")
    assert path == str((tmp_path / "j.sqlite").resolve()) + "-rings"
    early = RingReader(path)
    assert [] == early.read()
    one, other = RingWriter(path), RingWriter(path)
    one.ring("a", "n1")
    with open(path, "ab") as file:
        file.write(b"cut")
    other.ring("日本", None)
    with open(path, "ab") as file:
        file.write(b"\n\xff\xfe n\n\n null\nid n\x00\n")
    rings = [("a", "n1"), ("cut", None), ("日本", None), ("id", None)]
    assert rings == early.read() == RingReader(path).read()
    one.ring("b", None)
    assert ([("b", None)], []) == (early.read(), early.read())
    assert 0o600 == os.stat(path).st_mode & 0o777


@pytest.mark.parametrize("count", [1, 9])
def test_another_file_with_the_number_of_the_old_one_is_read_from_its_start(
    tmp_path: Path, count: int
) -> None:
    """Systems give the numbers of files that are gone away again."""
    path = tmp_path / "rings"
    reader = RingReader(str(path))
    for name in ("a", "b", "c"):
        RingWriter(str(path)).ring(f"old-{name}", None)
    assert 3 == len(reader.read())
    path.write_bytes(b"")  # as a new file in the place of the old one
    names = [f"new-{number}" for number in range(count)]
    for name in names:
        RingWriter(str(path)).ring(name, None)
    assert names == [task_id for task_id, _ in reader.read()]
    assert [] == reader.read()


def test_who_reads_seldom_misses_no_file_that_was_put_aside(tmp_path: Path) -> None:
    """Files were filled and put aside since the last read; the last of them is still there."""
    path = str(tmp_path / "rings")
    reader = RingReader(path)
    RingWriter(path).ring("a", None)
    assert [("a", None)] == reader.read()
    RingWriter(path).ring("b", None)
    RingWriter(path, largest=1).ring("c", None)  # all three are put aside
    RingWriter(path, largest=1).ring("d", None)  # and now this one, over them
    RingWriter(path).ring("e", None)
    assert [("d", None), ("e", None)] == reader.read()
    RingWriter(path, largest=1).ring("f", None)
    assert [("f", None)] == reader.read()
    assert [] == reader.read()
    RingWriter(path).ring("g", None)
    assert [("g", None)] == reader.read()


def test_a_slow_writers_ring_in_a_file_put_aside_is_read(tmp_path: Path) -> None:
    """It had opened the file before another one put it aside."""
    path = tmp_path / "rings"
    reader = RingReader(str(path))
    RingWriter(str(path), largest=1).ring("a", None)
    RingWriter(str(path)).ring("b", None)
    assert [("a", None), ("b", None)] == reader.read()
    with open(f"{path}.old", "ab") as file:
        file.write(b"\nlate n\n")
    assert [("late", "n")] == reader.read()
    assert [] == reader.read()


def test_two_writers_that_see_a_full_file_put_it_aside_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second time would put the next, nearly empty one over it."""
    path = str(tmp_path / "rings")
    usual, nested = RingWriter._put_aside, [True]

    def late(writer: RingWriter, handle: int) -> None:
        if nested.pop() if nested else False:  # another one is quicker
            RingWriter(path, largest=1).ring("b", None)
            RingWriter(path).ring("c", None)
        usual(writer, handle)

    monkeypatch.setattr(RingWriter, "_put_aside", late)
    RingWriter(path, largest=1).ring("a", None)
    assert [("a", None), ("b", None), ("c", None)] == RingReader(path).read()


def test_a_pipe_in_the_place_of_the_rings_makes_nobody_wait(tmp_path: Path) -> None:
    path = tmp_path / "rings"
    os.mkfifo(path)
    assert [] == RingReader(str(path)).read()


def test_a_file_of_rings_stays_small(tmp_path: Path) -> None:
    """A full file is put aside; readers read it to its end and go on with the new one."""
    path = str(tmp_path / "rings")
    writer, reader = RingWriter(path, largest=100), RingReader(path)
    got = []
    for number in range(100):
        writer.ring(f"task-{number}", None)
        if number % 7 == 0:
            got += reader.read()
    got += reader.read()
    assert [f"task-{number}" for number in range(100)][-10:] == [task_id for task_id, _ in got][
        -10:
    ]
    assert len(got) == len(set(got)) > 50
    assert max(os.stat(tmp_path / name).st_size for name in os.listdir(tmp_path)) < 150


def test_a_journal_in_memory_hands_nothing_on() -> None:
    """There is no file that another process could see."""
    assert None is rings_beside(SqliteJournal(None))
    assert None is rings_beside(None)
    with pytest.raises(ConfigurationError):
        CallbackHub(KEY, journal=SqliteJournal(None))


async def test_a_ring_that_cannot_be_handed_on_is_still_taken(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The callback is answered 200: the other process polls."""
    hub = CallbackHub(KEY, journal=tmp_path / "no" / "j.sqlite")
    assert 200 == (await hub.handle(signed("a"), body_of("a"))).status
    assert "could not be handed on" in caplog.text


#: A web process: takes callbacks on a port, and never talks to the service.
RECEIVER = """
import asyncio, sys
from topaz_async import CallbackHub

async def main():
    hub = CallbackHub("example-hmac-key", journal=sys.argv[1])
    async with hub.serve(port=0, path="/kie") as url:
        print(url, flush=True)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)

asyncio.run(main())
"""


@pytest.fixture
async def elsewhere(tmp_path: Path) -> AsyncIterator[str]:
    """The URL of a hub in a process of its own, which keeps the journal `j.sqlite`."""
    process = subprocess.Popen(
        [sys.executable, "-W", "error", "-c", RECEIVER, str(tmp_path / "j.sqlite")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    yield (await asyncio.to_thread(process.stdout.readline)).strip()
    await asyncio.to_thread(process.communicate, "", timeout=10)
    assert 0 == process.returncode


async def test_a_callback_reaches_the_process_that_waits(
    signing: Sandbox, elsewhere: str, tmp_path: Path
) -> None:
    """The web process receives it, this one waits and is rung; then it relaxes like any other."""
    quick = PollPolicy(first=0.02, longest=0.02, reconcile=30.0)
    journal = tmp_path / "j.sqlite"
    async with listener(signing, None, elsewhere, journal=journal) as topaz:
        await failed(topaz)
    assert 1 == signing.books.count("recordInfo")
    signing.add_fault(Fault("callback", "late", seconds=0.3, times=None))
    async with listener(signing, None, elsewhere, journal=journal, polling=quick) as topaz:
        await failed(topaz, reference="first")  # polled, for nothing is proven to this client yet
        before = signing.books.count("recordInfo")
        await asyncio.sleep(0.6)
        await failed(topaz, reference="second")
    assert 1 == signing.books.count("recordInfo") - before


@pytest.mark.parametrize("way", ["submit", "recover"])
async def test_a_lost_reply_is_found_across_processes_and_restarts(
    signing: Sandbox, elsewhere: str, tmp_path: Path, way: str
) -> None:
    """The callback came while no client ran; the next `submit()` or `recover()` knows the task."""
    signing.add_fault(Fault("createTask", "lost_reply"))
    signing.add_fault(Fault("callback", "late", seconds=0.2))
    journal = tmp_path / "j.sqlite"
    async with listener(signing, None, elsewhere, journal=journal) as topaz:
        with pytest.raises(SubmitUnknownError):
            await topaz.submit(VIDEO, reference="order-1")
    await signing.books.until(lambda books: len(books.callbacks) == 1)
    async with listener(signing, None, elsewhere, journal=journal) as topaz:
        if way == "submit":
            job = await topaz.submit(VIDEO, reference="order-1")
        else:
            (job,) = [job async for job in topaz.recover()]
        assert ([job.task_id], False) == (list(signing.books.tasks), job.unknown)
        with pytest.raises(TaskFailedError):
            await topaz.wait_for_result(job, timeout=2.0)


def test_a_new_reader_reads_what_was_put_aside(tmp_path: Path) -> None:
    """A process that starts just after a file was full still finds its rings, once."""
    path = str(tmp_path / "rings")
    RingWriter(path, largest=1).ring("one", "n1")
    assert not os.path.exists(path)
    reader = RingReader(path)
    assert [("one", "n1")] == reader.read()
    RingWriter(path).ring("two", "n2")
    assert [("two", "n2")] == reader.read()
    assert [("one", "n1"), ("two", "n2")] == RingReader(path).read()
    assert [] == reader.read()


class Unbindable(SqliteJournal):
    """A journal that takes no task id until it may."""

    may_bind = False

    async def bind(self, entry_id: int, task_id: str) -> None:
        if not self.may_bind:
            raise JournalError("The disk is full.")
        await super().bind(entry_id, task_id)


async def test_what_a_callback_told_is_written_down_as_soon_as_it_can_be(
    signing: Sandbox, hub: CallbackHub, url: str, tmp_path: Path
) -> None:
    """The caller gets the job although the journal is full; the next process gets it too."""
    signing.add_fault(Fault("createTask", "act_then_hang", seconds=0.3))
    journal = Unbindable(tmp_path / "j.sqlite")
    async with listener(signing, hub, url, journal=journal) as topaz:
        job = await topaz.submit(VIDEO, reference="order-1")
        assert [job.task_id] == list(signing.books.tasks)
        journal.may_bind = True
    entry = await journal.find("order-1")
    assert entry is not None
    assert ("made", job.task_id) == (entry.submit, entry.task_id)
    await journal.aclose()


class Unreachable:
    """A service that loses the answer to createTask, calls back, and then cannot be asked."""

    def __init__(self, hub: CallbackHub) -> None:
        self.hub, self.is_down, self.submits = hub, True, list[dict[str, Any]]()

    async def __call__(self, peer: Peer) -> None:
        while True:
            seen = await peer.request()
            if "createTask" in seen.path:
                body = json.loads(seen.body)
                self.submits.append(body)
                if len(self.submits) > 1:
                    await peer.send(accepted("task-2"))
                    continue
                headers, content = signed("task-1"), body_of("task-1")
                query = body["callBackUrl"].partition("?")[2]
                assert 200 == (await self.hub.handle(headers, content, query=query)).status
                peer.rst()
                return
            if self.is_down:
                await peer.send(http(b"bad gateway", "502 Bad Gateway"))
                continue
            asked = self.submits[0]
            record = {"taskId": "task-1", "model": asked["model"], "state": "waiting"}
            await peer.send(say({**record, "param": json.dumps(asked)}))


async def test_a_task_that_a_callback_has_named_is_neither_forgotten_nor_paid_again(
    hub: CallbackHub, tmp_path: Path
) -> None:
    """Its recordInfo fails for a moment: the error names it, and consent does not pass it over."""
    service = Unreachable(hub)
    async with (
        ByteServer(service) as server,
        TopazClient(
            "key-of-a-test",
            base_url=server.url,
            journal=tmp_path / "j.sqlite",
            callbacks=hub,
            callback_url="https://bot.example/kie",
            retry=RetryPolicy(attempts=2, first=0.001, longest=0.002),
        ) as topaz,
    ):
        for consent in (False, True):
            with pytest.raises(SubmitUnknownError) as caught:
                await topaz.submit(VIDEO, reference="order-1", resubmit_unknown=consent)
            assert ("task-1", "unknown") == (caught.value.task_id, caught.value.billed)
            assert "bind('order-1', 'task-1')" in str(caught.value)
        service.is_down = False
        job = await topaz.submit(VIDEO, reference="order-1", resubmit_unknown=True)
        assert ("task-1", 1) == (job.task_id, len(service.submits))


async def test_a_callback_that_came_while_no_client_listened_is_not_lost(
    signing: Sandbox, hub: CallbackHub, url: str, tmp_path: Path
) -> None:
    """One hub for the whole program, a client for each job: the next one finds the task."""
    signing.add_fault(Fault("createTask", "lost_reply"))
    signing.add_fault(Fault("callback", "late", seconds=0.3))
    async with listener(signing, hub, url, journal=tmp_path / "j.sqlite") as topaz:
        with pytest.raises(SubmitUnknownError):
            await topaz.submit(VIDEO, reference="order-1")
    await signing.books.until(lambda books: books.callbacks)
    async with listener(signing, hub, url, journal=tmp_path / "j.sqlite") as topaz:
        job = await topaz.submit(VIDEO, reference="order-1")
    assert [job.task_id] == list(signing.books.tasks)
