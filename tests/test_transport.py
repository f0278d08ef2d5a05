"""The transport: one exchange over a socket that misbehaves, and when it is repeated."""

from __future__ import annotations

import asyncio
import json
import logging
import tracemalloc
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from topaz_async.errors import (
    ClientClosedError,
    ConfigurationError,
    ConnectError,
    RequestTimeoutError,
    ResponseError,
    TransportError,
)
from topaz_async.ports import Answer, FilePart, Repeat, Request
from topaz_async.retries import RetryTokens
from topaz_async.sessions import USER_AGENT, proxies
from topaz_async.settings import RetryPolicy, Timeouts
from topaz_async.transport import Origins, Transport
from topaz_async.wire import Wire

from .byteserver import (
    BROKEN,
    KEY,
    PAGE,
    ByteServer,
    Peer,
    answer,
    everything_said,
    full_backlog,
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

QUICK = RetryPolicy(attempts=3, first=0.001, longest=0.002, longest_retry_after=0.05)


@pytest.fixture(autouse=True)
async def _nothing_stays() -> AsyncIterator[None]:
    async with no_traces():
        yield


def redact(text: str) -> str:
    return text.replace(KEY, "[key]")


class Transports:
    """Makes transports, and closes them."""

    def __init__(self) -> None:
        self._made: list[Transport] = []

    def __call__(self, url: str, **changes: Any) -> Transport:
        wire = Wire(base_url=url, upload_url=url, timeouts=Timeouts(), redact=redact)
        values: dict[str, Any] = {
            "key": KEY,
            "origins": Origins.of(url),
            "retry": QUICK,
            "tokens": RetryTokens(500),
            "judge": wire.failure,
            "redact": redact,
            "connect_timeout": 2.0,
            "stall_timeout": 0.3,
            "in_flight": 10,
            "fresh": False,
            "proxy_for": lambda url: None,
        }
        self._made.append(Transport(**{**values, **changes}))
        return self._made[-1]

    async def aclose(self) -> None:
        for transport in self._made:
            await transport.aclose()


@pytest.fixture
async def to() -> AsyncIterator[Transports]:
    transports = Transports()
    yield transports
    await transports.aclose()


def question(url: str, *, repeat: Repeat = Repeat.FREELY, timeout: float = 5.0) -> Request:
    return Request(name="credit", method="GET", url=f"{url}/credit", repeat=repeat, timeout=timeout)


def order(url: str, *, timeout: float = 5.0) -> Request:
    return Request(
        name="createTask",
        method="POST",
        url=f"{url}/createTask",
        body=b'{"model":"m"}',
        repeat=Repeat.IF_NOTHING_BOUGHT,
        timeout=timeout,
    )


def words(answer: Answer) -> Any:
    return json.loads(answer.body)["data"]


# -- what a broken peer becomes -------------------------------------------------------------


@pytest.mark.parametrize("name", BROKEN)
async def test_broken_peer(to: Transports, name: str) -> None:
    """Whatever a peer does byte by byte, an exchange ends in time, with an error of ours."""
    script, by_the_clock = BROKEN[name]
    async with ByteServer(script) as server:
        began = asyncio.get_running_loop().time()
        with pytest.raises(TransportError) as caught:
            await to(server.url).exchange(order(server.url, timeout=0.25 if by_the_clock else 5.0))
        took = asyncio.get_running_loop().time() - began
        assert isinstance(caught.value, RequestTimeoutError) == by_the_clock
        assert not isinstance(caught.value, ConnectError)
        assert took < (1.0 if by_the_clock else 3.0)
        assert len(server.requests) == server.connections == 1
        assert KEY in server.received.decode()
        assert KEY not in everything_said(caught.value)
        assert caught.value.__context__ is None


async def test_reset_at_once(to: Transports) -> None:
    """A connection that was made and reset before anything was read counts as maybe seen."""
    async with ByteServer(reset()) as server:
        with pytest.raises(TransportError) as caught:
            await to(server.url).exchange(order(server.url))
        assert type(caught.value) is TransportError


async def test_refused(to: Transports) -> None:
    """A refused connection is an error that says that nothing was sent, and why."""
    with (
        refused_port() as url,
        pytest.raises(ConnectError, match=r"createTask was not sent\. Nothing was billed") as e,
    ):
        await to(url).exchange(order(url))
    assert e.value.retryable
    assert KEY not in everything_said(e.value)


async def test_never_connected_in_time(to: Transports) -> None:
    """A connection that is neither made nor refused ends with the time for connecting."""
    began = asyncio.get_running_loop().time()
    with full_backlog() as url, pytest.raises(ConnectError, match="could be made in time") as e:
        await to(url, connect_timeout=0.2).exchange(order(url))
    assert 0.2 <= asyncio.get_running_loop().time() - began < 2.0
    assert "createTask was not sent" in e.value.message


async def test_no_such_host(to: Transports) -> None:
    """A name that nobody knows is a connection that was never made."""
    url = "https://no-such-host.invalid"
    with pytest.raises(ConnectError, match=r"no-such-host\.invalid could be made"):
        await to(url).exchange(order(url))


async def test_no_tls(to: Transports) -> None:
    """A peer that speaks no TLS has never seen the request."""

    async def plain(peer: Peer) -> None:
        await peer.some()
        await peer.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    async with ByteServer(plain) as server:
        url = f"https://127.0.0.1:{server.port}"
        with pytest.raises(ConnectError, match="was not sent"):
            await to(url).exchange(order(url))
        assert KEY not in server.received.decode(errors="replace")


async def test_bomb_in_bounds(to: Transports) -> None:
    """An answer that unpacks to 320 MB takes a small part of that."""
    async with ByteServer(BROKEN["a bomb"][0]) as server:
        transport = to(server.url)
        tracemalloc.start()
        try:
            with pytest.raises(TransportError):
                await transport.exchange(question(server.url))
            assert tracemalloc.get_traced_memory()[1] < 128 << 20
        finally:
            tracemalloc.stop()


async def test_too_large(to: Transports) -> None:
    """An answer beyond all measure is refused with its status, and the connection is closed."""
    async with ByteServer(BROKEN["an endless body"][0]) as server:
        with pytest.raises(ResponseError, match="larger than 4194304 bytes") as caught:
            await to(server.url).exchange(order(server.url))
        assert (caught.value.code, caught.value.billed) == (200, "unknown")
        await until(lambda: server.open == 0)


@pytest.mark.parametrize(
    "data",
    [
        http(say({"n": 1}).split(b"\r\n\r\n")[1], length=999),
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
        b'21\r\n{"code":200,"data":{"n":1}}      \r\n',
    ],
    ids=["length", "chunks"],
)
@pytest.mark.parametrize("stay", [False, True], ids=["cut", "silence"])
async def test_whole_object_before_the_cut(to: Transports, data: bytes, stay: bool) -> None:
    """A JSON object that came whole is the answer, though the connection broke behind it."""
    async with ByteServer(then(data, stay=stay)) as server:
        given = await to(server.url).exchange(order(server.url, timeout=0.3))
        assert words(given) == {"n": 1}


# -- once, or again -------------------------------------------------------------------------


async def test_asked_again(to: Transports) -> None:
    """A question is asked again after each failure that may pass, and then answered."""
    async with ByteServer(reset(after=1), shut, answer(say(7))) as server:
        assert words(await to(server.url)(question(server.url))) == 7
        assert len(server.requests) == 3


@pytest.mark.parametrize("said", [say(code=500, msg="busy"), http(PAGE, "502 Bad Gateway")])
async def test_last_answer(to: Transports, said: bytes) -> None:
    """When every attempt was answered badly, the last answer is handed on."""
    async with ByteServer(answer(said)) as server:
        given = await to(server.url)(question(server.url))
        assert said.endswith(given.body)
        assert len(server.requests) == 3


async def test_last_failure(to: Transports) -> None:
    """When every attempt broke, the last failure is raised."""
    async with ByteServer(shut) as server:
        with pytest.raises(TransportError):
            await to(server.url)(question(server.url))
        assert len(server.requests) == 3


@pytest.mark.parametrize("repeat", [Repeat.NEVER, Repeat.IF_NOTHING_BOUGHT])
async def test_not_asked_again(to: Transports, repeat: Repeat) -> None:
    """What may not be repeated freely leaves once."""
    async with ByteServer(shut) as server:
        with pytest.raises(TransportError):
            await to(server.url)(question(server.url, repeat=repeat))
        assert len(server.requests) == server.connections == 1


@pytest.mark.parametrize("code", [400, 401, 402, 404, 422, 433, 505])
async def test_no_use_in_asking_again(to: Transports, code: int) -> None:
    """An answer that will not change is not asked for again."""
    async with ByteServer(answer(say(code=code, msg="no"))) as server:
        await to(server.url)(question(server.url))
        assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("asked", "at_least", "at_most"),
    [("0.04", 0.04, 1), ("86400", 0.05, 1), ("9" * 400, 0, 1), ("soon", 0, 1), ("-5", 0, 1)],
)
async def test_retry_after(to: Transports, asked: str, at_least: float, at_most: float) -> None:
    """`Retry-After` is obeyed within bounds, and what makes no sense is not."""
    refusal = say(None, 429, "slow down", f"Retry-After: {asked}", status="429 Too Many Requests")
    async with ByteServer(answer(refusal, say(7))) as server:
        began = asyncio.get_running_loop().time()
        assert words(await to(server.url)(question(server.url))) == 7
        assert at_least <= asyncio.get_running_loop().time() - began < at_most


