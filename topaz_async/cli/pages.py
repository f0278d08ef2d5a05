"""The help pages: a hand-written beginning with examples, then the lists, without boxes.

A command's beginning is the docstring of its function, down to "Args:".
"""

from __future__ import annotations

import inspect
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any, Final

from rich.console import Console, ConsoleOptions
from rich.table import Table
from rich.text import Text

from .display import show
from .exits import EXIT_CODES

if TYPE_CHECKING:
    from cyclopts.help import HelpPanel

__all__ = ["CODES", "TOP", "Page"]

CODES: Final = "Exit codes\n" + "\n".join(
    f"  {code:<4} {meaning}" for code, meaning in EXIT_CODES.items()
)

TOP: Final = """\
Upscale video with Topaz on kie.ai, from the terminal.

  topaz-async demo                          see it work: no key, no cost
  topaz-async upscale clip.mp4 -x 4         make clip-4x.mp4 in this folder
  topaz-async upscale *.mp4 -x 4 -o out/    many clips, into a folder
  topaz-async upscale clips/ --dry-run      what it would cost
  topaz-async resume                        finish what was broken off
  topaz-async upscale clip.mp4 --sandbox    rehearse on this machine
  topaz-async compare clip.mp4 clip-4x.mp4  a page to see the difference on
  topaz-async doctor                        find out why it does not work

An upscale costs credits of your kie.ai account, whose key is read from the
environment variable KIE_API_KEY, or from the keyring after "topaz-async
login"; at a terminal you are asked first. What was bought is written down, and
never bought twice. The demo and everything with "sandbox" in it run on this
machine alone. "topaz-async COMMAND --help" tells more. Every command knows
--debug (show stack traces) and --env-file FILE (read settings from a file).
"""


class Page:
    """Lays out a page for cyclopts: its panels become lists.

    Args:
        path: The command's function, as "module:function"; None for the first page.
    """

    def __init__(self, path: str | None = None) -> None:
        self._path = path

    def render_usage(self, console: Console, options: ConsoleOptions, usage: Any) -> None:
        """Print a page's beginning as it was written."""
        text = usage if self._path is None else inspect.getdoc(resolve_name(self._path))
        written = str(text).partition("\nArgs:\n")[0].rstrip("\n")
        first, _, rest = written.partition("\n")
        console.print(Text(first, "bold"), soft_wrap=True)
        console.print(Text(rest), soft_wrap=True)

    def render_description(
        self, console: Console, options: ConsoleOptions, description: Any
    ) -> None:
        """Leave out what cyclopts makes of the docstring: it has been printed as it stands."""

    def __call__(self, console: Console, options: ConsoleOptions, panel: HelpPanel) -> None:
        """Print one list of commands or options."""
        if not panel.entries:
            return
        console.print()
        console.print(Text(str(panel.title), "bold"))
        grid = Table.grid(padding=(0, 2, 0, 0))
        grid.add_column(max_width=30)
        grid.add_column()
        for entry in panel.entries:
            names = " ".join(entry.display_labels_with_metavar)
            grid.add_row(Text(f"  {names}"), entry.description)
        show(console, grid)
