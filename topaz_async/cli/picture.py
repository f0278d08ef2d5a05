"""The four stages of a single clip, drawn as a picture or told as lines."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from .display import duration, is_live, say, size
from .stages import Stage, Stages

__all__ = ["watched"]

#: Widths in characters: of a bar, and of a bar with its figures.
_BAR, _MIDDLE = 24, 46

#: What is said of a stage that has said nothing itself yet.
_MEANWHILE = {"upload": "looking at the file", "submit": "making the task"}


@contextmanager
def watched(console: Console, heading: Text, *, is_local: bool) -> Iterator[Stages]:
    """Show the stages of one clip until the block is left, if anything happens in it."""
    if not is_live(console):
        stages = Stages(is_local=is_local, on_change=_Lines(console, heading).changed)
        with _left(stages):
            yield stages
        return
    stages = Stages(is_local=is_local)
    picture = _Picture(stages, console, heading)
    with Live(get_renderable=picture.draw, console=console, refresh_per_second=12) as live:
        try:
            with _left(stages):
                yield stages
        finally:
            live.transient = not stages.have_begun


@contextmanager
def _left(stages: Stages) -> Iterator[None]:
    try:
        yield
    except BaseException:
        stages.leave("broken off")
        raise
    stages.leave("done")


class _Picture:
    """The stages as they are drawn on a terminal, one row each."""

    def __init__(self, stages: Stages, console: Console, heading: Text) -> None:
        self._stages, self._console, self._heading = stages, console, heading
        fancy = console.encoding.lower().startswith("utf")
        self._done, self._broken = ("✓", "✗") if fancy else ("+", "x")
        self._spinner = Spinner("dots" if fancy else "line", style="cyan")

    def draw(self) -> RenderableType:
        console = self._console
        grid = Table.grid(padding=(0, 1))
        grid.add_column(width=2, justify="right")
        grid.add_column(width=9)
        # Wide enough for the bar, so that the seconds stay where they are; an id is never cut.
        grid.add_column(min_width=min(_MIDDLE, console.width - 24), overflow="fold")
        grid.add_column(justify="right", no_wrap=True)
        now = self._stages.now()
        for stage in tuple(self._stages.all):
            grid.add_row(
                self._mark(stage),
                Text(stage.name, "bold" if stage.ended is None else ""),
                self._middle(stage),
                Text(duration(stage.seconds(now)), "dim"),
            )
        rows: list[RenderableType] = [self._heading, grid]
        if self._stages.is_stopping and self._stages.all[-1].ended is None:
            rows.append(Text("   stopping; Ctrl-C again leaves at once", "dim"))
        return Group(*rows)

    def _mark(self, stage: Stage) -> RenderableType:
        if stage.ended is None:
            return self._spinner
        if stage.outcome == "done":
            return Text(self._done, "green")
        return Text(self._broken, "red")

    @staticmethod
    def _middle(stage: Stage) -> RenderableType:
        if stage.ended is not None or not stage.total or stage.done is None:
            return Text(_said(stage))
        row = Table.grid(padding=(0, 1))
        row.add_row(
            ProgressBar(total=stage.total, completed=stage.done, width=_BAR),
            Text(f"{size(stage.done)} of {size(stage.total)}"),
        )
        return row


class _Lines:
    """The stages as lines of text, for files, pipes and terminals that cannot be drawn on."""

    def __init__(self, console: Console, heading: Text) -> None:
        self._console, self._heading = console, heading
        self._last = ""

    def changed(self, stage: Stage) -> None:
        if stage.ended is None:
            if stage.name != "wait" or not stage.text:
                return
            line = stage.text
        else:
            taken = duration(stage.ended - stage.began)
            broken = "broken off after " if stage.outcome == "broken off" else ""
            line = f"{_said(stage)} ({broken}{taken})"
        line = f"{stage.name:<9} {line.strip()}"
        if line == self._last:
            return
        if not self._last:
            self._console.print(self._heading, soft_wrap=True)
        self._last = line
        say(self._console, line)


def _said(stage: Stage) -> str:
    if stage.text:
        return stage.text
    if stage.done is not None:
        return size(stage.done)
    return _MEANWHILE.get(stage.name, "") if stage.ended is None else ""
