"""The sandbox really upscales, and no input hangs or breaks it."""

from __future__ import annotations

import itertools
import subprocess
import sys
from collections.abc import AsyncIterator
from fractions import Fraction
from pathlib import Path

import aiohttp
import attrs
import av
import pytest
from av.audio.stream import AudioStream
from av.video.stream import VideoStream

from tests.clips import Plain, clip, image, make_clip, probe, probe_bytes, tiny
from topaz_async.sandbox import Fault, MediaError, MediaInfo, Sandbox, WorkCancelledError
from topaz_async.sandbox.upscale import PyAVEngine

MP4 = "mov,mp4,m4a,3gp,3g2,mj2"


@pytest.fixture
async def plain() -> AsyncIterator[Plain]:
    """A plain client on a fresh sandbox."""
    async with Sandbox(submit_quota=None) as sandbox, aiohttp.ClientSession() as session:
        yield Plain(sandbox, session)


def upscaled(data: bytes, tmp_path: Path, factor: int = 2, ending: str = ".mp4") -> Path:
    """Upscale bytes with the engine alone."""
    source, target = tmp_path / f"in{ending}", tmp_path / "out.mp4"
    source.write_bytes(data)
    PyAVEngine().upscale(source, target, factor=factor, kind="video", cancelled=lambda: False)
    return target


def times(path: Path) -> list[Fraction]:
    """Return the moment of each frame."""
    with av.open(str(path)) as container:
        return [frame.pts * frame.time_base for frame in container.decode(video=0)]


def test_make_clip_makes_what_it_says(tmp_path: Path) -> None:
    """Size, length, rate and sound are as asked for."""
    path = make_clip(tmp_path / "a.mp4", seconds=1, width=96, height=64, rate=12)
    assert probe(path) == MediaInfo(
        width=96,
        height=64,
        frames=12,
        seconds=1.0,
        rate=Fraction(12),
        has_audio=True,
        codec="h264",
        audio_codec="aac",
        container=MP4,
    )


@pytest.mark.parametrize("factor", [1, 2, 4])
@pytest.mark.parametrize("ending", [".mp4", ".mov", ".mkv"])
def test_width_and_height_grow_and_all_else_stays(tmp_path: Path, factor: int, ending: str) -> None:
    """Frames, rate, length and sound are those of the input; the result is H.264 in mp4."""
    data = clip(ending)
    given, made = probe_bytes(data), probe(upscaled(data, tmp_path, factor, ending))
    assert made == attrs.evolve(
        given, width=64 * factor, height=36 * factor, container=MP4, seconds=made.seconds
    )
    assert abs(made.seconds - given.seconds) < 0.05


def test_the_picture_is_the_same_picture(tmp_path: Path) -> None:
    """Scaled back down, the result differs from the input by little, frame by frame."""
    data = clip(audio=False, seconds=0.5, width=160, height=90)
    target = upscaled(data, tmp_path, 4)

    def gray(path: Path) -> list[bytes]:
        with av.open(str(path)) as container:
            return [
                bytes(frame.reformat(64, 36, "gray").planes[0])
                for frame in container.decode(video=0)
            ]

    for before, after in zip(gray(tmp_path / "in.mp4"), gray(target), strict=True):
        off = sum(abs(a - b) for a, b in zip(before, after, strict=True)) / len(before)
        assert off < 6


def test_the_filter_is_lanczos(tmp_path: Path) -> None:
    """The result is nearer to a Lanczos enlargement than to any simpler one."""
    data = clip(audio=False, seconds=0.1, width=64, height=36)
    with av.open(str(upscaled(data, tmp_path, 4))) as container:
        made = bytes(next(container.decode(video=0)).planes[0])
    with av.open(str(tmp_path / "in.mp4")) as container:
        frame = next(container.decode(video=0))
        off = {}
        for name in ("LANCZOS", "BICUBIC", "BILINEAR", "POINT"):
            plane = bytes(frame.reformat(256, 144, "yuv420p", interpolation=name).planes[0])
            off[name] = sum((a - b) ** 2 for a, b in zip(plane, made, strict=True))
    assert min(off, key=off.__getitem__) == "LANCZOS"


def test_the_index_is_in_front(tmp_path: Path) -> None:
    """The result can be played while it is still being downloaded."""
    head = upscaled(clip(), tmp_path).read_bytes()
    assert head.index(b"moov") < head.index(b"mdat")


