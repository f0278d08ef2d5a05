"""What the documentation shows works as it stands.

A code block of a page runs when a marker stands on the line before it:

    <!-- run: program -->    a whole program, in a process of its own
    <!-- run: fragment -->   lines inside `async with TopazClient(journal="topaz.sqlite") as topaz:`
    <!-- run: pytest -->     tests, run by pytest together with all others of the page

A program's client talks to the sandbox without a word about it; a fragment may use `topaz`, `url`
(a clip on the web) and every public name.  Both find `clip.mp4`, `one.mp4`, `two.mp4`,
`still.png` and the folder `clips` beside them.  After a comma a marker may name a fault of the
sandbox: `<!-- run: fragment, createTask lost_reply_close -->`.

A text block behind `<!-- prints -->` is what the block above it prints; `…` stands for anything.
"""

from __future__ import annotations

import ast
import asyncio
import contextlib
import inspect
import io
import re
import shutil
import socket
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
import pytest

import topaz_async
from topaz_async.sandbox import Fault, Sandbox

from .clips import image
from .conftest import WEBHOOK_KEY, client_of
from .receivers import body_of, post, signed

DOCS = Path(__file__).parent.parent / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
TESTING = DOCS / "how-to" / "testing.md"
EXAMPLES = sorted((DOCS / "examples").glob("*.py"))

_BLOCK = re.compile(
    r"(?:^<!-- run: (?P<kind>\w+)(?:, (?P<route>\S+) (?P<action>\S+))? -->\n)?"
    r"^(?P<indent> *)```python\n(?P<code>.*?)^(?P=indent)```$"
    r"(?:\n+<!-- prints -->\n```text\n(?P<prints>.*?)^```$)?",
    re.DOTALL | re.MULTILINE,
)

#: Of a program; pytest loads the plugins it is told to, for the others take a second.
_ENVIRONMENT = {
    "PATH": "",
    "PYTHONUTF8": "1",
    "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
    "KIE_WEBHOOK_KEY": WEBHOOK_KEY,
}

_AWAIT = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT

#: Points the clients of a program at the sandbox, and lets them look more often.
_RUNNER = """
import runpy, sys, topaz_async, topaz_async.client as client
_, client.BASE_URL, client.UPLOAD_URL, *sys.argv = sys.argv
defaults = client.TopazClient.__init__.__kwdefaults__
defaults["base_url"] = client.BASE_URL
defaults["polling"] = topaz_async.PollPolicy(first=0.05, longest=0.2)
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def _name(page: Path) -> str:
    return str(page.relative_to(DOCS))


class Block(NamedTuple):
    """A code block of a page."""

    page: Path
    line: int
    kind: str | None
    fault: tuple[str, str] | None
    code: str
    prints: str | None

    def __str__(self) -> str:
        return f"{_name(self.page)}:{self.line}"


def _blocks() -> list[Block]:
    found = []
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for match in _BLOCK.finditer(text):
            line = text.count("\n", 0, match.start("code")) + 1
            fault = (match["route"], match["action"]) if match["route"] else None
            code = textwrap.dedent(match["code"])
            found.append(Block(page, line, match["kind"], fault, code, match["prints"]))
    return found


BLOCKS = _blocks()


def of_kind(kind: str) -> Any:
    """Parametrize a test with the blocks of one kind."""
    blocks = [block for block in BLOCKS if block.kind == kind]
    return pytest.mark.parametrize("block", blocks, ids=str)


def _assert_printed(block: Block, output: str) -> None:
    if block.prints is not None:
        pattern = ".*".join(re.escape(part) for part in block.prints.split("…"))
        assert re.fullmatch(pattern, output, re.DOTALL), output


@pytest.fixture
def folder(tmp_path: Path, tiny_clip: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with a few clips in it."""
    (tmp_path / "clips").mkdir()
    for name in ("clip.mp4", "one.mp4", "two.mp4", "clips/red.mp4", "clips/blue.mp4"):
        content = tiny_clip.read_bytes() + name.encode()  # no two are the same work
        (tmp_path / name).write_bytes(content)
    (tmp_path / "still.png").write_bytes(image())
    monkeypatch.chdir(tmp_path)
    return tmp_path


