"""The one public door."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import topaz_async


def run(code: str) -> str:
    """Return what a fresh interpreter prints."""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    return done.stdout.strip()


def test_every_public_name_loads() -> None:
    """`__all__` is sorted, and each name is there."""
    assert sorted(topaz_async.__all__) == topaz_async.__all__
    assert all(getattr(topaz_async, name) is not None for name in topaz_async.__all__)


def test_type_checkers_see_the_same_names() -> None:
    """The imports that only type checkers read name exactly the public names."""
    tree = ast.parse(Path(topaz_async.__file__).read_text())
    block = next(node for node in tree.body if isinstance(node, ast.If))
    names = [a.name for node in block.body if isinstance(node, ast.ImportFrom) for a in node.names]
    assert sorted(topaz_async.__all__) == sorted(names)


def test_a_name_that_is_not_public_is_an_attribute_error() -> None:
    """The door does not open to anything else."""
    assert (
        run(
            "import topaz_async\n"
            "try: topaz_async.wire_secret\n"
            "except AttributeError as e: print(type(e).__name__)"
        )
        == "AttributeError"
    )


def test_importing_the_client_loads_no_http_library() -> None:
    """aiohttp and cattrs load with the first client, aiohttp.web, CLI and sandbox never."""
    heavy = ["aiohttp", "cattrs", "backoff", "topaz_async.cli", "topaz_async.sandbox"]
    script = (
        "import sys\nfrom topaz_async import TopazClient\n"
        f"print([m for m in {heavy} if m in sys.modules])\n"
        "TopazClient('key')\n"
        f"print([m for m in {[*heavy, 'aiohttp.web', 'av']} if m in sys.modules])\n"
    )
    assert run(script) == "[]\n['aiohttp', 'cattrs', 'backoff']"


def test_nothing_loads_inside_a_running_wait() -> None:
    """A client that has been constructed has loaded all that submit and wait need."""
    script = """
import asyncio, sys
from topaz_async import *
client = TopazClient("key", base_url="http://127.0.0.1:9", upload_url="http://127.0.0.1:9",
                     polling=PollPolicy(first=0.01, longest=0.01, outage=0.05))
async def main():
    async with client:
        for call in (client.submit("https://a.b/c.mp4"), client.wait_for_result("x" * 32)):
            try: await call
            except ConnectError: pass
async def warm():
    await asyncio.to_thread(int)
    try: await asyncio.open_connection("127.0.0.1", 9)
    except OSError: pass
asyncio.run(warm())
before = set(sys.modules)
asyncio.run(main())
print(sorted(m for m in set(sys.modules) - before if m.split(".")[0] in
             ("topaz_async", "aiohttp", "cattrs", "attrs", "backoff", "yarl")))
"""
    assert run(script) == "[]"
