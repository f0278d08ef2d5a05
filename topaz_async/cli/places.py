"""Where the command line keeps its journal."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import urlsplit

from platformdirs import user_data_path

from ..client import BASE_URL
from .exits import UsageError
from .options import Where
from .sources import lookup

__all__ = ["journal_path"]


def journal_path(where: Where, base_url: str) -> Path | None:
    """Return the journal's file; None when nothing is to be written down.

    Each service has a file of its own by default: a task of a sandbox is none of kie.ai.

    Args:
        where: What was typed.
        base_url: The service that is spoken to.

    Raises:
        UsageError: The options contradict each other.
    """
    if where.no_journal:
        if where.journal is not None:
            raise UsageError("--journal and --no-journal contradict each other.")
        return None
    named = lookup("TOPAZ_ASYNC_JOURNAL", option="--journal", given=where.journal).value
    if named:
        return Path(named).expanduser()
    place = urlsplit(base_url).netloc
    name = "journal" if base_url == BASE_URL else "journal-" + re.sub(r"[^\w.-]+", "-", place)
    return user_data_path("topaz-async", appauthor=False) / f"{name}.sqlite"
