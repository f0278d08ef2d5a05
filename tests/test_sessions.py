"""The sessions: they name themselves, keep nothing, and send what they are given once."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from topaz_async.sessions import USER_AGENT, Contact, make_session

from .byteserver import (
    ByteServer,
    Peer,
    answer,
    hang,
    http,
    no_traces,
    refused_port,
    reset,
    say,
    shut,
)


@pytest.fixture(autouse=True)
async def _nothing_stays() -> AsyncIterator[None]:
    async with no_traces():
        yield


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with make_session(
        fresh=False, limit=10, connect_timeout=2.0, ssl=True, local_addr=None
    ) as made:
        yield made


async def send(session: aiohttp.ClientSession, method: str, url: str) -> Contact:
    contact = Contact()
    async with session.request(
        method, url, trace_request_ctx=contact, middlewares=(contact.once,)
    ) as response:
        await response.read()
    return contact


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "POST"])
@pytest.mark.parametrize("script", [shut, reset(after=1), reset()])
async def test_once(session: aiohttp.ClientSession, method: str, script: object) -> None:
    """Over a new connection that breaks, a request of any method leaves once."""
    async with ByteServer(script) as server:  # type: ignore[arg-type]
        with pytest.raises(aiohttp.ClientConnectionError):
            await send(session, method, server.url)
        assert server.connections == 1


async def _one_answer(peer: Peer) -> None:
    await peer.request()
    await peer.send(http(b"{}"))
    await peer.request()


@pytest.mark.parametrize(("method", "sent"), [("GET", 2), ("POST", 1)])
async def test_dropped_connection(session: aiohttp.ClientSession, method: str, sent: int) -> None:
    """Over a kept connection that was dropped, a question leaves again, and nothing else does."""
    async with ByteServer(_one_answer, answer(say(7))) as server:
        await send(session, method, server.url)
        if sent == 2:
            assert (await send(session, method, server.url)).kept is False
        else:
            with pytest.raises(aiohttp.ServerDisconnectedError):
                await send(session, method, server.url)
        assert (len(server.requests), server.connections) == (1 + sent, sent)


async def test_contact(session: aiohttp.ClientSession) -> None:
    """A contact tells a new connection from a kept one, and both from none."""
    async with ByteServer(answer(say(7))) as server:
        assert await send(session, "GET", server.url) == Contact(connected=True, kept=False)
        assert await send(session, "GET", server.url) == Contact(connected=True, kept=True)
    contact = Contact()
    with refused_port() as url, pytest.raises(aiohttp.ClientConnectorError):
        await session.get(url, trace_request_ctx=contact, middlewares=(contact.once,))
    assert contact == Contact(connected=False, kept=False)


async def test_fresh() -> None:
    """A fresh session asks the service to close each connection, and makes a new one."""
    async with (
        ByteServer(answer(say(7))) as server,
        make_session(
            fresh=True, limit=10, connect_timeout=2.0, ssl=True, local_addr=None
        ) as session,
    ):
        await send(session, "POST", server.url)
        await send(session, "POST", server.url)
        assert server.connections == 2
        assert {seen.headers["connection"] for seen in server.requests} == {"close"}


async def test_keeps_nothing(
    session: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """No cookie comes back, no environment is read, and the agent is this package."""
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login somebody password else\n")
    cookies = http(b"", "200 OK", "Set-Cookie: a=b; Path=/", "Set-Cookie: JSESSIONID=\x02;;=")
    async with ByteServer(hang) as proxy, ByteServer(answer(cookies)) as server:
        monkeypatch.setenv("NETRC", str(netrc))
        monkeypatch.setenv("http_proxy", proxy.url)
        monkeypatch.setenv("all_proxy", proxy.url)
        for _ in range(2):
            await send(session, "GET", server.url)
        assert proxy.connections == 0
        for seen in server.requests:
            assert seen.headers["user-agent"] == USER_AGENT
            assert not {"cookie", "authorization"} & seen.headers.keys()
    assert USER_AGENT.startswith("topaz-async/")
