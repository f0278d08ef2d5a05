"""What is loaded before anything is done: the less, the sooner the command line answers."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.benchmarks import bench_startup

from .test_cli import surroundings

#: Prints the foreign packages that are loaded, then our own modules.
_LOADED = """
import sys
print(sorted({name.partition('.')[0] for name in set(sys.modules) - before}
             - sys.stdlib_module_names - {'topaz_async', '__main__'}))
print(sorted(name for name in sys.modules if name.startswith('topaz_async')))
"""


def loaded(code: str) -> list[str]:
    """Run a snippet; return the lines that it prints, then foreign packages and ours."""
    program = f"import sys; before = set(sys.modules)\n{code}\n{_LOADED}"
    ran = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True, text=True, env=surroundings(), timeout=30, check=True,
    )  # fmt: skip
    assert "" == ran.stderr
    return ran.stdout.splitlines()


def test_version_loads_the_standard_library_only() -> None:
    """`--version` is answered by two of our modules and nobody else's."""
    _, foreign, ours = loaded("from topaz_async.cli import main; main(['--version'])")
    assert ["[]", "['topaz_async', 'topaz_async.cli']"] == [foreign, ours]


def test_the_package_loads_nothing() -> None:
    """`import topaz_async` is the door alone, and a name loads no more than it needs."""
    assert ["[]", "['topaz_async']"] == loaded("import topaz_async")
    foreign, _ = loaded("from topaz_async import TopazClient, TopazError")
    assert "[]" == foreign


@pytest.mark.parametrize(
    ("command", "unneeded"),
    [
        ("--help", {"aiohttp", "cattrs", "backoff", "av", "keyring", "dotenv"}),
        ("compare --help", {"aiohttp", "cattrs", "backoff", "av", "keyring", "dotenv"}),
        ("completion bash", {"aiohttp", "cattrs", "backoff", "av", "keyring", "dotenv"}),
    ],
)
def test_a_page_of_help_loads_no_story(command: str, unneeded: set[str]) -> None:
    """Help and completion need neither a client nor what a single command needs."""
    lines = loaded(f"from topaz_async.cli import main; main({command.split()!r})")
    assert set() == unneeded & set(eval(lines[-2]))


def test_the_benchmark_runs(capsys: pytest.CaptureFixture[str]) -> None:
    """The script prints a line for each contestant and each that it is held against."""
    bench_startup.main(runs=1)
    lines = capsys.readouterr().out.splitlines()
    beside = {line[1] for line in bench_startup.LINES}
    assert 1 + len(bench_startup.LINES) + len(beside) == len(lines)


def test_the_pages_parts_are_part_of_the_package() -> None:
    """What compare fills in lies beside it, so that it is installed with it."""
    from topaz_async.cli import compare

    names = {path.name for path in Path(compare.__file__).parent.glob("compare.*")}
    assert {"compare.py", "compare.html", "compare.css", "compare.js"} == names
