"""What uploads and downloads have in common: progress, and names that are safe on any disk."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Callable
from urllib.parse import unquote

from .texts import clean

__all__ = ["OnProgress", "Progress", "safe_name"]

_log = logging.getLogger("topaz_async")

#: Bytes; with room for a number and a temporary ending within the usual 255.
_LONGEST_NAME = 120
#: Names that stand for devices on Windows, whatever their ending.
_DEVICE = re.compile(r"(con|prn|aux|nul|com[0-9]|lpt[0-9])(\..*)?", re.IGNORECASE)

#: Called with (bytes done, bytes in all or None), at most 20 times a second and at the end.
OnProgress = Callable[[int, "int | None"], object]


class Progress:
    """Tells a caller how far a transfer is, not more often than anybody can look."""

    _INTERVAL = 0.05

    def __init__(self, on_progress: OnProgress | None, total: int | None) -> None:
        self._on_progress = on_progress
        self._total = total
        self._next = 0.0

    def __call__(self, done: int, *, last: bool = False) -> None:
        if self._on_progress is None:
            return
        now = asyncio.get_running_loop().time()
        if not last and now < self._next:
            return
        self._next = now + self._INTERVAL
        try:
            self._on_progress(done, self._total)
        except Exception:  # the caller's function: its failure is no failure of the transfer
            _log.exception("on_progress failed; the transfer goes on.")


def safe_name(name: str, default: str = "video.mp4") -> str:
    """Return a file name without folders, controls or letters that any system minds."""
    last = re.split(r"[/\\]", unquote(name))[-1][-_LONGEST_NAME:]
    kept = re.sub(r"[^\w.\- ]+", "_", clean(last))
    # The end stays: it tells the kind.
    kept = kept.encode()[-_LONGEST_NAME:].decode(errors="ignore").strip(" .-")
    return f"_{kept}" if _DEVICE.fullmatch(kept) else kept or default
