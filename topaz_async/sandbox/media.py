"""Make small test clips and say what a media file holds, with PyAV."""

from __future__ import annotations

import os
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any, Final

from .engine import IMAGE_ENDINGS, NEEDS_PYAV, MediaError, MediaInfo
from .files import HEAD, ending_of

try:
    import av
    import av.filter
except ModuleNotFoundError as error:
    raise ImportError(NEEDS_PYAV) from error

from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.error import EOFError as StreamEnd, FFmpegError
from av.stream import Disposition
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

#: Demuxers that may read an input. Playlists stay out: they would open further files and URLs.
FORMATS: Final = ",".join(("mov,mp4,m4a,3gp,3g2,mj2,matroska,webm", *IMAGE_ENDINGS))

#: PyAV before 19 has to be told that broken metadata is no reason to refuse a file.
_TOLERANT: dict[str, Any] = (
    {"metadata_errors": "replace"} if int(av.__version__.split(".")[0]) < 19 else {}
)


def open_input(path: str | os.PathLike[str]) -> InputContainer:
    """Open a media file for reading, from the local disk and in the known formats only.

    Raises:
        MediaError: The file is of no format the service takes, or too broken to be opened.
    """
    options = {
        "format_whitelist": FORMATS,
        "protocol_whitelist": "file",
    }
    try:
        with open(path, "rb") as file:
            # To FFmpeg it is Matroska; the service does not name it among its formats.
            if ending_of("", "", file.read(HEAD)) == ".webm":
                raise MediaError("WebM is not taken, only mp4, mov and mkv are")
        container: InputContainer = av.open(
            os.fspath(path), "r", container_options=options, **_TOLERANT
        )
    except (FFmpegError, OSError, ValueError, UnicodeError) as error:
        raise MediaError(f"not a readable video or image: {error}") from None
    return container


def picture_stream(container: InputContainer) -> VideoStream:
    """Return the first moving picture; a cover picture of an audio file does not count.

    Raises:
        MediaError: There is none.
    """
    for stream in container.streams.video:
        if not stream.disposition & Disposition.attached_pic and stream.codec_context is not None:
            return stream
    raise MediaError("the file has no video track")


def sound_streams(container: InputContainer) -> list[AudioStream]:
    """Return the sound tracks whose codec is known; a broken file may name others."""
    return [sound for sound in container.streams.audio if sound.codec_context is not None]


def probe(path: str | os.PathLike[str]) -> MediaInfo:
    """Say what a video or image file holds; reads it once, decodes one frame.

    Args:
        path: A file in one of the formats the service takes.

    Raises:
        MediaError: The file holds no picture that can be decoded.
    """
    with open_input(path) as container:
        video = picture_stream(container)
        image = container.format.name in IMAGE_ENDINGS
        frames, first, last_end = 0, None, Fraction(0)
        try:
            for packet in container.demux(video):
                if first is None:
                    first = next(iter(packet.decode()), None)
                if packet.size and not packet.is_discard:
                    frames += 1
                    if packet.pts is not None and packet.time_base is not None:
                        end = (packet.pts + (packet.duration or 0)) * packet.time_base
                        last_end = max(last_end, end)
        except FFmpegError as error:
            raise MediaError(f"the file is corrupt: {error}") from None
        if first is None:
            raise MediaError("no picture could be decoded")
        sound = next(iter(sound_streams(container)), None)
        length = container.duration
        # A cut-off file still claims its full length; what can be read is what counts.
        seconds = float(last_end) if length is None else length / av.time_base
        return MediaInfo(
            width=first.width,
            height=first.height,
            frames=frames,
            seconds=0.0 if image else seconds,
            rate=Fraction(0) if image else (video.average_rate or Fraction(0)),
            has_audio=sound is not None,
            codec=video.codec_context.name,
            audio_codec=None if sound is None else sound.codec_context.name,
            rotation=first.rotation,
            container=container.format.name,
        )


