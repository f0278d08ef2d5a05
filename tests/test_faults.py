"""The campaign of faults finds nothing, says so in one line, and is able to find something."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from .faults import Report

ROOT = Path(__file__).parents[1]

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX signals and forks")


def test_a_small_campaign_ends_with_a_line_of_zeros() -> None:
    """The command that anyone can run prints what it did, and exits with 0."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.faults", "--faults", "60", "--seed", "5"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    last = done.stdout.splitlines()[-1]
    found = re.fullmatch(
        r"injected faults: (\d+), double submits: 0, lost task ids: 0, seed 5, \d+ s", last
    )
    assert found is not None, last
    assert int(found[1]) >= 60


def test_a_report_counts_each_kind_of_problem() -> None:
    """What was paid twice or lost stands in the closing line, and each finding above it."""
    report = Report(seed=3, problems=["double submit: a", "lost task id: b", "double submit: c"])
    report.injected["refused"] = 7
    assert str(report).splitlines()[-1] == (
        "injected faults: 7, double submits: 2, lost task ids: 1, seed 3, 0 s"
    )
    assert "PROBLEM lost task id: b" in str(report)
