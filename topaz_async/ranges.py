"""What a host says about versions and parts of a file, and what can be asked of it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import timedelta
from email.utils import parsedate_to_datetime

from .marks import Mark

__all__ = ["asking_for", "is_but_a_part", "is_rest_of", "validator_of"]

_LONGEST = 1024
_RANGE = re.compile(r"bytes ([0-9]{1,18})-([0-9]{1,18})/([0-9]{1,18})")


def validator_of(headers: Mapping[str, str]) -> str | None:
    """Return what proves later that a file is still the same, byte for byte; None for nothing.

    A strong ETag, or a Last-Modified that is older than the answer.

    Source:
        RFC 9110, 8.8.
    """
    etag = headers.get("ETag", "").strip()
    if etag:
        is_fit = len(etag) <= _LONGEST and etag.isascii() and etag.isprintable()
        is_strong = len(etag) > 1 and etag.startswith('"') and etag.endswith('"')
        return etag if is_fit and is_strong else None
    modified = headers.get("Last-Modified", "").strip()
    try:
        age = parsedate_to_datetime(headers.get("Date", "")) - parsedate_to_datetime(modified)
    except (TypeError, ValueError, IndexError, OverflowError):
        return None
    # Within one second a file can change twice under one date.
    return modified if age >= timedelta(seconds=1) and modified.isascii() else None


def asking_for(offset: int, mark: Mark) -> dict[str, str]:
    """Return the headers that ask for the rest, or for the whole if it is another one by now.

    Source:
        RFC 9110, 13.1.5.
    """
    return {"Range": f"bytes={offset}-", "If-Range": mark.validator}


def is_rest_of(headers: Mapping[str, str], offset: int, mark: Mark) -> int | None:
    """Return the bytes of the whole when an answer with status 206 is the rest that was asked for.

    None when it is anything else: another range, another version, another size, a packed one.
    A host that gave an ETag with the whole gives it with a part too (RFC 9110, 15.3.7): one
    that does not may send a part of anything.
    """
    found = _RANGE.fullmatch(headers.get("Content-Range", "").strip())
    if found is None:
        return None
    first, last, total = map(int, found.groups())
    name = "ETag" if mark.validator.startswith('"') else "Last-Modified"
    size = str(total - offset)
    is_rest = (
        (first, last) == (offset, total - 1)
        and mark.total in (None, total)
        and headers.get("Content-Length", size).strip() == size
        and headers.get(name, "" if name == "ETag" else mark.validator).strip() == mark.validator
        and "Content-Encoding" not in headers
    )
    return total if is_rest else None


def is_but_a_part(headers: Mapping[str, str]) -> bool:
    """Tell whether an answer with status 200 names a range that is less than the whole."""
    if "Content-Range" not in headers:
        return False
    found = _RANGE.fullmatch(headers["Content-Range"].strip())
    return found is None or int(found[1]) != 0 or int(found[2]) + 1 != int(found[3])
