"""Lost answers that a callback tells, byte by byte: nothing known is lost while one still asks."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import attrs
import pytest

from topaz_async import (
    CallbackHub,
    JournalError,
    PollPolicy,
    Quotas,
    ReferenceConflictError,
    RetryPolicy,
    SqliteJournal,
    SubmitUnknownError,
    Timeouts,
    TopazClient,
    WaitTimeoutError,
)
from topaz_async.ports import Entry, Intent
from topaz_async.rescue import Rescue
from topaz_async.rings import RingReader, RingWriter, rings_beside

from .byteserver import ByteServer, Peer, Seen, accepted, http, no_traces, say, until
from .receivers import ID, KEY, body_of, signed

VIDEO = "https://files.example/a.mp4"
PLACE = "https://app.example/kie"

#: An answer to createTask that breaks off behind the task's id.
BROKEN = http(f'{{"code":200,"msg":"success","data":{{"taskId":"{ID}","rec'.encode(), length=500)


class Service:
    """Plays createTask as a test says, and recordInfo as long as it is not silent."""

    def __init__(self) -> None:
        self.hub = CallbackHub(KEY)
        self.created: list[dict[str, Any]] = []
        self.asked: list[str] = []
        #: Questions that are open, now and at most.
        self.at_once = self.most_at_once = 0
        #: Answers of recordInfo besides the true one.
        self.silent, self.knows_it = False, True
        self.may_tell: asyncio.Event | None = None
        #: What happens instead of the answer to the first so many.
        self.losses = 1
        self.instead: Callable[[Peer], Awaitable[None]] | None = None

    def nonce(self, number: int = 0) -> str:
        return urlsplit(self.created[number]["callBackUrl"]).query.partition("=")[2]

    async def call_back(self, task_id: str = ID, number: int = 0) -> None:
        query = f"topaz_nonce={self.nonce(number)}"
        reply = await self.hub.handle(signed(task_id), body_of(task_id), query=query)
        assert 200 == reply.status

    async def __call__(self, peer: Peer) -> None:
        while True:
            seen = await peer.request()
            if seen.path.endswith("createTask"):
                self.created.append(json.loads(seen.body))
                if len(self.created) <= self.losses:
                    if self.instead is not None:
                        await self.instead(peer)
                    return
                await peer.send(accepted(f"task-{len(self.created)}"))
            elif await self._tell(peer, seen):
                return

    async def _tell(self, peer: Peer, seen: Seen) -> bool:
        task_id = seen.path.partition("taskId=")[2]
        self.asked.append(task_id)
        if self.silent:
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)
            await peer.gone()
            self.at_once -= 1
            return True
        if self.may_tell is not None:
            await self.may_tell.wait()
        if not self.knows_it:
            await peer.send(say(None, 422, "recordInfo is null"))
            return False
        made = self.created[0]
        param = json.dumps({**made, "input": json.dumps(made["input"])})
        record = {"taskId": task_id, "model": made["model"], "state": "waiting", "param": param}
        await peer.send(say(record))
        return False


@pytest.fixture
def service() -> Service:
    return Service()


@pytest.fixture
async def server(service: Service) -> AsyncIterator[ByteServer]:
    async with no_traces(), ByteServer(service) as running:
        yield running


def client(server: ByteServer, service: Service, path: Path, **options: Any) -> TopazClient:
    settings = {
        "quotas": Quotas(submits=None),
        "callbacks": service.hub,
        "retry": RetryPolicy(first=0.01),
        **options,
    }
    return TopazClient(
        "key-of-a-test", base_url=server.url, callback_url=PLACE, journal=path, **settings
    )


async def entry_in(path: Path, reference: str = "r") -> Entry:
    """Return what another program reads in the journal."""
    journal = SqliteJournal(path)
    entry = await journal.find(reference)
    await journal.aclose()
    assert entry is not None
    return entry


async def test_an_id_in_a_broken_answer_is_written_down_before_anybody_is_asked(
    server: ByteServer, service: Service, tmp_path: Path
) -> None:
    """A kill while the service is silent must not cost it."""
    path = tmp_path / "j.sqlite"

    async def call_and_break(peer: Peer) -> None:
        await service.call_back()
        await peer.send(BROKEN)

    service.silent, service.instead = True, call_and_break
    async with client(server, service, path, timeouts=Timeouts(close=0.1)) as topaz:
        call = asyncio.create_task(topaz.submit(VIDEO, reference="r"))
        await until(lambda: service.asked)
        entry = await entry_in(path)
        # Still under way: nobody else may buy it meanwhile.
        assert ("intent", True) == (entry.submit, ID in str(entry.words))
    await asyncio.wait([call])
    assert call.exception() is not None
    entry = await entry_in(path)
    assert ("unknown", True) == (entry.submit, ID in str(entry.words))


async def test_what_cannot_be_looked_for_hides_no_answer(
    server: ByteServer, service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a thread to read the rings in, the error is still that of the submit."""

    def no_thread(reader: RingReader) -> Any:
        raise RuntimeError("can't start new thread")

    async def break_off(peer: Peer) -> None:
        await peer.send(BROKEN)

    service.instead = break_off
    async with client(server, service, tmp_path / "j.sqlite") as topaz:
        await topaz.journal.jobs()
        monkeypatch.setattr(RingReader, "read", no_thread)
        with pytest.raises(SubmitUnknownError) as caught:
            await topaz.submit(VIDEO)
        monkeypatch.undo()
    assert ID == caught.value.task_id


