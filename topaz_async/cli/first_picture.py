"""The first picture of a video as a PNG, the way a player shows it; needs PyAV."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import av
import av.filter
from av.error import FFmpegError
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame

from ..sandbox.engine import MediaError
from ..sandbox.media import open_input, picture_stream

__all__ = ["first_picture"]

#: Degrees counter-clockwise to the filters that turn a picture by them.
_TURNS: Final = {90: ("transpose", "cclock"), -90: ("transpose", "clock")}


def first_picture(path: Path) -> bytes:
    """Return the first picture of a video or an image as a PNG, turned as it is to be shown.

    Raises:
        MediaError: There is none, or it cannot be decoded.
    """
    try:
        with open_input(path) as container:
            frame = next(container.decode(picture_stream(container)), None)
            if frame is None:
                raise MediaError("no picture could be decoded")
            return _png(_turned(frame))
    except FFmpegError as error:
        raise MediaError(f"the file is corrupt: {error}") from None


def _turned(frame: VideoFrame) -> VideoFrame:
    steps: list[tuple[str, str | None]] = []
    if frame.rotation in _TURNS:
        steps = [_TURNS[frame.rotation]]
    elif abs(frame.rotation) == 180:
        steps = [("hflip", None), ("vflip", None)]
    if not steps:
        return frame
    graph = av.filter.Graph()
    graph.threads = 1
    source = graph.add_buffer(
        width=frame.width, height=frame.height, format=frame.format, time_base=frame.time_base
    )
    turns = [graph.add(name, argument) for name, argument in steps]
    graph.link_nodes(source, *turns, graph.add("buffersink")).configure()
    graph.vpush(frame)
    return graph.vpull()


def _png(frame: VideoFrame) -> bytes:
    encoder = av.CodecContext.create("png", "w")
    assert isinstance(encoder, VideoCodecContext)
    encoder.width, encoder.height, encoder.pix_fmt = frame.width, frame.height, "rgb24"
    encoder.time_base = frame.time_base or av.time_base  # type: ignore[assignment]
    packets = [*encoder.encode(_bare(frame)), *encoder.encode(None)]
    return b"".join(bytes(packet) for packet in packets)


def _bare(frame: VideoFrame) -> VideoFrame:
    """Return the picture without what else is known of it.

    FFmpeg 8 writes a clip's rotation into a PNG, and players would turn the picture once more.
    """
    given = frame.reformat(format="rgb24")
    bare = VideoFrame(given.width, given.height, "rgb24")
    (source,), (target,) = given.planes, bare.planes
    row, pixels = 3 * given.width, bytes(source)
    rows = (pixels[at : at + row] for at in range(0, len(pixels), source.line_size))
    target.update(b"".join(each.ljust(target.line_size, b"\0") for each in rows))
    bare.pts = 0
    return bare
