"""What a local video is: kind by signature bytes, size, seconds."""

from __future__ import annotations

import hashlib
import os
import stat
import struct
from pathlib import Path
from typing import BinaryIO

import attrs

from .errors import InvalidInputError
from .texts import clean, quoted

__all__ = [
    "HEAD",
    "IMAGES",
    "KINDS",
    "VIDEOS",
    "Media",
    "check_head",
    "content_hash",
    "inspect",
    "is_cut",
    "kind_of",
]

#: Kinds that topaz/video-upscale takes, with their MIME types.
#: Source: docs.kie.ai/market/topaz/video-upscale, read 2026-11-22.
VIDEOS = {"mp4": "video/mp4", "mov": "video/quicktime", "mkv": "video/x-matroska"}
#: Kinds that topaz/image-upscale takes.
IMAGES = {"jpeg": "image/jpeg", "png": "image/png", "webp": "image/webp"}

KINDS = {**VIDEOS, **IMAGES}

#: How many of a file's first bytes tell its kind.
HEAD = 4096

#: Elements that are looked at on the way to a clip's length, and bytes of the one that tells it.
_MAX_STEPS = 10_000
_MAX_INFO = 1 << 16
#: Elements that are looked at on the way to a film's end.
#: Atoms of a film, of a part of one, and of a picture that say what is in the others.
_DESCRIBING = {b"moov", b"moof", b"meta"}

_MAX_WALK = 1_000_000
#: Lengths that no clip has, in seconds: a header that says more is broken.
_LONGEST = 1e9

