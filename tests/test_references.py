"""One reference, one task: in one client, in several, and after a restart."""

from __future__ import annotations

import asyncio
import logging
import pickle
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import attrs
import pytest

from topaz_async import (
    Budget,
    BudgetError,
    ClientClosedError,
    ConfigurationError,
    InsufficientCreditsError,
    InvalidInputError,
    JournalError,
    LinkExpiredError,
    Quotas,
    ReferenceConflictError,
    SqliteJournal,
    SubmitUnknownError,
    TaskFailedError,
    TopazClient,
    WaitTimeoutError,
)
from topaz_async.memory import Memory
from topaz_async.ports import Claim, Entry, Intent
from topaz_async.sandbox import CopyEngine, Fault, Sandbox
from topaz_async.survival import Traits

from .byteserver import ByteServer, Peer, answer, http, say, until
from .conftest import client_of


@pytest.fixture
async def journal(tmp_path: Path) -> AsyncIterator[SqliteJournal]:
    """A journal on disk."""
    kept = SqliteJournal(tmp_path / "jobs.sqlite")
    yield kept
    await kept.aclose()


@pytest.fixture
async def keeper(sandbox: Sandbox, journal: SqliteJournal) -> AsyncIterator[TopazClient]:
    """A client that keeps a journal."""
    async with client_of(sandbox, journal=journal) as client:
        yield client


async def test_the_same_reference_twice_is_one_task(
    keeper: TopazClient, sandbox: Sandbox, clip: Path
) -> None:
    """A second submit of the same work returns the first one's job, pending or done."""
    first = await keeper.submit(clip, reference="order-17")
    again = await keeper.submit(clip, reference="order-17")
    await first
    done = await keeper.submit(clip, reference="order-17")
    assert first == again == done
    assert [first.task_id] == list(sandbox.books.billed)
    assert 1 == sandbox.books.count("file-stream-upload")


@pytest.mark.parametrize("kept", [True, False])
async def test_forty_callers_at_once_are_one_task(
    sandbox: Sandbox, clip: Path, tmp_path: Path, kept: bool
) -> None:
    """With a journal and without one, forty submits of a reference pay once."""
    path = tmp_path / "jobs.sqlite" if kept else None
    async with client_of(sandbox, journal=path) as client:
        jobs = await asyncio.gather(*(client.submit(clip, reference="order-17") for _ in range(40)))
    assert 1 == len({job.task_id for job in jobs}) == len(sandbox.books.billed)
    assert 1 == sandbox.books.count("file-stream-upload")


async def test_two_clients_of_one_journal_are_one_task(
    sandbox: Sandbox, clip: Path, tmp_path: Path
) -> None:
    """While one client sends, the other waits for its answer."""
    sandbox.add_fault(Fault("createTask", "slow", seconds=0.3))
    path = tmp_path / "jobs.sqlite"
    async with client_of(sandbox, journal=path) as one, client_of(sandbox, journal=path) as two:
        jobs = await asyncio.gather(
            *(client.submit(clip, reference="order-17") for client in (one, two) * 5)
        )
    assert 1 == len({job.task_id for job in jobs}) == len(sandbox.books.billed)


async def test_a_reference_outlives_the_client(
    sandbox: Sandbox, clip: Path, tmp_path: Path
) -> None:
    """After a restart the same call waits for the task that was paid for."""
    for _ in range(2):
        async with client_of(sandbox, journal=tmp_path / "jobs.sqlite") as client:
            result = await client.upscale(clip, reference="order-17")
            assert "order-17" == result.reference
    assert 1 == len(sandbox.books.billed)


async def test_a_renamed_file_keeps_its_fingerprint(
    keeper: TopazClient, clip: Path, tmp_path: Path
) -> None:
    """The bytes count, not the name; another factor or other bytes are other work."""
    first = await keeper.submit(clip, reference="r")
    copy = tmp_path / "copy.mp4"
    copy.write_bytes(clip.read_bytes())
    assert first == await keeper.submit(copy, reference="r")
    with pytest.raises(ReferenceConflictError) as caught:
        await keeper.submit(clip, factor=4, reference="r")
    assert ("r", first.task_id) == (caught.value.reference, caught.value.task_id)
    copy.write_bytes(clip.read_bytes() + b"\0")
    with pytest.raises(ReferenceConflictError):
        await keeper.submit(copy, reference="r")


