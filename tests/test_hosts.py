"""Results come from the internet, or from this machine's networks where that is allowed."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp.abc import AbstractResolver, ResolveResult
from hypothesis import given, settings, strategies as st

from topaz_async import ConfigurationError, LinkExpiredError, TopazClient, UnsafeUrlError
from topaz_async.addresses import host_reach, reach_of
from topaz_async.errors import DownloadError
from topaz_async.hosts import Hosts, RefusedAddressError
from topaz_async.sessions import make_session

from .byteserver import ByteServer, answer, hang, http, no_traces
from .hostile import ADDRESSES, HOSTS, LINKS
from .test_downloads import FILM, downloader

#: A public address to which nothing is ever sent: sockets to it are closed before they connect.
PUBLIC = "93.184.216.34"


@pytest.fixture(autouse=True)
async def _nothing_stays() -> AsyncIterator[None]:
    async with no_traces():
        yield


# -- addresses and names -------------------------------------------------------------------------


@pytest.mark.parametrize(("host", "reach"), HOSTS.items())
def test_how_far_a_host_reaches(host: str, reach: str | None) -> None:
    """Literal addresses and names of this machine say it; other names must be looked up."""
    assert host_reach(host) == reach


@pytest.mark.parametrize(
    ("address", "reach"),
    [
        *ADDRESSES.items(),
        *((host.strip("[]"), reach) for host, reach in HOSTS.items() if host.startswith("[")),
    ],
)
def test_how_far_an_address_reaches(address: str, reach: str) -> None:
    """What is no address reaches nothing."""
    assert reach_of(address) == reach


@given(st.ip_addresses(v=4))
@settings(deadline=None, database=None)
def test_addresses_within_addresses(address: Any) -> None:
    """An IPv4 address keeps its reach in every form that leads to it."""
    reach = reach_of(str(address))
    assert reach_of(f"::ffff:{address}") == reach
    assert reach_of(f"64:ff9b::{address}") == reach
    assert reach != "public" or address.is_global


@given(st.ip_addresses(v=6))
@settings(deadline=None, database=None)
def test_what_is_public(address: Any) -> None:
    """Nothing that Python's own tables call private is public here."""
    if reach_of(str(address)) == "public":
        assert address.is_global or address.ipv4_mapped is not None


@pytest.mark.parametrize("allow_private", [False, True])
@pytest.mark.parametrize("url", LINKS, ids=lambda url: ascii(url)[:40])
def test_links_that_no_download_follows(url: str, allow_private: bool) -> None:
    """Other schemes, odd spellings, addresses where no file is: refused by their looks."""
    with pytest.raises(UnsafeUrlError) as caught:
        Hosts(allow_private=allow_private).check(url)
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "https://127.0.0.1/a.mp4",
        "https://localhost/a.mp4",
        "https://files.localhost/a.mp4",
        "https://[::1]/a.mp4",
        "https://10.0.0.1/a.mp4",
        "https://ｌocalhost/a.mp4",
        "https://[::ffff:192.168.0.1]/a.mp4",
        "http://127.0.0.1/a.mp4",
        "http://localhost:8080/a.mp4",
    ],
)
def test_private_links(url: str) -> None:
    """They are followed only where that is allowed; the error says how."""
    Hosts(allow_private=True).check(url)
    with pytest.raises(UnsafeUrlError, match="no result may lie") as caught:
        Hosts(allow_private=False).check(url)
    assert "allow_private_hosts=True" in str(caught.value)


@given(st.text() | st.text().map("https://{}/a.mp4".format) | st.text().map("https://1{}".format))
@settings(deadline=None, database=None)
def test_any_text_is_followed_or_refused(url: str) -> None:
    """Nothing but the one error is raised."""
    try:
        Hosts(allow_private=False).check(url)
    except UnsafeUrlError:
        return
    assert url.lower().startswith("https://")


# -- the address that is connected to ------------------------------------------------------------


class Resolver(AbstractResolver):
    """Answers each look-up with the next of these lists of addresses; the last one repeats."""

    def __init__(self, *answers: list[str]) -> None:
        self._answers = answers
        self.asked = 0

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        found = self._answers[min(self.asked, len(self._answers) - 1)]
        self.asked += 1
        return [
            ResolveResult(
                hostname=host,
                host=address,
                port=port,
                family=socket.AF_INET6 if ":" in address else socket.AF_INET,
                proto=0,
                flags=0,
            )
            for address in found
        ]

    async def close(self) -> None:
        """Nothing is open."""


