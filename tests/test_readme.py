"""What the README shows works as it stands."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from topaz_async import TopazClient
from topaz_async.sandbox import Sandbox

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def example(name: str) -> str:
    """Return the code block below a marker."""
    found = re.search(rf"<!-- example: {name} -->\n```python\n(.*?)```", README, re.DOTALL)
    assert found is not None
    return found[1]


#: Runs a program as it stands, with the service's addresses changed to the sandbox's.
RUNNER = """
import pathlib, sys, topaz_async.client as client
client.BASE_URL, client.UPLOAD_URL = sys.argv[1:3]
client.TopazClient.__init__.__kwdefaults__["base_url"] = client.BASE_URL
exec(compile(pathlib.Path(sys.argv[3]).read_text(), "README.md", "exec"))
"""


async def run(program: str, sandbox: Sandbox, folder: Path) -> str:
    """Run a program of the README in a folder of its own and return what it prints."""
    import asyncio

    (folder / "program.py").write_text(program, encoding="utf-8")
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-W", "error", "-c", RUNNER,
        sandbox.base_url, sandbox.upload_url, "program.py",
        cwd=folder, env={"KIE_API_KEY": sandbox.api_key, "PATH": ""},
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    output, _ = await asyncio.wait_for(process.communicate(), 50)
    assert 0 == process.returncode, output.decode()
    return output.decode()


async def test_the_ten_lines_run_as_they_stand(
    sandbox: Sandbox, clip: Path, tmp_path: Path
) -> None:
    """The first program upscales clip.mp4 into clip-4x.mp4."""
    (tmp_path / "clip.mp4").write_bytes(clip.read_bytes())
    printed = await run(example("main"), sandbox, tmp_path)
    assert printed.startswith("clip-4x.mp4 ")
    assert (tmp_path / "clip-4x.mp4").stat().st_size > clip.stat().st_size


async def test_the_batch_runs_as_it_stands_and_pays_once(
    sandbox: Sandbox, tiny_clip: Path, tmp_path: Path
) -> None:
    """Run twice, the batch submits three tasks in all; a missing file loses no sibling."""
    for name in ("one.mp4", "two.mp4"):
        (tmp_path / name).write_bytes(tiny_clip.read_bytes())
    for _ in range(2):
        printed = await run(example("batch"), sandbox, tmp_path)
        assert re.search(r"one\.mp4: upscaled/one-2x.*\.mp4", printed)
        assert re.search(r"three\.mp4: three\.mp4 does not exist", printed)
    assert 2 == len(sandbox.books.billed)


class Message:
    """A chat message that remembers its edits."""

    def __init__(self) -> None:
        self.id = 17
        self.edits: list[str] = []

    async def edit(self, text: str) -> None:
        self.edits.append(text)


async def test_the_bot_runs_as_it_stands(
    topaz: TopazClient, clip: Path, recwarn: pytest.WarningsRecorder
) -> None:
    """The bot edits its message to the end and shows the link."""
    uploaded = await topaz.upload(clip)
    names: dict[str, Any] = {}
    exec(example("bot"), names)
    message = Message()
    await SimpleNamespace(**names).on_clip(topaz, message, uploaded.url)
    assert "success …" == message.edits[-2]
    assert message.edits[-1].startswith("http://127.0.0.1")


def test_the_two_commands_are_one_line_each() -> None:
    """Set-up, demo and tests need nothing but what the lines themselves install."""
    for marker, last in (("demo", "topaz-async demo"), ("tests", "pytest -q -n 4")):
        found = re.search(rf"<!-- {marker} -->\n```console\n(.*)\n```", README)
        assert found is not None
        assert found[1].startswith("python3 -m venv ")
        assert found[1].endswith(last)


@pytest.mark.parametrize("link", re.findall(r"\]\(((?!http)[^)#]+)\)", README))
def test_links_lead_somewhere(link: str) -> None:
    """Every file that the README names is there."""
    assert (ROOT / link).exists()
