"""Open a journal's file: private, on a local disk, ours, and of the newest schema."""

from __future__ import annotations

import os
import re
import sqlite3
import stat
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress

from .errors import JournalError

__all__ = ["network_type", "open_database"]

#: File systems whose memory is not shared between machines, as a write-ahead log needs it.
#: Source: sqlite.org/wal.html ("WAL does not work over a network filesystem").
# fmt: off
_NETWORK = frozenset({
    "9p", "acfs", "afs", "auristorfs", "beegfs", "ceph", "cephfs", "cifs", "coda", "davfs",
    "gcsfuse", "gfs2", "glusterfs", "goofys", "gpfs", "lustre", "ncpfs", "nfs", "nfs4", "ocfs2",
    "orangefs", "pvfs2", "rclone", "s3fs", "smb3", "smbfs", "sshfs",
})
# fmt: on


def network_type(mountinfo: str, path: str) -> str | None:
    """Return the type of the network file system that a path lies on, or None.

    Args:
        mountinfo: The text of Linux's /proc/self/mountinfo.
        path: Absolute, without symbolic links.
    """
    deepest, found = "", ""
    for line in mountinfo.splitlines():
        mount, _, source = line.partition(" - ")
        fields, kind = mount.split(" "), source.split(" ")[0]
        if len(fields) < 5 or not kind:
            continue
        point = re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), fields[4])
        inside = path == point or path.startswith(point.rstrip("/") + "/")
        # Of two mounts on one point the later hides the earlier.
        if inside and len(point) >= len(deepest):
            deepest, found = point, kind
    return found if found.removeprefix("fuse.") in _NETWORK else None


def open_database(
    path: str | None,
    *,
    mark: int,
    steps: Sequence[Iterable[str]],
    busy: float,
) -> sqlite3.Connection:
    """Return a connection to the journal's database, which is made when it is missing.

    A file that is not ours is left as it was.

    Args:
        path: The file, absolute; None for a database in memory.
        mark: The `application_id` that tells our files from those of other programs.
        steps: The schema's history.  Each step is a group of SQL statements; the file's
            `user_version` counts those that it has seen.
        busy: Seconds for which other processes may keep the file locked.

    Raises:
        JournalError: The file cannot be a journal, for the reason it says.
        sqlite3.Error: SQLite cannot open or write it.
        OSError: The folder cannot be made or read.
    """
    place = ":memory:" if path is None else _make_ready(path)
    db = sqlite3.connect(place, timeout=busy, isolation_level=None, check_same_thread=False)
    try:
        # One transaction, for another process may be making the schema just now.
        db.execute("BEGIN")
        _version(db, mark, len(steps), place)
        db.execute("COMMIT")
        if path is not None:
            _make_private(place)
            _switch_to_wal(db, busy)
        _migrate(db, mark, steps, place)
    except BaseException:
        db.close()
        raise
    return db


def _make_ready(path: str) -> str:
    path = os.path.realpath(path)
    folder = os.path.dirname(path)
    os.makedirs(folder, mode=0o700, exist_ok=True)
    _refuse_network(path)
    try:
        found = os.stat(path)
        if not stat.S_ISREG(found.st_mode):
            raise JournalError(f"The journal {path} is no regular file.")
        if found.st_size == 1:  # which SQLite takes for an empty file
            raise JournalError(f"{path} is no SQLite database; the file was left as it is.")
    except FileNotFoundError:
        _create(path, folder)
    return path


def _refuse_network(path: str) -> None:
    if sys.platform != "linux":
        return
    with suppress(OSError), open("/proc/self/mountinfo", errors="surrogateescape") as mounts:
        kind = network_type(mounts.read(), path)
        if kind is not None:
            raise JournalError(
                f"The journal {path} lies on a network file system ({kind}), where SQLite cannot "
                "keep it safe.",
                hint="Put it on a local disk.",
            )


def _create(path: str, folder: str) -> None:
    # Made under another name and linked into place: opening and closing the file itself would
    # drop the locks that SQLite holds on it for another connection of this process.
    handle, name = tempfile.mkstemp(prefix=os.path.basename(path) + ".", dir=folder)
    os.close(handle)
    try:
        with suppress(OSError):  # it has come into being meanwhile, or links are unknown here
            os.link(name, path)
    finally:
        os.unlink(name)


def _make_private(path: str) -> None:
    # Takes rights from others only, so that a file its owner made read-only stays so.
    # SQLite gives the log beside the file the same mode.
    mode = stat.S_IMODE(os.stat(path).st_mode)
    if mode & 0o077:
        with suppress(OSError):
            os.chmod(path, mode & 0o700)


def _version(db: sqlite3.Connection, mark: int, newest: int, path: str) -> int:
    version = int(db.execute("PRAGMA user_version").fetchone()[0])
    found = db.execute("PRAGMA application_id").fetchone()[0]
    tables = db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    if found != mark and (found or version or tables):
        raise JournalError(f"{path} is the database of another program.")
    if version > newest:
        raise JournalError(
            f"The journal {path} was written by a newer version of this package (schema "
            f"{version}; this one knows {newest}).",
            hint="Upgrade the package.",
        )
    return version


def _switch_to_wal(db: sqlite3.Connection, busy: float) -> None:
    deadline = time.monotonic() + busy
    while True:
        try:
            mode = db.execute("PRAGMA journal_mode = WAL").fetchone()[0]
            break
        except sqlite3.OperationalError as error:
            # Two who switch at once do not wait for each other by themselves.
            if error.sqlite_errorname != "SQLITE_BUSY" or time.monotonic() > deadline:
                raise
            time.sleep(0.01)
    if mode != "wal":
        raise JournalError("The journal's file system cannot hold a write-ahead log.")
    db.execute("PRAGMA synchronous = FULL")
    # On macOS a plain fsync leaves the bytes in the disk's own cache.
    db.execute("PRAGMA fullfsync = ON")


def _migrate(db: sqlite3.Connection, mark: int, steps: Sequence[Iterable[str]], path: str) -> None:
    if db.execute("PRAGMA user_version").fetchone()[0] == len(steps):
        return
    db.execute("BEGIN IMMEDIATE")
    # Looked at again: another process may have done it while this one waited for the lock.
    for step in steps[_version(db, mark, len(steps), path) :]:
        for statement in step:
            db.execute(statement)
    db.execute(f"PRAGMA user_version = {len(steps)}")
    db.execute(f"PRAGMA application_id = {mark}")
    db.execute("COMMIT")
