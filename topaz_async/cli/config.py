"""Show each setting, with where it comes from."""

from __future__ import annotations

import json as json_module
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
from .display import is_live, show
from .login import masked

__all__ = ["config"]


def config(
    console: Console, *, json: bool, base_url: str | None = None, upload_url: str | None = None
) -> None:
    """Print the settings.

    Args:
        console: Where they are shown.
        json: One JSON object a line, with `setting`, `value` (null where there is none),
            `source` (option, environment, file, keyring or default) and `place`.
        base_url: The option `--base-url`.
        upload_url: The option `--upload-url`.

    Raises:
        UsageError: A keyring holds the key back.
        ConfigurationError: An address is none that may see a key.
    """
    table = Table(box=box.SIMPLE_HEAD if is_live(console) else None, pad_edge=is_live(console))
    for heading in ("setting", "value", "from"):
        table.add_column(heading, overflow="fold")
    for name, found in _settings(base_url, upload_url):
        if json:
            row = {
                "setting": name,
                "value": found.value,
                "source": found.source,
                "place": found.place or None,
            }
            print(json_module.dumps(row), file=console.file)
        else:
            value = "none" if found.value is None else clean(found.value, 4096)
            table.add_row(name, value, found.place or found.source)
    if not json:
        show(console, table)


def _settings(base_url: str | None, upload_url: str | None) -> Iterator[tuple[str, sources.Found]]:
    base = sources.base_url(base_url)
    key = sources.api_key(base.value or BASE_URL)
    yield "key", attrs.evolve(key, value=key.value and masked(key.value))
    yield "API", base
    yield "uploads", sources.upload_url(upload_url, base.value or BASE_URL)
    yield "journal", sources.lookup("TOPAZ_ASYNC_JOURNAL")
    yield "proxy", _proxy(base.value or BASE_URL)
    yield "debug", sources.lookup("TOPAZ_ASYNC_DEBUG")


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