def make_clip(
    path: str | os.PathLike[str],
    *,
    seconds: float = 2.0,
    width: int = 160,
    height: int = 90,
    rate: int | Fraction = 25,
    audio: bool | str = True,
    pattern: str = "testsrc2",
    codec: str = "libx264",
    pixels: str = "yuv420p",
    rotation: int = 0,
    skip_every: int = 0,
) -> Path:
    """Write a short clip with a moving picture and a sine tone.

    Args:
        path: Where to; the ending (.mp4, .mov, .mkv) decides the container.
        seconds: Length of picture and sound.
        width: Pixels; even for the default pixel format.
        height: Pixels; even for the default pixel format.
        rate: Frames per second.
        audio: True for AAC, False for silence, or the name of an encoder, such as ``pcm_s16le``.
        pattern: A source filter of FFmpeg: ``testsrc2``, ``smptebars``, ``mandelbrot``.
        codec: Name of the video encoder.
        pixels: Pixel format; ``yuv444p`` takes odd sizes.
        rotation: Degrees of the display matrix, counter-clockwise.
        skip_every: Leave out each n-th frame, which makes the frame rate variable; 0 keeps all.

    Returns:
        The path.
    """
    target = Path(path)
    with av.open(str(target), "w") as out:
        options = {"preset": "ultrafast"} if codec == "libx264" else {}
        video = out.add_stream(codec, rate=Fraction(rate), options=options)
        assert isinstance(video, VideoStream)
        video.width, video.height, video.pix_fmt = width, height, pixels
        video.codec_context.thread_count = 1
        if rotation:
            video.set_display_rotation(rotation)
        tone: AudioStream | None = None
        if audio:
            added = out.add_stream("aac" if audio is True else audio, rate=44100, layout="mono")
            assert isinstance(added, AudioStream)
            tone = added
        sounds = _tone(tone, seconds) if tone is not None else iter(())
        heard = 0.0
        for number, frame in enumerate(
            _pictures(pattern, f"{width}x{height}", rate, seconds, pixels)
        ):
            if skip_every and number % skip_every == skip_every - 1:
                continue
            frame.pict_type = 0
            out.mux(video.encode(frame))
            # Sound keeps pace with the picture, or a player would have to seek for it.
            while tone is not None and heard <= float(frame.time or 0):
                sound = next(sounds, None)
                if sound is None:
                    break
                heard = float(sound.time or 0)
                out.mux(tone.encode(sound))
        out.mux(video.encode(None))
        if tone is not None:
            for sound in sounds:
                out.mux(tone.encode(sound))
            out.mux(tone.encode(None))
    return target


def _pictures(
    pattern: str, size: str, rate: int | Fraction, seconds: float, pixels: str
) -> Iterator[VideoFrame]:
    graph = av.filter.Graph()
    graph.threads = 1
    finite = pattern not in ("mandelbrot",)
    length = f":duration={seconds}" if finite else ""
    source = graph.add(pattern, f"size={size}:rate={rate}{length}")
    format_, sink = graph.add("format", pixels), graph.add("buffersink")
    graph.link_nodes(source, format_, sink).configure()
    for _ in range(round(seconds * rate)):
        try:
            yield graph.vpull()
        except StreamEnd:
            return


def _tone(stream: AudioStream, seconds: float) -> Iterator[AudioFrame]:
    graph = av.filter.Graph()
    graph.threads = 1
    size = 1024
    source = graph.add(
        "sine", f"frequency=440:sample_rate=44100:duration={seconds}:samples_per_frame={size}"
    )
    layout = stream.codec_context.layout.name
    wanted = f"sample_fmts={stream.codec_context.format.name}:channel_layouts={layout}"
    format_, sink = graph.add("aformat", wanted), graph.add("abuffersink")
    graph.link_nodes(source, format_, sink).configure()
    while True:
        try:
            frame = graph.pull()
        except StreamEnd:
            return
        assert isinstance(frame, AudioFrame)
        yield frame