async def test_a_signed_link_is_the_same_work_with_another_signature(
    keeper: TopazClient, clip: Path
) -> None:
    """The URL's query is no part of the fingerprint; a fingerprint of one's own decides alone."""
    url = (await keeper.upload(clip)).url
    first = await keeper.submit(f"{url}?sig=a", reference="r")
    assert first == await keeper.submit(f"{url}?sig=b", reference="r")
    other = await keeper.submit(f"{url}?1", reference="own", fingerprint="x")
    assert other == await keeper.submit("https://else.where/", reference="own", fingerprint="x")


async def test_a_refused_reference_is_free_again(
    keeper: TopazClient, sandbox: Sandbox, clip: Path
) -> None:
    """What bought nothing may be tried again under the same name."""
    sandbox.add_fault(Fault("createTask", "answer", code=402, msg="insufficient"))
    with pytest.raises(InsufficientCreditsError):
        await keeper.submit(clip, reference="r")
    await keeper.submit(clip, reference="r")
    assert 1 == len(sandbox.books.billed)


async def test_an_unknown_reference_stays_unknown_until_consent(
    keeper: TopazClient, sandbox: Sandbox, clip: Path
) -> None:
    """Nothing is sent for it again but with resubmit_unknown=True."""
    sandbox.add_fault(Fault("createTask", "lost_reply_close"))
    for _ in range(3):
        with pytest.raises(SubmitUnknownError) as caught:
            await keeper.submit(clip, reference="r")
        assert ("r", "unknown") == (caught.value.reference, caught.value.billed)
        assert caught.value.fingerprint
        assert caught.value.sent_at is not None
    assert 1 == sandbox.books.count("createTask")
    await keeper.submit(clip, reference="r", resubmit_unknown=True)
    assert 2 == sandbox.books.count("createTask")


async def test_consent_is_for_what_was_unknown_when_it_was_given(
    keeper: TopazClient, sandbox: Sandbox
) -> None:
    """Of forty callers who all consent, one submits; what it leaves unknown is new to them all."""
    url = "https://files.example/a.mp4"
    sandbox.add_fault(Fault("createTask", "lost_reply_close", times=40))

    async def all_forty() -> set[type]:
        outcomes = await asyncio.gather(
            *(keeper.submit(url, reference="r", resubmit_unknown=True) for _ in range(40)),
            return_exceptions=True,
        )
        return {type(outcome) for outcome in outcomes}

    for tasks in (1, 2):
        assert {SubmitUnknownError} == await all_forty()
        assert tasks == len(sandbox.books.tasks)


async def test_two_clients_who_consent_to_the_same_buy_once(
    sandbox: Sandbox, clip: Path, tmp_path: Path
) -> None:
    """Consent is for one attempt that nobody knows of, not for what another client has made of
    it meanwhile.
    """

    class Asked(SqliteJournal):
        async def claim(self, intent: Intent, **consent: Any) -> Claim:
            asked.append(consent["consented_to"])
            return await super().claim(intent, **consent)

    asked: list[int | None] = []
    journal, path = Asked(tmp_path / "jobs.sqlite"), tmp_path / "jobs.sqlite"
    sandbox.add_fault(Fault("createTask", "lost_reply_close", times=9))
    async with (
        client_of(sandbox, journal=journal) as one,
        client_of(sandbox, journal=path) as other,
    ):
        with pytest.raises(SubmitUnknownError):
            await one.submit(clip, reference="r")
        outcomes = await asyncio.gather(
            *(
                client.submit(clip, reference="r", resubmit_unknown=True)
                for client in (one, other, one, other)
            ),
            return_exceptions=True,
        )
    await journal.aclose()
    assert {SubmitUnknownError} == {type(outcome) for outcome in outcomes}
    assert 2 == len(sandbox.books.tasks)
    assert {None, 1} >= set(asked)