@pytest.mark.parametrize("attempts", [3, 10])
async def test_outage(to: Transports, attempts: int) -> None:
    """In an outage a call costs less than 3.5 requests, however many attempts are allowed."""
    policy = RetryPolicy(attempts=attempts, first=0.001, longest=0.001)
    async with ByteServer(shut) as server:
        transport = to(server.url, retry=policy)
        for _ in range(50):
            with pytest.raises(TransportError):
                await transport(question(server.url))
        assert 50 <= len(server.requests) < 175
        before = len(server.requests)
        if attempts == 10:  # the tokens are spent: what follows is sent once
            with pytest.raises(TransportError):
                await transport(question(server.url))
            assert len(server.requests) == before + 1


async def test_tokens_come_back(to: Transports) -> None:
    """A success gives the tokens of its retries back."""
    async with ByteServer(shut, answer(say(7)), shut, answer(say(8))) as server:
        transport = to(server.url, tokens=RetryTokens(5), fresh=True)
        assert words(await transport(question(server.url))) == 7
        assert words(await transport(question(server.url))) == 8


# -- connections ----------------------------------------------------------------------------


async def test_kept_alive(to: Transports) -> None:
    """Questions share a connection; what costs money has a new one each time."""
    async with ByteServer(answer(say(7))) as server:
        kept, fresh = to(server.url), to(server.url, fresh=True)
        for _ in range(3):
            await kept(question(server.url))
        assert server.connections == 1
        for _ in range(3):
            await fresh(order(server.url))
        assert server.connections == 4


