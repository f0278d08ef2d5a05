"""The command line on a real terminal: what a person sees."""

from __future__ import annotations

import asyncio
import re
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.terminals import Terminal, terminal
from tests.test_cli import ESC, PATIENCE
from tests.test_cli_service import address
from topaz_async.sandbox import CopyEngine, Fault, Sandbox


@pytest.fixture
async def quick() -> AsyncIterator[Sandbox]:
    """A sandbox that does everything at once."""
    async with Sandbox(engine=CopyEngine()) as running:
        yield running


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
            *("upscale", tiny_clip, "-y"), cwd=tmp_path, columns=columns, env=address(sandbox)
        ) as shown,
    ):
        await shown.until(lambda lines: any(" wait " in line for line in lines))
        assert shown.screen.cursor.hidden
        shown.press(b"\x03")
        assert await shown.end() == 130
        (task_id,) = sandbox.books.tasks
        assert not shown.screen.cursor.hidden
        assert task_id in "".join(shown.lines).replace(" ", "")


async def test_a_second_ctrl_c_leaves_at_once(tmp_path: Path, tiny_clip: Path) -> None:
    """Whoever presses twice does not wait for a createTask whose answer does not come."""
    fault = Fault("createTask", "act_then_hang")
    async with (
        Sandbox(engine=CopyEngine(), faults=[fault]) as sandbox,
        terminal(
            *("upscale", tiny_clip, "--yes"),
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
        said = " ".join(shown.lines)
        assert "A createTask was cut off; whether it made a task is unknown" in said
        assert shown.lines[-1].startswith("Interrupted.")


async def test_a_download_has_a_bar(tmp_path: Path, clip: Path) -> None:
    """While bytes move there is a bar with figures."""
    fault = Fault("files", "stall")
    async with (
        Sandbox(engine=CopyEngine(), faults=[fault]) as sandbox,
        terminal("upscale", clip, "-y", cwd=tmp_path, env=address(sandbox)) as shown,
    ):
        await shown.until(lambda lines: any(" % " in line for line in lines))
        bar = next(line for line in shown.lines if " % " in line)
        assert re.search(r"clip\.mp4 +download +━+.* \d+ % +~8 cr +\d+\.\d s$", bar)


async def test_notes_stand_above_the_picture(tmp_path: Path, tiny_clip: Path) -> None:
    """What the library warns of is one line above the picture, which stays in one piece."""
    fault = Fault("recordInfo", "state", state="reviewing")
    async with (
        Sandbox(engine=CopyEngine(), faults=[fault]) as sandbox,
        terminal("upscale", tiny_clip, "-y", cwd=tmp_path, env=address(sandbox)) as shown,
    ):
        assert await shown.end() == 0
    first, second, *rest = shown.lines
    assert first.startswith("upscaling")
    assert second.startswith("Note: ")
    assert "reviewing" in second
    assert [line.split()[0] for line in rest] == ["✓"]


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
            *("upscale", tiny_clip, "-y"), cwd=tmp_path, env={**address(sandbox), "TERM": "dumb"}
        ) as shown,
    ):
        assert await shown.end() == 0
        assert ESC.encode() not in shown.raw
        assert shown.lines[1].startswith("tiny.mp4: uploaded ")


# -- the table of many clips -----------------------------------------------------------------


def made(folder: Path, content: bytes, *names: str) -> None:
    """Make clips of different content in a folder."""
    folder.mkdir(exist_ok=True)
    for name in names:
        (folder / name).write_bytes(content + name.encode())


#: Columns, and how a clip that waits is shown in them.
WIDTHS = [
    (200, r" \S a\.mp4 +wait +generating +~8 cr +\d+\.\d s"),
    (80, r" \S a\.mp4 +wait +generating +~8 cr +\d+\.\d s"),
    (40, r" \S a\.mp4 +wait +\d+\.\d s"),
    (20, r" \S a\.mp4 +wait"),
]


