"""Run the checks, show each as a line with what to do, and say whether anything fails."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from . import sources
from .checks import (
    Check,
    check_entries,
    check_journal,
    check_key,
    check_proxy,
    check_versions,
)
from .checks_online import check_account, check_clock, check_edge, check_host, sign_of_life
from .display import say, say_json
from .options import Where
from .places import journal_path
from .running import run_question
from .service import named_url

__all__ = ["doctor"]

_COLOURS = {"ok": "green", "warn": "yellow", "fail": "bold red"}


def doctor(console: Console, where: Where, *, json: bool) -> int:
    """Check everything that an upscale needs, without buying anything.

    Args:
        console: Where the lines are shown.
        where: What was typed about the service and the journal.
        json: One JSON object a line, with `event` ("check"), `check`, `status` (ok, warn or
            fail), `found` and `todo` (null where there is nothing to do).

    Returns:
        The exit code: 1 if a check fails, else 0.

    Raises:
        UsageError: Options contradict each other.
        ConfigurationError: An address is none that may see a key.
        StoppedError: Ctrl-C or SIGTERM came.
    """
    base = named_url(where.base_url)
    uploads = sources.upload_url(where.upload_url, base).value
    journal = journal_path(where, base)
    found: list[Check] = []

    async def examine() -> None:
        async for check in _checks(base, uploads, journal):
            found.append(check)
            _tell(check, console, json=json)

    run_question(examine)
    if not json:
        say(console)
        say(console, *_verdict(found))
    return 1 if any(check.status == "fail" for check in found) else 0


async def _checks(base: str, uploads: str | None, journal: Path | None) -> AsyncIterator[Check]:
    for check in await asyncio.to_thread(lambda: [*check_versions(), *check_journal(journal)]):
        yield check
    async for check in check_entries(journal):
        yield check
    at_key, key = await asyncio.to_thread(check_key, base)
    yield at_key
    yield check_proxy(base)
    api, files = await asyncio.gather(sign_of_life(base), sign_of_life(uploads or base))
    yield check_host("API", api)
    if uploads is None:
        yield Check("uploads", "warn", "no host: local files cannot be sent", "Give --upload-url.")
    else:
        yield check_host("uploads", files)
    yield check_edge(api, files)
    yield check_clock(api, files)
    if key is not None and api.answer is not None:
        yield await check_account(key, base)


def _tell(check: Check, console: Console, *, json: bool) -> None:
    if json:
        event = {
            "event": "check",
            "check": check.name,
            "status": check.status,
            "found": check.found,
            "todo": check.todo or None,
        }
        say_json(console, event)
        return
    if not console.is_terminal:
        say(console, f"{check.status:<4} {check.name:<11} {check.found}")
        if check.todo:
            say(console, f"{'':16} {check.todo}")
        return
    grid = Table.grid(padding=(0, 1))
    grid.add_column(width=4)
    grid.add_column(width=11)
    grid.add_column(overflow="fold")
    grid.add_row(Text(check.status, _COLOURS[check.status]), check.name, Text(check.found))
    if check.todo:
        grid.add_row("", "", Text(check.todo, "bold"))
    console.print(grid)


def _verdict(found: list[Check]) -> tuple[str | tuple[str, str], ...]:
    fails = sum(check.status == "fail" for check in found)
    warns = sum(check.status == "warn" for check in found)
    if fails:
        return ((f"{fails} of {len(found)} checks fail.", "bold red"),)
    if warns:
        return (f"Nothing fails; {warns} of {len(found)} checks want a look.",)
    return ((f"All {len(found)} checks are well.", "green"),)
