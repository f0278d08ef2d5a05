"""The screens in the documentation: what the program really shows on a terminal.

Run it as a script, `python -m tests.captures`, to take them again. Each is a program run in a
pseudo-terminal of 80 columns, against the sandbox, drawn as an SVG into `docs/screens/`.
"""

from __future__ import annotations

import asyncio
import html
import io
import re
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import groupby
from pathlib import Path
from typing import Any

import attrs
from rich.console import Console
from rich.terminal_theme import TerminalTheme
from rich.text import Text

from tests.terminals import terminal
from topaz_async.sandbox import Fault, Sandbox
from topaz_async.sandbox.media import make_clip

SCREENS = Path(__file__).parent.parent / "docs" / "screens"
COLUMNS = 80

# As rich's own, without fonts from the web and without a word about rich.
_FORMAT = """\
<svg viewBox="0 0 {width} {height}" xmlns="http://www.w3.org/2000/svg">
<style>
.{unique_id}-matrix {{ font: {char_height}px/{line_height}px ui-monospace, Menlo, Consolas, \
"DejaVu Sans Mono", monospace }}
.{unique_id}-title {{ font: bold 16px system-ui, sans-serif }}
{styles}
</style>
<defs>
<clipPath id="{unique_id}-clip-terminal">
<rect x="0" y="0" width="{terminal_width}" height="{terminal_height}" />
</clipPath>
{lines}
</defs>
{chrome}
<g transform="translate({terminal_x}, {terminal_y})" clip-path="url(#{unique_id}-clip-terminal)">
{backgrounds}
<g class="{unique_id}-matrix">
{matrix}
</g>
</g>
</svg>
"""

_THEME = TerminalTheme(
    (24, 24, 27),
    (228, 228, 231),
    [
        (24, 24, 27), (248, 113, 113), (74, 222, 128), (250, 204, 21),
        (96, 165, 250), (192, 132, 252), (34, 211, 238), (228, 228, 231),
    ],
)  # fmt: skip


@attrs.frozen
class Capture:
    """One screen of the documentation."""

    name: str
    #: What is typed behind `topaz-async`.
    typed: str
    #: The service is a sandbox that runs; without it there is none, and no key.
    online: bool = True
    #: The moment in which it is taken: when all of this is on the screen; empty for the end.
    moment: tuple[str, ...] = ()
    #: What is made to last, so that there is such a moment.
    faults: tuple[Fault, ...] = ()


CAPTURES = (
    Capture("help", "--help", online=False),
    Capture("config", "config --env-file .env", online=False),
    Capture("doctor", "doctor"),
    Capture(
        "upscale",
        "upscale clips/ -x 4 -o out/ --concurrency 3 --yes",
        moment=("✓", "━", "generating"),
        faults=(Fault("files", "stall", after=1),),
    ),
)


def drawn(name: str, typed: str, screen: Any) -> str:
    """Return a terminal's screen as an SVG, with what was typed above it."""
    console = Console(
        record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True, legacy_windows=False
    )
    console.print(Text.assemble(("$ ", "green"), (f"topaz-async {typed}", "bold")))
    filled = [number for number, line in enumerate(screen.display) if line.strip()]
    for number in range(filled[-1] + 1):
        row, line = screen.buffer[number], Text()
        for style, cells in groupby((row[column] for column in range(COLUMNS)), key=_style):
            line.append("".join(cell.data for cell in cells), style)
        line.rstrip()
        console.print(line, no_wrap=True)
    picture = console.export_svg(
        title="", theme=_THEME, code_format=_FORMAT, unique_id=f"screen-{name}"
    )
    return "\n".join(line.rstrip() for line in picture.splitlines()) + "\n"


def _style(cell: Any) -> str:
    # What pyte calls brown is everybody else's yellow; colours without a name are hex digits.
    colour = cell.fg.replace("brown", "yellow")
    if colour == "default" or cell.data == " ":
        colour = ""
    elif re.fullmatch("[0-9a-f]{6}", colour):
        colour = f"#{colour}"
    return f"bold {colour}".strip() if cell.bold else colour


def words(picture: str) -> list[str]:
    """Return the lines of a drawn screen, with figures, ids, spinners and gaps made alike."""
    rows: dict[float, list[tuple[float, str]]] = {}
    for place, height, text in re.findall(
        r'<text class="[^"]*-r\d+" x="([\d.]+)" y="([\d.]+)"[^>]*>([^<]*)</text>', picture
    ):
        rows.setdefault(float(height), []).append((float(place), html.unescape(text)))
    lines = []
    for _, row in sorted(rows.items()):
        line = " ".join(" ".join(text for _, text in sorted(row)).split())
        line = re.sub(r"\b[0-9a-f]{32}\b", "ID", line)
        line = re.sub(r"[\u2800-\u28ff]", "~", line)
        lines.append(re.sub(r"\d[\d.]*", "#", line))
    return [line for line in lines if line]


@asynccontextmanager
async def _surroundings(capture: Capture) -> AsyncIterator[tuple[Path, dict[str, str]]]:
    """Hand out a folder and the environment of a capture."""
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        (folder / "clips").mkdir()
        for number, name in enumerate(("beach", "dunes", "harbour", "night"), start=1):
            path = folder / "clips" / f"{name}.mp4"
            await asyncio.to_thread(make_clip, path, seconds=number, width=160, height=90)
        (folder / ".env").write_text("KIE_API_KEY=kie-0123456789abcdef4f2a\n")
        env = {"TOPAZ_ASYNC_JOURNAL": "topaz.sqlite"}
        if not capture.online:
            yield folder, env
            return
        async with Sandbox(run_seconds=1.5, faults=capture.faults) as sandbox:
            yield (
                folder,
                {
                    **env,
                    "KIE_API_KEY": sandbox.api_key,
                    "TOPAZ_ASYNC_BASE_URL": sandbox.base_url,
                    "TOPAZ_ASYNC_UPLOAD_URL": sandbox.upload_url,
                },
            )


async def take(capture: Capture) -> str:
    """Run the program and return its screen as an SVG."""
    async with (
        _surroundings(capture) as (folder, env),
        terminal(*capture.typed.split(), cwd=folder, columns=COLUMNS, rows=50, env=env) as shown,
    ):
        if not capture.moment:
            assert 0 == await shown.end(), shown.lines
            return drawn(capture.name, capture.typed, shown.screen)
        await shown.until(lambda lines: all(word in "\n".join(lines) for word in capture.moment))
        picture = drawn(capture.name, capture.typed, shown.screen)
        shown.press(b"\x03")
        await asyncio.sleep(0.2)
        shown.press(b"\x03")
        await shown.end()
        return picture


async def main() -> None:
    """Take every screen again."""
    SCREENS.mkdir(exist_ok=True)
    for capture in CAPTURES:
        (SCREENS / f"{capture.name}.svg").write_text(await take(capture), encoding="utf-8")
        print(f"docs/screens/{capture.name}.svg: topaz-async {capture.typed}")


if __name__ == "__main__":
    asyncio.run(main())
