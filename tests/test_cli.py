"""The command line as a program: what it prints, where to, and with which exit code."""

from __future__ import annotations

import asyncio
import io
import os
import re
import signal
import socket
import sys
from importlib.metadata import version
from pathlib import Path

import attrs
import pytest

from tests.clips import probe
from topaz_async.cli import main
from topaz_async.cli.app import COMMANDS
from topaz_async.cli.exits import EXIT_CODES

#: Begins every control code of a terminal.
ESC = "\x1b"
#: Longest life of one program in these tests, in seconds; none comes near it.
PATIENCE = 30.0


@attrs.frozen
class Ran:
    """What a program left behind."""

    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[str]:
        """The lines of standard output."""
        return self.out.splitlines()


def surroundings(**more: str) -> dict[str, str]:
    """Return the environment of a program: none of this machine's settings, complaints shown."""
    kept = ("KIE_", "TOPAZ_", "FORCE_COLOR", "NO_COLOR", "COLUMNS", "LINES", "PYTHON", "TTY_")
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(kept) and not name.lower().endswith("_proxy")
    }
    keyring = {"PYTHON_KEYRING_BACKEND": "keyring.backends.fail.Keyring"}
    return {**environment, **keyring, "PYTHONWARNINGS": "default", "PYTHONUTF8": "1", **more}


async def started(
    *arguments: str | Path, cwd: Path | None = None, **env: str
) -> asyncio.subprocess.Process:
    """Start the program with its outputs in pipes."""
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "topaz_async", *map(str, arguments)),
        cwd=cwd,
        env=surroundings(**env),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


async def ended(program: asyncio.subprocess.Process, before: str = "") -> Ran:
    """Wait for a program's end; `before` was read from it already."""
    try:
        async with asyncio.timeout(PATIENCE):
            out, err = await program.communicate()
    except TimeoutError:
        program.kill()
        await program.communicate()
        raise
    assert program.returncode is not None
    return Ran(program.returncode, before + (out or b"").decode(), err.decode())


async def topaz(*arguments: str | Path, cwd: Path | None = None, **env: str) -> Ran:
    """Run the program to its end."""
    return await ended(await started(*arguments, cwd=cwd, **env))


