"""What a local video is: kind by its first bytes, size, seconds."""

from __future__ import annotations

import io
import os
import struct
from fractions import Fraction
from pathlib import Path

import av
import pytest
from hypothesis import given, settings, strategies as st

from topaz_async.errors import InvalidInputError
from topaz_async.media import IMAGES, KINDS, VIDEOS, Media, check_head, inspect, is_cut, kind_of
from topaz_async.sandbox.media import make_clip

LIMIT = 10 * 1024 * 1024
quick = settings(deadline=None, database=None)


def atom(name: bytes, content: bytes = b"", *, size: int | None = None) -> bytes:
    """Return an atom with a plain 32-bit size, or with a size that is not its own."""
    return struct.pack(">I4s", 8 + len(content) if size is None else size, name) + content


def wide_atom(name: bytes, content: bytes) -> bytes:
    """Return an atom with a 64-bit size."""
    return struct.pack(">I4sQ", 1, name, 16 + len(content)) + content


def mvhd(timescale: int, duration: int, version: int = 0) -> bytes:
    """Return the header that holds the length of a movie."""
    form = ">B3xQQIQ" if version else ">B3xIIII"
    return atom(b"mvhd", struct.pack(form, version, 0, 0, timescale, duration) + bytes(80))


FTYP = atom(b"ftyp", b"isom\0\0\2\0")


@pytest.mark.parametrize(
    ("head", "kind"),
    [
        (FTYP, "mp4"),
        (atom(b"ftyp", b"mp42"), "mp4"),
        (atom(b"ftyp", b"3gp4"), "mp4"),
        (atom(b"ftyp", b"qt  "), "mov"),
        (atom(b"ftyp", b"M4A "), "m4a"),
        (atom(b"ftyp", b"heic"), "heif"),
        (atom(b"moov"), "mov"),
        (atom(b"mdat", size=1), "mov"),
        (atom(b"wide"), "mov"),
        (b"\x1a\x45\xdf\xa3\xa3\x42\x82\x88matroska", "mkv"),
        (b"\x1a\x45\xdf\xa3\x9f\x42\x82\x84webm", "webm"),
        (b"RIFF\0\0\0\0AVI LIST", "avi"),
        (b"RIFF\0\0\0\0WEBPVP8 ", "webp"),
        (b"RIFF\0\0\0\0WAVEfmt ", None),
        (b"\xff\xd8\xff\xe0", "jpeg"),
        (b"\x89PNG\r\n\x1a\n", "png"),
        (b"GIF89a", "gif"),
        (b"", None),
        (b"\0", None),
        (b"<!DOCTYPE html>", None),
        (b"the free software", None),
        (b"the ftyp of mp4 files", None),
        (b"for wide screens", None),
        (b"G@\0\x10" * 47, None),
    ],
)
def test_the_first_bytes_tell_the_kind(head: bytes, kind: str | None) -> None:
    """Signatures count, names do not, and a text is no video."""
    assert kind_of(head) == kind


def test_the_kinds_that_the_service_takes() -> None:
    """mp4, mov and mkv for videos; jpeg, png and webp for images."""
    assert VIDEOS == {"mp4": "video/mp4", "mov": "video/quicktime", "mkv": "video/x-matroska"}
    assert IMAGES == {"jpeg": "image/jpeg", "png": "image/png", "webp": "image/webp"}
    assert KINDS == VIDEOS | IMAGES


@pytest.mark.parametrize("ending", ["mp4", "mov", "mkv"])
@pytest.mark.parametrize(("seconds", "audio"), [(0.5, False), (1.3, True), (2.0, True)])
def test_a_real_clip(tmp_path: Path, ending: str, seconds: float, audio: bool) -> None:
    """Kind, size and length agree with what FFmpeg reads."""
    path = make_clip(tmp_path / f"clip.{ending}", seconds=seconds, audio=audio, rate=Fraction(10),
                     width=64, height=36)  # fmt: skip
    with av.open(str(path)) as container:
        oracle = container.duration / av.time_base
    found = inspect(path, max_bytes=LIMIT)
    assert found == Media(
        path=path,
        kind=ending,
        mime_type=VIDEOS[ending],
        size=path.stat().st_size,
        seconds=found.seconds,
    )
    assert found.seconds == pytest.approx(oracle, abs=0.002)


def remuxed(clip: Path, path: Path, ending: str, **options: str) -> bytes:
    """Return a clip's streams in a container written with FFmpeg's own options."""
    with av.open(str(clip)) as source, av.open(str(path), "w", ending, options=options) as target:
        streams = [target.add_stream_from_template(stream) for stream in source.streams]
        for packet in source.demux():
            if packet.dts is not None:
                packet.stream = streams[packet.stream_index]
                target.mux(packet)
    return path.read_bytes()


