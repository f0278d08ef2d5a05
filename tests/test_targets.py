"""Where a result may be written."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from topaz_async.errors import DownloadError, InvalidInputError
from topaz_async.targets import Target


def of(path: object, *, overwrite: bool = False) -> Target:
    return Target.of(path, overwrite=overwrite, error=InvalidInputError)  # type: ignore[arg-type]


def test_a_path_is_a_file_or_a_folder(tmp_path: Path) -> None:
    """A folder that exists, or whose name ends in a slash, is one; all else is a file."""
    found = [
        of(tmp_path),
        of(f"{tmp_path}/"),
        of(f"{tmp_path}/new/"),
        of(tmp_path / "out.mp4"),
        of(str(tmp_path / "a" / "b" / "out.mp4")),
    ]
    assert found == [
        Target(tmp_path, None),
        Target(tmp_path, None),
        Target(tmp_path / "new", None),
        Target(tmp_path, "out.mp4"),
        Target(tmp_path / "a" / "b", "out.mp4"),
    ]


def test_nothing_is_made_by_looking(tmp_path: Path) -> None:
    """A call that fails later leaves no empty folder behind."""
    of(f"{tmp_path}/new/deep/")
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_written_is_refused_in_words(tmp_path: Path) -> None:
    """Taken names, files in place of folders, names that no system takes, no paths at all."""
    (tmp_path / "taken.mp4").touch()
    (tmp_path / "dangling.mp4").symlink_to(tmp_path / "nowhere")
    long = "x" * 300
    messages = {}
    for path in (
        tmp_path / "taken.mp4",
        tmp_path / "dangling.mp4",
        tmp_path / "taken.mp4" / "out.mp4",
        tmp_path / "taken.mp4" / "deep" / "out.mp4",
        tmp_path / long,
        tmp_path / "no" / "..",
        "",
        "a\0b",
        "\ud800",
        b"out.mp4",
        5,
        None,
    ):
        with pytest.raises(InvalidInputError) as caught:
            of(path)
        messages[ascii(path)[-24:]] = caught.value.message.replace(str(tmp_path), "…")[-80:]
    assert list(messages.values()) == [
        "…/taken.mp4 exists already and was left alone.",
        "…/dangling.mp4 exists already and was left alone.",
        "…/taken.mp4 is a file, not a folder.",
        "…/taken.mp4 is a file, not a folder.",
        messages[ascii(tmp_path / long)[-24:]],
        messages[ascii(tmp_path / "no" / "..")[-24:]],
        "'' is no path to write to.",
        "'a\\x00b' is no path to write to.",
        "'\\ud800' is no path to write to.",
        "b'out.mp4' is no path to write to.",
        "5 is no path to write to.",
        "None is no path to write to.",
    ]
    assert "is no path to write to" in messages[ascii(tmp_path / "no" / "..")[-24:]]
    assert messages[ascii(tmp_path / long)[-24:]].endswith("cannot be written: File name too long.")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_may_not_be_written_is_refused(tmp_path: Path) -> None:
    """Before the submit, not after it."""
    tmp_path.chmod(0o500)
    with pytest.raises(InvalidInputError, match="cannot be written"):
        of(tmp_path / "new" / "out.mp4")


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs Linux's /proc")
def test_a_place_that_only_seems_open_is_refused() -> None:
    """The superuser is told that he may write anywhere, and a paid result would go nowhere."""
    for place in ("/proc/film.mp4", "/proc/x/"):
        with pytest.raises(InvalidInputError, match=r"The folder /proc.* cannot be written"):
            of(place)


def test_the_caller_chooses_error_and_hint(tmp_path: Path) -> None:
    """Before a submit it is bad input, at a download a failed one; both say how to go on."""
    (tmp_path / "taken.mp4").touch()
    with pytest.raises(DownloadError) as caught:
        Target.of(tmp_path / "taken.mp4", overwrite=False, error=DownloadError)
    assert caught.value.hint == "Name another file, or pass overwrite=True."


def test_overwriting_is_allowed_where_it_is_asked_for(tmp_path: Path) -> None:
    """But a folder is never overwritten."""
    (tmp_path / "taken.mp4").touch()
    assert of(tmp_path / "taken.mp4", overwrite=True) == Target(tmp_path, "taken.mp4")
    with pytest.raises(InvalidInputError, match="is a folder"):
        Target(tmp_path.parent, tmp_path.name).check(overwrite=True, error=InvalidInputError)


def test_a_name_in_a_folder_is_free_and_harmless(tmp_path: Path) -> None:
    """Taken ones get a number; a suggestion never leads out of the folder."""
    target = Target(tmp_path, None)
    names = []
    for suggestion in ("clip.mp4", "clip.mp4", "clip.mp4", "../../etc/passwd", "..", "a/b\\c.mp4"):
        place = target.place(suggestion, overwrite=False)
        place.touch()
        names.append(str(place.relative_to(tmp_path)))
    assert names == [
        "clip.mp4",
        "clip (2).mp4",
        "clip (3).mp4",
        "_.._etc_passwd",
        "video.mp4",
        "a_b_c.mp4",
    ]
    assert target.place("clip.mp4", overwrite=True) == tmp_path / "clip.mp4"


def test_a_file_target_keeps_its_own_name(tmp_path: Path) -> None:
    """What the caller named is not renamed."""
    target = of(tmp_path / "mine.mp4")
    assert target.place("other.mp4", overwrite=False) == tmp_path / "mine.mp4"


def test_a_folder_of_that_name_is_gone_round(tmp_path: Path) -> None:
    """A file may be replaced where that is wanted; a folder never is."""
    (tmp_path / "film.mp4").mkdir()
    (tmp_path / "film (2).mp4").touch()
    target = Target(tmp_path, None)
    assert [tmp_path / "film (2).mp4", tmp_path / "film (3).mp4"] == [
        target.place("film.mp4", overwrite=overwrite) for overwrite in (True, False)
    ]
