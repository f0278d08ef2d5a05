"""What is to be done with a clip, and how its result is called."""

from __future__ import annotations

import hashlib
import os
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import attrs

from ..names import safe_name
from ..orders import is_url
from ..signed_urls import named_by
from ..texts import clean
from ..urls import shown, without_query
from .exits import UsageError

__all__ = ["Wish", "output_file", "wishes_of"]

#: Endings by which a name is told from a folder that is not there yet.
_ENDINGS = frozenset({".mp4", ".mov", ".mkv", ".m4v"})


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
    #: The person's own name for the work, or the name of its content; None for none.
    reference: str | None = None
    #: What the person has typed, of which the reference of one clip among many is made.
    typed: str | None = None
    callback_url: str | None = None
    #: Consent to pay twice for what may have been bought.
    resubmit_unknown: bool = False

    @property
    def is_local(self) -> bool:
        """Whether the clip is a file that has to be uploaded."""
        return not is_url(self.clip)

    @property
    def has_secrets(self) -> bool:
        """Whether it holds what is not written down: the queries of signed addresses."""
        return "?" in f"{self.callback_url or ''}{'' if self.is_local else self.clip}"

    @property
    def name(self) -> str:
        """The clip's name as it may be shown: queries of URLs can hold secrets."""
        return clean(Path(self.clip).name, 200) if self.is_local else shown(self.clip)

    @property
    def told(self) -> str:
        """The clip as `--json` tells it: a path as it was typed, a URL without its secrets."""
        return self.clip if self.is_local else shown(self.clip)


def wishes_of(
    clips: Sequence[str],
    *,
    is_many: bool,
    factor: str,
    output: str | None,
    reference: str | None = None,
    **common: Any,
) -> list[Wish]:
    """Return what is to be done with each clip; no two results have the same name.

    Args:
        clips: Paths and URLs.
        is_many: Whether the results need a folder, also if there is but one clip.
        factor: What the clips are enlarged by.
        output: A file, a folder, or None for the current folder.
        reference: The person's own name for the work; of many clips each has its path added.
        common: The other fields of all wishes.

    Raises:
        UsageError: `output` is a file, and there are several clips.
    """
    if is_many and output is not None:
        place = Path(output)
        if os.path.isfile(place) or (place.suffix.lower() in _ENDINGS and not os.path.isdir(place)):
            raise UsageError(
                f"Several clips do not fit into the one file {clean(output, 200)}: "
                "name a folder, as in -o out/."
            )
        output = os.path.join(output, "")
    taken: Counter[Path] = Counter()
    wishes = []
    for clip in clips:
        place = output_file(clip, factor, output)
        taken[place] += 1
        if taken[place] > 1:
            place = place.with_stem(f"{place.stem} ({taken[place]})")
        name = reference
        if reference is not None and is_many:
            name = f"{reference}/{_name_of(clip) if is_url(clip) else clip}"
        wishes.append(
            Wish(clip=clip, factor=factor, output=place, reference=name, typed=reference, **common)
        )
    return wishes


def _name_of(url: str) -> str:
    """Return what tells a link from others: no secret, nor what another signature would change."""
    name = re.sub(r"//[^/]*@", "//", without_query(url))
    key = named_by(url)
    return f"{name}#{hashlib.sha256(key.encode()).hexdigest()[:12]}" if "?" in key else name


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
    # Unlike `Path.is_dir` it takes names that no disk does: they are refused in words later.
    if output and not os.path.isdir(place) and not output.endswith(("/", "\\")):
        return place
    stem = Path(safe_name(unquote(urlsplit(clip).path)) if is_url(clip) else clip).stem
    return place / f"{stem or 'video'}-{factor}x.mp4"
