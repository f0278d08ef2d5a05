"""The journal's file: private, local, ours, of the newest schema, or refused untouched."""

from __future__ import annotations

import os
import sqlite3
import stat
import sys
import threading
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from topaz_async.errors import JournalError
from topaz_async.journal_file import network_type, open_database

MARK = 0x1234
STEPS = (("CREATE TABLE one (a)",), ("CREATE TABLE two (b)", "INSERT INTO two VALUES (2)"))

posix = pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX modes")

MOUNTS = r"""
22 27 0:21 / /proc rw,relatime - proc proc rw
27 1 254:0 / / rw,relatime - ext4 /dev/vda rw
40 27 0:50 / /mnt/share rw,relatime shared:1 master:2 - nfs4 host:/share rw
41 40 254:1 / /mnt/share/local rw,relatime - xfs /dev/vdb rw
42 27 0:51 / /mnt/with\040space rw - cifs //host/c rw
43 27 0:52 / /mnt/ssh rw - fuse.sshfs me@host: rw
44 27 0:53 / /mnt/over rw - nfs host:/x rw
45 27 0:54 / /mnt/over rw - ext4 /dev/vdc rw
46 27 0:55 / /mnt/fuse rw - fuse.mergerfs a:b rw
broken line
"""


def opened(path: Path | None, steps: tuple[tuple[str, ...], ...] = STEPS) -> sqlite3.Connection:
    return open_database(None if path is None else str(path), mark=MARK, steps=steps, busy=5.0)


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/home/me/jobs.sqlite", None),
        ("/mnt/share/jobs.sqlite", "nfs4"),
        ("/mnt/share", "nfs4"),
        ("/mnt/shared/jobs.sqlite", None),
        ("/mnt/share/local/jobs.sqlite", None),
        ("/mnt/with space/jobs.sqlite", "cifs"),
        ("/mnt/ssh/deep/down/jobs.sqlite", "fuse.sshfs"),
        ("/mnt/over/jobs.sqlite", None),
        ("/mnt/fuse/jobs.sqlite", None),
    ],
)
def test_network_type(path: str, kind: str | None) -> None:
    """The deepest and latest mount above a path says on which file system it lies."""
    assert network_type(MOUNTS, path) == kind


NETWORKS = "nfs nfs4 cifs smb3 smbfs 9p ceph lustre afs glusterfs fuse.sshfs fuse.rclone"


@pytest.mark.parametrize("kind", NETWORKS.split())
def test_network_types(kind: str) -> None:
    """Every common network file system is known."""
    assert network_type(f"1 0 0:1 / / rw - {kind} x rw", "/a") == kind


def test_no_mounts() -> None:
    """A system without that list refuses nothing."""
    assert network_type("", "/a") is None


@pytest.mark.skipif(sys.platform != "linux", reason="reads Linux's mounts")
def test_network_file_system_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file on a network file system is refused with words, before anything is made."""
    mounts = tmp_path / "mountinfo"
    mounts.write_text("1 0 0:1 / / rw - nfs4 host:/ rw\n")
    path = tmp_path / "jobs.sqlite"
    monkeypatch.setattr("builtins.open", lambda name, **_: os.fdopen(os.open(mounts, os.O_RDONLY)))
    with pytest.raises(JournalError, match=r"network file system \(nfs4\).*local disk"):
        opened(path)
    assert not path.exists()


@posix
def test_private(tmp_path: Path) -> None:
    """The file, its log and a folder made for it are for their owner alone, whatever the umask."""
    old = os.umask(0)
    try:
        path = tmp_path / "made" / "jobs.sqlite"
        with closing(opened(path)) as db:
            db.execute("INSERT INTO one VALUES (1)")
            modes = {each.name: stat.S_IMODE(each.stat().st_mode) for each in path.parent.iterdir()}
    finally:
        os.umask(old)
    assert modes == {"jobs.sqlite": 0o600, "jobs.sqlite-wal": 0o600, "jobs.sqlite-shm": 0o600}
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


@posix
def test_private_from_the_first_moment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody else can open the file at the moment it comes into being, and keep it open."""
    modes: list[int] = []
    really_connect = sqlite3.connect

    def connect(path: str, **options: Any) -> sqlite3.Connection:
        modes.append(stat.S_IMODE(os.stat(path).st_mode))
        return really_connect(path, **options)

    monkeypatch.setattr(sqlite3, "connect", connect)
    opened(tmp_path / "jobs.sqlite").close()
    assert modes == [0o600]


