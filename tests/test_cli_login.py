"""A key on its way into the system's keyring, and out of it again."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path

from tests.terminals import terminal
from tests.test_cli import PATIENCE, Ran, surroundings, topaz
from topaz_async.cli.login import masked
from topaz_async.sandbox import CopyEngine, Fault, Sandbox

ROOT = str(Path(__file__).parent.parent)


def keyring(folder: Path, **more: str) -> dict[str, str]:
    """Return the environment that gives a program a keyring in a folder."""
    return {
        "PYTHONPATH": ROOT,
        "PYTHON_KEYRING_BACKEND": "tests.filekeyring.FileKeyring",
        "FILE_KEYRING": str(folder / "keyring.json"),
        **more,
    }


def entries(folder: Path) -> dict[str, str]:
    """Return what the keyring in a folder holds."""
    place = folder / "keyring.json"
    return json.loads(place.read_text()) if place.exists() else {}


async def piped(key: str, *arguments: str, **env: str) -> Ran:
    """Run the program with a key on its standard input."""
    program = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "topaz_async", *arguments),
        env=surroundings(**env),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(PATIENCE):
        out, err = await program.communicate(key.encode())
    assert program.returncode is not None
    return Ran(program.returncode, out.decode(), err.decode())


async def test_login_upscale_logout(tmp_path: Path, tiny_clip: Path) -> None:
    """A stored key is used by every command, for its own service only, until it is removed."""
    async with Sandbox(engine=CopyEngine(), credits=112.5) as sandbox, Sandbox() as other:
        mine = keyring(tmp_path, TOPAZ_ASYNC_BASE_URL=sandbox.base_url)
        stored = await piped(f"  {sandbox.api_key}\n", "login", **mine)
        entry = f"topaz-async {sandbox.base_url}"
        assert {entry: sandbox.api_key} == entries(tmp_path)
        shown = masked(sandbox.api_key)
        assert stored == Ran(
            0, f"The key {shown} is in the file keyring; its account has 112.5 credits.\n", ""
        )
        ran = await topaz(
            *("upscale", tiny_clip), cwd=tmp_path, **mine, TOPAZ_ASYNC_UPLOAD_URL=sandbox.upload_url
        )
        assert (0, "", 1) == (ran.code, ran.err, len(sandbox.books.billed))
        elsewhere = await topaz("config", "--json", "--base-url", other.base_url, **mine)
        assert '"value": null, "source": "default"' in elsewhere.lines[0]
        gone, again = [await topaz("logout", **mine) for _ in range(2)]
    assert {} == entries(tmp_path)
    assert f"The key of {sandbox.base_url} is no longer in the file keyring.\n" == gone.out
    assert Ran(0, f"The file keyring holds no key of {sandbox.base_url}.\n", "") == again


async def test_a_typed_key_is_not_shown(tmp_path: Path) -> None:
    """On a terminal the key is asked for and leaves no trace on the screen."""
    async with (
        Sandbox(engine=CopyEngine()) as sandbox,
        terminal(
            *("login", "--base-url", sandbox.base_url), cwd=tmp_path, env=keyring(tmp_path)
        ) as shown,
    ):
        await shown.until(lambda lines: any("(it is not shown):" in line for line in lines))
        shown.press(sandbox.api_key.encode() + b"\r")
        assert 0 == await shown.end()
        assert sandbox.api_key.encode() not in shown.raw
        assert sandbox.api_key in entries(tmp_path).values()


async def test_ctrl_c_at_the_question_stores_nothing(tmp_path: Path) -> None:
    """Leaving the question is exit code 130 without a trace."""
    async with terminal("login", cwd=tmp_path, env=keyring(tmp_path)) as shown:
        await shown.until(lambda lines: any("(it is not shown):" in line for line in lines))
        shown.press(b"\x03")
        assert 130 == await shown.end()
        assert "Interrupted; nothing was stored." == shown.lines[-1]
        assert {} == entries(tmp_path)


async def test_a_key_that_is_not_taken_is_not_stored(tmp_path: Path) -> None:
    """Refused, not reached, empty or odd: nothing is stored, and the key is not repeated."""
    async with Sandbox(engine=CopyEngine()) as sandbox:
        mine = keyring(tmp_path, TOPAZ_ASYNC_BASE_URL=sandbox.base_url)
        nobody = {**mine, "TOPAZ_ASYNC_BASE_URL": "http://127.0.0.1:1"}
        refused, lost, empty, odd = await asyncio.gather(
            piped("wrong-key-of-mine\n", "login", **mine),
            piped("wrong-key-of-mine\n", "login", **nobody),
            piped("\n", "login", **mine),
            piped("wrong-key of mine\n", "login", **mine),
        )
    assert [4, 1, 2, 2] == [ran.code for ran in (refused, lost, empty, odd)]
    assert "Error: No key was typed; nothing was stored.\n" == empty.err
    assert refused.err.endswith(
        "Nothing was billed. The key was not stored: type it again, or make "
        "a new one in your account.\n"
    )
    assert "KIE_API_KEY" not in refused.err
    assert lost.err.endswith("\nThe key was not stored.\n")
    assert odd.err.endswith("\nThe key was not stored.\n")
    assert "wrong-key" not in "".join(ran.out + ran.err for ran in (refused, lost, empty, odd))
    assert {} == entries(tmp_path)


async def test_keyrings_that_cannot_be_used(tmp_path: Path, tiny_clip: Path) -> None:
    """None, a locked one, a broken one, the null one: a sentence each, and what to do instead."""
    none, locked, broken, null, upscale = await asyncio.gather(
        piped("k", "login", PYTHON_KEYRING_BACKEND="keyring.backends.fail.Keyring"),
        piped("k", "logout", **keyring(tmp_path, FILE_KEYRING_MOOD="locked")),
        piped("k", "logout", **keyring(tmp_path, FILE_KEYRING_MOOD="broken")),
        piped("k", "login", PYTHON_KEYRING_BACKEND="keyring.backends.null.Keyring"),
        topaz("upscale", tiny_clip, **keyring(tmp_path, FILE_KEYRING_MOOD="locked")),
    )
    said = [ran.err.partition(". ")[0] for ran in (none, locked, broken, null, upscale)]
    assert [
        "Error: This machine has no keyring that can be used",
        "Error: The keyring is locked",
        "Error: The keyring cannot be used: RuntimeError",
        "Error: This machine has no keyring that can be used",
        "Error: The keyring is locked",
    ] == said
    for ran in (none, locked, broken, null, upscale):
        assert (2, "") == (ran.code, ran.out)
        assert "KIE_API_KEY" in ran.err
        assert 1 == len(ran.err.splitlines())


async def test_login_tells_of_a_key_that_goes_before(tmp_path: Path) -> None:
    """A variable that hides the stored key is told of at once."""
    async with Sandbox(engine=CopyEngine()) as sandbox:
        mine = keyring(tmp_path, TOPAZ_ASYNC_BASE_URL=sandbox.base_url, KIE_API_KEY="other")
        ran = await piped(sandbox.api_key, "login", **mine)
    assert (0, "") == (ran.code, ran.err)
    assert "It is not used as long as KIE_API_KEY holds another one." == ran.lines[-1]


async def test_ctrl_c_during_the_check_ends_at_once(tmp_path: Path) -> None:
    """A service that does not answer keeps nobody at the terminal."""
    fault = Fault("*", "hang", times=None)
    async with (
        Sandbox(engine=CopyEngine(), faults=[fault]) as sandbox,
        terminal(
            *("login", "--base-url", sandbox.base_url), cwd=tmp_path, env=keyring(tmp_path)
        ) as shown,
    ):
        await shown.until(lambda lines: any("(it is not shown):" in line for line in lines))
        shown.press(b"some-key\r")
        async with asyncio.timeout(PATIENCE):
            while not sandbox.books.requests:
                await asyncio.sleep(0.01)
        shown.press(b"\x03")
        assert 130 == await shown.end()
        assert "Traceback" not in shown.raw.decode()
        assert {} == entries(tmp_path)


def test_short_keys_are_hidden_whole() -> None:
    """The last four letters of a real key tell it from another one; a short one would be told."""
    assert ["…cdef", "(hidden)"] == [masked("0123456789abcdef"), masked("abcdefgh")]


def test_the_tests_keyring_is_no_real_one() -> None:
    """No test reads or writes the keyring of whoever runs it."""
    assert "keyring.backends.fail.Keyring" == os.environ["PYTHON_KEYRING_BACKEND"]