def test_sound_is_copied_packet_by_packet(tmp_path: Path) -> None:
    """AAC goes over unchanged."""

    def packets(path: Path) -> list[bytes]:
        with av.open(str(path)) as container:
            return [bytes(packet) for packet in container.demux(audio=0) if packet.size]

    target = upscaled(clip(), tmp_path)
    assert packets(target) == packets(tmp_path / "in.mp4")


@pytest.mark.parametrize(("ending", "codec"), [(".mkv", "pcm_s16le"), (".mov", "pcm_s16be")])
def test_sound_an_mp4_cannot_hold_becomes_aac(tmp_path: Path, ending: str, codec: str) -> None:
    """Raw sound is encoded, at the same length."""
    made = probe(upscaled(clip(ending, audio=codec), tmp_path, ending=ending))
    assert (made.audio_codec, made.frames) == ("aac", 10)
    assert abs(made.seconds - 1) < 0.1


@pytest.mark.parametrize(
    ("ending", "layout", "kept"),
    [
        (".mov", "stereo", "stereo"),
        (".mov", "quad", "quad"),
        (".mov", "5.1", "5.1"),
        (".mkv", "5.1", "5.1"),
        (".mov", "5.1(side)", "5.1"),
        (".mov", "7.1", "5.1"),
    ],
)
def test_surround_sound_stays_so(tmp_path: Path, ending: str, layout: str, kept: str) -> None:
    """Raw sound keeps its channels on the way to AAC; more than 5.1 is mixed down to that."""
    source, target = tmp_path / f"in{ending}", tmp_path / "out.mp4"
    with av.open(str(source), "w") as out:
        video = out.add_stream("libx264", rate=10)
        assert isinstance(video, VideoStream)
        video.width, video.height, video.pix_fmt = 64, 36, "yuv420p"
        sound = out.add_stream("pcm_s16le", rate=48000, layout=layout)
        assert isinstance(sound, AudioStream)
        heard = av.AudioFrame(format="s16", layout=layout, samples=4800)
        heard.sample_rate, heard.pts = 48000, 0
        heard.planes[0].update(bytes(heard.planes[0].buffer_size))
        picture = av.VideoFrame(64, 36, "yuv420p")
        picture.pts = 0
        out.mux([*video.encode(picture), *video.encode(None)])
        out.mux([*sound.encode(heard), *sound.encode(None)])
    PyAVEngine().upscale(source, target, factor=1, kind="video", cancelled=lambda: False)
    with av.open(str(target)) as made:
        context = made.streams.audio[0].codec_context
        assert (context.name, context.layout.name) == ("aac", kept)


def test_a_silent_clip_stays_silent(tmp_path: Path) -> None:
    """No sound is invented."""
    assert not probe(upscaled(tiny(), tmp_path)).has_audio


def test_odd_sizes_are_rounded_up_to_even_ones(tmp_path: Path) -> None:
    """yuv420p wants even sizes: 65x37 becomes 66x38 at factor 1, 130x74 at 2."""
    data = clip(".mkv", width=65, height=37, pixels="yuv444p", audio=False)
    for factor, size in ((1, (66, 38)), (2, (130, 74))):
        made = probe(upscaled(data, tmp_path, factor, ".mkv"))
        assert (made.width, made.height) == size


def test_a_variable_frame_rate_stays_as_it_is(tmp_path: Path) -> None:
    """Each frame keeps its moment."""
    data = clip(seconds=2, skip_every=3, audio=False)
    target = upscaled(data, tmp_path)
    given = times(tmp_path / "in.mp4")
    assert times(target) == given
    assert len({b - a for a, b in itertools.pairwise(given)}) == 2
    assert probe(target).seconds == probe(tmp_path / "in.mp4").seconds == 2.0


def test_an_odd_frame_rate_stays_as_it_is(tmp_path: Path) -> None:
    """30000/1001 frames per second come out as 30000/1001."""
    rate = Fraction(30000, 1001)
    assert probe(upscaled(clip(rate=rate), tmp_path)).rate == rate


@pytest.mark.parametrize("rotation", [90, -90, 180])
def test_rotation_is_kept(tmp_path: Path, rotation: int) -> None:
    """The display matrix of a clip held upright goes over."""
    made = probe(upscaled(clip(rotation=rotation), tmp_path))
    assert (made.width, made.height, abs(made.rotation)) == (128, 72, abs(rotation))
    assert (made.rotation - rotation) % 360 == 0