@posix
def test_existing_file_becomes_private(tmp_path: Path) -> None:
    """A journal that others could read is taken from them; its owner gains no right."""
    path = tmp_path / "jobs.sqlite"
    opened(path).close()
    path.chmod(0o664)
    opened(path).close()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    path.chmod(0o444)
    with closing(opened(path)):
        assert stat.S_IMODE(path.stat().st_mode) == 0o400


def test_durable_settings(tmp_path: Path) -> None:
    """A commit is on the disk when it returns: write-ahead log, synchronous FULL."""
    with closing(opened(tmp_path / "jobs.sqlite")) as db:
        settings = [
            db.execute(f"PRAGMA {name}").fetchone()[0]
            for name in ("journal_mode", "synchronous", "fullfsync", "busy_timeout")
        ]
    assert settings == ["wal", 2, 1, 5000]


def test_migrates_step_by_step(tmp_path: Path) -> None:
    """A file of an older schema gets the steps it has not seen, once, and keeps its rows."""
    path = tmp_path / "jobs.sqlite"
    with closing(opened(path, STEPS[:1])) as db:
        db.execute("INSERT INTO one VALUES ('kept')")
    for _ in range(2):
        with closing(opened(path)) as db:
            assert db.execute("PRAGMA user_version").fetchone() == (2,)
            assert db.execute("SELECT a, b FROM one, two").fetchall() == [("kept", 2)]


def test_broken_step_changes_nothing(tmp_path: Path) -> None:
    """A step that fails leaves the file as the last good step left it."""
    path = tmp_path / "jobs.sqlite"
    opened(path, STEPS[:1]).close()
    with pytest.raises(sqlite3.OperationalError):
        opened(path, (*STEPS[:1], ("CREATE TABLE half (x)", "CREATE nonsense")))
    with closing(opened(path, STEPS[:1])) as db:
        tables = db.execute("SELECT name FROM sqlite_master").fetchall()
    assert tables == [("one",)]


def test_newer_schema_is_refused(tmp_path: Path) -> None:
    """A file of a newer version is refused with words."""
    path = tmp_path / "jobs.sqlite"
    opened(path).close()
    with pytest.raises(JournalError, match=r"newer version.*schema 2; this one knows 1.*Upgrade"):
        opened(path, STEPS[:1])


@pytest.mark.parametrize("size", [1, 20, 600, 5000])
def test_other_files_are_left_untouched(tmp_path: Path, size: int) -> None:
    """A file that is no SQLite database, of whatever size, is refused and not changed by a bit."""
    path = tmp_path / "holiday.mp4"
    path.write_bytes(b"x" * size)
    with pytest.raises((JournalError, sqlite3.DatabaseError), match=r"no.* SQLite|not a database"):
        opened(path)
    assert [(each.name, each.read_bytes()) for each in tmp_path.iterdir()] == [
        (path.name, b"x" * size)
    ]


def test_database_of_another_program(tmp_path: Path) -> None:
    """Another program's database is refused with words and keeps its content and mode."""
    path = tmp_path / "bookmarks.sqlite"
    with closing(sqlite3.connect(path)) as db:
        db.execute("CREATE TABLE bookmarks (url)")
    before = path.read_bytes(), path.stat().st_mode
    with pytest.raises(JournalError, match="database of another program"):
        opened(path)
    assert (path.read_bytes(), path.stat().st_mode) == before


def test_folder_is_refused(tmp_path: Path) -> None:
    """A folder in the file's place is refused with words."""
    with pytest.raises(JournalError, match="no regular file"):
        opened(tmp_path)


def test_in_memory() -> None:
    """A database in memory has the same schema."""
    with closing(opened(None)) as db:
        assert db.execute("SELECT b FROM two").fetchall() == [(2,)]


def test_many_open_a_new_file_at_once(tmp_path: Path) -> None:
    """Many who make the same file at the same time get one schema, and leave no scraps."""
    path = tmp_path / "jobs.sqlite"
    failures: list[BaseException] = []
    start = threading.Barrier(8)

    def make() -> None:
        try:
            start.wait()
            opened(path).close()
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=make) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    with closing(opened(path)) as db:
        assert db.execute("SELECT b FROM two").fetchall() == [(2,)]
    assert [each.name for each in tmp_path.iterdir()] == ["jobs.sqlite"]