async def test_who_waits_for_a_reference_gets_no_other_work(tmp_path: Path) -> None:
    """A reference that is refused and taken for other work meanwhile is a conflict to the one
    who waited for it, not somebody else's video.
    """
    go_on, looks_again = asyncio.Event(), asyncio.Event()
    looks_again.set()
    looks = list[str]()

    class Slow(SqliteJournal):
        async def find(self, reference: str) -> Entry | None:
            while True:
                await looks_again.wait()
                found = await super().find(reference)
                looks.append(reference)
                if looks_again.is_set():
                    return found

    async def refuse_late(peer: Peer) -> None:
        await peer.request()
        await go_on.wait()
        await peer.send(say(None, 402, "insufficient"))

    urls = [f"https://files.example/{name}.mp4" for name in "ab"]
    path = tmp_path / "jobs.sqlite"
    slow = Slow(path)
    async with (
        ByteServer(refuse_late, answer(say({"taskId": "task-b"}))) as server,
        TopazClient("key", base_url=server.url, journal=path) as one,
        TopazClient("key", base_url=server.url, journal=slow) as other,
    ):
        first = asyncio.create_task(one.submit(urls[0], reference="r"))
        await until(lambda: server.requests)
        waiting = asyncio.create_task(other.submit(urls[0], reference="r"))
        await until(lambda: len(looks) > 1)  # it waits for what the first will be answered
        looks_again.clear()
        go_on.set()
        with pytest.raises(InsufficientCreditsError):
            await first
        assert "task-b" == (await one.submit(urls[1], reference="r")).task_id
        looks_again.set()
        with pytest.raises(ReferenceConflictError):
            await waiting
        assert 2 == len(server.requests)
    await slow.aclose()


async def test_a_failed_task_is_returned_unless_asked_for_again(
    keeper: TopazClient, sandbox: Sandbox, clip: Path
) -> None:
    """resubmit_failed=True makes a new task; otherwise the failed job comes back."""
    sandbox.add_fault(Fault("createTask", "fail", fail_code="500", fail_msg="Internal Error"))
    job = await keeper.submit(clip, reference="r")
    with pytest.raises(TaskFailedError) as caught:
        await job
    assert "r" == caught.value.reference
    assert job == await keeper.submit(clip, reference="r")
    again = await keeper.submit(clip, reference="r", resubmit_failed=True)
    assert job != again
    await again


async def test_recover_goes_on_where_the_crash_was(
    sandbox: Sandbox, clip: Path, tmp_path: Path
) -> None:
    """Pending tasks are awaited, unknown submits say so, nothing is submitted."""
    path = tmp_path / "jobs.sqlite"
    async with client_of(sandbox, journal=path) as client:
        pending = await client.submit(clip, reference="pending")
        await client.upscale(clip, factor=1, reference="done")
        sandbox.add_fault(Fault("createTask", "lost_reply_close"))
        with pytest.raises(SubmitUnknownError):
            await client.submit(clip, factor=4, reference="lost")
    async with client_of(sandbox, journal=path) as client:
        jobs = {job.reference: job async for job in client.recover()}
        assert {"pending", "lost"} == set(jobs)
        assert pending.task_id == (await jobs["pending"]).task_id
        assert jobs["lost"].unknown
        assert jobs["lost"] == pickle.loads(pickle.dumps(jobs["lost"]))
        with pytest.raises(SubmitUnknownError, match="lost"):
            await jobs["lost"]
        assert ["lost"] == [job.reference async for job in client.recover()]
    assert 3 == sandbox.books.count("createTask")


async def test_bind_takes_only_the_task_that_was_submitted(
    keeper: TopazClient, sandbox: Sandbox, clip: Path
) -> None:
    """A lost task found by hand is bound once recordInfo agrees on model and input."""
    other = await keeper.submit(clip, factor=1)
    sandbox.add_fault(Fault("createTask", "lost_reply_close"))
    with pytest.raises(SubmitUnknownError):
        await keeper.submit(clip, factor=4, reference="lost")
    lost = next(task_id for task_id in sandbox.books.billed if task_id != other.task_id)
    with pytest.raises(ReferenceConflictError):
        await keeper.bind("lost", other.task_id)
    with pytest.raises(JournalError, match="never"):
        await keeper.bind("never", lost)
    job = await keeper.bind("lost", lost)
    assert ("lost", lost) == (job.reference, (await job).task_id)
    assert job == await keeper.submit(clip, factor=4, reference="lost")


