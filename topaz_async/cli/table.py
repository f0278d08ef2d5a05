"""The clips that are under way, drawn on a terminal: one line each, and a line for all of them."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from rich.cells import cell_len
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from .display import duration, size
from .stages import Stage, Stages
from .tally import Tally
from .telling import ended_line, is_left_over
from .ways import Way

__all__ = ["LiveTable"]

#: Seconds between two pictures.
PAUSE = 0.1

#: Columns of the terminal from which on there is room for sizes, for bars, and for stages.
_WIDE, _ROOMY, _NARROW = 100, 60, 34
#: Characters of a bar, of a bar with its percents, and of one with its sizes.
_BAR, _PERCENTS, _SIZES = 12, 18, 34
#: Characters of all else in a line with a bar.
_REST = 33
#: Lines that are left free below the table, so that it never scrolls.
_MARGIN = 3

_MEANWHILE = {"upload": "waiting its turn", "submit": "making the task", "wait": "", "download": ""}


class LiveTable:
    """Shows what is under way, below the lines of what has ended.

    Args:
        console: A terminal.
        tally: Counts the clips.
    """

    def __init__(self, console: Console, tally: Tally) -> None:
        self._console, self._tally = console, tally
        self._ways: list[Way] = []
        # A line goes where the last picture was, and the next picture below it.  Rich works that
        # out before it writes, so that another thread's picture in between would wipe lines out.
        self._pen = threading.Lock()
        self._is_stopping = False
        fancy = console.encoding.lower().startswith("utf")
        self._marks = ("✓", "✗") if fancy else ("+", "x")
        self._spinner = Spinner("dots" if fancy else "line", style="cyan")

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Draw until the block is left; what is then still under way stays on the screen."""
        live = Live(
            get_renderable=self._draw,
            console=self._console,
            auto_refresh=False,
            vertical_overflow="crop",
            transient=True,
        )
        ended = threading.Event()

        def keep_drawing() -> None:
            while not ended.wait(PAUSE):
                with self._pen:
                    live.refresh()

        artist = threading.Thread(target=keep_drawing, name="topaz-table", daemon=True)
        with live:
            artist.start()
            try:
                yield
            finally:
                ended.set()
                artist.join()

    def begun(self, way: Way) -> None:
        self._ways.append(way)

    def changed(self, way: Way, stage: Stage) -> None:
        """The next picture shows it."""

    def submitted(self, way: Way) -> None:
        """The next picture shows it."""

    def ended(self, way: Way) -> None:
        if way in self._ways:
            self._ways.remove(way)
        if is_left_over(way):
            return
        good, bad = self._marks
        mark = Text(f" {good} ", "green") if way.status == "ok" else Text(f" {bad} ", "red")
        with self._pen:
            self._console.print(mark + ended_line(way), soft_wrap=True)

    def stopping(self) -> None:
        self._is_stopping = True

    def _draw(self) -> RenderableType:
        ways = tuple(self._ways)
        rows = max(1, self._console.height - _MARGIN)
        shown = ways if len(ways) <= rows else ways[: rows - 1]
        lines: list[RenderableType] = [self._grid(shown)] if shown else []
        if len(shown) < len(ways):
            lines.append(Text(f"   and {len(ways) - len(shown)} more under way", "dim"))
        lines.append(self._footer())
        return Group(*lines)

    def _footer(self) -> Text:
        line = self._tally.line()
        if self._is_stopping:
            line = Text("stopping; Ctrl-C again leaves at once", "yellow")
        line.no_wrap, line.overflow = True, "ellipsis"
        return line

    def _grid(self, ways: Sequence[Way]) -> Table:
        width = self._console.width
        grid = Table.grid(padding=(0, 1), expand=False)
        grid.add_column(width=2, justify="right")
        widths: tuple[int, ...]
        names = max(cell_len(way.name) for way in ways)
        if width >= _ROOMY:
            middle = _SIZES if width >= _WIDE else _PERCENTS
            name = min(names, width - middle - _REST)
            widths = (name, 8, middle, 8, 10)
        elif width >= _NARROW:
            name = min(names, width - 23)
            widths = (name, 8, 8)
        else:
            widths = (max(1, width - 13), 8)
        for place, columns in enumerate(widths):
            figures = place >= min(3, len(widths) - 1)
            grid.add_column(
                width=columns,
                justify="right" if figures else "left",
                no_wrap=True,
                overflow="ellipsis",
            )
        for way in ways:
            if way.stages is not None:
                grid.add_row(self._spinner, *_cells(way, way.stages, width))
        return grid


def _cells(way: Way, stages: Stages, width: int) -> list[RenderableType]:
    name, stage = Text(way.name), stages.all[-1]
    part = f"{100 * stage.done // stage.total} %" if stage.total and stage.done else ""
    taken = duration(stages.seconds)
    if width < _NARROW:
        return [name, Text(part or stage.name)]
    if width < _ROOMY:
        return [name, Text(stage.name, "bold"), Text(part or taken)]
    if stage.total and stage.done is not None and width >= _WIDE:
        part = f"{size(stage.done)} of {size(stage.total)}"
    middle = _bar(stage.done or 0, stage.total, part) if stage.total else Text(_said(stage))
    return [name, Text(stage.name, "bold"), middle, Text(_cost(way), "dim"), Text(taken, "dim")]


def _cost(way: Way) -> str:
    """Return what a clip is expected to cost; what is paid for costs nothing more."""
    if way.planned.action != "send":
        return "paid"
    return "" if way.planned.credits is None else f"~{way.planned.credits:g} cr"


def _said(stage: Stage) -> str:
    return stage.text or _MEANWHILE[stage.name]


def _bar(done: int, total: int, figures: str) -> Table:
    row = Table.grid(padding=(0, 1))
    row.add_row(ProgressBar(total=total, completed=done, width=_BAR), Text(figures))
    return row
