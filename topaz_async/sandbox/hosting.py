"""Answer GET and HEAD for a hosted file: whole, in part, or not at all."""

from __future__ import annotations

import re
from collections.abc import Mapping
from email.utils import formatdate

from .answers import Answer, Slice, html_page
from .files import StoredFile

_RANGE = re.compile(r"bytes=(\d*)-(\d*)\Z")


def serve(file: StoredFile, headers: Mapping[str, str]) -> Answer:
    """Answer a request for ``file``; ``headers`` are the request's, keys in any case."""
    common = {
        "Accept-Ranges": "bytes",
        "ETag": file.etag,
        "Last-Modified": _date(file),
        "Cache-Control": "public, max-age=14400",
    }
    if file.etag in headers.get("If-None-Match", ""):
        return Answer(304, content_type=None, headers=common)
    wanted = headers.get("Range", "")
    if wanted and not _still_the_same(file, headers.get("If-Range", "")):
        wanted = ""
    try:
        part = _part(wanted, file.size)
    except ValueError:
        unsatisfied = {**common, "Content-Range": f"bytes */{file.size}"}
        return Answer(416, b"", "text/html", unsatisfied)
    if part is None:
        return Answer(
            200, content_type=file.mime, headers=common, file=Slice(file.disk, 0, file.size)
        )
    first, last = part
    common["Content-Range"] = f"bytes {first}-{last}/{file.size}"
    piece = Slice(file.disk, first, last - first + 1)
    return Answer(206, content_type=file.mime, headers=common, file=piece)


def dead_link(status: int = 404) -> Answer:
    """Answer for a link that never was, or is no more."""
    return html_page(status, {403: "Forbidden", 410: "Gone"}.get(status, "Not Found"))


def _still_the_same(file: StoredFile, condition: str) -> bool:
    # Only what was told of this very file will do, a later date no more than an earlier one.
    return condition in ("", file.etag, _date(file))


def _date(file: StoredFile) -> str:
    return formatdate(file.modified, usegmt=True)


def _part(wanted: str, size: int) -> tuple[int, int] | None:
    """Return the first and last byte asked for, None for all, or raise ValueError for none."""
    match = _RANGE.match(wanted.strip())
    if match is None or match[1] == match[2] == "":
        # Not understood, several ranges among them: the whole file is a lawful answer.
        return None
    if match[1] == "":
        first, last = max(0, size - int(match[2])), size - 1
        if match[2].strip("0") == "":
            raise ValueError
    else:
        first, last = int(match[1]), min(int(match[2] or size), size - 1)
        if match[2] and int(match[2]) < first:
            return None
    if first >= size:
        raise ValueError
    return first, last
