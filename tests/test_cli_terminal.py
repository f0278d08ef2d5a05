"""The command line on a real terminal: what a person sees."""

from __future__ import annotations

import asyncio
import os
import re
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.test_cli import ESC, PATIENCE, surroundings
from tests.test_cli_service import address
from topaz_async.sandbox import CopyEngine, Fault, Sandbox

pyte = pytest.importorskip("pyte")
pty = pytest.importorskip("pty")
fcntl = pytest.importorskip("fcntl")
termios = pytest.importorskip("termios")

# Makes the pseudo-terminal the program's own, as a shell does: Ctrl-C arrives as a signal.
_TAKE_TERMINAL = (
    "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); "
    "os.execv(sys.executable, [sys.executable, '-m', 'topaz_async', *sys.argv[1:]])"
)


class Terminal:
    """A program on a terminal of so many columns, with the screen that its user sees."""

    def __init__(self, columns: int) -> None:
        self.screen = pyte.HistoryScreen(columns, 40)
        self.raw = b""
        self.master, self._slave = pty.openpty()
        termios.tcsetwinsize(self.master, (40, columns))
        self._stream = pyte.ByteStream(self.screen)
        self._news = asyncio.Event()
        self._process: asyncio.subprocess.Process | None = None

    async def start(self, *arguments: str, cwd: Path, env: dict[str, str]) -> None:
        """Start the program."""
        os.set_blocking(self.master, False)
        asyncio.get_running_loop().add_reader(self.master, self._read)
        self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", _TAKE_TERMINAL, *arguments),
            stdin=self._slave,
            stdout=self._slave,
            stderr=self._slave,
            cwd=cwd,
            env=surroundings(**{"TERM": "xterm-256color", **env}),
            start_new_session=True,
        )

    def _read(self) -> None:
        try:
            content = os.read(self.master, 65536)
        except OSError:  # the program has left the terminal
            content = b""
        if not content:
            asyncio.get_running_loop().remove_reader(self.master)
        self.raw += content
        self._stream.feed(content)
        self._news.set()

    @property
    def lines(self) -> list[str]:
        """The screen's lines, without the empty ones."""
        return [line.rstrip() for line in self.screen.display if line.strip()]

    async def until(self, seen: Callable[[list[str]], object]) -> None:
        """Wait until the screen shows something."""
        async with asyncio.timeout(PATIENCE):
            while not seen(self.lines):
                self._news.clear()
                await self._news.wait()

    def press(self, keys: bytes) -> None:
        """Press keys."""
        os.write(self.master, keys)

    async def end(self) -> int:
        """Wait for the program's end and return its exit code."""
        assert self._process is not None
        async with asyncio.timeout(PATIENCE):
            code = await self._process.wait()
        self._read()
        return code

    async def close(self) -> None:
        """Let go of the terminal, and of a program that a failed test has left behind."""
        if self._process is not None and self._process.returncode is None:
            self._process.kill()
            await self._process.wait()
        asyncio.get_running_loop().remove_reader(self.master)
        os.close(self.master)
        os.close(self._slave)


@asynccontextmanager
async def terminal(
    *arguments: str | Path, cwd: Path, columns: int = 80, env: dict[str, str] | None = None
) -> AsyncIterator[Terminal]:
    """Run the program on a terminal."""
    it = Terminal(columns)
    try:
        await it.start(*map(str, arguments), cwd=cwd, env=env or {})
        yield it
    finally:
        await it.close()


@pytest.mark.parametrize("columns", [80, 120])
async def test_demo_on_a_terminal(columns: int, tmp_path: Path) -> None:
    """The demo leaves a picture: four stages with ticks, a table, and where the file is."""
    async with terminal("demo", cwd=tmp_path, columns=columns) as shown:
        await shown.until(lambda lines: any("⠋" <= line.strip()[:1] <= "⣿" for line in lines[2:]))
        assert await shown.end() == 0
        lines = shown.lines
    assert [line.split()[:2] for line in lines[2:6]] == [
        ["✓", "upload"],
        ["✓", "submit"],
        ["✓", "wait"],
        ["✓", "download"],
    ]
    assert re.search(r"task \w{32} +\d+\.\d s$", lines[3])
    assert lines[6].split() == ["pixels", "frames", "seconds", "sound", "size", "file"]
    assert lines[8].split()[:5] == ["before", "160x90", "50", "2.00", "aac"]
    assert lines[9].split()[:5] == ["after", "640x360", "50", "2.00", "aac"]
    assert re.fullmatch(
        r"upscaled 160x90 to 640x360 in \d+\.\d s: topaz-demo/clip-4x\.mp4", lines[10]
    )
    assert len(lines) == 11
    assert not shown.screen.cursor.hidden


