"""Where a result may be written."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Container
from pathlib import Path
from typing import Self

import attrs

from .errors import TopazError
from .names import own_name
from .texts import clean, quoted

__all__ = ["Target"]

#: Bytes of the longest name that a download makes by itself.
_ROOM = 128


@attrs.frozen
class Target:
    """A file to write, or a folder to write into under a name that comes later.

    Its methods look at the disk, so call them off the event loop.
    """

    folder: Path
    #: None for a folder: the name is made from what is written.
    name: str | None

    @classmethod
    def of(cls, path: str | os.PathLike[str], *, overwrite: bool, error: type[TopazError]) -> Self:
        """Return the target that a path names, once it is certain that it may be written.

        Raises:
            TopazError: `error`, in words, when it may not.
        """
        try:
            text = os.fspath(path)
            place = Path(text)
            is_folder = place.is_dir() or text.endswith(("/", os.sep))
            target = cls(place, None) if is_folder else cls(place.parent, place.name)
            if not text or b"\0" in os.fsencode(text) or target.name == "..":
                raise ValueError("no name")
            target.check(overwrite=overwrite, error=error)
        except OSError as failure:
            reason = failure.strerror or type(failure).__name__
            raise error(f"{clean(path, 200)} cannot be written: {reason}.") from None
        except (TypeError, ValueError):  # no path at all, or letters that no file system takes
            shown = quoted(str(path) if isinstance(path, os.PathLike) else path, 80)
            raise error(f"{shown} is no path to write to.") from None
        return target

    def check(self, *, overwrite: bool, error: type[TopazError]) -> None:
        """Raise `error` unless the file may be written, as far as that can be told before."""
        shown = clean(str(self.folder), 200)
        existing = self.folder
        while not existing.exists() and existing != existing.parent:
            existing = existing.parent
        if not existing.is_dir():
            raise error(f"{clean(str(existing), 200)} is a file, not a folder.")
        if not os.access(existing, os.W_OK | os.X_OK):
            raise error(f"The folder {shown} cannot be written.")
        if reason := _refusal(existing):
            raise error(f"The folder {shown} cannot be written: {reason}.")
        # Names that the file system does not take are refused by it here, and not first when
        # their folder has been made; so is a path without room for a name to come.
        for part in (*self.folder.parts[len(existing.parts) :], self.name or ""):
            _look(existing / part)
        _look(self.folder / ("x" * _ROOM))
        if self.name is None:
            return
        file = self.folder / self.name
        if file.is_dir():
            raise error(f"{clean(str(file), 200)} is a folder.")
        if not overwrite and (file.exists() or file.is_symlink()):
            raise error(
                f"{clean(str(file), 200)} exists already and was left alone.",
                hint="Name another file, or pass overwrite=True.",
            )

    def is_at(self, path: Path) -> bool:
        """Tell whether an absolute path is the file, or lies in the folder."""
        return path.parent == self.folder.absolute() and self.name in (None, path.name)

    def place(
        self, suggestion: str, *, overwrite: bool, taken: Container[Path] = frozenset()
    ) -> Path:
        """Return the path to write; in a folder, under a name like `suggestion` that is free.

        Args:
            suggestion: The name; what some disk would mind is changed.
            overwrite: Whether a name may be that of a file which is there; never of a folder.
            taken: Paths that are not free in any case.
        """
        if self.name is not None:
            return self.folder / self.name
        name = Path(own_name(suggestion))
        place, number = self.folder / name, 1
        while place in taken or (os.path.lexists(place) and not (overwrite and _is_file(place))):
            number += 1
            place = self.folder / f"{name.stem} ({number}){name.suffix}"
        return place


def _is_file(place: Path) -> bool:
    return place.is_symlink() or not place.is_dir()


def _refusal(folder: Path) -> str | None:
    """Return why no file can be made there; the superuser is told that he may write anywhere."""
    try:
        with tempfile.TemporaryFile(dir=folder):
            return None
    except OSError as error:
        return error.strerror or type(error).__name__


def _look(place: Path) -> None:
    """Raise an OSError when no file system could ever hold such a name."""
    with contextlib.suppress(FileNotFoundError):
        place.lstat()
