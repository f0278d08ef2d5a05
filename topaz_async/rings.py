"""Rings handed on between the processes of one machine, through a file beside the journal.

One line for each verified callback: the task id and the nonce of its URL.  A line says no more
than "ask now", so a lost one costs a pause of the poll, and a wrong one a question.
"""

from __future__ import annotations

import errno
import os
import stat
from contextlib import suppress
from io import FileIO

from .locks import lock
from .texts import usable_id

__all__ = ["RingReader", "RingWriter", "rings_beside"]

#: What tells a file from another of its name: device, number, and first line.
_Identity = tuple[int, int, bytes]

#: Bytes after which a new file is begun: about nine thousand rings.
_LARGEST = 1 << 19
#: Files of which the reader knows how far it has come.
_TAILS = 4
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
            if os.fstat(handle).st_size >= self._largest:
                with suppress(OSError):  # where another process has just done it, or may not
                    self._put_aside(handle)
        finally:
            os.close(handle)

    def _put_aside(self, handle: int) -> None:
        """Put the full file aside, once: a second time would put the next one in its place."""
        if lock(handle) and os.path.samestat(os.fstat(handle), os.stat(self.path)):
            os.replace(self.path, _aside(self.path))


class _Tail:
    """What of one file has not been read yet."""

    def __init__(self, file: _Identity) -> None:
        self._file = file
        self._position = 0
        self._rest = b""

    def lines(self, path: str) -> list[bytes]:
        """Return the new lines; none when another file has just taken this one's place."""
        # Opened anew each time: a file that is held open would have to be closed by somebody.
        with _opened(path) as file:
            if _identity_of(file) != self._file:
                return []
            file.seek(self._position)
            *lines, rest = (self._rest + file.read(_MOST)).split(b"\n")
            self._position = file.tell()
        self._rest = rest[:_LONGEST]
        return lines


class RingReader:
    """Reads what other processes noted, each ring once, those before its making included.

    Args:
        path: From `rings_beside`; the file need not exist yet.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        #: Of the file and of those put aside, to which a slow writer may still add; latest last.
        self._tails: dict[_Identity, _Tail] = {}

    def read(self) -> list[tuple[str, str | None]]:
        """Return the new rings, oldest first; none of a file that cannot be read."""
        lines: list[bytes] = []
        for path in (_aside(self.path), self.path):
            with suppress(OSError):
                with _opened(path) as file:
                    name = _identity_of(file)
                self._tails[name] = self._tails.pop(name) if name in self._tails else _Tail(name)
                lines += self._tails[name].lines(path)
        while len(self._tails) > _TAILS:
            del self._tails[next(iter(self._tails))]
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


def _opened(path: str) -> FileIO:
    """Open a plain file; a pipe of that name must not make anybody wait."""
    file = FileIO(os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0)))
    if stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        return file
    file.close()
    raise OSError(errno.EINVAL, os.strerror(errno.EINVAL), path)


def _identity_of(file: FileIO) -> _Identity:
    found = os.fstat(file.fileno())
    # A system may give a number of a file that is gone to the next one.
    first = file.read(_LONGEST).lstrip(b"\n").partition(b"\n")[0]
    return found.st_dev, found.st_ino, first
