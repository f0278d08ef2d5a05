"""A journal of the caller's own: what it raises becomes an error of ours."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Any, cast

from .errors import JournalError, TopazError, clean
from .ports import Journal

__all__ = ["Guarded"]

_log = logging.getLogger("topaz_async")

#: What is written without a word to whoever left it.
_SOON = {"note_soon", "keep_upload_soon", "forget_upload_soon"}


class Guarded:
    """Passes everything on to a journal; whatever that raises comes back as `JournalError`.

    A store of the caller's own fails in ways of its own, and a paid task must not be lost with it.
    """

    def __init__(self, journal: Journal) -> None:
        self._journal = journal

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._journal, name)
        if name in _SOON:
            return _left(found)
        return _asked(cast("Callable[..., Awaitable[Any]]", found)) if callable(found) else found


def _asked(method: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    async def ask(*args: Any, **options: Any) -> Any:
        try:
            return await method(*args, **options)
        except TopazError:
            raise
        except Exception as error:
            raise JournalError(f"The journal failed: {_told(error)}.") from error

    return ask


def _left(method: Callable[..., None]) -> Callable[..., None]:
    def leave(*args: Any, **options: Any) -> None:
        try:
            method(*args, **options)
        except Exception as error:
            _log.warning("The journal failed: %s.", _told(error))

    return leave


def _told(error: Exception) -> str:
    return f"{type(error).__name__}: {clean(error, 200)}" if str(error) else type(error).__name__
