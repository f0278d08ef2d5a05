"""What the frame of an answer says about the file in it: whether it is fit, and whether whole."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

import aiohttp

from .errors import DownloadError, clean
from .ranges import is_but_a_part
from .retries import retry_after
from .urls import shown

__all__ = ["check_framing", "may_be_cut", "unfit"]

#: What is over after a while, besides all of 500 and above.
_PASSING = {408, 425, 429}


def unfit(response: aiohttp.ClientResponse, url: str) -> DownloadError:
    """Return the error of a status that brings no file."""
    error = DownloadError(
        f"{shown(url)} answered HTTP {response.status}.",
        code=response.status,
        retryable=response.status >= 500 or response.status in _PASSING,
        billed="yes",
    )
    error.retry_after = retry_after(response.headers, datetime.now(UTC))
    return error


def check_framing(headers: Mapping[str, str], url: str) -> None:
    """Raise when an answer with status 200 does not bring the whole file, or not as it is."""
    if is_but_a_part(headers):
        raise DownloadError(
            f"{shown(url)} answered with a part of the file as if it were all.",
            retryable=True,
            billed="yes",
        )
    coding = headers.get("Transfer-Encoding", "chunked").strip().lower()
    if coding != "chunked":
        raise DownloadError(
            f"{shown(url)} answered in the coding {clean(coding, 40)!r}, which nobody asked for.",
            retryable=True,
            billed="yes",
        )


def may_be_cut(response: aiohttp.ClientResponse) -> bool:
    """Tell whether the answer's frame leaves it open whether the body is whole.

    It does where nothing but the end of the connection ends it; and where it is packed, for the
    length is that of what is packed, which may itself be cut.
    """
    is_framed = response.content_length is not None or "Transfer-Encoding" in response.headers
    return not is_framed or "Content-Encoding" in response.headers
