"""What the sandbox asks of whatever does the upscaling."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Final, Literal, Protocol

import attrs

#: Asked between frames; True means the sandbox is closing and the work is to stop.
Cancelled = Callable[[], bool]

#: Image containers by the name of their reader, with the file ending of each.
IMAGE_ENDINGS: Final = {"png_pipe": ".png", "jpeg_pipe": ".jpg", "webp_pipe": ".webp"}

#: What to say where PyAV is missing.
NEEDS_PYAV: Final = (
    "The sandbox needs PyAV to read and write video: pip install 'topaz_async[sandbox]'"
)

Kind = Literal["video", "image"]


@attrs.frozen
class MediaInfo:
    """What a media file holds."""

    #: Pixels, as coded (before any rotation).
    width: int
    height: int
    #: Pictures in the video track; 1 for an image.
    frames: int
    #: Length of the longest track; 0.0 for an image.
    seconds: float
    #: Average frames per second; 0 for an image.
    rate: Fraction
    has_audio: bool
    #: Name of the picture codec, for example ``h264``.
    codec: str
    #: Name of the first sound track's codec, None without sound.
    audio_codec: str | None = None
    #: Degrees the picture is to be turned counter-clockwise for display: 0, 90, -90 or 180.
    rotation: int = 0
    #: Name of the container, for example ``mov,mp4,m4a,3gp,3g2,mj2``.
    container: str = ""

    @property
    def ending(self) -> str:
        """The file ending of a result made from it."""
        return IMAGE_ENDINGS.get(self.container, ".mp4")


class MediaError(Exception):
    """The input is not what the model works on: no video, corrupt, too large."""


class WorkCancelledError(Exception):
    """The engine was asked to stop between two frames."""


class Engine(Protocol):
    """Upscales one file at a time; called in worker threads, several at once."""

    def probe(self, path: Path) -> MediaInfo:
        """Say what ``path`` holds; raise `MediaError` when it is neither video nor image."""
        ...

    def upscale(
        self, source: Path, target: Path, *, factor: int, kind: Kind, cancelled: Cancelled
    ) -> None:
        """Write ``source``, ``factor`` times as wide and high, to ``target``.

        Raises:
            MediaError: The source cannot be upscaled.
            WorkCancelledError: ``cancelled`` answered True.
        """
        ...


@attrs.frozen
class CopyEngine:
    """Copies instead of upscaling: for load tests, and for machines without PyAV."""

    #: Seconds each input is said to last, which sets its price.
    seconds: float = 2.0

    def probe(self, path: Path) -> MediaInfo:
        """Claim a small silent clip, whatever the file holds."""
        if path.stat().st_size == 0:
            raise MediaError("the file is empty")
        return MediaInfo(
            width=64,
            height=36,
            frames=round(self.seconds * 25),
            seconds=self.seconds,
            rate=Fraction(25),
            has_audio=False,
            codec="copy",
        )

    def upscale(
        self, source: Path, target: Path, *, factor: int, kind: Kind, cancelled: Cancelled
    ) -> None:
        """Copy ``source`` to ``target``."""
        if cancelled():
            raise WorkCancelledError
        self.probe(source)
        shutil.copyfile(source, target)
