"""What a check of the doctor has found, and the checks that need no network."""

from __future__ import annotations

import asyncio
import errno
import os
import platform
import re
import sqlite3
import tempfile
from collections.abc import AsyncIterator, Iterator
from importlib import metadata
from pathlib import Path
from typing import Final, Literal

import attrs

from ..access import usable_key
from ..errors import ConfigurationError, JournalError
from ..journal import SqliteJournal
from ..journal_file import open_database
from ..journal_rows import MARK, STEPS
from ..sessions import proxies
from ..texts import clean
from ..urls import shown
from .exits import UsageError, words
from .login import masked
from .service import NO_KEY
from .sources import api_key

__all__ = ["Check", "check_entries", "check_journal", "check_key", "check_proxy", "check_versions"]

Status = Literal["ok", "warn", "fail"]

#: Extras for whoever works on the package itself.
_OF_DEVELOPERS: Final = {"dev", "docs", "lint", "test", "typing"}
_NEEDS = re.compile(r"([\w.-]+).*extra == ['\"]([\w-]+)['\"]")
#: Seconds for which another process may keep the journal locked.
_BUSY: Final = 5.0
_ELSEWHERE: Final = "Keep it elsewhere: --journal or TOPAZ_ASYNC_JOURNAL names the file."


@attrs.frozen
class Check:
    """One line of the doctor."""

    name: str
    status: Status
    #: What was found.
    found: str
    #: What to do about it; empty when there is nothing to do.
    todo: str = ""


def check_versions() -> Iterator[Check]:
    """Say what is installed."""
    yield Check(
        "Python", "ok", f"{platform.python_version()}, {platform.system()} {platform.machine()}"
    )
    yield Check("topaz_async", "ok", _version("topaz-async") or "a source tree, not installed")
    backoff = "backoff" if _version("backoff") else "python-backoff"  # its fork
    core = ("aiohttp", "attrs", backoff, "cattrs")
    yield Check("core", "ok", ", ".join(f"{name} {_version(name)}" for name in core))
    if _version("backoff") and _version("python-backoff"):
        yield Check(
            "backoff",
            "warn",
            "backoff and its fork python-backoff are both installed, one over the other",
            "pip uninstall backoff python-backoff, then pip install backoff",
        )
    for extra, needs in _extras().items():
        there = [f"{name} {version}" for name in needs if (version := _version(name))]
        missing = len(there) < len(needs)
        found = f"not installed: pip install 'topaz_async[{extra}]' brings it"
        yield Check(f"[{extra}]", "ok", found if missing else ", ".join(there))
    yield _ffmpeg()


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _extras() -> dict[str, list[str]]:
    """Return each extra that users may want, with the packages it brings."""
    try:
        needs = metadata.requires("topaz-async") or []
    except metadata.PackageNotFoundError:
        return {}
    found: dict[str, list[str]] = {}
    for need in needs:
        if (match := _NEEDS.match(need)) and match[2] not in _OF_DEVELOPERS:
            found.setdefault(match[2], []).append(match[1])
    return found


def _ffmpeg() -> Check:
    try:
        import av
    except ModuleNotFoundError:
        return Check(
            "ffmpeg", "ok", "none; only the sandbox and `compare` need PyAV, which has one"
        )
    except ImportError as error:  # libraries of another machine
        return Check(
            "ffmpeg", "fail", f"PyAV cannot be loaded: {clean(error, 200)}", "Install av again."
        )
    return Check("ffmpeg", "ok", f"{getattr(av, 'ffmpeg_version_info', 'unknown')}, inside PyAV")


def check_key(base_url: str) -> tuple[Check, str | None]:
    """Say where the key is, and return it if it can be used."""
    try:
        found = api_key(base_url)
        if not found.value:
            return Check("key", "fail", "there is none", NO_KEY.partition(". ")[2]), None
        usable_key(found.value)
    except UsageError as error:
        what, _, todo = words(error).partition(". ")
        return Check("key", "fail", what, todo), None
    except ConfigurationError as error:
        what = error.message.replace("api_key", "the key").rstrip(".")
        return Check("key", "fail", what, error.hint or ""), None
    return Check("key", "ok", f"{masked(found.value)}, from {found.place}"), found.value


def check_proxy(base_url: str) -> Check:
    """Say through which proxy the API is reached."""
    try:
        proxy = proxies(None)(base_url)
    except ConfigurationError as error:
        return Check("proxy", "fail", error.message.rstrip("."), error.hint or "")
    if proxy is not None:
        return Check("proxy", "ok", f"{shown(proxy)}, from HTTPS_PROXY or ALL_PROXY")
    if os.environ.get("HTTP_PROXY") or os.environ.get("http_proxy"):
        found = "none; HTTP_PROXY is set, and not used, for it would see the key"
        return Check("proxy", "warn", found, "If this machine needs a proxy, set HTTPS_PROXY.")
    return Check("proxy", "ok", "none")


def check_journal(path: Path | None) -> Iterator[Check]:
    """Say whether the journal can be kept where it is to be, and what stands in it.

    Nothing is left behind: a place without a journal is tried out with a file that is removed.
    """
    if path is None:
        yield Check(
            "journal",
            "warn",
            "none is kept: a task is known by its printed id only",
            "Leave out --no-journal.",
        )
        return
    shown_path = clean(path, 4096)
    try:
        _try_out(path)
    except JournalError as error:
        yield Check("journal", "fail", error.message.rstrip("."), error.hint or _ELSEWHERE)
        return
    except (OSError, sqlite3.Error) as error:
        reason = getattr(error, "strerror", None) or clean(error, 200)
        found = f"{shown_path} cannot be written: {reason}".rstrip(".")
        yield Check("journal", "fail", found, _ELSEWHERE)
        return
    state = "" if path.exists() else " (not made yet)"
    yield Check("journal", "ok", f"{shown_path}{state}, writable, on a local disk, WAL works")


def _try_out(path: Path) -> None:
    """Make a journal's database beside the journal, and remove it."""
    place = path.resolve()
    if place.exists() and not os.access(place, os.W_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    folder = place.parent
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    with tempfile.TemporaryDirectory(prefix="topaz-doctor-", dir=folder) as scratch:
        trial = os.path.join(scratch, "trial.sqlite")
        try:
            db = open_database(trial, mark=MARK, steps=STEPS, busy=_BUSY)
        except JournalError as error:
            # It speaks of the file on trial.
            message = error.message.replace(os.path.realpath(trial), str(place))
            raise JournalError(message, hint=error.hint) from None
        db.close()


async def check_entries(path: Path | None) -> AsyncIterator[Check]:
    """Say what in the journal waits for somebody."""
    if path is None or not await asyncio.to_thread(path.exists):
        return
    journal = SqliteJournal(path)
    try:
        unfinished = await journal.jobs("unfinished")
        unknown = [entry for entry in unfinished if entry.submit == "unknown"]
        pending = await journal.jobs("pending")
    except JournalError as error:
        yield Check("entries", "fail", error.message.rstrip("."), error.hint or _ELSEWHERE)
        return
    finally:
        await journal.aclose()
    found = f"{len(pending)} pending, {len(unknown)} unknown"
    if unknown:
        todo = (
            "An unknown one may exist and be billed: `topaz-async jobs` names it; look into the "
            "account's task log before it is submitted again."
        )
        yield Check("entries", "warn", found, todo)
    elif pending:
        yield Check("entries", "ok", found, "topaz-async resume brings what is pending.")
    else:
        yield Check("entries", "ok", found)
