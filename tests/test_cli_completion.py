"""The scripts by which shells complete what is typed."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from tests.test_cli import typed

SHELLS = ["bash", "zsh", "fish"]

#: Completes the words of its arguments in bash, and prints the candidates.
_TAB = """
COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMP_LINE="$*"; COMP_POINT=${#COMP_LINE}
source /dev/stdin
_topaz_async; printf '%s\\n' "${COMPREPLY[@]}"
"""


def script(shell: str, capsys: pytest.CaptureFixture[str]) -> str:
    """Return what `completion` prints for a shell."""
    ran = typed(capsys, "completion", shell)
    assert (0, "") == (ran.code, ran.err)
    return ran.out


@pytest.mark.parametrize("shell", SHELLS)
def test_shells_can_read_their_script(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    """What is printed for a shell is a program of that shell, and nothing else is printed."""
    text = script(shell, capsys)
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    ran = subprocess.run([shell, "-n"], input=text, capture_output=True, text=True, timeout=20)
    assert (0, "", "") == (ran.returncode, ran.stdout, ran.stderr)


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed")
@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["ups"], "upscale"),
        (["con"], "config"),
        (["upscale", "--over"], "--overwrite"),
        (["config", "--js"], "--json"),
        (["completion", "f"], "fish"),
    ],
)
def test_bash_completes(
    words: list[str], expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A beginning is completed to the command, option or choice that it can only mean."""
    ran = subprocess.run(
        ["bash", "--norc", "-c", _TAB, "bash", "topaz-async", *words],
        input=script("bash", capsys), capture_output=True, text=True, timeout=20,
    )  # fmt: skip
    assert (0, expected, "") == (ran.returncode, ran.stdout.strip(), ran.stderr)


def test_other_shells_are_refused_by_name(capsys: pytest.CaptureFixture[str]) -> None:
    """A shell without a script is exit code 2, and the known ones are named."""
    ran = typed(capsys, "completion", "tcsh")
    assert (2, "") == (ran.code, ran.out)
    assert [shell for shell in SHELLS if shell not in ran.err] == []
