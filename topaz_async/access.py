"""What a key, an origin and an address to connect from must be to be used."""

from __future__ import annotations

import os

from .errors import ConfigurationError
from .texts import quoted
from .urls import check_url

__all__ = ["local_address", "origin_url", "usable_key"]


def usable_key(key: str | None) -> str:
    """Return the key, once it is certain that it can stand in a header."""
    source = "api_key"
    if key is None:
        key, source = os.environ.get("KIE_API_KEY"), "KIE_API_KEY"
    if key is None:
        raise ConfigurationError(
            "There is no API key.",
            hint="Pass api_key=..., or set the environment variable KIE_API_KEY.",
        )
    if not isinstance(key, str):
        raise ConfigurationError(
            f"{source} is a text, not {type(key).__name__}.",
            hint="Set it to the key of your account.",
        )
    if not key:
        raise ConfigurationError(f"{source} is empty.", hint="Set it to the key of your account.")
    if not key.isascii() or not key.isprintable() or " " in key:
        raise ConfigurationError(
            f"{source} holds line breaks, spaces or letters that no key has.",
            hint="Copy the key again, without what stood around it.",
        )
    return key


def local_address(address: tuple[str, int] | None) -> tuple[str, int] | None:
    """Return an address to connect from, once it is certain that it is one."""
    if address is None:
        return None
    match address:
        case (str(host), int(port)) if host and not isinstance(port, bool) and 0 <= port <= 65535:
            return host, port
    raise ConfigurationError(
        f"local_addr is a pair of host and port, not {quoted(address)}.",
        hint='Port 0 takes a free one, as in local_addr=("192.0.2.1", 0).',
    )


def origin_url(url: str, what: str) -> str:
    """Return an origin without its last slash, once it is certain that it may see the key."""
    parts = check_url(url, what, ConfigurationError)
    if parts.query or parts.fragment:
        raise ConfigurationError(f"{what} has a query or a fragment; name the origin alone.")
    return url.rstrip("/")
