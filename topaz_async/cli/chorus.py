"""Everybody who is told of a command's clips, as its options have it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from rich.text import Text

from .display import is_live, make_console, say_json
from .options import Telling
from .stages import Stage
from .table import LiveTable
from .tally import Tally
from .telling import JsonLines, Lines
from .ways import Watcher, Way

__all__ = ["chorus_of"]


@contextmanager
def chorus_of(telling: Telling, tally: Tally, heading: Text) -> Iterator[Watcher]:
    """Tell of clips while the block lasts: in a table or lines, in JSON, or not at all.

    Args:
        telling: How.
        tally: The figures, which are kept up and told at the end.
        heading: Comes first.
    """
    console = make_console(stderr=telling.json)
    members: list[Watcher] = [tally]
    if telling.json:
        members.append(JsonLines(make_console()))
    if not telling.quiet:
        console.print(heading, soft_wrap=True)
    if telling.quiet:
        yield _Chorus(members)
    elif is_live(console):
        table = LiveTable(console, tally)
        with table.shown():
            yield _Chorus([*members, table])
    else:
        yield _Chorus([*members, Lines(console)])
    if not telling.quiet and tally.total > 1:
        console.print(tally.line(), soft_wrap=True)
    if telling.json:
        say_json(make_console(), tally.as_json())


class _Chorus:
    """Several watchers as one."""

    def __init__(self, members: Sequence[Watcher]) -> None:
        self._members = members

    def begun(self, way: Way) -> None:
        for member in self._members:
            member.begun(way)

    def changed(self, way: Way, stage: Stage) -> None:
        for member in self._members:
            member.changed(way, stage)

    def submitted(self, way: Way) -> None:
        for member in self._members:
            member.submitted(way)

    def ended(self, way: Way) -> None:
        for member in self._members:
            member.ended(way)

    def stopping(self) -> None:
        for member in self._members:
            member.stopping()