async def test_each_clip_has_a_line_at_any_width(tmp_path: Path, tiny_clip: Path) -> None:
    """What is under way has one line each and never more; what has ended says where it is."""
    names = ("a.mp4", "ein langer Name mit Leerzeichen 🎬🎬🎬.mp4", "z\nz.mp4")
    made(tmp_path / "in", tiny_clip.read_bytes(), *names)

    async def look(columns: int, row: str) -> None:
        async with (
            Sandbox(engine=CopyEngine(), run_seconds=0.8) as sandbox,
            terminal(
                *("upscale", "in", "-o", f"{columns}/", "-y"),
                *("--journal", f"{columns}.sqlite"),
                cwd=tmp_path,
                columns=columns,
                env=address(sandbox),
            ) as shown,
        ):
            await shown.until(lambda lines: any(re.fullmatch(row, line) for line in lines))
            await shown.until(
                lambda lines: (
                    sum(re.match(r" [⠀-⣿] .* wait", line) is not None for line in lines) == 3
                )
            )
            assert await shown.end() == 0
            assert not shown.screen.cursor.hidden
            everything = "".join(shown.lines)
        assert everything.count("✓") == 3
        assert "3of3done,48credits," in everything.replace(" ", "")
        assert not re.search("[⠀-⣿]", everything)
        assert len(list((tmp_path / str(columns)).iterdir())) == 3

    await asyncio.gather(*(look(*width) for width in WIDTHS))


async def test_more_clips_than_rows_stay_readable(tmp_path: Path, tiny_clip: Path) -> None:
    """Three hundred clips at once fit on any screen, and Ctrl-C ends them in order."""
    made(tmp_path / "in", tiny_clip.read_bytes(), *(f"{n:03}.mp4" for n in range(300)))
    async with (
        Sandbox(engine=CopyEngine(), run_seconds=60.0) as sandbox,
        terminal(
            *("upscale", "in", "-o", "out", "-y", "--concurrency", "300"),
            cwd=tmp_path,
            rows=12,
            env=address(sandbox),
        ) as shown,
    ):
        await shown.until(lambda lines: any("292 more under way" in line for line in lines))
        await shown.until(lambda lines: "under way" in lines[-1])
        assert [line.split()[1] for line in shown.lines if re.match(r" [⠀-⣿] ", line)] == [
            f"{n:03}.mp4" for n in range(8)
        ]
        await sandbox.books.until(lambda books: len(books.tasks) >= 5)
        shown.press(b"\x03")
        assert await shown.end() == 130
        told = " ".join(shown.lines)
        tasks = int(re.search(r"(\d+) tasks? goe?s? on", " ".join(history(shown)))[1])
        assert tasks == len(sandbox.books.tasks)
        assert told.endswith("Bring the results and send the rest with: topaz-async resume")


def history(shown: Terminal) -> list[str]:
    """Return all lines that were ever on the screen and are not drawn over."""
    top = [
        "".join(line[x].data for x in range(shown.screen.columns)).rstrip()
        for line in shown.screen.history.top
    ]
    return [*top, *shown.lines]


async def test_the_table_follows_the_size_of_the_terminal(tmp_path: Path, tiny_clip: Path) -> None:
    """When the window is made narrower or wider, the next picture fits it."""
    made(tmp_path / "in", tiny_clip.read_bytes(), "a.mp4", "b.mp4")
    async with (
        Sandbox(engine=CopyEngine(), run_seconds=1.8) as sandbox,
        terminal(
            *("upscale", "in", "-o", "out", "-y"), cwd=tmp_path, env=address(sandbox)
        ) as shown,
    ):
        await shown.until(lambda lines: any("~8 cr" in line for line in lines))
        shown.resize(36, 20)
        narrow = r" \S [ab]\.mp4 +wait +\d\.\d s"
        await shown.until(
            lambda lines: sum(re.fullmatch(narrow, line) is not None for line in lines) == 2
        )
        shown.resize(120, 20)
        await shown.until(lambda lines: sum("~8 cr" in line for line in lines) == 2)
        assert await shown.end() == 0
        assert "2 of 2 done" in shown.lines[-1]