@pytest.mark.parametrize("columns", [80, 40])
async def test_ctrl_c_while_waiting_shows_the_whole_task_id(
    columns: int, tmp_path: Path, tiny_clip: Path
) -> None:
    """Ctrl-C stops the picture, brings the cursor back, and shows an id that can be copied."""
    async with (
        Sandbox(engine=CopyEngine(), run_seconds=60.0) as sandbox,
        terminal(
            "upscale", tiny_clip, cwd=tmp_path, columns=columns, env=address(sandbox)
        ) as shown,
    ):
        await shown.until(lambda lines: any("generating" in line for line in lines))
        assert shown.screen.cursor.hidden
        shown.press(b"\x03")
        assert await shown.end() == 130
        (task_id,) = sandbox.books.tasks
        assert not shown.screen.cursor.hidden
        assert any(line.split()[:2] == ["✗", "wait"] for line in shown.lines)
        everything = "".join(shown.lines).replace(" ", "")
        assert everything.count(task_id) == 3  # of the stage, the sentence, the lines to copy


async def test_a_second_ctrl_c_leaves_at_once(tmp_path: Path, tiny_clip: Path) -> None:
    """Whoever presses twice does not wait for a createTask whose answer does not come."""
    fault = Fault("createTask", "act_then_hang")
    async with (
        Sandbox(engine=CopyEngine(), faults=[fault]) as sandbox,
        terminal(
            *("upscale", tiny_clip),
            cwd=tmp_path,
            # What is left at once is left open.
            env={**address(sandbox), "PYTHONWARNINGS": "ignore"},
        ) as shown,
    ):
        await shown.until(lambda lines: any("making the task" in line for line in lines))
        async with asyncio.timeout(PATIENCE):
            while not sandbox.books.tasks:
                await asyncio.sleep(0.01)
        shown.press(b"\x03")
        await shown.until(lambda lines: any("Ctrl-C again" in line for line in lines))
        shown.press(b"\x03")
        assert await shown.end() == 130
        assert "Traceback" not in shown.raw.decode()
        said = " ".join(shown.lines[-2:])
        assert "A createTask was cut off; whether it made a task is unknown." in said
        assert said.endswith("Interrupted.")


async def test_a_download_has_a_bar(tmp_path: Path, clip: Path) -> None:
    """While bytes move there is a bar with figures, and the seconds keep their column."""
    fault = Fault("files", "stall")
    async with (
        Sandbox(engine=CopyEngine(), faults=[fault]) as sandbox,
        terminal("upscale", clip, cwd=tmp_path, env=address(sandbox)) as shown,
    ):
        await shown.until(lambda lines: any(" kB of " in line for line in lines))
        bar = next(line for line in shown.lines if " kB of " in line)
        assert re.search(r"download +━+.* [\d.]+ kB of [\d.]+ kB, [\d.]+ \w+/s +\d+\.\d s$", bar)
        ends = {len(line) for line in shown.lines[1:]}
        assert len(ends) == 1
        assert max(ends) <= 80


async def test_notes_stand_above_the_picture(tmp_path: Path, tiny_clip: Path) -> None:
    """What the library warns of is one line above the picture, which stays in one piece."""
    fault = Fault("recordInfo", "state", state="reviewing")
    async with (
        Sandbox(engine=CopyEngine(), faults=[fault]) as sandbox,
        terminal("upscale", tiny_clip, cwd=tmp_path, env=address(sandbox)) as shown,
    ):
        assert await shown.end() == 0
    first, second, *rest = shown.lines
    assert first.startswith("Note: ")
    assert "reviewing" in first
    assert second.startswith("upscaling")
    assert [line.split()[0] for line in rest] == ["✓", "✓", "✓", "✓", "upscaled"]


async def test_no_color_is_honoured(tmp_path: Path) -> None:
    """Errors are red on a terminal, and of no colour with NO_COLOR."""
    colour = re.compile(rb"\x1b\[[0-9;]*3[0-9][0-9;]*m")
    async with terminal("upscale", "no.mp4", "--sandbox", cwd=tmp_path) as shown:
        assert await shown.end() == 2
        assert colour.search(shown.raw)
    async with terminal(
        "upscale", "no.mp4", "--sandbox", cwd=tmp_path, env={"NO_COLOR": "1"}
    ) as shown:
        assert await shown.end() == 2
        assert not colour.search(shown.raw)
        assert shown.lines == ["Error: no.mp4 does not exist. Nothing was billed."]


async def test_a_dumb_terminal_gets_plain_lines(tmp_path: Path, tiny_clip: Path) -> None:
    """TERM=dumb is shown the lines of a pipe."""
    async with (
        Sandbox(engine=CopyEngine()) as sandbox,
        terminal(
            "upscale", tiny_clip, cwd=tmp_path, env={**address(sandbox), "TERM": "dumb"}
        ) as shown,
    ):
        assert await shown.end() == 0
        assert ESC.encode() not in shown.raw
        assert shown.lines[1].startswith("upload ")
