"""What is to be done with one clip, as it was typed."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote, urlsplit

import attrs

from ..orders import is_url
from ..texts import clean
from ..transfers import safe_name

__all__ = ["Wish", "output_file"]


@attrs.frozen(kw_only=True)
class Wish:
    """One clip, and what shall become of it; the library judges whether that is possible."""

    #: A path or an https URL.
    clip: str
    #: 1, 2 or 4.
    factor: str
    #: The file to write.
    output: Path
    #: Seconds; see `TopazClient.upscale`.
    timeout: float = 900.0
    overwrite: bool = False
    #: Largest file to send, in bytes; None for the library's own limit.
    max_upload_bytes: int | None = None

    @property
    def is_local(self) -> bool:
        """Whether the clip is a file that has to be uploaded."""
        return not is_url(self.clip)

    @property
    def name(self) -> str:
        """The clip's name as it may be shown: queries of URLs can hold secrets."""
        return clean(Path(self.clip).name if self.is_local else self.clip.split("?", 1)[0], 200)


def output_file(clip: str, factor: str, output: str | None) -> Path:
    """Return the file to write: a name made from the clip's where only a folder is given.

    The name is always the same, so that a command that is typed twice finds the first result
    in its way instead of paying for a second one.

    Args:
        clip: A path or a URL.
        factor: What the clip is enlarged by.
        output: A file, a folder, or None for the current folder.
    """
    place = Path(output or ".")
    if output and not place.is_dir() and not output.endswith(("/", "\\")):
        return place
    stem = Path(safe_name(unquote(urlsplit(clip).path)) if is_url(clip) else clip).stem
    return place / f"{stem or 'video'}-{factor}x.mp4"
