"""createTask over a socket that misbehaves: it leaves once, and its answer is never lost."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import socket
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import attrs
import pytest

from topaz_async.errors import (
    AuthenticationError,
    ClientClosedError,
    ConnectError,
    EdgeBlockedError,
    FeatureDisabledError,
    InsufficientCreditsError,
    KeyQuotaError,
    MaintenanceError,
    NotFoundError,
    RateLimitError,
    ReferenceConflictError,
    SubmitUnknownError,
    TopazError,
    ValidationError,
)
from topaz_async.limiter import SlidingWindow
from topaz_async.orders import Order, make_order
from topaz_async.ports import Answer, Claim, Entry, Intent, Request
from topaz_async.retries import RetryTokens
from topaz_async.settings import RetryPolicy, Timeouts
from topaz_async.submission import Submitter
from topaz_async.transport import Origins, Transport
from topaz_async.wire import Wire

from .byteserver import (
    BROKEN,
    KEY,
    PAGE,
    ByteServer,
    Peer,
    accepted,
    answer,
    cancel_at_every_step,
    everything_said,
    hang,
    http,
    no_traces,
    refused_port,
    reset,
    say,
    shut,
    then,
    until,
)

QUICK = RetryPolicy(attempts=3, first=0.001, longest=0.002, longest_retry_after=0.2)
WINDOW = 0.1


@pytest.fixture(autouse=True)
async def _nothing_stays() -> AsyncIterator[None]:
    async with no_traces():
        yield


class Desk:
    """A submitter at a real transport; counts what it hands to it."""

    def __init__(
        self,
        url: str,
        *,
        slots: int | None = 20,
        timeout: float = 5.0,
        retry: RetryPolicy = QUICK,
        **options: Any,
    ) -> None:
        wire = Wire(
            base_url=url,
            upload_url=url,
            timeouts=Timeouts(submit=timeout),
            redact=lambda text: text.replace(KEY, "[key]"),
        )
        tokens = RetryTokens(500)
        self._transport = Transport(
            key=KEY,
            origins=Origins.of(url),
            retry=QUICK,
            tokens=tokens,
            judge=wire.failure,
            redact=wire.redact,
            connect_timeout=0.2,
            stall_timeout=1.0,
            in_flight=20,
            fresh=True,
            proxy_for=lambda url: None,
        )
        self.limiter = SlidingWindow(slots, WINDOW)
        self.made: list[str] = []
        #: When each request was handed to the transport, on the loop's clock.
        self.sent: list[float] = []
        self._submitter = Submitter(
            self._send,
            wire=wire,
            limiter=self.limiter,
            window=WINDOW,
            retry=retry,
            tokens=tokens,
            on_made=lambda task_id, intent: self.made.append(task_id),
            **options,
        )

    async def _send(self, request: Request) -> Answer:
        self.sent.append(asyncio.get_running_loop().time())
        return await self._transport(request)

    async def submit(self, order: Order | None = None) -> str:
        return await self._submitter.submit(order or an_order())

    async def aclose(self, grace: float = 0.0) -> None:
        await self._submitter.aclose(grace)
        self.limiter.close()
        await self._transport.aclose()

    async def __aenter__(self) -> Desk:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()


def an_order(reference: str | None = None) -> Order:
    return make_order("https://files.example/clip.mp4", reference=reference, max_bytes=1)


def exchanges() -> list[asyncio.Task[Any]]:
    return [task for task in asyncio.all_tasks() if task.get_name() == "topaz_async createTask"]


# -- unknown ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["reset before the request", *BROKEN])
async def test_lost(name: str) -> None:
    """Whatever breaks once a connection was there leaves a task that may exist: sent once."""
    script, by_the_clock = BROKEN.get(name, (reset(), False))
    async with (
        ByteServer(script) as server,
        Desk(server.url, timeout=0.25 if by_the_clock else 5.0) as desk,
    ):
        with pytest.raises(SubmitUnknownError) as caught:
            await desk.submit()
        assert (caught.value.billed, caught.value.retryable) == ("unknown", False)
        assert len(desk.sent) == server.connections == 1
        assert KEY not in everything_said(caught.value)


UNCLEAR = {
    "an empty 200": http(),
    "a page": http(PAGE),
    "a page 502": http(PAGE, "502 Bad Gateway"),
    "a page 504": http(PAGE, "504 Gateway Time-out"),
    "an empty 500": http(b"", "500 Internal Server Error"),
    "204": b"HTTP/1.1 204 No Content\r\n\r\n",
    "no data": say(None),
    "no id": say({}),
    "an empty id": say({"taskId": ""}),
    "an id that is a number": say({"taskId": 5}),
    "an id with a line break": say({"taskId": "a\nb"}),
    "a list": http(b"[]"),
    "no JSON": http(b"ok"),
    "301": http(b"", "301 Moved", "Location: /elsewhere"),
    "408": say(None, 408, "timeout"),
    "408 in HTTP": http(b"", "408 Request Timeout"),
    "500": say(None, 500, "Server exception, please try again later"),
    "500 in HTTP alone": http(b'{"msg":"This field is required"}', "500 Oops"),
    "501": say(None, 501, "failed"),
    "502": say(None, 502, "bad gateway"),
    "599": http(b"", "599 Odd"),
    "a code nobody knows": say(None, 777, "?"),
    "a refusal that names a task": say({"taskId": "task-1"}, 402, "insufficient"),
    "101": b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
}


@pytest.mark.parametrize("name", UNCLEAR)
async def test_unclear(name: str) -> None:
    """An answer that neither names a task nor says that nothing was bought is not repeated."""
    async with ByteServer(answer(UNCLEAR[name])) as server, Desk(server.url) as desk:
        with pytest.raises(SubmitUnknownError) as caught:
            await desk.submit()
        assert caught.value.billed == "unknown"
        assert len(server.requests) == server.connections == len(desk.sent) == 1
        assert desk.made == []


@pytest.mark.parametrize("status", ["301 M", "302 F", "303 S", "307 T", "308 P"])
async def test_redirect(status: str) -> None:
    """A redirect leaves a task that may exist, and the other host is never contacted."""
    async with ByteServer(hang) as other:
        there = http(b"", status, f"Location: {other.url}/createTask")
        async with ByteServer(answer(there)) as server, Desk(server.url) as desk:
            with pytest.raises(SubmitUnknownError) as caught:
                await desk.submit()
            assert caught.value.code == int(status[:3])
            assert len(server.requests) == 1
        assert (other.connections, bytes(other.received)) == (0, b"")


async def test_what_an_unknown_says() -> None:
    """The error says what was sent, when, under which name, and what was answered."""
    order = an_order("order-17")
    began = datetime.now(UTC)
    said = say(None, 500, f"oops {KEY}")
    async with ByteServer(answer(said)) as server, Desk(server.url) as desk:
        with pytest.raises(SubmitUnknownError) as caught:
            await desk.submit(order)
    error = caught.value
    assert (error.code, error.words, error.reference) == (500, "oops [key]", "order-17")
    assert error.fingerprint == order.intent.fingerprint
    assert error.sent_at is not None
    assert began <= error.sent_at <= datetime.now(UTC)
    assert "resubmit_unknown=True" in str(error)
    assert KEY not in everything_said(error)


async def test_id_before_the_cut() -> None:
    """A task id that came before the connection broke is a task id."""
    whole = accepted("task-9").split(b"\r\n\r\n")[1]
    async with ByteServer(then(http(whole, length=9999))) as server, Desk(server.url) as desk:
        assert await desk.submit() == "task-9"
        assert desk.made == ["task-9"]


# -- refused ----------------------------------------------------------------------------------

REFUSALS: list[tuple[bytes, type[TopazError]]] = [
    (say(None, 400, "bad"), ValidationError),
    (say(None, 401, "Unauthorized"), AuthenticationError),
    (say(None, 402, "The current credits are insufficient."), InsufficientCreditsError),
    (say(None, 403, "not allowed"), AuthenticationError),
    (http(b"error code: 1010", "403 Forbidden"), EdgeBlockedError),
    (say(None, 404, "no such"), NotFoundError),
    (http(PAGE, "404 Not Found"), NotFoundError),
    (say(None, 405, "not so"), ValidationError),
    (say(None, 413, "too much"), ValidationError),
    (say(None, 415, "not that"), ValidationError),
    (say(None, 422, "The input cannot be null"), ValidationError),
    (say(None, 433, "quota"), KeyQuotaError),
    (say(None, 505, "off"), FeatureDisabledError),
    (say(None, 500, "This field is required"), ValidationError),
    (say(None, 500, "video_url is required"), ValidationError),
    (say(None, 500, "video_url cannot be empty"), ValidationError),
    (
        say(None, 500, "upscale_factor is not within the range of allowed options"),
        ValidationError,
    ),
    (say(None, 500, "Value must be within the specified range"), ValidationError),
    (say(None, 500, "The text length cannot exceed the maximum limit"), ValidationError),
    (say(None, 500, "Credits insufficient"), InsufficientCreditsError),
]


@pytest.mark.parametrize(("said", "expected"), REFUSALS)
async def test_refused(said: bytes, expected: type[TopazError]) -> None:
    """A refusal is an error of its own class, costs nothing and is not tried again."""
    async with ByteServer(answer(said)) as server, Desk(server.url) as desk:
        with pytest.raises(expected) as caught:
            await desk.submit(an_order("order-17"))
        assert type(caught.value) is expected
        assert (caught.value.billed, caught.value.reference) == ("no", "order-17")
        assert len(server.requests) == 1


async def test_never_connected() -> None:
    """A connection that is refused is tried again within the policy, then it cost nothing."""
    with refused_port() as url:
        async with Desk(url) as desk:
            with pytest.raises(ConnectError) as caught:
                await desk.submit()
            assert (caught.value.billed, len(desk.sent)) == ("no", QUICK.attempts)


async def test_a_name_that_nobody_knows(monkeypatch: pytest.MonkeyPatch) -> None:
    """A host that cannot be looked up has seen nothing: tried again, and then it cost nothing."""

    def unknown(*args: object, **kwargs: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    async with Desk("https://api.nowhere.example") as desk:
        with pytest.raises(ConnectError) as caught:
            await desk.submit()
        assert (caught.value.billed, len(desk.sent)) == ("no", QUICK.attempts)


MAINTENANCE = say(None, 455, "maintenance")
LIMITED = say(None, 429, "Rate limit exceeded")
LIMITED_IN_HTTP = http(b"slow down", "429 Too Many Requests")


@pytest.mark.parametrize(
    ("said", "expected"),
    [(MAINTENANCE, MaintenanceError), (LIMITED, RateLimitError), (LIMITED_IN_HTTP, RateLimitError)],
    ids=["455", "429", "429 in HTTP"],
)
async def test_repeated_within_the_policy(said: bytes, expected: type[TopazError]) -> None:
    """Only 429 and 455 are sent again, over new connections, and never more than allowed."""
    async with ByteServer(answer(said)) as server, Desk(server.url) as desk:
        with pytest.raises(expected) as caught:
            await desk.submit()
        assert caught.value.billed == "no"
        assert len(server.requests) == server.connections == QUICK.attempts
    async with ByteServer(answer(said), answer(said), answer(accepted())) as server:
        async with Desk(server.url) as desk:
            assert await desk.submit() == "task-1"
        assert len(server.requests) == 3


@pytest.mark.parametrize("first", [LIMITED, MAINTENANCE])
@pytest.mark.parametrize("then_", [hang, shut])
async def test_unknown_after_a_repeat(first: bytes, then_: Any) -> None:
    """A repeat that gets lost ends the matter: the third is never sent."""
    async with ByteServer(answer(first), then_) as server, Desk(server.url, timeout=0.2) as desk:
        with pytest.raises(SubmitUnknownError):
            await desk.submit()
        assert len(server.requests) == 2


@pytest.mark.parametrize(
    ("asked", "pause"),
    [
        (None, WINDOW),
        ("0", WINDOW),
        ("0.15", 0.15),
        ("99999999", 0.2),
        ("-1", WINDOW),
        ("?", WINDOW),
    ],
)
async def test_pause_after_429(asked: str | None, pause: float) -> None:
    """After a 429 a whole window passes, and what the service asks for beyond it, within reason."""
    headers = () if asked is None else (f"Retry-After: {asked}",)
    limited = say(None, 429, "slow down", *headers)
    async with ByteServer(answer(limited), answer(accepted())) as server, Desk(server.url) as desk:
        await desk.submit()
        first, second = desk.sent
        assert pause <= second - first < pause + 1.0


@pytest.mark.parametrize("said", [accepted(), say(None, 402, "poor"), b"no HTTP\r\n\r\n"])
async def test_slot_is_free_again(said: bytes) -> None:
    """However an exchange ends, its slot of the quota is free again one window later."""
    async with ByteServer(then(said)) as server, Desk(server.url, slots=1) as desk:
        for _ in range(3):
            with contextlib.suppress(TopazError):
                await desk.submit()
        pauses = [later - sooner for sooner, later in itertools.pairwise(desk.sent)]
        assert len(pauses) == 2
        assert min(pauses) >= WINDOW


async def test_429_pauses_the_whole_client(caplog: pytest.LogCaptureFixture) -> None:
    """After a 429 no other submit of the client leaves before the window has passed either."""
    async with ByteServer(answer(LIMITED), answer(accepted())) as server, Desk(server.url) as desk:
        caplog.set_level(logging.INFO)
        first = asyncio.create_task(desk.submit())
        await until(lambda: "createTask was not accepted" in caplog.text)
        others = [asyncio.create_task(desk.submit()) for _ in range(5)]
        await asyncio.gather(first, *others)
        late = [moment - desk.sent[0] for moment in desk.sent[1:]]
        assert len(late) == 6
        assert min(late) >= WINDOW


@pytest.mark.parametrize("attempts", [3, 10])
async def test_outage(attempts: int) -> None:
    """In an outage a submit costs less than 3.5 attempts, over many submits."""
    policy = RetryPolicy(attempts=attempts, first=0.001, longest=0.001)
    with refused_port() as url:
        async with Desk(url, slots=None, retry=policy) as desk:
            for _ in range(50):
                with pytest.raises(ConnectError):
                    await desk.submit()
            assert len(desk.sent) < 50 * 3.5


# -- cancelled --------------------------------------------------------------------------------


async def test_cancelled_in_mid_exchange(caplog: pytest.LogCaptureFixture) -> None:
    """A caller cancelled in mid-exchange leaves at once; the id is logged and reported."""
    release = asyncio.Event()

    async def slow(peer: Peer) -> None:
        await peer.request()
        await release.wait()
        await peer.send(accepted("task-7"))

    async with ByteServer(slow) as server, Desk(server.url) as desk:
        caller = asyncio.create_task(desk.submit(an_order("order-17")))
        await until(lambda: server.requests)
        caller.cancel()
        with pytest.raises(asyncio.CancelledError):
            await caller
        assert (len(exchanges()), desk.made) == (1, [])
        release.set()
        await until(lambda: not exchanges())
        assert desk.made == ["task-7"]
        await until(lambda: "task-7" in caplog.text)
        assert "Task task-7 was made after its caller had left (reference order-17)" in caplog.text


@pytest.mark.parametrize("said", [None, b"", http(PAGE), say(None, 500, "oops")])
async def test_cancelled_and_lost(said: bytes | None, caplog: pytest.LogCaptureFixture) -> None:
    """What became of a request whose caller left is logged when it is unknown."""
    left = asyncio.Event()

    async def waits(peer: Peer) -> None:
        await peer.request()
        await left.wait()
        if said is None:
            await peer.gone()
        else:
            await peer.send(said)

    async with ByteServer(waits) as server, Desk(server.url, timeout=0.3) as desk:
        caller = asyncio.create_task(desk.submit())
        await until(lambda: server.requests)
        caller.cancel()
        await asyncio.wait([caller])
        left.set()
        await until(lambda: "createTask whose caller had left is unknown" in caplog.text)
        assert exchanges() == []


async def test_cancelled_before_a_slot_was_free() -> None:
    """A caller cancelled while it queued has sent nothing, and its place is free again."""
    async with ByteServer(hang) as server, Desk(server.url, slots=1) as desk:
        first = asyncio.create_task(desk.submit())
        await until(lambda: server.requests)
        second = asyncio.create_task(desk.submit())
        await until(lambda: desk.limiter.waiting)
        second.cancel()
        with pytest.raises(asyncio.CancelledError):
            await second
        assert (desk.limiter.waiting, len(desk.sent), server.connections) == (0, 1, 1)
        first.cancel()


async def test_cancelled_at_every_step() -> None:
    """Cancelled at any step, a submit leaves nothing but its exchange, whose id is reported."""
    async with ByteServer(answer(accepted())) as server, Desk(server.url, slots=None) as desk:
        orders: list[Order] = []

        async def call() -> str:
            orders.append(an_order())
            return await desk.submit(orders[-1])

        async def afterwards(victim: asyncio.Task[Any]) -> None:
            await until(lambda: not exchanges() and server.open == 0)
            order = orders[-1] if orders else None
            assert order is None or order.sent == (order.task_id == "task-1")
            assert len(desk.made) == len(server.requests) == len(desk.sent)
            assert victim.cancelled() or victim.result() == "task-1"

        assert await cancel_at_every_step(call, afterwards) > 10
        assert len(server.requests) > 1


# -- closed -----------------------------------------------------------------------------------


async def test_closing_waits_for_the_answer() -> None:
    """Closing lets an exchange under way end, and its id is reported."""

    async def slow(peer: Peer) -> None:
        await peer.request()
        await asyncio.sleep(0.05)
        await peer.send(accepted("task-8"))

    async with ByteServer(slow) as server, Desk(server.url) as desk:
        caller = asyncio.create_task(desk.submit())
        await until(lambda: server.requests)
        await desk.aclose(grace=3.0)
        assert desk.made == ["task-8"]
        assert await caller == "task-8"


class _Slow:
    """A journal that is still writing the task's id when the client is closed."""

    durable = True

    def __init__(self) -> None:
        self.is_writing = False

    async def claim(self, intent: Intent, **_: bool) -> Claim:
        return Claim(
            "granted", Entry(id=1, intent=intent, submit="intent", created_at=datetime.now(UTC))
        )

    async def bind(self, entry_id: int, task_id: str) -> None:
        self.is_writing = True
        await asyncio.sleep(30)