async def test_dropped_between_polls(to: Transports) -> None:
    """A kept connection that the peer dropped meanwhile is replaced without a word."""

    async def once(peer: Peer) -> None:
        await peer.request()
        await peer.send(say(7))

    async with ByteServer(once) as server:
        transport = to(server.url)
        for number in range(1, 4):
            given = await transport.exchange(question(server.url, repeat=Repeat.NEVER))
            assert words(given) == 7
            assert len(server.requests) == number


async def test_clock_starts_when_admitted(to: Transports) -> None:
    """The clock of an exchange does not run while it queues for its turn."""

    async def slow(peer: Peer) -> None:
        while True:
            await peer.request()
            await asyncio.sleep(0.1)
            await peer.send(say(7))

    async with ByteServer(slow) as server:
        transport = to(server.url, in_flight=1)
        asked = (transport.exchange(question(server.url, timeout=0.25)) for _ in range(4))
        assert [words(given) for given in await asyncio.gather(*asked)] == [7, 7, 7, 7]
        assert server.connections == 1


async def test_early_refusal(to: Transports) -> None:
    """A refusal that comes while an upload is under way is the answer, at once."""

    async def early(peer: Peer) -> None:
        await peer.head()
        await peer.send(say(None, 413, "too much", status="413 Content Too Large"))
        await asyncio.sleep(1)

    async def much() -> AsyncIterator[bytes]:
        for _ in range(64):
            yield bytes(1 << 20)

    part = FilePart(field="file", name="a.mp4", content_type="video/mp4", size=64 << 20, open=much)
    async with ByteServer(early) as server:
        request = Request(
            name="upload",
            method="POST",
            url=f"{server.url}/upload",
            repeat=Repeat.NEVER,
            timeout=5,
            file=part,
        )
        began = asyncio.get_running_loop().time()
        assert (await to(server.url, stall_timeout=3.0)(request)).status == 413
        assert asyncio.get_running_loop().time() - began < 0.8


async def test_closed(to: Transports) -> None:
    """A closed transport sends nothing; closing it twice is fine."""
    async with ByteServer(answer(say(7))) as server:
        transport = to(server.url)
        await transport(question(server.url))
        await transport.aclose()
        await transport.aclose()
        with pytest.raises(ClientClosedError):
            await transport(question(server.url))
        await until(lambda: server.open == 0)


