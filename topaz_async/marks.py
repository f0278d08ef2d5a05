"""What an unfinished file is a part of, written beside it and locked by its writer."""

from __future__ import annotations

import contextlib
import json
import os
import stat
import time
from pathlib import Path
from typing import Self

import attrs

from .locks import lock

__all__ = ["Mark", "MarkFile", "is_ours"]

_FLAGS = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)

#: How often a file is made anew that its last writer just took away.
_TRIES = 100
#: Bytes of a mark; more are nobody's.
_LONGEST = 8192


@attrs.frozen
class Mark:
    """What a part is a part of."""

    #: Tells one thing from another, whichever link led to it.
    key: str
    #: What the host calls this version of it, fit for `If-Range`.
    validator: str
    #: Bytes of the whole; None when the host did not say.
    total: int | None = None


class MarkFile:
    """A mark on disk, and the lock that tells its living writer from a dead one.

    The system lets go of the lock even after `kill -9`.  Its methods block.
    """

    def __init__(self, path: Path, handle: int) -> None:
        self._path = path
        self._handle = handle

    @classmethod
    def claim(cls, path: Path) -> Self | None:
        """Make the file, or take a dead writer's; None when a living one has it.

        None as well when something else stands there: a link, a folder, somebody else's file.

        Raises:
            OSError: No file can be made there, or its file system knows no locks.
        """
        for _ in range(_TRIES):
            try:
                handle = os.open(path, _FLAGS, 0o600)
            except OSError:
                if os.path.lexists(path):
                    return None
                raise
            try:
                found = os.fstat(handle)
                if found.st_nlink and not (is_ours(found) and lock(handle)):
                    os.close(handle)
                    return None
                with contextlib.suppress(FileNotFoundError):
                    if os.path.samestat(found, os.lstat(path)):
                        return cls(path, handle)
            except OSError:  # no locks here, so it is of no use
                cls(path, handle).close(keep=False)
                raise
            os.close(handle)  # its writer ended and took it away before it was locked: again
        return None

    def read(self) -> Mark | None:
        """Return the mark; None when there is none, or one that nobody can trust any more."""
        os.lseek(self._handle, 0, os.SEEK_SET)
        try:
            values = json.loads(os.read(self._handle, _LONGEST))
            mark = Mark(values["key"], values["validator"], values["total"])
            is_fit = values["boot"] == _boot() and _is_text(mark.key) and _is_text(mark.validator)
        except (ValueError, TypeError, KeyError, RecursionError):
            return None
        is_size = mark.total is None or (type(mark.total) is int and mark.total > 0)
        return mark if is_fit and is_size else None

    def write(self, mark: Mark | None) -> None:
        """Write another mark, or none."""
        os.ftruncate(self._handle, 0)
        if mark is not None:
            os.lseek(self._handle, 0, os.SEEK_SET)
            os.write(self._handle, json.dumps({**attrs.asdict(mark), "boot": _boot()}).encode())

    def close(self, *, keep: bool) -> None:
        """Let go of the file, and take it away unless it is kept."""
        if not keep:
            with contextlib.suppress(OSError):
                self._path.unlink()
        os.close(self._handle)
        if not keep and os.name == "nt":
            with contextlib.suppress(OSError):
                self._path.unlink()  # Windows removes no open file


def is_ours(found: os.stat_result) -> bool:
    """Tell whether a file is a plain one of this user's, known by this name alone.

    In a folder that others may write, anything can stand under a name that can be foretold.
    """
    is_own = os.name == "nt" or found.st_uid == os.geteuid()
    return stat.S_ISREG(found.st_mode) and found.st_nlink == 1 and is_own


def _is_text(value: object) -> bool:
    return isinstance(value, str) and value.isascii() and value.isprintable() and value != ""


def _boot() -> str:
    """Name the time since this machine was started.

    A power cut leaves files of full length with holes in them: bytes of another boot are not
    gone on with.
    """
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        # The moment of the start, in minutes: at worst bytes are fetched again.
        return f"{(time.time() - time.monotonic()) / 60:.0f}"
