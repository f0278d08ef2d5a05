"""Where a result may be written."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Self

import attrs

from .errors import TopazError
from .texts import clean, quoted
from .transfers import safe_name

__all__ = ["Target"]


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
        """Raise `error` unless the file may be written."""
        shown = clean(str(self.folder), 200)
        existing = self.folder
        while not existing.exists() and existing != existing.parent:
            existing = existing.parent
        if not existing.is_dir():
            raise error(f"{clean(str(existing), 200)} is a file, not a folder.")
        if not os.access(existing, os.W_OK | os.X_OK):
            raise error(f"The folder {shown} cannot be written.")
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

    def place(self, suggestion: str, *, overwrite: bool) -> Path:
        """Return the path to write; in a folder, under a name like `suggestion` that is free."""
        if self.name is not None:
            return self.folder / self.name
        name = Path(safe_name(suggestion))
        place, number = self.folder / name, 1
        while not overwrite and (place.exists() or place.is_symlink()):
            number += 1
            place = self.folder / f"{name.stem} ({number}){name.suffix}"
        return place