async def test_an_unknown_submit_that_could_not_be_written_down_is_remembered(
    server: ByteServer, service: Service, tmp_path: Path
) -> None:
    """Its id is told to the next caller, who buys nothing, with a consent or without."""

    class Full(SqliteJournal):
        async def lose(self, entry_id: int, code: int | None, words: str) -> None:
            raise JournalError("The disk is full.")

    async def break_off(peer: Peer) -> None:
        await peer.send(BROKEN)

    service.instead = break_off
    journal: Any = Full(tmp_path / "j.sqlite")
    async with client(server, service, journal) as topaz:
        for consents in (False, False, True):
            with pytest.raises(SubmitUnknownError) as caught:
                await topaz.submit(VIDEO, reference="r", resubmit_unknown=consents)
            assert (ID, "r") == (caught.value.task_id, caught.value.reference)
        with pytest.raises(ReferenceConflictError):
            await topaz.submit("https://files.example/b.mp4", reference="r")
    assert 1 == len(service.created)
    await journal.aclose()


async def test_a_lost_answer_holds_no_place_in_the_quota(
    server: ByteServer, service: Service, tmp_path: Path
) -> None:
    """While the service is silent about one task, the next is submitted."""

    async def call_and_leave(peer: Peer) -> None:
        await service.call_back()

    service.silent, service.instead = True, call_and_leave
    options = {"quotas": Quotas(submits=1, submit_window=0.05), "timeouts": Timeouts(close=0.2)}
    async with client(server, service, tmp_path / "j.sqlite", **options) as topaz:
        first = asyncio.create_task(topaz.submit(VIDEO, reference="r"))
        await until(lambda: service.asked)
        async with asyncio.timeout(5):
            assert "task-2" == (await topaz.submit(VIDEO, reference="s")).task_id
        assert not first.done()
        first.cancel()
        await asyncio.wait([first])


@pytest.mark.parametrize("silent", [False, True])
async def test_a_callback_is_heard_while_the_client_closes(
    server: ByteServer, service: Service, tmp_path: Path, silent: bool
) -> None:
    """createTask under way gets its grace, and so does the callback that tells what it came to."""
    closing = asyncio.Event()

    async def call_late(peer: Peer) -> None:
        await closing.wait()
        await service.call_back()

    service.silent, service.instead = silent, call_late
    path = tmp_path / "j.sqlite"
    topaz = client(server, service, path, timeouts=Timeouts(close=1.0))
    call = asyncio.create_task(topaz.submit(VIDEO, reference="r"))
    await until(lambda: service.created)
    ends = asyncio.create_task(topaz.aclose())
    await until(call.done)
    assert call.exception() is not None
    closing.set()
    await ends
    entry = await entry_in(path)
    assert ("unknown" if silent else "made") == entry.submit
    assert silent or ID == entry.task_id