async def run(
    *command: str, folder: Path, key: str = "", typed: str = "", **environment: str
) -> str:
    """Run a program in a folder, without the settings of this machine; return what it prints."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-W", "error", *command,
        cwd=folder, env={"KIE_API_KEY": key, **_ENVIRONMENT, **environment},
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    output, _ = await asyncio.wait_for(process.communicate(typed.encode()), 50)
    text = output.decode()
    assert 0 == process.returncode, text
    return text


async def run_program(
    path: Path, *arguments: str, sandbox: Sandbox, folder: Path, typed: str = ""
) -> str:
    """Run a program whose clients talk to the sandbox; return what it prints."""
    origins = sandbox.base_url, sandbox.upload_url
    return await run(
        "-c", _RUNNER, *origins, str(path), *arguments,
        folder=folder, key=sandbox.api_key, typed=typed,
    )  # fmt: skip


def _add_fault(block: Block, sandbox: Sandbox) -> None:
    if block.fault is not None:
        sandbox.add_fault(Fault(*block.fault))


@of_kind("program")
async def test_programs_run_as_they_stand(block: Block, sandbox: Sandbox, folder: Path) -> None:
    """A program of a page ends well and prints what the page says."""
    _add_fault(block, sandbox)
    program = folder / "program.py"
    program.write_text(block.code, encoding="utf-8")
    _assert_printed(block, await run_program(program, sandbox=sandbox, folder=folder))


@of_kind("fragment")
async def test_fragments_run_as_they_stand(block: Block, sandbox: Sandbox, folder: Path) -> None:
    """Lines of a page do what the page says, inside an open client with a journal."""
    if "fastapi" in block.code:
        pytest.importorskip("fastapi")
    async with client_of(sandbox, journal="topaz.sqlite") as topaz:
        names: dict[str, Any] = {"asyncio": asyncio, "topaz": topaz}
        names["url"] = (await topaz.upload("clip.mp4")).url
        exec("from topaz_async import *", names)
        _add_fault(block, sandbox)
        lines = compile(block.code, str(block), "exec", _AWAIT, dont_inherit=True)
        with contextlib.redirect_stdout(io.StringIO()) as output:
            running = eval(lines, names)
            if inspect.isawaitable(running):
                await running
    _assert_printed(block, output.getvalue())


@pytest.mark.parametrize("page", {b.page: 0 for b in BLOCKS if b.kind == "pytest"}, ids=_name)
async def test_test_modules_pass_as_they_stand(page: Path, folder: Path) -> None:
    """The tests of a page pass, with the settings that the page about testing shows."""
    settings = re.search(r"```toml\n(.*?)```", TESTING.read_text(encoding="utf-8"), re.DOTALL)
    assert settings is not None
    module = "\n".join(b.code for b in BLOCKS if (b.page, b.kind) == (page, "pytest"))
    (folder / "pyproject.toml").write_text(settings[1], encoding="utf-8")
    (folder / "test_it.py").write_text(module, encoding="utf-8")
    options = "-q", "-p", "pytest_asyncio.plugin", "-p", "no:cacheprovider"
    assert " passed" in await run("-m", "pytest", *options, "test_it.py", folder=folder)


@pytest.mark.parametrize("block", BLOCKS, ids=str)
def test_every_block_is_python(block: Block) -> None:
    """A block that does not run can at least be read, and no marker is misspelt."""
    compile(block.code, str(block), "exec", _AWAIT, dont_inherit=True)
    assert block.kind in (None, "program", "fragment", "pytest")


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_relative_links_lead_somewhere(page: Path) -> None:
    """Every file that a page links to is there."""
    text = re.sub(r"^ *```.*?^ *```$", "", page.read_text(encoding="utf-8"), flags=re.S | re.M)
    links = re.findall(r"\]\((?!https?:|#)([^)#\s]+)[^)]*\)", text)
    assert [] == [link for link in links if not (page.parent / link).exists()]


def test_every_public_name_is_in_the_reference() -> None:
    """The reference describes all of `__all__`, each name once."""
    text = (DOCS / "reference.md").read_text(encoding="utf-8")
    described = re.findall(r"^\.\. (?:auto|py:)\w+:: topaz_async\.(\w+)\b(?!\.)", text, re.M)
    assert sorted(topaz_async.__all__) == sorted(described)


def test_what_is_returned_reads_as_it_was_written() -> None:
    """No sentence of a Returns section begins with what the reference takes for a type."""
    garbled = []
    for name in topaz_async.__all__:
        public = getattr(topaz_async, name)
        for what in (public, *vars(public).values()) if inspect.isclass(public) else ():
            found = re.search(r"^ *Returns:\n(.*)", getattr(what, "__doc__", None) or "", re.M)
            if found is not None and ":" in found[1]:
                garbled.append((name, found[1].strip()))
    assert [] == garbled


@pytest.fixture
def example(sandbox: Sandbox, folder: Path) -> Callable[..., Awaitable[str]]:
    """A function that runs an example with arguments and returns what it prints."""

    async def run_example(name: str, *arguments: str, typed: str = "") -> str:
        path = DOCS / "examples" / f"{name}.py"
        return await run_program(path, *arguments, sandbox=sandbox, folder=folder, typed=typed)

    return run_example


async def test_example_upscale_one(example: Any, sandbox: Sandbox, folder: Path) -> None:
    """One clip is upscaled beside itself, and its states and bytes are shown."""
    printed = await example("upscale_one", "clip.mp4", "4")
    task_id = next(iter(sandbox.books.billed))
    assert f"task {task_id}: success\n" in printed
    assert printed.endswith("clip-4x.mp4, 14.0 credits\n")
    assert (folder / "clip-4x.mp4").exists()


async def test_example_batch(example: Any, sandbox: Sandbox, folder: Path) -> None:
    """Run twice, the batch pays once; a clip that fails stops no other."""
    assert "\n2 ok; 16 credits; " in await example("batch", "clips", "out")
    (folder / "clips" / "broken.mp4").write_text("no clip")
    with pytest.raises(AssertionError, match="2 ok, 1 refused; 16 credits"):
        await example("batch", "clips", "out")
    names = {path.name for path in (folder / "out").glob("*.mp4")}
    assert ({"red-2x.mp4", "blue-2x.mp4"}, 2) == (names, len(sandbox.books.billed))


async def test_example_bot(example: Any, sandbox: Sandbox, folder: Path) -> None:
    """Each message ends with a link or with words, and a restart goes on with what is left."""
    printed = await example("bot", typed="clip.mp4\nmissing.mp4\n")
    assert re.search(r"\[m\d+\] success …\n\[m\d+\] done: http", printed)
    assert "Sorry. missing.mp4 does not exist." in printed
    async with client_of(sandbox, journal=folder / "bot.sqlite") as topaz:
        await topaz.submit("clip.mp4", factor=1, reference="left over")
    assert "[left over] done: http" in await example("bot")
    assert 2 == len(sandbox.books.billed)


async def test_example_budget(example: Any, sandbox: Sandbox) -> None:
    """The second clip is refused before it is sent, and the first one's cost is told."""
    printed = await example("budget", "20", "one.mp4", "two.mp4")
    assert "one.mp4: upscaled/one-4x.mp4\ntwo.mp4: The budget refuses" in printed
    assert printed.endswith("14 credits were spent.\n")
    assert 1 == len(sandbox.books.billed)


