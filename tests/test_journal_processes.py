"""The journal between processes, through kill -9, full disks and forks."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from topaz_async.errors import JournalError
from topaz_async.journal import SqliteJournal
from topaz_async.ports import Intent

ROOT = Path(__file__).parents[1]

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX signals")

HEAD = """
import asyncio, os, resource, signal, sys
from topaz_async.errors import JournalError
from topaz_async.errors import JournalError
from topaz_async.journal import SqliteJournal
from topaz_async.ports import Intent

path = sys.argv[1]

def intent(reference, fingerprint="f"):
    return Intent(reference=reference, fingerprint=fingerprint, model="m")

def say(*words):
    print(*words, flush=True)
"""

# Claims each reference when told to start, and lives until its stdin is closed.
CLAIMS = """
async def main():
    journal = SqliteJournal(path)
    await journal.open()
    say("ready")
    sys.stdin.readline()
    claims = await asyncio.gather(*(journal.claim(intent(f"r{n}")) for n in range(200)))
    say(*(claim.verdict.replace(" ", "-") for claim in claims))
    sys.stdin.read()
    await journal.aclose()
asyncio.run(main())
"""

INTENT = """
async def main():
    journal = SqliteJournal(path)
    await journal.claim(intent("a"))
    say("written")
    sys.stdin.read()
asyncio.run(main())
"""

BINDS = """
async def one(journal, name):
    entry = (await journal.claim(intent(name))).entry
    say("claimed", name)
    await journal.bind(entry.id, "id-" + name)
    say("bound", "id-" + name)

async def main():
    journal = SqliteJournal(path)
    for turn in range(100_000):
        await asyncio.gather(*(one(journal, f"{sys.argv[2]}-{turn}-{n}") for n in range(4)))
asyncio.run(main())
"""

# The same for a disk quota: what was granted, then refused, then granted again with more room.
QUOTA = """
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)

async def fill(journal, name, most):
    for number in range(most):
        try:
            entry = (await journal.claim(intent(f"{name}{number}", "f" * 2000))).entry
            await journal.bind(entry.id, f"id-{name}{number}")
        except JournalError as error:
            assert error.__cause__ is None and error.__context__ is None
            say("failed", error.message)
            return
        say("bound", f"id-{name}{number}")

async def main():
    journal = SqliteJournal(path)
    await journal.open()
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, resource.RLIM_INFINITY))
    await fill(journal, "a", 10_000)
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    await fill(journal, "b", 5)
    await journal.aclose()
asyncio.run(main())
"""

FORK = """
async def use(journal, name):
    claim = await journal.claim(intent("shared"))
    await journal.claim(intent(name))
    return claim.verdict

async def close(journal):
    await journal.aclose()

def run(coroutine):
    loop = asyncio.new_event_loop()
    try:
        return loop.run_until_complete(coroutine)
    finally:
        loop.close()

journal = SqliteJournal(path)
unused = SqliteJournal(path)
memory = SqliteJournal(None)
say("parent", run(use(journal, "p1")), run(use(memory, "p1")))
child = os.fork()
if child == 0:
    handles = [os.path.realpath(f"/proc/self/fd/{n}") for n in range(3, 100)]
    assert not [name for name in handles if "jobs.sqlite" in name], handles
    say("child", run(use(journal, "c")), run(use(unused, "u")), run(use(memory, "c")))
    for each in (journal, unused, memory):
        run(close(each))
    sys.exit(0)
_, status = os.waitpid(child, 0)
say("parent", run(use(journal, "p2")), run(use(memory, "p2")), status)
run(close(journal))
run(close(memory))
"""


@contextmanager
def process(code: str, *arguments: object) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", HEAD + code, *map(str, arguments)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as started:
        try:
            yield started
        finally:
            started.kill()


def line(child: subprocess.Popen[str]) -> list[str]:
    assert child.stdout is not None
    return child.stdout.readline().split()


def tell(child: subprocess.Popen[str]) -> None:
    assert child.stdin is not None
    child.stdin.write("go\n")
    child.stdin.flush()


def outcome(code: str, *arguments: object) -> list[str]:
    """What a process printed, once it has ended well."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", HEAD + code, *map(str, arguments)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=40,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines()


def bound_ids(lines: list[str]) -> set[str]:
    """The ids of all whole lines that say "bound"."""
    return {text.split()[1] for text in lines if text.startswith("bound ") and text.endswith("\n")}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "jobs.sqlite"


def locks(path: Path) -> list[str]:
    folder = Path(f"{path}-owners")
    return os.listdir(folder) if folder.exists() else []


async def test_two_processes_claim_at_once(path: Path) -> None:
    """Of two living processes that claim the same references, one gets each of them."""
    with process(CLAIMS, path) as one, process(CLAIMS, path) as other:
        for child in (one, other):
            assert line(child) == ["ready"]
        for child in (one, other):
            tell(child)
        verdicts = [sorted(pair) for pair in zip(line(one), line(other), strict=True)]
    assert verdicts == [["granted", "in-flight"]] * 200


