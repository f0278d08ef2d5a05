"""File names are harmless on any disk, whoever made them up."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings, strategies as st

from topaz_async.names import own_name, result_name, safe_name

from .hostile import DISPOSITIONS, NAMES


def short(value: str) -> str:
    """Name a case in a line."""
    return ascii(value)[:40]


@pytest.mark.parametrize(("path", "name"), NAMES.items(), ids=short)
def test_the_name_of_a_link(path: str, name: str) -> None:
    """No folders, no controls, no devices, nothing hidden, the ending of a film."""
    assert result_name(path) == name


@pytest.mark.parametrize(("said", "name"), DISPOSITIONS.items(), ids=short)
def test_the_name_that_a_host_says(said: str, name: str) -> None:
    """It counts where the link has no ending, and is cleaned in the same way."""
    assert result_name("/download", said) == name
    assert result_name("/clip.mov", said) == "clip.mov"


@pytest.mark.parametrize(
    ("name", "own"),
    [
        ("clip", "clip"),
        (
            "My clip (1) [final] {x} #2 & 50% + ~`!@^=,;'",
            "My clip (1) [final] {x} #2 & 50% + ~`!@^=,;'",
        ),
        ("🎬 film 👩\u200d👩\u200d👧 ❤️", "🎬 film 👩\u200d👩\u200d👧 ❤️"),
        ("می\u200cخواهم", "می\u200cخواهم"),
        ("हिन्दी_日本語_Übung", "हिन्दी_日本語_Übung"),
        ("%2e%2e%2fclip", "%2e%2e%2fclip"),
        ("$(reboot)", "$(reboot)"),
        ('a<b>c:d"e|f?g*h', "a_b_c_d_e_f_g_h"),
        ("a/b\\c", "a_b_c"),
        ("../../clip", "_.._clip"),
        ("clip\u202e4pm", "clip_4pm"),
        ("clip\n\x1b[31m", "clip__[31m"),
        ("clip\udcff", "clip_"),
        (".hidden", "hidden"),
        ("-rf", "rf"),
        ("trailing. ", "trailing"),
        ("nul", "_nul"),
        ("CONIN$", "_CONIN$"),
        ("com¹.txt", "_com¹.txt"),
        ("..", "video.mp4"),
        ("", "video.mp4"),
        ("x" * 300 + "-4x.mp4", "x" * 113 + "-4x.mp4"),
        ("🎬" * 99 + ".mp4", "🎬" * 29 + ".mp4"),
    ],
    ids=short,
)
def test_a_name_from_this_disk(name: str, own: str) -> None:
    """Emoji, brackets and joiners stay; what some disk minds does not."""
    assert own_name(name) == own


def test_layers_without_end() -> None:
    """A name packed in thousands of layers costs eight looks, and no percent sign is left."""
    began = time.perf_counter()
    name = safe_name("%3" * 4_000 + "%35")
    assert time.perf_counter() - began < 0.5
    assert name == "3" + "_3" * 58 + "_35"


TEXTS = st.text() | st.text(alphabet="./\\%2eEfF5 conCON-:\u202e\u200d😀")


@given(TEXTS)
@settings(deadline=None, database=None)
def test_any_text_gives_a_harmless_name(text: str) -> None:
    """One part of a path, short, not hidden; and harmless names stay as they are."""
    for make in (safe_name, own_name, result_name, lambda text: result_name("", text)):
        name = make(text)
        assert name not in ("", ".", "..")
        assert not set(name) & set('/\\:*?"<>|')
        assert all(ch.isprintable() or ch in "\u200c\u200d" for ch in name)
        assert name[0] not in ".- "
        assert name[-1] not in ". "
        assert len(name.encode()) <= 125
        if make is not result_name:
            assert own_name(name) == name
    assert safe_name(safe_name(text)) == safe_name(text)
    assert "%" not in safe_name(text)