class Watched(Hosts):
    """Connects to loopback alone: sockets that may go further are closed before they do."""

    def __init__(self, *, allow_private: bool) -> None:
        super().__init__(allow_private=allow_private)
        self.passed: list[str] = []

    def socket_to(self, info: tuple[Any, ...]) -> socket.socket:
        made = super().socket_to(info)
        self.passed.append(info[4][0])
        if info[4][0] not in ("127.0.0.1", "::1"):
            made.close()
            raise ConnectionRefusedError(111, "not in a test")
        return made


def session_of(hosts: Hosts, resolver: Resolver) -> aiohttp.ClientSession:
    return make_session(
        fresh=False,
        limit=0,
        connect_timeout=1.0,
        ssl=True,
        local_addr=None,
        socket_factory=hosts.socket_to,
        resolver=resolver,
        use_dns_cache=False,
    )


@pytest.mark.parametrize(
    "found",
    [
        ["127.0.0.1"],
        ["::1"],
        ["127.0.0.1", "::1"],
        ["10.0.0.1"],
        ["192.168.1.1", "10.0.0.1", "fd00::1"],
        ["169.254.169.254"],
        ["127.0.0.1", "169.254.169.254", "0.0.0.0"],
        ["0.0.0.0"],
        ["::"],
        ["::ffff:127.0.0.1"],
        ["64:ff9b::7f00:1"],
        ["2002:7f00:1::"],
        ["2001::7f00:1"],
        ["100.64.0.1"],
        ["224.0.0.1"],
    ],
    ids=" ".join,
)
async def test_a_name_that_leads_inside(tmp_path: Path, found: list[str]) -> None:
    """The address counts, not the name: no socket is made, and nothing is tried again."""
    hosts, resolver = Watched(allow_private=False), Resolver(found)
    async with ByteServer(hang) as server, session_of(hosts, resolver) as session:
        with pytest.raises(UnsafeUrlError, match="no result may lie") as caught:
            await downloader(session, hosts=hosts, attempts=3).fetch(
                f"https://files.example:{server.port}/a.mp4?signature=secret", tmp_path / "a.mp4"
            )
        assert (hosts.passed, server.connections, resolver.asked) == ([], 0, 1)
        assert "secret" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


async def test_a_name_that_changes_its_mind(tmp_path: Path) -> None:
    """A public address at the first look-up and a private one at the next gets nowhere.

    There is no look-up of ours that the connector's own could differ from.
    """
    hosts, resolver = Watched(allow_private=False), Resolver([PUBLIC], ["127.0.0.1"])
    async with ByteServer(hang) as server, session_of(hosts, resolver) as session:
        with pytest.raises(UnsafeUrlError):
            await downloader(session, hosts=hosts, attempts=3).fetch(
                f"https://files.example:{server.port}/a.mp4", tmp_path / "a.mp4"
            )
        assert (hosts.passed, server.connections, resolver.asked) == ([PUBLIC], 0, 2)


async def test_a_name_with_two_faces(tmp_path: Path) -> None:
    """Of several addresses only those that may be reached are tried."""
    hosts, resolver = Watched(allow_private=False), Resolver(["10.0.0.1", PUBLIC, "::1"])
    async with session_of(hosts, resolver) as session:
        with pytest.raises(DownloadError, match="could not be reached"):
            await downloader(session, hosts=hosts).fetch("https://files.example/", tmp_path / "a")
    assert set(hosts.passed) == {PUBLIC}


async def test_each_hop_is_checked(tmp_path: Path) -> None:
    """A redirect from a good host leads no further inside than a link does."""
    hosts = Watched(allow_private=True)
    for location in ("https://127.1/", "https://169.254.169.254/", "http://10.0.0.1/", LINKS[0]):
        there = http(b"", "302 Found", f"Location: {location}")
        async with (
            ByteServer(answer(there)) as server,
            session_of(hosts, Resolver(["169.254.169.254"])) as session,
        ):
            with pytest.raises(UnsafeUrlError):
                await downloader(session, hosts=hosts).fetch(server.url, tmp_path / "a.mp4")
    by_name = http(b"", "302 Found", "Location: https://files.example/")
    async with (
        ByteServer(answer(by_name)) as server,
        session_of(hosts, Resolver(["169.254.169.254"])) as session,
    ):
        with pytest.raises(UnsafeUrlError, match=r"files\.example"):
            await downloader(session, hosts=hosts).fetch(server.url, tmp_path / "a.mp4")
    assert set(hosts.passed) == {"127.0.0.1"}


