"""Tell a video from the page that a host sends in its place."""

from __future__ import annotations

import re

from .errors import IntegrityError, clean
from .media import kind_of

__all__ = ["check_content"]

#: How pages begin, in any encoding that has ASCII in it, without the NULs of UTF-16 and UTF-32.
_PAGE = re.compile(rb"(\xef\xbb\xbf|\xff\xfe|\xfe\xff)?\s*<[!?a-z]", re.I)

#: Content types of what people read.
_READ = re.compile(r"\s*(text/|application/([\w.-]+\+)?(json|xml|xhtml|javascript|pdf)\b)", re.I)

_OTHERS = {
    b"%PDF-": "a PDF document",
    b"\x1f\x8b": "a gzip archive",
    b"\x1f\x9d": "a compress archive",
    b"BZh": "a bzip2 archive",
    b"\xfd7zXZ\0": "an xz archive",
    b"(\xb5/\xfd": "a zstd archive",
    b"7z\xbc\xaf\x27\x1c": "a 7z archive",
    b"Rar!\x1a\x07": "a rar archive",
    b"PK\x03\x04": "a zip archive",
}


def check_content(head: bytes, content_type: str = "") -> None:
    """Raise when the first bytes are a page or a text: the host's excuse, not the video.

    Other kinds than the known ones pass: which containers the service makes is not documented,
    and a paid result must not be thrown away for a new one.

    Args:
        head: The first bytes.
        content_type: What the host says that they are; believed when they say nothing themselves.
    """
    if not head:
        raise IntegrityError("The result is empty.", retryable=True, billed="yes")
    if kind_of(head) is not None:
        return
    other = next((what for start, what in _OTHERS.items() if head.startswith(start)), None)
    if other is not None:
        raise IntegrityError(f"What came is {other}, not a video.", retryable=True, billed="yes")
    if _is_text(head[:512]) or _PAGE.match(head.replace(b"\0", b"")) or _READ.match(content_type):
        raise IntegrityError(
            f"What came is a text, not a video: {clean(head[:80].decode(errors='replace'))}",
            retryable=True,
            billed="yes",
        )


def _is_text(head: bytes) -> bool:
    if b"\0" in head:
        return False
    try:
        head.decode()
    except UnicodeDecodeError as error:
        return error.start > len(head) - 4  # a letter that is cut
    return True