def typed(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> Ran:
    """Run the program inside this process, for what ends before anything begins."""
    code = main([str(argument) for argument in arguments])
    printed = capsys.readouterr()
    return Ran(code, printed.out, printed.err)


async def read_until(program: asyncio.subprocess.Process, words: str) -> str:
    """Read the program's lines up to the one with these words in it."""
    assert program.stdout is not None
    lines = ""
    async with asyncio.timeout(PATIENCE):
        while words not in lines:
            line = await program.stdout.readline()
            assert line, f"it ended after {lines!r}"
            lines += line.decode()
    return lines


async def python(code: str, **env: str) -> Ran:
    """Run a snippet with the project's interpreter."""
    program = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", code),
        env=surroundings(**env),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    return await ended(program)


# -- the demo --------------------------------------------------------------------------------


async def test_demo_needs_no_key_and_no_network(tmp_path: Path) -> None:
    """The demo leaves a clip and its fourfold in a folder, with all frames and the sound.

    In a pipe it prints plain lines: no control codes, boxes, or blanks at the end of a line.
    Files of an earlier demo are replaced.
    """
    folder = tmp_path / "zwei Clips 🎬"
    folder.mkdir()
    for name in ("clip.mp4", "clip-4x.mp4", ".topaz-demo"):
        (folder / name).write_text("of an older demo")
    ran = await topaz("demo", "--output-dir", folder)
    assert (ran.code, ran.err) == (0, "")
    before, after = probe(folder / "clip.mp4"), probe(folder / "clip-4x.mp4")
    assert (after.width, after.height) == (4 * before.width, 4 * before.height)
    assert (after.frames, after.has_audio) == (before.frames, before.has_audio) == (50, True)

    assert ESC not in ran.out
    assert ran.lines == [line.rstrip() for line in ran.lines]
    expected = [
        r"No key, no network: .*",
        r"upscaling clip\.mp4 4x in the sandbox, to .*/clip-4x\.mp4",
        r"upload    [\d.]+ kB \([\d.]+ s\)",
        r"submit    task \w{32} \([\d.]+ s\)",
        r"(wait      \w+\n)*wait      success \([\d.]+ s\)",
        r"download  [\d.]+ kB \([\d.]+ s\)",
        r"",
        r" +pixels +frames +seconds +sound +size +file",
        r"before +160x90 +50 +2\.00 +aac +[\d.]+ kB +clip\.mp4",
        r"after +640x360 +50 +2\.00 +aac +[\d.]+ kB +clip-4x\.mp4",
        r"",
        r"upscaled 160x90 to 640x360 in [\d.]+ s: " + re.escape(f"{folder}/clip-4x.mp4"),
    ]
    assert re.fullmatch("\n".join([*expected, ""]), ran.out), ran.out


@pytest.mark.parametrize("name", ["clip.mp4", "clip-4x.mp4"])
def test_demo_replaces_nobodys_files(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    """Only those of an earlier demo."""
    (tmp_path / name).write_text("my precious holiday")
    ran = typed(capsys, "demo", "-o", tmp_path)
    assert (2, True) == (ran.code, "is there already, and no demo made it" in ran.err)
    assert "my precious holiday" == (tmp_path / name).read_text()
    assert [name] == [path.name for path in tmp_path.iterdir()]


def test_demo_says_why_it_cannot_write(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A folder that cannot be made is a sentence and exit code 2."""
    (tmp_path / "file").touch()
    ran = typed(capsys, "demo", "-o", tmp_path / "file")
    assert ran.code == 2
    assert ran.err == f"Error: {tmp_path}/file cannot be written: File exists.\n"


# -- upscale, in its own sandbox -------------------------------------------------------------


async def test_upscale_rehearses_in_a_sandbox_of_its_own(tmp_path: Path, tiny_clip: Path) -> None:
    """With --sandbox a local file comes back enlarged, beside where the command was typed."""
    clip = tmp_path / "in" / "мой клип 🎬 [1].mp4"
    clip.parent.mkdir()
    clip.write_bytes(tiny_clip.read_bytes())
    ran = await topaz("upscale", clip, "-x", "4", "--sandbox", cwd=tmp_path)
    assert (ran.code, ran.err) == (0, "")
    result = tmp_path / "мой клип 🎬 [1]-4x.mp4"
    assert probe(result).width == 4 * probe(clip).width
    assert ran.lines[0] == f"upscaling {clip.name} 4x in the sandbox, to {result.name}"
    assert ran.lines[-1].startswith(f"{clip.name}: {result.name} (")


def test_upscale_never_replaces_a_file_unasked(
    tmp_path: Path,
    tiny_clip: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A file in the way ends the command before anything is sent, and says what to add."""
    (tmp_path / "tiny-2x.mp4").write_text("precious")
    monkeypatch.chdir(tmp_path)
    ran = typed(capsys, "upscale", tiny_clip, "--sandbox")
    assert (ran.code, ran.out) == (2, "")
    assert ran.err == (
        "Error: tiny-2x.mp4 exists already and was left alone. Nothing was billed. "
        "Name another file, or add --overwrite.\n"
    )
    assert (tmp_path / "tiny-2x.mp4").read_text() == "precious"


@pytest.mark.parametrize("options", [[], ["--base-url", "http://127.0.0.1:1"]])
def test_without_a_key_both_ways_on_are_named(
    options: list[str], tiny_clip: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """No key and no --sandbox: a sentence that names KIE_API_KEY and --sandbox."""
    ran = typed(capsys, "upscale", tiny_clip, *options)
    assert (ran.code, ran.out) == (2, "")
    assert "KIE_API_KEY" in ran.err
    assert "--sandbox" in ran.err
    assert len(ran.err.splitlines()) == 1


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("missing.mp4", "missing.mp4 does not exist. Nothing was billed."),
        ("empty.mp4", "empty.mp4 is empty. Nothing was billed."),
        ("text.mp4", "text.mp4 is no video"),
        ("folder.mp4", "The folder folder.mp4 holds no mp4, mov or mkv file."),
        ("good.mp4 -x 3", "the service knows 1, 2 and 4. Nothing was billed."),
        ("good.mp4 --max-mb 0.01", "Raise the limit with --max-mb"),
        ("good.mp4 --max-mb nan", "a number from 0 on"),
        ("good.mp4 --timeout 0", "above 0"),
        ("good.mp4 --timeout soon", "--timeout"),
        ("good.mp4 --upload-url http://example.com", "plain http to example.com"),
        ("good.mp4 --nonsense", "--nonsense"),
        ("good.mp4 --sandbox --base-url http://127.0.0.1:1", "leave out --base-url"),
        ("https://example.com/clip.mp4 --sandbox", "give it a local file"),
        ("http://example.com/clip.mp4", "https"),
        ("one.mp4 two.mp4", "two.mp4 does not exist. Nothing was billed."),
        ("one.mp4 two.mp4 -o big.mp4", "name a folder, as in -o out/"),
        (f"good.mp4 -o {'x' * 300}.mp4", "cannot be written: File name too long. Nothing was"),
        (f"good.mp4 -o {'x' * 300}/", "cannot be written: File name too long. Nothing was"),
        (f"good.mp4 text.mp4 -o {'x' * 300}.mp4", "name a folder, as in -o out/"),
        ("*.avi", "No file matches *.avi."),
        ("-", "The list on standard input is empty."),
        ("good.mp4 --concurrency 0", "a whole number from 1 on"),
        ("good.mp4 --journal j --no-journal", "contradict each other"),
        ("good.mp4 --sandbox --journal j.sqlite", "leave out --journal"),
        ("good.mp4 --journal text.mp4", "Name another place with --journal, or add --no-journal."),
        ("good.mp4 --callback-url http://example.com", "plain http to example.com"),
        ("", "Which clips?"),
    ],
)
def test_bad_input_costs_nothing_and_is_told_in_one_block(
    words: str,
    expected: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Wrong files and wrong options end with exit code 2, one short block, and no trace."""
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "text.mp4").write_text("no video at all")
    (tmp_path / "folder.mp4").mkdir()
    (tmp_path / "good.mp4").write_bytes(b"\0\0\0\x18ftypisom" + bytes(20_000))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KIE_API_KEY", "k")
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO()))
    ran = typed(capsys, "upscale", *words.split())
    assert (ran.code, ran.out) == (2, "")
    assert ran.err.startswith("Error: ")
    assert expected in ran.err
    assert "Traceback" not in ran.err
    assert len(ran.err.splitlines()) <= 2


@pytest.mark.parametrize("option", [True, False])
def test_debug_shows_the_trace(
    option: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A stack trace is shown to whoever asks for it, by option or environment."""
    monkeypatch.setenv("TOPAZ_ASYNC_DEBUG", "0" if option else "1")
    ran = typed(capsys, "upscale", "missing.mp4", "--sandbox", *(["--debug"] if option else []))
    assert ran.code == 2
    assert "Traceback (most recent call last)" in ran.err
    assert ran.err.endswith("Error: missing.mp4 does not exist. Nothing was billed.\n")


# -- the sandbox as a program ----------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_sandbox_runs_until_it_is_stopped(
    number: signal.Signals, tmp_path: Path, tiny_clip: Path
) -> None:
    """What the sandbox prints points the program at it; Ctrl-C or SIGTERM ends it in order."""
    sandbox = await started("sandbox", "--queue-seconds", "0", "--run-seconds", "0")
    told = await read_until(sandbox, "Ctrl-C stops it.")
    settings = dict(re.findall(r"^  export (\w+)=(\S+)$", told, re.M))
    assert set(settings) == {"KIE_API_KEY", "TOPAZ_ASYNC_BASE_URL", "TOPAZ_ASYNC_UPLOAD_URL"}
    assert f"dashboard  {settings['TOPAZ_ASYNC_BASE_URL']}/" in told
    (client,) = re.findall(r"^  (TopazClient\(.*\))$", told, re.M)
    programs = await python(
        "import asyncio\nfrom topaz_async import TopazClient\n"
        f"async def main():\n    async with {client} as topaz: print(await topaz.credits())\n"
        "asyncio.run(main())"
    )
    assert (programs.out, programs.err) == ("1000.0\n", "")
    made = await topaz("upscale", tiny_clip, "-o", "out/", cwd=tmp_path, **settings)
    sandbox.send_signal(number)
    ran = await ended(sandbox, told)
    assert (made.code, made.err) == (0, "")
    assert (tmp_path / "out" / "tiny-2x.mp4").is_file()
    assert (ran.code, ran.err) == (0, "")
    assert ran.lines[-1] == "The sandbox has stopped; it made 1 task."


@pytest.mark.parametrize(
    ("option", "value", "expected"),
    [
        ("--host", "0.0.0.0", "loopback"),
        ("--host", "example.com", "loopback"),
        ("--port", "70000", "from 0 to 65535"),
        ("--run-seconds", "-1", "a number from 0 on"),
        ("--queue-seconds", "inf", "a number from 0 on"),
    ],
)
def test_sandbox_refuses_what_it_cannot_do(
    option: str, value: str, expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The sandbox stays on this machine, and its figures make sense."""
    ran = typed(capsys, "sandbox", option, value)
    assert (ran.code, ran.out) == (2, "")
    assert expected in ran.err


def test_sandbox_says_that_a_port_is_taken(capsys: pytest.CaptureFixture[str]) -> None:
    """A port that somebody else listens at is a sentence and exit code 2."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        ran = typed(capsys, "sandbox", "--port", str(port))
    assert (ran.code, ran.out) == (2, "")
    assert ran.err.startswith(f"Error: The sandbox cannot listen on 127.0.0.1:{port}: ")


# -- help, version, what is not installed ----------------------------------------------------


@pytest.mark.parametrize("command", ["", *(name for name, _, _ in COMMANDS)])
async def test_help_begins_with_examples(command: str) -> None:
    """A help page is plain text of at most 80 columns: a sentence, examples, then the lists.

    The first page and those of the commands that finish jobs explain every exit code.
    """
    ran = await topaz(*command.split(), "--help")
    assert (ran.code, ran.err) == (0, "")
    assert ran.lines[0].endswith(".")
    assert ran.lines[2].startswith(f"  topaz-async {command}".rstrip())
    assert max(map(len, ran.lines)) <= 80
    assert ran.out.isascii()
    assert ESC not in ran.out
    codes = dict(re.findall(r"^  (\d+) +(.+)$", ran.out, re.M))
    explained = {str(code): meaning for code, meaning in EXIT_CODES.items()}
    assert codes == (explained if command in ("", "upscale", "resume", "wait") else {})


async def test_version_loads_nothing_heavy() -> None:
    """--version needs neither the extra nor the client, and --help not the client."""
    ran = await python(
        "import sys; from topaz_async.cli import main\n"
        "main(['--version'])\n"
        "print(sorted({'aiohttp', 'asyncio', 'av', 'cyclopts', 'rich'} & set(sys.modules)))\n"
        "main(['upscale', '--help'])\n"
        "print(sorted({'aiohttp', 'av', 'cattrs'} & set(sys.modules)))"
    )
    assert (ran.code, ran.err) == (0, "")
    assert ran.lines[:2] == [version("topaz-async"), "[]"]
    assert ran.lines[-1] == "[]"


@pytest.mark.parametrize(
    ("missing", "arguments", "extra"),
    [
        ("cyclopts", ["demo"], "cli"),
        ("av", ["demo"], "cli,sandbox"),
        ("av", ["upscale", "clip.mp4", "--sandbox"], "cli,sandbox"),
    ],
)
async def test_a_missing_extra_is_named(missing: str, arguments: list[str], extra: str) -> None:
    """What is not installed is one sentence with the line that installs it, and exit code 2."""
    ran = await python(
        f"import sys; sys.modules[{missing!r}] = None\n"
        "from topaz_async.cli import main\n"
        f"sys.exit(main({arguments!r}))"
    )
    assert ran.code == 2
    assert ran.err.splitlines() == [ran.err.strip()]
    assert ran.err.endswith(f"which is not installed: pip install 'topaz_async[{extra}]'\n")