async def test_bind_leaves_the_task_of_another_reference_alone(
    keeper: TopazClient, sandbox: Sandbox
) -> None:
    """The same work under two names is two tasks: one is not bound as the other."""
    url = "https://files.example/a.mp4"
    first = await keeper.submit(url, reference="one")
    sandbox.add_fault(Fault("createTask", "lost_reply_close"))
    with pytest.raises(SubmitUnknownError):
        await keeper.submit(url, reference="two")
    with pytest.raises(ReferenceConflictError, match="that of 'one' already"):
        await keeper.bind("two", first.task_id)
    (lost,) = set(sandbox.books.tasks) - {first.task_id}
    assert lost == (await keeper.bind("two", lost)).task_id


async def test_a_known_reference_whose_files_are_gone(
    keeper: TopazClient, sandbox: Sandbox, clip: Path, tmp_path: Path
) -> None:
    """Its link is renewed; where that leads nowhere, the error says so and nothing is bought."""
    await keeper.upscale(clip, reference="order-17")
    sandbox.add_fault(Fault("files", "expired", times=1))
    result = await keeper.upscale(clip, reference="order-17", output=tmp_path / "a.mp4")
    assert result.path is not None
    sandbox.add_fault(Fault("files", "expired", times=99))
    with pytest.raises(LinkExpiredError) as caught:
        await keeper.upscale(clip, reference="order-17", output=tmp_path / "b.mp4")
    assert (result.task_id, "yes") == (caught.value.task_id, caught.value.billed)
    assert [result.task_id] == list(sandbox.books.billed)


async def test_after_a_429_a_whole_window_passes(sandbox: Sandbox) -> None:
    """The client that a user makes waits for the service's window, and not for a short pause."""
    sandbox.add_fault(Fault("createTask", "answer", code=429, msg="Rate limit exceeded"))
    async with client_of(sandbox, quotas=Quotas(submit_window=0.6)) as client:
        await client.submit("https://files.example/a.mp4")
    first, second = (request.arrived for request in sandbox.books.routed("createTask"))
    assert second - first >= 0.6


async def test_a_callback_url_carries_a_nonce(
    keeper: TopazClient, sandbox: Sandbox, journal: SqliteJournal, clip: Path
) -> None:
    """Each submit's callback URL gets an opaque word, and the journal knows it."""
    url = "http://127.0.0.1:9/hook?bot=1"
    await keeper.submit(clip, reference="a", callback_url=url)
    await keeper.submit(clip, factor=1, reference="b", callback_url=url)
    nonces = [entry.intent.nonce for entry in await journal.jobs()]
    assert 2 == len(set(nonces))
    sent = [r.body for r in sandbox.books.requests if r.route == "createTask"]
    for body, nonce in zip(sent, nonces, strict=True):
        assert f"http://127.0.0.1:9/hook?bot=1&topaz_nonce={nonce}" in body


async def test_the_journal_holds_what_became_of_a_job(
    keeper: TopazClient, journal: SqliteJournal, clip: Path, tmp_path: Path
) -> None:
    """State, links, credits and path are written down, and the key is not."""
    result = await keeper.upscale(clip, reference="r", output=tmp_path / "out.mp4")
    await keeper.aclose()
    (entry,) = await journal.jobs("success")
    assert ("made", result.task_id, "success") == (entry.submit, entry.task_id, entry.state)
    assert (result.urls, str(tmp_path / "out.mp4")) == (entry.result_urls, entry.path)
    assert (1.0, clip.stat().st_size) == (entry.intent.seconds, entry.intent.size)
    assert result.credits_consumed == entry.credits_consumed
    assert b"sandbox-key" not in (tmp_path / "jobs.sqlite").read_bytes()
    assert await journal.forget("r")
    assert [] == await journal.jobs()


async def test_the_same_work_under_two_names_gives_two_files(
    sandbox: Sandbox, keeper: TopazClient, clip: Path, tmp_path: Path
) -> None:
    """A file that lies in the folder under another name is not taken for the one asked for."""
    for name in ("one.mp4", "two.mp4", "one.mp4"):
        result = await keeper.upscale(clip, reference="r", output=tmp_path / name, overwrite=True)
        assert tmp_path / name == result.path
    assert (tmp_path / "one.mp4").read_bytes() == (tmp_path / "two.mp4").read_bytes()
    assert 1 == len(sandbox.books.tasks)


