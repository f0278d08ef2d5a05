"""The screens in the documentation are what the program shows."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("pyte")
pytest.importorskip("pty")

from tests.captures import CAPTURES, SCREENS, Capture, take, words

PAGES = SCREENS.parent


def _kept(capture: Capture) -> str:
    return (SCREENS / f"{capture.name}.svg").read_text(encoding="utf-8")


def _of_any_machine(lines: list[str]) -> list[str]:
    """Leave out what depends on which extras, and which of two backoffs, are installed."""
    return [
        line.replace("python-backoff", "backoff") for line in lines if not line.startswith("ok [")
    ]


@pytest.mark.parametrize(
    "capture", [c for c in CAPTURES if not c.moment], ids=lambda capture: capture.name
)
async def test_a_screen_is_what_the_program_shows(capture: Capture) -> None:
    """Taken again, a screen says the same but for figures: else `python -m tests.captures`."""
    taken = _of_any_machine(words(await take(capture)))
    assert _of_any_machine(words(_kept(capture))) == taken


def test_every_screen_is_shown_somewhere() -> None:
    """Each capture is a file, each file is a capture, and a page shows it."""
    pages = "".join(page.read_text(encoding="utf-8") for page in PAGES.rglob("*.md"))
    names = {capture.name for capture in CAPTURES}
    assert names == {path.stem for path in SCREENS.iterdir()}
    assert [] == [name for name in names if f"screens/{name}.svg)" not in pages]


@pytest.mark.parametrize("capture", CAPTURES, ids=lambda capture: capture.name)
def test_a_screen_needs_nothing_from_elsewhere(capture: Capture) -> None:
    """A picture loads no font and names no machine."""
    text = _kept(capture)
    assert "url(http" not in text
    assert "/tmp" not in text
    assert str(Path.home()) not in text
