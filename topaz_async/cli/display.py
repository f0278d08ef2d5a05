"""The words and streams of the terminal: consoles that outlive their readers, lines, figures."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import IO, Any

from rich.console import Console, RenderableType
from rich.filesize import decimal
from rich.text import Text

__all__ = [
    "collecting_losses",
    "duration",
    "is_live",
    "make_console",
    "say",
    "say_json",
    "show",
    "size",
]

#: Where consoles put the errors of streams that cannot be written.
_losses: ContextVar[list[OSError]] = ContextVar("losses")


@contextmanager
def collecting_losses() -> Iterator[list[OSError]]:
    """Collect why consoles made in this block could not write, but for readers that have left."""
    token = _losses.set([])
    try:
        yield _losses.get()
    finally:
        _losses.reset(token)


def make_console(*, stderr: bool = False) -> Console:
    """Return the console of an output stream, without rich's own ideas about our words.

    Rich drops all control codes when the stream is no terminal, and colours with NO_COLOR.
    """
    return _Console(stderr=stderr, highlight=False, markup=False, emoji=False)


class _Console(Console):
    """A console that outlives its stream: a paid task does not end with `| head`."""

    def __init__(self, **options: Any) -> None:
        self._losses = _losses.get([])
        super().__init__(**options)

    @property
    def file(self) -> IO[str]:
        """The stream, which is switched off when it cannot be written."""
        return _Lenient(super().file, self._lose)  # type: ignore[return-value]

    @file.setter
    def file(self, new_file: IO[str]) -> None:
        self._file = new_file

    def _lose(self, stream: IO[str], error: OSError) -> None:
        if not isinstance(error, BrokenPipeError):
            self._losses.append(error)
        self.quiet = True
        # What is still buffered must not be written at the end either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


class _Lenient:
    """A stream whose failures are told to somebody instead of being raised."""

    def __init__(self, stream: IO[str], lose: Callable[[IO[str], OSError], None]) -> None:
        self._stream, self._lose = stream, lose

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        try:
            return self._stream.write(text)
        except OSError as error:
            self._lose(self._stream, error)
            return len(text)

    def flush(self) -> None:
        try:
            self._stream.flush()
        except OSError as error:
            self._lose(self._stream, error)


#: Columns that no row fills.
_ENDLESS = 10_000


def is_live(console: Console) -> bool:
    """Whether lines may be drawn again: FORCE_COLOR makes no terminal out of a file."""
    stream = sys.stderr if console.stderr else sys.stdout
    return console.is_interactive and stream is not None and stream.isatty()


def size(count: int) -> str:
    """Return bytes in words: ``89.3 kB``."""
    return decimal(count)


def duration(seconds: float) -> str:
    """Return seconds in words: ``1.2 s``, ``2 min 05 s``."""
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s"


def say(console: Console, *parts: str | tuple[str, str]) -> None:
    """Print one line, parts with a style among them; a path is never broken over two lines."""
    console.print(Text.assemble(*parts), soft_wrap=True)


def say_json(console: Console, event: Mapping[str, Any]) -> None:
    """Print one JSON object on a line of its own; ASCII, whatever names hold."""
    say(console, json.dumps(event))


def show(console: Console, table: RenderableType, *, is_data: bool = False) -> None:
    """Print a table; a file does not get the blanks that fill its lines.

    Args:
        console: Where to.
        table: The table.
        is_data: Whether a file gets each row on one line, however long.
    """
    if console.is_terminal:
        console.print(table)
        return
    if is_data:
        console.width = _ENDLESS
    with console.capture() as captured:
        console.print(table)
    for line in captured.get().splitlines():
        say(console, line.rstrip())