async def test_a_file_in_each_folder_is_found_again(
    sandbox: Sandbox, keeper: TopazClient, clip: Path, tmp_path: Path
) -> None:
    """Work that was brought to several folders lies in all of them."""
    paths = [
        (await keeper.upscale(clip, reference="r", output=f"{tmp_path / name}/")).path
        for name in ("one", "two", "one", "two")
    ]
    assert paths[:2] == paths[2:]
    assert 2 == sum(1 for place in tmp_path.rglob("*.mp4"))
    assert 2 == sum(seen.route == "files" for seen in sandbox.books.requests)


async def test_a_journal_that_cannot_be_written_buys_nothing(
    sandbox: Sandbox, clip: Path, tmp_path: Path
) -> None:
    """JournalError comes before the POST, and before the upload where it can."""
    (tmp_path / "file").touch()
    async with client_of(sandbox, journal=tmp_path / "file" / "jobs.sqlite") as client:
        for reference in ("r", None):
            with pytest.raises(JournalError) as caught:
                await client.submit(clip, reference=reference)
            assert "no" == caught.value.billed
    assert 0 == sandbox.books.count("createTask")


async def test_without_a_journal_a_reference_says_so_once(
    topaz: TopazClient, clip: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It holds for this client; recover() and journal are ConfigurationError."""
    with caplog.at_level(logging.WARNING, "topaz_async"):
        one = await topaz.submit(clip, reference="r")
        two = await topaz.submit(clip, reference="r")
    assert one == two
    assert 1 == sum("Without a journal" in r.getMessage() for r in caplog.records)
    with pytest.raises(ConfigurationError):
        async for _ in topaz.recover():
            pass
    with pytest.raises(ConfigurationError):
        _ = topaz.journal


@pytest.mark.parametrize("reference", ["", "  ", "x" * 501, 7])
async def test_a_reference_is_a_text(topaz: TopazClient, reference: object) -> None:
    """Empty, endless and other things are refused before any network."""
    with pytest.raises(InvalidInputError):
        await topaz.submit("https://a.b/c.mp4", reference=reference)  # type: ignore[arg-type]


# -- the budget -------------------------------------------------------------------------------


async def test_max_tasks_holds_for_submits_at_once(sandbox: Sandbox, clip: Path) -> None:
    """Ten submits at once under a budget of three make three tasks."""
    async with client_of(sandbox, budget=Budget(max_tasks=3)) as client:
        url = (await client.upload(clip)).url
        outcomes = await asyncio.gather(
            *(client.submit(url) for _ in range(10)), return_exceptions=True
        )
    refused = [o for o in outcomes if isinstance(o, BudgetError)]
    assert (3, 7) == (len(sandbox.books.billed), len(refused))
    assert {"no"} == {error.billed for error in refused}


async def test_max_credits_counts_seconds_times_price(sandbox: Sandbox, clip: Path) -> None:
    """One second at 14 credits fits into 20 once; a known reference costs nothing again."""
    async with client_of(sandbox, budget=Budget(max_credits=20)) as client:
        await client.submit(clip, factor=4, reference="r")
        await client.submit(clip, factor=4, reference="r")
        with pytest.raises(BudgetError, match="14 credits"):
            await client.submit(clip, factor=4)
    assert 1 == len(sandbox.books.billed)


async def test_max_credits_needs_the_length_of_a_url(sandbox: Sandbox, clip: Path) -> None:
    """A URL's length is unknown unless it is said."""
    async with client_of(sandbox, budget=Budget(max_credits=20)) as client:
        url = (await client.upload(clip)).url
        with pytest.raises(BudgetError, match="seconds="):
            await client.submit(url)
        await client.submit(url, seconds=1.0)


async def test_what_was_refused_is_given_back_to_the_budget(sandbox: Sandbox, clip: Path) -> None:
    """A refusal frees its reservation; an unknown submit keeps it."""
    async with client_of(sandbox, budget=Budget(max_tasks=1)) as client:
        sandbox.add_fault(Fault("createTask", "answer", code=422, msg="no"))
        with pytest.raises(Exception, match="422"):
            await client.submit(clip)
        sandbox.add_fault(Fault("createTask", "lost_reply_close"))
        with pytest.raises(SubmitUnknownError):
            await client.submit(clip)
        with pytest.raises(BudgetError):
            await client.submit(clip)


async def test_min_balance_is_asked_for(clip: Path) -> None:
    """A submit that would leave too little in the account is refused."""
    async with (
        Sandbox(credits=100.0, poll_quota=None) as sandbox,
        client_of(sandbox, budget=Budget(min_balance=90.0)) as client,
    ):
        await client.submit(clip, factor=1)
        with pytest.raises(BudgetError, match="min_balance"):
            await client.submit(clip, factor=1)
        assert 1 == len(sandbox.books.billed)


async def test_a_journal_teaches_how_long_tasks_take(
    sandbox: Sandbox, clip: Path, tmp_path: Path
) -> None:
    """A new client knows the durations that an earlier one has seen, newest last."""
    path = tmp_path / "jobs.sqlite"
    async with client_of(sandbox, journal=path) as client:
        results = [await client.upscale(clip, factor=factor) for factor in (1, 2, 4)]
    journal = SqliteJournal(path)
    ended = await journal.ended(2)
    assert [entry.task_id for entry in ended] == [result.task_id for result in results[1:]]
    assert [entry.duration for entry in ended] == [r.record.duration for r in results[1:]]
    await journal.aclose()
    async with client_of(sandbox, journal=path) as client:
        await client.submit(clip, factor=4)
        parts = client._chapters._parts
        assert parts._durations.estimate(Traits(model="topaz/video-upscale", factor="4"))
        assert not await parts.memory.history()


class Forgetful(SqliteJournal):
    """A journal that cannot take the first refusal: its disk is full for a moment."""

    refusals = 0

    async def refuse(self, entry_id: int, code: int | None, words: str) -> None:
        self.refusals += 1
        if self.refusals == 1:
            raise JournalError("The journal cannot be written: the disk is full.", retryable=True)
        await super().refuse(entry_id, code, words)


async def test_a_refusal_that_was_not_written_down_does_not_hold_up_its_own_repeat(
    tmp_path: Path, tiny_clip: Path
) -> None:
    """The submit that is sent again after a 429 is not taken for somebody else's."""
    journal = Forgetful(tmp_path / "jobs.sqlite")
    fault = Fault("createTask", "answer", code=429, msg="Rate limit exceeded")
    async with (
        Sandbox(engine=CopyEngine(), submit_window=0.2, faults=[fault]) as sandbox,
        client_of(sandbox, journal=journal, quotas=Quotas(submit_window=0.2)) as topaz,
    ):
        job = await topaz.submit(tiny_clip, reference="a")
    await journal.aclose()
    assert [job.task_id] == list(sandbox.books.tasks)


async def test_an_id_that_leaves_a_doubt_is_in_every_later_error(tmp_path: Path) -> None:
    """Also after a restart: it may be all that is left of a task that is paid for."""
    broken = b'{"code":200,"msg":"success","data":{"taskId":"task-7"'
    async with ByteServer(answer(http(broken))) as server:
        for _ in range(2):
            async with TopazClient(
                "key", base_url=server.url, journal=tmp_path / "jobs.sqlite"
            ) as topaz:
                with pytest.raises(SubmitUnknownError) as caught:
                    await topaz.submit("https://x.example/a.mp4", reference="r")
                assert "task-7" == caught.value.task_id
                assert "bind('r', 'task-7')" in str(caught.value)
        assert 1 == len(server.requests)


async def test_an_unknown_submit_without_a_reference(tmp_path: Path) -> None:
    """The error says that nothing holds a second one back, and so does the recovered job."""
    async with (
        ByteServer(answer(http(b"{}"))) as server,
        TopazClient("key", base_url=server.url, journal=tmp_path / "jobs.sqlite") as topaz,
    ):
        with pytest.raises(SubmitUnknownError, match="nothing holds a second submit back"):
            await topaz.submit("https://x.example/a.mp4")
        (job,) = [job async for job in topaz.recover()]
        for ask in (job.fetch, lambda: topaz.wait_for_result(job)):
            with pytest.raises(SubmitUnknownError, match="submit without a reference") as caught:
                await ask()
            assert "unknown" == caught.value.billed
            assert "nothing holds a second submit back" in str(caught.value)


async def test_after_consent_only_the_new_task_is_recovered(
    sandbox: Sandbox, clip: Path, tmp_path: Path
) -> None:
    """The reference stands for it; nobody waits for the lost one any more."""
    sandbox.add_fault(Fault("createTask", "lost_reply_close"))
    async with client_of(sandbox, journal=tmp_path / "jobs.sqlite") as client:
        with pytest.raises(SubmitUnknownError):
            await client.submit(clip, reference="r")
        assert [True] == [job.unknown async for job in client.recover()]
        job = await client.submit(clip, reference="r", resubmit_unknown=True)
        assert [job] == [found async for found in client.recover()]
        await job
        assert [] == [found async for found in client.recover()]


async def test_who_has_not_found_out_does_not_say_that_nothing_was_billed(
    sandbox: Sandbox, clip: Path, tmp_path: Path
) -> None:
    """A call that ends while the task of its reference is being bought says that nobody knows."""
    sandbox.add_fault(Fault("createTask", "slow", seconds=0.5))
    path = tmp_path / "jobs.sqlite"
    async with client_of(sandbox, journal=path) as one:
        two = client_of(sandbox, journal=path)
        first = asyncio.create_task(one.upscale(clip, reference="r"))
        await until(lambda: sandbox.books.count("createTask") == 1)
        for client in (one, two):
            with pytest.raises(WaitTimeoutError, match="was not known yet") as caught:
                await client.upscale(clip, reference="r", total_timeout=0.1)
            error = caught.value
            assert ("unknown", "r", False) == (error.billed, error.reference, error.retryable)
        waits = asyncio.create_task(two.submit(clip, reference="r"))
        await asyncio.sleep(0.05)
        await two.aclose()
        with pytest.raises(ClientClosedError) as closed:
            await waits
        assert ("unknown", "r") == (closed.value.billed, closed.value.reference)
        await first
    assert 1 == len(sandbox.books.tasks)


async def test_before_the_post_of_a_free_reference_nothing_was_billed(
    sandbox: Sandbox, clip: Path, tmp_path: Path
) -> None:
    """Once it is known that the reference stands for nothing, a time-out says so."""
    sandbox.add_fault(Fault("file-stream-upload", "slow", seconds=0.5))
    async with client_of(sandbox, journal=tmp_path / "jobs.sqlite") as client:
        with pytest.raises(WaitTimeoutError, match="nothing was submitted") as caught:
            await client.upscale(clip, reference="r", total_timeout=0.2)
    assert ("no", "r", True) == (
        caught.value.billed, caught.value.reference, caught.value.retryable
    )  # fmt: skip
    assert 0 == sandbox.books.count("createTask")


@pytest.mark.parametrize("kept", [True, False])
async def test_consent_to_a_failed_task_buys_once(
    sandbox: Sandbox, clip: Path, tmp_path: Path, kept: bool
) -> None:
    """Of twenty callers who all want one failed task tried again, one buys."""
    sandbox.add_fault(Fault("createTask", "fail", times=99))
    async with client_of(sandbox, journal=tmp_path / "jobs.sqlite" if kept else None) as client:
        with pytest.raises(TaskFailedError):
            await client.upscale(clip, reference="r")
        again = [client.submit(clip, reference="r", resubmit_failed=True) for _ in range(20)]
        jobs = await asyncio.gather(*again)
        assert 1 == len({job.task_id for job in jobs})
        assert 2 == len(sandbox.books.tasks)
        with pytest.raises(TaskFailedError):
            await jobs[0]
        assert jobs[0] != await client.submit(clip, reference="r", resubmit_failed=True)


async def test_consent_to_a_failed_task_is_not_for_the_next_one(
    sandbox: Sandbox, clip: Path, tiny_clip: Path, tmp_path: Path
) -> None:
    """Two clients want one failed task tried again: what the first one buys and sees fail is not
    bought a third time by the second, which queued meanwhile.
    """
    sandbox.add_fault(Fault("createTask", "fail", times=99))
    path, narrow = tmp_path / "jobs.sqlite", Quotas(submits=1, submit_window=1.0)
    async with (
        client_of(sandbox, journal=path) as one,
        client_of(sandbox, journal=path, quotas=narrow) as other,
    ):
        with pytest.raises(TaskFailedError):
            await one.upscale(clip, reference="r")
        await other.submit(tiny_clip)  # its next submit queues
        late = asyncio.create_task(other.submit(clip, reference="r", resubmit_failed=True))
        await asyncio.sleep(0.1)
        with pytest.raises(TaskFailedError) as caught:
            await one.upscale(clip, reference="r", resubmit_failed=True)
        assert caught.value.task_id == (await late).task_id
    assert 3 == len(sandbox.books.tasks)


async def test_what_the_real_service_sold_is_no_task_of_the_sandbox(
    sandbox: Sandbox, clip: Path, journal: SqliteJournal
) -> None:
    """A journal of one service, taken to the other: the reference is refused, nothing is bought."""
    async with client_of(sandbox, journal=journal) as client:
        await (await client.submit(clip, reference="order-17"))
    (entry,) = await journal.jobs()
    real = SqliteJournal(journal.path + "-real" if journal.path else None)
    elsewhere = attrs.evolve(entry.intent, service="https://api.kie.ai")
    claim = await real.claim(elsewhere)
    await real.bind(claim.entry.id, "task-of-the-real-one")
    async with client_of(sandbox, journal=real) as client:
        with pytest.raises(ReferenceConflictError, match=r"https://api\.kie\.ai") as caught:
            await client.submit(clip, reference="order-17")
        assert [job async for job in client.recover()] == []
    assert ("no", "task-of-the-real-one") == (caught.value.billed, caught.value.task_id)
    assert sandbox.base_url in str(caught.value)
    assert [entry.task_id] == list(sandbox.books.billed)
    await real.aclose()


async def test_bind_takes_no_rehearsal_for_a_purchase(
    sandbox: Sandbox, tiny_clip: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """An unknown submit to the real service is none of the sandbox's tasks."""
    path = tmp_path / "jobs.sqlite"
    journal = SqliteJournal(path)
    async with client_of(sandbox, journal=journal) as topaz:
        job = await topaz.submit(tiny_clip, reference="rehearsed")
        entry = await journal.find("rehearsed")
        assert entry is not None
        real = attrs.evolve(entry.intent, reference="r", service="https://api.kie.ai")
        lost = (await journal.claim(real)).entry
        await journal.lose(lost.id, None, "reset")
        with pytest.raises(
            ReferenceConflictError, match=r"stands for work at https://api\.kie\.ai"
        ):
            await topaz.bind("r", job.task_id)
        assert ["rehearsed"] == [each.reference async for each in topaz.recover()]
        assert "submits elsewhere than" in caplog.text
        found = await journal.find("r")
        assert found is not None
        assert ("unknown", None) == (found.submit, found.task_id)
    await journal.aclose()


async def test_a_rehearsal_teaches_nothing_about_the_real_service(journal: SqliteJournal) -> None:
    """Durations of a sandbox's tasks are no history of the real service, and the other way."""
    for service in ("https://api.kie.ai", "http://127.0.0.1:8080", None):
        wanted = Intent(reference=None, fingerprint="f", model="m", service=service)
        claim = await journal.claim(wanted)
        await journal.bind(claim.entry.id, f"task of {service}")
        await journal.note(f"task of {service}", state="success", duration=60.0)
    told = {
        service: {entry.task_id for entry in await Memory(journal, service=service).history()}
        for service in ("https://gateway.example", "http://[::1]:1")
    }
    assert told == {
        "https://gateway.example": {"task of https://api.kie.ai", "task of None"},
        "http://[::1]:1": {"task of http://127.0.0.1:8080", "task of None"},
    }


async def test_of_two_references_only_one_gets_a_task(
    keeper: TopazClient, sandbox: Sandbox
) -> None:
    """Two calls that bind one task at the same time: the second is told whose it is."""
    sandbox.add_fault(Fault("createTask", "lost_reply", times=2))
    for reference in ("one", "two"):
        with pytest.raises(SubmitUnknownError):
            await keeper.submit("http://127.0.0.1:9/x.mp4", reference=reference)
    task_id = next(iter(sandbox.books.tasks))
    done = await asyncio.gather(
        keeper.bind("one", task_id), keeper.bind("two", task_id), return_exceptions=True
    )
    assert ["Job", "ReferenceConflictError"] == sorted(type(each).__name__ for each in done)


async def test_a_finished_reference_gives_no_other_work_its_file(
    keeper: TopazClient, clip: Path, tmp_path: Path
) -> None:
    """The file of a reference lies in the folder, and the same name is used for other work."""
    folder = tmp_path / "out"
    folder.mkdir()
    done = await keeper.upscale(clip, reference="order-17", output=folder)
    again = await keeper.upscale(clip, reference="order-17", output=folder)
    assert (done.task_id, done.path) == (again.task_id, again.path)
    with pytest.raises(ReferenceConflictError):
        await keeper.upscale(clip, factor=4, reference="order-17", output=folder)
