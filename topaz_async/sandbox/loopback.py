"""Keep the sandbox on this machine: a client that reaches loopback and nothing else."""

from __future__ import annotations

import ipaddress
import socket
from pathlib import Path

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from .threads import PIECE, Threads, append


class UnreachableError(Exception):
    """A URL is not on loopback, or did not give the file."""


def is_loopback(host: str | None) -> bool:
    """Tell whether ``host`` can only mean this machine; names are not looked up."""
    if not host:
        return False
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def loopback_url(text: object) -> URL | None:
    """Return ``text`` as a URL when it is http on loopback, else None."""
    if not isinstance(text, str):
        return None
    # What can stand on a request line as it is goes letter by letter, as a signature may want it.
    plain = text.isascii() and text.isprintable() and " " not in text
    try:
        url = URL(text, encoded=plain)
        port = url.port
    except ValueError:
        return None
    return url if url.scheme == "http" and port and is_loopback(url.host) else None


class _LoopbackResolver(AbstractResolver):
    """Answers for localhost alone, so that no name ever leaves for a name server."""

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        if not is_loopback(host):
            raise OSError(None, f"{host} is not on loopback")
        return [
            ResolveResult(
                hostname=host,
                host="127.0.0.1",
                port=port,
                family=socket.AF_INET,
                proto=0,
                flags=socket.AI_NUMERICHOST,
            )
        ]

    async def close(self) -> None:
        pass


def open_session(*, keep: bool = False) -> aiohttp.ClientSession:
    """Open a session for requests to this machine; its user closes it.

    Args:
        keep: Keep connections between requests.
    """
    connector = aiohttp.TCPConnector(resolver=_LoopbackResolver(), limit=100, force_close=not keep)
    return aiohttp.ClientSession(
        connector=connector,
        cookie_jar=aiohttp.DummyCookieJar(),
        headers={"User-Agent": "topaz-sandbox"},
    )


async def fetch(
    session: aiohttp.ClientSession,
    text: object,
    target: Path,
    threads: Threads,
    *,
    limit: int,
    seconds: float = 30.0,
) -> int:
    """Save what a loopback URL serves, in constant memory, and return its size in bytes.

    Args:
        session: From `open_session`.
        text: The URL as it came in.
        target: Where to; a half-written file stays for the caller to remove.
        threads: Where the file is written.
        limit: Largest size in bytes.
        seconds: For the whole exchange.

    Raises:
        UnreachableError: Not loopback, no answer, not HTTP 200, or larger than ``limit``.
    """
    url = loopback_url(text)
    if url is None:
        raise UnreachableError("only http URLs of this machine can be fetched")
    size, waiting = 0, bytearray()
    try:
        timeout = aiohttp.ClientTimeout(total=seconds)
        async with session.get(url, timeout=timeout, allow_redirects=False) as answer:
            if answer.status != 200:
                raise UnreachableError(f"the URL answered HTTP {answer.status}")
            async for piece in answer.content.iter_any():
                size += len(piece)
                if size > limit:
                    raise UnreachableError(f"the file is larger than {limit} bytes")
                waiting += piece
                if len(waiting) >= PIECE:
                    await threads.run(append, target, bytes(waiting))
                    waiting.clear()
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        raise UnreachableError(f"the URL could not be fetched: {type(error).__name__}") from None
    await threads.run(append, target, bytes(waiting))
    return size
