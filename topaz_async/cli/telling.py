"""What becomes of clips, told as lines of text or of JSON."""

from __future__ import annotations

import contextlib

from rich.console import Console
from rich.text import Text

from ..errors import ClientClosedError
from ..texts import clean
from .display import duration, say, say_json, size
from .stages import Stage
from .ways import Way

__all__ = ["JsonLines", "Lines", "Silence", "ended_line", "is_left_over"]


def is_left_over(way: Way) -> bool:
    """Whether it is not over with the command: it is told of at the end, with what to do."""
    cut_short = way.status == "unknown" and isinstance(way.error, ClientClosedError)
    return cut_short or way.status in ("pending", "not submitted")


class Silence:
    """Says nothing."""

    def begun(self, way: Way) -> None: ...

    def changed(self, way: Way, stage: Stage) -> None: ...

    def submitted(self, way: Way) -> None: ...

    def ended(self, way: Way) -> None: ...

    def stopping(self) -> None: ...


class Lines(Silence):
    """Lines of text, for files, pipes and terminals that cannot be drawn on."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._last: dict[int, str] = {}

    def changed(self, way: Way, stage: Stage) -> None:
        is_done = stage.ended is not None and stage.outcome == "done"
        if stage.name == "upload" and is_done:
            line = f"uploaded {size(stage.done or 0)} ({duration(stage.seconds(0.0))})"
        elif stage.name == "submit" and is_done and stage.text:
            paid = way.planned.action == "fetch"
            line = f"{'going on with' if paid else 'submitted as'} {stage.text}"
        elif stage.name == "wait" and stage.ended is None and stage.text:
            line = stage.text
        else:
            return
        if self._last.get(way.index) != line:
            self._last[way.index] = line
            say(self._console, f"{way.name}: {line}")

    def ended(self, way: Way) -> None:
        self._last.pop(way.index, None)
        if is_left_over(way):
            return
        self._console.print(ended_line(way), soft_wrap=True)


class JsonLines(Silence):
    """One JSON object a line: a clip whose task is known, a clip that has ended."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def submitted(self, way: Way) -> None:
        wish = way.planned.wish
        event = {
            "event": "submitted",
            "clip": wish.told,
            "task_id": way.task_id,
            "reference": wish.reference,
        }
        say_json(self._console, event)

    def ended(self, way: Way) -> None:
        say_json(self._console, way.as_json())


def ended_line(way: Way) -> Text:
    """Return how a clip ended, in a line."""
    if way.status != "ok":
        return Text(f"{way.name}: {_WORDS[way.status or '']}")
    assert way.path is not None
    if way.planned.action == "done":
        return Text.assemble(f"{way.name}: there already: ", (clean(way.path, 4096), "bold"))
    facts = [duration(way.seconds)]
    if way.credits is not None:
        facts.insert(0, f"{way.credits:g} credits")
    with contextlib.suppress(OSError):  # somebody has moved it already
        facts.insert(0, size(way.path.stat().st_size))
    return Text.assemble(f"{way.name}: ", (clean(way.path, 4096), "bold"), f" ({', '.join(facts)})")


_WORDS = {
    "failed": "failed",
    "refused": "refused",
    "unknown": "nobody knows whether a task was made",
}
