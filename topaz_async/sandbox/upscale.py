"""Upscale a video or an image with PyAV: Lanczos, H.264, sound kept."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any, Final, cast

import attrs
import av
from av.audio.resampler import AudioResampler
from av.audio.stream import AudioStream
from av.container import InputContainer, OutputContainer
from av.error import FFmpegError
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.reformatter import Interpolation, VideoReformatter
from av.video.stream import VideoStream

from .engine import IMAGE_ENDINGS, Cancelled, Kind, MediaError, MediaInfo, WorkCancelledError
from .media import open_input, picture_stream, probe, sound_streams

#: Sound an mp4 holds as it is; anything else becomes AAC.
COPIED_SOUND: Final = frozenset({"aac", "mp3", "ac3", "eac3", "alac"})
AAC_RATES: Final = frozenset({8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000, 96000})
#: Layouts of channels that AAC in mp4 gives back as they were.
AAC_LAYOUTS: Final = frozenset({"mono", "stereo", "2.1", "3.0", "4.0", "quad", "5.0", "5.1"})
#: What others become, by the number of their channels; what has more is mixed down to 5.1.
AAC_LAYOUT_OF: Final = {1: "mono", 2: "stereo", 3: "3.0", 4: "4.0", 5: "5.0"}
IMAGE_CODECS: Final = {
    "png_pipe": ("png", "rgb24"),
    "jpeg_pipe": ("mjpeg", "yuvj444p"),
    "webp_pipe": ("libwebp", "yuv420p"),
}
#: Longest side of an output video; the encoder's own limit.
MAX_SIDE: Final = 16384
#: Pixels of an output picture, so that one frame stays near 100 MB.
MAX_PIXELS: Final = 8192 * 8192
#: Longest side of an output image (product page of topaz/image-upscale).
MAX_IMAGE_SIDE: Final = 20000


@attrs.frozen
class PyAVEngine:
    """The real engine."""

    #: Threads of each encoder and decoder; the pool of workers multiplies it.
    threads: int = 1

    def probe(self, path: Path) -> MediaInfo:
        """Say what ``path`` holds."""
        return probe(path)

    def upscale(
        self, source: Path, target: Path, *, factor: int, kind: Kind, cancelled: Cancelled
    ) -> None:
        """Write ``source``, ``factor`` times as wide and high, to ``target``.

        A video becomes an mp4 (H.264, yuv420p, index in front) with the same frames at the same
        times; its sound is copied, or turned into AAC. An image keeps its format. Odd sizes are
        rounded up to even ones, which yuv420p asks for. Memory does not grow with the length.

        Raises:
            MediaError: The source cannot be upscaled.
            WorkCancelledError: ``cancelled`` answered True.
        """
        try:
            if kind == "image":
                _upscale_image(source, target, factor)
                return
            first = _first_frame(source)
            faststart = {"movflags": "+faststart"}
            with (
                open_input(source) as given,
                av.open(str(target), "w", format="mp4", options=faststart) as out,
            ):
                _Upscaling(given, out, first, factor, self.threads).run(cancelled)
        except (FFmpegError, ValueError, UnicodeError) as error:
            raise MediaError(f"the input could not be upscaled: {error}") from None


def _upscale_image(source: Path, target: Path, factor: int) -> None:
    with open_input(source) as given:
        if given.format.name not in IMAGE_ENDINGS:
            raise MediaError("the file is not a png, jpeg or webp image")
        codec, pixels = IMAGE_CODECS[given.format.name]
        frame = next(given.decode(picture_stream(given)), None)
    if frame is None:
        raise MediaError("no picture could be decoded")
    if max(frame.width, frame.height) * factor > MAX_IMAGE_SIDE:
        raise MediaError(f"the longest side of the result would exceed {MAX_IMAGE_SIDE} pixels")
    width, height = frame.width * factor, frame.height * factor
    with av.open(str(target), "w", format="image2", options={"update": "1"}) as out:
        stream = out.add_stream(codec, rate=1)
        assert isinstance(stream, VideoStream)
        stream.width, stream.height, stream.pix_fmt = width, height, pixels
        large = frame.reformat(width, height, pixels, interpolation="LANCZOS")
        large.pts, large.pict_type = 0, 0
        out.mux(stream.encode(large))
        out.mux(stream.encode(None))


class _Sound:
    """One sound track on its way into the output."""

    def __init__(self, given: AudioStream, out: OutputContainer) -> None:
        self._out = out
        self._resampler: AudioResampler | None = None
        context = given.codec_context
        if context.name in COPIED_SOUND:
            self._stream = out.add_stream_from_template(given)
            return
        rate = context.sample_rate if context.sample_rate in AAC_RATES else 48000
        layout = context.layout.name
        if layout not in AAC_LAYOUTS:
            # Matroska keeps no layout for raw sound, only the number of channels.
            layout = AAC_LAYOUT_OF.get(context.layout.nb_channels, "5.1")
        added = out.add_stream("aac", rate=rate, layout=layout)
        assert isinstance(added, AudioStream)
        self._stream = added
        self._resampler = AudioResampler("fltp", layout, rate, frame_size=1024)

    def take(self, packet: Packet[AudioStream]) -> None:
        if self._resampler is None:
            if packet.dts is not None and packet.size:
                packet.stream = self._stream
                self._out.mux(packet)
            return
        for frame in packet.decode():
            for piece in self._resampler.resample(frame):
                self._out.mux(self._stream.encode(piece))

    def finish(self) -> None:
        if self._resampler is not None:
            for piece in self._resampler.resample(None):
                self._out.mux(self._stream.encode(piece))
            self._out.mux(self._stream.encode(None))


class _Upscaling:
    """One video on its way through decoder, scaler and encoder, frame by frame."""

    def __init__(
        self,
        given: InputContainer,
        out: OutputContainer,
        first: VideoFrame,
        factor: int,
        threads: int,
    ) -> None:
        self._given, self._out, self._threads = given, out, threads
        self._picture = picture_stream(given)
        self._picture.codec_context.thread_count = threads
        self._scaler = VideoReformatter()
        self._width, self._height = _even(first.width * factor), _even(first.height * factor)
        if max(self._width, self._height) > MAX_SIDE or self._width * self._height > MAX_PIXELS:
            raise MediaError(f"{self._width}x{self._height} pixels are more than can be made")
        #: Seconds between two ticks of the picture's clock.
        self._tick = self._picture.time_base or Fraction(1, 90000)
        self._video = self._start(first)
        self._heard = sound_streams(given)
        self._sounds = {sound.index: _Sound(sound, out) for sound in self._heard}
        self._last_pts: int | None = None
        #: Length of each frame by its time, which the encoder forgets.
        self._lengths: dict[int, int] = {}

    def _start(self, first: VideoFrame) -> VideoStream:
        rate = self._picture.average_rate or self._picture.guessed_rate or Fraction(25)
        # This preset makes no B-frames, so packets leave in the order of their times.
        options = {"preset": "ultrafast", "crf": "20"}
        video = self._out.add_stream("libx264", rate=rate, options=options)
        video.width, video.height, video.pix_fmt = self._width, self._height, "yuv420p"
        context, given = video.codec_context, self._picture.codec_context
        context.thread_count = self._threads
        context.time_base = self._tick
        if given.sample_aspect_ratio:
            context.sample_aspect_ratio = given.sample_aspect_ratio
        # The scaler leaves matrix and levels as they are; only RGB pictures get a matrix from it.
        context.color_range = first.color_range
        context.color_primaries, context.color_trc = first.color_primaries, first.color_trc
        if not first.format.is_rgb:
            context.colorspace = first.colorspace
        if first.rotation:
            video.set_display_rotation(first.rotation)
        return video

    def run(self, cancelled: Cancelled) -> None:
        for packet in self._given.demux(self._picture, *self._heard):
            if cancelled():
                raise WorkCancelledError
            if packet.stream_index in self._sounds:
                self._sounds[packet.stream_index].take(cast("Packet[AudioStream]", packet))
                continue
            for frame in cast("Packet[VideoStream]", packet).decode():
                if cancelled():
                    raise WorkCancelledError
                self._take(frame)
        self._mux(self._video.encode(None))
        for sound in self._sounds.values():
            sound.finish()

    def _take(self, frame: VideoFrame) -> None:
        usual = max(1, round(1 / (self._video.codec_context.framerate * self._tick)))
        pts, last = frame.pts, self._last_pts
        if pts is None or (last is not None and pts <= last):
            # A broken clock in the source must not break the result's.
            pts = 0 if last is None else last + usual
        self._last_pts = pts
        self._lengths[pts] = frame.duration or usual
        large = self._scaler.reformat(
            frame,
            self._width,
            self._height,
            "yuv420p",
            interpolation=Interpolation.LANCZOS,
            threads=self._threads,
        )
        large.pts, large.time_base, large.pict_type = pts, self._tick, 0
        self._mux(self._video.encode(large))

    def _mux(self, packets: list[Packet[Any]]) -> None:
        for packet in packets:
            if packet.pts is not None:
                packet.duration = self._lengths.pop(packet.pts, packet.duration)
            self._out.mux(packet)


def _even(pixels: int) -> int:
    return pixels + pixels % 2


def _first_frame(source: Path) -> VideoFrame:
    with open_input(source) as given:
        if given.format.name in IMAGE_ENDINGS:
            raise MediaError("the file is an image, not a video")
        frame = next(given.decode(picture_stream(given)), None)
        if frame is None:
            raise MediaError("no picture could be decoded")
        return frame