async def test_closed_in_mid_exchange(to: Transports) -> None:
    """An exchange whose transport is closed under it ends at once, with an error of ours."""
    async with ByteServer(hang) as server:
        transport = to(server.url)
        under_way = asyncio.create_task(transport.exchange(order(server.url)))
        await until(lambda: server.requests)
        await transport.aclose()
        with pytest.raises(TransportError):
            await under_way


# -- where the key goes, and what else does not leave -----------------------------------------


async def test_only_to_configured_origins(to: Transports) -> None:
    """A request to another origin is refused before anything is connected."""
    async with ByteServer(hang) as server:
        transport = to("https://api.example.com")
        for url in (server.url, "http://api.example.com", "https://api.example.com:444"):
            with pytest.raises(ConfigurationError, match="origin that was not set up"):
                await transport(order(url))
        assert server.connections == 0


@pytest.mark.parametrize("status", ["301 M", "302 F", "303 S", "307 T", "308 P"])
async def test_redirect_is_no_way(to: Transports, status: str) -> None:
    """A redirect is an answer, never followed, be it to a host of the same name."""
    async with ByteServer(hang) as other:
        there = http(b"", status, f"Location: {other.url}/createTask")
        async with ByteServer(answer(there)) as server:
            for request in (order(server.url), question(server.url)):
                given = await to(server.url)(request)
                assert given.status == int(status[:3])
        assert (other.connections, bytes(other.received)) == (0, b"")


async def test_says_who_it_is(to: Transports) -> None:
    """Every request names this package as its agent and carries the key, and no cookie ever."""
    cookie = say(7, 200, "ok", "Set-Cookie: JSESSIONID=1; Path=/", "Set-Cookie: b=\x01")
    async with ByteServer(answer(cookie)) as server:
        transport = to(server.url)
        await transport(question(server.url))
        await transport(order(server.url))
        for seen in server.requests:
            assert seen.headers["user-agent"] == USER_AGENT
            assert seen.headers["authorization"] == f"Bearer {KEY}"
            assert "cookie" not in seen.headers
        assert server.requests[1].headers["content-type"] == "application/json"
        assert server.requests[1].body == b'{"model":"m"}'


async def test_environment_is_not_asked(
    to: Transports, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Neither HTTP_PROXY nor .netrc has a say in a request to loopback."""
    netrc = tmp_path / ".netrc"
    netrc.write_text("machine 127.0.0.1 login somebody password else\n")
    netrc.chmod(0o600)
    async with ByteServer(hang) as proxy, ByteServer(answer(say(7))) as server:
        monkeypatch.setenv("NETRC", str(netrc))
        monkeypatch.setenv("HOME", str(tmp_path))
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "HTTPS_PROXY"):
            monkeypatch.setenv(name, proxy.url)
        await to(server.url, proxy_for=proxies(None))(question(server.url))
        assert proxy.connections == 0
        assert server.requests[0].headers["authorization"] == f"Bearer {KEY}"


@pytest.mark.parametrize(
    "said",
    [
        b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\n",
        b"",
        b"SSH\n",
    ],
    ids=["407", "no TLS behind it", "closed", "no proxy"],
)
async def test_proxy_sees_no_key(to: Transports, said: bytes) -> None:
    """A proxy is asked for a tunnel; without one nothing is sent, and no password is printed."""
    async with ByteServer(then(said)) as proxy:
        chosen = proxies(f"http://user:pass-word@127.0.0.1:{proxy.port}")
        transport = to("https://api.example.com", proxy_for=chosen)
        with pytest.raises(ConnectError) as caught:
            await transport(order("https://api.example.com"))
        assert [(seen.method, seen.path) for seen in proxy.requests] == [
            ("CONNECT", "api.example.com:443")
        ]
        assert KEY not in proxy.received.decode(errors="replace")
        assert "pass-word" not in everything_said(caught.value)


async def test_logs_hold_no_key(
    to: Transports, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No logger whatever is handed the key, at no level, in good times and in bad."""
    caplog.set_level(logging.DEBUG)
    asyncio.get_running_loop().set_debug(True)
    scripts = [shut, then(b"no HTTP\r\n\r\n"), answer(say(7), say(None, 500, f"{KEY}!"))]
    async with ByteServer(*scripts) as server:
        transport = to(server.url, retry=RetryPolicy(attempts=2, first=0.001))
        with pytest.raises(TransportError):
            await transport(question(server.url))
        for _ in range(3):
            await transport(question(server.url))
    asyncio.get_running_loop().set_debug(False)
    assert "credit answered HTTP 200" in caplog.text
    assert "attempt 1 of 2" in caplog.text
    assert not [record for record in caplog.records if KEY in repr(vars(record))]
    assert KEY not in repr(vars(transport)["_sessions"])
