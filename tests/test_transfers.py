"""Progress, and names that are safe on any disk."""

from __future__ import annotations

import asyncio
import logging

import pytest
from hypothesis import given, settings, strategies as st

from topaz_async.transfers import Progress, safe_name

from .virtual_time import in_virtual_time


@pytest.mark.parametrize(
    ("name", "safe"),
    [
        ("clip.mp4", "clip.mp4"),
        ("My Clip (1).mp4", "My Clip _1_.mp4"),
        ("Übung-2_日本.mov", "Übung-2_日本.mov"),
        ("a/b/../c.mp4", "c.mp4"),
        ("..\\..\\c.mp4", "c.mp4"),
        ("%2e%2e%2fc.mp4", "c.mp4"),
        ("%2Fetc%2Fpasswd", "passwd"),
        ("..", "video.mp4"),
        ("", "video.mp4"),
        (" . ", "video.mp4"),
        ("/", "video.mp4"),
        (".hidden.mp4", "hidden.mp4"),
        ("-rf.mp4", "rf.mp4"),
        ("a:b*c?.mp4", "a_b_c_.mp4"),
        ("a\x00b\nc.mp4", "a b c.mp4"),
        ("a\u202e4pm.exe", "a 4pm.exe"),
        ("trailing. ", "trailing"),
        ("con", "_con"),
        ("NUL.mp4", "_NUL.mp4"),
        ("com1.tar.gz", "_com1.tar.gz"),
        ("console.mp4", "console.mp4"),
        ("x" * 300 + ".mp4", "x" * 116 + ".mp4"),
        ("日" * 300 + ".mp4", "日" * 38 + ".mp4"),
        ("%ff%fe.mp4", "_.mp4"),
        ("\ud800.mp4", "mp4"),
    ],
)
def test_a_safe_name(name: str, safe: str) -> None:
    """No folders, no controls, no devices, the ending kept."""
    assert safe_name(name) == safe


@given(st.text() | st.text(alphabet="./\\%2eEfF conCON-"))
@settings(deadline=None, database=None)
def test_any_text_gives_a_harmless_name(name: str) -> None:
    """One part of a path, printable, short, not hidden; and safe names stay as they are."""
    safe = safe_name(name)
    assert safe
    assert safe.isprintable()
    assert not set(safe) & set('/\\:*?"<>|%')
    assert safe not in (".", "..")
    assert safe[0] not in ".- "
    assert safe[-1] not in ". "
    assert len(safe.encode()) <= 121
    assert safe_name(safe) == safe


async def test_progress_is_told_now_and_then_and_at_the_end() -> None:
    """The first step, not the flood that follows, and the last."""
    told: list[tuple[int, int | None]] = []
    progress = Progress(lambda done, total: told.append((done, total)), 100)
    for done in range(1, 100):
        progress(done)
    progress(100, last=True)
    assert told == [(1, 100), (100, 100)]


@in_virtual_time
async def test_progress_goes_on_with_time() -> None:
    """Once the interval has passed, the next step is told: at most 20 times a second."""
    told: list[int] = []
    progress = Progress(lambda done, total: told.append(done), None)
    for done in range(100):
        progress(done)
        await asyncio.sleep(1 / 64)
    assert told == list(range(0, 100, 4))


async def test_what_the_callers_function_raises_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """Its failure is no failure of the transfer."""

    def on_progress(done: int, total: int | None) -> None:
        raise RuntimeError("mine")

    with caplog.at_level(logging.ERROR, "topaz_async"):
        Progress(on_progress, None)(1)
    assert caplog.messages == ["on_progress failed; the transfer goes on."]


async def test_without_a_function_progress_is_nothing() -> None:
    """Most callers do not ask."""
    Progress(None, 5)(5, last=True)