async def test_killed_between_intent_and_id(path: Path) -> None:
    """After kill -9 between intent and id the entry is unknown, and the lock file goes away."""
    with process(INTENT, path) as child:
        assert line(child) == ["written"]
        journal = SqliteJournal(path)
        again = Intent(reference="a", fingerprint="f", model="m")
        assert (await journal.claim(again)).verdict == "in flight"
        child.send_signal(signal.SIGKILL)
        child.wait()
    assert len(locks(path)) == 1
    found = await journal.find("a")
    assert found is not None
    assert found.submit == "unknown"
    assert locks(path) == []
    assert (await journal.claim(again)).verdict == "existing"
    assert [each.submit for each in await journal.jobs("unfinished")] == ["unknown"]
    await journal.aclose()


async def test_open_clears_the_locks_of_the_dead(path: Path) -> None:
    """Opening a journal removes the lock files that killed processes left."""
    with process(INTENT, path) as child:
        assert line(child) == ["written"]
        child.kill()
        child.wait()
    assert len(locks(path)) == 1
    journal = SqliteJournal(path)
    await journal.open()
    assert locks(path) == []
    await journal.aclose()


async def test_killed_at_random_moments(path: Path) -> None:
    """Whatever moment kill -9 strikes, every id that was said to be bound is in the journal."""
    bound: set[str] = set()
    for turn in range(8):
        with process(BINDS, path, turn) as child:
            assert child.stdout is not None
            lines = [child.stdout.readline()]
            time.sleep(random.uniform(0, 0.15))
            child.kill()
            lines += child.stdout.readlines()
        bound |= bound_ids(lines)
    assert len(bound) > 20
    journal = SqliteJournal(path)
    entries = await journal.jobs()
    kept = {each.task_id for each in entries}
    assert bound - kept == set()
    assert {each.submit for each in entries} <= {"made", "unknown"}
    await journal.aclose()


async def test_disk_quota(path: Path) -> None:
    """A write beyond the quota is an error of ours, nothing said to be bound is lost, and with
    more room the same journal goes on."""
    lines = outcome(QUOTA, path)
    failures = [text for text in lines if text.startswith("failed")]
    assert len(failures) == 1
    assert "the disk is full" in failures[0]
    bound = bound_ids([text + "\n" for text in lines])
    assert {"id-a0", "id-b0", "id-b4"} <= bound
    journal = SqliteJournal(path)
    kept = {each.task_id for each in await journal.jobs()}
    assert bound - kept == set()
    await journal.aclose()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 256 KiB, where this process may mount one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    try:
        subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", folder],
            check=True,
            capture_output=True,
        )
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no right to mount")
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)


async def test_full_disk(small_disk: Path) -> None:
    """On a full disk nothing is granted, reading goes on, and with space again so does writing."""
    journal = SqliteJournal(small_disk / "jobs.sqlite")
    first = (await journal.claim(Intent(reference="a", fingerprint="f", model="m"))).entry
    filler = small_disk / "filler"
    with filler.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(b"x" * 4096)
        except OSError:
            pass
    big = Intent(reference="b", fingerprint="f" * 50_000, model="m")
    several = [Intent(reference=f"b{n}", fingerprint="f" * 9000, model="m") for n in range(40)]
    claims = await asyncio.gather(*map(journal.claim, several), return_exceptions=True)
    assert [type(each) for each in claims] == [JournalError] * 40
    assert {"the disk is full" in str(each) for each in claims} == {True}
    assert await journal.find("a") == first
    assert await journal.jobs() == [first]
    filler.unlink()
    await journal.bind(first.id, "t1")
    assert (await journal.claim(big)).verdict == "granted"
    await journal.aclose()


async def test_read_only_disk(small_disk: Path) -> None:
    """On a disk that became read-only writing fails with words, and works once it is writable."""
    journal = SqliteJournal(small_disk / "jobs.sqlite")
    wanted = Intent(reference="a", fingerprint="f", model="m")
    first = (await journal.claim(wanted)).entry
    await journal.bind(first.id, "t1")
    before = await journal.jobs()
    await journal.aclose()
    remount = ["mount", "-o", "remount,size=256k"]
    subprocess.run([*remount, "-r", small_disk], check=True)
    journal = SqliteJournal(small_disk / "jobs.sqlite")
    with pytest.raises(JournalError, match=r"read-only|cannot be opened"):
        await journal.claim(Intent(reference="b", fingerprint="f", model="m"))
    subprocess.run([*remount, "-w", small_disk], check=True)
    assert (await journal.claim(wanted)).entry == before[0]
    assert (
        await journal.claim(Intent(reference="b", fingerprint="f", model="m"))
    ).verdict == "granted"
    await journal.aclose()


async def test_fork(path: Path) -> None:
    """A forked child opens the journal anew, is an owner of its own, and harms nobody."""
    lines = outcome(FORK, path)
    assert lines == [
        "parent granted granted",
        "child in flight in flight existing",
        "parent in flight in flight 0",
    ]
    journal = SqliteJournal(path)
    names = [each.intent.reference for each in await journal.jobs()]
    assert sorted(map(str, names)) == ["c", "p1", "p2", "shared", "u"]
    assert locks(path) == []
    await journal.aclose()


async def test_many_processes_open_at_once(path: Path) -> None:
    """Processes that make the same new journal at once all get it."""
    with (
        process(INTENT, path) as one,
        process(INTENT, path) as two,
        process(INTENT, path) as three,
    ):
        assert [line(child) for child in (one, two, three)] == [["written"]] * 3
    journal = SqliteJournal(path)
    assert len(await journal.jobs()) == 1
    await journal.aclose()
