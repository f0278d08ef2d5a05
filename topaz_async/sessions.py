"""aiohttp sessions that keep nothing, read no environment and name themselves."""

from __future__ import annotations

import platform
import ssl as ssl_module
from collections.abc import Callable, Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies_environment, proxy_bypass_environment  # type: ignore[attr-defined]  # typeshed leaves it out

import aiohttp
import attrs

from .errors import ConfigurationError
from .texts import clean

__all__ = ["USER_AGENT", "Contact", "make_session", "proxies"]

try:
    _VERSION = version("topaz-async")
except PackageNotFoundError:  # run from a source tree
    _VERSION = "0"

#: The network in front of the service refuses Python's default agent.
USER_AGENT = f"topaz-async/{_VERSION} Python/{platform.python_version()}"

#: Seconds for which an idle connection is kept: longer than the longest pause between polls.
_KEEP_ALIVE = 75.0


ProxyFor = Callable[[str], "str | None"]


def proxies(proxy: str | None, environment: Mapping[str, str] | None = None) -> ProxyFor:
    """Return a function that names the proxy for a URL, or None for a direct connection.

    Args:
        proxy: The proxy for every https URL; None reads HTTPS_PROXY, ALL_PROXY and NO_PROXY.
            HTTP_PROXY is not read: a proxy for plain http would see the key.
        environment: Stands in for the process's own environment.

    Raises:
        ConfigurationError: The proxy is not http:// or https:// (SOCKS needs another library),
            or more than a host, a port and credentials.
    """
    found: dict[str, str] = (
        getproxies_environment()
        if environment is None
        else {k[:-6].lower(): v for k, v in environment.items() if k.lower().endswith("_proxy")}
    )
    chosen = proxy or found.get("https") or found.get("all")
    if not chosen:
        return lambda url: None
    try:
        parts = urlsplit(chosen if "://" in chosen else f"http://{chosen}")
        usable = bool(parts.hostname) and parts.port != 0
    except (TypeError, ValueError):  # no text, half an IPv6 address, a port that is no number
        parts, usable = urlsplit(""), False
    if parts.scheme not in ("http", "https") or not usable:
        raise ConfigurationError(
            f"The proxy is {clean(parts.scheme, 20) or 'nothing'}://…; it must be http://host:port "
            "or https://host:port.",
            hint="Unset ALL_PROXY or HTTPS_PROXY, or pass proxy='http://host:port'.",
        )
    if parts.path not in ("", "/") or parts.query or parts.fragment:
        raise ConfigurationError(
            "The proxy has a path, a query or a fragment; it must be http://host:port or "
            "https://host:port.",
            hint="Write /, ? and # of a password as %2F, %3F and %23.",
        )

    def proxy_for(url: str) -> str | None:
        target = urlsplit(url)
        if target.scheme != "https":
            return None
        if proxy is None and proxy_bypass_environment(target.netloc, found):
            return None
        return parts.geturl()

    return proxy_for


#: Bytes of the longest line of an answer's head.
_LONGEST_LINE = 1 << 17


@attrs.define
class Contact:
    """What one request has met: hand it in as `trace_request_ctx`, `once` as a middleware."""

    #: A connection was there: from now on the other side may have seen the request.
    connected: bool = False
    #: It was one that had been kept: the other side may have dropped it in the meantime.
    kept: bool = False

    async def once(
        self, request: aiohttp.ClientRequest, send: aiohttp.ClientHandlerType
    ) -> aiohttp.ClientResponse:
        """Send a request once.

        By itself aiohttp sends every GET twice when its connection breaks, over a new
        connection too. Only over a kept one there is a reason to.
        """
        try:
            return await send(request)
        except aiohttp.ClientConnectorError:
            raise
        except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError) as error:
            if self.kept:
                raise
            raise aiohttp.ClientConnectionError("the connection broke") from error


async def _on_made(_: aiohttp.ClientSession, context: Any, __: object) -> None:
    contact = context.trace_request_ctx
    contact.connected, contact.kept = True, False


async def _on_kept(_: aiohttp.ClientSession, context: Any, __: object) -> None:
    contact = context.trace_request_ctx
    contact.connected, contact.kept = True, True


def make_session(
    *,
    fresh: bool,
    limit: int,
    connect_timeout: float,
    ssl: ssl_module.SSLContext | bool,
    local_addr: tuple[str, int] | None,
    **connector_options: Any,
) -> aiohttp.ClientSession:
    """Return a session that keeps no cookies, reads no environment and names itself.

    Each of its requests needs a `Contact`.
    """
    options: dict[str, Any] = {"force_close": True} if fresh else {"keepalive_timeout": _KEEP_ALIVE}
    connector = aiohttp.TCPConnector(
        limit=limit, ssl=ssl, local_addr=local_addr, **options, **connector_options
    )
    trace = aiohttp.TraceConfig()
    trace.on_connection_create_end.append(_on_made)
    trace.on_connection_reuseconn.append(_on_kept)
    return aiohttp.ClientSession(
        connector=connector,
        cookie_jar=aiohttp.DummyCookieJar(),
        headers={"User-Agent": USER_AGENT},
        timeout=aiohttp.ClientTimeout(total=None, connect=connect_timeout),
        trace_configs=[trace],
        trust_env=False,
        # A paid task's id is not to be lost over a long header of somebody on the way.
        max_line_size=_LONGEST_LINE,
        max_field_size=_LONGEST_LINE,
    )
