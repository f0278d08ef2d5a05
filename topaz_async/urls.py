"""What a URL may be before anything is sent to it or about it."""

from __future__ import annotations

import ipaddress
import re
from urllib.parse import SplitResult, urlsplit

from .errors import InvalidInputError, TopazError, clean

__all__ = ["are_apart", "check_url", "is_loopback", "shown", "without_query"]

#: Longer URLs are refused, in characters; no proxy or server on the way promises more.
MAX_URL = 8192

_HTTPS_ONLY = "Use https; plain http is for loopback only."

# A name, in any script, or a literal address; what else a parser lets through is read in
# another way by the next one.
_HOST = re.compile(r"[\w.:-]*\w[\w.:-]*")

# All that can be a user's name and password, and the scheme before it.
_CREDENTIALS = re.compile(r"\A((?:[a-z][a-z0-9+.-]*:)?//)?.*@", re.ASCII | re.DOTALL | re.I)


def is_loopback(host: str | None) -> bool:
    """Tell whether a host name or literal address stands for this machine itself."""
    if not host:
        return False
    if host.lower().rstrip(".") == "localhost":
        return True
    try:
        address = ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return False
    return bool((getattr(address, "ipv4_mapped", None) or address).is_loopback)


def are_apart(service: str | None, other: str | None) -> bool:
    """Tell whether of two services one stands on this machine and the other does not.

    What was rehearsed in a sandbox was not bought.  Two ports of this machine are the same, for a
    sandbox that is started again has another one; and so are two addresses elsewhere, for one may
    be a gateway to the other.

    Args:
        service, other: Their origins; None, where nobody knows, may be any.
    """
    if service is None or other is None:
        return False
    return is_loopback(urlsplit(service).hostname) != is_loopback(urlsplit(other).hostname)


def check_url(
    url: object,
    what: str,
    error: type[TopazError] = InvalidInputError,
) -> SplitResult:
    """Return the parts of a URL that is fit to be used.

    Fit is: https, or http to loopback; a host; no credentials; no white space or control
    characters; at most 8192 characters.

    Args:
        url: The text to look at.
        what: What the URL is for, in the error's words ("video_url").
        error: The class raised for an unfit URL.
    """
    if not isinstance(url, str):
        raise error(f"{what} must be a URL in text, not {type(url).__name__}.")
    if len(url) > MAX_URL:
        raise error(f"{what} has {len(url)} characters; at most {MAX_URL} are allowed.")
    if not url or any(ch.isspace() or not ch.isprintable() for ch in url):
        raise error(f"{what} is empty, or holds white space or control characters.")
    try:
        parts = urlsplit(url)
        host, _port = parts.hostname, parts.port
    except ValueError:
        raise error(f"{what} is no URL: {shown(url)!r}.") from None
    if parts.username is not None or parts.password is not None:
        raise error(f"{what} holds a user name or password.", hint="Take them out of the URL.")
    if parts.scheme not in ("http", "https"):
        raise error(f"{what} must begin with https://: {shown(url)!r}.", hint=_HTTPS_ONLY)
    if not host or not _HOST.fullmatch(host):
        raise error(f"{what} names no host: {shown(url)!r}.")
    if parts.scheme == "http" and not is_loopback(host):
        raise error(f"{what} is plain http to {clean(host, 80)}.", hint=_HTTPS_ONLY)
    return parts


def without_query(url: str) -> str:
    """Return the URL without query and fragment: signed links differ in nothing else."""
    return url.split("#", 1)[0].split("?", 1)[0]


def shown(url: str) -> str:
    """Return a URL as an error or log line may show it, without what can be secret."""
    # First, and to the last @: a password may hold what ends the host or the path.
    return clean(without_query(_CREDENTIALS.sub(r"\1", url, count=1)), 120)