# -- the question ----------------------------------------------------------------------------


#: What is done when the question comes, the exit code, and the last words.
ANSWERS: list[tuple[bytes | signal.Signals, int, str]] = [
    (b"y\n", 0, "tiny-2x.mp4"),
    (b"n\n", 130, "Nothing was sent. Nothing was billed."),
    (b"\x04", 130, "Nothing was sent. Nothing was billed."),
    (b"\x03", 130, "Interrupted. Nothing was sent. Nothing was billed."),
    (signal.SIGTERM, 130, "Interrupted. Nothing was sent. Nothing was billed."),
]


async def test_whoever_sits_at_a_terminal_is_asked_first(
    quick: Sandbox, tmp_path: Path, tiny_clip: Path
) -> None:
    """Before something is bought a person is asked, with the cost; only a yes buys."""

    async def answer(keys: bytes | signal.Signals, code: int, last: str) -> None:
        async with terminal("upscale", tiny_clip, cwd=tmp_path, env=address(quick)) as shown:
            await shown.until(lambda lines: lines and lines[-1].endswith("[y/N]"))
            assert " ".join(shown.lines) == (
                f"Upscale tiny.mp4 at {quick.base_url}, for about 8 credits (0.04 USD)? [y/N]"
            )
            if isinstance(keys, signal.Signals):
                shown.send(keys)
            else:
                shown.press(keys)
            assert await shown.end() == code
            assert last in shown.lines[-1]

    await asyncio.gather(*(answer(*case) for case in ANSWERS))
    assert len(quick.books.tasks) == 1


# -- Ctrl-C, wherever it comes ---------------------------------------------------------------

#: What holds a clip up in a stage, and what is told when Ctrl-C comes then.
STAGES = [
    ("upload", Fault("file-stream-upload", "act_then_hang", times=None), "before anything was"),
    ("download", Fault("files", "stall", times=None), "1 result is paid for, and downloading it"),
]


@pytest.mark.parametrize(("stage", "fault", "told"), STAGES, ids=[stage[0] for stage in STAGES])
async def test_ctrl_c_in_each_stage(
    stage: str, fault: Fault, told: str, tmp_path: Path, clip: Path
) -> None:
    """Ctrl-C ends every stage at once, leaves no half file, and says what goes on."""
    async with (
        Sandbox(engine=CopyEngine(), faults=[fault]) as sandbox,
        terminal("upscale", clip, "-y", cwd=tmp_path, env=address(sandbox)) as shown,
    ):
        if stage == "download":
            await shown.until(lambda lines: any(" % " in line for line in lines))
        else:
            await sandbox.books.until(lambda books: books.uploads)
        shown.press(b"\x03")
        assert await shown.end() == 130
        assert told in " ".join(shown.lines)
        assert not shown.screen.cursor.hidden
        assert list(tmp_path.iterdir()) == []
        assert len(sandbox.books.tasks) == (stage == "download")


async def test_ctrl_c_while_a_submit_is_under_way_waits_for_its_answer(
    tmp_path: Path, clip: Path
) -> None:
    """An answer that comes within the grace is kept: the task is told, not a doubt."""
    fault = Fault("createTask", "slow", seconds=1.0)
    async with (
        Sandbox(engine=CopyEngine(), faults=[fault]) as sandbox,
        terminal("upscale", clip, "-y", cwd=tmp_path, env=address(sandbox)) as shown,
    ):
        await shown.until(lambda lines: any("making the task" in line for line in lines))
        await sandbox.books.until(lambda books: books.count("createTask") == 1)
        shown.press(b"\x03")
        await shown.until(lambda lines: any("Ctrl-C again leaves" in line for line in lines))
        assert await shown.end() == 130
        (task_id,) = sandbox.books.tasks
        assert f"  clip.mp4  task {task_id}" in shown.lines
        assert "Note:" not in "".join(shown.lines)