def seconds_of(tmp_path: Path, content: bytes) -> float | None:
    path = tmp_path / "content"
    path.write_bytes(content)
    return inspect(path, max_bytes=LIMIT).seconds


@pytest.mark.parametrize(
    ("ending", "options", "seconds"),
    [
        ("mp4", {}, 1.0),
        ("mp4", {"movflags": "faststart"}, 1.0),
        ("mp4", {"movflags": "frag_keyframe+empty_moov"}, None),
        ("mov", {"movflags": "frag_keyframe+empty_moov"}, None),
        ("matroska", {}, 1.0),
        ("matroska", {"live": "1"}, None),
        ("matroska", {"reserve_index_space": "9000"}, 1.0),
    ],
)
def test_other_ways_to_write_a_clip(
    tmp_path: Path, clip: Path, ending: str, options: dict[str, str], seconds: float | None
) -> None:
    """The header before or after the pictures; fragments and live streams do not say."""
    found = seconds_of(tmp_path, remuxed(clip, tmp_path / "remuxed", ending, **options))
    assert found == (None if seconds is None else pytest.approx(seconds, abs=0.05))


@pytest.mark.parametrize(
    ("content", "seconds"),
    [
        (FTYP + atom(b"moov", mvhd(600, 900)), 1.5),
        (FTYP + atom(b"moov", mvhd(600, 900, version=1)), 1.5),
        (FTYP + atom(b"moov", mvhd(1, 2**33, version=1)), None),
        (FTYP + atom(b"moov", mvhd(1000, 2**33, version=1)), 2**33 / 1000),
        (FTYP + atom(b"mdat", bytes(5000)) + atom(b"moov", mvhd(600, 900)), 1.5),
        (FTYP + wide_atom(b"mdat", bytes(5000)) + atom(b"moov", mvhd(600, 900)), 1.5),
        (FTYP + wide_atom(b"moov", mvhd(600, 900)), 1.5),
        (FTYP + atom(b"moov", atom(b"udta", b"x") + mvhd(600, 900)), 1.5),
        (FTYP + atom(b"moov", mvhd(600, 900), size=0), 1.5),
        (FTYP + atom(b"mdat", atom(b"moov", mvhd(600, 900)), size=0), None),
        (FTYP + atom(b"moov", mvhd(0, 900)), None),
        (FTYP + atom(b"moov", mvhd(600, 0)), None),
        (FTYP + atom(b"moov", mvhd(600, 2**32 - 1)), None),
        (FTYP + atom(b"moov", mvhd(600, 2**64 - 1, version=1)), None),
        (FTYP + atom(b"moov", mvhd(600, 900)[:20]), None),
        (FTYP + atom(b"moov"), None),
        (FTYP + atom(b"moov", b"", size=7), None),
        (FTYP + atom(b"moov", mvhd(600, 900), size=12), None),
        (FTYP + atom(b"mdat", size=2**32 - 1), None),
        (FTYP + struct.pack(">I4sQ", 1, b"mdat", 2**64 - 1), None),
        (FTYP + struct.pack(">I4sQ", 1, b"mdat", 15), None),
        (FTYP + struct.pack(">I4s", 1, b"mdat"), None),
        (FTYP + atom(b"free") * 20_000 + atom(b"moov", mvhd(600, 900)), None),
        (FTYP + b"\0\0\0", None),
        (FTYP, None),
    ],
    ids=range(25),
)
def test_atoms_of_every_make(tmp_path: Path, content: bytes, seconds: float | None) -> None:
    """64-bit sizes, the size 0 for the rest, both versions; broken ones say nothing."""
    assert seconds_of(tmp_path, content) == seconds


