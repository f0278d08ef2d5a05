"""Lay two videos over each other on one page that needs nothing else."""

from __future__ import annotations

import base64
import errno
import hashlib
import os
import re
import secrets
from collections.abc import Iterator, Mapping
from contextlib import suppress
from html import escape
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Final

import attrs
from rich.console import Console

from ..errors import FileError, InvalidInputError
from ..media import HEAD, kind_of
from ..targets import Target
from ..texts import clean
from .display import say, size
from .exits import UsageError

if TYPE_CHECKING:
    from ..sandbox import MediaInfo

__all__ = ["compare"]

_MISSING: Final = (
    "compare needs PyAV, which is not installed: pip install 'topaz_async[cli,sandbox]'"
)

#: What a browser is told of each kind.  QuickTime files are played under the name of mp4 only.
_TYPES: Final = {
    "mp4": "video/mp4", "mov": "video/mp4", "mkv": "video/x-matroska", "webm": "video/webm",
}  # fmt: skip
#: Read and encoded at once: whole groups of three bytes.
_CHUNK: Final = 3 << 18
_MARK: Final = re.compile(r"\{\{(\w+)\}\}")


@attrs.frozen(kw_only=True)
class _Side:
    """One of the two."""

    path: Path
    info: MediaInfo
    #: Of the file, in bytes.
    length: int
    #: Its first picture, a PNG.
    picture: bytes = attrs.field(repr=False)
    #: What a browser is told that it is; empty when only the picture is shown.
    type: str

    @property
    def name(self) -> str:
        return clean(self.path.name, 200)

    @property
    def shown_size(self) -> tuple[int, int]:
        """Pixels as they are shown: phones film upright by turning the picture."""
        turned = self.info.rotation in (90, -90)
        return (
            (self.info.height, self.info.width) if turned else (self.info.width, self.info.height)
        )

    @property
    def facts(self) -> dict[str, str]:
        width, height = self.shown_size
        found = {
            "pixels": f"{width} × {height}",
            "size": f"{size(self.length)} ({self.length:,} bytes)",
        }
        if self.info.rate:
            found["length"] = f"{self.info.seconds:.2f} seconds"
            found["pictures"] = f"{self.info.frames}, {float(self.info.rate):.4g} a second"
            found["sound"] = self.info.audio_codec or "none"
        return {**found, "codec": self.info.codec}


def compare(
    before: Path,
    after: Path,
    output: str,
    console: Console,
    *,
    overwrite: bool = False,
    max_bytes: int,
) -> None:
    """Write the page and say where it is.

    Args:
        before: The video as it was.
        after: The video as it is now.
        output: The page to write, or a folder to write it into.
        console: Where it is said.
        overwrite: Replace a page that is there already.
        max_bytes: The largest video that is put into the page.

    Raises:
        UsageError: PyAV is missing, or a file is no video.
        InvalidInputError: The page cannot be written there.
        FileError: The page could not be written to its end; an older one is as it was.
    """
    target = Target.of(output, overwrite=overwrite, error=InvalidInputError)
    place = target.place(f"{before.stem}-compare.html", overwrite=overwrite)
    sides = _looked_at(before, max_bytes), _looked_at(after, max_bytes)
    if any(place.exists() and place.samefile(side.path) for side in sides):
        raise UsageError(f"{clean(place, 4096)} is one of the two videos; name another page.")
    too_large = [side.name for side in sides if side.length > max_bytes and side.info.rate]
    _write(place, _page(*sides, _note(too_large, max_bytes)), overwrite=overwrite)
    for name in too_large:
        say(
            console,
            f"{name} has more than {size(max_bytes)}: first pictures only. --max-mb allows more.",
        )
    (w, h), (wide, high) = sides[0].shown_size, sides[1].shown_size
    say(
        console,
        f"{w}x{h} beside {wide}x{high}: ",
        (clean(place, 4096), "bold"),
        f" ({size(place.stat().st_size)}); open it in a browser",
    )


