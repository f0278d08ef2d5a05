"""Show each setting, with where it comes from."""

from __future__ import annotations

import os
from collections.abc import Iterator

import attrs
from rich import box
from rich.console import Console
from rich.table import Table

from ..client import BASE_URL
from ..errors import ConfigurationError
from ..sessions import proxies
from ..texts import clean
from ..urls import shown
from . import sources
from .display import is_live, say, say_json
from .login import masked
from .options import Where
from .places import journal_path

__all__ = ["config"]


def config(console: Console, where: Where, *, json: bool) -> None:
    """Print the settings.

    Args:
        console: Where they are shown.
        where: What was typed about the service and the journal.
        json: One JSON object a line, with `event` ("setting"), `setting`, `value` (null where
            there is none), `source` (option, environment, file, keyring or default) and `place`.

    Raises:
        UsageError: A keyring holds the key back, or options contradict each other.
        ConfigurationError: An address is none that may see a key.
    """
    rows = list(_settings(where))
    if json:
        for name, found in rows:
            event = {
                "event": "setting",
                "setting": name,
                "value": found.value,
                "source": found.source,
                "place": found.place or None,
            }
            say_json(console, event)
        return
    texts = [
        (name, clean(found.value or "none", 4096), found.place or found.source)
        for name, found in rows
    ]
    headings = ("setting", "value", "from")
    if not is_live(console):  # a table would break long paths
        wide = max(len(value) for _, value, _ in texts)
        for name, value, place in (headings, *texts):
            say(console, f"{name:<8} {value:<{wide}}  {place}")
        return
    table = Table(box=box.SIMPLE_HEAD)
    for heading in headings:
        table.add_column(heading, overflow="fold")
    for text in texts:
        table.add_row(*text)
    console.print(table)


def _settings(where: Where) -> Iterator[tuple[str, sources.Found]]:
    base = sources.base_url(where.base_url)
    address = base.value or BASE_URL
    key = sources.api_key(address)
    yield "key", attrs.evolve(key, value=key.value and masked(key.value))
    yield "API", base
    yield "uploads", sources.upload_url(where.upload_url, address)
    yield "journal", _journal(where, address)
    yield "proxy", _proxy(address)
    yield "debug", sources.lookup("TOPAZ_ASYNC_DEBUG")


def _journal(where: Where, base: str) -> sources.Found:
    path = journal_path(where, base)
    if path is None:
        return sources.Found(None, "option", "--no-journal")
    found = sources.lookup("TOPAZ_ASYNC_JOURNAL", option="--journal", given=where.journal)
    return attrs.evolve(found, value=str(path))


def _proxy(base: str) -> sources.Found:
    """Return the proxy in front of the API, without the password in it."""
    names = ("https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY")
    place = next((name for name in names if os.environ.get(name)), "")
    try:
        proxy = proxies(None)(base)
    except ConfigurationError as error:
        return sources.Found(error.message, "environment", place)
    if proxy is None:
        return sources.Found(None, "default")
    return sources.Found(shown(proxy), "environment", place)