def test_another_codec_is_read(tmp_path: Path) -> None:
    """MPEG-4 in becomes H.264 out."""
    assert probe(upscaled(clip(codec="mpeg4"), tmp_path)).codec == "h264"


def test_ten_bit_444_becomes_plain_yuv420p(tmp_path: Path) -> None:
    """Whatever the pixels were, every player can show the result."""
    target = upscaled(clip(".mkv", pixels="yuv444p10le", audio=False), tmp_path, ending=".mkv")
    with av.open(str(target)) as container:
        assert container.streams.video[0].codec_context.pix_fmt == "yuv420p"


def coloured(
    path: Path, codec: str, pixels: str, white: int, tags: tuple[int, int, int, int]
) -> Path:
    """Make a clip of white pictures that says which colours it means."""
    with av.open(str(path), "w") as out:
        stream = out.add_stream(codec, rate=10)
        assert isinstance(stream, VideoStream)
        stream.width, stream.height, stream.pix_fmt = 64, 36, pixels
        context = stream.codec_context
        context.color_range, context.colorspace, context.color_primaries, context.color_trc = tags
        for number in range(3):
            frame = av.VideoFrame(64, 36, pixels)
            for plane, value in zip(frame.planes, (white, 128, 128), strict=False):
                plane.update(bytes([value]) * plane.buffer_size)
            frame.pts = number
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return path


def colours(path: Path) -> tuple[int, tuple[int, int, int, int]]:
    """Return the first sample of a video, and its tags: range, matrix, primaries, transfer."""
    with av.open(str(path)) as container:
        frame = next(container.decode(video=0))
        tags = (frame.color_range, frame.colorspace, frame.color_primaries, frame.color_trc)
        return bytes(frame.planes[0])[0], tags


@pytest.mark.parametrize(
    ("pixels", "white", "tags"),
    [
        ("yuv420p", 235, (1, 1, 1, 1)),
        ("yuv420p", 235, (1, 9, 9, 16)),
        ("yuvj420p", 255, (2, 5, 5, 6)),
        ("yuv444p", 255, (2, 1, 1, 1)),
        ("yuv420p", 235, (0, 2, 2, 2)),
    ],
)
def test_colours_are_those_of_the_source(
    tmp_path: Path, pixels: str, white: int, tags: tuple[int, int, int, int]
) -> None:
    """Range, matrix, primaries and transfer go over, and the levels fit them: white stays white."""
    source, target = tmp_path / "in.mp4", tmp_path / "out.mp4"
    coloured(source, "libx264", pixels, white, tags)
    PyAVEngine().upscale(source, target, factor=2, kind="video", cancelled=lambda: False)
    assert colours(source) == colours(target) == (white, tags)


@pytest.mark.parametrize(("levels", "white", "told"), [(2, 255, 2), (0, 235, 1)])
def test_rgb_is_told_as_what_it_becomes(tmp_path: Path, levels: int, white: int, told: int) -> None:
    """The matrix of RGB is not claimed for the samples that are made of it; levels fit."""
    source, target = tmp_path / "in.mkv", tmp_path / "out.mp4"
    coloured(source, "ffv1", "bgr0", 255, (levels, 0, 1, 1))
    PyAVEngine().upscale(source, target, factor=2, kind="video", cancelled=lambda: False)
    assert colours(target) == (white, (told, 2, 1, 1))


