"""Owners: who lives is told by a lock, and nothing is left behind by the dead."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from topaz_async.errors import JournalError
from topaz_async.owners import Owner

if sys.platform != "win32":
    import fcntl

ROOT = Path(__file__).parents[1]

posix = pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX")

HOLD = """
import sys
from topaz_async.owners import Owner
owner = Owner(sys.argv[1])
print(owner.take(), flush=True)
sys.stdin.read()
"""

FORK = """
import os, sys
from topaz_async.owners import Owner
owner = Owner(sys.argv[1])
token = owner.take()
down, up = os.pipe()
if os.fork() == 0:
    print(token, owner.take(), flush=True)
    os.close(down)
    os.write(up, b"!")
    sys.stdin.read()
    os._exit(0)
os.read(down, 1)
os.kill(os.getpid(), 9)
"""


def start(code: str, beside: Path) -> subprocess.Popen[str]:
    """Run an owner in a process of its own; it lives until its stdin is closed."""
    return subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", code, str(beside)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


@pytest.fixture
def beside(tmp_path: Path) -> Path:
    return tmp_path / "jobs.sqlite"


def locks(beside: Path) -> list[str]:
    folder = Path(f"{beside}-owners")
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def test_lives_until_released(beside: Path) -> None:
    """An owner lives for others from taking its token to releasing it, and leaves nothing."""
    one, other = Owner(str(beside)), Owner(str(beside))
    token = one.take()
    assert (one.take(), one.lives(token), other.lives(token)) == (token, True, True)
    assert locks(beside) == [f"{token}.lock"]
    one.release()
    one.release()
    assert not other.lives(token)
    assert list(beside.parent.iterdir()) == []


@posix
def test_private(beside: Path) -> None:
    """The folder and the lock files are for their owner alone."""
    owner = Owner(str(beside))
    path = Path(f"{beside}-owners", f"{owner.take()}.lock")
    assert [oct(at.stat().st_mode & 0o777) for at in (path.parent, path)] == ["0o700", "0o600"]
    owner.release()


def test_touches_nothing_before(beside: Path) -> None:
    """Making an owner and asking about others creates nothing."""
    owner = Owner(str(beside))
    owner.sweep()
    assert not owner.lives("nobody")
    owner.release()
    assert list(beside.parent.iterdir()) == []


def test_token_is_never_reused(beside: Path) -> None:
    """An owner that comes back to life is somebody else."""
    owner = Owner(str(beside))
    first = owner.take()
    owner.release()
    assert owner.take() != first
    owner.release()


def test_in_memory() -> None:
    """Without a file only the owner itself lives."""
    owner = Owner(None)
    owner.sweep()
    token = owner.take()
    assert (owner.lives(token), Owner(None).lives(token), owner.lives("else")) == (
        True,
        False,
        False,
    )
    owner.release()
    assert not owner.lives(token)


@posix
def test_killed_owner_is_dead(beside: Path) -> None:
    """After kill -9 an owner is dead, and whoever looks clears its file away."""
    with start(HOLD, beside) as child:
        assert child.stdout is not None
        token = child.stdout.readline().strip()
        owner = Owner(str(beside))
        owner.sweep()
        assert (owner.lives(token), locks(beside)) == (True, [f"{token}.lock"])
        child.send_signal(signal.SIGKILL)
        child.wait()
        assert locks(beside) == [f"{token}.lock"]
        assert not owner.lives(token)
        assert locks(beside) == []


@posix
def test_sweep_clears_the_dead_only(beside: Path) -> None:
    """A sweep removes what the dead left, and neither living locks nor files of others."""
    living = Owner(str(beside))
    token = living.take()
    folder = Path(f"{beside}-owners")
    (folder / "dead.lock").touch()
    (folder / "notes.txt").touch()
    Owner(str(beside)).sweep()
    assert locks(beside) == sorted([f"{token}.lock", "notes.txt"])
    living.release()


@posix
def test_fork_keeps_no_lock_alive(beside: Path) -> None:
    """A forked child that lives on does not keep its dead parent alive, and is someone else."""
    with start(FORK, beside) as child:
        assert child.stdout is not None
        parent, born = child.stdout.readline().split()
        child.wait()
        owner = Owner(str(beside))
        assert (owner.lives(parent), owner.lives(born)) == (False, True)
        assert child.stdin is not None
        child.stdin.close()
        assert child.stdout.read() == ""


@posix
def test_symbolic_links_meet(beside: Path, tmp_path: Path) -> None:
    """Two who come to one file by different names see each other."""
    link = tmp_path / "elsewhere" / "link.sqlite"
    link.parent.mkdir()
    beside.touch()
    link.symlink_to(beside)
    one = Owner(str(link))
    assert Owner(str(beside)).lives(one.take())
    one.release()


def test_folder_that_cannot_be(beside: Path) -> None:
    """A lock file that cannot be made is an error of ours that names it."""
    Path(f"{beside}-owners").touch()
    with pytest.raises(JournalError, match=r"jobs\.sqlite-owners") as caught:
        Owner(str(beside)).take()
    assert caught.value.__cause__ is None


@posix
def test_sweepers_never_kill_the_newborn(beside: Path) -> None:
    """However many clear up while an owner comes to life, it lives for everybody afterwards."""
    stop = threading.Event()

    def sweep() -> None:
        owner = Owner(str(beside))
        while not stop.is_set():
            owner.sweep()

    sweepers = [threading.Thread(target=sweep) for _ in range(3)]
    for thread in sweepers:
        thread.start()
    try:
        watcher = Owner(str(beside))
        for _ in range(300):
            owner = Owner(str(beside))
            token = owner.take()
            assert watcher.lives(token)
            owner.release()
    finally:
        stop.set()
        for thread in sweepers:
            thread.join()
    assert locks(beside) == []


@posix
def test_file_taken_for_dead_before_it_was_locked(
    beside: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that somebody clears away before it was locked is given up for another."""
    swept: list[str] = []
    really_open = os.open

    def open_then_sweep(path: str, flags: int, mode: int = 0o777) -> int:
        handle = really_open(path, flags, mode)
        if flags & os.O_EXCL and not swept:
            swept.append(path)
            monkeypatch.setattr(os, "open", really_open)
            Owner(str(beside)).sweep()
        return handle

    monkeypatch.setattr(os, "open", open_then_sweep)
    owner = Owner(str(beside))
    token = owner.take()
    assert swept
    assert not swept[0].endswith(f"{token}.lock")
    assert Owner(str(beside)).lives(token)
    owner.release()


@posix
def test_removed_while_locked(beside: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A dead owner's file is removed while it is locked: nobody can come to life in it."""
    path = Path(f"{beside}-owners", "dead.lock")
    path.parent.mkdir()
    path.touch()
    free: list[bool] = []
    really_unlink = os.unlink

    def unlink(name: str) -> None:
        if os.path.exists(name):
            with open(name, "rb") as file:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    free.append(True)
                except BlockingIOError:
                    free.append(False)
        really_unlink(name)

    monkeypatch.setattr(os, "unlink", unlink)
    assert not Owner(str(beside)).lives("dead")
    assert free == [False]


@posix
def test_onlookers_are_not_taken_for_the_owner(beside: Path) -> None:
    """A dead owner is dead for two who look at the same moment."""
    path = Path(f"{beside}-owners", "dead.lock")
    path.parent.mkdir()
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_SH)
        assert not Owner(str(beside)).lives("dead")


def test_forgotten_owner_is_released(beside: Path) -> None:
    """An owner that is dropped without a word lets go of its lock."""
    owner = Owner(str(beside))
    token = owner.take()
    del owner
    assert not Owner(str(beside)).lives(token)
    assert list(beside.parent.iterdir()) == []