@contextlib.asynccontextmanager
async def serving(*command: str, folder: Path, **environment: str) -> AsyncIterator[str]:
    """Run a program that serves at `PORT` until the block ends; gives its origin."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    origin = f"http://127.0.0.1:{port}"
    process = await asyncio.create_subprocess_exec(
        sys.executable, *(word.replace("PORT", str(port)) for word in command),
        cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        env={**_ENVIRONMENT, "PORT": str(port), "CALLBACK_URL": f"{origin}/kie/callback",
             **environment},
    )  # fmt: skip
    try:
        async with asyncio.timeout(20):
            while process.returncode is None:
                with contextlib.suppress(OSError):
                    _, writer = await asyncio.open_connection("127.0.0.1", port)
                    writer.close()
                    break
                await asyncio.sleep(0.05)
        yield origin
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        output, _ = await asyncio.wait_for(process.communicate(), 20)
    assert b"Traceback" not in output, output.decode()


@pytest.mark.parametrize("name", ["callbacks_aiohttp", "callbacks_fastapi"])
async def test_example_callbacks(name: str, sandbox: Sandbox, folder: Path) -> None:
    """A web service upscales, and its callback is taken; the same order is not paid twice."""
    if name == "callbacks_fastapi":
        pytest.importorskip("fastapi")
        pytest.importorskip("uvicorn")
    async with client_of(sandbox) as topaz:
        video = (await topaz.upload("clip.mp4")).url
    path = str(DOCS / "examples" / f"{name}.py")
    program = ("-c", _RUNNER, sandbox.base_url, sandbox.upload_url, path)
    async with (
        serving(*program, folder=folder, KIE_API_KEY=sandbox.api_key) as origin,
        aiohttp.ClientSession() as session,
    ):
        for wish, status in ((video, 200), (video, 200), ("ftp://x/y.mp4", 502)):
            order = {"order": "17" if wish == video else "18", "video_url": wish}
            async with session.post(f"{origin}/upscale", json=order) as answer:
                assert status == answer.status
                told = await answer.json()
        assert "no" == told.get("detail", told)["billed"]
        await sandbox.books.until(lambda books: bool(books.callbacks))
        async with session.post(f"{origin}/kie/callback", json={"taskId": "x"}) as answer:
            assert 401 == answer.status
    assert ([200], 1) == (
        [sent.status for sent in sandbox.books.callbacks], len(sandbox.books.billed),
    )  # fmt: skip


async def test_example_callbacks_worker(sandbox: Sandbox, folder: Path) -> None:
    """A worker hears of callbacks that `topaz-async listen` received."""
    async with client_of(sandbox) as topaz:
        videos = [(await topaz.upload(name)).url for name in ("one.mp4", "two.mp4")]
    listen = ("-m", "topaz_async", "listen", "--path", "/kie/callback")
    options = ("--port", "PORT", "--journal", "topaz.sqlite")
    async with serving(*listen, *options, folder=folder) as origin:
        printed = await run(
            "-c", _RUNNER, sandbox.base_url, sandbox.upload_url,
            str(DOCS / "examples" / "callbacks_worker.py"), *videos,
            folder=folder, key=sandbox.api_key, CALLBACK_URL=f"{origin}/kie/callback",
        )  # fmt: skip
        await sandbox.books.until(lambda books: len(books.callbacks) == 2)
    assert 2 == printed.count(".mp4: http")
    assert [200, 200] == [sent.status for sent in sandbox.books.callbacks]
    assert 2 == len((folder / "topaz.sqlite-rings").read_text().split()) / 2


@pytest.mark.skipif(shutil.which("nginx") is None, reason="nginx is not installed")
async def test_the_proxys_configuration_passes_callbacks_on(tmp_path: Path) -> None:
    """The page's nginx block brings signature, path and nonce through, and no other path."""
    page = (DOCS / "how-to" / "callbacks-proxy.md").read_text(encoding="utf-8")
    block = re.search(r"```nginx\n(.*?)```", page, re.DOTALL)
    assert block is not None
    heard: list[str | None] = []

    class Ear:
        def hear(self, task_id: str, nonce: str | None, *, is_signed: bool) -> bool:
            heard.append(nonce)
            return False

    hub, ear = topaz_async.CallbackHub(WEBHOOK_KEY), Ear()
    hub.attach(ear)
    with socket.create_server(("127.0.0.1", 0)) as free:
        front = free.getsockname()[1]
    async with hub.serve(port=0, path="/kie/callback") as url:
        inside = block[1].replace("8080", url.split(":")[2].split("/")[0])
        paths = "".join(
            f"{name}_temp_path {tmp_path}/{name};"
            for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        (tmp_path / "nginx.conf").write_text(
            f"daemon off; pid {tmp_path}/pid; error_log stderr; events {{}}\n"
            f"http {{ access_log off; {paths} server {{ listen 127.0.0.1:{front};\n{inside} }} }}"
        )
        proxy = await asyncio.create_subprocess_exec(
            str(shutil.which("nginx")), "-e", "stderr", "-p", tmp_path, "-c", "nginx.conf",
            stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            async with asyncio.timeout(10):
                while True:
                    with contextlib.suppress(OSError):
                        await post(f"http://127.0.0.1:{front}/")
                        break
                    await asyncio.sleep(0.02)
            address = f"http://127.0.0.1:{front}/kie/callback"
            statuses = [
                (await post(f"{address}?a=1&topaz_nonce=n-1", body_of(), signed()))[0],
                (await post(address, body_of(), signed(key="guess")))[0],
                (await post(f"{address}/x", body_of(), signed()))[0],
                (await post(address, b" " * 1_100_000, signed()))[0],
            ]
        finally:
            proxy.terminate()
            await proxy.wait()
    assert ([200, 401, 413], ["n-1"]) == (statuses[:2] + statuses[3:], heard)
    assert 400 <= statuses[2] < 500


def test_every_example_has_a_test() -> None:
    """Nothing lies among the examples that nobody runs."""
    tested = {name.removeprefix("test_example_") for name in globals()}
    tested |= {"callbacks_aiohttp", "callbacks_fastapi"}  # of one test
    assert [] == [path.name for path in EXAMPLES if path.stem not in tested]
