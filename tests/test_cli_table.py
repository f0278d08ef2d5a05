"""The table of what is under way: no line of what has ended is ever wiped out."""

from __future__ import annotations

import io
import sys
import time
from collections.abc import Iterator
from typing import Any

import pyte
import pytest
from rich.console import Console

from topaz_async.cli import table
from topaz_async.cli.stages import Stages
from topaz_async.cli.table import LiveTable
from topaz_async.cli.tally import Tally

CLIPS = 400


class Clip:
    """What the table looks at in the way of a clip that has failed."""

    status = "failed"
    is_paid = False

    def __init__(self, number: int) -> None:
        self.name = f"clip {number} {'x' * 50}"
        self.stages = Stages(is_local=True)


@pytest.fixture
def hasty() -> Iterator[None]:
    """Threads take turns as often as they can."""
    usual = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(usual)


@pytest.mark.usefixtures("hasty")
def test_pictures_wipe_no_lines_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each clip's line stays on a narrow screen, however many pictures are drawn meanwhile."""
    monkeypatch.setattr(table, "PAUSE", 0.0002)
    written = io.StringIO()
    console = Console(
        file=written, force_terminal=True, width=40, height=4 * CLIPS, color_system=None
    )
    drawn = LiveTable(console, Tally(CLIPS))
    clips: list[Any] = [Clip(number) for number in range(CLIPS)]
    with drawn.shown():
        for number in range(0, CLIPS, 4):  # four come and go, so the table grows and shrinks
            for clip in clips[number : number + 4]:
                drawn.begun(clip)
            for clip in clips[number : number + 4]:
                time.sleep(0.0002)
                drawn.ended(clip)
    screen = pyte.Screen(40, 4 * CLIPS)
    pyte.Stream(screen).feed(written.getvalue().replace("\n", "\r\n"))
    shown = " ".join(screen.display)
    assert [] == [clip.name[:9] for clip in clips if clip.name.split("x")[0] not in shown]