async def test_the_reference_is_other_works_by_now() -> None:
    """Who finds a reference in flight, and then taken for other work, gets no task of that."""
    order = an_order(reference="r")
    mine = Entry(id=1, intent=order.intent, submit="intent", created_at=datetime.now(UTC))
    other = attrs.evolve(
        mine,
        id=2,
        intent=attrs.evolve(order.intent, fingerprint="other"),
        submit="made",
        task_id="task-of-other-work",
    )

    class Busy(_Slow):
        async def claim(self, intent: Intent, **_: bool) -> Claim:
            return Claim("in flight", mine)

        async def find(self, reference: str) -> Entry:
            return other

    journal: Any = Busy()
    async with (
        ByteServer(hang) as server,
        Desk(server.url, journal_of=lambda intent: journal) as desk,
    ):
        with pytest.raises(ReferenceConflictError):
            await desk.submit(order)
        assert 0 == server.connections


async def test_id_is_logged_though_it_could_not_be_written(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A task id that was never written down, because the client was closed, is logged at least."""
    journal: Any = _Slow()
    async with (
        ByteServer(answer(accepted("task-9"))) as server,
        Desk(server.url, journal_of=lambda intent: journal) as desk,
    ):
        caller = asyncio.create_task(desk.submit())
        await until(lambda: journal.is_writing)
        caller.cancel()
        await desk.aclose(grace=0.05)
        await until(lambda: "Task task-9 was made after its caller had left" in caplog.text)


async def test_closing_does_not_wait_for_ever(caplog: pytest.LogCaptureFixture) -> None:
    """Closing cuts an exchange after its grace, and says that nobody knows."""
    async with ByteServer(hang) as server, Desk(server.url) as desk:
        caller = asyncio.create_task(desk.submit())
        await until(lambda: server.requests)
        caller.cancel()
        began = asyncio.get_running_loop().time()
        await desk.aclose(grace=0.1)
        assert 0.1 <= asyncio.get_running_loop().time() - began < 1.0
        assert exchanges() == []
        await until(lambda: "whether it made a task is unknown" in caplog.text)
        await desk.aclose()


async def test_after_closing() -> None:
    """A submit after closing sends nothing and says so."""
    async with ByteServer(hang) as server, Desk(server.url) as desk:
        await desk.aclose()
        with pytest.raises(ClientClosedError):
            await desk.submit()
        assert server.connections == 0


async def test_logs_hold_no_key(caplog: pytest.LogCaptureFixture) -> None:
    """No logger is handed the key, whatever the service repeats of it."""
    caplog.set_level(logging.DEBUG)
    scripts = [answer(say(None, 455, f"down {KEY}")), answer(say(None, 402, f"poor {KEY}"))]
    async with ByteServer(*scripts) as server, Desk(server.url) as desk:
        with pytest.raises(InsufficientCreditsError) as caught:
            await desk.submit()
    assert "was not accepted (attempt 1 of 3)" in caplog.text
    assert not [record for record in caplog.records if KEY in repr(vars(record))]
    assert KEY not in everything_said(caught.value)


async def test_cut_off_while_it_was_written_down(caplog: pytest.LogCaptureFixture) -> None:
    """A submit whose intent was still being written bought nothing: no alarm is raised."""

    class Stuck(_Slow):
        async def claim(self, intent: Intent, **_: bool) -> Claim:
            self.is_writing = True
            await asyncio.sleep(30)
            raise AssertionError

    journal: Any = Stuck()
    async with (
        ByteServer(hang) as server,
        Desk(server.url, journal_of=lambda intent: journal) as desk,
    ):
        caller = asyncio.create_task(desk.submit())
        await until(lambda: journal.is_writing)
        caller.cancel()
        await desk.aclose(grace=0.05)
        assert 0 == server.connections
    assert "" == caplog.text
