"""What was typed as clips, spelt out: folders, patterns, addresses, a list on standard input."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import BinaryIO

import attrs

from ..orders import is_url
from ..texts import clean
from .exits import UsageError
from .options import STANDARD_INPUT

__all__ = ["Inputs", "spelt_out"]

#: Endings of files that are taken from a folder; a file that is named is looked into instead.
_ENDINGS = frozenset({".mp4", ".mov", ".mkv", ".m4v"})
#: The stem of a result, as `output_file` makes it.
_RESULT = re.compile(r"(.+)-[124]x(?: \(\d+\))?")


@attrs.frozen
class Inputs:
    """The clips of one command."""

    #: Paths and URLs in order, each of them once.
    clips: tuple[str, ...]
    #: Whether there may be more than one: a folder is of that kind even with one clip in it.
    is_many: bool
    #: Results of other clips, which are not upscaled a second time.
    left_out: tuple[str, ...] = ()


def spelt_out(arguments: Sequence[str], stdin: BinaryIO) -> Inputs:
    """Return the clips that arguments name; looks at the disk, and blocks.

    Raises:
        UsageError: There is none, or a folder or pattern holds none.
    """
    if not arguments:
        raise UsageError("Which clips? Name files, folders or https addresses, or - for a list.")
    found: list[str] = []
    is_many = len(arguments) > 1
    for argument in arguments:
        if argument == STANDARD_INPUT:
            is_many = True
            for line in _lines(stdin):
                found += [line] if is_url(line) or not os.path.isdir(line) else _inside(line)
        elif is_url(argument):
            found.append(argument)
        elif os.path.isdir(argument):
            is_many = True
            found += _inside(argument)
        elif glob.has_magic(argument) and not os.path.lexists(argument):
            is_many = True
            found += _matching(argument)
        else:
            found.append(argument)
    if not found:
        raise UsageError("The list on standard input is empty.")
    once: dict[str, str] = {}
    for clip in found:
        once.setdefault(_identity(clip), clip)
    clips = list(once.values())
    results = _results(clips)
    kept = tuple(clip for clip in clips if clip not in results)
    return Inputs(kept, is_many, tuple(clip for clip in clips if clip in results))


def _lines(stdin: BinaryIO) -> list[str]:
    """Return the names of a list: lines, or between NULs (`find -print0`)."""
    content = stdin.read()
    names = content.split(b"\0") if b"\0" in content else content.splitlines()
    return [os.fsdecode(name) for name in names if name.strip()]


def _inside(folder: str) -> list[str]:
    try:
        names = sorted(os.listdir(folder))
    except OSError as error:
        raise UsageError(f"{clean(folder, 200)} cannot be read: {error.strerror}.") from None
    clips = [
        os.path.join(folder, name)
        for name in names
        if not name.startswith(".") and os.path.splitext(name)[1].lower() in _ENDINGS
    ]
    if not clips:
        raise UsageError(f"The folder {clean(folder, 200)} holds no mp4, mov or mkv file.")
    return clips


def _matching(pattern: str) -> list[str]:
    clips = sorted(path for path in glob.glob(pattern, recursive=True) if os.path.isfile(path))
    if not clips:
        raise UsageError(f"No file matches {clean(pattern, 200)}.")
    return clips


def _identity(clip: str) -> str:
    return clip if is_url(clip) else os.path.realpath(clip)


def _results(clips: Iterable[str]) -> set[str]:
    """Return those that are called as the result of another one beside them would be."""
    files = [(clip, Path(clip)) for clip in clips if not is_url(clip)]
    stems = {(path.parent, path.stem) for _, path in files}
    return {
        clip
        for clip, path in files
        if (match := _RESULT.fullmatch(path.stem)) and (path.parent, match[1]) in stems
    }
