"""The clips of commands that have not ended, so that `resume` can send those that were not sent.

What was sent is in the journal; this is about the rest.
"""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import attrs

from ..errors import JournalError
from ..owners import Owner
from ..texts import clean
from .planning import Planned
from .wishes import Wish

__all__ = ["Batch", "Batches"]

_VERSION = 1


@attrs.frozen(kw_only=True)
class Batch:
    """A command that was begun and has not ended."""

    path: Path
    #: Whether its process lives.
    is_living: bool
    #: What it was to do, with the reference under which the journal knows it.
    rows: tuple[tuple[Wish, str], ...]
    #: When it was written down, in seconds since 1970.
    begun: float
    #: Origin of the service that it was to be done at; None where nobody knows.
    service: str | None


class Batches:
    """The commands beside one journal; all methods block.

    Args:
        journal: The journal's file.
    """

    def __init__(self, journal: Path) -> None:
        self._folder = Path(f"{os.path.realpath(journal)}-batches")
        self._owner = Owner(str(journal))

    def remember(self, plan: Sequence[Planned], service: str) -> Path | None:
        """Write down what a command is about to send to a service, and return where.

        None for nothing.

        Signed addresses are left out: their queries are secrets.

        Raises:
            JournalError: It cannot be written.
        """
        rows = [
            _row(each.wish) for each in plan if each.action == "send" and not each.wish.has_secrets
        ]
        if not rows:
            return None
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            path = self._folder / f"{secrets.token_hex(8)}.json"
            owner = self._owner.take()
            content = {"version": _VERSION, "owner": owner, "service": service, "clips": rows}
            _write(path, json.dumps(content))
        except OSError as error:
            reason = error.strerror or type(error).__name__
            raise JournalError(
                f"{clean(self._folder, 200)} cannot be written: {reason}.",
                hint="Name another place with --journal, or add --no-journal.",
            ) from None
        return path

    def all(self) -> list[Batch]:
        """Return the commands that have not ended, oldest first; what is no batch is left out."""
        found: list[Batch] = []
        with suppress(OSError):
            for path in self._folder.glob("*.json"):
                batch = self._read(path)
                if batch is not None:
                    found.append(batch)
        return sorted(found, key=lambda batch: (batch.begun, batch.path))

    def _read(self, path: Path) -> Batch | None:
        try:  # a command that has just ended takes its file away
            begun = path.stat().st_mtime
            content = json.loads(path.read_text(encoding="utf-8"))
            if content["version"] != _VERSION:
                return None
            rows = tuple(_wish(row) for row in content["clips"])
            is_living, service = self._owner.lives(content["owner"]), content.get("service")
            if service is not None and not isinstance(service, str):
                return None
            return Batch(path=path, is_living=is_living, rows=rows, begun=begun, service=service)
        except (OSError, ValueError, TypeError, KeyError):
            return None

    def release(self) -> None:
        """Let go: what this process has remembered is nobody's from now on."""
        self._owner.release()


def _row(wish: Wish) -> dict[str, Any]:
    # Consent to pay twice is for this command, and not for whoever goes on with it.
    row = attrs.asdict(attrs.evolve(wish, resubmit_unknown=False))
    row["clip"] = os.path.abspath(wish.clip) if wish.is_local else wish.clip
    row["output"] = os.path.abspath(wish.output)
    return row


def _wish(row: dict[str, Any]) -> tuple[Wish, str]:
    wish = Wish(**{**row, "output": Path(row["output"])})
    reference = wish.reference or ""
    if reference.startswith("batch:"):  # a name made of the content, which may have changed
        wish = attrs.evolve(wish, reference=None)
    return wish, reference


def _write(path: Path, text: str) -> None:
    part = path.with_suffix(".part")
    with open(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(part, path)