async def test_a_literal_address_meets_no_resolver(tmp_path: Path) -> None:
    """And is checked all the same, should it come by the look at the URL."""

    class Blind(Watched):
        def check(self, url: str) -> None:
            """Let everything pass."""

    hosts, resolver = Blind(allow_private=False), Resolver([PUBLIC])
    async with ByteServer(hang) as server, session_of(hosts, resolver) as session:
        for host in ("127.0.0.1", "[::1]", "[::ffff:127.0.0.1]"):
            with pytest.raises(UnsafeUrlError):
                await downloader(session, hosts=hosts).fetch(
                    f"http://{host}:{server.port}/", tmp_path / "a.mp4"
                )
        assert (hosts.passed, server.connections, resolver.asked) == ([], 0, 0)


async def test_allowed(tmp_path: Path) -> None:
    """Where private hosts are allowed, a name that leads to one is followed."""
    hosts, resolver = Watched(allow_private=True), Resolver(["127.0.0.1"])
    async with ByteServer(answer(http(FILM))) as server, session_of(hosts, resolver) as session:
        await downloader(session, hosts=hosts).fetch(
            f"http://localhost:{server.port}/a.mp4", tmp_path / "a.mp4"
        )
        assert (hosts.passed, len(server.requests)) == (["127.0.0.1"], 1)


def test_a_refusal_is_an_error_of_the_system() -> None:
    """The connector expects no other, and gathers refusals only when they read alike."""
    with pytest.raises(RefusedAddressError) as caught:
        Hosts(allow_private=False).socket_to(
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 443))
        )
    assert str(caught.value) == str(RefusedAddressError())


# -- the client ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("allow_private_hosts", "is_local", "is_followed"),
    [
        (None, True, True),
        (None, False, False),
        (True, True, True),
        (True, False, True),
        (False, True, False),
        (False, False, False),
    ],
)
async def test_the_clients_option(
    tmp_path: Path, allow_private_hosts: bool | None, is_local: bool, is_followed: bool
) -> None:
    """None follows private links only while the API itself is on this machine."""
    async with ByteServer(answer(http(FILM))) as server:
        base_url = server.url if is_local else "https://api.example"
        async with TopazClient(
            "key", base_url=base_url, allow_private_hosts=allow_private_hosts
        ) as topaz:
            fetching = topaz.download(f"{server.url}/a.mp4", tmp_path / "a.mp4")
            if is_followed:
                assert (await fetching).read_bytes() == FILM
            else:
                with pytest.raises(UnsafeUrlError):
                    await fetching
        assert len(server.requests) == is_followed


async def test_the_client_checks_what_it_connects_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name that the system looks up on this machine leads nowhere."""
    look_up = socket.getaddrinfo

    def inside(host: str, *more: Any, **options: Any) -> Any:
        return look_up("127.0.0.1" if host == "files.example" else host, *more, **options)

    monkeypatch.setattr(socket, "getaddrinfo", inside)
    async with ByteServer(hang) as server:
        link = f"https://files.example:{server.port}/a.mp4"
        async with TopazClient("key", base_url="https://api.example") as topaz:
            with pytest.raises(UnsafeUrlError, match=r"files\.example"):
                await topaz.download(link, tmp_path / "a.mp4")
        assert server.connections == 0


@pytest.mark.parametrize("value", [0, 1, "no", [], object()])
def test_no_option(value: Any) -> None:
    """Anything but True, False and None is refused."""
    with pytest.raises(ConfigurationError, match="True, False or None"):
        TopazClient("key", allow_private_hosts=value)


async def test_through_a_proxy(tmp_path: Path) -> None:
    """A proxy may stand anywhere; through it, literal hosts alone can be checked."""
    refusal = http(b"", "502 No")
    async with ByteServer(answer(refusal)) as proxy:
        async with TopazClient("secret-key-1", proxy=proxy.url) as topaz:
            for host in ("127.0.0.1", "10.0.0.1", "localhost", "[::1]", "169.254.169.254", "127.1"):
                with pytest.raises(UnsafeUrlError):
                    await topaz.download(f"https://{host}/a.mp4", tmp_path / "a.mp4")
            assert proxy.connections == 0
            with pytest.raises(DownloadError) as caught:
                await asyncio.wait_for(
                    topaz.download("https://files.example/a.mp4", tmp_path / "a.mp4"), 20
                )
            assert not isinstance(caught.value, (UnsafeUrlError, LinkExpiredError))
        assert {seen.method for seen in proxy.requests} == {"CONNECT"}
        assert b"secret-key-1" not in proxy.received