async def test_who_leaves_takes_no_ring_along(
    server: ByteServer, service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What another process has noted is read once; a cancelled call must not lose it."""
    path = tmp_path / "j.sqlite"
    reads, may_read = list[int](), threading.Event()
    usual = RingReader.read

    def slowly(reader: RingReader) -> list[tuple[str, str | None]]:
        rings = usual(reader)
        reads.append(len(rings))
        assert may_read.wait(10)
        return rings

    async with client(server, service, path, callbacks=None) as topaz:
        with pytest.raises(SubmitUnknownError):
            await topaz.submit(VIDEO, reference="r")
        RingWriter(str(rings_beside(path))).ring(ID, service.nonce())
        monkeypatch.setattr(RingReader, "read", slowly)
        call = asyncio.create_task(topaz.submit(VIDEO, reference="r"))
        await until(lambda: any(reads))
        call.cancel()
        with suppress(asyncio.CancelledError):
            await call
        may_read.set()
        job = await topaz.submit(VIDEO, reference="r", resubmit_unknown=True)
        assert (ID, 1) == (job.task_id, len(service.created))


async def test_a_task_that_was_found_again_is_one_of_the_clients_own(
    server: ByteServer, service: Service, tmp_path: Path
) -> None:
    """A record that is not to be had for a moment does not end the wait for it."""
    polling = PollPolicy(first=0.05, longest=0.05)
    async with client(server, service, tmp_path / "j.sqlite", polling=polling) as topaz:
        with pytest.raises(SubmitUnknownError):
            await topaz.submit(VIDEO, reference="r")
        await service.call_back()
        async with asyncio.timeout(5):
            while not await topaz.journal.jobs("made"):
                await asyncio.sleep(0.01)
        service.knows_it = False
        with pytest.raises(WaitTimeoutError):
            await topaz.wait_for_result(ID, timeout=0.4)


@pytest.mark.parametrize("consents", [False, True])
async def test_nobody_else_buys_while_one_still_looks(
    server: ByteServer, service: Service, tmp_path: Path, consents: bool
) -> None:
    """Another client of the journal waits for what the first one finds out."""
    path = tmp_path / "j.sqlite"
    may_tell = asyncio.Event()

    async def call_and_leave(peer: Peer) -> None:
        await service.call_back()

    service.instead, service.may_tell = call_and_leave, may_tell
    async with (
        client(server, service, path) as one,
        client(server, service, path, callbacks=None) as other,
    ):
        first = asyncio.create_task(one.submit(VIDEO, reference="r"))
        await until(lambda: service.asked)
        second = asyncio.create_task(other.submit(VIDEO, reference="r", resubmit_unknown=consents))
        await asyncio.sleep(0.1)  # it has looked
        assert not await one.journal.jobs("made")
        may_tell.set()
        assert ID == (await first).task_id == (await second).task_id
    assert 1 == len(service.created)


async def test_a_told_task_is_kept_when_closing_cuts_the_question(
    server: ByteServer, service: Service, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The hub has acknowledged the callback, and nobody will send it again."""
    path = tmp_path / "j.sqlite"

    async def call_and_leave(peer: Peer) -> None:
        await service.call_back()

    service.silent, service.instead = True, call_and_leave
    async with client(server, service, path, timeouts=Timeouts(close=0.1)) as topaz:
        call = asyncio.create_task(topaz.submit(VIDEO, reference="r"))
        await until(lambda: service.asked)
        assert ID in str((await entry_in(path)).words)
    await asyncio.wait([call])
    assert call.exception() is not None
    entry = await entry_in(path)
    assert ("unknown", True) == (entry.submit, ID in str(entry.words))
    assert f"task {ID} may be its" in caplog.text


async def test_a_callback_that_comes_while_a_consent_waits_in_the_queue_is_not_passed_over(
    server: ByteServer, service: Service, tmp_path: Path
) -> None:
    """It was given for what nobody knew; now somebody does."""
    service.knows_it = False
    narrow = Quotas(submits=1, submit_window=0.5)
    async with client(server, service, tmp_path / "j.sqlite", quotas=narrow) as topaz:
        with pytest.raises(SubmitUnknownError):
            await topaz.submit(VIDEO, reference="r")
        again = asyncio.create_task(topaz.submit(VIDEO, reference="r", resubmit_unknown=True))
        await asyncio.sleep(0.2)  # it waits for the quota
        await service.call_back()
        with pytest.raises(SubmitUnknownError) as caught:
            await again
        assert (ID, 1) == (caught.value.task_id, len(service.created))


@pytest.mark.parametrize("grace", [0.0, 30.0])
async def test_a_named_task_that_does_not_exist_bars_the_way_for_a_while_only(
    server: ByteServer, service: Service, tmp_path: Path, grace: float
) -> None:
    """Just after the submit the service may not know its task yet; later that is an answer."""
    service.knows_it = False
    polling = PollPolicy(grace=grace)
    async with client(server, service, tmp_path / "j.sqlite", polling=polling) as topaz:
        with pytest.raises(SubmitUnknownError):
            await topaz.submit(VIDEO, reference="r")
        await service.call_back()
        if grace:
            with pytest.raises(SubmitUnknownError) as caught:
                await topaz.submit(VIDEO, reference="r", resubmit_unknown=True)
            assert ID == caught.value.task_id
        else:
            job = await topaz.submit(VIDEO, reference="r", resubmit_unknown=True)
            assert "task-2" == job.task_id


async def test_a_submit_waits_for_no_other_references(
    server: ByteServer, service: Service, tmp_path: Path
) -> None:
    """And recover() asks about many at once."""
    service.losses = count = 30
    path = tmp_path / "j.sqlite"
    async with client(server, service, path, callbacks=None) as before:
        for number in range(count):
            with pytest.raises(SubmitUnknownError):
                await before.submit(VIDEO, reference=f"r{number}")
    for number in range(count):
        RingWriter(str(rings_beside(path))).ring(f"task-of-{number}", service.nonce(number))
    service.silent = True
    options = {"timeouts": Timeouts(poll=0.5), "retry": RetryPolicy(attempts=1)}
    async with client(server, service, path, callbacks=None, **options) as topaz:
        with pytest.raises(SubmitUnknownError):
            await topaz.submit(VIDEO, reference="r29")
        assert "task-of-29" in service.asked
        assert len(set(service.asked)) < count
        service.most_at_once = 0
        assert (await anext(topaz.recover())).unknown
        assert service.most_at_once > 4


async def test_what_becomes_unknown_while_one_looks_is_not_overlooked() -> None:
    """An entry is under way, and then unknown: never neither, however the reads fall."""
    intent = Intent(reference="r", fingerprint="f", model="m", nonce="n")
    entry = Entry(id=1, intent=intent, submit="intent", created_at=datetime.now(UTC))

    class Turning:
        state = "intent"

        async def jobs(self, state: str) -> list[Entry]:
            found = [attrs.evolve(entry, submit=self.state)] if state == self.state else []
            self.state = "unknown"
            return found

    turning: Any = Turning()
    asked: list[str] = []

    async def record(task_id: str) -> Any:
        asked.append(task_id)
        raise SubmitUnknownError("The service cannot be asked.")

    wire: Any = None
    rescue = Rescue(
        wire,
        journals=lambda: [turning],
        task_of={"n": ID}.get,
        record=record,
        on_bound=lambda task_id, intent: None,
        grace=0.0,
    )
    assert {"n": ID} == await rescue.all_heard()
    assert [ID] == asked


async def test_connections_that_are_out_of_step_are_closed() -> None:
    """However often another question is answered, few connections stay open."""
    open_now, answered = 0, 0

    async def strays(peer: Peer) -> None:
        nonlocal open_now, answered
        open_now += 1
        try:
            while True:
                await peer.request()
                answered += 1
                await peer.send(say({"taskId": "another", "state": "waiting"}))
        finally:
            open_now -= 1

    policy = PollPolicy(first=0.01, longest=0.01)
    async with no_traces(), ByteServer(strays) as server:
        quotas = Quotas(polls=None)
        async with TopazClient(
            "key-of-a-test", base_url=server.url, quotas=quotas, polling=policy
        ) as topaz:
            wait = asyncio.create_task(topaz.wait_for_result("one", timeout=30))
            await until(lambda: answered > 40 or wait.done())
            assert not wait.done()
            await until(lambda: open_now < 3)
            wait.cancel()
            await asyncio.wait([wait])