@pytest.mark.parametrize(
    ("ending", "options"),
    [
        ("mp4", {}),
        ("mp4", {"movflags": "faststart"}),
        ("mp4", {"movflags": "frag_keyframe+empty_moov"}),
        ("mov", {}),
        ("matroska", {}),
        ("matroska", {"live": "1"}),
        ("webm", None),
    ],
)
def test_a_film_that_is_cut(
    tmp_path: Path, clip: Path, ending: str, options: dict[str, str] | None
) -> None:
    """A whole film is none, however it is written; one without its last byte or half is one."""
    if options is None:
        film = HEAD.replace(b"matroska", b"webm\0\0\0\0") + element(SEGMENT, bytes(100))
    else:
        film = remuxed(clip, tmp_path / "remuxed", ending, **options)
    cuts = [film, film[:-1], film[: len(film) * 3 // 5]]
    assert [is_cut(io.BytesIO(part), len(part)) for part in cuts] == [False, True, True]


MOOV = atom(b"moov", b"")


@pytest.mark.parametrize(
    ("content", "cut"),
    [
        (FTYP + MOOV + wide_atom(b"mdat", bytes(50)), False),
        (FTYP + wide_atom(b"mdat", bytes(50))[:-1], True),
        (FTYP + wide_atom(b"mdat", bytes(50))[:15], True),
        (FTYP + atom(b"mdat", bytes(50))[:7], True),
        (FTYP + MOOV + atom(b"mdat", bytes(50), size=0), False),
        (FTYP + MOOV + atom(b"mdat", size=7), False),
        (FTYP + MOOV + bytes(3), False),
        (FTYP + MOOV + bytes(30), False),
        (FTYP + MOOV + b"\xff" * 30, False),
        (FTYP + atom(b"moof", b"") + atom(b"mdat", bytes(50)), False),
        (FTYP, True),
        (FTYP + atom(b"mdat", bytes(50)), True),
        (FTYP + atom(b"mdat", bytes(50)) + bytes(3), True),
        (atom(b"ftyp", b"M4A ") + atom(b"mdat", size=99), False),
        (b"\x89PNG\r\n\x1a\n" + bytes(9), False),
        (b"", False),
        (bytes.fromhex("1a45dfa3 84 42828101 18538067 ff 1f43b675 ff a3 82 0102"), False),
        (bytes.fromhex("1a45dfa3 84 42828101 18538067 ff 1f43b675 ff a3 83 0102"), True),
        (bytes.fromhex("1a45dfa3 84 42828101 18538067"), True),
        (bytes.fromhex("1a45dfa3 84 42828101 1853"), True),
        (bytes.fromhex("1a45dfa3 84 42828101 18538067 10 00"), True),
        (bytes.fromhex("1a45dfa3 84 42828101 18538067 00"), False),
        (bytes.fromhex("1a45dfa3 84 42828101 1654ae6b ff 00"), False),
        (bytes.fromhex("1a45dfa3 84 42828101 0000000000"), False),
    ],
    ids=range(24),
)
def test_ends_of_every_make(content: bytes, cut: bool) -> None:
    """Cut is what reaches past the end, or what nothing describes; filling is not judged."""
    assert is_cut(io.BytesIO(content), len(content)) is cut


def element(identifier: str, content: bytes = b"", *, size: bytes | None = None) -> bytes:
    """Return an EBML element, its size in four bytes."""
    length = struct.pack(">I", len(content) | 1 << 28) if size is None else size
    return bytes.fromhex(identifier) + length + content


HEAD = element("1a45dfa3", element("4282", b"matroska"))
SECONDS = element("4489", struct.pack(">d", 1500.0))
INFO = "1549a966"
SEGMENT = "18538067"
SEEK = element("114d9b74", element("4dbb", element("53ab", bytes.fromhex(INFO))))


@pytest.mark.parametrize(
    ("content", "seconds"),
    [
        (HEAD + element(SEGMENT, element(INFO, SECONDS)), 1.5),
        (HEAD + element(SEGMENT, SEEK + element("ec", bytes(90)) + element(INFO, SECONDS)), 1.5),
        (HEAD + element(SEGMENT, element(INFO, element("4489", struct.pack(">f", 1500)))), 1.5),
        (HEAD + element(SEGMENT, element(INFO, element("2ad7b1", b"\x01\x00") + SECONDS)), 1500
         * 256 / 1e9),
        (HEAD + element(SEGMENT, element(INFO, SECONDS), size=b"\xff"), 1.5),
        (HEAD + element(SEGMENT, element(INFO, SECONDS), size=b"\x01" + b"\xff" * 7), 1.5),
        (HEAD + element(SEGMENT, element(INFO)), None),
        (HEAD + element(SEGMENT, element(INFO, element("4489", b"\0"))), None),
        (HEAD + element(SEGMENT, element(INFO, element("4489", struct.pack(">d", -1)))), None),
        (HEAD + element(SEGMENT, element(INFO, element("4489", b"\x7f\xf8" + bytes(6)))), None),
        (HEAD + element(SEGMENT, element(INFO, element("4489", b"\x7f\xf0" + bytes(6)))), None),
        (HEAD + element(SEGMENT, element(INFO, element("2ad7b1", b"\xff" * 300) + SECONDS)), None),
        (HEAD + element(SEGMENT, element("1f43b675", b"", size=b"\xff")), None),
        (HEAD + element(SEGMENT, bytes(100)), None),
        (HEAD + element(SEGMENT, b"\xec\x80" * 20_000 + element(INFO, SECONDS)), None),
        (HEAD + element("ec", b"", size=b"\x01\x7f" + bytes(6)) + bytes(9), None),
        (HEAD + bytes.fromhex(SEGMENT), None),
        (HEAD, None),
        (HEAD[:4], None),
    ],
    ids=range(19),
)  # fmt: skip
def test_elements_of_every_make(tmp_path: Path, content: bytes, seconds: float | None) -> None:
    """The index that comes first names Info and is not it; sizes may be unknown."""
    found = seconds_of(tmp_path, content)
    assert found == (None if seconds is None else pytest.approx(seconds))


@given(
    st.binary(max_size=300),
    st.sampled_from([b"", FTYP, HEAD, FTYP + atom(b"moov"), HEAD + b"\x18S\x80g\xff"]),
)
@quick
def test_any_bytes_are_a_file_or_refused(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, start: bytes
) -> None:
    """No content raises anything but `InvalidInputError`; lengths are above 0 or None."""
    content = start + content
    path = tmp_path_factory.getbasetemp() / "any"
    path.write_bytes(content)
    outcomes = []
    for look in (
        lambda: inspect(path, max_bytes=LIMIT).kind,
        lambda: check_head(content, len(content), max_bytes=LIMIT, kinds=VIDEOS),
    ):
        try:
            outcomes.append(look())
        except InvalidInputError as error:
            outcomes.append(error.hint)
    assert outcomes[0] == outcomes[1]
    if outcomes[0] in VIDEOS:
        seconds = inspect(path, max_bytes=LIMIT).seconds
        assert seconds is None or 0 < seconds < 1e9


def test_what_cannot_be_sent_is_refused_in_words(tmp_path: Path) -> None:
    """Missing, empty, a folder, a device, another kind, too large: with figure and limit."""
    empty, text, large = (tmp_path / name for name in ("empty.mp4", "text.mp4", "large.mp4"))
    empty.touch()
    text.write_text("not a video")
    large.write_bytes(FTYP)
    os.truncate(large, LIMIT + 1)
    webm = tmp_path / "clip.mp4"
    webm.write_bytes(b"\x1a\x45\xdf\xa3\x9f\x42\x82\x84webm")
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    found = {}
    for path in (tmp_path / "no.mp4", empty, tmp_path, fifo, text, webm, large, "a\0b", "\ud800"):
        with pytest.raises(InvalidInputError) as caught:
            inspect(path, max_bytes=LIMIT)
        found[Path(path).name] = caught.value.message.replace(str(tmp_path), "…")
    takes = "; the service takes mp4, mov, mkv."
    assert found == {
        "no.mp4": "…/no.mp4 does not exist.",
        "empty.mp4": "…/empty.mp4 is empty.",
        tmp_path.name: "… is a folder, not a video.",
        "fifo": "…/fifo is no regular file.",
        "text.mp4": "…/text.mp4 is no video (its first bytes are of no known kind)" + takes,
        "clip.mp4": "…/clip.mp4 is a file of kind webm" + takes,
        "large.mp4": "…/large.mp4 has 10.0 MB (10485761 bytes); the limit is 10.0 MB "
        "(10485760 bytes).",
        "a\0b": "a b is no file name.",
        "\ud800": "'\\ud800' is no file name.",
    }
    with pytest.raises(InvalidInputError, match=r"Quotas\(max_upload_bytes=...\).*50 MB"):
        inspect(large, max_bytes=LIMIT)


def test_a_name_that_the_system_refuses_is_refused(tmp_path: Path) -> None:
    """No OSError comes out."""
    with pytest.raises(InvalidInputError, match="cannot be read"):
        inspect(tmp_path / ("x" * 300), max_bytes=LIMIT)


def test_a_path_may_be_bytes(clip: Path) -> None:
    """As the file system gives it."""
    assert inspect(os.fsencode(clip), max_bytes=LIMIT).path == clip  # type: ignore[arg-type]


def test_images_are_taken_where_they_are_asked_for(tmp_path: Path) -> None:
    """A picture has no length."""
    path = tmp_path / "a"
    path.write_bytes(b"\x89PNG\r\n\x1a\n")
    assert inspect(path, max_bytes=9, kinds=KINDS) == Media(
        path=path, kind="png", mime_type="image/png", size=8
    )
    with pytest.raises(InvalidInputError, match="a file of kind png"):
        inspect(path, max_bytes=9)


@pytest.mark.parametrize(("content", "kind"), [(FTYP, "mp4"), (b"\xff\xd8\xff", "jpeg")])
def test_bytes_in_memory_are_looked_at_alike(content: bytes, kind: str) -> None:
    """Kind, emptiness and size, as for a file."""
    assert check_head(content, len(content), max_bytes=100, kinds=KINDS) == kind
    with pytest.raises(InvalidInputError, match=r"^The content has 0\.0 MB \(\d+ bytes\)"):
        check_head(content, len(content), max_bytes=2, kinds=KINDS)
    with pytest.raises(InvalidInputError, match=r"^The content is empty\."):
        check_head(b"", 0, max_bytes=2, kinds=KINDS)
