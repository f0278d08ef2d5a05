"""A program on a pseudo-terminal, with the screen that its user sees."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.test_cli import PATIENCE, surroundings

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

    def __init__(self, columns: int, rows: int) -> None:
        self.screen = pyte.HistoryScreen(columns, rows)
        self.raw = b""
        self.master, self._slave = pty.openpty()
        termios.tcsetwinsize(self.master, (rows, columns))
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
        try:
            async with asyncio.timeout(PATIENCE):
                while not seen(self.lines):
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            raise AssertionError("\n".join(["it never came:", *self.lines])) from None

    def press(self, keys: bytes) -> None:
        """Press keys."""
        os.write(self.master, keys)

    def send(self, number: signal.Signals) -> None:
        """Send the program a signal."""
        assert self._process is not None
        self._process.send_signal(number)

    def resize(self, columns: int, rows: int) -> None:
        """Make the terminal another size, which the system tells the program."""
        self.screen.resize(rows, columns)
        termios.tcsetwinsize(self.master, (rows, columns))

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
    *arguments: str | Path,
    cwd: Path,
    columns: int = 80,
    rows: int = 40,
    env: dict[str, str] | None = None,
) -> AsyncIterator[Terminal]:
    """Run the program on a terminal."""
    it = Terminal(columns, rows)
    try:
        await it.start(*map(str, arguments), cwd=cwd, env=env or {})
        yield it
    finally:
        await it.close()