def broken() -> dict[str, bytes]:
    """Return inputs that are no videos, by name."""
    sound = clip(".mkv")
    whole = clip(seconds=2)
    noise = bytes((i * 197 + i // 7 * 31) % 256 for i in range(20000))
    header = whole.index(b"mdat") + 4
    return {
        "nothing": b"",
        "text": b"hello " * 1000,
        "html": b"<!doctype html><html><body>404</body></html>",
        "noise": noise,
        "an mp4 without its index": whole[: len(whole) // 2],
        "an mp4 with noise for pictures": whole[:header]
        + noise[: len(whole) - header - 3000]
        + whole[header + len(noise[: len(whole) - header - 3000]) :],
        "a playlist": b"#EXTM3U\n#EXTINF:1,\n/etc/passwd\n",
        "a list of files": b"ffconcat version 1.0\nfile /etc/passwd\n",
        "half a matroska": sound[:300],
        "a picture": image(),
        "a webm": clip(".webm", codec="libvpx", audio=False),
        "zeroes": bytes(5000),
    }


@pytest.mark.parametrize("name", broken())
def test_an_input_that_is_no_video_is_a_media_error(tmp_path: Path, name: str) -> None:
    """Nothing but MediaError comes out, whatever goes in."""
    with pytest.raises(MediaError):
        upscaled(broken()[name], tmp_path)


def test_an_input_cannot_name_other_files(tmp_path: Path) -> None:
    """Lists and playlists are no inputs, even where the file they name is a video next to them."""
    (tmp_path / "other.mp4").write_bytes(clip())
    for number, text in enumerate(
        (
            "ffconcat version 1.0\nfile other.mp4\n",
            "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:1.0,\nother.mp4\n#EXT-X-ENDLIST\n",
        )
    ):
        path = tmp_path / f"list{number}.mp4"
        path.write_text(text)
        with pytest.raises(MediaError):
            probe(path)


def test_sound_without_a_picture_is_no_video(tmp_path: Path) -> None:
    """A file with sound alone is refused."""
    path = tmp_path / "sound.m4a"
    given = make_clip(tmp_path / "clip.mp4", seconds=0.5)
    with av.open(str(given)) as source, av.open(str(path), "w", format="mp4") as out:
        stream = out.add_stream_from_template(source.streams.audio[0])
        for packet in source.demux(audio=0):
            if packet.size:
                packet.stream = stream
                out.mux(packet)
    with pytest.raises(MediaError, match="no video track"):
        probe(path)


def test_a_cut_off_matroska_ends_well(tmp_path: Path) -> None:
    """What can be read of a cut-off file is upscaled, or the input is refused."""
    data = clip(".mkv", seconds=2)
    try:
        made = probe(upscaled(data[: len(data) // 2], tmp_path, ending=".mkv"))
    except MediaError:
        return
    assert 0 < made.frames < 20


def test_a_result_too_large_to_be_made_is_a_media_error(tmp_path: Path) -> None:
    """A picture beyond what the encoder takes is refused before memory is spent."""
    source = make_clip(tmp_path / "in.mp4", seconds=0.1, width=4200, height=16, audio=False)
    with pytest.raises(MediaError, match="16800x64 pixels"):
        PyAVEngine().upscale(
            source, tmp_path / "o.mp4", factor=4, kind="video", cancelled=lambda: False
        )


def test_the_engine_stops_between_two_frames(tmp_path: Path) -> None:
    """Asked to stop, it stops."""
    asked = 0

    def cancelled() -> bool:
        nonlocal asked
        asked += 1
        return asked > 3

    source = tmp_path / "in.mp4"
    source.write_bytes(clip())
    with pytest.raises(WorkCancelledError):
        PyAVEngine().upscale(
            source, tmp_path / "out.mp4", factor=2, kind="video", cancelled=cancelled
        )
    assert asked == 4


@pytest.mark.parametrize(
    "name", ["text", "an mp4 without its index", "a picture", "a webm", "nothing"]
)
async def test_a_bad_input_fails_its_task_and_the_next_one_succeeds(
    plain: Plain, name: str
) -> None:
    """No bad input takes a worker with it."""
    bad = await plain.upscaled(broken()[name], name="bad.mp4")
    good = await plain.upscaled(tiny(), name="good.mp4")
    assert (bad.state, bad.fail_code, good.state) == ("fail", "422", "success")


@pytest.mark.parametrize(("ending", "codec"), [(".png", "png"), (".jpg", "mjpeg")])
async def test_an_image_is_upscaled_and_keeps_its_format(
    plain: Plain, ending: str, codec: str
) -> None:
    """topaz/image-upscale gives an image of the same kind, for 10 credits."""
    url = await plain.uploaded(image(ending), name=f"picture{ending}")
    body = {"model": "topaz/image-upscale", "input": {"image_url": url, "upscale_factor": "4"}}
    task_id = (await plain.post("/api/v1/jobs/createTask", body))["data"]["taskId"]
    task = await plain.ended(task_id)
    made = probe_bytes(await plain.fetched(task.result_urls[0]))
    assert task.result_urls[0].endswith(ending)
    assert (task.credits, made.width, made.height, made.codec) == (10.0, 160, 120, codec)


async def test_a_video_is_no_image(plain: Plain) -> None:
    """The image model fails on a clip."""
    url = await plain.uploaded(tiny())
    body = {"model": "topaz/image-upscale", "input": {"image_url": url, "upscale_factor": "2"}}
    task_id = (await plain.post("/api/v1/jobs/createTask", body))["data"]["taskId"]
    assert (await plain.ended(task_id)).state == "fail"


async def test_an_input_from_another_server_of_this_machine_is_fetched(plain: Plain) -> None:
    """Any loopback URL is an input, and its price is held once its length is known."""
    await plain.uploaded(b"of the same name, but not the input")
    async with Sandbox() as other:
        url = await Plain(other, plain.session).uploaded(clip(seconds=2))
        task = await plain.ended(await plain.made(url))
    assert (task.state, task.credits) == ("success", 16.0)
    assert (task.digest, plain.sandbox.books.billed_by_input(url)) == (None, [task.task_id])


async def test_localhost_by_name_is_this_machine(plain: Plain) -> None:
    """localhost is fetched without a look-up; a name that only looks like it is not."""
    url = (await plain.uploaded(tiny())).replace("127.0.0.1", "localhost")
    assert (await plain.ended(await plain.made(url))).state == "success"
    other = url.replace("localhost", "localhost.example")
    assert (await plain.ended(await plain.made(other))).fail_code == "500"


async def test_a_redirect_away_from_this_machine_is_not_followed(plain: Plain) -> None:
    """The sandbox does not let itself be sent elsewhere."""
    async with Sandbox() as other:
        url = await Plain(other, plain.session).uploaded(tiny())
        other.add_fault(Fault("files", "redirect", location="http://198.51.100.7/clip.mp4"))
        task = await plain.ended(await plain.made(url))
    assert (task.state, task.cause) == ("fail", "the URL answered HTTP 307")


async def test_a_fetched_input_that_exceeds_the_credits_fails(plain: Plain) -> None:
    """The length of a foreign input shows only when it is fetched: the task fails with 402."""
    async with Sandbox(credits=10) as poor:
        url = await plain.uploaded(clip(seconds=2))
        asked = Plain(poor, plain.session)
        task = await asked.ended(await asked.made(url))
        assert (task.state, task.fail_code, poor.books.credits) == ("fail", "402", 10.0)


async def test_an_input_larger_than_the_model_takes_fails() -> None:
    """The limit of the model's page is a setting; the cause stands in the books."""
    async with Sandbox(max_input_bytes=100) as sandbox, aiohttp.ClientSession() as session:
        task = await Plain(sandbox, session).upscaled(tiny())
        assert (task.state, task.cause) == (
            "fail",
            f"{len(tiny())} bytes are more than the 100 allowed",
        )


async def test_an_image_has_a_limit_of_its_own(plain: Plain) -> None:
    """Images may have 10 MB where videos may have 50, and that is a setting too."""
    data = image()
    large = data + bytes(10 * 1024**2 + 1 - len(data))
    body = {"model": "topaz/image-upscale", "input": {"image_url": "", "upscale_factor": "2"}}

    async def ended(picture: bytes) -> tuple[str, str | None]:
        body["input"] = {**body["input"], "image_url": await plain.uploaded(picture, "a.png")}
        task_id = (await plain.post("/api/v1/jobs/createTask", body))["data"]["taskId"]
        task = await plain.ended(task_id)
        return task.state, task.cause

    too_large = "10485761 bytes are more than the 10485760 allowed"
    assert await ended(large) == ("fail", too_large)
    assert await ended(large[:-1]) == ("success", None)
    async with Sandbox(max_image_bytes=len(large)) as plain.sandbox:
        assert await ended(large) == ("success", None)


def test_without_pyav_the_words_name_the_extra() -> None:
    """A missing PyAV says what to install; with another engine the sandbox runs without it."""
    code = (
        "import asyncio, sys; sys.modules['av'] = None\n"
        "from topaz_async.sandbox import CopyEngine, Sandbox\n"
        "async def main():\n"
        "    async with Sandbox(engine=CopyEngine()) as sandbox: print(bool(sandbox.base_url))\n"
        "asyncio.run(main())\n"
        "try: Sandbox()\n"
        "except ImportError as error: print(error)\n"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.splitlines()[0] == "True"
    assert "pip install 'topaz_async[sandbox]'" in out.stdout.splitlines()[1]