def _looked_at(path: Path, max_bytes: int) -> _Side:
    try:
        from ..sandbox.engine import MediaError
        from ..sandbox.media import probe
        from .first_picture import first_picture
    except ImportError:
        raise UsageError(_MISSING) from None
    shown = clean(path, 4096)
    if re.match(r"https?:/", str(path), re.IGNORECASE):
        raise UsageError("compare takes files only; download the video first.")
    if path.is_dir():
        raise UsageError(f"{shown} is a folder, not a video.")
    if path.exists() and not path.is_file():  # a fifo would keep us waiting for its writer
        raise UsageError(f"{shown} is no file.")
    try:
        with path.open("rb") as file:
            head = file.read(HEAD)
        if not head:
            raise UsageError(f"{shown} is empty.")
        kind = kind_of(head)
        info, picture = probe(path), first_picture(path)
    except FileNotFoundError:
        raise UsageError(f"{shown} does not exist.") from None
    except OSError as error:
        raise UsageError(
            f"{shown} cannot be read: {error.strerror or type(error).__name__}."
        ) from None
    except (MediaError, ValueError) as error:
        raise UsageError(f"{shown} cannot be shown: {clean(error)}.") from None
    length = path.stat().st_size
    plays = bool(info.rate) and length <= max_bytes
    return _Side(
        path=path,
        info=info,
        length=length,
        picture=picture,
        type=_TYPES.get(kind or "", "") if plays else "",
    )


def _note(too_large: list[str], max_bytes: int) -> str:
    if not too_large:
        return ""
    names = " and ".join(too_large)
    return f"First pictures only: {names} had more than {size(max_bytes)}."


def _page(before: _Side, after: _Side, note: str) -> Iterator[bytes]:
    """Yield the page piece by piece, so that no video has to fit into memory."""
    width, height = after.shown_size
    style = _filled("compare.css", {"width": str(width), "height": str(height)})
    script = _filled("compare.js", {})
    plays = bool(before.type and after.type)
    texts = {
        "script": script,
        "style": style,
        "script_hash": _hash(script),
        "style_hash": _hash(style),
        "title": escape(f"{before.name} and {after.name}"),
        "note": escape(note),
    }
    for name, side in (("before", before), ("after", after)):
        texts[f"{name}_name"] = escape(side.name)
        texts[f"{name}_type"] = side.type
        texts[f"{name}_rate"] = f"{float(side.info.rate):.6g}"
        texts[f"{name}_facts"] = "".join(
            f"<dt>{fact}</dt><dd>{escape(value)}</dd>" for fact, value in side.facts.items()
        )
        texts[f"{name}_picture"] = base64.b64encode(side.picture).decode()
    videos = {"before_video": before, "after_video": after}
    for number, part in enumerate(_MARK.split(_template("compare.html"))):
        if number % 2 == 0:
            yield part.encode()
        elif part not in videos:
            yield texts[part].encode()
        elif plays:
            with videos[part].path.open("rb") as file:
                while chunk := file.read(_CHUNK):
                    yield base64.b64encode(chunk)


def _template(name: str) -> str:
    return resources.files("topaz_async.cli").joinpath(name).read_text(encoding="utf-8")


def _filled(name: str, values: Mapping[str, str]) -> str:
    return _MARK.sub(lambda mark: values[mark[1]], _template(name))


def _hash(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def _write(place: Path, content: Iterator[bytes], *, overwrite: bool) -> None:
    """Write a file that is whole when it gets its name."""
    part = place.with_name(f".{secrets.token_hex(8)}.part")
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        with part.open("xb") as file:
            for piece in content:
                file.write(piece)
            file.flush()
            os.fsync(file.fileno())
        _publish(part, place, overwrite=overwrite)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise FileError(f"{clean(place, 200)} cannot be written: {reason}.") from None
    finally:
        with suppress(OSError):
            part.unlink()


def _publish(part: Path, place: Path, *, overwrite: bool) -> None:
    if not overwrite:
        try:
            os.link(part, place)  # unlike a rename it never replaces anything
            return
        except FileExistsError:
            raise
        except OSError:  # a file system without hard links
            if os.path.lexists(place):
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST)) from None
    os.replace(part, place)
