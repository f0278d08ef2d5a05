"""Rings handed on between the processes of one machine, through a file beside the journal.

One line for each verified callback: the task id and the nonce of its URL.  A line says no more
than "ask now", so a lost one costs a pause of the poll, and a wrong one a question.
"""

from __future__ import annotations

import os
from contextlib import suppress
from io import FileIO

from .texts import usable_id

__all__ = ["RingReader", "RingWriter", "rings_beside"]

#: What tells a file from another of its name: device, number, and first line.
_Identity = tuple[int, int, bytes]

#: Bytes after which a new file is begun: about nine thousand rings.
_LARGEST = 1 << 19
#: The most that is read at a time, and the longest line, in bytes.
_MOST, _LONGEST = 8 * _LARGEST, 4096


def rings_beside(journal: object) -> str | None:
    """Return the file of rings that belongs to a journal or its path; None when it has no file."""
    path = getattr(journal, "path", journal)
    if not isinstance(path, (str, os.PathLike)):
        return None
    # One file for all who come to the same journal, whichever link they came by.
    return os.path.realpath(os.fsdecode(path)) + "-rings"


class RingWriter:
    """Notes rings for other processes.

    Args:
        path: From `rings_beside`.
        largest: Bytes after which a new file takes the old one's place.
    """

    def __init__(self, path: str, *, largest: int = _LARGEST) -> None:
        self.path = path
        self._largest = largest

    def ring(self, task_id: str, nonce: str | None) -> None:
        """Add a ring, whoever else writes.

        Raises:
            OSError: It cannot be written.
        """
        # Begins with a line's end: the writer before may have been cut off by a full disk.
        line = f"\n{task_id} {nonce or ''}\n".encode()
        # Opened anew each time: another process may have begun a new file.
        handle = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            os.write(handle, line)
            is_full = os.fstat(handle).st_size >= self._largest
        finally:
            os.close(handle)
        if is_full:
            with suppress(OSError):  # where another process has just done it, or may not
                os.replace(self.path, _aside(self.path))


class RingReader:
    """Reads what other processes noted, each ring once, those before its making included.

    Args:
        path: From `rings_beside`; the file need not exist yet.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        #: What is being read, and what was put aside and read to its end.
        self._file: _Identity | None = None
        self._old: _Identity | None = None
        self._position = 0
        self._rest = b""

    def read(self) -> list[tuple[str, str | None]]:
        """Return the new rings, oldest first; nothing when the file cannot be read."""
        rings: list[tuple[str, str | None]] = []
        file, old = _identity(self.path), _identity(_aside(self.path))
        if old is not None and old != self._old:
            if old != self._file:  # nobody has seen it as it was filled
                self._begin(old)
            rings += self._lines(_aside(self.path))
            self._old = old
        if file != self._file:
            self._begin(file)
        return rings + self._lines(self.path)

    def _begin(self, file: _Identity | None) -> None:
        self._file, self._position, self._rest = file, 0, b""

    def _lines(self, path: str) -> list[tuple[str, str | None]]:
        lines: list[bytes] = []
        # Opened anew each time: a file that is held open would have to be closed by somebody.
        with suppress(OSError), open(path, "rb", buffering=0) as file:
            if _identity_of(file) != self._file:
                return []  # it has just taken the other one's place: the next time
            file.seek(self._position)
            *lines, rest = (self._rest + file.read(_MOST)).split(b"\n")
            self._position = file.tell()
            self._rest = rest[:_LONGEST]
        rings = []
        for line in lines:
            # Anybody who may write to the journal's folder may have written this.
            task_id, _, nonce = line.decode(errors="replace").partition(" ")
            if usable_id(task_id) is not None:
                rings.append((task_id, usable_id(nonce)))
        return rings


def _aside(path: str) -> str:
    """Return where a full file is put."""
    return f"{path}.old"


def _identity(path: str) -> _Identity | None:
    with suppress(OSError), open(path, "rb", buffering=0) as file:
        return _identity_of(file)
    return None


def _identity_of(file: FileIO) -> _Identity:
    found = os.fstat(file.fileno())
    # A system may give a number of a file that is gone to the next one.
    first = file.read(_LONGEST).lstrip(b"\n").partition(b"\n")[0]
    return found.st_dev, found.st_ino, first
