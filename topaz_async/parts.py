"""The file beside a target that becomes the target when it is whole."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import secrets
from collections.abc import Callable
from io import FileIO
from pathlib import Path

from .direct import PAGE, is_refusal, set_direct
from .marks import Mark, MarkFile, is_ours
from .media import is_cut

__all__ = ["Part"]

_OPEN = os.O_RDWR | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)

#: Writers of one name at once.
_MOST = 1000

#: Bytes after which what lies in the system's cache is brought to the disk.
_SYNC = 32 << 20

#: Not every system has the quicker one.
_sync = getattr(os, "fdatasync", os.fsync)

#: What file systems without locks say.
_NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP}


class Part:
    """One writer's file beside its target; a dead writer's is taken over, a living one's never.

    Two hidden files stand beside a target while it is written: its bytes (`.part`), and what
    they are bytes of (`.mark`).  A lock on the second belongs to the writer; whoever comes
    while it is held takes the next name.

    Its methods block, and raise `OSError`.  Not to be called from two threads at once.

    Args:
        target: The file to become.
        key: Tells what shall lie there from all else; a dead writer's bytes of anything else
            are of no use.
    """

    def __init__(self, target: Path, key: str) -> None:
        self._target = target
        #: As it is written down: links hold account numbers.
        self.key = hashlib.sha256(key.encode(errors="replace")).hexdigest()
        self._path: Path | None = None
        self._file: FileIO | None = None
        self._claim: MarkFile | None = None
        #: Bytes that are there.
        self.size = 0
        #: What they are bytes of; None when they cannot be gone on with.
        self.mark: Mark | None = None
        self._can_be_direct, self._is_direct = True, False
        self._unsynced = 0

    @property
    def is_open(self) -> bool:
        """Whether there is anything to leave."""
        return self._file is not None

    def find(self) -> None:
        """Take over the file of a writer that is dead; where there is no folder, there is none."""
        if self._target.parent.is_dir():
            self._take()

    def _take(self) -> None:
        folder, name = self._target.parent, self._target.name
        hint = name.encode(errors="ignore")[:80].decode(errors="ignore")
        # Names may be as long as names may be: the digest stands for the whole one.
        stem = f".{hint}.{hashlib.sha256(os.fsencode(name)).hexdigest()[:12]}"
        try:
            for number in range(_MOST):
                if self._take_place(folder / (f"{stem}.{number}" if number else stem)):
                    return
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
            # Nobody could tell the living from the dead: a name that is never used again.
            self._create(folder / f".{hint}.{secrets.token_hex(6)}.part")
            return
        raise FileExistsError(errno.EEXIST, "too many others are writing it")

    def _take_place(self, stem: Path) -> bool:
        claim = MarkFile.claim(stem.with_name(f"{stem.name}.mark"))
        if claim is None:
            return False
        path = stem.with_name(f"{stem.name}.part")
        try:
            if not self._reopen(path, claim.read()):
                path.unlink(missing_ok=True)  # the name, not what it may lead to
                self._create(path)
        except OSError as error:
            claim.close(keep=False)
            if isinstance(error, (FileExistsError, PermissionError, IsADirectoryError)):
                return False  # a folder, or somebody else's: this name is of no use
            raise
        self._claim = claim
        return True

    def _reopen(self, path: Path, mark: Mark | None) -> bool:
        if mark is None or mark.key != self.key:
            return False
        try:
            handle = os.open(path, _OPEN)
        except OSError:
            return False
        found = os.fstat(handle)
        if not is_ours(found) or found.st_size > (mark.total or found.st_size):
            os.close(handle)
            return False
        self._path, self._file = path, FileIO(handle, "r+b")
        self.size, self.mark = found.st_size, mark
        return True

    def _create(self, path: Path) -> None:
        handle = os.open(path, _OPEN | os.O_CREAT | os.O_EXCL, 0o666)
        self._path, self._file = path, FileIO(handle, "r+b")

    def begin(self, mark: Mark | None) -> None:
        """Begin with the first byte of what `mark` says; None when it cannot be gone on with."""
        if self._file is None:
            self._target.parent.mkdir(parents=True, exist_ok=True)
            self._take()
        if self._claim is not None:
            self._claim.write(None)  # no mark may ever stand beside other bytes
        self.go_on(0)
        if self._claim is not None:
            self._claim.write(mark)
        self.mark = mark

    def go_on(self, offset: int) -> None:
        """Go on from an offset within the bytes that are there."""
        assert self._file is not None
        self._file.truncate(offset)
        self._file.seek(offset)
        self.size = offset

    def write(self, data: memoryview) -> None:
        """Write on; whole pages of the file go past the system's cache.

        For that, pages of the memory must begin where those of the file do.
        """
        while data:
            odd = -self.size % PAGE
            whole = (len(data) - odd) // PAGE * PAGE
            piece = data if whole <= 0 else data[: odd or whole]
            done = self._write(piece, whole > 0 and not odd)
            data = data[done:]
            self.size += done

    def _write(self, data: memoryview, direct: bool) -> int:
        assert self._file is not None
        self._be_direct(direct)
        try:
            done = self._file.write(data)
        except OSError as error:
            if not (self._is_direct and is_refusal(error)):
                raise
            self._can_be_direct = False
            return 0
        if not self._is_direct:
            self._unsynced += done
            if self._unsynced >= _SYNC:  # so that the last fsync is short
                _sync(self._file.fileno())
                self._unsynced = 0
        return done

    def _be_direct(self, wanted: bool) -> None:
        assert self._file is not None
        wanted = wanted and self._can_be_direct
        if wanted != self._is_direct:
            self._is_direct = set_direct(self._file.fileno(), wanted)
            if wanted and not self._is_direct:
                self._can_be_direct = False

    def is_cut(self) -> bool:
        """Tell whether what is there is the beginning of a film, and not the whole."""
        assert self._file is not None
        self._be_direct(False)
        return is_cut(self._file, self.size)

    def publish(self, name: Callable[[], Path], *, overwrite: bool, again: bool) -> Path:
        """Give the file its final name, when every byte of it is on the disk, and return that.

        Args:
            name: Returns the final name.
            overwrite: Whether a file of the target's name is replaced; one of another name, which
                somebody else made up, never is.
            again: Whether to ask for another name when one was taken in the meantime.
        """
        assert self._file is not None
        assert self._path is not None
        os.fsync(self._file.fileno())
        self._file.close()  # some systems rename no open file
        while True:
            target = name()
            try:
                _rename(self._path, target, overwrite=overwrite and target == self._target)
            except FileExistsError:
                if not again:
                    raise
                continue
            _sync_folder(target.parent)
            self.leave(keep=False)
            return target

    def leave(self, *, keep: bool) -> None:
        """Leave nothing behind but what was published.

        Args:
            keep: Whether to leave what can be gone on with, too.
        """
        keep = keep and self._claim is not None and self.mark is not None and self.size > 0
        if self._file is not None:
            with contextlib.suppress(OSError):  # on a full disk closing fails as writing did
                self._file.close()
        if self._path is not None and not keep:
            with contextlib.suppress(OSError):
                self._path.unlink()
        if self._claim is not None:
            self._claim.close(keep=keep)
        self._file = self._path = self._claim = None


def _rename(path: Path, target: Path, *, overwrite: bool) -> None:
    if overwrite:
        os.replace(path, target)
        return
    try:
        os.link(path, target)  # unlike a rename it never replaces anything
    except FileExistsError:
        raise
    except OSError:  # a file system without hard links
        if os.path.lexists(target):
            raise FileExistsError(errno.EEXIST, "the file exists already") from None
        os.replace(path, target)


def _sync_folder(folder: Path) -> None:
    """Make the new name as durable as the file; not every file system can."""
    if os.name == "posix":
        with contextlib.suppress(OSError):
            descriptor = os.open(folder, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
