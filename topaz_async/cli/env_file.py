"""A file of NAME=value lines that was asked for by name, read for our own settings only."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import TYPE_CHECKING

from ..texts import clean
from .exits import UsageError

if TYPE_CHECKING:
    from dotenv.parser import Binding

__all__ = ["read_env_file"]

#: Other programs' settings stand in such files too; they are none of our business.
_OURS = ("KIE_API_KEY", "KIE_WEBHOOK_KEY", "TOPAZ_ASYNC_")
#: No file of settings is larger, in bytes.
_MAX_SIZE = 1 << 20


def read_env_file(path: str | os.PathLike[str]) -> dict[str, str]:
    """Return the settings of ours that a file holds; `${NAME}` in a value stays as it stands.

    Raises:
        UsageError: The file cannot be read, or a line of it is no NAME=value.
    """
    try:
        from dotenv.parser import parse_stream  # of no use to whoever has no such file
    except ImportError:
        raise UsageError(
            "--env-file needs python-dotenv, which is not installed: pip install 'topaz_async[cli]'"
        ) from None
    shown = clean(Path(path), 200)
    try:
        with open(path, "rb") as file:
            content = file.read(_MAX_SIZE + 1)
        if len(content) > _MAX_SIZE:
            raise UsageError(f"{shown} is too large for a file of settings.")
        text = content.decode("utf-8-sig")
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise UsageError(f"{shown} cannot be read: {reason}.") from None
    except ValueError:  # not UTF-8, or a NUL byte in the path
        raise UsageError(f"{shown} is no text file.") from None
    found = {}
    for line in parse_stream(io.StringIO(text)):
        ours = line.key is not None and line.key.startswith(_OURS)
        if line.error or (ours and line.value is None):
            raise UsageError(f"{shown} has no NAME=value in line {_number(line)}.")
        if line.key is not None and line.value is not None and ours:
            found[line.key] = line.value
    return found


def _number(line: Binding) -> int:
    """Return a line's own number: the empty lines above it count as part of it."""
    text = line.original.string
    return line.original.line + text[: len(text) - len(text.lstrip())].count("\n")