# Top-level atoms with which a QuickTime file may begin when it has no `ftyp`.
_OLD_QUICKTIME = {b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot"}
_AUDIO_BRANDS = {b"M4A ", b"M4B ", b"M4P "}
_IMAGE_BRANDS = {b"heic", b"heix", b"mif1", b"msf1", b"avif", b"avis"}


def kind_of(head: bytes) -> str | None:
    """Return what the first bytes of a file say that it is; None when they say nothing.

    Returns:
        One of "mp4", "mov", "mkv", "webm", "avi", "jpeg", "png", "webp", "gif", "m4a", "heif".
    """
    # An atom begins with its size: a text would be one of half a gigabyte and more.
    if head[:1] < b" " and head[4:8] == b"ftyp":
        brand = head[8:12]
        if brand == b"qt  ":
            return "mov"
        return "m4a" if brand in _AUDIO_BRANDS else "heif" if brand in _IMAGE_BRANDS else "mp4"
    if head[:1] < b" " and head[4:8] in _OLD_QUICKTIME:
        return "mov"
    if head.startswith(b"\x1a\x45\xdf\xa3"):
        return "webm" if b"webm" in head[:64] else "mkv"
    if head.startswith(b"RIFF"):
        return {b"AVI ": "avi", b"WEBP": "webp"}.get(head[8:12])
    for signature, kind in (
        (b"\xff\xd8\xff", "jpeg"),
        (b"\x89PNG\r\n\x1a\n", "png"),
        (b"GIF8", "gif"),
    ):
        if head.startswith(signature):
            return kind
    return None


@attrs.frozen(kw_only=True)
class Media:
    """A local file that has been looked at."""

    path: Path
    #: A key of `VIDEOS` or `IMAGES`.
    kind: str
    mime_type: str
    #: Bytes.
    size: int
    #: Length of the clip in seconds, as its header says; None when it does not say.
    seconds: float | None = None


def inspect(
    path: str | os.PathLike[str], *, max_bytes: int, kinds: dict[str, str] = VIDEOS
) -> Media:
    """Look at a local file before a byte of it is sent.

    Reads a few kilobytes; it blocks, so call it off the event loop.

    Args:
        path: The file.
        max_bytes: The largest size allowed, in bytes.
        kinds: The kinds allowed, with their MIME types.

    Raises:
        InvalidInputError: Missing, unreadable, no regular file, empty, too large or of a kind
            that the service does not take.
    """
    place = Path(os.fsdecode(path))
    shown = clean(place, 200) or quoted(str(place))
    try:
        status = place.stat()
        if stat.S_ISDIR(status.st_mode):
            raise InvalidInputError(f"{shown} is a folder, not a video.")
        if not stat.S_ISREG(status.st_mode):
            raise InvalidInputError(f"{shown} is no regular file.")
        with place.open("rb") as file:
            kind = _check(shown, file.read(HEAD), status.st_size, max_bytes, kinds)
            seconds = _seconds(file, kind, status.st_size) if kind in VIDEOS else None
    except FileNotFoundError:
        raise InvalidInputError(f"{shown} does not exist.") from None
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise InvalidInputError(f"{shown} cannot be read: {reason}.") from None
    except ValueError:  # a NUL byte in the name
        raise InvalidInputError(f"{shown} is no file name.") from None
    return Media(path=place, kind=kind, mime_type=kinds[kind], size=status.st_size, seconds=seconds)


def check_head(head: bytes, size: int, *, max_bytes: int, kinds: dict[str, str]) -> str:
    """Return the kind of what begins so and has so many bytes; raises as `inspect` does."""
    return _check("The content", head[:HEAD], size, max_bytes, kinds)


def content_hash(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, in hex; it blocks, so call it off the event loop.

    Raises:
        InvalidInputError: It cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise InvalidInputError(f"{clean(str(path), 200)} cannot be read: {reason}.") from None


def is_cut(file: BinaryIO, size: int) -> bool:
    """Tell whether an mp4, mov, mkv or webm film reaches past the end of its file.

    Other kinds, and what is broken in another way, are not judged: False.

    Args:
        file: The file; it is read here and there, from its beginning on.
        size: Its bytes.
    """
    file.seek(0)
    kind = kind_of(file.read(HEAD))
    if kind in ("mp4", "mov"):
        return _is_cut_mp4(file, size)
    return kind in ("mkv", "webm") and _is_cut_matroska(file, size)


def _check(shown: str, head: bytes, size: int, max_bytes: int, kinds: dict[str, str]) -> str:
    if size == 0:
        raise InvalidInputError(f"{shown} is empty.")
    kind = kind_of(head)
    if kind is None or kind not in kinds:
        raise InvalidInputError(
            f"{shown} is {_named(kind)}; the service takes {', '.join(kinds)}.",
            hint="Convert it first; the file's name does not matter, its bytes do.",
        )
    if size > max_bytes:
        raise InvalidInputError(
            f"{shown} has {size / 1048576:.1f} MB ({size} bytes); the limit is "
            f"{max_bytes / 1048576:.1f} MB ({max_bytes} bytes).",
            hint="The limit is Quotas(max_upload_bytes=...): 10 MB is the oldest published "
            "figure, the newest page of the service says 50 MB.",
        )
    return kind


def _named(kind: str | None) -> str:
    return f"a file of kind {kind}" if kind else "no video (its first bytes are of no known kind)"


def _seconds(file: BinaryIO, kind: str, size: int) -> float | None:
    """Return the length that a file's header gives; None for broken or silent headers."""
    try:
        seconds = _matroska_seconds(file, size) if kind == "mkv" else _mp4_seconds(file, size)
    except (struct.error, IndexError, OverflowError):
        return None
    return seconds if seconds is not None and 0 < seconds < _LONGEST else None


def _mp4_seconds(file: BinaryIO, size: int) -> float | None:
    """Walk the atoms to moov/mvhd.  Source: ISO/IEC 14496-12, 8.2.2."""
    offset, end = 0, size
    for _ in range(_MAX_STEPS):
        if offset + 8 > end:
            return None
        file.seek(offset)
        length, name = struct.unpack(">I4s", file.read(8))
        header = 8
        if length == 1:
            (length,) = struct.unpack(">Q", file.read(8))
            header = 16
        elif length == 0:
            length = end - offset
        if length < header:
            return None
        if name == b"moov":
            offset, end = offset + header, min(end, offset + length)
        elif name == b"mvhd":
            (version,) = struct.unpack(">B3x", file.read(4))
            form = ">16xIQ" if version == 1 else ">8xII"
            timescale, duration = struct.unpack(form, file.read(struct.calcsize(form)))
            unknown = (1 << (64 if version == 1 else 32)) - 1
            # Fragmented files say nothing here: their duration is 0.
            return duration / timescale if timescale and duration != unknown else None
        else:
            offset += length
    return None


def _is_cut_mp4(file: BinaryIO, size: int) -> bool:
    """Walk the top-level atoms; without the one that describes the rest it is no film."""
    offset, is_described = 0, False
    for _ in range(_MAX_WALK):
        if offset >= size:
            return offset > size or not is_described
        file.seek(offset)
        head = file.read(16)
        if len(head) < 8:
            return any(head) or not is_described
        length, name = struct.unpack_from(">I4s", head)
        is_described |= name in _DESCRIBING
        if length == 0 or not (name.isascii() and name.decode().isprintable()):
            return not is_described  # the rest of the file, or no atom: filling
        smallest = 8
        if length == 1:
            if len(head) < 16:
                return True
            (length,) = struct.unpack_from(">Q", head, 8)
            smallest = 16
        if length < smallest:
            return not is_described
        offset += length
    return False


def _is_cut_matroska(file: BinaryIO, size: int) -> bool:
    """Walk the top-level elements, and those in a Segment or Cluster of unknown size."""
    offset = 0
    for _ in range(_MAX_WALK):
        if offset >= size:
            return offset > size
        file.seek(offset)
        head = file.read(12)
        identifier, place = _element_id(head, 0)
        if place > 4:
            return False  # no element: filling
        if place >= len(head):
            return True
        try:
            length, at = _vint(head, place)
        except IndexError:
            return False
        if at > len(head):
            return True
        if length < (1 << 7 * (at - place)) - 1:
            offset += at + length
        elif identifier in (0x18538067, 0x1F43B675):
            offset += at
        else:
            return False
    return False


def _matroska_seconds(file: BinaryIO, size: int) -> float | None:
    """Walk to Segment/Info: TimestampScale x Duration.  Source: RFC 9559, 5.1.2."""
    offset = 0
    for _ in range(_MAX_STEPS):
        if offset >= size:  # no file system lets one seek to where a broken size leads
            return None
        file.seek(offset)
        head = file.read(12)
        identifier, at = _element_id(head, 0)
        length, at = _vint(head, at)
        if identifier == 0x1549A966:
            file.seek(offset + at)
            return _info_seconds(file.read(min(length, _MAX_INFO)))
        # The Segment, which may be of unknown size, is walked through, everything else over.
        offset += at if identifier == 0x18538067 else at + length
    return None


def _info_seconds(info: bytes) -> float | None:
    scale, duration, place = 1_000_000, None, 0
    while place < len(info):
        identifier, place = _element_id(info, place)
        length, place = _vint(info, place)
        value = info[place : place + length]
        if identifier == 0x2AD7B1:
            scale = int.from_bytes(value, "big")
        elif identifier == 0x4489:
            (duration,) = struct.unpack(">f" if length == 4 else ">d", value)
        place += length
    return None if duration is None else float(duration) * scale / 1e9


def _element_id(data: bytes, at: int) -> tuple[int, int]:
    width = 9 - data[at].bit_length()
    return int.from_bytes(data[at : at + width], "big"), at + width


def _vint(data: bytes, at: int) -> tuple[int, int]:
    width = 9 - data[at].bit_length()
    if width > 8:
        raise IndexError("no such size")
    value = int.from_bytes(data[at : at + width], "big") & ((1 << (7 * width)) - 1)
    return value, at + width
