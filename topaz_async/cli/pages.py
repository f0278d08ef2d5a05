"""The help pages: a hand-written beginning with examples, then the lists, without boxes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from rich.console import Console, ConsoleOptions
from rich.table import Table
from rich.text import Text

from .display import show
from .exits import EXIT_CODES

if TYPE_CHECKING:
    from cyclopts.help import HelpPanel

__all__ = ["CODES", "DEMO", "SANDBOX", "TOP", "UPSCALE", "Page"]

CODES: Final = "Exit codes\n" + "\n".join(
    f"  {code:<4} {meaning}" for code, meaning in EXIT_CODES.items()
)

TOP: Final = """\
Upscale video with Topaz on kie.ai, from the terminal.

  topaz-async demo                          see it work: no key, no cost
  topaz-async upscale clip.mp4 -x 4         make clip-4x.mp4 in this folder
  topaz-async upscale clip.mp4 --sandbox    rehearse on this machine
  topaz-async sandbox                       run a service to try programs on

An upscale costs credits of your kie.ai account, whose key is read from the
environment variable KIE_API_KEY. The demo and everything with "sandbox" in it
run on this machine alone. "topaz-async COMMAND --help" tells more.
"""

DEMO: Final = """\
See the whole way of a clip, on this machine alone.

  topaz-async demo
  topaz-async demo --output-dir ~/Videos/topaz

Makes a short clip with sound, starts a sandbox of the service, uploads the
clip, waits, downloads the result, and compares the two. No key is needed and
nothing is billed. Running it again replaces its files.
"""

UPSCALE: Final = """\
Upscale one clip: upload it, wait for the service, download the result.

  topaz-async upscale clip.mp4 -x 4
  topaz-async upscale clip.mp4 -x 4 -o out/big.mp4
  topaz-async upscale https://example.com/clip.mp4 -o out/
  topaz-async upscale clip.mp4 --sandbox

The clip is an mp4, mov or mkv file, or an https address the service can
reach. This costs credits, unless --sandbox is given. Ctrl-C stops waiting,
not the task: its id is printed, with the lines that fetch its result.
"""

SANDBOX: Final = """\
Run the service on this machine, to try programs on.

  topaz-async sandbox
  topaz-async sandbox --port 8080 --queue-seconds 5 --run-seconds 20

It upscales for real, bills play money, and shows what arrives on a page of
its own. Only programs on this machine can reach it. Ctrl-C stops it.
"""


class Page:
    """Lays out a page for cyclopts: its `usage` is our text, its panels become lists."""

    def render_usage(self, console: Console, options: ConsoleOptions, usage: Any) -> None:
        """Print a page's beginning as it was written."""
        first, _, rest = str(usage).rstrip("\n").partition("\n")
        console.print(Text(first, "bold"), soft_wrap=True)
        console.print(Text(rest), soft_wrap=True)

    def render_description(
        self, console: Console, options: ConsoleOptions, description: Any
    ) -> None:
        """Leave out the docstring, which speaks to readers of the code."""

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
