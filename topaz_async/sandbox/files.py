"""The files the sandbox hosts: uploads and results, under URLs that may die."""

from __future__ import annotations

import re
import secrets
import time
from pathlib import Path
from typing import Final

import attrs
from yarl import URL

from .loopback import loopback_url

#: Content types by file ending; the machine's own table differs from place to place.
TYPES: Final = {
    ".mp4": "video/mp4",
    ".mov": "video/quicktime",
    ".mkv": "video/x-matroska",
    ".webm": "video/webm",
    ".m4a": "audio/mp4",
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".webp": "image/webp",
    ".txt": "text/plain",
}
#: File endings by content type.
ENDINGS: Final = {mime: ending for ending, mime in reversed(TYPES.items())}
#: File endings by the bytes with which a file begins.
SIGNATURES: Final = {
    rb"....(ftypqt  |moov|mdat|wide)": ".mov",
    rb"....ftypM4A": ".m4a",
    rb"....ftyp": ".mp4",
    rb"\x1a\x45\xdf\xa3.{1,200}?\x42\x82.{1,8}?webm": ".webm",
    rb"\x1a\x45\xdf\xa3": ".mkv",
    rb"\x89PNG\r\n\x1a\n": ".png",
    rb"\xff\xd8\xff": ".jpg",
    rb"RIFF....WEBP": ".webp",
}
#: Bytes that a signature needs.
HEAD: Final = 256
#: The number of the sandbox's account, a part of each upload's path.
ACCOUNT_NUMBER: Final = 100001


@attrs.frozen
class StoredFile:
    """One hosted file."""

    #: Decoded path of its URL.
    url_path: str
    disk: Path
    size: int
    #: SHA-256 in hex for uploads, random for results.
    digest: str
    #: Seconds since 1970.
    modified: float
    #: Moment on the loop's clock from which the link is dead; None for never.
    dies: float | None = None
    #: Whether the service made it, so that download-url renews it.
    result: bool = False

    @property
    def mime(self) -> str:
        """Its content type, by its name."""
        return mime_of(self.url_path)

    @property
    def etag(self) -> str:
        """Its entity tag, quoted."""
        return f'"{self.digest[:32]}"'


def mime_of(name: str) -> str:
    """Return the content type of a file name."""
    return TYPES.get(Path(name).suffix.lower(), "application/octet-stream")


def ending_of(name: str, mime: str, head: bytes) -> str:
    """Return the ending for a file, with its dot; empty if nothing tells.

    Args:
        name: Its own name, whose ending comes first.
        mime: What its sender calls it.
        head: Its first bytes.
    """
    if own := re.search(r"\.[A-Za-z0-9]{1,5}\Z", name):
        return own[0]
    if mime in ENDINGS:
        return ENDINGS[mime]
    for signature, ending in SIGNATURES.items():
        if re.match(signature, head, re.DOTALL):
            return ending
    short = re.fullmatch(r"\w+/([a-z0-9]{2,4})", mime)
    return f".{short[1]}" if short else ""


class FileStore:
    """Files on disk under names of the sandbox's own, found by the URLs they were given."""

    def __init__(self, folder: Path, base_url: str) -> None:
        self._folder, self._base = folder, URL(base_url)
        self._files: dict[str, StoredFile] = {}

    def scratch(self, ending: str = "") -> Path:
        """Return a path nobody uses, for a file on its way in."""
        return self._folder / f"{secrets.token_hex(16)}{ending}"

    def add_upload(self, disk: Path, folder: str, name: str, size: int, digest: str) -> StoredFile:
        """Host an upload; one of the same name is replaced."""
        path = (
            f"/kieai/{ACCOUNT_NUMBER}/{folder}/{name}"
            if folder
            else f"/kieai/{ACCOUNT_NUMBER}/{name}"
        )
        return self._add(StoredFile(path, disk, size, digest, time.time()))

    def add_result(self, disk: Path, name: str, size: int, dies: float | None) -> StoredFile:
        """Host a result until the moment ``dies``."""
        digest = secrets.token_hex(32)
        return self._add(StoredFile(f"/as/{name}", disk, size, digest, time.time(), dies, True))

    def add_link(self, file: StoredFile, dies: float) -> StoredFile:
        """Give a result one more URL, until the moment ``dies``."""
        path = f"/fresh/{secrets.token_hex(16)}/{file.url_path.rpartition('/')[2]}"
        return self._add(attrs.evolve(file, url_path=path, dies=dies))

    def _add(self, file: StoredFile) -> StoredFile:
        self._files[file.url_path] = file
        return file

    def at(self, path: str) -> StoredFile | None:
        """Return the file at a decoded URL path, its link dead or alive."""
        return self._files.get(path)

    def find(self, text: object) -> StoredFile | None:
        """Return the file behind a URL of this sandbox."""
        url = loopback_url(text)
        if url is None or url.origin() != self._base:
            return None
        return self._files.get(url.path)

    def url_of(self, file: StoredFile) -> str:
        """Return the file's URL."""
        return str(self._base.with_path(file.url_path))
